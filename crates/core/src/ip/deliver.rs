//! Local delivery: to the transport protocol by its number.

use rxpath_mem::Skb;
use rxpath_trace::{Consumed, Counter, DropReason, EventKind};
use rxpath_wire::{Ipv4Header, icmp as wire_icmp};

use super::protocols::Protocol;
use crate::cx::{Cx, Fate};
use crate::icmp;

/// Code of "destination unreachable": no handler for the protocol.
const PROTOCOL_UNREACHABLE: u8 = 2;

/// `ip_local_deliver_finish`: pulls the IP header and finds the protocol's handler. `seen`: raw sockets have copies.
#[inline(always)]
pub fn local_deliver_finish(cx: &mut Cx, mut skb: Skb, seen: bool) -> Fate<(Skb, Protocol)> {
    let (number, header_len) = match Ipv4Header::parse(skb.data()) {
        Some((header, _)) => (header.protocol(), header.header_len()),
        None => return malformed(cx, skb),
    };
    if !skb.pull(header_len) {
        return malformed(cx, skb);
    }
    skb.transport_off = skb.network_off + header_len as u16;
    match cx.net.inet_protos.lookup(number) {
        Some(protocol) => {
            count_delivered(cx, 1);
            cx.event(&skb, EventKind::LocalDeliver, u32::from(number), 0);
            Fate::Pass((skb, protocol))
        }
        None if seen => {
            count_delivered(cx, 1);
            Fate::Consumed(skb, Consumed::Cloned)
        }
        None => unknown_protocol(cx, skb),
    }
}

/// So many packets found the handler of their protocol.
#[inline(always)]
pub(super) fn count_delivered(cx: &Cx, packets: u64) {
    cx.count_n(Counter::IpInDelivers, packets);
}

/// A hook shortened the packet behind the checks.
#[cold]
fn malformed(cx: &mut Cx, skb: Skb) -> Fate<(Skb, Protocol)> {
    cx.count(Counter::IpInHdrErrors);
    Fate::Drop(skb, DropReason::IpInhdr)
}

/// Nobody handles the protocol: the sender is told.
#[cold]
fn unknown_protocol(cx: &mut Cx, skb: Skb) -> Fate<(Skb, Protocol)> {
    cx.count(Counter::IpInUnknownProtos);
    icmp::send_error(cx, &skb, wire_icmp::DEST_UNREACHABLE, PROTOCOL_UNREACHABLE, 0);
    Fate::Drop(skb, DropReason::IpNoproto)
}
