//! The IPv4 header (RFC 791 section 3.1).

use crate::Addr;
use rxpath_arch::csum;
use std::net::Ipv4Addr;
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The protocol numbers that the stack knows by name.
#[derive(Debug)]
pub enum IpProto {}

impl IpProto {
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// IGMP (RFC 3376).
    pub const IGMP: u8 = 2;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// UDP-Lite (RFC 3828).
    pub const UDPLITE: u8 = 136;
}

/// Bit of the fragment word: do not fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// Bit of the fragment word: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// Bits of the fragment word: the offset in units of eight bytes.
pub const OFFSET_MASK: u16 = 0x1fff;

/// The fixed part of the IPv4 header: 20 bytes. Options, if any, are at the front of what `parse`
/// gives behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv4Header {
    version_ihl: u8,
    tos: u8,
    total_len: U16,
    id: U16,
    fragment: U16,
    ttl: u8,
    protocol: u8,
    checksum: U16,
    src: [u8; 4],
    dst: [u8; 4],
}

impl Ipv4Header {
    /// Bytes of the fixed part, and the shortest header.
    pub const LEN: usize = 20;

    /// The fixed part and what follows it; `None` when there are fewer than 20 bytes. No field is
    /// judged.
    #[inline]
    pub fn parse(packet: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(packet).ok()
    }

    /// [`Ipv4Header::parse`] for writing.
    #[inline]
    pub fn parse_mut(packet: &mut [u8]) -> Option<(&mut Self, &mut [u8])> {
        Self::mut_from_prefix(packet).ok()
    }

    /// Header, options and payload of a packet whose version and lengths hold together, the payload
    /// cut to the total length (so without padding of the link); `None` otherwise. The checksum is
    /// not looked at.
    pub fn split(packet: &[u8]) -> Option<(&Self, &[u8], &[u8])> {
        let (header, rest) = Self::parse(packet)?;
        if header.version() != 4 {
            return None;
        }
        let options = header.header_len().checked_sub(Self::LEN)?;
        let behind = usize::from(header.total_len()).checked_sub(Self::LEN)?;
        let (options, payload) = rest.get(..behind)?.split_at_checked(options)?;
        Some((header, options, payload))
    }

    /// The version, 4 in a packet that is what it claims to be.
    #[inline]
    pub fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// The header's length in 32-bit words, at least 5 in a valid one.
    #[inline]
    pub fn ihl(&self) -> u8 {
        self.version_ihl & 0xf
    }

    /// The header's length in bytes as it claims, 0 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.ihl()) * 4
    }

    /// The first byte: version and header length. `0x45` is a header without options.
    #[inline]
    pub fn version_ihl(&self) -> u8 {
        self.version_ihl
    }

    /// The type of service: DSCP in the upper six bits, ECN in the lower two.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.tos
    }

    /// The ECN field (RFC 3168 section 5): 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE.
    #[inline]
    pub fn ecn(&self) -> u8 {
        self.tos & 3
    }

    /// Bytes of header and payload.
    #[inline]
    pub fn total_len(&self) -> u16 {
        self.total_len.get()
    }

    /// The identification.
    #[inline]
    pub fn id(&self) -> u16 {
        self.id.get()
    }

    /// Fragment flags and offset as one word, for [`DONT_FRAGMENT`], [`MORE_FRAGMENTS`] and
    /// [`OFFSET_MASK`].
    #[inline]
    pub fn fragment_word(&self) -> u16 {
        self.fragment.get()
    }

    /// Whether routers may not cut the packet.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.fragment_word() & DONT_FRAGMENT != 0
    }

    /// Whether fragments follow this one.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.fragment_word() & MORE_FRAGMENTS != 0
    }

    /// Where this fragment's payload belongs, in bytes, 0 to 65,528.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        (self.fragment_word() & OFFSET_MASK) * 8
    }

    /// Whether this is a part of a datagram (kernel: `ip_is_fragment`).
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment_word() & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// The time to live, in hops.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.ttl
    }

    /// What the packet carries, of [`IpProto`].
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The header checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// The source address.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        self.src.into()
    }

    /// The destination address.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        self.dst.into()
    }

    /// The source as an [`Addr`].
    #[inline]
    pub fn src_addr(&self) -> Addr {
        Addr::from_v4(self.src)
    }

    /// The destination as an [`Addr`].
    #[inline]
    pub fn dst_addr(&self) -> Addr {
        Addr::from_v4(self.dst)
    }

    /// The folded sum of the 20 bytes of the fixed part, straight-line code. `0xffff` is the sum of
    /// a header without options whose checksum is right.
    #[inline]
    pub fn sum(&self) -> u16 {
        csum::sum_array(zerocopy::transmute_ref!(self) as &[u8; 20])
    }

    /// [`pseudo_sum`](crate::pseudo_sum) of these addresses and this protocol over `len` bytes of
    /// transport header and payload.
    #[inline]
    pub fn pseudo_sum(&self, len: usize) -> u16 {
        let [src, dst] = [self.src, self.dst].map(|octets| u64::from(u32::from_be_bytes(octets)));
        csum::fold(src + dst + u64::from(self.protocol) + len as u64)
    }

    /// The same as a total of little-endian words, not folded: for [`csum::is_all_ones`]. Below 2^34.
    #[inline(always)]
    pub fn pseudo_total(&self, len: usize) -> u64 {
        let [src, dst] = [self.src, self.dst].map(|octets| u64::from(u32::from_le_bytes(octets)));
        src + dst + (u64::from(self.protocol) << 8) + u64::from((len as u16).swap_bytes())
    }

    /// Writes the total length, without touching the checksum.
    #[inline]
    pub fn set_total_len(&mut self, total_len: u16) {
        self.total_len.set(total_len);
    }

    /// Writes the type of service, without touching the checksum.
    #[inline]
    pub fn set_tos(&mut self, tos: u8) {
        self.tos = tos;
    }

    /// Writes the identification, without touching the checksum.
    #[inline]
    pub fn set_id(&mut self, id: u16) {
        self.id.set(id);
    }

    /// Writes fragment flags and offset, without touching the checksum.
    #[inline]
    pub fn set_fragment_word(&mut self, word: u16) {
        self.fragment.set(word);
    }

    /// Writes the time to live, without touching the checksum.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        self.ttl = ttl;
    }

    /// Writes the source address, without touching the checksum.
    #[inline]
    pub fn set_src(&mut self, src: Ipv4Addr) {
        self.src = src.octets();
    }

    /// Writes the destination address, without touching the checksum.
    #[inline]
    pub fn set_dst(&mut self, dst: Ipv4Addr) {
        self.dst = dst.octets();
    }

    /// Writes the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        self.checksum.set(checksum);
    }
}

/// Whether a header sums to all ones. `header` is the whole of it, options included, and nothing
/// else.
#[inline]
pub fn verify(header: &[u8]) -> bool {
    csum::sum(header) == 0xffff
}

/// Computes the checksum of `header`, the whole of it with options, and writes it to its place
/// (kernel: `ip_send_check`).
///
/// # Panics
///
/// If `header` is shorter than 20 bytes.
pub fn fill_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let checksum = !csum::sum(header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// The values of an IPv4 header without options that is no fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Repr {
    /// The source address.
    pub src: Ipv4Addr,
    /// The destination address.
    pub dst: Ipv4Addr,
    /// What the packet carries, of [`IpProto`].
    pub proto: u8,
    /// The time to live, in hops.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// The identification.
    pub id: u16,
    /// Whether routers may not cut the packet.
    pub df: bool,
    /// Bytes of header and payload.
    pub total_len: u16,
}

/// Writes the header with its checksum to the front of `buf` and gives its length, 20.
///
/// # Panics
///
/// If `buf` is shorter than that.
#[inline]
pub fn emit(buf: &mut [u8], repr: Ipv4Repr) -> usize {
    let mut header = Ipv4Header {
        version_ihl: 0x45,
        tos: repr.tos,
        total_len: repr.total_len.into(),
        id: repr.id.into(),
        fragment: if repr.df { DONT_FRAGMENT } else { 0 }.into(),
        ttl: repr.ttl,
        protocol: repr.proto,
        checksum: 0.into(),
        src: repr.src.octets(),
        dst: repr.dst.octets(),
    };
    header.set_checksum(!header.sum());
    buf[..Ipv4Header::LEN].copy_from_slice(header.as_bytes());
    Ipv4Header::LEN
}
