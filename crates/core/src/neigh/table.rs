//! The table of all Cpus: entries by interface and address, in shards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rxpath_trace::Time;
use rxpath_wire::{Addr, MacAddr};

use super::entry::{Entry, Nud};
use super::limits::{BASE_REACHABLE, GC_INTERVAL, GC_PRESSURE, GC_THRESH1, GC_THRESH2, GC_THRESH3, REDRAW};
use crate::cx::Rng;

/// Shards: entries of different ones are locked separately.
const SHARDS: usize = 16;

/// Interface and address.
pub(super) type Key = (u16, Addr);

/// A shard, ordered, so that timers run in the same order whenever a simulation is run again.
pub(super) type Shard = BTreeMap<Key, Entry>;

/// A neighbour as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighRow {
    /// Interface.
    pub ifindex: u16,
    /// Address.
    pub addr: Addr,
    /// State.
    pub state: Nud,
    /// Hardware address; means something only in a valid state.
    pub mac: MacAddr,
    /// Packets that wait.
    pub pending: usize,
}

/// The neighbour table (`arp_tbl`), shared by all Cpus.
#[derive(Debug)]
pub struct NeighTable {
    shards: [Mutex<Shard>; SHARDS],
    /// Grows whenever an address that a sender may have kept is not good any more.
    generation: AtomicU64,
    entries: AtomicUsize,
    /// No timer runs out before this.
    next_timer: AtomicU64,
    /// How long a confirmation lasts: drawn anew from time to time.
    reachable: AtomicU64,
    redraw_at: AtomicU64,
    /// The last collection under pressure, and the last ordinary one.
    pressed: AtomicU64,
    collected: AtomicU64,
}

impl NeighTable {
    /// An empty table. `seed` decides the first reachable time.
    pub fn new(seed: u64) -> NeighTable {
        let mut rng = Rng::new(seed);
        NeighTable {
            shards: std::array::from_fn(|_| Mutex::new(Shard::new())),
            generation: AtomicU64::new(1),
            entries: AtomicUsize::new(0),
            next_timer: AtomicU64::new(u64::MAX),
            reachable: AtomicU64::new(draw_reachable(&mut rng)),
            redraw_at: AtomicU64::new(REDRAW),
            pressed: AtomicU64::new(0),
            collected: AtomicU64::new(0),
        }
    }

    /// Grows whenever a hardware address that a sender keeps may have become wrong.
    #[inline(always)]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Makes senders look again. Called with the entry's shard locked, so that who reads an address under the lock reads
    /// a generation that ends with it.
    pub(super) fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Entries in the table.
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When [`tick`](super::tick) is to be called next, if a timer is set. It may find nothing to do then: a timer that was
    /// replaced by a later one is not taken back.
    pub fn next_deadline(&self) -> Option<Time> {
        let at = self.next_timer.load(Ordering::Acquire);
        (at != u64::MAX).then_some(Time(at))
    }

    /// All entries, by interface and address.
    pub fn rows(&self) -> Vec<NeighRow> {
        let mut rows: Vec<NeighRow> =
            self.shards.iter().flat_map(|shard| lock(shard).iter().map(row).collect::<Vec<_>>()).collect();
        rows.sort_by_key(|row| (row.ifindex, row.addr));
        rows
    }

    /// The entry of one address.
    pub fn row(&self, ifindex: u16, addr: Addr) -> Option<NeighRow> {
        let key = (ifindex, addr);
        self.shard(&key).get_key_value(&key).map(row)
    }

    pub(super) fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        lock(&self.shards[shard_of(key)])
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shards.iter().map(lock)
    }

    /// How long a confirmation lasts, in nanoseconds.
    pub(super) fn reachable(&self) -> u64 {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Draws the reachable time anew if it is old.
    pub(super) fn redraw_reachable(&self, now: Time, rng: &mut Rng) {
        let due = self.redraw_at.load(Ordering::Relaxed);
        let next = (now + REDRAW).0;
        let mine =
            now.0 >= due && self.redraw_at.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if mine {
            self.reachable.store(draw_reachable(rng), Ordering::Relaxed);
        }
    }

    /// Promises that the timers are looked at when `timer` runs out. Called with the entry's shard locked.
    pub(super) fn arm(&self, timer: Time) {
        if timer != Time::MAX {
            self.next_timer.fetch_min(timer.0, Ordering::AcqRel);
        }
    }

    /// True if a timer has run out; the caller then looks at all shards and [arms](NeighTable::arm) what it finds.
    pub(super) fn take_due(&self, now: Time) -> bool {
        let due = self.next_timer.load(Ordering::Acquire) <= now.0;
        if due {
            // Whoever arms a timer in a shard that has been looked at already lowers this again.
            self.next_timer.store(u64::MAX, Ordering::Release);
        }
        due
    }

    /// The entry of `key`, which is made if it is not there (`neigh_lookup`, `neigh_create`). None if the table is full.
    pub(super) fn lock_or_make(&self, key: Key, now: Time) -> Option<Locked<'_>> {
        if let Some(known) = self.lock_known(key, now) {
            return Some(known);
        }
        if !self.make_room(now) {
            return None;
        }
        let mut shard = self.shard(&key);
        shard.entry(key).or_insert_with(|| self.fresh(now));
        Some(Locked { table: self, shard, key, now })
    }

    /// The entry of `key`, if it is there.
    pub(super) fn lock_known(&self, key: Key, now: Time) -> Option<Locked<'_>> {
        let shard = self.shard(&key);
        shard.contains_key(&key).then(|| Locked { table: self, shard, key, now })
    }

    fn fresh(&self, now: Time) -> Entry {
        self.entries.fetch_add(1, Ordering::Relaxed);
        Entry::new(now)
    }

    /// Takes the entry of `key` out.
    pub(super) fn remove(&self, key: Key) -> Option<Entry> {
        let mut shard = self.shard(&key);
        let entry = shard.remove(&key)?;
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.invalidate();
        Some(entry)
    }

    /// Takes all entries out.
    pub(super) fn drain(&self) -> Vec<Entry> {
        let entries: Vec<Entry> =
            self.shards().flat_map(|mut shard| std::mem::take(&mut *shard).into_values()).collect();
        self.entries.fetch_sub(entries.len(), Ordering::Relaxed);
        self.invalidate();
        entries
    }

    /// Whether there may be another entry; collects before it says no (`neigh_forced_gc`).
    fn make_room(&self, now: Time) -> bool {
        let entries = self.len();
        let pressed = Time(self.pressed.load(Ordering::Relaxed));
        if entries >= GC_THRESH3 || (entries >= GC_THRESH2 && now - pressed > GC_PRESSURE) {
            self.pressed.store(now.0, Ordering::Relaxed);
            self.collect(now, true);
        }
        self.len() < GC_THRESH3
    }

    /// The ordinary collection (`neigh_periodic_work`).
    pub(super) fn collect_old(&self, now: Time) {
        let last = Time(self.collected.load(Ordering::Relaxed));
        if self.len() > GC_THRESH1 && now - last >= GC_INTERVAL {
            self.collected.store(now.0, Ordering::Relaxed);
            self.collect(now, false);
        }
    }

    /// Removes the entries that nothing needs.
    fn collect(&self, now: Time, pressed: bool) {
        for mut shard in self.shards() {
            shard.retain(|_, entry| {
                let garbage = entry.is_garbage(now, pressed) && entry.pending.is_empty();
                if garbage {
                    self.entries.fetch_sub(1, Ordering::Relaxed);
                }
                !garbage
            });
        }
    }
}

/// An entry with its shard locked. When it is let go, the timers are told of the entry's.
pub(super) struct Locked<'a> {
    table: &'a NeighTable,
    shard: MutexGuard<'a, Shard>,
    key: Key,
    now: Time,
}

impl Locked<'_> {
    /// The entry.
    pub(super) fn entry(&mut self) -> &mut Entry {
        let Locked { table, shard, key, now } = self;
        shard.entry(*key).or_insert_with(|| table.fresh(*now))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.shard.get(&self.key) {
            self.table.arm(entry.timer);
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Entries are changed by single assignments; a panic elsewhere on the holder's thread leaves none half done.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn row((key, entry): (&Key, &Entry)) -> NeighRow {
    NeighRow { ifindex: key.0, addr: key.1, state: entry.state, mac: entry.mac, pending: entry.pending.len() }
}

/// Neighbours of a subnet differ in their last octets. The choice need not resist an enemy: it decides only who shares a
/// lock.
fn shard_of(key: &Key) -> usize {
    let [.., a, b] = key.1.0;
    (usize::from(a) ^ usize::from(b) ^ usize::from(key.0)) % SHARDS
}

/// Uniform between half and one and a half times the base.
fn draw_reachable(rng: &mut Rng) -> u64 {
    BASE_REACHABLE / 2 + rng.next_u64() % BASE_REACHABLE
}
