//! Raw sockets: IP packets of one protocol, as they come, beside the protocol's own handler.
//!
//! [`local_deliver`] gives a copy of each packet to every raw socket that wants it, before the protocol's handler has the
//! packet itself. What is sent is given an IP header, or brings one ([`send`]). The sockets are part of the configuration's
//! snapshot ([`RawSocks`]): where there are none, a packet costs one look at a flag.
//!
//! Mirrors `raw_local_deliver`, `raw_v4_input`, `raw_rcv`, `raw_icmp_error`, `raw_sendmsg`, `raw_send_hdrinc`.
//!
//! Neighbours: [`crate::ip`] delivers, [`crate::socket`] has the queue, [`crate::tx`] sends. Nothing here panics on what the
//! wire brings.

mod output;
mod receive;
mod sock;
#[cfg(test)]
mod tests;

pub use self::output::{Outgoing, send};
pub use self::receive::{err, local_deliver};
pub use self::sock::{RawName, RawOptions, RawSock, RawSocks};
