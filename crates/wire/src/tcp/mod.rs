//! The TCP header (RFC 9293 section 3.1), its flags, its checksum, and its emission.

mod fast_open;
mod options;

pub use fast_open::FastOpen;
pub use options::{MAX_WSCALE, TcpOptions, TcpOptionsWriter};

use crate::{Addr, IpProto, SeqNum, pseudo, pseudo_sum};
use rxpath_arch::csum;
use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not};
use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Longest header: the data offset counts to 15 words.
pub const MAX_HEADER_LEN: usize = 60;
/// Longest options field: what [`MAX_HEADER_LEN`] leaves.
pub const MAX_OPTIONS_LEN: usize = 40;

/// The eight control bits of a TCP header.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No flag at all.
    pub const NONE: TcpFlags = TcpFlags(0);
    /// No more data from the sender.
    pub const FIN: TcpFlags = TcpFlags(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: TcpFlags = TcpFlags(0x02);
    /// Reset the connection.
    pub const RST: TcpFlags = TcpFlags(0x04);
    /// Push: do not wait for more.
    pub const PSH: TcpFlags = TcpFlags(0x08);
    /// The acknowledgment field counts.
    pub const ACK: TcpFlags = TcpFlags(0x10);
    /// The urgent pointer counts.
    pub const URG: TcpFlags = TcpFlags(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: TcpFlags = TcpFlags(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: TcpFlags = TcpFlags(0x80);

    /// Whether all of `flags` are set.
    #[inline(always)]
    pub const fn contains(self, flags: TcpFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether at least one of `flags` is set.
    #[inline(always)]
    pub const fn intersects(self, flags: TcpFlags) -> bool {
        self.0 & flags.0 != 0
    }

    /// [`BitOr`] for constants.
    #[inline(always)]
    pub const fn union(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }

    /// Whether [`TcpFlags::FIN`] is set.
    #[inline(always)]
    pub const fn fin(self) -> bool {
        self.contains(TcpFlags::FIN)
    }

    /// Whether [`TcpFlags::SYN`] is set.
    #[inline(always)]
    pub const fn syn(self) -> bool {
        self.contains(TcpFlags::SYN)
    }

    /// Whether [`TcpFlags::RST`] is set.
    #[inline(always)]
    pub const fn rst(self) -> bool {
        self.contains(TcpFlags::RST)
    }

    /// Whether [`TcpFlags::PSH`] is set.
    #[inline(always)]
    pub const fn psh(self) -> bool {
        self.contains(TcpFlags::PSH)
    }

    /// Whether [`TcpFlags::ACK`] is set.
    #[inline(always)]
    pub const fn ack(self) -> bool {
        self.contains(TcpFlags::ACK)
    }

    /// Whether [`TcpFlags::URG`] is set.
    #[inline(always)]
    pub const fn urg(self) -> bool {
        self.contains(TcpFlags::URG)
    }

    /// How much sequence space SYN and FIN take: one each (RFC 9293 section 3.4).
    #[inline(always)]
    pub const fn seq_len(self) -> u32 {
        self.syn() as u32 + self.fin() as u32
    }
}

impl BitOr for TcpFlags {
    type Output = TcpFlags;

    #[inline(always)]
    fn bitor(self, other: TcpFlags) -> TcpFlags {
        self.union(other)
    }
}

impl BitOrAssign for TcpFlags {
    #[inline(always)]
    fn bitor_assign(&mut self, other: TcpFlags) {
        *self = self.union(other);
    }
}

impl BitAnd for TcpFlags {
    type Output = TcpFlags;

    #[inline(always)]
    fn bitand(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 & other.0)
    }
}

impl Not for TcpFlags {
    type Output = TcpFlags;

    #[inline(always)]
    fn not(self) -> TcpFlags {
        TcpFlags(!self.0)
    }
}

impl fmt::Display for TcpFlags {
    /// The names with `|` between them, `SYN|ACK`, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(TcpFlags, &str); 8] = [
            (TcpFlags::SYN, "SYN"),
            (TcpFlags::FIN, "FIN"),
            (TcpFlags::RST, "RST"),
            (TcpFlags::PSH, "PSH"),
            (TcpFlags::ACK, "ACK"),
            (TcpFlags::URG, "URG"),
            (TcpFlags::ECE, "ECE"),
            (TcpFlags::CWR, "CWR"),
        ];
        let set: Vec<&str> = NAMES.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| *name).collect();
        f.pad(&if set.is_empty() { "none".to_string() } else { set.join("|") })
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The fixed part of the TCP header: 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TcpHeader {
    src_port: U16,
    dst_port: U16,
    seq: U32,
    ack: U32,
    flag_word: U32,
    checksum: U16,
    urgent: U16,
}

impl TcpHeader {
    /// Bytes of the fixed part, and the shortest header.
    pub const LEN: usize = 20;

    /// The fixed part and what follows it; `None` when there are fewer than 20 bytes. No field is
    /// judged.
    #[inline]
    pub fn parse(segment: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(segment).ok()
    }

    /// [`TcpHeader::parse`] for writing.
    #[inline]
    pub fn parse_mut(segment: &mut [u8]) -> Option<(&mut Self, &mut [u8])> {
        Self::mut_from_prefix(segment).ok()
    }

    /// Fixed part, options and payload of a segment whose data offset is at least 5 and within it;
    /// `None` otherwise.
    #[inline]
    pub fn split(segment: &[u8]) -> Option<(&Self, &[u8], &[u8])> {
        let (header, rest) = Self::parse(segment)?;
        let (options, payload) = rest.split_at_checked(header.header_len().checked_sub(Self::LEN)?)?;
        Some((header, options, payload))
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

    /// The sequence number of the first byte, or of the SYN.
    #[inline]
    pub fn seq(&self) -> SeqNum {
        SeqNum(self.seq.get())
    }

    /// The acknowledgment number, which counts only with [`TcpFlags::ACK`].
    #[inline]
    pub fn ack(&self) -> SeqNum {
        SeqNum(self.ack.get())
    }

    /// Data offset, reserved bits, flags and window as one number (kernel: `tcp_flag_word`): what
    /// header prediction and GRO compare. From the top: 4 bits of offset, 4 reserved, 8 of flags,
    /// 16 of window.
    #[inline]
    pub fn flag_word(&self) -> u32 {
        self.flag_word.get()
    }

    /// The data offset: the header's length in 32-bit words, at least 5 in a valid one.
    #[inline]
    pub fn doff(&self) -> u8 {
        (self.flag_word() >> 28) as u8
    }

    /// The header's length in bytes as it claims, 0 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.doff()) * 4
    }

    /// Data offset, reserved bits, control bits and window as one number, in host order.
    #[inline]
    pub fn offset_flags_window(&self) -> u32 {
        self.flag_word()
    }

    /// The control bits.
    #[inline]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags((self.flag_word() >> 16) as u8)
    }

    /// The window as it stands, not yet scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        self.flag_word() as u16
    }

    /// The checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// The urgent pointer, which counts only with [`TcpFlags::URG`].
    #[inline]
    pub fn urgent(&self) -> u16 {
        self.urgent.get()
    }

    /// The exact total of words whose [`csum::fold`] is the sum of the fixed part.
    #[inline]
    fn total(&self) -> u64 {
        let long = [self.seq.get(), self.ack.get(), self.flag_word.get()].map(u64::from);
        let short = [self.src_port, self.dst_port, self.checksum, self.urgent];
        long.iter().sum::<u64>() + short.iter().map(|word| u64::from(word.get())).sum::<u64>()
    }

    /// Adds flags, without touching the checksum.
    #[inline]
    pub fn add_flags(&mut self, flags: TcpFlags) {
        self.flag_word.set(self.flag_word() | u32::from(flags.0) << 16);
    }

    /// Writes the acknowledgment number, without touching the checksum.
    #[inline]
    pub fn set_ack(&mut self, ack: SeqNum) {
        self.ack.set(ack.0);
    }

    /// Writes the window, without touching the checksum.
    #[inline]
    pub fn set_window(&mut self, window: u16) {
        self.flag_word.set(self.flag_word() & 0xffff_0000 | u32::from(window));
    }

    /// Writes the sender's port, without touching the checksum.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) {
        self.src_port.set(port);
    }

    /// Writes the receiver's port, without touching the checksum.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) {
        self.dst_port.set(port);
    }

    /// Writes the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        self.checksum.set(checksum);
    }
}

/// The values of a TCP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpRepr {
    /// The sender's port.
    pub sport: u16,
    /// The receiver's port.
    pub dport: u16,
    /// The sequence number.
    pub seq: SeqNum,
    /// The acknowledgment number.
    pub ack: SeqNum,
    /// The control bits.
    pub flags: TcpFlags,
    /// The window as it goes into the header: already scaled.
    pub window: u16,
    /// The urgent pointer.
    pub urgent: u16,
    /// The options, which go out in the kernel's order.
    pub options: TcpOptions,
}

impl TcpRepr {
    /// Bytes of the header with its options, 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        TcpHeader::LEN + self.options.emitted_len()
    }

    /// The fixed part of the header, its checksum zero.
    #[inline]
    fn fixed(&self, options_len: usize) -> TcpHeader {
        let words = ((TcpHeader::LEN + options_len) / 4) as u32;
        let flag_word = words << 28 | u32::from(self.flags.0) << 16 | u32::from(self.window);
        TcpHeader {
            src_port: self.sport.into(),
            dst_port: self.dport.into(),
            seq: self.seq.0.into(),
            ack: self.ack.0.into(),
            flag_word: flag_word.into(),
            checksum: 0.into(),
            urgent: self.urgent.into(),
        }
    }
}

/// Writes the header with its options to the front of `buf`, the checksum field zero, and gives its
/// length ([`TcpRepr::header_len`]). [`fill_checksum`] or [`fill_pseudo`] finishes the segment once
/// the payload is in place.
///
/// # Panics
///
/// If `buf` is shorter than the header.
#[inline]
pub fn emit(buf: &mut [u8], repr: TcpRepr) -> usize {
    let options_len = repr.options.emit(&mut buf[TcpHeader::LEN..]);
    buf[..TcpHeader::LEN].copy_from_slice(repr.fixed(options_len).as_bytes());
    TcpHeader::LEN + options_len
}

/// [`emit`] with the checksum, for a payload whose sum is known already: 0 of none, else what
/// [`csum::copy_and_sum`] gave when the payload was put in place. The header is summed from its
/// values, so that nothing is read back that was just written.
///
/// # Panics
///
/// If `buf` is shorter than the header.
#[inline]
pub fn emit_summed(buf: &mut [u8], repr: TcpRepr, src: Addr, dst: Addr, payload_len: usize, payload_sum: u16) -> usize {
    let (options_len, options_sum) = repr.options.emit_and_sum(&mut buf[TcpHeader::LEN..]);
    let mut header = repr.fixed(options_len);
    let segment_len = TcpHeader::LEN + options_len + payload_len;
    let pseudo = pseudo_sum(src, dst, IpProto::TCP, segment_len);
    let total = header.total() + options_sum + u64::from(pseudo) + u64::from(payload_sum);
    header.set_checksum(!csum::fold(total));
    buf[..TcpHeader::LEN].copy_from_slice(header.as_bytes());
    TcpHeader::LEN + options_len
}

/// [`emit`] with the options as raw bytes in place of `repr.options`, padded with zeros (end of
/// options) to whole words: for options in other orders than the kernel's, unknown ones and
/// malformed ones.
///
/// # Panics
///
/// If `options` is longer than 40 bytes, or `buf` shorter than the header.
pub fn emit_raw(buf: &mut [u8], repr: TcpRepr, options: &[u8]) -> usize {
    assert!(options.len() <= MAX_OPTIONS_LEN, "{} bytes of TCP options, 40 are possible", options.len());
    let padded = options.len().next_multiple_of(4);
    let field = &mut buf[TcpHeader::LEN..TcpHeader::LEN + padded];
    field[..options.len()].copy_from_slice(options);
    field[options.len()..].fill(0);
    buf[..TcpHeader::LEN].copy_from_slice(repr.fixed(padded).as_bytes());
    TcpHeader::LEN + padded
}

/// Computes the checksum of a segment, header and payload, and writes it to its place.
///
/// # Panics
///
/// If `segment` is shorter than the fixed part of the header.
#[inline]
pub fn fill_checksum(src: Addr, dst: Addr, segment: &mut [u8]) {
    write_checksum(segment, 0);
    let checksum = pseudo::checksum(src, dst, IpProto::TCP, segment);
    write_checksum(segment, checksum);
}

/// Writes the sum of the pseudo-header, uncomplemented, to the checksum's place: the half-done
/// state that the kernel calls `CHECKSUM_PARTIAL`, which [`complete`] or a device finishes. `len`
/// is the length of the whole segment, which may reach beyond `segment`.
///
/// # Panics
///
/// If `segment` is shorter than the fixed part of the header.
#[inline]
pub fn fill_pseudo(src: Addr, dst: Addr, segment: &mut [u8], len: usize) {
    write_checksum(segment, pseudo_sum(src, dst, IpProto::TCP, len));
}

/// Finishes what [`fill_pseudo`] began: the field already holds the pseudo-header's share, so the
/// checksum is the complement of the segment's own sum.
///
/// # Panics
///
/// If `segment` is shorter than the fixed part of the header.
#[inline]
pub fn complete(segment: &mut [u8]) {
    let checksum = !csum::sum(segment);
    write_checksum(segment, checksum);
}

/// Whether a segment, header and payload, sums to all ones with its pseudo-header.
#[inline]
pub fn verify(src: Addr, dst: Addr, segment: &[u8]) -> bool {
    pseudo::verify(src, dst, IpProto::TCP, segment)
}

#[inline]
fn write_checksum(segment: &mut [u8], checksum: u16) {
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
}
