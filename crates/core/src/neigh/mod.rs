//! Neighbours: which hardware address an IP address on the link has (ARP, RFC 826).
//!
//! | file | kernel functions |
//! |---|---|
//! | `entry` | `__neigh_update`, `neigh_timer_handler`, `__neigh_event_send`: one neighbour's states, as pure decisions |
//! | `table` | `neigh_lookup`, `neigh_create`, `neigh_forced_gc`, `neigh_periodic_work` |
//! | `arp` | `arp_rcv`, `arp_process`, `arp_ignore`, `arp_filter`, `arp_accept` |
//! | `proxy` | `arp_fwd_proxy`, `arp_fwd_pvlan`, `pneigh_lookup`, `pneigh_enqueue` |
//! | `arp_out` | `arp_solicit`, `arp_send_dst` |
//! | `output` | `neigh_resolve_output`, `neigh_add`, `neigh_delete` |
//! | `timers` | `neigh_invalidate`, `pneigh_queue`'s timer, the timers' work |
//!
//! The table is shared by all Cpus and locked by shard; a sender that goes on talking to a reachable neighbour keeps its
//! hardware address ([`crate::route::Route::mac`]) and comes here again only when [`NeighTable::generation`] has moved,
//! which it does whenever such an address might have become wrong or a neighbour went stale.
//!
//! Deviations from Linux, none of which a peer can see: a confirmation from the transport ([`Route::confirm`]) makes a
//! stale or delayed entry reachable at once, where Linux waits for the end of the delay. A local packet whose next hop
//! does not answer ends as `NEIGH_FAILED`, and no ICMP message is sent to ourselves.
//!
//! ARP is for IPv4 over Ethernet. The tunables are `net.ipv4.neigh.*` and those of `net.ipv4.conf.*` that begin with `arp_`
//! or `proxy_arp`.
//!
//! Neighbours: [`crate::demux`] hands over ARP packets, [`crate::tx`] what is to be sent. Nothing here panics on received
//! bytes.
//!
//! [`Route::confirm`]: crate::route::Route::confirm

mod arp;
mod arp_out;
mod entry;
mod output;
mod proxy;
mod table;
#[cfg(test)]
mod tests;
mod timers;

pub use self::arp::arp_rcv;
pub use self::entry::Nud;
pub use self::output::{Mode, NeighError, NeighSpec, configure, remove, resolve_output, set_proxy};
pub use self::table::{NeighRow, NeighTable};
pub use self::timers::{purge, tick};
