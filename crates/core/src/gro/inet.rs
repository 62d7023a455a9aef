//! Screening: which packets may merge at all, by protocol.
//!
//! Two small dispatches, as in the kernel: by EtherType (`packet_offload`) and by IP protocol (`net_offload`). TCP over
//! IPv4 has an entry; whatever has none passes at once.
//!
//! Mirrors `inet_gro_receive` up to the comparison with held packets.

use rxpath_arch::csum;
use rxpath_mem::Skb;
use rxpath_trace::GroPass;
use rxpath_wire::ipv4::{MORE_FRAGMENTS, OFFSET_MASK};
use rxpath_wire::{EtherType, IpProto};

use super::segment::Segment;
use crate::expect::{ETHERNET, FIXED, be16};

/// What screening makes of a packet.
pub(super) enum Screen {
    /// No candidate: it passes at once, ahead of what is held.
    Normal(GroPass),
    /// A TCP segment. It may merge, be held, or flush its flow.
    Tcp(Segment),
}

/// Who screens packets of an EtherType (`packet_offload`).
enum PacketOffload {
    Inet,
}

/// Who screens packets of an IP protocol (`net_offload`).
enum NetOffload {
    Tcp,
}

fn packet_offload(protocol: u16) -> Option<PacketOffload> {
    match protocol {
        EtherType::IPV4 => Some(PacketOffload::Inet),
        _ => None,
    }
}

fn net_offload(protocol: u8) -> Option<NetOffload> {
    match protocol {
        IpProto::TCP => Some(NetOffload::Tcp),
        _ => None,
    }
}

/// Screens a packet whose data starts at its network header.
#[inline]
pub(super) fn screen(skb: &Skb) -> Screen {
    match packet_offload(skb.protocol) {
        Some(PacketOffload::Inet) => inet(skb),
        None => Screen::Normal(GroPass::Protocol),
    }
}

/// The headers of a frame from its Ethernet header to the end of the linear data, if at least [`FIXED`] bytes.
#[inline]
pub(super) fn frame(skb: &Skb) -> Option<&[u8]> {
    let start = skb.network_off.checked_sub(ETHERNET as u16)?;
    let frame = skb.head_bytes(start, ETHERNET + skb.headlen());
    (frame.len() >= FIXED).then_some(frame)
}

/// `inet_gro_receive`: no options, no fragment, a good header checksum. A length that is not that of the frame
/// (trailing padding) and the reserved bit do not make it a stranger: such a packet flushes its flow.
fn inet(skb: &Skb) -> Screen {
    let Some(frame) = frame(skb) else { return Screen::Normal(short(skb)) };
    let Some(header) = frame.get(ETHERNET..).and_then(<[u8]>::first_chunk::<20>) else {
        return Screen::Normal(GroPass::IpHeader);
    };
    let Some(offload) = net_offload(header[9]) else { return Screen::Normal(GroPass::Protocol) };
    let fragment_word = be16(header, 6);
    let is_fragment = fragment_word & (MORE_FRAGMENTS | OFFSET_MASK) != 0;
    if header[0] != NO_OPTIONS || is_fragment {
        return Screen::Normal(GroPass::IpHeader);
    }
    if csum::sum_array(header) != 0xffff {
        return Screen::Normal(GroPass::Checksum);
    }
    let reserved = fragment_word & RESERVED != 0;
    let alone = usize::from(be16(header, 2)) != skb.len() || reserved || skb.gso_size != 0;
    match offload {
        NetOffload::Tcp => Segment::parse(skb, frame, alone).map_or_else(Screen::Normal, Screen::Tcp),
    }
}

/// A packet that has no room for TCP's header: of another protocol, or wrong.
fn short(skb: &Skb) -> GroPass {
    let is_other = skb.data().get(9).is_some_and(|protocol| net_offload(*protocol).is_none());
    if is_other { GroPass::Protocol } else { GroPass::IpHeader }
}

/// Version 4 and a header of 20 bytes.
const NO_OPTIONS: u8 = 0x45;
/// The bit of the fragment word that must be zero (RFC 791 section 3.1).
const RESERVED: u16 = 0x8000;
