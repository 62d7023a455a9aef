//! The frame that is expected: what a TCP segment over IPv4 looks like that follows another one of its flow.
//!
//! In a stream nearly every frame has the headers of the one before but for identification, sequence number and
//! checksums. So it can be compared whole with that one ([`pattern`]), and its checksums follow from sums that were made
//! once ([`TcpSum`], [`IpSum`]). Receive offload recognises segments so, and the socket whose run is under way.
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

/// A total whose sum is all ones is a multiple of this, or 0, which none is that counts in a protocol number or a version.
const ONES: u32 = 0xffff;

/// Of all segments of a flow: the total of the IPv4 header but for identification and checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IpSum(u32);

impl IpSum {
    /// Of segments with headers like these.
    pub fn of(headers: &[u8; LONGEST]) -> IpSum {
        let mut ip = [0; at::PORTS - ETHERNET];
        ip.copy_from_slice(&headers[ETHERNET..at::PORTS]);
        for varying in [at::ID, at::IP_CHECKSUM] {
            ip[varying - ETHERNET..][..2].fill(0);
        }
        IpSum(csum::fold(csum::total(&ip)).into())
    }

    /// Whether the checksum in the IPv4 header of a segment of the flow is right.
    #[inline(always)]
    pub fn is_right(self, frame: &[u8; FIXED]) -> bool {
        let varying = u32::from(le16(frame, at::ID)) + u32::from(le16(frame, at::IP_CHECKSUM));
        (self.0 + varying).is_multiple_of(ONES)
    }
}

/// Of all segments of a flow: the total of the pseudo-header and the TCP header but for sequence number and checksum.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TcpSum(u32);

impl TcpSum {
    /// Of segments of `payload` bytes with headers like these, which start at the Ethernet header.
    pub fn of(headers: &[u8; LONGEST], header_len: usize, payload: u32) -> TcpSum {
        let words = [at::TUPLE, at::TUPLE + 4, at::PORTS, at::ACK, at::DATA_OFFSET].map(|at| le32(headers, at));
        // The pseudo-header: both addresses, which are there already, the protocol, the length of the segment.
        let segment_len = (header_len - at::PORTS) as u32 + payload;
        let total = words.iter().sum::<u64>()
            + u64::from(le16(headers, at::URGENT))
            + csum::total(&headers[FIXED..header_len.clamp(FIXED, LONGEST)])
            + u64::from(u16::from(IpProto::TCP).swap_bytes())
            + u64::from((segment_len as u16).swap_bytes());
        TcpSum(csum::fold(total).into())
    }

    /// Whether the checksum in the TCP header of a segment is right, whose payload has this total.
    #[inline(always)]
    pub fn is_right(self, frame: &[u8; FIXED], payload: u64) -> bool {
        let varying = u64::from(be32(frame, at::SEQ).swap_bytes()) + u64::from(le16(frame, at::CHECKSUM));
        (u64::from(self.0) + varying + payload).is_multiple_of(u64::from(ONES))
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

/// Identification, fragment word, time to live, protocol and header checksum of an IPv4 header: what changes in it from
/// segment to segment, and the eight bytes around. As one number, so that one comparison and one addition do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ident(u64);

impl Ident {
    /// Of a frame.
    #[inline(always)]
    pub fn of(frame: &[u8; FIXED]) -> Ident {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&frame[at::ID..at::TUPLE]);
        Ident(u64::from_be_bytes(bytes))
    }

    /// Of a frame that has these headers, but for its identification.
    pub fn with(headers: &[u8; LONGEST], id: u16) -> Ident {
        let checksum = csum::update(be16(headers, at::IP_CHECKSUM), be16(headers, at::ID), id);
        let rest = u64::from(be32(headers, at::ID + 2)) & 0xffff_ffff;
        Ident(u64::from(id) << 48 | rest << 16 | u64::from(checksum))
    }

    /// Of the next segment, whose identification is more by `step`, 0 or 1: its checksum is less by as much. Where one of
    /// the two wraps this is no frame's: such a segment is not recognised, and is read in full.
    #[inline(always)]
    pub fn advance(&mut self, step: u16) {
        let step = u64::from(step);
        self.0 = self.0.wrapping_add((step << 48).wrapping_sub(step));
    }
}

/// A 16-bit field as checksums add it: bytes in the order of little-endian words.
#[inline(always)]
fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Two such fields at once.
#[inline(always)]
fn le32(bytes: &[u8], at: usize) -> u64 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]).into()
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
