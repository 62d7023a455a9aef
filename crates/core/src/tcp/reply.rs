//! Segments that answer without a full socket: RST, and the ACKs of mini-sockets.

use std::sync::Arc;

use rxpath_mem::Skb;
use rxpath_trace::{Counter, EventKind, OutputWhat, PacketId};
use rxpath_wire::tcp::FastOpen;
use rxpath_wire::{IpProto, Ipv4Header, SeqNum, TcpFlags, TcpOptions, TcpOptionsWriter, TcpRepr, Tuple};

use super::Segment;
use super::auth::{self, Auth, Signer};
use super::ip_fields::without_ecn;
use super::output::{transmit_raw, transmit_signed, transmit_with_options};
use crate::cx::Cx;
use crate::ip::{OptionBytes, OwnOptions, echo_options};
use crate::route::{self, AddrType, Route};
use crate::socket::Arrival;
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

/// `tcp_v4_send_reset`: RFC 9293 section 3.10.7.1. Nothing answers an RST. Who has keys gives what the reset is signed with.
pub(super) fn reset(cx: &mut Cx, skb: &Skb, seg: &Segment, signer: Option<Signer>) {
    if seg.flags.rst() {
        return;
    }
    let Some((tuple, tos)) = tuple_of(skb) else { return };
    let signer = match signer {
        None if auth::may_carry(seg) => match auth::parse(seg.option_bytes(skb)) {
            Ok(Auth::None) => None,
            Ok(Auth::Md5(digest)) => match signer_of_stray(cx, skb, seg, &tuple, digest) {
                None => return,
                found => found,
            },
            // The peer would believe only an answer that is authenticated, too.
            _ => return,
        },
        given => given,
    };
    let (seq, ack, flags) = if seg.flags.ack() {
        (seg.ack, SeqNum(0), TcpFlags::RST)
    } else {
        (SeqNum(0), seg.end_seq, TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0))
    };
    let options = match Ipv4Header::parse(skb.network_header()) {
        Some((ip, _)) if ip.ihl() > 5 => {
            let net = Arc::clone(&cx.net);
            echo_options(skb.network_header(), &OwnOptions::new(&net, ip.dst(), cx.now), None)
        }
        _ => Some(OptionBytes::NONE),
    };
    // A reset is not ECN-capable (RFC 3168 section 6.1.1).
    let tos = without_ecn(tos);
    let bare = Bare { seq, ack, flags, window: 0, options: TcpOptions::default(), tos, ttl: None, ifindex: 0 };
    let rst = options.and_then(|options| send_with(cx, &tuple, options.as_slice(), bare, signer.as_ref()));
    match rst {
        Some(rst) => cx.event_with(skb, EventKind::RstSent, seq.0, ack.0, rst),
        // IP options that cannot be answered, or no way back; the kernel counts what it then does not send.
        None => {
            cx.count(Counter::TcpOutSegs);
            cx.count(Counter::TcpOutRsts);
        }
    }
}

/// The key with which a segment of nobody's is signed: a listener on the port that it came from may have it, as where
/// both sides of a connection listen on the same port. None if it is not signed with that key.
#[cold]
fn signer_of_stray(cx: &mut Cx, skb: &Skb, seg: &Segment, tuple: &Tuple, digest: &[u8]) -> Option<Signer> {
    let hasher = cx.net.hasher;
    let from = Arrival { ifindex: skb.ifindex, cpu: cx.cpu };
    let hash = || hasher.hash(&tuple.reversed());
    let listener = cx.listeners.lookup(tuple.local, tuple.remote_port, from, hash)?;
    listener.auth.signer_of_stray(skb, seg, tuple, digest)
}

/// [`reset`] for a segment that is nobody's: one to all, or to a group, has no answer.
pub(super) fn reset_of_nobody(cx: &mut Cx, skb: &Skb, seg: &Segment) {
    let local = tuple_of(skb).is_some_and(|(tuple, _)| cx.net.fib.addr_type(tuple.local) == AddrType::Local);
    if local {
        reset(cx, skb, seg, None);
    }
}

/// A segment without payload from nobody in particular.
pub(super) struct Bare {
    pub seq: SeqNum,
    pub ack: SeqNum,
    pub flags: TcpFlags,
    /// As it stands in the header.
    pub window: u16,
    pub options: TcpOptions,
    /// Type of service.
    pub tos: u8,
    /// Time to live; None for the host's.
    pub ttl: Option<u8>,
    /// The interface by which it goes; 0 for whichever routes say.
    pub ifindex: u16,
}

/// Sends a bare segment from `tuple.local` to `tuple.remote` (`ip_send_unicast_reply`): identification 0, DF. Gives the
/// packet, or none: without a route or memory it is not sent.
pub(super) fn send(cx: &mut Cx, tuple: &Tuple, bare: Bare, signer: Option<&Signer>) -> PacketId {
    send_with(cx, tuple, &[], bare, signer).unwrap_or(PacketId::NONE)
}

/// [`send`] with a Fast Open option behind the others.
#[cold]
pub(super) fn send_fast_open(cx: &mut Cx, tuple: &Tuple, bare: Bare, option: &FastOpen) -> PacketId {
    let Some((skb, repr, mut route, flow)) = made(cx, tuple, bare) else { return PacketId::NONE };
    let id = skb.id;
    let mut options = TcpOptionsWriter::all(&repr.options);
    transmit_raw(cx, skb, &repr, &mut route, &flow, options.fast_open(option).as_bytes());
    id
}

/// [`send`] with IP options: those of the segment that is answered, as an echo reply has them.
fn send_with(cx: &mut Cx, tuple: &Tuple, options: &[u8], bare: Bare, signer: Option<&Signer>) -> Option<PacketId> {
    let (skb, repr, mut route, flow) = made(cx, tuple, bare)?;
    let id = skb.id;
    match signer {
        Some(signer) => transmit_signed(cx, skb, &repr, &mut route, &flow, options, signer),
        None => transmit_with_options(cx, skb, &repr, &mut route, &flow, options),
    }
    Some(id)
}

/// What a bare segment is sent as; None without a route or memory.
fn made(cx: &mut Cx, tuple: &Tuple, bare: Bare) -> Option<(Skb, TcpRepr, Route, IpFlow)> {
    let bound = (bare.ifindex != 0).then_some(bare.ifindex);
    let route = route::output_by(&cx.net, tuple.remote, Some(tuple.local), bound).ok()?;
    let what = if bare.flags.rst() {
        OutputWhat::TcpRst
    } else if bare.flags.syn() {
        OutputWhat::TcpSynAck
    } else {
        OutputWhat::TcpAck
    };
    let skb = cx.alloc_output(what, 0, true)?;
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
        ttl: bare.ttl.unwrap_or(cx.net.sysctl.ip_default_ttl),
        tos: bare.tos,
        dont_fragment: true,
        ident: 0,
    };
    cx.count(Counter::TcpOutSegs);
    Some((skb, repr, route, flow))
}
