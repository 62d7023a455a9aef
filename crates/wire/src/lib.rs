//! What a packet looks like on the wire: header views, addresses, sequence numbers, checksums and
//! flow hashes.
//!
//! * Views over received bytes, without a copy: [`EthernetHeader`], [`ArpPacket`], [`Ipv4Header`],
//!   [`TcpHeader`], [`UdpHeader`], [`IcmpHeader`]. Each has `parse(&[u8]) -> Option<(&Self,
//!   &[u8])>`, which gives the fixed part and the bytes behind it and checks the length alone: what
//!   the fields say is for the layer to judge, in the kernel's order.
//! * What headers mean: [`TcpOptions`], [`TcpFlags`], [`SeqNum`].
//! * Who talks to whom: [`MacAddr`], [`Addr`] (either family), [`Tuple`].
//! * Emission into a buffer: `emit` of [`ethernet`], [`arp`], [`ipv4`], [`tcp`], [`udp`], [`icmp`],
//!   each from a `Repr`.
//! * Checksums over pseudo-headers: [`pseudo_sum`] and the `verify` and `fill_checksum` functions
//!   of the protocols.
//! * Which flow and which queue: [`frame::flow_of`], [`Toeplitz`] (what a NIC computes),
//!   [`FlowHasher`] (keyed).
//!
//! This crate knows formats and no policy: it imports [`rxpath_arch`] for the sums and nothing else
//! of rxpath.
//!
//! No content of received bytes makes anything here panic. Emitters panic when the buffer that *the
//! caller* provides is too short, and say so.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod addr;
pub mod arp;
pub mod ethernet;
pub mod frame;
pub mod icmp;
pub mod ipv4;
mod pseudo;
mod seq;
pub mod siphash;
pub mod tcp;
pub mod toeplitz;
pub mod udp;
mod vlan;

pub use addr::{Addr, MacAddr, ParseMacAddrError, Tuple};
pub use arp::{ArpPacket, ArpRepr};
pub use ethernet::{EtherType, EthernetHeader, EthernetRepr};
pub use frame::FlowKeyParts;
pub use icmp::{IcmpHeader, IcmpRepr};
pub use ipv4::{IpProto, Ipv4Header, Ipv4Repr};
pub use pseudo::pseudo_sum;
pub use seq::SeqNum;
pub use siphash::FlowHasher;
pub use tcp::{FastOpen, TcpFlags, TcpHeader, TcpOptions, TcpOptionsWriter, TcpRepr};
pub use toeplitz::{Toeplitz, toeplitz};
pub use udp::{UdpHeader, UdpRepr};
pub use vlan::VlanTag;
