//! Sending: what the application left in the send buffer becomes packets, on the socket's Cpu.

use std::sync::Arc;

use rxpath_arch::csum;
use rxpath_mem::{IpSummed, Skb};
use rxpath_trace::{Counter, DropReason, Holder, OutputWhat};
use rxpath_wire::{IpProto, UdpHeader, pseudo_sum, udp};

use super::sock::{Pending, UdpSock};
use crate::cx::Cx;
use crate::socket::post;
use crate::tx::{self, IpFlow};

/// Carries out what was asked for: sends what waits, ends what nobody will read.
pub fn serve(cx: &mut Cx, sock: &Arc<UdpSock>) {
    let posted = sock.take_posted();
    if posted & post::PUSH != 0 {
        push(cx, sock);
    }
    if posted & post::CLOSE != 0 {
        close(cx, sock);
    }
}

/// Ends what a socket holds (`udp_destroy_sock`).
pub fn close(cx: &mut Cx, sock: &Arc<UdpSock>) {
    sock.rx.close();
    sock.discard_unsent();
    let mut left = sock.rx.drain();
    while let Some(skb) = left.pop_front() {
        cx.release(Holder::ReceiveQueue);
        cx.drop_skb(skb, DropReason::QueuePurge);
    }
}

/// `udp_push_pending_frames`.
fn push(cx: &mut Cx, sock: &Arc<UdpSock>) {
    while let Some((pending, made, waiter)) = sock.dequeue(|pending, payload| datagram(cx, pending, payload)) {
        if let Some(queue) = waiter {
            cx.wakeups.queue(queue);
        }
        match made {
            Some(skb) => send(cx, sock, skb, &pending),
            None => {
                cx.count(Counter::IpOutDiscards);
                cx.count(Counter::UdpSndbufErrors);
            }
        }
    }
}

/// `udp_send_skb`: the datagram to IP, and the next hop's address back to the socket.
fn send(cx: &mut Cx, sock: &Arc<UdpSock>, skb: Skb, pending: &Pending) {
    let dst = pending.to.0;
    let net = Arc::clone(&cx.net);
    let mut route = match sock.route_to(dst, &net) {
        Some(kept) if kept.ifindex == pending.route.ifindex && kept.src == pending.route.src => kept,
        _ => pending.route,
    };
    let longest = if skb.gso_size > 0 { UdpHeader::LEN + usize::from(skb.gso_size) } else { skb.len() };
    let fits = longest + rxpath_wire::Ipv4Header::LEN <= usize::from(route.mtu);
    let flow = IpFlow {
        src: route.src,
        dst,
        protocol: IpProto::UDP,
        ttl: pending.ttl,
        tos: pending.tos,
        dont_fragment: pending.dont_fragment || fits,
        // RFC 6864: what is never cut needs none; a connected socket counts all the same.
        ident: if pending.dont_fragment && !sock.is_connected() { 0 } else { sock.next_ident(&mut cx.rng) },
    };
    cx.count(Counter::UdpOutDatagrams);
    let known = route;
    if pending.to_all {
        return tx::ip_mc_output(cx, skb, &flow, &mut route, pending.looped);
    }
    tx::ip_queue_xmit(cx, skb, &flow, &mut route);
    if route != known {
        sock.keep_route(dst, route, &net);
    }
}

/// A packet of UDP header and payload, its checksum filled in; None if the pool is dry.
fn datagram(cx: &mut Cx, pending: &Pending, (first, second): (&[u8], &[u8])) -> Option<Skb> {
    let len = UdpHeader::LEN + first.len() + second.len();
    let mut skb = cx.alloc_output(OutputWhat::Udp, len.min(LINEAR), false)?;
    let repr = udp::UdpRepr { sport: pending.from, dport: pending.to.1, len: len as u16 };
    udp::emit(skb.put(UdpHeader::LEN), repr);
    for piece in [first, second] {
        if !cx.append(&mut skb, piece) {
            cx.drop_skb(skb, DropReason::Nomem);
            return None;
        }
    }
    if pending.segment > 0 {
        // Each datagram gets one of its own.
        (skb.gso_size, skb.ip_summed) = (pending.segment, IpSummed::Partial);
    } else if !pending.no_checksum {
        fill_checksum(&mut skb, pending);
    }
    Some(skb)
}

/// Bytes of a datagram in its first slot; what is longer goes on in further ones.
const LINEAR: usize = 1_900;

/// RFC 768: over the pseudo-header, the header and the payload; 0 is sent as all ones.
fn fill_checksum(skb: &mut Skb, pending: &Pending) {
    let add = |(sum, odd): (u16, bool), piece: &[u8]| {
        (csum::combine(sum, csum::sum(piece), odd), odd ^ (piece.len() % 2 == 1))
    };
    let pseudo = pseudo_sum(pending.route.src, pending.to.0, IpProto::UDP, skb.len());
    let (sum, _) = skb.fragments().fold((pseudo, false), add);
    let checksum = if sum == 0xffff { 0xffff } else { !sum };
    if let Some(field) = skb.data_mut().get_mut(6..8) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}
