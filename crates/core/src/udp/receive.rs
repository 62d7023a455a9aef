//! From IP to the receive queue of a socket.

use std::sync::Arc;

use rxpath_arch::csum;
use rxpath_mem::{IpSummed, PktType, Skb};
use rxpath_trace::event::ports_word;
use rxpath_trace::{Consumed, Counter, DatagramFound, DropReason, EventKind, MadeHow};
use rxpath_wire::{EthernetHeader, IpProto, Ipv4Header, UdpHeader, icmp as wire_icmp};

use super::name::UdpKey;
use super::sock::UdpSock;
use crate::cx::{Cx, End};
use crate::icmp;
use crate::nic::TruesizeModel;
use crate::route::{self, AddrType, InputRoute};
use crate::socket::Refused;
use crate::socket::datagram::Limits;

/// Datagrams up to this many bytes, header included, are verified when they come (`CHECKSUM_BREAK`).
const CHECKSUM_BREAK: usize = 76;
/// IPv4 and UDP header.
const HEADERS: usize = Ipv4Header::LEN + UdpHeader::LEN;
/// Code of "destination unreachable": nobody has the port.
const PORT_UNREACHABLE: u8 = 3;

/// `udp_rcv`: a datagram whose data starts at its UDP header, to the sockets that it is for.
pub fn rcv(cx: &mut Cx, mut skb: Skb) -> End {
    let Some((header, _)) = UdpHeader::parse(skb.data()) else {
        return in_error(cx, skb, DropReason::NotSpecified);
    };
    let header = *header;
    let len = usize::from(header.length());
    if len < UdpHeader::LEN || len > skb.len() {
        count_as_learnt(cx, &skb);
        return in_error(cx, skb, DropReason::PktTooSmall);
    }
    if len < skb.len() {
        skb.trim(len);
        if skb.ip_summed == IpSummed::Complete {
            skb.ip_summed = IpSummed::None;
        }
    }
    let Some((ip, _)) = Ipv4Header::parse(skb.network_header()) else {
        return in_error(cx, skb, DropReason::NotSpecified);
    };
    let key = UdpKey {
        local: ip.dst_addr(),
        remote: ip.src_addr(),
        local_port: header.dst_port(),
        remote_port: header.src_port(),
        ifindex: skb.ifindex,
    };
    let dst = u32::from(ip.dst());
    if header.checksum() == 0 {
        // RFC 768: the sender made none.
        skb.ip_summed = IpSummed::Unnecessary;
    }
    if len <= CHECKSUM_BREAK && !verified(&mut skb) {
        return bad_checksum(cx, skb);
    }
    let payload = (len - UdpHeader::LEN) as u32;
    cx.event(&skb, EventKind::UdpRcv, ports_word(key.remote_port, key.local_port), payload);
    if !cx.net.fib.is_own_v4(dst) && is_to_all(cx, &key) {
        return mcast_deliver(cx, skb, &key);
    }
    let Cx { udp, udp_memo, net, .. } = cx;
    let found = match net.sysctl.udp_early_demux {
        true => udp_memo.lookup(udp, &key, &net.hasher).cloned(),
        // The kernel's look-ups before routing and behind it differ on who of equals it is.
        false => udp.lookup_last(&key, &net.hasher),
    };
    match found {
        Some(sock) => unicast_deliver(cx, skb, &sock),
        None => no_socket(cx, skb),
    }
}

/// `udp_v4_early_demux`: what is remembered of where such datagrams belong, if this one, whose data starts at its IP header,
/// is of a connected socket, or for a group of which one socket alone wants it. Routing and its checks of the source are
/// spared then.
pub fn early_demux(cx: &mut Cx, skb: &Skb) -> Option<InputRoute> {
    if !cx.net.sysctl.udp_early_demux || cx.udp.is_empty() {
        return None;
    }
    let (ip, _) = Ipv4Header::parse(skb.data())?;
    if ip.protocol() != IpProto::UDP || ip.is_fragment() || ip.ihl() != 5 {
        return None;
    }
    let (header, _) = UdpHeader::parse(skb.data().get(Ipv4Header::LEN..)?)?;
    let key = UdpKey {
        local: ip.dst_addr(),
        remote: ip.src_addr(),
        local_port: header.dst_port(),
        remote_port: header.src_port(),
        ifindex: skb.ifindex,
    };
    if skb.pkt_type == PktType::Host {
        let place = cx.udp.lookup_connected(&key)?.known_route(cx.net.generation, skb.ifindex);
        // How it is counted is seen to where it is delivered.
        return place.map(|_| InputRoute::Local);
    }
    let sock = group_demux(cx, skb, &key)?;
    let place = sock.known_route(cx.net.generation, skb.ifindex)?;
    // Nobody has looked at the source of what comes to a socket without a peer.
    let checked = sock.is_connected() || route::input(&cx.net, skb.ifindex, key.remote, key.local).is_ok();
    checked.then_some(place)
}

/// `__udp4_lib_mcast_demux_lookup`: the one socket that wants what is sent to a group.
fn group_demux(cx: &Cx, skb: &Skb, key: &UdpKey) -> Option<Arc<UdpSock>> {
    let to_many = matches!(skb.pkt_type, PktType::Broadcast | PktType::Multicast);
    let group = key.local.v4().filter(|group| to_many && group.is_multicast())?;
    if !cx.net.groups.joined(key.ifindex, group) {
        return None;
    }
    cx.udp.lookup_sole(key)
}

/// `udp_unicast_rcv_skb`.
#[inline]
fn unicast_deliver(cx: &mut Cx, skb: Skb, sock: &Arc<UdpSock>) -> End {
    let connected = sock.is_connected();
    if connected && !sock.knows_local(cx.net.generation, skb.ifindex) {
        learn_or_count(cx, &skb, sock);
    }
    let found = if connected { DatagramFound::Connected } else { DatagramFound::Bound };
    cx.event(&skb, EventKind::DatagramLookup, found as u32, 0);
    queue_rcv_skb(cx, skb, sock)
}

/// A connected socket learns that what its peer sends is for this host. If it has learnt of a group first, the kernel takes
/// that route for whatever comes, and counts it so.
#[cold]
fn learn_or_count(cx: &mut Cx, skb: &Skb, sock: &UdpSock) {
    match sock.known_route(cx.net.generation, skb.ifindex) {
        Some(place) => count_by(cx, skb, place),
        None => sock.learn_route(cx.net.generation, skb.ifindex, InputRoute::Local),
    }
}

/// The same for a datagram that ends before it comes to the socket of its sender.
#[cold]
fn count_as_learnt(cx: &mut Cx, skb: &Skb) {
    let ip = Ipv4Header::parse(skb.network_header()).map(|(ip, _)| *ip);
    let (Some(ip), Some((header, _))) = (ip, UdpHeader::parse(skb.data())) else { return };
    let key = UdpKey {
        local: ip.dst_addr(),
        remote: ip.src_addr(),
        local_port: header.dst_port(),
        remote_port: header.src_port(),
        ifindex: skb.ifindex,
    };
    let sock = cx.udp.lookup_connected(&key);
    if let Some(place) = sock.and_then(|sock| sock.known_route(cx.net.generation, skb.ifindex)) {
        count_by(cx, skb, place);
    }
}

fn count_by(cx: &mut Cx, skb: &Skb, place: InputRoute) {
    let alone = skb.pkt_type == PktType::Host && cx.net.sysctl.udp_early_demux;
    if place == InputRoute::Multicast && alone {
        let total_len = Ipv4Header::parse(skb.network_header()).map_or(0, |(ip, _)| ip.total_len());
        cx.count(Counter::IpExtInMcastPkts);
        cx.count_n(Counter::IpExtInMcastOctets, u64::from(total_len));
    }
}

/// `udp_queue_rcv_skb`.
fn queue_rcv_skb(cx: &mut Cx, skb: Skb, sock: &Arc<UdpSock>) -> End {
    if skb.gso_size != 0 && !sock.wants_merged() {
        return queue_segments(cx, skb, sock);
    }
    queue_rcv_one_skb(cx, skb, sock)
}

/// `udp_unexpected_gso`: the socket has ceased to take merged datagrams, and is given each for itself.
#[cold]
fn queue_segments(cx: &mut Cx, skb: Skb, sock: &Arc<UdpSock>) -> End {
    let size = usize::from(skb.gso_size);
    let payload = skb.len().saturating_sub(UdpHeader::LEN);
    let Some(headers) = skb.network_header().first_chunk::<HEADERS>().copied() else {
        return in_error(cx, skb, DropReason::PktTooSmall);
    };
    for from in (0..payload).step_by(size) {
        let len = size.min(payload - from);
        let Some(mut part) = cx.alloc_part(HEADERS + len) else {
            sock.rx.count_drop();
            cx.count(Counter::UdpRcvbufErrors);
            cx.count(Counter::UdpInErrors);
            continue;
        };
        let bytes = part.put(HEADERS + len);
        bytes[..HEADERS].copy_from_slice(&headers);
        bytes[24..26].copy_from_slice(&((UdpHeader::LEN + len) as u16).to_be_bytes());
        skb.copy_to(UdpHeader::LEN + from, &mut bytes[HEADERS..]);
        cx.count_n(Counter::CopiedSplit, (HEADERS + len) as u64);
        part.set_network_header_here();
        let pulled = part.pull(Ipv4Header::LEN);
        debug_assert!(pulled, "the headers were put there");
        part.set_transport_header_here();
        (part.protocol, part.ifindex, part.pkt_type, part.hash) = (skb.protocol, skb.ifindex, skb.pkt_type, skb.hash);
        part.ip_summed = IpSummed::Unnecessary;
        part.truesize = TruesizeModel::Kernel.charge((EthernetHeader::LEN + HEADERS + len) as u32);
        part.set_traced(skb.traced());
        cx.event_with(&part, EventKind::Made, MadeHow::Segmented as u32, (HEADERS + len) as u32, skb.id);
        let end = queue_rcv_one_skb(cx, part, sock);
        cx.end(end);
    }
    End::Consumed(skb, Consumed::Split)
}

/// `udp_queue_rcv_one_skb`.
fn queue_rcv_one_skb(cx: &mut Cx, skb: Skb, sock: &Arc<UdpSock>) -> End {
    let payload = skb.len().saturating_sub(UdpHeader::LEN) as u32;
    let sysctl = &cx.net.sysctl;
    let limits = Limits { pages: u64::from(sysctl.udp_mem.max), least: sysctl.udp_rmem_min, beyond_brim: false };
    match sock.rx.push(cx, skb, payload, limits) {
        Ok(()) => End::Held,
        Err((skb, Refused::Closed)) => End::Drop(skb, DropReason::SocketClose),
        Err((skb, refused)) => {
            let (counter, reason) = match refused {
                Refused::Rcvbuf => (Counter::UdpRcvbufErrors, DropReason::SocketRcvbuff),
                _ => (Counter::UdpMemErrors, DropReason::ProtoMem),
            };
            cx.count(counter);
            in_error(cx, skb, reason)
        }
    }
}

/// Whether a datagram goes to more hosts than this one.
#[cold]
fn is_to_all(cx: &Cx, key: &UdpKey) -> bool {
    let kind = cx.net.fib.addr_type(key.local);
    matches!(kind, AddrType::Broadcast | AddrType::Multicast | AddrType::Unspecified)
}

/// `__udp4_lib_mcast_deliver`: a copy for every socket that wants it, of which the last is the datagram itself.
#[cold]
fn mcast_deliver(cx: &mut Cx, skb: Skb, key: &UdpKey) -> End {
    let socks = cx.udp.lookup_all(key);
    let Some((first, others)) = socks.split_first() else {
        cx.count(Counter::UdpIgnoredMulti);
        cx.event(&skb, EventKind::DatagramLookup, DatagramFound::Nobody as u32, 0);
        return End::Drop(skb, DropReason::NotSpecified);
    };
    cx.event(&skb, EventKind::DatagramLookup, DatagramFound::Group as u32, 0);
    if group_demux(cx, &skb, key).is_some() && first.known_route(cx.net.generation, skb.ifindex).is_none() {
        first.learn_route(cx.net.generation, skb.ifindex, InputRoute::Multicast);
    }
    for sock in others {
        match copy_for(cx, &skb) {
            Some(copy) => {
                let end = queue_rcv_skb(cx, copy, sock);
                cx.end(end);
            }
            None => {
                sock.rx.count_drop();
                cx.count(Counter::UdpRcvbufErrors);
                cx.count(Counter::UdpInErrors);
            }
        }
    }
    queue_rcv_skb(cx, skb, first)
}

/// A packet of its own with the same data.
fn copy_for(cx: &mut Cx, skb: &Skb) -> Option<Skb> {
    let mut copy = cx.clone_shared(skb)?;
    cx.ledger.made(1);
    copy.id = cx.ids.mint();
    let len = copy.len() as u32;
    cx.event_with(&copy, EventKind::Made, MadeHow::Copied as u32, len, skb.id);
    Some(copy)
}

/// Nobody has the port: the sender is told, if its datagram is sound.
#[cold]
fn no_socket(cx: &mut Cx, mut skb: Skb) -> End {
    if !verified(&mut skb) {
        return bad_checksum(cx, skb);
    }
    cx.count(Counter::UdpNoPorts);
    cx.event(&skb, EventKind::DatagramLookup, DatagramFound::Nobody as u32, 0);
    icmp::send_error(cx, &skb, wire_icmp::DEST_UNREACHABLE, PORT_UNREACHABLE, 0);
    End::Drop(skb, DropReason::NoSocket)
}

/// Whether the checksum is right; remembers it if so.
fn verified(skb: &mut Skb) -> bool {
    let sound = verify(skb);
    if sound {
        skb.ip_summed = IpSummed::Unnecessary;
    }
    sound
}

/// `udp_lib_checksum_complete`: whether the checksum of a datagram whose data starts at the UDP header is right.
pub fn verify(skb: &Skb) -> bool {
    if skb.ip_summed.is_known_good() {
        return true;
    }
    let Some((ip, _)) = Ipv4Header::parse(skb.network_header()) else { return false };
    let pseudo = ip.pseudo_sum(skb.len());
    let add = |(sum, odd): (u16, bool), piece: &[u8]| {
        (csum::combine(sum, csum::sum(piece), odd), odd ^ (piece.len() % 2 == 1))
    };
    let (sum, _) = skb.fragments().fold((0, false), add);
    csum::sum_add(pseudo, sum) == 0xffff
}

#[cold]
fn bad_checksum(cx: &mut Cx, skb: Skb) -> End {
    count_as_learnt(cx, &skb);
    cx.count(Counter::UdpInCsumErrors);
    in_error(cx, skb, DropReason::UdpCsum)
}

#[cold]
fn in_error(cx: &mut Cx, skb: Skb, reason: DropReason) -> End {
    cx.count(Counter::UdpInErrors);
    End::Drop(skb, reason)
}
