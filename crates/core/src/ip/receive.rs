//! The header: validated, routed, its options read.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rxpath_mem::{IpSummed, PktType, Skb};
use rxpath_trace::{Counter, DropReason, EventKind, PacketId};
use rxpath_wire::{Ipv4Header, icmp as wire_icmp};

use super::options::{self, Own, Problem};
use crate::cx::{Cx, Fate};
use crate::demux::stats::DevStat;
use crate::icmp;
use crate::netns::NetConfig;
use crate::route::{self, Forward, InputRoute, Reject};

/// `ip_rcv`: checks the header of the packet whose data starts there, as its network header says, and cuts what the link
/// padded.
///
/// Behind it the data still starts at the IP header and is as long as the header says.
#[inline(always)]
pub fn rcv(cx: &mut Cx, mut skb: Skb) -> Fate<Skb> {
    if skb.pkt_type == PktType::OtherHost {
        return other_host(cx, skb);
    }
    let len = skb.len();
    // Read at one go: what is counted in between is memory that the compiler must suppose to be the header's.
    let seen = Ipv4Header::parse(skb.data()).zip(skb.data().first_chunk()).map(|((header, _), bytes)| {
        (header.version_ihl(), header.tos(), usize::from(header.total_len()), sums_to_all_ones(bytes))
    });
    count_received(cx, 1, len as u64);
    let Some((first, tos, total_len, fixed_part_sound)) = seen else { return bad_header(cx, skb) };
    let sound = if first == PLAIN {
        count_ecn(cx, tos, u64::from(skb.gso_segs.max(1)));
        fixed_part_sound
    } else {
        match sound_with_options(cx, &skb) {
            Some(sound) => sound,
            None => return bad_header(cx, skb),
        }
    };
    if !sound {
        return bad_checksum(cx, skb);
    }
    if len != total_len {
        if len < total_len {
            cx.count(Counter::IpExtInTruncatedPkts);
            return Fate::Drop(skb, DropReason::PktTooSmall);
        }
        if total_len < usize::from(first & 0xf) * 4 {
            return bad_header(cx, skb);
        }
        trim(&mut skb, total_len);
    }
    debug_assert_eq!(usize::from(skb.network_off), skb.data_offset(), "the driver set the network header");
    if skb.traced() {
        record(cx, &skb, total_len);
    }
    Fate::Pass(skb)
}

/// Version 4, five words of header: no options.
const PLAIN: u8 = 0x45;

/// Whether the fixed part sums to all ones (`ip_fast_csum`): straight adds of native words, whose order does not matter
/// to that question (RFC 1071 section 2(B)).
#[inline(always)]
fn sums_to_all_ones(header: &[u8; Ipv4Header::LEN]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    // A sum of five words is below 2^35; a multiple of 0xffff that is not 0 folds to 0xffff.
    let folded = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    (folded & 0xffff) + (folded >> 16) == 0xffff
}

/// The header does not sum to all ones.
#[cold]
fn bad_checksum(cx: &mut Cx, skb: Skb) -> Fate<Skb> {
    cx.count(Counter::IpExtInCsumErrors);
    cx.count(Counter::IpInHdrErrors);
    Fate::Drop(skb, DropReason::IpCsum)
}

/// A frame to another station's address: seen only because the device is promiscuous, and counted as no IP packet.
#[cold]
fn other_host(cx: &mut Cx, skb: Skb) -> Fate<Skb> {
    cx.dev.add(skb.ifindex, DevStat::RxOtherhostDropped, 1);
    Fate::Drop(skb, DropReason::Otherhost)
}

/// A header that is malformed in another way than by its checksum.
#[cold]
fn bad_header(cx: &mut Cx, skb: Skb) -> Fate<Skb> {
    cx.count(Counter::IpInHdrErrors);
    Fate::Drop(skb, DropReason::IpInhdr)
}

/// The first checks of a header that does not begin with 0x45: None if version or length are impossible, else whether the
/// checksum, over all of it, is right. The ECN field is counted in between, where the kernel counts it.
#[cold]
fn sound_with_options(cx: &Cx, skb: &Skb) -> Option<bool> {
    let (header, _) = Ipv4Header::parse(skb.data())?;
    if header.version() != 4 || header.ihl() < 5 {
        return None;
    }
    count_ecn(cx, header.tos(), u64::from(skb.gso_segs.max(1)));
    let whole = skb.data().get(..header.header_len())?;
    Some(rxpath_wire::ipv4::verify(whole))
}

/// So many packets came, of so many bytes together.
#[inline(always)]
fn count_received(cx: &Cx, packets: u64, octets: u64) {
    cx.count_n(Counter::IpInReceives, packets);
    cx.count_n(Counter::IpExtInOctets, octets);
}

/// Whether a header has no options, and its checksum is right.
#[inline(always)]
pub fn is_plain_and_sound(header: &[u8; Ipv4Header::LEN]) -> bool {
    header[0] == PLAIN && sums_to_all_ones(header)
}

/// What the rooms from `ip_rcv` to local delivery count for packets that are as one that passed them: so many of `len`
/// bytes, with this type of service, out of `segments` segments.
#[inline(always)]
pub fn count_passed(cx: &Cx, packets: u64, len: u64, tos: u8, segments: u64) {
    count_received(cx, packets, packets * len);
    count_ecn(cx, tos, segments);
    super::deliver::count_delivered(cx, packets);
}

/// RFC 3168 section 5: the four values of the field, for each segment of a merged packet.
#[inline(always)]
fn count_ecn(cx: &Cx, tos: u8, segments: u64) {
    let counter = match tos & 3 {
        0 => Counter::IpExtInNoECTPkts,
        1 => Counter::IpExtInECT1Pkts,
        2 => Counter::IpExtInECT0Pkts,
        _ => Counter::IpExtInCEPkts,
    };
    cx.count_n(counter, segments);
}

/// Cuts what lies behind the packet (`pskb_trim_rcsum`). A sum over the whole frame is worth nothing then.
#[cold]
fn trim(skb: &mut Skb, total_len: usize) {
    skb.trim(total_len);
    if skb.ip_summed == IpSummed::Complete {
        skb.ip_summed = IpSummed::None;
    }
}

#[cold]
fn record(cx: &mut Cx, skb: &Skb, total_len: usize) {
    let Some((header, _)) = Ipv4Header::parse(skb.data()) else { return };
    let (src, dst) = (u32::from(header.src()), u32::from(header.dst()));
    let ttl = u32::from(header.ttl());
    cx.record(skb.id, EventKind::IpRcv, total_len as u32, ttl, PacketId::NONE);
    cx.record(skb.id, EventKind::Addresses, src, dst, PacketId::NONE);
}

/// `ip_rcv_finish`: where the packet belongs, and its options. With a way on it is for another host. `early_demux` says
/// what a socket remembers of such packets; it is asked only where there is something to be spared.
#[inline(always)]
pub fn rcv_finish(cx: &mut Cx, skb: Skb, early_demux: EarlyDemux) -> Fate<(Skb, Option<Forward>)> {
    let Some((header, _)) = Ipv4Header::parse(skb.data()) else { return Fate::Drop(skb, DropReason::IpInhdr) };
    let (src, dst) = (u32::from(header.src()), u32::from(header.dst()));
    let fib = &cx.net.fib;
    // The common case without a look-up: to one of our addresses, from an ordinary one that is not ours.
    let plain = header.version_ihl() == PLAIN
        && fib.is_own_v4(dst)
        && is_plain_source(src)
        && !fib.is_own_v4(src)
        && !cx.net.rp_filter
        && skb.pkt_type == PktType::Host;
    if plain {
        cx.event(&skb, EventKind::RouteLocal, InputRoute::Local.number(), 0);
        return Fate::Pass((skb, None));
    }
    rcv_finish_slow(cx, skb, early_demux)
}

/// Whether an address, as a word in host order, may be a source without a further look: class A to C, not 0/8 or 127/8.
#[inline(always)]
fn is_plain_source(src: u32) -> bool {
    let net = src >> 24;
    net.wrapping_sub(1) < 223 && net != 127
}

/// What the socket that a packet is of remembers of where such packets belong, if it does.
pub type EarlyDemux = fn(&mut Cx, &Skb) -> Option<InputRoute>;

/// Counts what came for a group, or for all hosts of a link.
fn count_to_all(cx: &mut Cx, multicast: bool, octets: u64) {
    let (packets, bytes) = match multicast {
        true => (Counter::IpExtInMcastPkts, Counter::IpExtInMcastOctets),
        false => (Counter::IpExtInBcastPkts, Counter::IpExtInBcastOctets),
    };
    cx.count(packets);
    cx.count_n(bytes, octets);
}

/// What is known of where packets belong that come back to this host: they have the way by which they were sent.
pub fn looped_place(_: &mut Cx, skb: &Skb) -> Option<InputRoute> {
    let (header, _) = Ipv4Header::parse(skb.data())?;
    Some(if header.dst_addr().is_multicast() { InputRoute::Multicast } else { InputRoute::Broadcast })
}

#[cold]
fn rcv_finish_slow(cx: &mut Cx, mut skb: Skb, early_demux: EarlyDemux) -> Fate<(Skb, Option<Forward>)> {
    if let Some(place) = early_demux(cx, &skb) {
        match place {
            InputRoute::Multicast => count_to_all(cx, true, skb.len() as u64),
            InputRoute::Broadcast => count_to_all(cx, false, skb.len() as u64),
            InputRoute::Local | InputRoute::Forward(_) => {}
        }
        cx.event(&skb, EventKind::RouteLocal, place.number(), 1);
        return Fate::Pass((skb, None));
    }
    let Some((header, _)) = Ipv4Header::parse(skb.data()) else { return Fate::Drop(skb, DropReason::IpInhdr) };
    let (src, dst, ihl) = (header.src_addr(), header.dst_addr(), header.ihl());
    let place = route::input(&cx.net, skb.ifindex, src, dst);
    // A packet for somebody else is found out by routing but ends only behind the options, as in the kernel.
    if let Err(reject) = place
        && !reject.is_of_destination()
    {
        return refuse(cx, skb, reject);
    }
    if ihl > 5 {
        match rcv_options(cx, skb, place.ok()) {
            Ok(read) => skb = read,
            Err((malformed, reason)) => return Fate::Drop(malformed, reason),
        }
    }
    let octets = skb.len() as u64;
    match place {
        Ok(InputRoute::Multicast) => count_to_all(cx, true, octets),
        Ok(InputRoute::Broadcast) => count_to_all(cx, false, octets),
        _ if matches!(skb.pkt_type, PktType::Broadcast | PktType::Multicast)
            && cx.net.conf(skb.ifindex).drop_unicast_in_l2_multicast =>
        {
            return Fate::Drop(skb, DropReason::UnicastInL2Multicast);
        }
        _ => {}
    }
    match place {
        Ok(InputRoute::Forward(way)) => {
            cx.event(&skb, EventKind::RouteForward, u32::from(way.nexthop), u32::from(way.ifindex));
            Fate::Pass((skb, Some(way)))
        }
        Ok(place) => {
            cx.event(&skb, EventKind::RouteLocal, place.number(), 0);
            Fate::Pass((skb, None))
        }
        Err(reject) => refuse(cx, skb, reject),
    }
}

/// The packet has no place here. Its sender is told of it where routing as such has failed (`ip_error`), less often than
/// of other errors.
fn refuse<T>(cx: &mut Cx, skb: Skb, reject: Reject) -> Fate<T> {
    if let Some(counter) = reject.counter() {
        cx.count(counter);
    }
    let src = Ipv4Header::parse(skb.network_header()).map(|(header, _)| header.src_addr());
    if let (Some(code), Some(src)) = (reject.told_as(), src)
        && cx.net.icmp_limits.take_route_error(src, cx.now)
    {
        icmp::send_error(cx, &skb, wire_icmp::DEST_UNREACHABLE, code, 0);
    }
    Fate::Drop(skb, reject.reason())
}

/// `ip_rcv_options`: reads the options, and enters in them what they ask of us.
///
/// # Errors
/// The packet, and why it is dropped. A malformed option is told to the sender (RFC 792, parameter problem).
fn rcv_options(cx: &mut Cx, mut skb: Skb, place: Option<InputRoute>) -> Result<Skb, (Skb, DropReason)> {
    if !cx.make_writable(&mut skb) {
        cx.count(Counter::IpInDiscards);
        return Err((skb, DropReason::Nomem));
    }
    let net = Arc::clone(&cx.net);
    let own = Own::new(&net, own_address(&net, &skb, place), cx.now).stamped(own_address(&net, &skb, None));
    match options::receive(skb.network_header_mut(), &own) {
        Ok(()) => Ok(skb),
        Err(Problem::Malformed { pointer }) => {
            cx.count(Counter::IpInHdrErrors);
            icmp::send_error(cx, &skb, wire_icmp::PARAMETER_PROBLEM, 0, u32::from(pointer) << 24);
            Err((skb, DropReason::IpInhdr))
        }
        // `accept_source_route` is off, as by default; the kernel drops such packets without a word or a counter.
        Err(Problem::SourceRoute) => Err((skb, DropReason::NotSpecified)),
    }
}

/// The address of ours that a packet met: its destination, or that of the interface by which it goes on, or else one of
/// the interface by which it came.
fn own_address(net: &NetConfig, skb: &Skb, place: Option<InputRoute>) -> Ipv4Addr {
    let Some((header, _)) = Ipv4Header::parse(skb.network_header()) else { return Ipv4Addr::UNSPECIFIED };
    if net.fib.is_own_v4(u32::from(header.dst())) {
        return header.dst();
    }
    let (ifindex, peer) = match place {
        Some(InputRoute::Forward(way)) => (way.ifindex, way.nexthop.into()),
        _ => (skb.ifindex, header.src_addr()),
    };
    let chosen = net.interface(ifindex).and_then(|interface| route::source_for(interface, peer));
    chosen.and_then(|addr| addr.v4()).unwrap_or(Ipv4Addr::UNSPECIFIED)
}
