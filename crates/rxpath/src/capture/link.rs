//! Link types: what stands in front of a packet in a capture, and the Ethernet frame that an interface gets.
//!
//! A capture of another link type than Ethernet gives no Ethernet header, which the receive path begins with. One is
//! made: to the interface's own hardware address, or to the broadcast or a multicast address where the capture (or the
//! IPv4 destination, where it says nothing) has it so; from the sender's address where the capture has one of six bytes,
//! else from [`NOBODY`].

use std::fmt;

use rxpath_wire::{EtherType, EthernetHeader, Ipv4Header, MacAddr};

/// The source address of a made header whose sender is not known.
pub const NOBODY: MacAddr = MacAddr([0x02, b'r', b'x', 0xff, 0xff, 0xfe]);
/// The destination address of a made header of a packet for another host.
const SOMEBODY_ELSE: MacAddr = MacAddr([0x02, b'r', b'x', 0xff, 0xff, 0xfd]);
/// The destination address of a made header of a multicast packet.
const EVERYBODY_LISTENING: MacAddr = MacAddr([0x01, 0x00, 0x5e, 0, 0, 1]);

/// What stands in front of the packets of an interface (the LINKTYPE registry of draft-ietf-opsawg-pcaplinktype).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header (1).
    Ethernet,
    /// Nothing: IPv4 or IPv6 (101, 228, 229, and 12 and 14 of some systems).
    RawIp,
    /// BSD's loopback: the address family in the byte order of the machine (0).
    Null,
    /// OpenBSD's loopback: the address family in network byte order (108).
    Loop,
    /// Linux "cooked", version 1 (113): what `tcpdump -i any` wrote.
    Sll,
    /// Linux "cooked", version 2 (276).
    Sll2,
    /// Anything else.
    Other(u16),
}

impl Link {
    /// The link type of that number.
    pub const fn of(number: u16) -> Link {
        match number {
            0 => Link::Null,
            1 => Link::Ethernet,
            12 | 14 | 101 | 228 | 229 => Link::RawIp,
            108 => Link::Loop,
            113 => Link::Sll,
            276 => Link::Sll2,
            other => Link::Other(other),
        }
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        match self {
            Link::Null => 0,
            Link::Ethernet => 1,
            Link::RawIp => 101,
            Link::Loop => 108,
            Link::Sll => 113,
            Link::Sll2 => 276,
            Link::Other(number) => number,
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Link::Ethernet => f.write_str("Ethernet"),
            Link::RawIp => f.write_str("raw IP"),
            Link::Null => f.write_str("BSD null"),
            Link::Loop => f.write_str("BSD loop"),
            Link::Sll => f.write_str("Linux cooked"),
            Link::Sll2 => f.write_str("Linux cooked v2"),
            Link::Other(number) => write!(f, "link type {number}"),
        }
    }
}

/// For whom the link layer says that a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// For the host that captured.
    Host,
    /// For all.
    Broadcast,
    /// For a group.
    Multicast,
    /// For another host.
    OtherHost,
    /// Sent by the host that captured.
    Outgoing,
}

/// What the link header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peeled {
    /// Bytes of the header; behind it begins the network packet.
    pub header: usize,
    /// The EtherType of what follows.
    pub ethertype: u16,
    /// Who sent it, if the header has it.
    pub src: Option<MacAddr>,
    /// For whom it is, of headers that say so themselves; of Ethernet the addresses tell.
    pub kind: Option<LinkKind>,
}

/// Why a link header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is cut short.
    Short,
    /// The link type is none of those above.
    LinkType(u16),
    /// What follows has no EtherType that could be told.
    Payload,
}

/// Reads the link header of `data`.
///
/// # Errors
/// It is cut short, unknown, or in front of what has no EtherType.
pub fn peel(link: Link, data: &[u8]) -> Result<Peeled, Unreadable> {
    match link {
        Link::Ethernet => {
            let (header, _) = EthernetHeader::parse(data).ok_or(Unreadable::Short)?;
            let src = Some(header.src());
            Ok(Peeled { header: EthernetHeader::LEN, ethertype: header.ethertype(), src, kind: None })
        }
        Link::RawIp => Ok(Peeled { header: 0, ethertype: by_version(data)?, src: None, kind: None }),
        Link::Null | Link::Loop => {
            let family = data.first_chunk::<4>().ok_or(Unreadable::Short)?;
            let family = match u32::from_be_bytes(*family) {
                big @ ..0x1_0000 => big,
                little => little.swap_bytes(),
            };
            let ethertype = match family {
                2 => EtherType::IPV4,
                // AF_INET6 of the BSDs, of macOS, of Linux.
                10 | 24 | 28 | 30 => EtherType::IPV6,
                _ => return Err(Unreadable::Payload),
            };
            Ok(Peeled { header: 4, ethertype, src: None, kind: None })
        }
        Link::Sll => {
            let header = data.first_chunk::<16>().ok_or(Unreadable::Short)?;
            let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
            cooked(word(0), word(4), [6, 7, 8, 9, 10, 11].map(|at| header[at]), word(14), 16)
        }
        Link::Sll2 => {
            let header = data.first_chunk::<20>().ok_or(Unreadable::Short)?;
            let protocol = u16::from_be_bytes([header[0], header[1]]);
            let mac = [12, 13, 14, 15, 16, 17].map(|at| header[at]);
            cooked(u16::from(header[10]), u16::from(header[11]), mac, protocol, 20)
        }
        Link::Other(number) => Err(Unreadable::LinkType(number)),
    }
}

fn cooked(kind: u16, mac_len: u16, mac: [u8; 6], protocol: u16, header: usize) -> Result<Peeled, Unreadable> {
    // Below this it is a length, or one of Linux's own numbers.
    if protocol < EtherType::MIN {
        return Err(Unreadable::Payload);
    }
    let kind = match kind {
        0 => LinkKind::Host,
        1 => LinkKind::Broadcast,
        2 => LinkKind::Multicast,
        3 => LinkKind::OtherHost,
        4 => LinkKind::Outgoing,
        _ => return Err(Unreadable::Payload),
    };
    let src = (mac_len == 6).then_some(MacAddr(mac));
    Ok(Peeled { header, ethertype: protocol, src, kind: Some(kind) })
}

fn by_version(packet: &[u8]) -> Result<u16, Unreadable> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => Ok(EtherType::IPV4),
        Some(6) => Ok(EtherType::IPV6),
        Some(_) => Err(Unreadable::Payload),
        None => Err(Unreadable::Short),
    }
}

/// Writes the Ethernet frame that an interface with address `mac` gets of a packet whose link header was read.
pub fn to_ethernet(link: Link, peeled: &Peeled, data: &[u8], mac: MacAddr, frame: &mut Vec<u8>) {
    frame.clear();
    if link != Link::Ethernet {
        let packet = data.get(peeled.header..).unwrap_or_default();
        let dst = match peeled.kind {
            Some(LinkKind::Broadcast) => MacAddr::BROADCAST,
            Some(LinkKind::Multicast) => EVERYBODY_LISTENING,
            Some(LinkKind::OtherHost) => SOMEBODY_ELSE,
            Some(LinkKind::Host | LinkKind::Outgoing) => mac,
            None => by_destination(peeled.ethertype, packet, mac),
        };
        frame.extend_from_slice(&dst.0);
        frame.extend_from_slice(&peeled.src.unwrap_or(NOBODY).0);
        frame.extend_from_slice(&peeled.ethertype.to_be_bytes());
    }
    let from = if link == Link::Ethernet { 0 } else { peeled.header };
    frame.extend_from_slice(data.get(from..).unwrap_or_default());
}

fn by_destination(ethertype: u16, packet: &[u8], mac: MacAddr) -> MacAddr {
    match Ipv4Header::parse(packet).filter(|_| ethertype == EtherType::IPV4) {
        Some((ip, _)) if ip.dst().is_broadcast() => MacAddr::BROADCAST,
        Some((ip, _)) if ip.dst().is_multicast() => EVERYBODY_LISTENING,
        _ => mac,
    }
}
