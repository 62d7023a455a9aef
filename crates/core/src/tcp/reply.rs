//! Segments that answer without a full socket: RST, and the ACKs of mini-sockets.

use rxpath_mem::Skb;
use rxpath_trace::{Counter, EventKind, OutputWhat, PacketId};
use rxpath_wire::{IpProto, Ipv4Header, SeqNum, TcpFlags, TcpOptions, TcpRepr, Tuple};

use super::Segment;
use super::auth::{self, Auth};
use super::output::transmit_segment;
use crate::cx::Cx;
use crate::route;
use crate::tx::IpFlow;

/// The tuple of a received segment, and its TOS byte.
#[inline]
pub(super) fn tuple_of(skb: &Skb) -> Option<(Tuple, u8)> {
    let (ip, _) = Ipv4Header::parse(skb.network_header())?;
    let ports = skb.transport_header().first_chunk::<4>()?;
    let [a, b, c, d] = *ports;
    let tuple = Tuple {
        local: ip.dst_addr(),
        remote: ip.src_addr(),
        local_port: u16::from_be_bytes([c, d]),
        remote_port: u16::from_be_bytes([a, b]),
    };
    Some((tuple, ip.tos()))
}

/// `tcp_v4_send_reset`: RFC 9293 section 3.10.7.1. Nothing answers an RST.
pub(super) fn reset(cx: &mut Cx, skb: &Skb, seg: &Segment) {
    if seg.flags.rst() {
        return;
    }
    if auth::may_carry(seg) && auth::parse(seg.option_bytes(skb)) != Ok(Auth::None) {
        // The peer would believe only an answer that is authenticated, too.
        return;
    }
    let Some((tuple, tos)) = tuple_of(skb) else { return };
    let (seq, ack, flags) = if seg.flags.ack() {
        (seg.ack, SeqNum(0), TcpFlags::RST)
    } else {
        (SeqNum(0), seg.end_seq, TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0))
    };
    let rst = send(cx, &tuple, tos, Bare { seq, ack, flags, window: 0, options: TcpOptions::default() });
    cx.event_with(skb, EventKind::RstSent, seq.0, ack.0, rst);
}

/// A segment without payload from nobody in particular.
pub(super) struct Bare {
    pub seq: SeqNum,
    pub ack: SeqNum,
    pub flags: TcpFlags,
    /// As it stands in the header.
    pub window: u16,
    pub options: TcpOptions,
}

/// Sends a bare segment from `tuple.local` to `tuple.remote` (`ip_send_unicast_reply`): identification 0, DF, TOS as
/// given. Gives the packet, or none: without a route or memory it is not sent.
pub(super) fn send(cx: &mut Cx, tuple: &Tuple, tos: u8, bare: Bare) -> PacketId {
    let Ok(mut route) = route::output(&cx.net, tuple.remote, Some(tuple.local)) else { return PacketId::NONE };
    let what = if bare.flags.rst() {
        OutputWhat::TcpRst
    } else if bare.flags.syn() {
        OutputWhat::TcpSynAck
    } else {
        OutputWhat::TcpAck
    };
    let Some(skb) = cx.alloc_output(what, 0, true) else { return PacketId::NONE };
    let id = skb.id;
    let repr = TcpRepr {
        sport: tuple.local_port,
        dport: tuple.remote_port,
        seq: bare.seq,
        ack: bare.ack,
        flags: bare.flags,
        window: bare.window,
        urgent: 0,
        options: bare.options,
    };
    let flow = IpFlow {
        src: tuple.local,
        dst: tuple.remote,
        protocol: IpProto::TCP,
        ttl: cx.net.sysctl.ip_default_ttl,
        tos,
        dont_fragment: true,
        ident: 0,
    };
    cx.count(Counter::TcpOutSegs);
    transmit_segment(cx, skb, &repr, &mut route, &flow);
    id
}
