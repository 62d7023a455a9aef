//! What a life's events tell of the packet itself: what it is, how long, whence and whither.

use std::net::{IpAddr, Ipv4Addr};

use super::Life;
use crate::event::{Event, EventKind, OutputWhat};
use crate::filter::Flow;

/// The packet, as far as its events tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// Bytes at its birth.
    pub bytes: Option<u32>,
    /// Interface index and queue of the device that offered it.
    pub device: Option<(u16, u16)>,
    /// Source and destination.
    pub addresses: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Source port, destination port and TCP flags.
    pub ports: Option<(u16, u16, u8)>,
    /// IP protocol.
    pub proto: Option<u8>,
    ethertype: Option<u16>,
    output: Option<OutputWhat>,
    arp: Option<u32>,
    arp_sender: Option<Ipv4Addr>,
    icmp: Option<u32>,
    ip: bool,
}

impl Facts {
    pub fn of(life: &Life) -> Facts {
        let mut facts = Facts::default();
        for event in &life.events {
            facts.learn(event);
        }
        facts
    }

    fn learn(&mut self, event: &Event) {
        let &Event { a, b, .. } = event;
        match event.kind {
            EventKind::Offered | EventKind::Missed => {
                self.bytes = Some(a);
                self.device = Some(halves(b));
            }
            EventKind::OutputMade => {
                self.bytes = Some(b);
                self.output = OutputWhat::from_number(a);
                (self.ethertype, self.proto) = self.output.map_or((None, None), headers_of);
            }
            EventKind::Made => self.bytes = Some(b),
            EventKind::Cloned => self.bytes = Some(a),
            EventKind::EthTypeTrans | EventKind::NetifReceive => self.ethertype = u16::try_from(b).ok(),
            EventKind::ArpRcv => {
                self.arp = Some(a);
                self.arp_sender = Some(Ipv4Addr::from_bits(b));
            }
            EventKind::IpRcv => self.ip = true,
            EventKind::Addresses => self.addresses = Some((Ipv4Addr::from_bits(a), Ipv4Addr::from_bits(b))),
            EventKind::LocalDeliver => self.proto = u8::try_from(a).ok(),
            EventKind::IcmpRcv => self.icmp = Some(a),
            EventKind::TcpV4Rcv => self.proto = Some(6),
            EventKind::UdpRcv => {
                let (source, destination) = halves(a);
                self.ports = Some((source, destination, 0));
                self.proto = Some(17);
            }
            EventKind::Ports => {
                let (source, destination) = halves(a);
                self.ports = Some((source, destination, b as u8));
                self.proto = Some(6);
            }
            _ => {}
        }
    }

    /// What a filter looks at.
    pub fn flow(&self) -> Flow {
        let (src, dst) = self.addresses.unzip();
        let (sport, dport, tcp_flags) = self.ports.unwrap_or_default();
        let nobody = Flow::default();
        Flow {
            src: src.or(self.arp_sender).map_or(nobody.src, IpAddr::V4),
            dst: dst.map_or(nobody.dst, IpAddr::V4),
            proto: self.proto.unwrap_or(nobody.proto),
            sport,
            dport,
            tcp_flags,
            // What has addresses is IPv4, whether or not its Ethernet header was read.
            ethertype: self.ethertype.or(src.map(|_| IPV4)).unwrap_or(nobody.ethertype),
        }
    }

    /// What it is, with its article: `a TCP segment`.
    pub fn what(&self) -> String {
        if let Some(what) = self.output {
            return what.words().to_string();
        }
        if let Some(op) = self.arp {
            return match op {
                1 => "an ARP request",
                2 => "an ARP reply",
                _ => "an ARP packet",
            }
            .to_string();
        }
        match (self.proto, self.icmp, self.ethertype) {
            (Some(6), ..) => tcp_words(self.ports.map(|(_, _, flags)| flags)).to_string(),
            (Some(17), ..) => "a UDP datagram".to_string(),
            (_, Some(8), _) => "an ICMP echo request".to_string(),
            (_, Some(0), _) => "an ICMP echo reply".to_string(),
            (Some(1), ..) | (_, Some(_), _) => "an ICMP message".to_string(),
            (Some(proto), ..) => format!("an IPv4 packet of protocol {proto}"),
            _ if self.ip => "an IPv4 packet".to_string(),
            (.., Some(IPV4)) => "an IPv4 packet".to_string(),
            (.., Some(ARP)) => "an ARP packet".to_string(),
            (.., Some(0x86dd)) => "an IPv6 packet".to_string(),
            (.., Some(ethertype)) => format!("a frame of EtherType {ethertype:#06x}"),
            _ => "a frame".to_string(),
        }
    }

    /// ` from 10.0.0.2:40000 to 10.0.0.1:80`, with a blank before it; empty if the addresses are not known.
    pub fn whence_whither(&self) -> String {
        match (self.addresses, self.ports) {
            (Some((source, destination)), Some((sport, dport, _))) => {
                format!(" from {source}:{sport} to {destination}:{dport}")
            }
            (Some((source, destination)), None) => format!(" from {source} to {destination}"),
            _ => String::new(),
        }
    }
}

/// EtherType and IP protocol of what the stack made.
fn headers_of(what: OutputWhat) -> (Option<u16>, Option<u8>) {
    use OutputWhat::*;
    match what {
        TcpData | TcpAck | TcpSyn | TcpSynAck | TcpFin | TcpRst | TcpRetransmit | TcpProbe => (Some(IPV4), Some(6)),
        ArpRequest | ArpReply => (Some(ARP), None),
        EchoReply | IcmpError => (Some(IPV4), Some(1)),
        Udp => (Some(IPV4), Some(17)),
        Other | Frame => (None, None),
    }
}

/// EtherTypes.
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;

/// A segment by the flags that make it special.
fn tcp_words(flags: Option<u8>) -> &'static str {
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const ACK: u8 = 0x10;
    match flags.unwrap_or(ACK) & (FIN | SYN | RST | ACK) {
        SYN => "a TCP SYN",
        flags if flags == SYN | ACK => "a TCP SYN-ACK",
        flags if flags & (RST | SYN) == RST => "a TCP reset",
        flags if flags & (FIN | SYN | RST) == FIN => "a TCP FIN",
        _ => "a TCP segment",
    }
}

/// The high and the low half of a word.
pub(super) fn halves(word: u32) -> (u16, u16) {
    ((word >> 16) as u16, word as u16)
}
