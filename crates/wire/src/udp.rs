//! The UDP header (RFC 768).

use crate::{Addr, IpProto, pseudo};
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The UDP header: 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct UdpHeader {
    src_port: U16,
    dst_port: U16,
    len: U16,
    checksum: U16,
}

impl UdpHeader {
    /// Bytes of the header.
    pub const LEN: usize = 8;

    /// The header and what follows it; `None` when there are fewer than 8 bytes.
    #[inline]
    pub fn parse(datagram: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(datagram).ok()
    }

    /// The sender's port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        self.src_port.get()
    }

    /// The receiver's port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        self.dst_port.get()
    }

    /// The length field: bytes of header and payload as the sender claims.
    #[inline]
    pub fn length(&self) -> u16 {
        self.len.get()
    }

    /// The checksum as it stands; 0 says that there is none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }
}

/// The values of a UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpRepr {
    /// The sender's port.
    pub sport: u16,
    /// The receiver's port.
    pub dport: u16,
    /// Bytes of header and payload.
    pub len: u16,
}

/// Writes the header, with no checksum, to the front of `buf` and gives its length, 8.
///
/// # Panics
///
/// If `buf` is shorter than that.
pub fn emit(buf: &mut [u8], repr: UdpRepr) -> usize {
    let UdpRepr { sport, dport, len } = repr;
    let header = UdpHeader { src_port: sport.into(), dst_port: dport.into(), len: len.into(), checksum: 0.into() };
    buf[..UdpHeader::LEN].copy_from_slice(header.as_bytes());
    UdpHeader::LEN
}

/// Computes the checksum of a datagram, header and payload, and writes it to its place. A result of
/// 0 is sent as `0xffff`, because 0 says that there is none (RFC 768).
///
/// # Panics
///
/// If `datagram` is shorter than the header.
pub fn fill_checksum(src: Addr, dst: Addr, datagram: &mut [u8]) {
    datagram[6..8].fill(0);
    let checksum = match pseudo::checksum(src, dst, IpProto::UDP, datagram) {
        0 => 0xffff,
        checksum => checksum,
    };
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
}

/// Whether the checksum of a datagram, cut to its length field, is right or, over IPv4, absent (RFC
/// 768; RFC 8200 section 8.1 demands one). Bytes shorter than the header are not a right datagram.
#[inline]
pub fn verify(src: Addr, dst: Addr, datagram: &[u8]) -> bool {
    match UdpHeader::parse(datagram) {
        None => false,
        Some((header, _)) if header.checksum() == 0 => src.is_v4(),
        Some(_) => pseudo::verify(src, dst, IpProto::UDP, datagram),
    }
}
