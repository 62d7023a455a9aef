//! Phases 4 and 5: an IPv4 packet, from its header to its transport protocol.
//!
//! | file | kernel functions |
//! |---|---|
//! | `receive` | `ip_rcv`, `ip_rcv_core`, `ip_rcv_finish`, `ip_rcv_finish_core` |
//! | `options` | `ip_options_compile`, `ip_rcv_options`, `ip_options_echo`, `ip_options_build` |
//! | `defrag` | `ip_defrag`, `ip_expire` |
//! | `forward` | `ip_forward`, `ip_decrease_ttl` |
//! | `deliver` | `ip_local_deliver`, `ip_local_deliver_finish`, `ip_protocol_deliver_rcu` |
//! | `protocols` | `inet_protos`, `inet_add_protocol` |
//!
//! The checks, their order, their counters and their drop reasons are those of Linux 6.18.
//!
//! Neighbours: [`crate::demux`] before, [`crate::route`] beside, [`crate::tcp`] and [`crate::icmp`] behind. Nothing here
//! panics on received bytes.

pub(crate) mod defrag;
mod deliver;
mod forward;
mod options;
mod protocols;
mod receive;
#[cfg(test)]
mod tests;

pub use self::defrag::{FragTable, defrag, is_fragment};
pub use self::deliver::local_deliver_finish;
pub use self::forward::forward;
pub(crate) use self::options::{OptionBytes, Own as OwnOptions, echo as echo_options, route_back};
pub use self::protocols::{ErrorHandler, InetProtos, Protocol};
pub use self::receive::{count_passed, is_plain_and_sound, looped_place, rcv, rcv_finish};
