//! Packets one after the other, whatever the format.

use std::io::Read;
use std::ops::Range;

use super::blocks::Blocks;
use super::classic::{self, Classic};
use super::error::{CaptureError, Fault};
use super::link::Link;
use super::window::Window;

/// The format of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One header, then packets.
    Pcap,
    /// Sections of blocks.
    PcapNg,
}

/// An interface that packets of a capture came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// What stands in front of its packets.
    pub link: Link,
    /// Bytes that were kept of a packet at most; 0 for no limit.
    pub snaplen: u32,
    /// Its name (pcapng's `if_name`).
    pub name: Option<String>,
    /// Bytes of the frame check sequence at the end of each packet, 0 for none (`if_fcslen`).
    pub fcs_len: u8,
    /// Resolution of its clock, as pcapng's `if_tsresol` has it: 6 for microseconds, 0x80 + n for 2^-n seconds.
    pub resolution: u8,
    /// Seconds that its clock is behind (`if_tsoffset`).
    pub offset_s: i64,
}

/// Which way a packet went, where the capture says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received by the host that captured.
    Inbound,
    /// Sent by it.
    Outbound,
}

/// A packet of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its number, from 1, as Wireshark numbers packets.
    pub number: u64,
    /// Where its record begins, in bytes of the input.
    pub offset: u64,
    /// When it was seen, in nanoseconds since 1970; nothing if the capture does not say it.
    pub time: Option<i64>,
    /// Index of its interface in [`CaptureReader::interfaces`]; nothing if it names one that was not described.
    pub interface: Option<usize>,
    /// Bytes that it had on the wire.
    pub wire_len: u32,
    /// What was kept of it, from the link header on.
    pub data: &'a [u8],
    /// pcapng's `epb_flags`; 0 if absent.
    pub flags: u32,
    /// Packets that the capture lost right before this one (`epb_dropcount`).
    pub lost: u64,
}

impl Packet<'_> {
    /// Which way it went, if the capture says it (bits 0 and 1 of `epb_flags`).
    pub fn direction(&self) -> Option<Direction> {
        match self.flags & 3 {
            1 => Some(Direction::Inbound),
            2 => Some(Direction::Outbound),
            _ => None,
        }
    }

    /// Bytes of the frame check sequence that `epb_flags` gives (bits 5 to 8); nothing if it gives none.
    pub fn fcs_len(&self) -> Option<u8> {
        let bytes = (self.flags >> 5 & 0xf) as u8;
        (bytes > 0).then_some(bytes)
    }
}

/// What stands at the window's beginning.
pub(super) enum Step {
    /// More bytes are needed, this many in all.
    More(usize),
    /// Something that is no packet, of so many bytes, all in memory.
    Nothing(usize),
    /// Something of no interest, of so many bytes.
    Skip(u64),
    /// A packet, all in memory.
    Packet(Record),
}

/// A packet by its place.
#[derive(Debug)]
pub(super) struct Record {
    /// Where its bytes are.
    pub(super) data: Range<usize>,
    /// Bytes of the whole record.
    pub(super) record: usize,
    pub(super) interface: Option<usize>,
    pub(super) time: Option<i64>,
    pub(super) wire_len: u32,
    pub(super) flags: u32,
    pub(super) lost: u64,
}

enum Kind {
    Classic(Classic),
    Blocks(Blocks),
}

/// Reads a capture as a stream, in bounded memory.
///
/// ```
/// use rxpath::capture::CaptureReader;
///
/// // A file with nothing but its header: Ethernet, microseconds, little-endian.
/// let file = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
/// let mut reader = CaptureReader::new(&file[..])?;
/// assert!(reader.next_packet()?.is_none());
///
/// let cut = CaptureReader::new(&file[..20]).err().expect("four bytes are missing");
/// assert!(cut.is_cut());
/// # Ok::<(), rxpath::capture::CaptureError>(())
/// ```
pub struct CaptureReader<R> {
    window: Window<R>,
    kind: Kind,
    interfaces: Vec<Interface>,
    packets: u64,
    /// Bytes of the record that was given last, and the record.
    given: usize,
    last: Option<Record>,
    /// An error was told: there is nothing behind it.
    over: bool,
}

impl<R: Read> CaptureReader<R> {
    /// Finds out the format and reads the header.
    ///
    /// # Errors
    /// There is no capture, or it ends within its header.
    pub fn new(input: R) -> Result<CaptureReader<R>, CaptureError> {
        let mut window = Window::new(input);
        let io = |error| CaptureError::new(0, Fault::Io(error));
        let start = window.fill(4).map_err(io)?;
        let Some(magic) = start.first_chunk::<4>().copied() else {
            let present = start.len();
            let cut = Fault::Cut { within: "the header of the file", present, needed: classic::HEADER };
            return Err(CaptureError::new(0, if present == 0 { Fault::Empty } else { cut }));
        };
        let mut interfaces = Vec::new();
        let kind = match magic {
            [0x0a, 0x0d, 0x0d, 0x0a] => Kind::Blocks(Blocks::default()),
            [0xa1, 0xb2, 0xc3, 0xd4] | [0xd4, 0xc3, 0xb2, 0xa1] => open_classic(&mut window, &mut interfaces)?,
            [0xa1, 0xb2, 0x3c, 0x4d] | [0x4d, 0x3c, 0xb2, 0xa1] => open_classic(&mut window, &mut interfaces)?,
            [0x34, 0xcd, 0xb2, 0xa1] => open_classic(&mut window, &mut interfaces)?,
            other => return Err(CaptureError::new(0, unknown(other))),
        };
        let mut reader = CaptureReader { window, kind, interfaces, packets: 0, given: 0, last: None, over: false };
        if let Kind::Blocks(_) = reader.kind {
            reader.first_section()?;
        }
        Ok(reader)
    }

    /// Whether anything can be read shows with the first block.
    fn first_section(&mut self) -> Result<(), CaptureError> {
        match self.step()? {
            Some(Step::Nothing(len)) => {
                self.window.consume(len);
                Ok(())
            }
            _ => Err(CaptureError::new(0, Fault::Malformed("the first block is no section header"))),
        }
    }

    /// The format.
    pub fn format(&self) -> Format {
        match self.kind {
            Kind::Classic(_) => Format::Pcap,
            Kind::Blocks(_) => Format::PcapNg,
        }
    }

    /// Interfaces that were described so far, those of all sections.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Bytes of the input that were read, up to the end of the last packet.
    pub fn offset(&self) -> u64 {
        self.window.offset() + self.given as u64
    }

    /// The next packet; nothing at the end.
    ///
    /// # Errors
    /// The input cannot be read, ends within a record, or is malformed. There is nothing to be had after an error.
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        self.window.consume(std::mem::take(&mut self.given));
        self.last = None;
        if self.over {
            return Ok(None);
        }
        let found = self.find();
        self.over = !matches!(found, Ok(Some(_)));
        self.last = found?;
        if let Some(record) = &self.last {
            self.packets += 1;
            self.given = record.record;
        }
        Ok(self.last_packet())
    }

    /// The packet that [`CaptureReader::next_packet`] gave last.
    pub fn last_packet(&self) -> Option<Packet<'_>> {
        let record = self.last.as_ref()?;
        let (number, offset) = (self.packets, self.window.offset());
        let data = self.window.bytes().get(record.data.clone()).unwrap_or_default();
        let Record { interface, time, wire_len, flags, lost, .. } = *record;
        // What was captured was on the wire, whatever a broken header says.
        let wire_len = wire_len.max(data.len() as u32);
        Some(Packet { number, offset, time, interface, wire_len, data, flags, lost })
    }

    /// Reads on until a packet stands at the window's beginning.
    fn find(&mut self) -> Result<Option<Record>, CaptureError> {
        loop {
            match self.step()? {
                None => return Ok(None),
                Some(Step::Packet(record)) => return Ok(Some(record)),
                Some(Step::Nothing(len)) => self.window.consume(len),
                Some(Step::Skip(len)) => self.skip(len)?,
                Some(Step::More(_)) => {}
            }
        }
    }

    fn skip(&mut self, len: u64) -> Result<(), CaptureError> {
        let offset = self.window.offset();
        let skipped = self.window.skip(len).map_err(|error| CaptureError::new(offset, Fault::Io(error)))?;
        if skipped == len {
            return Ok(());
        }
        let lengths = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let fault = Fault::Cut { within: "a block", present: lengths(skipped), needed: lengths(len) };
        Err(CaptureError::new(offset, fault))
    }

    /// What stands at the window's beginning, all of it in memory; nothing at the end of the input.
    fn step(&mut self) -> Result<Option<Step>, CaptureError> {
        let offset = self.window.offset();
        let fail = |fault| CaptureError::new(offset, fault);
        let mut need = 1;
        loop {
            let bytes = self.window.fill(need).map_err(|error| fail(Fault::Io(error)))?;
            let present = bytes.len();
            if present == 0 {
                return Ok(None);
            }
            let step = match &mut self.kind {
                Kind::Classic(classic) => classic.record(bytes),
                Kind::Blocks(blocks) => blocks.block(bytes, &mut self.interfaces),
            };
            match step.map_err(fail)? {
                Step::More(more) if more > present && need >= more => {
                    let within = if matches!(self.kind, Kind::Classic(_)) { "a packet" } else { "a block" };
                    return Err(fail(Fault::Cut { within, present, needed: more }));
                }
                Step::More(more) => need = more,
                step => return Ok(Some(step)),
            }
        }
    }
}

fn open_classic<R: Read>(window: &mut Window<R>, interfaces: &mut Vec<Interface>) -> Result<Kind, CaptureError> {
    let fail = |fault| CaptureError::new(0, fault);
    let bytes = window.fill(classic::HEADER).map_err(|error| fail(Fault::Io(error)))?;
    if bytes.len() < classic::HEADER {
        let (within, present) = ("the header of the file", bytes.len());
        return Err(fail(Fault::Cut { within, present, needed: classic::HEADER }));
    }
    let (classic, interface) = Classic::open(bytes).map_err(fail)?;
    interfaces.push(interface);
    window.consume(classic::HEADER);
    Ok(Kind::Classic(classic))
}

/// What a file is that is no capture.
fn unknown(magic: [u8; 4]) -> Fault {
    match magic {
        [0x1f, 0x8b, ..] => Fault::Compressed("gzip", "gunzip FILE, or gunzip -c FILE | rxpath replay -"),
        [0x28, 0xb5, 0x2f, 0xfd] => Fault::Compressed("zstd", "unzstd FILE, or unzstd -c FILE | rxpath replay -"),
        [0xfd, b'7', b'z', b'X'] => Fault::Compressed("xz", "unxz FILE, or unxz -c FILE | rxpath replay -"),
        [b'B', b'Z', b'h', _] => Fault::Compressed("bzip2", "bunzip2 FILE, or bunzip2 -c FILE | rxpath replay -"),
        [0x04, 0x22, 0x4d, 0x18] => Fault::Compressed("lz4", "unlz4 FILE, or unlz4 -c FILE | rxpath replay -"),
        other => Fault::NotACapture(other),
    }
}

/// A time stamp in nanoseconds since 1970, from a count of `resolution` (`if_tsresol`): 10^-n seconds, or with the high
/// bit set 2^-n. What does not fit, some 292 years from 1970, is the last that does.
pub(super) fn nanoseconds(stamp: u64, resolution: u8, offset_s: i64) -> i64 {
    let exponent = u32::from(resolution & 0x7f);
    let scaled = u128::from(stamp) * 1_000_000_000;
    let count = if resolution & 0x80 != 0 {
        scaled.checked_shr(exponent).unwrap_or(0)
    } else {
        10_u128.checked_pow(exponent).map_or(0, |unit| scaled / unit)
    };
    let count = i128::try_from(count).unwrap_or(i128::MAX);
    let time = count.saturating_add(i128::from(offset_s) * 1_000_000_000);
    i64::try_from(time).unwrap_or(if time < 0 { i64::MIN } else { i64::MAX })
}
