//! The way out: an IP header, the hooks, the next hop's address, the device.
//!
//! | file | kernel functions |
//! |---|---|
//! | `output` | `ip_queue_xmit`, `ip_local_out`, `ip_output`, `ip_finish_output2`, `neigh_hh_output` |
//! | `bare` | `ip_queue_xmit` to `neigh_hh_output`, for acknowledgements that follow one another |
//! | `split` | `ip_fragment`, `ip_options_fragment`, `tcp4_gso_segment`, `skb_checksum_help` |
//! | `outbox` | `dev_hard_header`, `dev_queue_xmit`, `pfifo_enqueue`, `sch_direct_xmit`, `dev_hard_start_xmit` |
//!
//! Frames gather in the [`Outbox`] of the Cpu, one queue per device, until [`flush`] at the end of the poll.
//!
//! A packet that is larger than the interface allows is cut, unless it forbids that.
//!
//! Neighbours: [`crate::tcp`], [`crate::icmp`] and [`crate::neigh`] send; [`crate::nic`]'s devices take. Nothing here
//! panics on what it is given to send.

mod bare;
mod outbox;
mod output;
mod split;
#[cfg(test)]
mod tests;

pub(crate) use self::bare::Numbers;
pub(crate) use self::outbox::push_ethernet;
pub use self::outbox::{Devices, Outbox, TX_QUEUE_LEN, dev_queue_xmit, flush, packet_xmit, xdp_xmit};
pub use self::output::{IpFlow, ip_queue_xmit};
pub(crate) use self::output::{
    ip_build_and_send, ip_finish_output, ip_forward_finish, ip_forward_output, ip_mc_output, ip_output_again,
    ip_send_made, sent_bare, xmit_bare,
};
