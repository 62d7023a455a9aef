//! Frames of the peer, byte by byte.

use std::net::Ipv4Addr;

use rxpath_wire::{
    ArpRepr, EtherType, EthernetRepr, IcmpRepr, IpProto, MacAddr, arp, ethernet, icmp as wire_icmp, ipv4,
};

use super::{ADDR, MAC, PEER, PEER_MAC};

/// An Ethernet frame of the peer.
pub(crate) fn ethernet(dst: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14];
    ethernet::emit(&mut frame, EthernetRepr { dst, src: PEER_MAC, ethertype });
    frame.extend_from_slice(payload);
    frame
}

/// An IPv4 packet in the making; its checksum is filled in at the end unless a test wants it wrong.
#[derive(Clone, Debug)]
pub(crate) struct Ip {
    pub(crate) to_mac: MacAddr,
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) proto: u8,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) fragment: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// First byte, where it is not to be what the options ask for.
    pub(crate) version_ihl: Option<u8>,
    /// Total length, where it is not to be the true one.
    pub(crate) total_len: Option<u16>,
}

/// A packet from the peer to us.
pub(crate) fn ip(proto: u8, payload: &[u8]) -> Ip {
    Ip {
        to_mac: MAC,
        src: PEER,
        dst: ADDR,
        proto,
        tos: 0,
        ttl: 64,
        fragment: 0,
        options: Vec::new(),
        payload: payload.to_vec(),
        version_ihl: None,
        total_len: None,
    }
}

/// A packet to TCP; what is in it does not matter.
pub(crate) fn tcp() -> Ip {
    ip(IpProto::TCP, &[0; 20])
}

/// An ICMP message from the peer to us.
pub(crate) fn icmp(kind: u8, code: u8, rest: u32, data: &[u8]) -> Ip {
    ip(IpProto::ICMP, &icmp_message(kind, code, rest, data))
}

/// An ICMP message with its checksum.
pub(crate) fn icmp_message(kind: u8, code: u8, rest: u32, data: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 8];
    wire_icmp::emit(&mut message, IcmpRepr { kind, code, rest });
    message.extend_from_slice(data);
    wire_icmp::fill_checksum(&mut message);
    message
}

/// An echo request with identifier 0x1234 and sequence number 1.
pub(crate) fn echo(data: &[u8]) -> Ip {
    icmp(wire_icmp::ECHO_REQUEST, 0, 0x1234_0001, data)
}

impl Ip {
    /// The same packet to another address.
    pub(crate) fn to(mut self, dst: [u8; 4]) -> Ip {
        self.dst = dst.into();
        self
    }

    /// The same packet from another address.
    pub(crate) fn from(mut self, src: [u8; 4]) -> Ip {
        self.src = src.into();
        self
    }

    /// The same packet in a frame to another station.
    pub(crate) fn in_frame_to(mut self, mac: MacAddr) -> Ip {
        self.to_mac = mac;
        self
    }

    /// The same packet with options, whole words.
    pub(crate) fn options(mut self, options: &[u8]) -> Ip {
        assert_eq!(options.len() % 4, 0, "whole words");
        self.options = options.to_vec();
        self
    }

    /// The packet, its header checksum right.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let mut packet = vec![0; header_len];
        packet[0] = self.version_ihl.unwrap_or(0x40 | (header_len / 4) as u8);
        packet[1] = self.tos;
        let total_len = self.total_len.unwrap_or((header_len + self.payload.len()) as u16);
        packet[2..4].copy_from_slice(&total_len.to_be_bytes());
        packet[4..6].copy_from_slice(&[0, 1]);
        packet[6..8].copy_from_slice(&self.fragment.to_be_bytes());
        packet[8] = self.ttl;
        packet[9] = self.proto;
        packet[12..16].copy_from_slice(&self.src.octets());
        packet[16..20].copy_from_slice(&self.dst.octets());
        packet[20..].copy_from_slice(&self.options);
        ipv4::fill_checksum(&mut packet);
        packet.extend_from_slice(&self.payload);
        packet
    }

    /// The frame.
    pub(crate) fn frame(&self) -> Vec<u8> {
        ethernet(self.to_mac, EtherType::IPV4, &self.packet())
    }
}

/// An ARP frame from the station with hardware address `sender.0`.
pub(crate) fn arp_frame(
    to: MacAddr,
    operation: u16,
    sender: (MacAddr, Ipv4Addr),
    target: (MacAddr, Ipv4Addr),
) -> Vec<u8> {
    let mut packet = vec![0; 28];
    let repr =
        ArpRepr { operation, sender_mac: sender.0, sender_ip: sender.1, target_mac: target.0, target_ip: target.1 };
    arp::emit(&mut packet, repr);
    ethernet(to, EtherType::ARP, &packet)
}

/// The peer asks who has our address.
pub(crate) fn arp_request() -> Vec<u8> {
    arp_frame(MacAddr::BROADCAST, arp::REQUEST, (PEER_MAC, PEER), (MacAddr::ZERO, ADDR))
}

/// The peer tells us its hardware address.
pub(crate) fn arp_reply() -> Vec<u8> {
    arp_frame(MAC, arp::REPLY, (PEER_MAC, PEER), (MAC, ADDR))
}
