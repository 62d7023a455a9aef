//! The kernel's own text formats, byte for byte, so that `ss`, `nstat`, `netstat -s` and node_exporter can read them.
//!
//! Pure functions from numbers to text. Counters that the stack does not count ([`COUNTED`]) are left out by name, which
//! the readers of these files put up with; columns without names are always complete.

mod arp;
mod datagram;
mod route;
mod snmp;
mod tables;
mod tcp;

pub use arp::{ArpRow, arp};
pub use datagram::{DatagramRow, raw, udp};
pub use route::{RouteRow, route};
pub use snmp::{netstat, snmp};
pub use tables::{
    DevRow, NfQueueRow, PacketRow, PtypeRow, SockStat, SoftnetRow, dev, nfnetlink_queue, packet, ptype, sockstat,
    softnet_stat,
};
pub use tcp::{Conn, TcpRow, TcpTimer, tcp};

#[cfg(doc)]
use crate::counters::COUNTED;
