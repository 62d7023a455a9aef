//! Messages received.

use rxpath_arch::csum;
use rxpath_mem::{IpSummed, Skb};
use rxpath_trace::{Consumed, Counter, DropReason, EventKind};
use rxpath_wire::{Addr, IcmpHeader, Ipv4Header, icmp as wire_icmp};

use super::{
    ADDRESS_MASK_REPLY, ADDRESS_MASK_REQUEST, EXTENDED_ECHO_REPLY, EXTENDED_ECHO_REQUEST, LAST_TYPE, SOURCE_QUENCH,
    count_in, in_error, reply,
};
use crate::cx::{Cx, End, Fate};
use crate::route::AddrType;

/// Highest code of "destination unreachable" (`NR_ICMP_UNREACH`).
const LAST_UNREACHABLE_CODE: u8 = 15;
/// Protocol number that no packet has (`IPPROTO_RAW`).
const RAW: u8 = 255;
/// Bytes of the transport header that an error quotes at least.
const QUOTED_TRANSPORT: usize = 8;

/// An ICMP error about a packet of ours, for its transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Type: destination unreachable, source quench, redirect, time exceeded or parameter problem.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The last four bytes of the ICMP header: the next hop's MTU in the lower half, a gateway, or a pointer on top.
    pub info: u32,
    /// The interface that the error came by.
    pub ifindex: u16,
    /// Who sent the error.
    pub from: Addr,
    /// Source of the quoted packet: one of our addresses, or so the sender says.
    pub src: Addr,
    /// Its destination.
    pub dst: Addr,
    /// Its protocol.
    pub protocol: u8,
    /// Its time to live where the error was made.
    pub ttl: u8,
    /// The first bytes of its transport header.
    pub transport: [u8; QUOTED_TRANSPORT],
}

impl IcmpError {
    /// The packet was too long for a link on its way, and not to be cut.
    pub fn needs_fragments(&self) -> bool {
        (self.kind, self.code) == (wire_icmp::DEST_UNREACHABLE, wire_icmp::FRAGMENTATION_NEEDED)
    }

    /// A router has no way to the network or the host.
    pub fn no_way(&self) -> bool {
        self.kind == wire_icmp::DEST_UNREACHABLE
            && matches!(self.code, wire_icmp::NET_UNREACHABLE | wire_icmp::HOST_UNREACHABLE)
    }

    /// Of an error about a packet that was too long: the longest packet that passes; 0 from a router that does not tell.
    pub fn mtu(&self) -> u16 {
        self.info as u16
    }

    /// Of a parameter problem: the byte of the packet's header that made no sense, from 0.
    pub fn pointer(&self) -> u8 {
        (self.info >> 24) as u8
    }

    /// Of a redirect: the better gateway.
    pub fn gateway(&self) -> Addr {
        Addr::from_v4(self.info.to_be_bytes())
    }
}

/// `icmp_rcv`: a message whose data starts at the ICMP header.
///
/// Passes on an error about a packet of ours, for its protocol: [`delivered`] ends it.
pub fn rcv(cx: &mut Cx, skb: Skb) -> Fate<(Skb, IcmpError)> {
    cx.count(Counter::IcmpInMsgs);
    if skb.ip_summed != IpSummed::Unnecessary && !verify(&skb) {
        cx.count(Counter::IcmpInCsumErrors);
        return in_error(cx, skb, DropReason::IcmpCsum);
    }
    // For a message that is too short the kernel has no finer reason.
    let Some((header, _)) = IcmpHeader::parse(skb.data()) else { return in_error(cx, skb, DropReason::NotSpecified) };
    let header = *header;
    let kind = header.kind();
    cx.event(&skb, EventKind::IcmpRcv, u32::from(kind), u32::from(header.code()));
    count_in(cx, kind);
    if kind == EXTENDED_ECHO_REQUEST {
        return Fate::Consumed(skb, Consumed::Noted);
    }
    if kind > LAST_TYPE && kind != EXTENDED_ECHO_REPLY {
        return in_error(cx, skb, DropReason::UnhandledProto);
    }
    let Some((ip, _)) = Ipv4Header::parse(skb.network_header()) else {
        return in_error(cx, skb, DropReason::NotSpecified);
    };
    let (from, to) = (ip.src_addr(), ip.dst_addr());
    // RFC 1122 sections 3.2.2.6 and 3.2.2.8: requests to all are not answered.
    let to_all = matches!(cx.net.fib.addr_type(to), AddrType::Broadcast | AddrType::Multicast | AddrType::Unspecified);
    if to_all && !matches!(kind, ADDRESS_MASK_REQUEST | ADDRESS_MASK_REPLY) {
        return in_error(cx, skb, DropReason::InvalidProto);
    }
    match kind {
        wire_icmp::ECHO_REQUEST => reply::echo(cx, skb).into_fate(),
        wire_icmp::TIMESTAMP_REQUEST => reply::timestamp(cx, skb).into_fate(),
        // No ping socket waits for it.
        wire_icmp::ECHO_REPLY => Fate::Drop(skb, DropReason::NoSocket),
        wire_icmp::DEST_UNREACHABLE
        | SOURCE_QUENCH
        | wire_icmp::REDIRECT
        | wire_icmp::TIME_EXCEEDED
        | wire_icmp::PARAMETER_PROBLEM => error_received(cx, skb, header, from),
        _ => Fate::Consumed(skb, Consumed::Noted),
    }
}

/// Whether the message, over all pieces, sums to all ones.
fn verify(skb: &Skb) -> bool {
    let add = |(sum, odd): (u16, bool), piece: &[u8]| {
        (csum::combine(sum, csum::sum(piece), odd), odd ^ (piece.len() % 2 == 1))
    };
    skb.fragments().fold((0, false), add).0 == 0xffff
}

/// `icmp_unreach`, `icmp_redirect`: an error about a packet that we sent, or so its quotation says.
fn error_received(cx: &mut Cx, skb: Skb, header: IcmpHeader, from: Addr) -> Fate<(Skb, IcmpError)> {
    let quotation = skb.data().get(IcmpHeader::LEN..).unwrap_or_default();
    let Some((inner, _)) = Ipv4Header::parse(quotation) else { return in_error(cx, skb, DropReason::NotSpecified) };
    if inner.ihl() < 5 && header.kind() != wire_icmp::REDIRECT {
        return in_error(cx, skb, DropReason::IpInhdr);
    }
    let ignored = match header.kind() {
        wire_icmp::DEST_UNREACHABLE => header.code() > LAST_UNREACHABLE_CODE,
        // That a fragment is missing says nothing of the way there.
        wire_icmp::TIME_EXCEEDED => header.code() == wire_icmp::REASSEMBLY_EXCEEDED,
        _ => false,
    };
    if ignored {
        return Fate::Consumed(skb, Consumed::Noted);
    }
    match quotation_of(header, (from, skb.ifindex), inner, quotation) {
        // The number is reserved; the kernel has it for sockets that make their own headers, and takes no error for it.
        Some(error) if error.protocol != RAW => Fate::Pass((skb, error)),
        _ => delivered(cx, skb, false).into_fate(),
    }
}

/// `icmp_socket_deliver`: the end of an error. `known`: somebody here sent the packet that it is about.
pub fn delivered(cx: &mut Cx, skb: Skb, known: bool) -> End {
    if !known {
        cx.count(Counter::IcmpInErrors);
    }
    End::Consumed(skb, Consumed::Noted)
}

/// What the quotation tells; None if it ends within the first bytes of the transport header.
fn quotation_of(
    header: IcmpHeader,
    (from, ifindex): (Addr, u16),
    inner: &Ipv4Header,
    quotation: &[u8],
) -> Option<IcmpError> {
    let transport = quotation.get(inner.header_len()..)?.first_chunk::<QUOTED_TRANSPORT>()?;
    Some(IcmpError {
        kind: header.kind(),
        code: header.code(),
        info: header.rest(),
        ifindex,
        from,
        src: inner.src_addr(),
        dst: inner.dst_addr(),
        protocol: inner.protocol(),
        ttl: inner.ttl(),
        transport: *transport,
    })
}
