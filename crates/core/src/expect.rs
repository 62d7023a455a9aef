//! The frame that is expected: what a TCP segment over IPv4 looks like that follows another one of its flow.
//!
//! In a stream nearly every frame has the headers of the one before but for identification, sequence number and
//! checksums. So it can be compared whole with what follows from that one ([`Headers`]), and its checksums follow from
//! sums that were made once ([`TcpSum`], [`IpSum`]). Receive offload recognises segments so, and the socket whose run is
//! under way.
//!
//! Offsets count from the Ethernet header of an IPv4 packet without options.

use rxpath_arch::csum;
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

    /// Whether the checksum in the TCP header of a segment is right, whose sequence number, checksum and payload have this
    /// total.
    #[inline(always)]
    pub fn is_right(self, total: u32) -> bool {
        (self.0 + total).is_multiple_of(ONES)
    }

    /// The same, if `total` is without the payload.
    #[inline(always)]
    pub fn is_right_with(self, total: u32, payload: &[u8]) -> bool {
        self.is_right(total + u32::from(csum::fold(csum::total(payload))))
    }
}

/// Headers of `N` bytes.
pub(crate) struct Headers<const N: usize>;

impl<const N: usize> Headers<N> {
    /// All bits but those of the TCP checksum.
    pub const COUNTED: [u8; N] = without([at::CHECKSUM, 51]);
    /// All bits but those of identification and checksums.
    pub const COMMON: [u8; N] = without([at::ID, 19, at::IP_CHECKSUM, 25, at::CHECKSUM, 51]);
    /// Of the last 32 bytes, the sequence number.
    pub const SEQ: [u8; 32] = Self::of_last(at::SEQ, 4, [0; 32]);
    /// Of the last 32 bytes, what [`TcpSum`] leaves to be added: sequence number and checksum.
    pub const SUMMED: [u8; 32] = Self::of_last(at::CHECKSUM, 2, Self::SEQ);

    const fn of_last(start: usize, len: usize, mut mask: [u8; 32]) -> [u8; 32] {
        let mut index = 0;
        while index < len {
            mask[start + index + 32 - N] = 0xff;
            index += 1;
        }
        mask
    }
}

/// What is added to the first 32 bytes of headers whose identification counts: the checksum falls as it grows. Where one
/// of the two wraps this gives no frame's header: such a segment is not recognised, and is read in full.
pub(crate) static COUNTING: [u8; 32] = {
    let mut step = [0; 32];
    step[at::ID + 1] = 1;
    step[at::IP_CHECKSUM] = 0xff;
    step[at::IP_CHECKSUM + 1] = 0xff;
    step
};

/// What is added where it does not count.
pub(crate) static CONSTANT: [u8; 32] = [0; 32];

const _: () = assert!(at::ID == 18 && at::IP_CHECKSUM == 24 && at::CHECKSUM == 50, "and their second bytes");

/// All bits of headers but those of some bytes.
const fn without<const N: usize, const M: usize>(bytes: [usize; M]) -> [u8; N] {
    let mut mask = [0xff; N];
    let mut index = 0;
    while index < M {
        mask[bytes[index]] = 0;
        index += 1;
    }
    mask
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
