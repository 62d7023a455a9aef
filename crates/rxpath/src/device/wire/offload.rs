//! What a network card does with a frame on its way: complete an open checksum, cut a super-frame into segments, verify.
//!
//! Mirrors `skb_checksum_help`, `tcp_gso_segment` with `inet_gso_segment`, and the receive checksum of a device. Frames
//! that are not what these work on are left alone; nothing here panics, whatever the bytes.

use rxpath_wire::{EtherType, EthernetHeader, IpProto, Ipv4Header, TcpFlags, TcpHeader, ipv4, tcp, udp};

/// Where the parts of an unfragmented IPv4 frame begin, as offsets from its start.
#[derive(Clone, Copy, Debug)]
struct Layout {
    ip: usize,
    transport: usize,
    /// End of the IP packet by its own length; padding follows.
    end: usize,
    proto: u8,
}

/// Looks behind at most one VLAN tag. None for anything but an unfragmented IPv4 packet that is all there.
fn layout(frame: &[u8]) -> Option<Layout> {
    let (ethernet, behind) = EthernetHeader::parse(frame)?;
    let (ethertype, ip) = match ethernet.ethertype() {
        EtherType::VLAN => (u16::from_be_bytes([*behind.get(2)?, *behind.get(3)?]), EthernetHeader::LEN + 4),
        ethertype => (ethertype, EthernetHeader::LEN),
    };
    let (header, _) = Ipv4Header::parse(frame.get(ip..)?)?;
    let (header_len, total_len) = (header.header_len(), usize::from(header.total_len()));
    let sound = ethertype == EtherType::IPV4 && header.version() == 4 && header_len >= Ipv4Header::LEN;
    let whole = header_len <= total_len && ip + total_len <= frame.len() && !header.is_fragment();
    let (transport, end, proto) = (ip + header_len, ip + total_len, header.protocol());
    (sound && whole).then_some(Layout { ip, transport, end, proto })
}

/// Fills in a checksum of which only the pseudo-header's part is there.
pub(super) fn complete(frame: &mut [u8]) {
    let Some(at) = layout(frame) else { return };
    if at.proto == IpProto::TCP && at.end - at.transport >= TcpHeader::LEN {
        tcp::complete(&mut frame[at.transport..at.end]);
    }
}

/// True if the transport checksum was looked at and is right: what makes a card say `CHECKSUM_UNNECESSARY`.
pub(super) fn verifies(frame: &[u8]) -> bool {
    let Some(at) = layout(frame) else { return false };
    let Some((ip, _)) = Ipv4Header::parse(&frame[at.ip..]) else { return false };
    let segment = &frame[at.transport..at.end];
    match at.proto {
        IpProto::TCP => TcpHeader::parse(segment).is_some() && tcp::verify(ip.src_addr(), ip.dst_addr(), segment),
        IpProto::UDP => udp::verify(ip.src_addr(), ip.dst_addr(), segment),
        _ => false,
    }
}

/// Cuts a TCP super-frame whose checksum is open into frames of at most `gso_size` payload bytes, each complete, and
/// hands each to `emit`. `scratch` is where they are built.
///
/// Sequence numbers and identifications count on, FIN and PSH stay with the last, CWR with the first. False, and nothing
/// emitted, if the frame is no TCP over IPv4.
pub(super) fn segment(frame: &[u8], gso_size: u16, scratch: &mut Vec<u8>, mut emit: impl FnMut(&[u8])) -> bool {
    let Some(at) = layout(frame).filter(|at| at.proto == IpProto::TCP && gso_size > 0) else { return false };
    let Some((ip, _)) = Ipv4Header::parse(&frame[at.ip..]) else { return false };
    let Some((header, _)) = TcpHeader::parse(&frame[at.transport..at.end]) else { return false };
    let headers = at.transport + header.header_len();
    if header.header_len() < TcpHeader::LEN || headers > at.end {
        return false;
    }
    let (src, dst, flags, seq) = (ip.src_addr(), ip.dst_addr(), header.flags(), header.seq());
    let payload = &frame[headers..at.end];
    let count = payload.len().div_ceil(usize::from(gso_size)).max(1);
    for index in 0..count {
        let start = index * usize::from(gso_size);
        let bytes = &payload[start..payload.len().min(start + usize::from(gso_size))];
        scratch.clear();
        scratch.extend_from_slice(&frame[..headers]);
        scratch.extend_from_slice(bytes);
        let mut clear = TcpFlags::NONE;
        if index + 1 < count {
            clear = clear.union(TcpFlags::FIN).union(TcpFlags::PSH);
        }
        if index > 0 {
            clear = clear.union(TcpFlags::CWR);
        }
        let (ip, _) = scratch[at.ip..].split_at_mut(at.transport - at.ip);
        patch_ip(ip, headers - at.ip + bytes.len(), index as u16);
        let segment = &mut scratch[at.transport..];
        segment[4..8].copy_from_slice(&(seq + start as u32).0.to_be_bytes());
        segment[13] = flags.0 & !clear.0;
        tcp::fill_checksum(src, dst, segment);
        emit(scratch);
    }
    true
}

/// Length and identification of the `index`-th segment.
fn patch_ip(header: &mut [u8], total_len: usize, index: u16) {
    if let Some((ip, _)) = Ipv4Header::parse_mut(header) {
        ip.set_total_len(total_len as u16);
        let id = ip.id().wrapping_add(index);
        ip.set_id(id);
    }
    ipv4::fill_checksum(header);
}

#[cfg(test)]
#[path = "offload_tests.rs"]
mod tests;
