//! Writes pcapng in which every packet has its fate beside it, for Wireshark and whoever reads the format.
//!
//! The packets are the capture's own, byte for byte. Each gets, as options of its enhanced packet block, a comment
//! (`opt_comment`), its flags as they were, the number of packets lost before it (`epb_dropcount`), its identity in the
//! stack (`epb_packetid`), its receive queue (`epb_queue`) and the verdict (`epb_verdict`).

use std::io::{self, Write};

use super::link::Link;
use super::reader::Interface;

const SECTION: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
/// Bytes of a block around its body: type, length, length again.
const AROUND: usize = 12;

/// `epb_verdict` of this type holds the number of an action of XDP, in eight bytes.
const VERDICT_XDP: u8 = 2;

/// The longest option: its length has 16 bits, of which a multiple of four is used.
const OPTION_MAX: usize = 65_532;

/// Options by their codes (draft-ietf-opsawg-pcapng section 4.3).
mod code {
    pub const END: u16 = 0;
    pub const COMMENT: u16 = 1;
    pub const SHB_USERAPPL: u16 = 4;
    pub const IF_NAME: u16 = 2;
    pub const IF_TSRESOL: u16 = 9;
    pub const IF_FCSLEN: u16 = 13;
    pub const EPB_FLAGS: u16 = 2;
    pub const EPB_DROPCOUNT: u16 = 4;
    pub const EPB_PACKETID: u16 = 5;
    pub const EPB_QUEUE: u16 = 6;
    pub const EPB_VERDICT: u16 = 7;
}

/// What became of a packet, as `epb_verdict` says it: in the numbers of XDP's actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was dropped (`XDP_DROP`).
    Drop,
    /// It went its way (`XDP_PASS`).
    Pass,
    /// It was sent (`XDP_TX`).
    Tx,
}

/// A packet to be written.
#[derive(Clone, Debug)]
pub struct Written<'a> {
    /// Index of its interface among those that were described.
    pub interface: u32,
    /// Nanoseconds since 1970; what is before is written as 1970.
    pub time: i64,
    /// Bytes on the wire.
    pub wire_len: u32,
    /// What was captured.
    pub data: &'a [u8],
    /// `epb_flags`; not written if 0.
    pub flags: u32,
    /// `epb_dropcount`; not written if 0.
    pub lost: u64,
    /// What became of it, in words; not written if empty.
    pub comment: &'a str,
    /// Its identity in the stack, if it had one.
    pub id: Option<u64>,
    /// The receive queue that it came by, if it came by one.
    pub queue: Option<u32>,
    /// What became of it, if anything did.
    pub verdict: Option<Verdict>,
}

/// Writes one section, little-endian, with clocks in nanoseconds.
pub struct CaptureWriter<W> {
    output: W,
    /// The block in the making, with room for type and length in front.
    block: Vec<u8>,
}

impl<W: Write> CaptureWriter<W> {
    /// Writes the section's header; `application` is who writes.
    ///
    /// # Errors
    /// The output does not take it; so for all methods here.
    pub fn new(output: W, application: &str) -> io::Result<CaptureWriter<W>> {
        let mut writer = CaptureWriter { output, block: Vec::new() };
        writer.begin();
        writer.word(BYTE_ORDER);
        // Version 1.0; a section of unknown length.
        writer.put(&[1, 0, 0, 0]);
        writer.put(&[0xff; 8]);
        writer.option(code::SHB_USERAPPL, application.as_bytes());
        writer.end(SECTION)?;
        Ok(writer)
    }

    /// Describes the next interface, from index 0 on.
    pub fn interface(&mut self, interface: &Interface) -> io::Result<()> {
        self.begin();
        self.word(u32::from(Link::number(interface.link)));
        self.word(interface.snaplen);
        if let Some(name) = &interface.name {
            self.option(code::IF_NAME, name.as_bytes());
        }
        self.option(code::IF_TSRESOL, &[9]);
        if interface.fcs_len > 0 {
            self.option(code::IF_FCSLEN, &[interface.fcs_len.saturating_mul(8)]);
        }
        self.end(INTERFACE)
    }

    /// Writes a packet of an interface that was described.
    pub fn packet(&mut self, packet: &Written<'_>) -> io::Result<()> {
        let time = packet.time.max(0).cast_unsigned();
        self.begin();
        self.word(packet.interface);
        self.word((time >> 32) as u32);
        self.word(time as u32);
        self.word(packet.data.len() as u32);
        self.word(packet.wire_len);
        self.put(packet.data);
        self.align();
        if !packet.comment.is_empty() {
            self.option(code::COMMENT, packet.comment.as_bytes());
        }
        if packet.flags != 0 {
            self.option(code::EPB_FLAGS, &packet.flags.to_le_bytes());
        }
        if packet.lost != 0 {
            self.option(code::EPB_DROPCOUNT, &packet.lost.to_le_bytes());
        }
        if let Some(id) = packet.id {
            self.option(code::EPB_PACKETID, &id.to_le_bytes());
        }
        if let Some(queue) = packet.queue {
            self.option(code::EPB_QUEUE, &queue.to_le_bytes());
        }
        if let Some(verdict) = packet.verdict {
            self.option(code::EPB_VERDICT, &verdict.bytes());
        }
        self.end(ENHANCED_PACKET)
    }

    /// Hands over what was written so far.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    /// Hands over what was written, and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.flush()?;
        Ok(self.output)
    }

    fn begin(&mut self) {
        self.block.clear();
        self.block.resize(8, 0);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
    }

    fn word(&mut self, word: u32) {
        self.put(&word.to_le_bytes());
    }

    fn align(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    /// An option; a value that is too long for one is cut.
    fn option(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(OPTION_MAX)];
        self.put(&code.to_le_bytes());
        self.put(&(value.len() as u16).to_le_bytes());
        self.put(value);
        self.align();
    }

    /// Ends options and block, and writes it.
    fn end(&mut self, kind: u32) -> io::Result<()> {
        self.option(code::END, &[]);
        let len = (self.block.len() + AROUND - 8) as u32;
        self.block[..4].copy_from_slice(&kind.to_le_bytes());
        self.block[4..8].copy_from_slice(&len.to_le_bytes());
        self.word(len);
        self.output.write_all(&self.block)
    }
}

impl Verdict {
    fn bytes(self) -> [u8; 9] {
        let number: u64 = match self {
            Verdict::Drop => 1,
            Verdict::Pass => 2,
            Verdict::Tx => 3,
        };
        let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
        [VERDICT_XDP, a, b, c, d, e, f, g, h]
    }
}
