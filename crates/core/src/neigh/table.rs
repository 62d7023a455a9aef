//! The table of all Cpus: entries by interface and address, in shards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rxpath_trace::Time;
use rxpath_wire::{Addr, MacAddr};

use super::entry::{Entry, Key, Nud, Parms};
use super::proxy::Proxies;
use crate::cx::Rng;
use crate::netns::NetConfig;

/// Shards: entries of different ones are locked separately.
const SHARDS: usize = 16;

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
    /// Those of them that are permanent, which the thresholds do not count.
    permanent: AtomicUsize,
    /// Entries ever made.
    serials: AtomicU64,
    /// No timer runs out before this.
    next_timer: AtomicU64,
    /// Decides how long confirmations last: drawn anew from time to time.
    draw: AtomicU64,
    redraw_at: AtomicU64,
    /// The last collection under pressure.
    pressed: AtomicU64,
    /// When the next ordinary collection is due; MAX while there are too few entries for one.
    collect_at: AtomicU64,
    /// Requests that are answered for others.
    pub(super) proxies: Proxies,
}

/// How often the reachable times are drawn anew.
const REDRAW: u64 = 300_000_000_000;
/// Least time between two ordinary collections.
const LEAST_INTERVAL: u64 = 10_000_000;
/// Time between two collections under pressure, unless there is no room at all.
const PRESSURE_INTERVAL: u64 = 5_000_000_000;

impl NeighTable {
    /// An empty table. `seed` decides the first reachable times.
    pub fn new(seed: u64) -> NeighTable {
        NeighTable {
            shards: std::array::from_fn(|_| Mutex::new(Shard::new())),
            generation: AtomicU64::new(1),
            entries: AtomicUsize::new(0),
            permanent: AtomicUsize::new(0),
            serials: AtomicU64::new(0),
            next_timer: AtomicU64::new(u64::MAX),
            draw: AtomicU64::new(Rng::new(seed).next_u64()),
            redraw_at: AtomicU64::new(REDRAW),
            pressed: AtomicU64::new(0),
            collect_at: AtomicU64::new(u64::MAX),
            proxies: Proxies::default(),
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

    /// Entries that the thresholds count.
    fn counted(&self) -> usize {
        self.len().saturating_sub(self.permanent.load(Ordering::Relaxed))
    }

    /// When [`tick`](super::tick) is to be called next, if a timer is set. It may find nothing to do then: a timer that was
    /// replaced by a later one is not taken back.
    pub fn next_deadline(&self) -> Option<Time> {
        let timer = self.next_timer.load(Ordering::Acquire);
        let at = timer.min(self.collect_at.load(Ordering::Acquire)).min(self.proxies.next_deadline());
        (at != u64::MAX).then_some(Time(at))
    }

    /// All entries, by interface and address.
    pub fn rows(&self) -> Vec<NeighRow> {
        let mut rows: Vec<NeighRow> =
            self.shards.iter().flat_map(|shard| lock(shard).iter().map(row).collect::<Vec<_>>()).collect();
        rows.sort_by_key(|row| (row.ifindex, row.addr));
        rows
    }

    /// The addresses that this host answers for one by one, each with its interface, sorted (`ip neigh show proxy`).
    pub fn proxies(&self) -> Vec<(u16, Addr)> {
        self.proxies.all()
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

    /// The tunables of an interface's neighbours, with how long a confirmation lasts there.
    pub(super) fn parms(&self, net: &NetConfig, ifindex: u16) -> Parms {
        let set = *net.neigh(ifindex);
        let base = u64::from(set.base_reachable_time_ms) * 1_000_000;
        Parms { set, reachable: base / 2 + self.drawn(ifindex, base) }
    }

    /// Uniform below `base`, for each interface on its own, until it is drawn anew (`neigh_rand_reach_time`).
    fn drawn(&self, ifindex: u16, base: u64) -> u64 {
        let draw = Rng::new(self.draw.load(Ordering::Relaxed) ^ u64::from(ifindex)).next_u64();
        ((u128::from(draw) * u128::from(base)) >> 64) as u64
    }

    /// Draws the reachable times anew if they are old.
    pub(super) fn redraw_reachable(&self, now: Time, rng: &mut Rng) {
        let due = self.redraw_at.load(Ordering::Relaxed);
        let next = (now + REDRAW).0;
        let mine =
            now.0 >= due && self.redraw_at.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if mine {
            self.draw.store(rng.next_u64(), Ordering::Relaxed);
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
    pub(super) fn lock_or_make(&self, key: Key, now: Time, net: &NetConfig) -> Option<Locked<'_>> {
        if let Some(known) = self.lock_known(key, now) {
            return Some(known);
        }
        if !self.make_room(now, net) {
            return None;
        }
        Some(self.lock_made(key, now, net))
    }

    /// The same whether there is room or not: for who configures an entry for good, which the thresholds do not count.
    pub(super) fn lock_made(&self, key: Key, now: Time, net: &NetConfig) -> Locked<'_> {
        let mut shard = self.shard(&key);
        shard.entry(key).or_insert_with(|| self.fresh(now));
        if self.counted() >= net.sysctl.neigh_gc_thresh1 as usize {
            let due = (now + collection_interval(net)).0;
            // The first to see it decides; who runs the collection sets the next one.
            let _ = self.collect_at.compare_exchange(u64::MAX, due, Ordering::AcqRel, Ordering::Relaxed);
        }
        Locked { table: self, shard, key, now }
    }

    /// The entry of `key`, if it is there.
    pub(super) fn lock_known(&self, key: Key, now: Time) -> Option<Locked<'_>> {
        let shard = self.shard(&key);
        shard.contains_key(&key).then(|| Locked { table: self, shard, key, now })
    }

    fn fresh(&self, now: Time) -> Entry {
        self.entries.fetch_add(1, Ordering::Relaxed);
        Entry::new(now, self.serials.fetch_add(1, Ordering::Relaxed))
    }

    /// An entry became permanent, or ceased to be.
    pub(super) fn count_permanent(&self, was: bool, is: bool) {
        match (was, is) {
            (false, true) => drop(self.permanent.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.permanent.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
    }

    fn forget(&self, entry: &Entry) {
        if entry.state.is_connected() {
            self.invalidate();
        }
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.count_permanent(entry.state == Nud::Permanent, false);
    }

    /// Takes the entry of `key` out.
    pub(super) fn remove(&self, key: Key) -> Option<Entry> {
        let mut shard = self.shard(&key);
        let entry = shard.remove(&key)?;
        self.forget(&entry);
        self.invalidate();
        Some(entry)
    }

    /// Takes all entries out.
    pub(super) fn drain(&self) -> Vec<Entry> {
        let entries: Vec<Entry> =
            self.shards().flat_map(|mut shard| std::mem::take(&mut *shard).into_values()).collect();
        entries.iter().for_each(|entry| self.forget(entry));
        self.invalidate();
        entries
    }

    /// Whether there may be another entry; collects before it says no (`neigh_alloc`).
    fn make_room(&self, now: Time, net: &NetConfig) -> bool {
        let (second, third) = (net.sysctl.neigh_gc_thresh2 as usize, net.sysctl.neigh_gc_thresh3 as usize);
        let entries = self.counted();
        let pressed = Time(self.pressed.load(Ordering::Relaxed));
        if entries >= third || (entries >= second && now - pressed > PRESSURE_INTERVAL) {
            self.pressed.store(now.0, Ordering::Relaxed);
            self.collect_pressed(now, entries.saturating_sub(second));
        }
        self.counted() < third
    }

    /// `neigh_forced_gc`: removes at most so many entries that nothing needs, the oldest first.
    fn collect_pressed(&self, now: Time, most: usize) {
        let mut spare: Vec<(u64, Key)> = Vec::new();
        for shard in self.shards() {
            spare
                .extend(shard.iter().filter(|(_, entry)| entry.is_spare(now)).map(|(key, entry)| (entry.serial, *key)));
        }
        spare.sort_unstable();
        for (_, key) in spare.into_iter().take(most) {
            let mut shard = self.shard(&key);
            // It may have been used meanwhile.
            if shard.get(&key).is_some_and(|entry| entry.is_spare(now))
                && let Some(entry) = shard.remove(&key)
            {
                self.forget(&entry);
            }
        }
    }

    /// The ordinary collection, if it is due (`neigh_periodic_work`): there are enough entries for one, and half of the
    /// base of the reachable time has passed since the last.
    pub(super) fn collect_old(&self, now: Time, net: &NetConfig) {
        let due = self.collect_at.load(Ordering::Acquire);
        if now.0 < due {
            return;
        }
        let enough = || self.counted() >= net.sysctl.neigh_gc_thresh1 as usize;
        if enough() {
            for mut shard in self.shards() {
                shard.retain(|key, entry| {
                    entry.use_confirmation();
                    let old = entry.is_old(now, &self.parms(net, key.0));
                    if old {
                        self.forget(entry);
                    }
                    !old
                });
            }
        }
        let next = if enough() { (now + collection_interval(net)).0 } else { u64::MAX };
        let _ = self.collect_at.compare_exchange(due, next, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// Time between two ordinary collections.
fn collection_interval(net: &NetConfig) -> u64 {
    (u64::from(net.sysctl.neigh.default.base_reachable_time_ms) * 1_000_000 / 2).max(LEAST_INTERVAL)
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
