//! ARP for IPv4 over Ethernet (RFC 826): 28 bytes.

use crate::{EtherType, MacAddr};
use std::net::Ipv4Addr;
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Hardware type Ethernet.
pub const HARDWARE_ETHERNET: u16 = 1;
/// Hardware type IEEE 802, which Linux takes for Ethernet.
pub const HARDWARE_IEEE802: u16 = 6;
/// Operation: who has the target address?
pub const REQUEST: u16 = 1;
/// Operation: the sender has it.
pub const REPLY: u16 = 2;

/// An ARP packet with the address lengths of IPv4 over Ethernet. Packets with other lengths parse
/// too (the fixed part says so), but their address fields mean nothing: see
/// [`ArpPacket::is_ipv4_over_ethernet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ArpPacket {
    hardware: U16,
    protocol: U16,
    hardware_len: u8,
    protocol_len: u8,
    operation: U16,
    sender_mac: MacAddr,
    sender_ip: [u8; 4],
    target_mac: MacAddr,
    target_ip: [u8; 4],
}

impl ArpPacket {
    /// Bytes of the packet.
    pub const LEN: usize = 28;

    /// The packet and what follows it (padding, usually); `None` when there are fewer than 28
    /// bytes.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(bytes).ok()
    }

    /// The hardware type.
    #[inline]
    pub fn hardware(&self) -> u16 {
        self.hardware.get()
    }

    /// The protocol whose addresses are asked for, as an EtherType.
    #[inline]
    pub fn protocol(&self) -> u16 {
        self.protocol.get()
    }

    /// Length of a hardware address in bytes.
    #[inline]
    pub fn hardware_len(&self) -> u8 {
        self.hardware_len
    }

    /// Length of a protocol address in bytes.
    #[inline]
    pub fn protocol_len(&self) -> u8 {
        self.protocol_len
    }

    /// [`REQUEST`], [`REPLY`] or something else.
    #[inline]
    pub fn operation(&self) -> u16 {
        self.operation.get()
    }

    /// The sender's Ethernet address.
    #[inline]
    pub fn sender_mac(&self) -> MacAddr {
        self.sender_mac
    }

    /// The sender's IPv4 address.
    #[inline]
    pub fn sender_ip(&self) -> Ipv4Addr {
        self.sender_ip.into()
    }

    /// The target's Ethernet address; meaningless in a request.
    #[inline]
    pub fn target_mac(&self) -> MacAddr {
        self.target_mac
    }

    /// The target's IPv4 address.
    #[inline]
    pub fn target_ip(&self) -> Ipv4Addr {
        self.target_ip.into()
    }

    /// Whether types and lengths are those of IPv4 over Ethernet; hardware types 1 and 6 both are,
    /// as for Linux.
    #[inline]
    pub fn is_ipv4_over_ethernet(&self) -> bool {
        matches!(self.hardware(), HARDWARE_ETHERNET | HARDWARE_IEEE802)
            && self.protocol() == EtherType::IPV4
            && self.hardware_len == 6
            && self.protocol_len == 4
    }
}

/// The values of an ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpRepr {
    /// [`REQUEST`] or [`REPLY`].
    pub operation: u16,
    /// The sender's Ethernet address.
    pub sender_mac: MacAddr,
    /// The sender's IPv4 address.
    pub sender_ip: Ipv4Addr,
    /// The target's Ethernet address, zero in a request.
    pub target_mac: MacAddr,
    /// The target's IPv4 address.
    pub target_ip: Ipv4Addr,
}

/// Writes the packet to the front of `buf` and gives its length, 28.
///
/// # Panics
///
/// If `buf` is shorter than that.
pub fn emit(buf: &mut [u8], repr: ArpRepr) -> usize {
    let packet = ArpPacket {
        hardware: HARDWARE_ETHERNET.into(),
        protocol: EtherType::IPV4.into(),
        hardware_len: 6,
        protocol_len: 4,
        operation: repr.operation.into(),
        sender_mac: repr.sender_mac,
        sender_ip: repr.sender_ip.octets(),
        target_mac: repr.target_mac,
        target_ip: repr.target_ip.octets(),
    };
    buf[..ArpPacket::LEN].copy_from_slice(packet.as_bytes());
    ArpPacket::LEN
}
