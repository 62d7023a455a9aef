//! What is said about packets: who they are, what became of them, what was counted.
//!
//! Every frame that enters the stack and every packet that the stack makes has a [`PacketId`]. Its life is a run of
//! [`Event`]s from a birth to exactly one end; each event names the kernel function in which Linux does the same work.
//! Independently of that, always and for every packet, the [`Counters`] move as the kernel's SNMP counters move and the
//! [`Ledger`] records how each packet came and went, so that no packet ends unnamed.
//!
//! | module | holds |
//! |---|---|
//! | [`counters`] | [`Counter`] by the kernel's names, [`Counters`] (one shard), [`Snapshot`] (a sum of shards) |
//! | [`ledger`] | [`Ledger`], [`LedgerSnapshot`], who may hold a packet ([`Holder`]), why one is consumed ([`Consumed`]) |
//! | [`reason`] | [`DropReason`], by the names of the kernel's `skb_drop_reason` |
//! | [`event`] | [`Event`], [`EventKind`] and the meaning of its arguments |
//! | [`shard`] | [`LifeShard`] (written by a Cpu), [`LifeReader`] (collects from all) |
//! | [`filter`], [`selector`] | which packets' lives are recorded: [`Filter`], [`Flow`], [`Selector`] |
//! | [`lives`] | events grouped into lives; the life as a story and as a JSON line |
//! | [`proc`] | the kernel's own text formats: `/proc/net/snmp`, `netstat`, `softnet_stat`, `dev`, `tcp`, `sockstat` |
//!
//! Nothing here reads a clock, and nothing panics on what comes from outside. The counters and the ledger are on the
//! path of each packet: an addition is a relaxed load and a relaxed store to a fixed place.

#![forbid(unsafe_code)]

pub mod counters;
pub mod event;
pub mod filter;
pub mod ledger;
pub mod lives;
mod packet_id;
mod phase;
pub mod proc;
pub mod reason;
pub mod selector;
pub mod shard;
mod time;

pub use counters::{COUNTED, Counter, Counters, Group, Snapshot};
pub use event::{AckWhy, DatagramFound, Event, EventKind, GroPass, LookupKind, MadeHow, OutputWhat, SlowWhy, TcpState};
pub use filter::{Filter, FilterError, Flow};
pub use ledger::{Consumed, Holder, Ledger, LedgerSnapshot};
pub use lives::{Life, Names};
pub use packet_id::{PacketId, PacketIdError};
pub use phase::Phase;
pub use reason::DropReason;
pub use selector::Selector;
pub use shard::{LifeReader, LifeShard};
pub use time::Time;
