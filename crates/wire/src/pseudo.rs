//! The pseudo-header that transport checksums cover.

use crate::Addr;
use rxpath_arch::csum;

/// The folded, uncomplemented sum of the pseudo-header: addresses, protocol and the `len` bytes of
/// the segment with its header (RFC 9293 section 3.1 for IPv4, RFC 8200 section 8.1 for IPv6;
/// kernel: `csum_tcpudp_nofold`).
///
/// Both families go through one straight line: the prefix of a mapped IPv4 address adds `0xffff`,
/// which is zero in ones' complement.
#[inline]
pub fn pseudo_sum(src: Addr, dst: Addr, proto: u8, len: usize) -> u16 {
    let addresses = csum::fold(csum::total(&src.0) + csum::total(&dst.0)).swap_bytes();
    csum::sum_add(addresses, csum::fold(u64::from(proto) + len as u64))
}

/// The checksum field of a segment: the complement of the sum over pseudo-header and segment, in
/// which the field itself must be zero.
#[inline]
pub(crate) fn checksum(src: Addr, dst: Addr, proto: u8, segment: &[u8]) -> u16 {
    !csum::sum_add(pseudo_sum(src, dst, proto, segment.len()), csum::sum(segment))
}

/// Whether a segment that carries its checksum sums to all ones with its pseudo-header.
#[inline]
pub(crate) fn verify(src: Addr, dst: Addr, proto: u8, segment: &[u8]) -> bool {
    csum::sum_add(pseudo_sum(src, dst, proto, segment.len()), csum::sum(segment)) == 0xffff
}
