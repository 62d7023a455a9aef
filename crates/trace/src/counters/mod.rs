//! The counters, named as in `/proc/net/snmp`, `/proc/net/netstat` and `/proc/net/softnet_stat`.
//!
//! A [`Counters`] is one shard, written by one Cpu; a [`Snapshot`] is a copy of a shard or the sum of several. What the
//! stack counts is listed in [`COUNTED`]; only that is printed.

mod counted;
mod list;

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Index};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use counted::COUNTED;
pub use list::Counter;

/// The group that a counter belongs to: the prefix of its line in `/proc/net/snmp` and `/proc/net/netstat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Group {
    /// IPv4, in `snmp`.
    Ip,
    /// ICMP, in `snmp`.
    Icmp,
    /// ICMP by type number, in `snmp`; types that never occurred are not printed.
    IcmpMsg,
    /// TCP, in `snmp`.
    Tcp,
    /// UDP, in `snmp`.
    Udp,
    /// TCP beyond the standard MIB, in `netstat`.
    TcpExt,
    /// IPv4 beyond the standard MIB, in `netstat`.
    IpExt,
    /// The softirq's columns of `softnet_stat`.
    Softnet,
    /// Payload bytes that were copied between a ring and a reader, by place: ours, in no file of the kernel.
    Copied,
}

impl Group {
    /// All groups, in the order of their counters.
    pub const ALL: [Group; 9] = [
        Group::Ip,
        Group::Icmp,
        Group::IcmpMsg,
        Group::Tcp,
        Group::Udp,
        Group::TcpExt,
        Group::IpExt,
        Group::Softnet,
        Group::Copied,
    ];

    /// The kernel's name: the prefix of the line; `Softnet` for the softirq's columns, which have none, and `Copied` for
    /// what the kernel does not count.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Ip => "Ip",
            Group::Icmp => "Icmp",
            Group::IcmpMsg => "IcmpMsg",
            Group::Tcp => "Tcp",
            Group::Udp => "Udp",
            Group::TcpExt => "TcpExt",
            Group::IpExt => "IpExt",
            Group::Softnet => "Softnet",
            Group::Copied => "Copied",
        }
    }
}

impl Counter {
    /// The group that it belongs to.
    pub const fn group(self) -> Group {
        Counter::GROUPS[self as usize]
    }

    /// The kernel's name within the group, such as `InReceives`.
    pub const fn name(self) -> &'static str {
        Counter::NAMES[self as usize]
    }

    /// What it counts, in words, without a full stop.
    pub const fn describe(self) -> &'static str {
        Counter::ABOUT[self as usize]
    }

    /// True if the value can go down, so that only its sum over all shards means anything.
    pub const fn is_gauge(self) -> bool {
        matches!(self, Counter::TcpCurrEstab)
    }

    /// The counter of ICMP messages of type `ty` received.
    #[inline]
    pub const fn icmp_in(ty: u8) -> Counter {
        Counter::ALL[Counter::IcmpMsgInType0 as usize + ty as usize]
    }

    /// The counter of ICMP messages of type `ty` sent.
    #[inline]
    pub const fn icmp_out(ty: u8) -> Counter {
        Counter::ALL[Counter::IcmpMsgOutType0 as usize + ty as usize]
    }

    /// The counter of that name, as nstat writes it: group and name in one, such as `TcpExtTCPHPHits`.
    pub fn from_name(name: &str) -> Option<Counter> {
        Counter::ALL.into_iter().find(|c| name.strip_prefix(c.group().name()).is_some_and(|rest| rest == c.name()))
    }

    /// Up to two counters in one word, as an [`Event`](crate::Event) of a drop carries them.
    ///
    /// The low half holds the first, the high half the second, each as its number plus 1; 0 is none.
    pub const fn pair(first: Option<Counter>, second: Option<Counter>) -> u32 {
        const fn half(counter: Option<Counter>) -> u32 {
            match counter {
                Some(counter) => counter as u32 + 1,
                None => 0,
            }
        }
        half(first) | half(second) << 16
    }

    /// The counters of a word that [`Counter::pair`] made; numbers that name no counter are passed over.
    pub fn unpair(word: u32) -> impl Iterator<Item = Counter> {
        [word & 0xffff, word >> 16]
            .into_iter()
            .filter_map(|half| Counter::ALL.get((half as usize).checked_sub(1)?).copied())
    }
}

impl fmt::Display for Counter {
    /// Group and name in one, as nstat writes them: `TcpExtTCPHPHits`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.group().name())?;
        f.write_str(self.name())
    }
}

/// One shard of counters, written by its Cpu and read by anyone.
///
/// [`Counters::add`], [`Counters::inc`] and [`Counters::sub`] are a relaxed load and a relaxed store: a shard that they
/// are used on must have a single writer at a time, or additions are lost. A shard with several writers uses
/// [`Counters::add_shared`] throughout.
#[repr(align(128))]
pub struct Counters {
    values: [AtomicU64; Counter::COUNT],
}

impl Counters {
    /// A shard with all counters at 0.
    pub const fn new() -> Counters {
        Counters { values: [const { AtomicU64::new(0) }; Counter::COUNT] }
    }

    /// Adds `n`; for the shard's single writer.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        let value = &self.values[counter as usize];
        value.store(value.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds 1; for the shard's single writer.
    #[inline]
    pub fn inc(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Takes `n` off a gauge; for the shard's single writer. The shard's own value may wrap below 0, as a connection can
    /// be opened on one Cpu and closed on another; the sum of the shards is right.
    #[inline]
    pub fn sub(&self, counter: Counter, n: u64) {
        self.add(counter, n.wrapping_neg());
    }

    /// Adds `n` where the shard has several writers.
    #[inline]
    pub fn add_shared(&self, counter: Counter, n: u64) {
        self.values[counter as usize].fetch_add(n, Relaxed);
    }

    /// Takes `n` off a gauge where the shard has several writers.
    #[inline]
    pub fn sub_shared(&self, counter: Counter, n: u64) {
        self.add_shared(counter, n.wrapping_neg());
    }

    /// This shard's own value of one counter.
    #[inline]
    pub fn value(&self, counter: Counter) -> u64 {
        self.values[counter as usize].load(Relaxed)
    }

    /// A copy of the shard. Counters that move meanwhile may be caught at slightly different moments.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { values: self.values.iter().map(|value| value.load(Relaxed)).collect() }
    }
}

impl Default for Counters {
    fn default() -> Counters {
        Counters::new()
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// The counters at one moment: a copy of one shard, or with `+` the sum of several.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    values: Box<[u64]>,
}

impl Snapshot {
    /// All counters at 0.
    pub fn new() -> Snapshot {
        Snapshot { values: vec![0; Counter::COUNT].into_boxed_slice() }
    }

    /// The counters named, all others at 0: what a test expects.
    pub fn of(values: &[(Counter, u64)]) -> Snapshot {
        let mut snapshot = Snapshot::new();
        for &(counter, value) in values {
            snapshot.values[counter as usize] = value;
        }
        snapshot
    }

    /// What was counted since `before`; of a gauge, by how much it changed (wrapping below 0).
    #[must_use]
    pub fn diff(&self, before: &Snapshot) -> Snapshot {
        let pairs = self.values.iter().zip(&before.values);
        Snapshot { values: pairs.map(|(now, then)| now.wrapping_sub(*then)).collect() }
    }

    /// The counters that are not 0, in order.
    pub fn nonzero(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL.into_iter().map(|c| (c, self[c])).filter(|&(_, value)| value != 0)
    }
}

impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot::new()
    }
}

impl Index<Counter> for Snapshot {
    type Output = u64;

    #[inline]
    fn index(&self, counter: Counter) -> &u64 {
        &self.values[counter as usize]
    }
}

impl AddAssign<&Snapshot> for Snapshot {
    /// Adds another shard's counters; wraps, so that gauges come out right.
    fn add_assign(&mut self, other: &Snapshot) {
        for (value, more) in self.values.iter_mut().zip(&other.values) {
            *value = value.wrapping_add(*more);
        }
    }
}

impl Add for Snapshot {
    type Output = Snapshot;

    fn add(mut self, other: Snapshot) -> Snapshot {
        self += &other;
        self
    }
}

impl Sum for Snapshot {
    fn sum<I: Iterator<Item = Snapshot>>(shards: I) -> Snapshot {
        shards.fold(Snapshot::new(), Add::add)
    }
}

impl fmt::Debug for Snapshot {
    /// The counters that are not 0, signed, as a change of a gauge can be negative.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.nonzero().map(|(counter, value)| (counter.to_string(), value.cast_signed()));
        f.debug_map().entries(entries.map(|(name, value)| (Bare(name), value))).finish()
    }
}

/// A text that is its own debug form.
struct Bare(String);

impl fmt::Debug for Bare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
