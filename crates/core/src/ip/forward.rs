//! A packet for another host, from the routing decision to the FORWARD hook.

use rxpath_arch::csum;
use rxpath_mem::{IpSummed, PktType, Skb};
use rxpath_trace::{Counter, DropReason};
use rxpath_wire::{Ipv4Header, TcpHeader, icmp as wire_icmp, ipv4};

use crate::cx::{Cx, Fate};
use crate::demux::priority_of;
use crate::icmp;
use crate::route::Forward;

/// `ip_forward`: judges whether the packet can go on, takes one hop off its time to live, and tells a sender of its own
/// link of the better way.
#[cold]
pub fn forward(cx: &mut Cx, mut skb: Skb, way: &Forward) -> Fate<Skb> {
    // RFC 1812 section 5.3.4: what came in a broadcast frame stays on its link. The kernel has no reason for it.
    if skb.pkt_type != PktType::Host {
        return Fate::Drop(skb, DropReason::NotSpecified);
    }
    let Some((header, _)) = Ipv4Header::parse(skb.data()) else { return Fate::Drop(skb, DropReason::IpInhdr) };
    let (ttl, tos, dont_fragment, header_len) =
        (header.ttl(), header.tos(), header.dont_fragment(), header.header_len());
    if ttl <= 1 {
        cx.count(Counter::IpInHdrErrors);
        icmp::send_error(cx, &skb, wire_icmp::TIME_EXCEEDED, wire_icmp::TTL_EXCEEDED, 0);
        return Fate::Drop(skb, DropReason::IpInhdr);
    }
    cx.count(Counter::IpForwDatagrams);
    skb.set_priority(priority_of(tos));
    let mtu = cx.net.interface(way.ifindex).map_or(0, |interface| interface.mtu);
    if dont_fragment && longest(&skb, header_len) > usize::from(mtu) {
        cx.count(Counter::IpFragFails);
        let (kind, code) = (wire_icmp::DEST_UNREACHABLE, wire_icmp::FRAGMENTATION_NEEDED);
        icmp::send_error(cx, &skb, kind, code, u32::from(mtu));
        return Fate::Drop(skb, DropReason::PktTooBig);
    }
    if !cx.make_writable(&mut skb) {
        return Fate::Drop(skb, DropReason::Nomem);
    }
    decrease_ttl(skb.data_mut());
    forward_csum(&mut skb, header_len);
    if way.redirect {
        icmp::send_redirect(cx, &skb, way.nexthop);
    }
    if header_len > Ipv4Header::LEN
        && let Some(header) = skb.data_mut().get_mut(..header_len)
    {
        // What the options asked for was entered when they were read; a redirect quotes the header without this
        // (`ip_forward_options`).
        ipv4::fill_checksum(header);
    }
    Fate::Pass(skb)
}

/// The longest packet that leaves: of a merged one, that of each segment (`skb_gso_network_seglen`).
fn longest(skb: &Skb, header_len: usize) -> usize {
    if skb.gso_size == 0 {
        return skb.len();
    }
    let transport = skb.data().get(header_len..).and_then(TcpHeader::parse);
    header_len + transport.map_or(0, |(tcp, _)| tcp.header_len()) + usize::from(skb.gso_size)
}

/// `ip_decrease_ttl`: one hop less, the checksum changed by as much (RFC 1624).
fn decrease_ttl(packet: &mut [u8]) {
    let Some((header, _)) = Ipv4Header::parse_mut(packet) else { return };
    let (ttl, protocol) = (header.ttl(), header.protocol());
    let before = u16::from_be_bytes([ttl, protocol]);
    let after = u16::from_be_bytes([ttl.saturating_sub(1), protocol]);
    header.set_checksum(csum::update(header.checksum(), before, after));
    header.set_ttl(ttl.saturating_sub(1));
}

/// `skb_forward_csum`: a sum over the packet as it came says nothing of it as it leaves. The checksum of a merged packet
/// is open, as that of one that never left its host.
fn forward_csum(skb: &mut Skb, header_len: usize) {
    skb.transport_off = skb.network_off + header_len as u16;
    if skb.gso_size > 0 {
        skb.ip_summed = IpSummed::Partial;
    } else if skb.ip_summed == IpSummed::Complete {
        skb.ip_summed = IpSummed::None;
    }
}
