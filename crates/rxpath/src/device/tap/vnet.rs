//! The header that a TAP with `IFF_VNET_HDR` puts in front of every frame (`struct virtio_net_hdr_v1`, VIRTIO 1.2
//! section 5.1.6), and what it means for a received and a transmitted packet.
//!
//! Pure: bytes and values in, values out. Whatever the header says, nothing here panics and nothing outside the frame is
//! touched; a header that contradicts its frame loses its say, and the stack then verifies for itself.

use rxpath_arch::csum;
use rxpath_mem::IpSummed;
use rxpath_wire::{EtherType, EthernetHeader, IpProto};

/// Bytes of the header, little-endian throughout.
pub(super) const LEN: usize = 12;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;

const VLAN_TAG_LEN: usize = 4;
const IPV6_HEADER_LEN: usize = 40;
/// Where the length of a TCP header is, from its start.
const TCP_DATA_OFFSET: usize = 12;
/// Where its flags are, and the one that tells of a window that was cut.
const TCP_FLAGS: usize = 13;
const TCP_CWR: u8 = 0x80;

/// The fields, in the order of the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VnetHeader {
    pub(super) flags: u8,
    pub(super) gso_type: u8,
    /// Bytes of all headers of a super-frame: a hint.
    pub(super) hdr_len: u16,
    /// Payload bytes per segment.
    pub(super) gso_size: u16,
    /// Where the checksum begins to sum, from the start of the frame.
    pub(super) csum_start: u16,
    /// Where the checksum is to be put, from `csum_start`.
    pub(super) csum_offset: u16,
    pub(super) num_buffers: u16,
}

impl VnetHeader {
    pub(super) fn from_bytes(bytes: &[u8; LEN]) -> VnetHeader {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        VnetHeader {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: u16_at(2),
            gso_size: u16_at(4),
            csum_start: u16_at(6),
            csum_offset: u16_at(8),
            num_buffers: u16_at(10),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        let words = [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset, self.num_buffers];
        for (to, word) in bytes[2..].chunks_exact_mut(2).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// What the header of a received frame says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// For the descriptor.
    pub(super) csum: IpSummed,
    /// Payload bytes per segment of a super-frame, else 0.
    pub(super) gso_size: u16,
    /// Its segments, else 0.
    pub(super) gso_segs: u16,
    /// The sender left a checksum open of which the stack would not know where it is: fill it in ([`fill`]).
    pub(super) fill: Option<OpenChecksum>,
}

/// A checksum that is still to be computed: the ones' complement sum from `start` on goes, complemented, to `at`, where a
/// pseudo-header's sum lies already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenChecksum {
    start: usize,
    at: usize,
}

/// Interprets the header of a frame of `len` bytes, of which `head` are at hand: the first 2,166 or all of them.
pub(super) fn received(header: VnetHeader, head: &[u8], len: usize) -> Received {
    let mut meaning = Received::default();
    if header.flags & NEEDS_CSUM != 0 {
        let start = usize::from(header.csum_start);
        let at = start + usize::from(header.csum_offset);
        if at + 2 > head.len() {
            return meaning;
        }
        if transport(head).is_some_and(|t| t.start == start && t.checksum_at() == Some(at)) {
            meaning.csum = IpSummed::Partial;
        } else {
            meaning.fill = Some(OpenChecksum { start, at });
        }
    } else if header.flags & DATA_VALID != 0 {
        meaning.csum = IpSummed::Unnecessary;
    }
    if matches!(header.gso_type & !GSO_ECN, GSO_TCPV4 | GSO_TCPV6)
        && header.gso_size > 0
        && let Some(payload) = transport(head).and_then(|t| len.checked_sub(t.payload_start(head)?))
        && payload > usize::from(header.gso_size)
    {
        meaning.gso_size = header.gso_size;
        meaning.gso_segs = payload.div_ceil(usize::from(header.gso_size)).min(usize::from(u16::MAX)) as u16;
    }
    meaning
}

/// Computes an open checksum over a frame that lies in two pieces, `head` and `rest`.
pub(super) fn fill(open: OpenChecksum, head: &mut [u8], rest: &[u8]) {
    let (Some(summed), true) = (head.get(open.start..), open.at + 2 <= head.len()) else { return };
    let odd = summed.len() % 2 == 1;
    let sum = csum::combine(csum::sum(summed), csum::sum(rest), odd);
    // A checksum of 0 means "none" in UDP; 0xffff is the same number (RFC 768).
    let value = if !sum == 0 { 0xffff } else { !sum };
    head[open.at..open.at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The header of a frame to be transmitted that begins with `head` and has `len` bytes. `csum_start` is where its
/// transport header begins.
///
/// None if the checksum is to be left open but no place for it can be told, or a super-frame is no TCP.
pub(super) fn for_transmit(
    ip_summed: IpSummed,
    gso_size: u16,
    csum_start: usize,
    head: &[u8],
    len: usize,
) -> Option<VnetHeader> {
    if ip_summed != IpSummed::Partial {
        return (gso_size == 0).then(VnetHeader::default);
    }
    let transport = transport(head).filter(|t| t.start == csum_start)?;
    let at = transport.checksum_at().filter(|at| at + 2 <= head.len())?;
    let mut header = VnetHeader {
        flags: NEEDS_CSUM,
        csum_start: u16::try_from(csum_start).ok()?,
        csum_offset: (at - csum_start) as u16,
        ..VnetHeader::default()
    };
    if gso_size > 0 {
        let payload_start = transport.payload_start(head)?;
        header.hdr_len = u16::try_from(payload_start).ok()?;
        if len.saturating_sub(payload_start) > usize::from(gso_size) {
            header.gso_type = if transport.ipv6 { GSO_TCPV6 } else { GSO_TCPV4 };
            // CWR stays with the first of the segments (RFC 3168 section 6.1.2).
            if head.get(csum_start + TCP_FLAGS).is_some_and(|flags| flags & TCP_CWR != 0) {
                header.gso_type |= GSO_ECN;
            }
            header.gso_size = gso_size;
        }
    }
    debug_assert!(header.gso_type == GSO_NONE || header.gso_size > 0);
    Some(header)
}

/// Where the transport header of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transport {
    start: usize,
    proto: u8,
    ipv6: bool,
}

impl Transport {
    /// Where the checksum lies in the frame, for the protocols whose checksum may be left open.
    fn checksum_at(self) -> Option<usize> {
        match self.proto {
            IpProto::TCP => Some(self.start + 16),
            IpProto::UDP => Some(self.start + 6),
            _ => None,
        }
    }

    /// Where the payload of a TCP segment begins, if `head` reaches that far.
    fn payload_start(self, head: &[u8]) -> Option<usize> {
        if self.proto != IpProto::TCP {
            return None;
        }
        let words = usize::from(head.get(self.start + TCP_DATA_OFFSET)? >> 4);
        (words >= 5 && self.start + words * 4 <= head.len()).then_some(self.start + words * 4)
    }
}

/// Finds the transport header of an unfragmented IPv4 packet, or of an IPv6 one without extension headers, behind at
/// most one VLAN tag.
fn transport(head: &[u8]) -> Option<Transport> {
    let (ethernet, _) = EthernetHeader::parse(head)?;
    let mut ethertype = ethernet.ethertype();
    let mut at = EthernetHeader::LEN;
    if ethertype == EtherType::VLAN {
        ethertype = u16::from_be_bytes([*head.get(at + 2)?, *head.get(at + 3)?]);
        at += VLAN_TAG_LEN;
    }
    match ethertype {
        EtherType::IPV4 => {
            let ihl = usize::from(head.get(at)? & 15) * 4;
            let fragment = u16::from_be_bytes([*head.get(at + 6)?, *head.get(at + 7)?]) & 0x3fff != 0;
            let proto = *head.get(at + 9)?;
            (ihl >= 20 && !fragment).then_some(Transport { start: at + ihl, proto, ipv6: false })
        }
        EtherType::IPV6 => {
            let proto = *head.get(at + 6)?;
            Some(Transport { start: at + IPV6_HEADER_LEN, proto, ipv6: true })
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "vnet_tests.rs"]
mod tests;
