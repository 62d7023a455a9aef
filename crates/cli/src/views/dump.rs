//! `rxpath dump`: packets as packet sockets see them, and a line for each.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use rxpath::rxpath_mem::PktType;
use rxpath_wire::{
    ArpPacket, EtherType, EthernetHeader, IcmpHeader, IpProto, Ipv4Header, TcpFlags, TcpHeader, UdpHeader, VlanTag,
    arp, icmp,
};
use serde::{Deserialize, Serialize};

/// An interface that packets may come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpInterface {
    /// Its index.
    pub ifindex: u16,
    /// Its name.
    pub name: String,
}

/// What comes before packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpStart {
    /// The interfaces that are watched.
    pub interfaces: Vec<DumpInterface>,
    /// Nanoseconds from 1970 to the beginning of the stack's clock.
    pub epoch_ns: i64,
}

/// To whom a packet was addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum To {
    /// To this host.
    Host,
    /// To all.
    Broadcast,
    /// To a group.
    Multicast,
    /// To another station.
    OtherHost,
    /// From this host.
    Outgoing,
}

impl From<PktType> for To {
    fn from(pkt_type: PktType) -> To {
        match pkt_type {
            PktType::Host | PktType::Loopback => To::Host,
            PktType::Broadcast => To::Broadcast,
            PktType::Multicast => To::Multicast,
            PktType::OtherHost => To::OtherHost,
            PktType::Outgoing => To::Outgoing,
        }
    }
}

impl To {
    /// pcapng's `epb_flags`: the direction, and for what came in how it was addressed.
    pub const fn flags(self) -> u32 {
        const IN: u32 = 1;
        match self {
            To::Host => IN | 1 << 2,
            To::Multicast => IN | 2 << 2,
            To::Broadcast => IN | 3 << 2,
            To::OtherHost => IN | 4 << 2,
            To::Outgoing => 2,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            To::Host => "in",
            To::Broadcast => "in, to all",
            To::Multicast => "in, to a group",
            To::OtherHost => "in, to another host",
            To::Outgoing => "out",
        }
    }
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpPacket {
    /// When, in nanoseconds on the stack's clock.
    pub at: u64,
    /// The packet that was seen, as `rxpath life` names it.
    pub packet: String,
    /// The same as a number.
    pub id: u64,
    /// On which interface, by index.
    pub ifindex: u16,
    /// To whom.
    pub to: To,
    /// Bytes of the frame, its VLAN tag included.
    pub len: u32,
    /// Packets that the buffer had no room for, right before this one.
    pub dropped_before: u64,
    /// Its checksum is not filled in: a device does that, or it was merged of several.
    pub checksum_open: bool,
    /// What was kept of the frame, in hex.
    pub data: String,
}

/// Packets that came together; none where nothing came for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpBatch {
    /// The packets, in the order in which they were seen.
    pub packets: Vec<DumpPacket>,
    /// Packets that the buffer had no room for, since the beginning.
    pub dropped: u64,
}

/// Bytes in hex.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Bytes from hex; None if it is none.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

/// A packet in a line: when, where, which way, what.
pub fn line(packet: &DumpPacket, frame: &[u8], interface: &str) -> String {
    let (seconds, micros) = (packet.at / 1_000_000_000, packet.at / 1_000 % 1_000_000);
    let open = if packet.checksum_open { " (checksum open)" } else { "" };
    format!("{seconds}.{micros:06} {interface} {}: {}{open}", packet.to.words(), describe(frame, packet.len as usize))
}

/// What a frame says, as far as its bytes reach; `len` is its length on the wire.
fn describe(frame: &[u8], len: usize) -> String {
    let Some((ethernet, mut rest)) = EthernetHeader::parse(frame) else {
        return format!("{len} bytes, no whole header");
    };
    let (mut text, mut ethertype) = (String::new(), ethernet.ethertype());
    while EtherType::is_tag(ethertype)
        && let Some(([a, b, c, d], behind)) = rest.split_first_chunk::<{ VlanTag::LEN }>()
    {
        let tag = VlanTag { tpid: ethertype, tci: u16::from_be_bytes([*a, *b]) };
        // Writing to a String cannot fail.
        let _ = write!(text, "vlan {} ", tag.id());
        (ethertype, rest) = (u16::from_be_bytes([*c, *d]), behind);
    }
    let known = match ethertype {
        EtherType::IPV4 => ipv4(rest),
        EtherType::ARP => arp(rest),
        _ => None,
    };
    let known = known.unwrap_or_else(|| {
        let kind = if ethertype < EtherType::MIN { "802.3".to_owned() } else { format!("EtherType {ethertype:#06x}") };
        format!("{} > {} {kind}, {len} bytes", ethernet.src(), ethernet.dst())
    });
    text + &known
}

fn arp(packet: &[u8]) -> Option<String> {
    let (arp, _) = ArpPacket::parse(packet)?;
    if !arp.is_ipv4_over_ethernet() {
        return None;
    }
    let (sender, target) = (arp.sender_ip(), arp.target_ip());
    Some(match arp.operation() {
        arp::REQUEST => format!("ARP who has {target}? tell {sender}"),
        arp::REPLY => format!("ARP {sender} is at {}", arp.sender_mac()),
        operation => format!("ARP operation {operation}, {sender} to {target}"),
    })
}

fn ipv4(packet: &[u8]) -> Option<String> {
    let (ip, _) = Ipv4Header::parse(packet)?;
    if ip.version() != 4 || ip.ihl() < 5 {
        return None;
    }
    let len = usize::from(ip.total_len()).saturating_sub(ip.header_len());
    let payload = packet.get(ip.header_len()..).unwrap_or_default();
    let offset = usize::from(ip.fragment_offset());
    if ip.is_fragment() && offset > 0 {
        let more = if ip.more_fragments() { ", more follow" } else { "" };
        return Some(format!(
            "{} > {} fragment of {:#06x} from {offset} on, {len} bytes{more}",
            ip.src(),
            ip.dst(),
            ip.id()
        ));
    }
    let transport = match ip.protocol() {
        IpProto::TCP => tcp(ip.src(), ip.dst(), payload, len),
        IpProto::UDP => UdpHeader::parse(payload).map(|(udp, _)| {
            let bytes = usize::from(udp.length()).saturating_sub(8);
            format!("{}:{} > {}:{} UDP, {bytes} bytes", ip.src(), udp.src_port(), ip.dst(), udp.dst_port())
        }),
        IpProto::ICMP => IcmpHeader::parse(payload).map(|(icmp, _)| {
            let what = match icmp.kind() {
                icmp::ECHO_REQUEST => format!("echo request {} of {}", icmp.echo_seq(), icmp.echo_id()),
                icmp::ECHO_REPLY => format!("echo reply {} of {}", icmp.echo_seq(), icmp.echo_id()),
                kind => format!("type {kind} code {}", icmp.code()),
            };
            format!("{} > {} ICMP {what}, {} bytes", ip.src(), ip.dst(), len.saturating_sub(8))
        }),
        _ => None,
    };
    Some(transport.unwrap_or_else(|| format!("{} > {} protocol {}, {len} bytes", ip.src(), ip.dst(), ip.protocol())))
}

fn tcp(src: Ipv4Addr, dst: Ipv4Addr, segment: &[u8], len: usize) -> Option<String> {
    let (tcp, _) = TcpHeader::parse(segment)?;
    let flags = tcp.flags();
    let ack = if flags.contains(TcpFlags::ACK) { format!(" ack {}", tcp.ack().0) } else { String::new() };
    let bytes = len.saturating_sub(tcp.header_len());
    let (sport, dport, seq, window) = (tcp.src_port(), tcp.dst_port(), tcp.seq().0, tcp.window());
    Some(format!("{src}:{sport} > {dst}:{dport} TCP {flags} seq {seq}{ack} win {window}, {bytes} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(hex: &str) -> String {
        let frame = from_hex(&hex.replace(' ', "")).expect("hex");
        describe(&frame, frame.len())
    }

    #[test]
    fn hex_is_read_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        assert_eq!((from_hex("0"), from_hex("0g"), from_hex("é0")), (None, None, None));
        assert_eq!(from_hex("0aF0"), Some(vec![0x0a, 0xf0]));
    }

    #[test]
    fn frames_are_told_in_a_line() {
        const MACS: &str = "020000000001 020000000002";
        const IP: &str = "4500 0028 0001 0000 4006 0000 0a090002 0a090001";
        for (hex, words) in [
            (
                format!("{MACS} 0800 {IP} de2a 0050 00000001 00000000 5002 ffff 0000 0000"),
                "10.9.0.2:56874 > 10.9.0.1:80 TCP SYN seq 1 win 65535, 0 bytes",
            ),
            (
                format!("{MACS} 8100 0005 0800 {IP} de2a 0050 00000001 00000009 5010 ffff 0000 0000"),
                "vlan 5 10.9.0.2:56874 > 10.9.0.1:80 TCP ACK seq 1 ack 9 win 65535, 0 bytes",
            ),
            (
                format!("{MACS} 0800 {}", IP.replace("4006", "4011") + "0035 0036 000c 0000 61626364"),
                "10.9.0.2:53 > 10.9.0.1:54 UDP, 4 bytes",
            ),
            (
                format!("{MACS} 0800 {}", IP.replace("4006", "4001") + "0800 0000 0007 0003"),
                "10.9.0.2 > 10.9.0.1 ICMP echo request 3 of 7, 12 bytes",
            ),
            (
                format!("{MACS} 0800 {}", IP.replace("4006", "4001") + "0301 0000 0000 0000"),
                "10.9.0.2 > 10.9.0.1 ICMP type 3 code 1, 12 bytes",
            ),
            (
                format!("{MACS} 0800 {}", IP.replace("0001 0000", "0001 2002")),
                "10.9.0.2 > 10.9.0.1 fragment of 0x0001 from 16 on, 20 bytes, more follow",
            ),
            (format!("{MACS} 0800 {}", IP.replace("4006", "4084")), "10.9.0.2 > 10.9.0.1 protocol 132, 20 bytes"),
            (format!("{MACS} 0800 {IP} de2a"), "10.9.0.2 > 10.9.0.1 protocol 6, 20 bytes"),
            (
                format!("{MACS} 0806 0001 0800 06 04 0001 020000000002 0a090002 000000000000 0a090001"),
                "ARP who has 10.9.0.1? tell 10.9.0.2",
            ),
            (
                format!("{MACS} 0806 0001 0800 06 04 0002 020000000002 0a090002 000000000000 0a090001"),
                "ARP 10.9.0.2 is at 02:00:00:00:00:02",
            ),
            (format!("{MACS} 88cc 00"), "02:00:00:00:00:02 > 02:00:00:00:00:01 EtherType 0x88cc, 15 bytes"),
            (format!("{MACS} 0003 424203"), "02:00:00:00:00:02 > 02:00:00:00:00:01 802.3, 17 bytes"),
            ("0200".to_owned(), "2 bytes, no whole header"),
        ] {
            assert_eq!(shown(&hex), words);
        }
        let packet = DumpPacket {
            at: 1_362_827_999,
            packet: "r0:1".to_owned(),
            id: 1,
            ifindex: 1,
            to: To::Broadcast,
            len: 70,
            dropped_before: 0,
            checksum_open: true,
            data: String::new(),
        };
        assert_eq!(line(&packet, &[], "eth0"), "1.362827 eth0 in, to all: 70 bytes, no whole header (checksum open)");
    }

    #[test]
    fn nothing_that_comes_panics() {
        let frame =
            from_hex("0200000000010200000000028100000508004f00ffff00002fff4006000000000000ffffffff").expect("hex");
        for at in 0..frame.len() {
            for value in [0, 0x11, 0x45, 0x7f, 0xff] {
                let mut changed = frame.clone();
                changed[at] = value;
                for end in 0..=changed.len() {
                    assert!(!describe(&changed[..end], 9).is_empty());
                }
            }
        }
    }

    #[test]
    fn flags_are_pcapngs() {
        let flags = [To::Host, To::Multicast, To::Broadcast, To::OtherHost, To::Outgoing].map(To::flags);
        assert_eq!(flags, [0b101, 0b1001, 0b1101, 0b1_0001, 0b10]);
    }
}
