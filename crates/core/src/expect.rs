//! The frame that is expected: what a TCP segment over IPv4 looks like that follows another one of its flow.
//!
//! In a stream nearly every frame has the headers of the one before but for identification, sequence number and
//! checksums. So it can be compared whole with that one ([`pattern`]), and its checksums follow from sums that were made
//! once ([`Sums`]). Receive offload recognises segments so, and the socket whose run is under way.
//!
//! Offsets count from the Ethernet header of an IPv4 packet without options.

use rxpath_arch::csum;
use rxpath_arch::expect::Pattern;
use rxpath_wire::IpProto;

/// Bytes of the Ethernet header.
pub(crate) const ETHERNET: usize = 14;
/// Bytes of the fixed headers: Ethernet, IPv4 and TCP without options.
pub(crate) const FIXED: usize = 54;
/// Bytes of all headers with 12 bytes of options: what every segment of a connection with timestamps carries.
pub(crate) const STAMPED: usize = FIXED + 12;
/// Bytes of the longest headers: with 40 bytes of TCP options.
pub(crate) const LONGEST: usize = FIXED + 40;

/// Where the fields lie in the frame.
pub(crate) mod at {
    /// Identification.
    pub const ID: usize = 18;
    /// IPv4 header checksum.
    pub const IP_CHECKSUM: usize = 24;
    /// Source address, destination address, source port, destination port: 12 bytes.
    pub const TUPLE: usize = 26;
    /// Source port: here the TCP header begins.
    pub const PORTS: usize = 34;
    /// Sequence number.
    pub const SEQ: usize = 38;
    /// Acknowledgement number.
    pub const ACK: usize = 42;
    /// Data offset, in the upper four bits.
    pub const DATA_OFFSET: usize = 46;
    /// Flags.
    pub const FLAGS: usize = 47;
    /// Window.
    pub const WINDOW: usize = 48;
    /// TCP checksum.
    pub const CHECKSUM: usize = 50;
    /// Urgent pointer.
    pub const URGENT: usize = 52;
}

/// Totals over headers, of what all segments of a flow have in common.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    /// Of the pseudo-header and the TCP header but for sequence number and checksum.
    tcp: u32,
    /// Of the IPv4 header but for identification and checksum.
    ip: u32,
}

/// A total whose sum is all ones is a multiple of this, or 0, which none is that counts in a protocol number.
const ONES: u32 = 0xffff;

impl Sums {
    /// Of segments of `payload` bytes with headers like these, which start at the Ethernet header.
    pub fn of(headers: &[u8; LONGEST], header_len: usize, payload: u32) -> Sums {
        let mut blank = *headers;
        for varying in [at::ID..at::ID + 2, at::IP_CHECKSUM..at::TUPLE, at::SEQ..at::ACK, at::CHECKSUM..at::URGENT] {
            blank[varying].fill(0);
        }
        let (ip, tcp) = blank[ETHERNET..header_len.clamp(FIXED, LONGEST)].split_at(at::PORTS - ETHERNET);
        // The pseudo-header: both addresses, the protocol, the length of the segment.
        let segment_len = tcp.len() as u32 + payload;
        let pseudo = csum::total(&blank[at::TUPLE..at::PORTS])
            + u64::from(u16::from(IpProto::TCP).swap_bytes())
            + u64::from((segment_len as u16).swap_bytes());
        Sums { tcp: csum::fold(csum::total(tcp) + pseudo).into(), ip: csum::fold(csum::total(ip)).into() }
    }

    /// Whether the checksum in the IPv4 header of a segment of the flow is right.
    #[inline(always)]
    pub fn ip_is_right(&self, frame: &[u8; FIXED]) -> bool {
        let varying = u32::from(le16(frame, at::ID)) + u32::from(le16(frame, at::IP_CHECKSUM));
        (self.ip + varying).is_multiple_of(ONES)
    }

    /// Whether the checksum in the TCP header of a segment is right, whose payload has this total.
    #[inline(always)]
    pub fn tcp_is_right(&self, frame: &[u8; FIXED], payload: u64) -> bool {
        let varying = u64::from(be32(frame, at::SEQ).swap_bytes()) + u64::from(le16(frame, at::CHECKSUM));
        (u64::from(self.tcp) + varying + payload).is_multiple_of(u64::from(ONES))
    }
}

/// What all headers of a flow's segments have in common with these: all but identification, sequence number and
/// checksums.
#[inline(always)]
pub(crate) fn pattern<const N: usize>(headers: &[u8; LONGEST]) -> Option<Pattern<'_, N>> {
    Some(Pattern { header: headers.first_chunk()?, mask: COMMON.first_chunk()? })
}

/// All bits but those of identification, both checksums and sequence number.
static COMMON: [u8; LONGEST] = {
    let mut mask = [0xff; LONGEST];
    let mut index = 0;
    while index < LONGEST {
        if matches!(index, at::ID | 19 | at::IP_CHECKSUM | 25 | at::SEQ..at::ACK | at::CHECKSUM | 51) {
            mask[index] = 0;
        }
        index += 1;
    }
    mask
};

const _: () = assert!(at::ID == 18 && at::IP_CHECKSUM == 24 && at::CHECKSUM == 50, "the second bytes in `COMMON`");

/// A 16-bit field as checksums add it: bytes in the order of little-endian words.
#[inline(always)]
fn le16(bytes: &[u8; FIXED], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// A 16-bit field.
#[inline(always)]
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// A 32-bit field.
#[inline(always)]
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
