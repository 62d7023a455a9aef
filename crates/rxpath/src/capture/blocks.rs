//! The pcapng format: blocks, in sections.

use std::ops::Range;

use pcap_parser::{
    PcapNGOption, parse_enhancedpacketblock_be, parse_enhancedpacketblock_le, parse_interfacedescriptionblock_be,
    parse_interfacedescriptionblock_le, parse_sectionheaderblock, parse_simplepacketblock_be,
    parse_simplepacketblock_le,
};

use super::MAX_RECORD;
use super::error::Fault;
use super::link::Link;
use super::reader::{Interface, Record, Step, nanoseconds};

/// The type of a section header block, the same in both byte orders.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
/// The obsolete packet block, of which old files are full.
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Bytes of the shortest block: type, length, length again.
const BLOCK_MIN: u32 = 12;
/// Interfaces of a file at most: its index has 32 bits, and each takes memory.
const INTERFACES_MAX: usize = 1 << 16;

/// Options that count here, by their codes.
mod option {
    pub const END: u16 = 0;
    pub const IF_NAME: u16 = 2;
    pub const IF_TSRESOL: u16 = 9;
    pub const IF_FCSLEN: u16 = 13;
    pub const IF_TSOFFSET: u16 = 14;
    pub const EPB_FLAGS: u16 = 2;
    pub const EPB_DROPCOUNT: u16 = 4;
}

/// A section that is being read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Blocks {
    big_endian: bool,
    /// Interfaces of earlier sections.
    before: usize,
    /// Sections that began.
    sections: u32,
}

impl Blocks {
    /// Reads the block that `bytes` begins with, as far as it is there.
    pub(super) fn block(&mut self, bytes: &[u8], interfaces: &mut Vec<Interface>) -> Result<Step, Fault> {
        let Some(kind) = bytes.first_chunk::<4>() else { return Ok(Step::More(BLOCK_MIN as usize)) };
        let is_section = u32::from_le_bytes(*kind) == SECTION;
        if is_section {
            let Some(magic) = bytes.get(8..12) else { return Ok(Step::More(BLOCK_MIN as usize)) };
            self.big_endian = match magic {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ => return Err(Fault::Malformed("a section header without a byte-order magic")),
            };
        }
        let (Some(kind), Some(len)) = (self.word(bytes, 0), self.word(bytes, 4)) else {
            return Ok(Step::More(BLOCK_MIN as usize));
        };
        if len < BLOCK_MIN || len % 4 != 0 {
            let limit = "a block has a multiple of 4, and 12 at least";
            return Err(Fault::Length { of: "a block", claimed: u64::from(len), limit });
        }
        if !is_section && !matches!(kind, INTERFACE | OLD_PACKET | SIMPLE_PACKET | ENHANCED_PACKET) {
            return Ok(Step::Skip(u64::from(len)));
        }
        let size = len as usize;
        if size > MAX_RECORD {
            let limit = "nothing of that kind is that long, so this is no length";
            return Err(Fault::Length { of: "a block", claimed: u64::from(len), limit });
        }
        let Some(block) = bytes.get(..size) else { return Ok(Step::More(size)) };
        if self.word(block, size - 4) != Some(len) {
            return Err(Fault::Malformed("a block whose two lengths differ"));
        }
        match kind {
            INTERFACE => self.interface(block, interfaces),
            SIMPLE_PACKET => self.simple(block, interfaces),
            ENHANCED_PACKET => self.enhanced(block, interfaces),
            OLD_PACKET => self.old(block, interfaces),
            _ => self.section(block, interfaces),
        }
    }

    fn word(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let word: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) })
    }

    fn section(&mut self, block: &[u8], interfaces: &[Interface]) -> Result<Step, Fault> {
        let Ok((_, header)) = parse_sectionheaderblock(block) else {
            return Err(Fault::Malformed("a section header that cannot be read"));
        };
        if header.major_version != 1 {
            return Err(Fault::Malformed("a section whose version is not 1.x, the only one of pcapng there is"));
        }
        self.before = interfaces.len();
        self.sections += 1;
        Ok(Step::Nothing(block.len()))
    }

    fn interface(&self, block: &[u8], interfaces: &mut Vec<Interface>) -> Result<Step, Fault> {
        let parsed = match self.big_endian {
            true => parse_interfacedescriptionblock_be(block),
            false => parse_interfacedescriptionblock_le(block),
        };
        let Ok((_, description)) = parsed else { return Err(Fault::Malformed("an interface that cannot be read")) };
        if interfaces.len() == INTERFACES_MAX {
            return Err(Fault::Malformed("more than 65,536 interfaces"));
        }
        let mut interface = Interface {
            link: Link::of(description.linktype.0 as u16),
            snaplen: description.snaplen,
            name: None,
            fcs_len: 0,
            resolution: 6,
            offset_s: 0,
        };
        for (code, value) in options(&description.options) {
            match (code, value) {
                (option::IF_NAME, name) => interface.name = Some(String::from_utf8_lossy(name).into_owned()),
                (option::IF_TSRESOL, [resolution]) => interface.resolution = *resolution,
                (option::IF_FCSLEN, [bits]) => interface.fcs_len = bits / 8,
                (option::IF_TSOFFSET, _) => interface.offset_s = self.long(value).unwrap_or(0).cast_signed(),
                _ => {}
            }
        }
        interfaces.push(interface);
        Ok(Step::Nothing(block.len()))
    }

    fn long(&self, value: &[u8]) -> Option<u64> {
        let value: [u8; 8] = value.try_into().ok()?;
        Some(if self.big_endian { u64::from_be_bytes(value) } else { u64::from_le_bytes(value) })
    }

    /// The index, over all sections, of an interface of this section.
    fn index(&self, id: u32, interfaces: &[Interface]) -> Option<usize> {
        let index = self.before.checked_add(id as usize)?;
        (index < interfaces.len()).then_some(index)
    }

    fn enhanced(&self, block: &[u8], interfaces: &[Interface]) -> Result<Step, Fault> {
        let parsed = match self.big_endian {
            true => parse_enhancedpacketblock_be(block),
            false => parse_enhancedpacketblock_le(block),
        };
        let Ok((_, packet)) = parsed else { return Err(Fault::Malformed("a packet that is longer than its block")) };
        let data = within(28, packet.caplen, block)?;
        let interface = self.index(packet.if_id, interfaces);
        let (mut flags, mut lost) = (0, 0);
        for (code, value) in options(&packet.options) {
            match code {
                option::EPB_FLAGS => flags = self.word(value, 0).unwrap_or(0),
                option::EPB_DROPCOUNT => lost = self.long(value).unwrap_or(0),
                _ => {}
            }
        }
        let stamp = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
        let time = interface.and_then(|index| interfaces.get(index)).map(|known| known.time(stamp));
        let (record, wire_len) = (block.len(), packet.origlen);
        Ok(Step::Packet(Record { data, record, interface, time, wire_len, flags, lost }))
    }

    /// A packet without time, of the section's first interface. How much of it is there follows from the snap length.
    fn simple(&self, block: &[u8], interfaces: &[Interface]) -> Result<Step, Fault> {
        let parsed = match self.big_endian {
            true => parse_simplepacketblock_be(block),
            false => parse_simplepacketblock_le(block),
        };
        let Ok((_, packet)) = parsed else { return Err(Fault::Malformed("a simple packet that cannot be read")) };
        let interface = self.index(0, interfaces);
        let snaplen = interface.and_then(|index| interfaces.get(index)).map_or(0, |known| known.snaplen);
        let room = (block.len() - 16) as u32;
        let limit = if snaplen == 0 { u32::MAX } else { snaplen };
        let data = within(12, packet.origlen.min(limit).min(room), block)?;
        let (record, wire_len) = (block.len(), packet.origlen);
        Ok(Step::Packet(Record { data, record, interface, time: None, wire_len, flags: 0, lost: 0 }))
    }

    /// The obsolete packet block: interface and drop count share a word, and the rest is as in the enhanced one.
    fn old(&self, block: &[u8], interfaces: &[Interface]) -> Result<Step, Fault> {
        let words = [8, 12, 16, 20, 24].map(|at| self.word(block, at));
        let [Some(first), Some(high), Some(low), Some(captured), Some(wire_len)] = words else {
            return Err(Fault::Malformed("a packet that is longer than its block"));
        };
        let data = within(28, captured, block)?;
        let (id, drops) = if self.big_endian { (first >> 16, first & 0xffff) } else { (first & 0xffff, first >> 16) };
        let interface = self.index(id, interfaces);
        let stamp = u64::from(high) << 32 | u64::from(low);
        let time = interface.and_then(|index| interfaces.get(index)).map(|known| known.time(stamp));
        let lost = if drops == 0xffff { 0 } else { u64::from(drops) };
        Ok(Step::Packet(Record { data, record: block.len(), interface, time, wire_len, flags: 0, lost }))
    }
}

impl Interface {
    fn time(&self, stamp: u64) -> i64 {
        nanoseconds(stamp, self.resolution, self.offset_s)
    }
}

/// The place of a packet in its block, in front of the block's second length.
fn within(at: usize, len: u32, block: &[u8]) -> Result<Range<usize>, Fault> {
    let end = at.saturating_add(len as usize);
    if end > block.len() - 4 {
        return Err(Fault::Malformed("a packet that is longer than its block"));
    }
    Ok(at..end)
}

/// Codes and values up to the end of the options. One that claims more than there is ends them.
fn options<'a>(options: &'a [PcapNGOption<'_>]) -> impl Iterator<Item = (u16, &'a [u8])> {
    let known = options.iter().take_while(|entry| entry.code.0 != option::END);
    known.filter_map(|entry| Some((entry.code.0, entry.as_bytes().ok()?)))
}
