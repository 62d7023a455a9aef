//! The ledger: how packets came and how they went, by law in balance.
//!
//! ```text
//! offered + output + clones + made = delivered + transmitted + consumed + dropped + held
//! ```
//!
//! The left side counts births, the right side ends and those that somebody holds. [`Ledger`] is one shard, written by
//! one Cpu; the sum of all shards balances whenever all Cpus are quiet, and each shard balances at the end of each
//! softirq run if hand-offs between Cpus are entered as held by [`Holder::CpuBacklog`] or [`Holder::Mailbox`].

mod snapshot;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use snapshot::LedgerSnapshot;

use crate::event::EventKind;
use crate::reason::DropReason;

/// Who may hold a packet between two steps of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Holder {
    /// The RX ring: the device has filled the slot, NAPI has not yet taken it.
    RxRing,
    /// GRO, waiting for a follower to merge with.
    Gro,
    /// NAPI's list of packets to hand up together.
    RxList,
    /// A Cpu's backlog, waiting for its softirq.
    CpuBacklog,
    /// A socket's backlog, waiting for the application to release the socket.
    SocketBacklog,
    /// A socket's out-of-order queue.
    OutOfOrder,
    /// A socket's receive queue.
    ReceiveQueue,
    /// A datagram that is not whole, waiting for its other fragments.
    Reassembly,
    /// Kept at a netfilter hook: for a decider outside, or by the hook.
    Netfilter,
    /// A neighbour entry, waiting for the next hop's address.
    Neighbour,
    /// A device's transmit queue.
    TxQueue,
    /// A tap's queue (a packet socket), waiting for its reader.
    TapQueue,
    /// The bounded way from one Cpu, or from a user's thread, to another Cpu.
    Mailbox,
    /// A reader that is copying out of it.
    Recv,
}

impl Holder {
    /// All holders, in the order of the path.
    pub const ALL: [Holder; Holder::COUNT] = [
        Holder::RxRing,
        Holder::Gro,
        Holder::RxList,
        Holder::CpuBacklog,
        Holder::SocketBacklog,
        Holder::OutOfOrder,
        Holder::ReceiveQueue,
        Holder::Reassembly,
        Holder::Netfilter,
        Holder::Neighbour,
        Holder::TxQueue,
        Holder::TapQueue,
        Holder::Mailbox,
        Holder::Recv,
    ];
    /// How many holders there are.
    pub const COUNT: usize = 14;

    /// A name in words, such as `receive queue`.
    pub const fn name(self) -> &'static str {
        match self {
            Holder::RxRing => "RX ring",
            Holder::Gro => "GRO",
            Holder::RxList => "NAPI list",
            Holder::CpuBacklog => "Cpu backlog",
            Holder::SocketBacklog => "socket backlog",
            Holder::OutOfOrder => "out-of-order queue",
            Holder::ReceiveQueue => "receive queue",
            Holder::Reassembly => "reassembly",
            Holder::Netfilter => "netfilter",
            Holder::Neighbour => "neighbour queue",
            Holder::TxQueue => "TX queue",
            Holder::TapQueue => "tap queue",
            Holder::Mailbox => "mailbox",
            Holder::Recv => "reader",
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a packet ended without being delivered, sent or dropped: it had done its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Consumed {
    /// Merged into another packet by GRO, which carries its bytes on.
    GroMerged,
    /// Joined to the tail of the receive queue, which carries its bytes on.
    Coalesced,
    /// Joined to another segment on the socket's backlog.
    Absorbed,
    /// Joined to another segment in the out-of-order queue.
    OfoCoalesced,
    /// Copied into a denser buffer when the socket's queues were collapsed.
    Collapsed,
    /// A request that was answered: ARP, ICMP echo.
    Answered,
    /// A message that was taken note of: an ARP reply, an ICMP error.
    Noted,
    /// A segment without data whose acknowledgement was taken.
    AckOnly,
    /// A SYN, SYN-ACK or the ACK that completes a handshake.
    Handshake,
    /// A FIN without data.
    Fin,
    /// A reset that ended its connection.
    Reset,
    /// A segment for a connection in TIME-WAIT.
    TimeWait,
    /// A keep-alive or window probe that was answered.
    Probe,
    /// A fragment whose bytes went into a reassembled packet.
    Reassembled,
    /// A packet that was split into fragments or segments.
    Split,
    /// A packet of which taps took clones and which nobody else wanted.
    Tapped,
    /// A packet that only raw sockets wanted, each of which has a copy.
    Cloned,
}

impl Consumed {
    /// All ways to be consumed.
    pub const ALL: [Consumed; Consumed::COUNT] = [
        Consumed::GroMerged,
        Consumed::Coalesced,
        Consumed::Absorbed,
        Consumed::OfoCoalesced,
        Consumed::Collapsed,
        Consumed::Answered,
        Consumed::Noted,
        Consumed::AckOnly,
        Consumed::Handshake,
        Consumed::Fin,
        Consumed::Reset,
        Consumed::TimeWait,
        Consumed::Probe,
        Consumed::Reassembled,
        Consumed::Split,
        Consumed::Tapped,
        Consumed::Cloned,
    ];
    /// How many there are.
    pub const COUNT: usize = 17;

    /// A short name, such as `merged by GRO`.
    pub const fn name(self) -> &'static str {
        match self {
            Consumed::GroMerged => "merged by GRO",
            Consumed::Coalesced => "coalesced",
            Consumed::Absorbed => "coalesced on the backlog",
            Consumed::OfoCoalesced => "coalesced out of order",
            Consumed::Collapsed => "collapsed",
            Consumed::Answered => "answered",
            Consumed::Noted => "noted",
            Consumed::AckOnly => "bare ACK",
            Consumed::Handshake => "handshake",
            Consumed::Fin => "FIN",
            Consumed::Reset => "reset",
            Consumed::TimeWait => "in TIME-WAIT",
            Consumed::Probe => "probe",
            Consumed::Reassembled => "reassembled",
            Consumed::Split => "split",
            Consumed::Cloned => "copied to raw sockets",
            Consumed::Tapped => "tapped only",
        }
    }

    /// What became of the packet, in words that follow "it".
    pub const fn describe(self) -> &'static str {
        match self {
            Consumed::GroMerged => "was merged into another packet, which carries its bytes on",
            Consumed::Coalesced => "was joined to the tail of the receive queue, which carries its bytes on",
            Consumed::Absorbed => "was joined to another segment on the socket's backlog",
            Consumed::OfoCoalesced => "was joined to another segment in the out-of-order queue",
            Consumed::Collapsed => "was copied into a denser buffer to save the socket's memory",
            Consumed::Answered => "was a request, and was answered",
            Consumed::Noted => "was a message, and was taken note of",
            Consumed::AckOnly => "carried nothing but an acknowledgement, which was taken",
            Consumed::Handshake => "was a step of a handshake, which was taken",
            Consumed::Fin => "ended its sender's side of the connection and carried no data",
            Consumed::Reset => "reset its connection",
            Consumed::TimeWait => "belonged to a connection in TIME-WAIT and was dealt with there",
            Consumed::Probe => "was a probe, and was answered",
            Consumed::Reassembled => "was a fragment and became part of a reassembled packet",
            Consumed::Split => "was split into smaller packets",
            Consumed::Cloned => "was wanted by raw sockets alone, each of which has a copy",
            Consumed::Tapped => "was for packet sockets alone",
        }
    }

    /// The kind of event that records this end: [`EventKind::GroMerged`] and [`EventKind::Coalesced`] say it by
    /// themselves, all others are [`EventKind::Consumed`].
    pub const fn event_kind(self) -> EventKind {
        match self {
            Consumed::GroMerged => EventKind::GroMerged,
            Consumed::Coalesced => EventKind::Coalesced,
            _ => EventKind::Consumed,
        }
    }

    /// The way of that number, as an [`Event`](crate::Event) carries it.
    pub fn from_number(number: u32) -> Option<Consumed> {
        Consumed::ALL.get(number as usize).copied()
    }
}

impl fmt::Display for Consumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Places of the entries in a ledger's one array. Reasons are placed by their number, so they take a whole page of 256.
mod place {
    use super::{Consumed, Holder};

    pub const OFFERED: usize = 0;
    pub const OUTPUT: usize = 1;
    pub const CLONES: usize = 2;
    pub const MADE: usize = 3;
    pub const DELIVERED: usize = 4;
    pub const TRANSMITTED: usize = 5;
    pub const HELD_IN: usize = 6;
    pub const HELD_OUT: usize = HELD_IN + Holder::COUNT;
    pub const CONSUMED: usize = HELD_OUT + Holder::COUNT;
    pub const DROPPED: usize = CONSUMED + Consumed::COUNT;
    pub const COUNT: usize = DROPPED + 256;
}

/// Writes the two forms of each entry: for a single writer, and for several.
macro_rules! entries {
    ($($(#[$doc:meta])* $name:ident / $shared:ident ($($arg:ident: $ty:ty),*) at $place:expr;)*) => {
        impl Ledger {
            $(
                $(#[$doc])*
                #[inline]
                pub fn $name(&self, $($arg: $ty,)* n: u64) {
                    self.add($place, n);
                }

                #[doc = concat!("[`Ledger::", stringify!($name), "`] for a shard with several writers.")]
                #[inline]
                pub fn $shared(&self, $($arg: $ty,)* n: u64) {
                    self.add_shared($place, n);
                }
            )*
        }
    };
}

entries! {
    /// `n` packets were offered by a device, those that met a full ring included.
    offered / offered_shared () at place::OFFERED;
    /// `n` packets were created here to be sent.
    output / output_shared () at place::OUTPUT;
    /// `n` clones were made, for taps.
    clones / clones_shared () at place::CLONES;
    /// `n` packets were made out of others: fragments, segments, reassembled packets.
    made / made_shared () at place::MADE;
    /// `n` packets were read to their end by an application or a tap's reader.
    delivered / delivered_shared () at place::DELIVERED;
    /// `n` packets were taken by a device.
    transmitted / transmitted_shared () at place::TRANSMITTED;
    /// `n` packets had done their work, by `how`.
    consumed / consumed_shared (how: Consumed) at place::CONSUMED + how as usize;
    /// `n` packets were dropped, for `reason`.
    dropped / dropped_shared (reason: DropReason) at place::DROPPED + reason as usize;
    /// `holder` took `n` packets to hold.
    held_in / held_in_shared (holder: Holder) at place::HELD_IN + holder as usize;
    /// `holder` gave `n` packets back, to whoever carries them on or ends them. It may be another Cpu's shard that
    /// enters it; the sums of all shards tell how many are held.
    held_out / held_out_shared (holder: Holder) at place::HELD_OUT + holder as usize;
}

/// One shard of the ledger, written by its Cpu and read by anyone.
///
/// The plain forms are a relaxed load and a relaxed store, for a shard with a single writer at a time; a shard with
/// several writers uses the `_shared` forms throughout. All counts are of packets.
#[repr(align(128))]
pub struct Ledger {
    entries: [AtomicU64; place::COUNT],
}

impl Ledger {
    /// An empty shard.
    pub const fn new() -> Ledger {
        Ledger { entries: [const { AtomicU64::new(0) }; place::COUNT] }
    }

    /// A copy of the shard. Entries that are written meanwhile may be caught at slightly different moments, so the sum
    /// balances for certain only when all writers are quiet.
    pub fn snapshot(&self) -> LedgerSnapshot {
        LedgerSnapshot::from_entries(self.entries.iter().map(|entry| entry.load(Relaxed)).collect())
    }

    #[inline]
    fn add(&self, place: usize, n: u64) {
        let entry = &self.entries[place];
        entry.store(entry.load(Relaxed).wrapping_add(n), Relaxed);
    }

    #[inline]
    fn add_shared(&self, place: usize, n: u64) {
        self.entries[place].fetch_add(n, Relaxed);
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger::new()
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

#[cfg(test)]
mod tests;
