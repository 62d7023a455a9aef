//! TCP options (RFC 9293 section 3.2; RFC 7323; RFC 2018): reading with Linux's leniency, writing
//! in Linux's order.

use super::MAX_OPTIONS_LEN;
use crate::SeqNum;
use rxpath_arch::csum;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WSCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// The largest shift that a window may have; larger ones are read as this (RFC 7323 section 2.3).
pub const MAX_WSCALE: u8 = 14;

/// NOP NOP TS with its length: the start of the options of nearly every segment of a connection
/// with timestamps.
const ALIGNED_TIMESTAMPS: [u8; 4] = [NOP, NOP, TIMESTAMPS, 10];

/// What the options of a segment say.
///
/// Maximum segment size, window scale and SACK-permitted count only in a segment with SYN; whether
/// it is one the options do not know, so that is for the caller to heed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Maximum segment size in bytes, as sent; 0 is possible.
    pub mss: Option<u16>,
    /// Window scale: shift count, at most [`MAX_WSCALE`].
    pub wscale: Option<u8>,
    /// Timestamps: TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    /// Selective acknowledgments are welcome.
    pub sack_permitted: bool,
    /// Selective acknowledgments, left edge and right edge (exclusive), as sent; the first
    /// `sack_count` count and the rest is zero. See [`TcpOptions::sack_blocks`].
    pub sack: [(SeqNum, SeqNum); 4],
    /// How many of `sack` count, 0 to 4.
    pub sack_count: u8,
}

impl TcpOptions {
    /// Reads an options field, the bytes between the fixed part of the header and the payload
    /// (kernel: `tcp_parse_options`).
    ///
    /// Lenient as Linux is: unknown options and known ones of a wrong length are skipped; an option
    /// whose length is below 2 or reaches beyond the field ends the reading, and what was read
    /// before it counts. Of an option that comes twice the last counts.
    #[inline]
    pub fn parse(field: &[u8]) -> TcpOptions {
        if field.is_empty() {
            return TcpOptions::default();
        }
        if let Some(timestamps) = TcpOptions::only_timestamps(field) {
            return TcpOptions { timestamps: Some(timestamps), ..TcpOptions::default() };
        }
        TcpOptions::parse_each(field)
    }

    /// TSval and TSecr of a field that is exactly NOP NOP TS, the 12 bytes of a segment on the fast
    /// path (kernel: `tcp_parse_aligned_timestamp`).
    #[inline]
    pub fn only_timestamps(field: &[u8]) -> Option<(u32, u32)> {
        let [n, m, t, l, a, b, c, d, e, f, g, h] = *field.as_array::<12>()?;
        let matches = u32::from_ne_bytes([n, m, t, l]) == u32::from_ne_bytes(ALIGNED_TIMESTAMPS);
        matches.then(|| (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
    }

    fn parse_each(field: &[u8]) -> TcpOptions {
        let mut options = TcpOptions::default();
        let mut rest = field;
        while let [kind, after @ ..] = rest {
            match *kind {
                END => break,
                NOP => rest = after,
                kind => {
                    // The length counts kind and length too (RFC 9293 section 3.2).
                    let Some((&len, _)) = after.split_first() else {
                        break;
                    };
                    let Some((option, after)) = rest.split_at_checked(usize::from(len)) else {
                        break;
                    };
                    let Some(value) = option.get(2..) else { break };
                    options.read(kind, value);
                    rest = after;
                }
            }
        }
        options
    }

    fn read(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            (MSS, &[a, b]) => self.mss = Some(u16::from_be_bytes([a, b])),
            (WSCALE, &[shift]) => self.wscale = Some(shift.min(MAX_WSCALE)),
            (SACK_PERMITTED, []) => self.sack_permitted = true,
            (TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                self.timestamps = Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])));
            }
            (SACK, blocks) => {
                if let (blocks @ [_, ..], []) = blocks.as_chunks::<8>() {
                    self.set_sack(blocks.iter().map(|&[a, b, c, d, e, f, g, h]| {
                        (SeqNum(u32::from_be_bytes([a, b, c, d])), SeqNum(u32::from_be_bytes([e, f, g, h])))
                    }));
                }
            }
            _ => {}
        }
    }

    /// The selective acknowledgments that count.
    #[inline]
    pub fn sack_blocks(&self) -> &[(SeqNum, SeqNum)] {
        &self.sack[..usize::from(self.sack_count).min(self.sack.len())]
    }

    /// Takes over the first four of `blocks` as selective acknowledgments.
    pub fn set_sack(&mut self, blocks: impl IntoIterator<Item = (SeqNum, SeqNum)>) {
        self.sack = Default::default();
        self.sack_count = 0;
        for (slot, block) in self.sack.iter_mut().zip(blocks) {
            *slot = block;
            self.sack_count += 1;
        }
    }

    /// Bytes that [`TcpOptions::emit`] writes: a multiple of 4, at most 40.
    #[inline]
    pub fn emitted_len(&self) -> usize {
        let mut len = 0;
        if self.mss.is_some() {
            len += 4;
        }
        if self.timestamps.is_some() {
            len += 12;
        } else if self.sack_permitted {
            len += 4;
        }
        if self.wscale.is_some() {
            len += 4;
        }
        len + sack_len(len, self.sack_blocks().len())
    }

    /// Writes the options to the front of `buf` in the order of [`TcpOptionsWriter::all`] and gives
    /// the number of bytes.
    ///
    /// # Panics
    ///
    /// If `buf` is shorter than [`TcpOptions::emitted_len`].
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        self.emit_and_sum(buf).0
    }

    /// [`TcpOptions::emit`], which also gives a total whose `csum::fold` is the sum of the bytes.
    #[inline]
    pub(super) fn emit_and_sum(&self, buf: &mut [u8]) -> (usize, u64) {
        let negotiated = self.mss.is_some() | self.wscale.is_some() | self.sack_permitted;
        match self.timestamps {
            _ if negotiated || self.sack_count > 0 => {
                let writer = TcpOptionsWriter::all(self);
                let bytes = writer.as_bytes();
                buf[..bytes.len()].copy_from_slice(bytes);
                (bytes.len(), u64::from(csum::sum(bytes)))
            }
            Some((tsval, tsecr)) => {
                let field = &mut buf[..12];
                field[..4].copy_from_slice(&ALIGNED_TIMESTAMPS);
                field[4..8].copy_from_slice(&tsval.to_be_bytes());
                field[8..].copy_from_slice(&tsecr.to_be_bytes());
                let kind = u32::from_be_bytes(ALIGNED_TIMESTAMPS);
                (12, u64::from(kind) + u64::from(tsval) + u64::from(tsecr))
            }
            None => (0, 0),
        }
    }
}

/// Bytes of a SACK option, with its two NOPs, of as many of `blocks` as fit behind `used` bytes:
/// three behind timestamps, four behind nothing.
#[inline]
const fn sack_len(used: usize, blocks: usize) -> usize {
    let room = (MAX_OPTIONS_LEN - used).saturating_sub(4) / 8;
    match if blocks < room { blocks } else { room } {
        0 => 0,
        fitting => 4 + 8 * fitting,
    }
}

/// Builds an options field option by option. Each method pads its option with NOPs in front to
/// whole words, as Linux does, so the field is aligned at every moment.
///
/// # Panics
///
/// All methods but [`TcpOptionsWriter::sack`] panic when the field would grow beyond 40 bytes. Each
/// of them once cannot.
#[derive(Clone, Debug)]
pub struct TcpOptionsWriter {
    bytes: [u8; MAX_OPTIONS_LEN],
    len: usize,
}

impl TcpOptionsWriter {
    /// An empty field.
    #[expect(
        clippy::new_without_default,
        reason = "an empty field is where building starts, not a value to fall back on"
    )]
    pub const fn new() -> Self {
        TcpOptionsWriter { bytes: [0; MAX_OPTIONS_LEN], len: 0 }
    }

    /// All of `options` in the kernel's order: MSS; SACK-permitted with timestamps, or one of the
    /// two; window scale; as many SACK blocks as fit.
    pub fn all(options: &TcpOptions) -> Self {
        let mut writer = TcpOptionsWriter::new();
        writer.append(options);
        writer
    }

    /// All of `options` behind what stands already, in the order of [`TcpOptionsWriter::all`]; of SACK blocks those that fit.
    pub fn append(&mut self, options: &TcpOptions) -> &mut Self {
        if let Some(mss) = options.mss {
            self.mss(mss);
        }
        match (options.sack_permitted, options.timestamps) {
            (true, Some((tsval, tsecr))) => self.sack_permitted_and_timestamps(tsval, tsecr),
            (false, Some((tsval, tsecr))) => self.timestamps(tsval, tsecr),
            (true, None) => self.sack_permitted(),
            (false, None) => self,
        };
        if let Some(shift) = options.wscale {
            self.window_scale(shift);
        }
        self.sack(options.sack_blocks())
    }

    /// Maximum segment size.
    pub fn mss(&mut self, mss: u16) -> &mut Self {
        let [a, b] = mss.to_be_bytes();
        self.raw(&[MSS, 4, a, b])
    }

    /// SACK-permitted by itself, behind two NOPs.
    pub fn sack_permitted(&mut self) -> &mut Self {
        self.raw(&[NOP, NOP, SACK_PERMITTED, 2])
    }

    /// Timestamps behind two NOPs.
    pub fn timestamps(&mut self, tsval: u32, tsecr: u32) -> &mut Self {
        self.raw(&ALIGNED_TIMESTAMPS).raw(&tsval.to_be_bytes()).raw(&tsecr.to_be_bytes())
    }

    /// Timestamps behind SACK-permitted, which takes the place of the NOPs.
    pub fn sack_permitted_and_timestamps(&mut self, tsval: u32, tsecr: u32) -> &mut Self {
        self.raw(&[SACK_PERMITTED, 2, TIMESTAMPS, 10]).raw(&tsval.to_be_bytes()).raw(&tsecr.to_be_bytes())
    }

    /// Window scale behind a NOP.
    pub fn window_scale(&mut self, shift: u8) -> &mut Self {
        self.raw(&[NOP, WSCALE, 3, shift])
    }

    /// As many of `blocks` as fit, behind two NOPs; nothing when none does.
    pub fn sack(&mut self, blocks: &[(SeqNum, SeqNum)]) -> &mut Self {
        let len = sack_len(self.len, blocks.len());
        if len > 0 {
            self.raw(&[NOP, NOP, SACK, (len - 2) as u8]);
            for (left, right) in &blocks[..(len - 4) / 8] {
                self.raw(&left.0.to_be_bytes()).raw(&right.0.to_be_bytes());
            }
        }
        self
    }

    /// Any bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        let end = self.len + bytes.len();
        assert!(end <= MAX_OPTIONS_LEN, "{end} bytes of TCP options, 40 are possible");
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
        self
    }

    /// The field as built so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
