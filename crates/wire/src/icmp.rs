//! The ICMP header (RFC 792).

use rxpath_arch::csum;
use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Type: answer to an echo request.
pub const ECHO_REPLY: u8 = 0;
/// Type: destination unreachable; the code says why.
pub const DEST_UNREACHABLE: u8 = 3;
/// Type: slow down (RFC 6633 retired it).
pub const SOURCE_QUENCH: u8 = 4;
/// Type: send it another way.
pub const REDIRECT: u8 = 5;
/// Type: send this back.
pub const ECHO_REQUEST: u8 = 8;
/// Type: time to live or time for reassembly ran out.
pub const TIME_EXCEEDED: u8 = 11;
/// Type: a header field made no sense.
pub const PARAMETER_PROBLEM: u8 = 12;
/// Type: what is your clock?
pub const TIMESTAMP_REQUEST: u8 = 13;
/// Type: answer to a timestamp request.
pub const TIMESTAMP_REPLY: u8 = 14;

/// Code of "destination unreachable": no route to its network.
pub const NET_UNREACHABLE: u8 = 0;
/// Code of "destination unreachable": no way to the host.
pub const HOST_UNREACHABLE: u8 = 1;
/// Code of "destination unreachable": larger than the way on allows, and not to be fragmented.
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// Code of "destination unreachable": forbidden by an administrator (RFC 1812 section 5.2.7.1).
pub const PROHIBITED: u8 = 13;
/// Code of "redirect": for the host.
pub const REDIRECT_HOST: u8 = 1;
/// Code of "time exceeded": the time to live, on the way.
pub const TTL_EXCEEDED: u8 = 0;
/// [`TIME_EXCEEDED`]: fragments of the packet stayed out (RFC 792).
pub const REASSEMBLY_EXCEEDED: u8 = 1;

/// Whether messages of this type are errors about a packet, which they quote.
#[inline]
pub const fn is_error(kind: u8) -> bool {
    matches!(kind, DEST_UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
}

/// The ICMP header: type, code, checksum and four bytes whose meaning depends on the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IcmpHeader {
    kind: u8,
    code: u8,
    checksum: U16,
    rest: U32,
}

impl IcmpHeader {
    /// Bytes of the header.
    pub const LEN: usize = 8;

    /// The header and what follows it; `None` when there are fewer than 8 bytes.
    #[inline]
    pub fn parse(message: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(message).ok()
    }

    /// The type.
    #[inline]
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// The code.
    #[inline]
    pub fn code(&self) -> u8 {
        self.code
    }

    /// The checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// The last four bytes as a number: gateway of a redirect, pointer of a parameter problem
    /// (upper byte).
    #[inline]
    pub fn rest(&self) -> u32 {
        self.rest.get()
    }

    /// Identifier of an echo or timestamp message.
    #[inline]
    pub fn echo_id(&self) -> u16 {
        (self.rest() >> 16) as u16
    }

    /// Sequence number of an echo or timestamp message.
    #[inline]
    pub fn echo_seq(&self) -> u16 {
        self.rest() as u16
    }

    /// MTU of the next hop in a "fragmentation needed" message (RFC 1191 section 4).
    #[inline]
    pub fn next_hop_mtu(&self) -> u16 {
        self.rest() as u16
    }
}

/// The values of an ICMP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpRepr {
    /// The type.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// The last four bytes, as a number; an echo's is `id << 16 | seq`.
    pub rest: u32,
}

/// Writes the header, with a zero checksum, to the front of `buf` and gives its length, 8.
///
/// # Panics
///
/// If `buf` is shorter than that.
pub fn emit(buf: &mut [u8], repr: IcmpRepr) -> usize {
    let IcmpRepr { kind, code, rest } = repr;
    let header = IcmpHeader { kind, code, checksum: 0.into(), rest: rest.into() };
    buf[..IcmpHeader::LEN].copy_from_slice(header.as_bytes());
    IcmpHeader::LEN
}

/// Computes the checksum of a message, header and data, and writes it to its place.
///
/// # Panics
///
/// If `message` is shorter than four bytes.
pub fn fill_checksum(message: &mut [u8]) {
    message[2..4].fill(0);
    let checksum = !csum::sum(message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
}

/// Whether a message, header and data, sums to all ones.
#[inline]
pub fn verify(message: &[u8]) -> bool {
    csum::sum(message) == 0xffff
}
