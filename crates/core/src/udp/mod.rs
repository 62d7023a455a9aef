//! Phases 6 to 8 of a datagram: UDP.
//!
//! [`rcv`] validates a datagram, finds its socket in the [`UdpTable`] that all Cpus share, and queues it there
//! ([`crate::socket::Datagrams`]); what goes to a group or to all gets a copy for every socket that wants one. The checksum
//! of a longer datagram is verified only by its reader, as in the kernel. What applications send waits in the socket's
//! own buffer until the Cpu that the socket belongs to makes packets of it ([`serve`]).
//!
//! | file | kernel functions |
//! |---|---|
//! | `receive` | `udp_rcv`, `__udp4_lib_rcv`, `udp_v4_early_demux`, `__udp4_lib_mcast_deliver`, `udp4_csum_init` |
//! | `table` | `__udp4_lib_lookup`, `compute_score`, `udp_lib_get_port`, `udp_lib_rehash` |
//! | `name` | `inet_rcv_saddr_equal`, `__udp_is_mcast_sock` |
//! | `sock` | `struct udp_sock`: names, options, what waits to be sent |
//! | `output` | `udp_send_skb`, `udp4_hwcsum` |
//! | `error` | `udp_err`, `__udp4_lib_err`, `ip_icmp_error` |
//!
//! Neighbours: [`crate::ip`] before, [`crate::socket`] for the queue, [`crate::icmp`] and [`crate::tx`] beside. Nothing
//! here panics on what the wire brings.

mod error;
mod name;
mod output;
mod receive;
mod sock;
mod table;
#[cfg(test)]
pub(crate) mod tests;

pub use self::error::err;
pub use self::name::{Binding, UdpKey};
pub use self::output::{close, serve};
pub use self::receive::{early_demux, rcv, verify};
pub use self::sock::{MAX_PAYLOAD, Pending, Send, UdpOptions, UdpSock};
pub use self::table::{Memo, UdpTable};
