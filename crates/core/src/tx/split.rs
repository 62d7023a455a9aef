//! Packets that are too long for their way out, cut: into fragments, or into the segments that were merged.

use rxpath_arch::csum;
use rxpath_mem::{IpSummed, Skb, SkbQueue};
use rxpath_trace::{Consumed, Counter, DropReason, EventKind, MadeHow};
use rxpath_wire::{EtherType, IpProto, Ipv4Header, TcpFlags, TcpHeader, UdpHeader, ipv4, tcp, udp};

use crate::cx::Cx;

/// Option: end of the list.
const END: u8 = 0;
/// Option: nothing.
const NOP: u8 = 1;
/// Set in the type of an option that every fragment has.
const COPIED: u8 = 0x80;
/// Where the checksum lies in the headers of TCP and UDP.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// What is to be sent in the place of a packet that cannot leave as it is, by an interface with this `mtu`: the packet,
/// its checksum filled in, or its parts. One that cannot be cut ends here.
#[cold]
pub(super) fn cut(cx: &mut Cx, mut skb: Skb, mtu: usize) -> SkbQueue {
    let mut parts = SkbQueue::new();
    if skb.gso_size > 0 {
        let mut segments = gso_segment(cx, skb);
        while let Some(segment) = segments.pop_front() {
            if segment.len() > mtu {
                parts.append(&mut ip_fragment(cx, segment, mtu));
            } else {
                parts.push_back(segment);
            }
        }
    } else if skb.len() > mtu {
        parts = ip_fragment(cx, skb, mtu);
    } else if checksum_help(&mut skb) {
        parts.push_back(skb);
    } else {
        cx.drop_skb(skb, DropReason::SkbCsum);
    }
    parts
}

/// The packet is too long, and is not to be cut. Of one for another host that was found out before, and its sender was
/// told.
#[cold]
pub(super) fn too_big(cx: &mut Cx, skb: Skb) {
    cx.count(Counter::IpFragFails);
    cx.drop_skb(skb, DropReason::PktTooBig);
}

/// `skb_checksum_help`: fills in a checksum of which only the pseudo-header's part is there. False if there is no place
/// for it in the packet's first piece.
fn checksum_help(skb: &mut Skb) -> bool {
    if skb.ip_summed != IpSummed::Partial {
        return true;
    }
    let Some((header, _)) = Ipv4Header::parse(skb.data()) else { return false };
    let at = header.header_len();
    let place = at
        + match header.protocol() {
            IpProto::TCP => TCP_CHECKSUM,
            IpProto::UDP => UDP_CHECKSUM,
            _ => return false,
        };
    let mut skip = at;
    let (sum, _) = skb.fragments().fold((0, false), |(sum, odd), piece| {
        let piece = piece.get(skip..).unwrap_or_default();
        skip = 0;
        (csum::combine(sum, csum::sum(piece), odd), odd ^ (piece.len() % 2 == 1))
    });
    let udp = place == at + UDP_CHECKSUM;
    let Some(field) = skb.data_mut().get_mut(place..place + 2) else { return false };
    // RFC 768: a sum of zero is sent as all ones, as zero says that there is none.
    let checksum = if udp && sum == 0xffff { 0xffff } else { !sum };
    field.copy_from_slice(&checksum.to_be_bytes());
    skb.ip_summed = IpSummed::None;
    true
}

/// `ip_fragment`, `ip_do_fragment`: the packet in fragments, each in a slot of its own, as long as the interface allows.
fn ip_fragment(cx: &mut Cx, mut skb: Skb, mtu: usize) -> SkbQueue {
    let mut fragments = SkbQueue::new();
    let parsed = Ipv4Header::parse(skb.data()).map(|(header, _)| (*header, header.header_len()));
    let cut = parsed.map(|(header, header_len)| (header, header_len, mtu.saturating_sub(header_len)));
    let Some((header, header_len, room)) = cut.filter(|(header, _, room)| !header.dont_fragment() && *room >= 8) else {
        too_big(cx, skb);
        return fragments;
    };
    if !checksum_help(&mut skb) {
        cx.count(Counter::IpFragFails);
        cx.drop_skb(skb, DropReason::SkbCsum);
        return fragments;
    }
    let payload = skb.len() - header_len;
    let mut next = 0;
    while next < payload {
        let from = next;
        // The last one alone may end anywhere.
        let len = if payload - from <= room { payload - from } else { room & !7 };
        next += len;
        let more = from + len < payload || header.more_fragments();
        let offset = (usize::from(header.fragment_offset()) + from) / 8;
        let word = offset as u16 | if more { ipv4::MORE_FRAGMENTS } else { 0 };
        let Some(piece) = part(cx, &skb, header_len, (header_len + from, len), MadeHow::Fragmented, |packet| {
            if from > 0 {
                options_fragment(&mut packet[..header_len]);
            }
            if let Some((header, _)) = Ipv4Header::parse_mut(packet) {
                header.set_fragment_word(word);
            }
            finish_header(packet, header_len);
        }) else {
            // Those that were made leave, as in the kernel.
            cx.count(Counter::IpFragFails);
            cx.drop_skb(skb, DropReason::Nomem);
            return fragments;
        };
        cx.count(Counter::IpFragCreates);
        fragments.push_back(piece);
    }
    cx.count(Counter::IpFragOKs);
    cx.consume(skb, Consumed::Split);
    fragments
}

/// `ip_options_fragment`: options that only the first fragment has become nothing in the others.
fn options_fragment(header: &mut [u8]) {
    let mut at = Ipv4Header::LEN;
    while let Some(&kind) = header.get(at) {
        let len = match kind {
            END => return,
            NOP => 1,
            _ => header.get(at + 1).map_or(0, |len| usize::from(*len)),
        };
        let Some(option) = header.get_mut(at..at + len).filter(|_| kind == NOP || len >= 2) else { return };
        if kind & COPIED == 0 {
            option.fill(NOP);
        }
        at += len;
    }
}

/// What is told apart of the segments of a packet.
enum Transport {
    Tcp(TcpHeader),
    Udp,
}

/// `tcp4_gso_segment`, `__udp_gso_segment`: the segments that a packet was merged of, or is to leave in, for a device that
/// cannot cut it.
pub(super) fn gso_segment(cx: &mut Cx, skb: Skb) -> SkbQueue {
    let mut segments = SkbQueue::new();
    let gso_size = usize::from(skb.gso_size);
    let Some((ip, transport, end)) = headers_of(&skb) else {
        cx.drop_skb(skb, DropReason::SkbGsoSeg);
        return segments;
    };
    let (at, payload) = (ip.header_len(), skb.len() - end);
    for (index, from) in (0..payload).step_by(gso_size).enumerate() {
        let len = gso_size.min(payload - from);
        let last = from + len == payload;
        let Some(piece) = part(cx, &skb, end, (end + from, len), MadeHow::Segmented, |packet| {
            if let Some((ip, _)) = Ipv4Header::parse_mut(packet) {
                ip.set_id(ip.id().wrapping_add(index as u16));
            }
            finish_header(packet, at);
            let segment = &mut packet[at..];
            match &transport {
                Transport::Tcp(header) => tcp_segment(segment, header, (from, index == 0, last), &ip),
                Transport::Udp => {
                    let len = segment.len() as u16;
                    segment[4..6].copy_from_slice(&len.to_be_bytes());
                    udp::fill_checksum(ip.src_addr(), ip.dst_addr(), segment);
                }
            }
        }) else {
            cx.drop_skb(skb, DropReason::Nomem);
            return segments;
        };
        segments.push_back(piece);
    }
    cx.consume(skb, Consumed::Split);
    segments
}

/// The headers of a packet that is to be cut, and where they end.
fn headers_of(skb: &Skb) -> Option<(Ipv4Header, Transport, usize)> {
    let (ip, _) = Ipv4Header::parse(skb.data())?;
    let at = ip.header_len();
    let behind = skb.data().get(at..)?;
    let (transport, len) = match ip.protocol() {
        IpProto::TCP => {
            let (header, _) = TcpHeader::parse(behind).filter(|(header, _)| header.header_len() >= TcpHeader::LEN)?;
            (Transport::Tcp(*header), header.header_len())
        }
        IpProto::UDP => (Transport::Udp, UdpHeader::LEN),
        _ => return None,
    };
    let end = at + len;
    (end <= skb.headlen()).then_some((*ip, transport, end))
}

/// The header of a segment whose payload begins `from` bytes into the whole.
fn tcp_segment(segment: &mut [u8], header: &TcpHeader, (from, first, last): (usize, bool, bool), ip: &Ipv4Header) {
    let mut flags = header.flags().0;
    if !last {
        flags &= !(TcpFlags::FIN.0 | TcpFlags::PSH.0);
    }
    if !first {
        flags &= !TcpFlags::CWR.0;
    }
    let seq = header.seq() + from as u32;
    segment[4..8].copy_from_slice(&seq.0.to_be_bytes());
    segment[13] = flags;
    tcp::fill_checksum(ip.src_addr(), ip.dst_addr(), segment);
}

/// A packet of its own: the first `headers` bytes of `skb` and `len` bytes `from` there, as `write` changes them. None if
/// the pool is dry.
fn part(
    cx: &mut Cx,
    skb: &Skb,
    headers: usize,
    (from, len): (usize, usize),
    how: MadeHow,
    write: impl FnOnce(&mut [u8]),
) -> Option<Skb> {
    let mut piece = cx.alloc_part(headers + len)?;
    let packet = piece.put(headers + len);
    skb.copy_to(0, &mut packet[..headers]);
    skb.copy_to(from, &mut packet[headers..]);
    skb.note_copied();
    write(packet);
    cx.count_n(Counter::CopiedSplit, (headers + len) as u64);
    piece.set_network_header_here();
    piece.transport_off = piece.network_off + (skb.transport_off - skb.network_off);
    (piece.protocol, piece.ifindex) = (EtherType::IPV4, skb.ifindex);
    piece.set_traced(skb.traced());
    cx.event_with(&piece, EventKind::Made, how as u32, (headers + len) as u32, skb.id);
    Some(piece)
}

/// Total length and checksum of a header that is `header_len` bytes long.
fn finish_header(packet: &mut [u8], header_len: usize) {
    let total_len = packet.len() as u16;
    if let Some((header, _)) = Ipv4Header::parse_mut(packet) {
        header.set_total_len(total_len);
    }
    if let Some(header) = packet.get_mut(..header_len) {
        ipv4::fill_checksum(header);
    }
}
