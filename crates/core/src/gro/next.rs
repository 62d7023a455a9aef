//! The frame that comes next: what the one looks like that continues a held packet.
//!
//! Most fields of its headers are those of the first segment, which [`super::held::Held`] keeps; here is what changes
//! from segment to segment, and the sums of what does not.

use rxpath_arch::csum;
use rxpath_arch::expect::Pattern;
use rxpath_wire::SeqNum;

use super::segment::{ETHERNET, FIXED, LONGEST, at, be16, be32};

/// Bytes of all headers with 12 bytes of options: what every segment of a connection with timestamps carries.
pub(super) const STAMPED: usize = FIXED + 12;

/// A total whose sum is all ones is a multiple of this, or 0, which none is that counts in a protocol number.
const ONES: u32 = 0xffff;

/// The frame that comes next, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    /// Its length. 0: none is expected.
    pub frame_len: u32,
    /// Its sequence number.
    pub seq: SeqNum,
    /// Its identification.
    pub id: u16,
    /// 0 if all segments carry the same identification, 1 if they count.
    pub id_step: u16,
    /// The device's hash, which may be 0.
    pub hash: u32,
    /// Total of its pseudo-header and TCP header but for sequence number and checksum.
    tcp_total: u32,
    /// Total of its IPv4 header but for identification and checksum.
    ip_total: u32,
}

impl Next {
    /// The next segment begins at `seq`, and its identification is one more than `id`. Nothing is known of its headers.
    pub fn counting(seq: SeqNum, id: u16, hash: u32) -> Next {
        Next { frame_len: 0, seq, id: id.wrapping_add(1), id_step: 1, hash, tcp_total: 0, ip_total: 0 }
    }

    /// Its headers are as these, which start at the Ethernet header, and `payload` bytes follow.
    pub fn set_headers(&mut self, headers: &[u8; LONGEST], header_len: usize, payload: u32) {
        self.frame_len = header_len as u32 + payload;
        let mut blank = *headers;
        for varying in [at::ID..at::ID + 2, at::IP_CHECKSUM..at::TUPLE, at::SEQ..at::ACK, at::CHECKSUM..at::URGENT] {
            blank[varying].fill(0);
        }
        let ip = &blank[ETHERNET..at::PORTS];
        self.ip_total = csum::fold(csum::total(ip)).into();
        // The pseudo-header: both addresses, the protocol, the length of the segment.
        let segment_len = (self.frame_len - at::PORTS as u32) as u16;
        let pseudo = csum::total(&blank[at::TUPLE..at::PORTS])
            + u64::from(u16::from(rxpath_wire::IpProto::TCP).swap_bytes())
            + u64::from(segment_len.swap_bytes());
        self.tcp_total = csum::fold(csum::total(&blank[at::PORTS..header_len]) + pseudo).into();
    }

    /// Whether the fields of `frame` that change from segment to segment are those that come next, the IPv4 checksum
    /// among them. The others are for [`pattern`] to compare.
    #[inline(always)]
    pub fn follows(&self, frame: &[u8; FIXED]) -> bool {
        let ip = self.ip_total + u32::from(le16(frame, at::ID)) + u32::from(le16(frame, at::IP_CHECKSUM));
        let in_order = be32(frame, at::SEQ) == self.seq.0 && be16(frame, at::ID) == self.id;
        in_order && ip.is_multiple_of(ONES)
    }

    /// Whether the TCP checksum of the expected frame, whose payload has this total, is right.
    #[inline(always)]
    pub fn sums_up(&self, frame: &[u8; FIXED], payload: u64) -> bool {
        let varying = u64::from(be32(frame, at::SEQ).swap_bytes()) + u64::from(le16(frame, at::CHECKSUM));
        (u64::from(self.tcp_total) + varying + payload).is_multiple_of(u64::from(ONES))
    }

    /// Moves on by one segment of `len` payload bytes.
    #[inline(always)]
    pub fn advance(&mut self, len: u32) {
        self.seq += len;
        self.id = self.id.wrapping_add(self.id_step);
    }
}

/// What all headers of a merged packet have in common with `headers`, those of its first segment.
#[inline(always)]
pub(super) fn pattern<const N: usize>(headers: &[u8; LONGEST]) -> Option<Pattern<'_, N>> {
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
