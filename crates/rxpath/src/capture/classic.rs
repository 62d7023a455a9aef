//! The pcap format: a header, then records.

use pcap_parser::{PcapHeader, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header};

use super::MAX_RECORD;
use super::error::Fault;
use super::link::Link;
use super::reader::{Interface, Record, Step};

/// Bytes of the file's header.
pub(super) const HEADER: usize = 24;

/// Says that the FCS length field counts (draft-ietf-opsawg-pcap section 4: the F bit).
const FCS_PRESENT: u32 = 1 << 26;

/// A pcap file whose header was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Classic {
    big_endian: bool,
    nanoseconds: bool,
    /// The form with eight further bytes in each record's header.
    modified: bool,
}

impl Classic {
    /// Reads the file's header, of which all bytes are there.
    pub(super) fn open(bytes: &[u8]) -> Result<(Classic, Interface), Fault> {
        let Ok((_, header)) = parse_pcap_header(bytes) else {
            return Err(Fault::Malformed("the header of the file cannot be read"));
        };
        if header.version_major != 2 {
            return Err(Fault::Malformed("the version is not 2.x, the only one of pcap there ever was"));
        }
        let classic = Classic {
            big_endian: header.is_bigendian(),
            nanoseconds: header.is_nanosecond_precision(),
            modified: header.is_modified_format(),
        };
        Ok((classic, interface(&header)))
    }

    /// Bytes in front of a packet.
    fn record_header(self) -> usize {
        if self.modified { 24 } else { 16 }
    }

    /// Reads the record that `bytes` begins with, as far as it is there.
    pub(super) fn record(self, bytes: &[u8]) -> Result<Step, Fault> {
        let header = self.record_header();
        let Some(lengths) = bytes.get(8..12).and_then(|word| word.try_into().ok()) else {
            return Ok(Step::More(header));
        };
        let captured = if self.big_endian { u32::from_be_bytes(lengths) } else { u32::from_le_bytes(lengths) };
        let len = captured as usize;
        if len > MAX_RECORD - header {
            let (of, limit) = ("a packet", "no packet is that long, so this is no header of one");
            return Err(Fault::Length { of, claimed: u64::from(captured), limit });
        }
        if bytes.len() < header + len {
            return Ok(Step::More(header + len));
        }
        let parsed = match (self.modified, self.big_endian) {
            (true, _) => parse_pcap_frame_modified(bytes),
            (false, true) => parse_pcap_frame_be(bytes),
            (false, false) => parse_pcap_frame(bytes),
        };
        let Ok((_, frame)) = parsed else { return Err(Fault::Malformed("the header of a packet cannot be read")) };
        let unit = if self.nanoseconds { 1 } else { 1_000 };
        // A fraction of a second or more, which no tool writes, is taken at its word.
        let time = i64::from(frame.ts_sec) * 1_000_000_000 + i64::from(frame.ts_usec) * unit;
        let data = header..header + len;
        Ok(Step::Packet(Record {
            data,
            record: header + len,
            interface: Some(0),
            time: Some(time),
            wire_len: frame.origlen,
            flags: 0,
            lost: 0,
        }))
    }
}

/// What the header tells of the interface. The upper half of the link type's word holds the length of the FCS.
fn interface(header: &PcapHeader) -> Interface {
    let word = header.network.0.cast_unsigned();
    let fcs_len = if word & FCS_PRESENT != 0 { ((word >> 28) * 2) as u8 } else { 0 };
    Interface { link: Link::of(word as u16), snaplen: header.snaplen, name: None, fcs_len, resolution: 6, offset_s: 0 }
}
