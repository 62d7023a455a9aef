//! What a host is free to choose in a frame that is no segment of the case's connection: both sides' frames are compared
//! without it, and it is counted where they differ.
//!
//! - **IP identification** of packets from the host's own addresses; fragments of one datagram must share theirs.
//! - **ICMP time**: the receive and transmit times of a timestamp reply.
//! - **time in an option**: the times of Timestamp options, in the header and in the header that an ICMP error quotes.
//!
//! Checksums are verified, and not compared where what they cover is free.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;

use rxpath_wire::{EtherType, EthernetHeader, IpProto, Ipv4Header, icmp, ipv4};

use super::case::Host;
use super::compare::Normalised;

const IP: usize = EthernetHeader::LEN;
const TIMESTAMP_OPTION: u8 = 68;
const SOURCE_QUENCH: u8 = 4;

/// Identifications of the kernel's datagrams, by source, destination and protocol, with the stack's.
#[derive(Clone, Debug, Default)]
pub struct Identifications(BTreeMap<(Ipv4Addr, Ipv4Addr, u8, u16), u16>);

impl Identifications {
    /// Compares two frames that are at the same place in their runs.
    pub fn compare(&mut self, host: &Host, one: &[u8], other: &[u8], normalised: &mut Normalised) -> Option<String> {
        let (left, right) = (Free::of(one), Free::of(other));
        if left.bytes == right.bytes {
            if !(left.sound && right.sound) {
                return Some(format!("checksum wrong: {}", if left.sound { "stack" } else { "kernel" }));
            }
            for (name, range) in left.ranges {
                *normalised.entry(name).or_default() += u64::from(one[range.clone()] != other[range]);
            }
            return self.compare_ids(host, one, other, normalised);
        }
        Some(first_difference(&left.bytes, &right.bytes))
    }

    fn compare_ids(&mut self, host: &Host, one: &[u8], other: &[u8], normalised: &mut Normalised) -> Option<String> {
        let (kernel, stack) = (packet(one)?, packet(other)?);
        let (id, own) = (kernel.id(), stack.id());
        let key = (kernel.src(), kernel.dst(), kernel.protocol(), id);
        let mut ours = host.links.iter().flat_map(|link| &link.addresses).map(|&(address, _)| address);
        // A counter comes round to 0, too; but what is never fragmented has 0 or a counter, and is told by that.
        let free = ours.any(|address| address == kernel.src()) && (!kernel.dont_fragment() || (id == 0) == (own == 0));
        let fits = if kernel.fragment_offset() > 0 {
            self.0.get(&key).is_none_or(|&known| known == own)
        } else {
            self.0.insert(key, own);
            true
        };
        if id != own && !(free && fits) {
            return Some(format!("IP identification: kernel {id}, stack {own}"));
        }
        *normalised.entry("IP identification").or_default() += u64::from(id != own);
        None
    }
}

/// Whether two frames differ at most in what their sender is free to choose.
pub fn are_alike(one: &[u8], other: &[u8]) -> bool {
    Free::of(one).bytes == Free::of(other).bytes
}

fn packet(frame: &[u8]) -> Option<Ipv4Header> {
    let (ethernet, packet) = EthernetHeader::parse(frame)?;
    let (header, _) = Ipv4Header::parse(packet).filter(|_| ethernet.ethertype() == EtherType::IPV4)?;
    Some(*header)
}

/// A frame without what its sender is free to choose.
struct Free {
    bytes: Vec<u8>,
    /// What was taken out, by its name.
    ranges: Vec<(&'static str, Range<usize>)>,
    /// The checksums are right.
    sound: bool,
}

impl Free {
    fn of(frame: &[u8]) -> Free {
        let mut free = Free { bytes: frame.to_vec(), ranges: Vec::new(), sound: true };
        if let Some(header) = packet(frame) {
            free.header(frame, &header);
        }
        free
    }

    fn header(&mut self, frame: &[u8], header: &Ipv4Header) {
        let payload = IP + header.header_len();
        let end = IP + usize::from(header.total_len());
        let (Some(whole), Some(body)) = (frame.get(IP..payload), frame.get(payload..end)) else { return };
        self.sound &= ipv4::verify(whole);
        self.clear(IP + 4..IP + 6);
        self.clear(IP + 10..IP + 12);
        self.times(IP + Ipv4Header::LEN..payload);
        if header.is_fragment() {
            return;
        }
        if header.protocol() == IpProto::ICMP {
            self.message(payload, body);
        }
    }

    fn message(&mut self, at: usize, message: &[u8]) {
        self.sound &= icmp::verify(message);
        match message.first() {
            Some(&icmp::TIMESTAMP_REPLY) => self.take("ICMP time", at + 12..at + 20),
            Some(
                &(icmp::DEST_UNREACHABLE
                | SOURCE_QUENCH
                | icmp::REDIRECT
                | icmp::TIME_EXCEEDED
                | icmp::PARAMETER_PROBLEM),
            ) => {
                let Some((quoted, _)) = message.get(8..).and_then(Ipv4Header::parse) else { return };
                let before = self.ranges.len();
                let inner = at + 8;
                let end = (inner + quoted.header_len()).min(at + message.len());
                self.times(inner + Ipv4Header::LEN..end);
                if self.ranges.len() == before {
                    return;
                }
                self.clear(inner + 10..inner + 12);
            }
            _ => return,
        }
        self.clear(at + 2..at + 4);
    }

    /// Takes the times out of the options that stand there.
    fn times(&mut self, options: Range<usize>) {
        let mut at = options.start;
        while at + 1 < options.end {
            let (kind, len) = (self.bytes[at], usize::from(self.bytes[at + 1]));
            match kind {
                0 => return,
                1 => at += 1,
                _ if len < 2 || at + len > options.end => return,
                _ => {
                    if kind == TIMESTAMP_OPTION && len >= 4 {
                        let pointer = usize::from(self.bytes[at + 2]);
                        let end = (at + pointer).saturating_sub(1).min(at + len);
                        self.entries(at + 4, end, self.bytes[at + 3] & 0xf);
                    }
                    at += len;
                }
            }
        }
    }

    /// Takes out the times of the entries that lie before the pointer, the last one at `end`.
    fn entries(&mut self, start: usize, mut end: usize, flag: u8) {
        let step = if flag == 0 { 4 } else { 8 };
        while end >= start + step {
            self.take("time in an option", end - 4..end);
            end -= step;
        }
    }

    fn take(&mut self, name: &'static str, range: Range<usize>) {
        if range.end <= self.bytes.len() {
            self.clear(range.clone());
            self.ranges.push((name, range));
        }
    }

    fn clear(&mut self, range: Range<usize>) {
        if let Some(bytes) = self.bytes.get_mut(range) {
            bytes.fill(0);
        }
    }
}

/// Names the first byte that differs.
fn first_difference(one: &[u8], other: &[u8]) -> String {
    if one.len() != other.len() {
        return format!("length: kernel {}, stack {}", one.len(), other.len());
    }
    let at = one.iter().zip(other).position(|(a, b)| a != b).unwrap_or(0);
    format!("byte {at} of the frame is {:#04x} from the kernel and {:#04x} from the stack", one[at], other[at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::generate::packets::{Packet, echo};

    fn reply(id: u16, options: &[u8]) -> Vec<u8> {
        Packet {
            src: [10, 9, 0, 1].into(),
            dst: [10, 9, 0, 2].into(),
            id,
            options: options.to_vec(),
            ..echo(0, 1, b"")
        }
        .frame()
    }

    fn host() -> Host {
        crate::twin::generate::packets::host()
    }

    #[test]
    fn a_time_and_an_identification_are_free_and_an_address_is_not() {
        let mut normalised = Normalised::new();
        let mut ids = Identifications::default();
        let stamp = |address: u8, time: u8| [68, 12, 13, 1, 10, 9, 0, address, 0, 0, 0, time];
        let (one, other) = (reply(7, &stamp(1, 2)), reply(9, &stamp(1, 3)));
        assert_eq!(ids.compare(&host(), &one, &other, &mut normalised), None);
        assert_eq!(normalised, [("IP identification", 1), ("time in an option", 1)].into());
        let wrong = ids.compare(&host(), &one, &reply(9, &stamp(2, 2)), &mut normalised);
        assert_eq!(wrong.as_deref(), Some("byte 41 of the frame is 0x01 from the kernel and 0x02 from the stack"));
    }

    #[test]
    fn identifications_of_others_and_of_fragments_are_not_free() {
        let mut normalised = Normalised::new();
        let mut ids = Identifications::default();
        let from = |src: [u8; 4], id: u16, word: u16| {
            Packet { src: src.into(), dst: [10, 9, 0, 2].into(), id, word, ..echo(0, 1, &[0; 16]) }.frame()
        };
        let mut compare = |one: Vec<u8>, other: Vec<u8>| ids.compare(&host(), &one, &other, &mut normalised).is_none();
        let (ours, theirs) = ([10, 9, 0, 1], [10, 8, 0, 1]);
        assert!(!compare(from(theirs, 1, 0), from(theirs, 2, 0)));
        assert!(compare(from(ours, 1, 0x2000), from(ours, 2, 0x2000)));
        assert!(compare(from(ours, 1, 2), from(ours, 2, 2)));
        assert!(!compare(from(ours, 1, 4), from(ours, 3, 4)));
        assert!(compare(from(ours, 5, 0), from(ours, 0, 0)), "a counter that has come round");
        assert!(!compare(from(ours, 5, 0x4000), from(ours, 0, 0x4000)), "0 is what is never fragmented");
    }
}
