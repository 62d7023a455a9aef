//! Neighbours: which hardware address an IP address on the link has (ARP, RFC 826).
//!
//! | file | kernel functions |
//! |---|---|
//! | `entry` | `__neigh_update`, `neigh_timer_handler`, `__neigh_event_send`: one neighbour's states, as pure decisions |
//! | `table` | `neigh_lookup`, `neigh_create`, `neigh_forced_gc`, `neigh_periodic_work` |
//! | `arp` | `arp_rcv`, `arp_process` |
//! | `arp_out` | `arp_solicit`, `arp_send_dst` |
//! | `output` | `neigh_resolve_output`, `neigh_invalidate`, the timers' work |
//!
//! The table is shared by all Cpus and locked by shard; a sender that goes on talking to a reachable neighbour keeps its
//! hardware address ([`crate::route::Route::mac`]) and comes here again only when [`NeighTable::generation`] has moved,
//! which it does whenever such an address might have become wrong or a neighbour went stale.
//!
//! Deviations from Linux, none of which a peer can see: a confirmation from the transport ([`Route::confirm`]) makes a
//! stale or delayed entry reachable at once, where Linux waits for the end of the delay; an entry that nothing confirmed
//! goes from REACHABLE to STALE even while it is used, and from there, with the next packet, to DELAY. A local packet
//! whose next hop does not answer ends as `NEIGH_FAILED`, and no ICMP message is sent to ourselves.
//!
//! ARP is for IPv4 over Ethernet. The sysctls besides `arp_ignore`, `arp_accept` and `drop_gratuitous_arp` are at Linux's
//! defaults (`arp_announce` 0, `arp_filter` 0, no proxy).
//!
//! Neighbours: [`crate::demux`] hands over ARP packets, [`crate::tx`] what is to be sent. Nothing here panics on received
//! bytes.
//!
//! [`Route::confirm`]: crate::route::Route::confirm

mod arp;
mod arp_out;
mod entry;
mod output;
mod table;
#[cfg(test)]
mod tests;

pub use self::arp::arp_rcv;
pub use self::entry::Nud;
pub use self::output::{purge, remove, resolve_output, set_permanent, tick};
pub use self::table::{NeighRow, NeighTable};

/// Times and bounds (`net.ipv4.neigh.default`), in nanoseconds, packets and entries.
mod limits {
    const SECOND: u64 = 1_000_000_000;

    /// `base_reachable_time_ms`: the actual one is drawn from half to one and a half times this.
    pub(super) const BASE_REACHABLE: u64 = 30 * SECOND;
    /// How often the reachable time is drawn anew.
    pub(super) const REDRAW: u64 = 300 * SECOND;
    /// `delay_first_probe_time`.
    pub(super) const DELAY_FIRST_PROBE: u64 = 5 * SECOND;
    /// `retrans_time_ms`.
    pub(super) const RETRANS: u64 = SECOND;
    /// `ucast_solicit` and `mcast_solicit`.
    pub(super) const SOLICITATIONS: u8 = 3;
    /// `locktime`: a hardware address stands that long against another, unless asked for or gratuitous.
    pub(super) const LOCKTIME: u64 = SECOND;
    /// `gc_thresh1`: below, nothing is collected.
    pub(super) const GC_THRESH1: usize = 128;
    /// `gc_thresh2`: above, a new entry collects if that was not done for [`GC_PRESSURE`].
    pub(super) const GC_THRESH2: usize = 512;
    /// `gc_thresh3`: above, there is no new entry.
    pub(super) const GC_THRESH3: usize = 1_024;
    /// Age below which a stale entry survives a collection under pressure.
    pub(super) const GC_PRESSURE: u64 = 5 * SECOND;
    /// `gc_stale_time`: age at which unused entries are collected.
    pub(super) const GC_STALE: u64 = 60 * SECOND;
    /// Least time between two ordinary collections.
    pub(super) const GC_INTERVAL: u64 = BASE_REACHABLE / 2;
}
