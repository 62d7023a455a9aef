//! From IP to the receive queues of raw sockets.

use std::sync::Arc;

use rxpath_mem::Skb;
use rxpath_trace::{DatagramFound, DropReason, EventKind, MadeHow};
use rxpath_wire::{IpProto, Ipv4Header};

use super::sock::RawSock;
use crate::cx::Cx;
use crate::icmp::IcmpError;
use crate::route;
use crate::socket::datagram::Limits;
use crate::socket::{ErrorMeans, QueuedError, Quoted, Refused};

/// A receive buffer may be exceeded by its last packet, and no memory of all is counted.
const LIMITS: Limits = Limits { pages: u64::MAX, least: 4_096, beyond_brim: true };

/// `raw_local_deliver`: copies of a packet, whose data starts at the IP header, for all raw sockets of its protocol. True if
/// one of them wanted it: a protocol without a handler is known then.
#[cold]
pub fn local_deliver(cx: &mut Cx, skb: &Skb) -> bool {
    let Some(ip) = Ipv4Header::parse(skb.data()).map(|(ip, _)| *ip) else { return false };
    let icmp_type = skb.data().get(ip.header_len()).copied().filter(|_| ip.protocol() == IpProto::ICMP);
    let socks = cx.net.raw.clone();
    let mut wanted = false;
    for sock in socks.all() {
        if !sock.matches(ip.protocol(), ip.dst_addr(), ip.src_addr(), skb.ifindex) || sock.rx.is_full() {
            continue;
        }
        wanted = true;
        if !icmp_type.is_some_and(|kind| sock.filters(kind)) {
            rcv(cx, skb, sock);
        }
    }
    wanted
}

/// `raw_rcv`: a copy goes to the socket's queue.
fn rcv(cx: &mut Cx, skb: &Skb, sock: &Arc<RawSock>) {
    let Some(mut copy) = cx.clone_shared(skb) else { return sock.rx.count_drop() };
    cx.ledger.made(1);
    copy.id = cx.ids.mint();
    let len = copy.len() as u32;
    cx.event_with(&copy, EventKind::Made, MadeHow::Copied as u32, len, skb.id);
    cx.event(&copy, EventKind::DatagramLookup, DatagramFound::Raw as u32, 0);
    if let Err((copy, refused)) = sock.rx.push(cx, copy, len, LIMITS) {
        let reason = match refused {
            Refused::Rcvbuf => DropReason::SocketRcvbuff,
            Refused::Memory => DropReason::ProtoMem,
            Refused::Closed => DropReason::SocketClose,
        };
        cx.drop_skb(copy, reason);
    }
}

/// `raw_icmp_error`: an error about a packet of ours, to all raw sockets that may have sent it. Who is connected is told, and
/// who wants to be told of all; `skb` is the message.
#[cold]
pub fn err(cx: &mut Cx, error: &IcmpError, skb: &Skb) {
    let socks = cx.net.raw.clone();
    for sock in socks.all() {
        if !sock.matches(error.protocol, error.src, error.dst, error.ifindex) {
            continue;
        }
        if error.needs_fragments() {
            route::update_pmtu(&cx.net, error.dst, error.mtu(), cx.now);
        }
        let Some(means) = ErrorMeans::of(error.kind, error.code) else { continue };
        let options = sock.options();
        if options.recv_errors {
            let quoted = if options.header_included { Quoted::Packet } else { Quoted::Behind(0) };
            sock.rx.push_error(QueuedError::of_icmp(cx, error, means, (error.dst, 0), skb, quoted));
        } else if !means.fatal || sock.name().remote.is_none() {
            continue;
        }
        if let Some(queue) = sock.rx.fail(means.error) {
            cx.wakeups.queue(queue);
        }
    }
}
