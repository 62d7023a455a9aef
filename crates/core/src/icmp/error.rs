//! Errors sent: to the sender of a packet that could not be dealt with.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rxpath_mem::{PktType, Skb};
use rxpath_trace::{Counter, OutputWhat};
use rxpath_wire::{Addr, IcmpHeader, IcmpRepr, IpProto, Ipv4Header, icmp as wire_icmp};

use super::{LAST_TYPE, count_out, ip_flow, limit};
use crate::cx::Cx;
use crate::ip::{OptionBytes, OwnOptions, echo_options, route_back};
use crate::route::{self, AddrType, Route};
use crate::tx;

/// The lowest of the types of RFC 792 and RFC 950 that are queries without a gap up to the highest.
const TIMESTAMP: u8 = wire_icmp::TIMESTAMP_REQUEST;
/// Longest error message, IP header included (RFC 1812 section 4.3.2.3).
const MAX_ERROR_LEN: usize = 576;
/// Precedence of an error: internetwork control (RFC 1812 section 4.3.2.5).
const TOS_CONTROL: u8 = 0xc0;
/// What is kept of the offending packet's type of service (`IPTOS_TOS_MASK`).
const TOS_MASK: u8 = 0x1e;

/// `icmp_send`: tells the sender of `skb`, whose network header is set, of an error. `info` is the last word of the ICMP
/// header: a pointer in the highest byte, an MTU in the lower half.
///
/// Nothing is sent where RFC 1122 section 3.2.2 forbids it: about a packet to or from more than one host, about a
/// fragment that is not the first, about an ICMP error; nor beyond the limits, nor without a way back.
#[cold]
pub fn send_error(cx: &mut Cx, skb: &Skb, kind: u8, code: u8, info: u32) {
    let Some((header, _)) = Ipv4Header::parse(skb.network_header()) else { return };
    let header = *header;
    if !may_be_told_of(cx, skb, &header) {
        return;
    }
    let offence = (kind == wire_icmp::PARAMETER_PROBLEM).then_some((info >> 24) as u8);
    let back = if header.ihl() > 5 { route_back(skb.network_header(), offence) } else { None };
    let peer = back.map_or(header.src_addr(), |back| Addr::from(back.first));
    let Some(mut route) = way_to(cx, peer, header.dst_addr()) else { return };
    let options = match route.src.v4() {
        Some(src) if header.ihl() > 5 => {
            let net = Arc::clone(&cx.net);
            echo_options(skb.network_header(), &OwnOptions::new(&net, src, cx.now), offence)
        }
        _ => Some(OptionBytes::NONE),
    };
    let Some(options) = options.filter(|_| limit::allows(cx, kind, code, peer)) else { return };
    let options = options.as_slice();
    // No longer than what leaves in one piece; what has no room for a header says nothing.
    let longest = MAX_ERROR_LEN.min(usize::from(route.mtu));
    let room = longest.saturating_sub(Ipv4Header::LEN + options.len() + IcmpHeader::LEN);
    if room <= Ipv4Header::LEN {
        return;
    }
    let quoted = quoted_len(skb).min(room);
    let Some(mut message) = cx.alloc_output(OutputWhat::IcmpError, IcmpHeader::LEN + quoted, true) else {
        cx.count(Counter::IcmpOutErrors);
        return;
    };
    let bytes = message.put(IcmpHeader::LEN + quoted);
    let at = wire_icmp::emit(bytes, IcmpRepr { kind, code, rest: info });
    quote(skb, &mut bytes[at..]);
    wire_icmp::fill_checksum(bytes);
    count_out(cx, kind);
    let flow = ip_flow(cx, route.src, peer, header.tos() & TOS_MASK | TOS_CONTROL);
    tx::ip_build_and_send(cx, message, &flow, options, &mut route);
}

/// `ipv4_link_failure`: tells the sender of a packet that its next hop does not answer.
#[cold]
pub fn link_failure(cx: &mut Cx, skb: &Skb) {
    send_error(cx, skb, wire_icmp::DEST_UNREACHABLE, wire_icmp::HOST_UNREACHABLE, 0);
}

/// `ip_rt_send_redirect`: tells the sender of a packet, which is sent on, that `gateway` on its own link is nearer.
#[cold]
pub fn send_redirect(cx: &mut Cx, skb: &Skb, gateway: Ipv4Addr) {
    let Some((header, _)) = Ipv4Header::parse(skb.network_header()) else { return };
    if cx.net.icmp_limits.take_redirect(header.src_addr(), cx.now) {
        // RFC 1812 section 5.2.7.2: a router redirects for a host, not for a network.
        send_error(cx, skb, wire_icmp::REDIRECT, wire_icmp::REDIRECT_HOST, u32::from(gateway));
    }
}

/// Whether an error about the packet may be sent at all.
fn may_be_told_of(cx: &Cx, skb: &Skb, header: &Ipv4Header) -> bool {
    let group = |addr: Addr| matches!(cx.net.fib.addr_type(addr), AddrType::Broadcast | AddrType::Multicast);
    skb.pkt_type == PktType::Host
        && !group(header.dst_addr())
        && header.fragment_offset() == 0
        && (header.protocol() != IpProto::ICMP || is_icmp_query(skb, header))
}

/// Whether an ICMP message, of which the packet is, is known and no error.
fn is_icmp_query(skb: &Skb, header: &Ipv4Header) -> bool {
    let kind = skb.network_header().get(header.header_len()).copied();
    // The kernel takes the types that nobody uses, those of router discovery among them, for errors.
    kind.is_some_and(|kind| matches!(kind, wire_icmp::ECHO_REPLY | wire_icmp::ECHO_REQUEST | TIMESTAMP..=LAST_TYPE))
}

/// The way to the sender: from the address that it asked if that is ours, else from whichever routing prefers.
fn way_to(cx: &Cx, peer: Addr, asked: Addr) -> Option<Route> {
    let from = (cx.net.fib.addr_type(asked) == AddrType::Local).then_some(asked);
    route::output(&cx.net, peer, from).ok()
}

/// Bytes of the packet from its IP header on, wherever its data starts.
fn quoted_len(skb: &Skb) -> usize {
    skb.network_header().len() + skb.data_len()
}

/// Copies the packet from its IP header on; `to` is not longer than that.
fn quote(skb: &Skb, to: &mut [u8]) {
    let linear = skb.network_header();
    let n = linear.len().min(to.len());
    let (front, behind) = to.split_at_mut(n);
    front.copy_from_slice(&linear[..n]);
    skb.copy_to(skb.headlen(), behind);
}
