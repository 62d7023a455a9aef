//! IP packets in frames, with every field at hand.

use std::net::Ipv4Addr;

use rxpath_wire::{
    EtherType, EthernetHeader, EthernetRepr, IcmpRepr, IpProto, MacAddr, SeqNum, TcpFlags, TcpOptions, TcpRepr,
    UdpHeader, ethernet, icmp, ipv4, tcp,
    udp::{self, UdpRepr},
};

use super::super::case::{Host, Link, Peer, host_mac};

/// The host's addresses on the first link, in networks of 24 and of 28 bits.
pub const OURS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(192, 168, 7, 1)];
/// A host on the first link.
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// A protocol that nobody has (RFC 3692).
pub const EXPERIMENT: u8 = 253;

/// The hardware address of the host on a link whose IP address ends in `last`.
pub fn mac_of(link: u8, last: u8) -> MacAddr {
    MacAddr([0x02, 0x72, 0x78, 1, link, last])
}

/// A host on a link whose network has 24 bits.
pub fn peer(link: u8, addr: Ipv4Addr) -> Peer {
    Peer { addr, mac: mac_of(link, addr.octets()[3]).0 }
}

/// One interface with two networks, and two hosts on its link. Errors are not bounded by the host's bucket, out of which
/// a random number of tokens is taken.
pub fn host() -> Host {
    let addresses = vec![(OURS[0], 24), (OURS[1], 28)];
    let peers = vec![peer(0, PEER), peer(0, Ipv4Addr::new(10, 9, 0, 3))];
    let sysctls = vec![("net.ipv4.icmp_msgs_burst".to_owned(), "100000".to_owned())];
    Host { links: vec![Link { addresses, mtu: 1_500, peers }], sysctls, ..Host::default() }
}

/// An IP packet in a frame.
#[derive(Clone, Debug)]
pub struct Packet {
    pub to: MacAddr,
    pub from: MacAddr,
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub version: u8,
    /// Words that the header says it has; None: as many as it has.
    pub ihl: Option<u8>,
    pub tos: u8,
    /// Bytes that the header says the packet has; None: as many as it has.
    pub total_len: Option<u16>,
    pub id: u16,
    /// Flags and offset.
    pub word: u16,
    pub ttl: u8,
    pub proto: u8,
    /// Padded to whole words.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
    /// The header's checksum is wrong.
    pub spoilt: bool,
    /// Bytes behind the packet.
    pub padding: usize,
    /// Bytes that the frame ends early.
    pub cut: usize,
}

impl Packet {
    /// A packet from the peer to the host.
    pub fn new(proto: u8, payload: Vec<u8>) -> Packet {
        Packet {
            to: host_mac(0),
            from: mac_of(0, 2),
            src: PEER,
            dst: OURS[0],
            version: 4,
            ihl: None,
            tos: 0,
            total_len: None,
            id: 0x1234,
            word: 0,
            ttl: 64,
            proto,
            options: Vec::new(),
            payload,
            spoilt: false,
            padding: 0,
            cut: 0,
        }
    }

    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut packet = vec![0; 20];
        packet.extend_from_slice(&self.options);
        packet.resize(packet.len().next_multiple_of(4), 0);
        let header_len = packet.len();
        packet.extend_from_slice(&self.payload);
        let total_len = self.total_len.unwrap_or(packet.len() as u16);
        packet[0] = self.version << 4 | self.ihl.unwrap_or((header_len / 4) as u8) & 0xf;
        packet[1] = self.tos;
        packet[2..4].copy_from_slice(&total_len.to_be_bytes());
        packet[4..6].copy_from_slice(&self.id.to_be_bytes());
        packet[6..8].copy_from_slice(&self.word.to_be_bytes());
        packet[8] = self.ttl;
        packet[9] = self.proto;
        packet[12..16].copy_from_slice(&self.src.octets());
        packet[16..20].copy_from_slice(&self.dst.octets());
        // Over as many words as it says it has, if there are as many.
        let summed = (usize::from(packet[0] & 0xf) * 4).clamp(20, packet.len());
        ipv4::fill_checksum(&mut packet[..summed]);
        if self.spoilt {
            packet[10] ^= 0x21;
        }
        let mut frame = vec![0; EthernetHeader::LEN];
        ethernet::emit(&mut frame, EthernetRepr { dst: self.to, src: self.from, ethertype: EtherType::IPV4 });
        frame.extend_from_slice(&packet);
        frame.resize(frame.len() + self.padding, 0xa5);
        frame.truncate((frame.len() - self.cut.min(frame.len())).max(EthernetHeader::LEN));
        frame
    }
}

/// An ICMP message, its checksum right.
pub fn message(kind: u8, code: u8, rest: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8 + data.len()];
    icmp::emit(&mut bytes, IcmpRepr { kind, code, rest });
    bytes[8..].copy_from_slice(data);
    icmp::fill_checksum(&mut bytes);
    bytes
}

/// An echo message (8: request; 0: reply) from the peer to the host.
pub fn echo(kind: u8, seq: u16, data: &[u8]) -> Packet {
    Packet::new(IpProto::ICMP, message(kind, 0, 0x7170_0000 | u32::from(seq), data))
}

/// A datagram, its checksum right: addresses and ports of sender and receiver.
pub fn datagram((src, dst): (Ipv4Addr, Ipv4Addr), (sport, dport): (u16, u16), data: &[u8]) -> Vec<u8> {
    let len = UdpHeader::LEN + data.len();
    let mut bytes = vec![0; len];
    udp::emit(&mut bytes, UdpRepr { sport, dport, len: len as u16 });
    bytes[UdpHeader::LEN..].copy_from_slice(data);
    udp::fill_checksum(src.into(), dst.into(), &mut bytes);
    bytes
}

/// A TCP segment without data to a port on which nobody listens.
pub fn segment(src: Ipv4Addr, dst: Ipv4Addr, flags: TcpFlags, seq: u32) -> Vec<u8> {
    let repr = TcpRepr {
        sport: 40_000,
        dport: 81,
        seq: SeqNum(seq),
        ack: SeqNum(if flags.ack() { 77 } else { 0 }),
        flags,
        window: 1_000,
        urgent: 0,
        options: TcpOptions::default(),
    };
    let mut bytes = vec![0; repr.header_len()];
    tcp::emit(&mut bytes, repr);
    tcp::fill_checksum(src.into(), dst.into(), &mut bytes);
    bytes
}
