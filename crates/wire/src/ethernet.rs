//! Ethernet II framing (IEEE 802.3): the 14-byte header. The frame check sequence never reaches
//! this crate.

use crate::MacAddr;
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The EtherTypes that the stack knows by name, as host-order numbers.
#[derive(Debug)]
pub enum EtherType {}

impl EtherType {
    /// IPv4 (RFC 894).
    pub const IPV4: u16 = 0x0800;
    /// ARP (RFC 826).
    pub const ARP: u16 = 0x0806;
    /// A VLAN tag (802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// IPv6 (RFC 2464).
    pub const IPV6: u16 = 0x86dd;
    /// A service VLAN tag (802.1ad).
    pub const QINQ: u16 = 0x88a8;
    /// Stands for every protocol where handlers are registered; never on the wire (kernel:
    /// `ETH_P_ALL`).
    pub const ALL: u16 = 0x0003;
    /// Stands for raw 802.3 frames, IPX of old; never on the wire (kernel: `ETH_P_802_3`).
    pub const RAW_802_3: u16 = 0x0001;
    /// Stands for 802.2 LLC frames; never on the wire (kernel: `ETH_P_802_2`).
    pub const LLC_802_2: u16 = 0x0004;
    /// From here on the field is a type; below, it is a length (kernel: `ETH_P_802_3_MIN`).
    pub const MIN: u16 = 0x0600;
}

/// The Ethernet header: 14 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct EthernetHeader {
    dst: MacAddr,
    src: MacAddr,
    ethertype: U16,
}

impl EthernetHeader {
    /// Bytes of the header.
    pub const LEN: usize = 14;

    /// The header and what follows it; `None` when `frame` is shorter than the header.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(frame).ok()
    }

    /// [`EthernetHeader::parse`] for writing.
    #[inline]
    pub fn parse_mut(frame: &mut [u8]) -> Option<(&mut Self, &mut [u8])> {
        Self::mut_from_prefix(frame).ok()
    }

    /// The station that the frame is for.
    #[inline]
    pub fn dst(&self) -> MacAddr {
        self.dst
    }

    /// The station that sent the frame.
    #[inline]
    pub fn src(&self) -> MacAddr {
        self.src
    }

    /// The type field as it stands, which below [`EtherType::MIN`] is a length.
    #[inline]
    pub fn ethertype(&self) -> u16 {
        self.ethertype.get()
    }

    /// Writes the destination.
    #[inline]
    pub fn set_dst(&mut self, dst: MacAddr) {
        self.dst = dst;
    }

    /// Writes the source.
    #[inline]
    pub fn set_src(&mut self, src: MacAddr) {
        self.src = src;
    }
}

/// The values of an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetRepr {
    /// The station that the frame is for.
    pub dst: MacAddr,
    /// The station that sends it.
    pub src: MacAddr,
    /// What the frame carries, of [`EtherType`].
    pub ethertype: u16,
}

/// Writes the header to the front of `buf` and gives its length, 14.
///
/// # Panics
///
/// If `buf` is shorter than that.
#[inline]
pub fn emit(buf: &mut [u8], repr: EthernetRepr) -> usize {
    let EthernetRepr { dst, src, ethertype } = repr;
    let header = EthernetHeader { dst, src, ethertype: ethertype.into() };
    buf[..EthernetHeader::LEN].copy_from_slice(header.as_bytes());
    EthernetHeader::LEN
}
