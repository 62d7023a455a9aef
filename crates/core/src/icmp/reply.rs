//! Requests answered.

use std::sync::Arc;

use rxpath_mem::Skb;
use rxpath_trace::{Consumed, Counter, DropReason, OutputWhat};
use rxpath_wire::{IcmpHeader, IcmpRepr, Ipv4Header, icmp as wire_icmp};

use super::limit;
use super::{count_out, in_error, ip_flow};
use crate::cx::{Cx, End};
use crate::ip::{OptionBytes, OwnOptions, echo_options};
use crate::route::{self, Route};
use crate::tx::{self, IpFlow};

/// Bytes of a timestamp message behind the header: originate, receive and transmit timestamp.
const TIMESTAMPS: usize = 12;

/// The way back of a reply.
struct Back {
    route: Route,
    flow: IpFlow,
    options: OptionBytes,
}

/// `icmp_echo`: the same message goes back, code, identifier, sequence number and data included.
pub(super) fn echo(cx: &mut Cx, skb: Skb) -> End {
    if cx.net.sysctl.icmp_echo_ignore_all {
        return End::Consumed(skb, Consumed::Noted);
    }
    let len = skb.len();
    answer(cx, skb, (wire_icmp::ECHO_REPLY, OutputWhat::EchoReply), len, |skb, message| {
        skb.copy_to(0, message);
        message[0] = wire_icmp::ECHO_REPLY;
    })
}

/// `icmp_timestamp`: the sender's time goes back with ours, twice.
pub(super) fn timestamp(cx: &mut Cx, skb: Skb) -> End {
    let (header, originate) = match IcmpHeader::parse(skb.data()) {
        Some((header, [a, b, c, d, ..])) => (*header, [*a, *b, *c, *d]),
        _ => return in_error(cx, skb, DropReason::PktTooSmall),
    };
    // RFC 792: a time that is not counted from midnight UT has its highest bit set.
    let ours = (cx.now.as_millis() as u32 | 1 << 31).to_be_bytes();
    let repr = IcmpRepr { kind: wire_icmp::TIMESTAMP_REPLY, code: 0, rest: header.rest() };
    answer(cx, skb, (wire_icmp::TIMESTAMP_REPLY, OutputWhat::Other), IcmpHeader::LEN + TIMESTAMPS, |_, message| {
        let at = wire_icmp::emit(message, repr);
        message[at..].copy_from_slice([originate, ours, ours].as_flattened());
    })
}

/// `icmp_reply`: sends a message of `len` bytes that `write` fills in, back to where the request came from. Without a way
/// back nothing is sent and nothing counted.
fn answer(
    cx: &mut Cx,
    skb: Skb,
    (kind, what): (u8, OutputWhat),
    len: usize,
    write: impl FnOnce(&Skb, &mut [u8]),
) -> End {
    let Some(mut back) = way_back(cx, &skb) else { return End::Consumed(skb, Consumed::Noted) };
    if !limit::allows(cx, kind, 0, back.flow.dst) {
        return End::Consumed(skb, Consumed::Noted);
    }
    let Some(mut message) = cx.alloc_output(what, len, false) else {
        cx.count(Counter::IcmpOutErrors);
        return End::Drop(skb, DropReason::Nomem);
    };
    if message.tailroom() < len {
        cx.count(Counter::IcmpOutErrors);
        cx.drop_skb(message, DropReason::Nomem);
        return End::Drop(skb, DropReason::Nomem);
    }
    let bytes = message.put(len);
    write(&skb, bytes);
    wire_icmp::fill_checksum(bytes);
    // Linux counts every reply as an echo reply.
    count_out(cx, wire_icmp::ECHO_REPLY);
    tx::ip_build_and_send(cx, message, &back.flow, back.options.as_slice(), &mut back.route);
    End::Consumed(skb, Consumed::Answered)
}

/// The way to the sender of a request, from the address that it asked, with its type of service and its options.
fn way_back(cx: &mut Cx, skb: &Skb) -> Option<Back> {
    let (header, _) = Ipv4Header::parse(skb.network_header())?;
    let (peer, asked, tos) = (header.src_addr(), header.dst_addr(), header.tos());
    let route = route::output(&cx.net, peer, Some(asked)).ok()?;
    let options = if header.ihl() > 5 {
        let net = Arc::clone(&cx.net);
        echo_options(skb.network_header(), &OwnOptions::new(&net, header.dst(), cx.now), None)?
    } else {
        OptionBytes::NONE
    };
    Some(Back { route, flow: ip_flow(cx, asked, peer, tos), options })
}
