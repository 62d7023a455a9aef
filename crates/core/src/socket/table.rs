//! The table of flows of one Cpu (`ehash`): established sockets, requests and mini-sockets by tuple.
//!
//! Buckets of eight entries, a cache line each: hash tags and indices into a slab. The hash is keyed, so that a peer
//! cannot choose tuples that collide. A look-up reads one bucket line and the socket's own first line; both can be
//! prefetched for a burst.

use std::sync::Arc;

use rxpath_arch::prefetch;
use rxpath_mem::SkbQueue;
use rxpath_trace::Time;
use rxpath_wire::Tuple;

use super::Sock;
use crate::tcp::{Request, TimeWait};
use crate::timer::Wheel;

/// Entries per bucket.
const WAYS: usize = 8;
/// An index that is no entry.
const EMPTY: u32 = u32::MAX;
/// Where an entry was removed: a probe goes on.
const GONE: u32 = u32::MAX - 1;
/// Smallest number of buckets.
const MIN_BUCKETS: usize = 16;

/// Names an entry; `generation` tells whether it is still the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowId {
    /// Place in the slab.
    pub index: u32,
    /// How often the place has been used.
    pub generation: u32,
}

impl FlowId {
    /// Names no entry.
    pub const NONE: FlowId = FlowId { index: u32::MAX, generation: 0 };

    /// As a timer's token.
    pub fn token(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Back from a timer's token.
    pub fn of_token(token: u64) -> FlowId {
        FlowId { index: token as u32, generation: (token >> 32) as u32 }
    }
}

/// A full socket in the table.
pub struct SockEntry {
    /// The socket; None while a run of its packets holds it.
    pub sock: Option<Arc<Sock>>,
    /// Packets that came while the application owned the socket. Only the holder of the Cpu's token touches it.
    pub backlog: SkbQueue,
    /// Truesize of the backlog.
    pub backlog_charge: u64,
    /// When the wheel will look at this socket.
    pub timer_at: Time,
}

impl SockEntry {
    /// An entry without backlog or timer, whose socket is held by who makes it.
    pub(crate) fn held() -> SockEntry {
        SockEntry { sock: None, backlog: SkbQueue::new(), backlog_charge: 0, timer_at: Time::MAX }
    }

    /// An entry without backlog or timer.
    pub fn new(sock: Arc<Sock>) -> SockEntry {
        SockEntry { sock: Some(sock), ..SockEntry::held() }
    }
}

/// What a tuple leads to.
pub enum FlowEntry {
    /// A socket.
    Sock(SockEntry),
    /// A connection request (`NEW_SYN_RECV`).
    Request(Box<Request>),
    /// A mini-socket.
    TimeWait(Box<TimeWait>),
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bucket {
    tags: [u32; WAYS],
    index: [u32; WAYS],
}

const FREE_BUCKET: Bucket = Bucket { tags: [0; WAYS], index: [EMPTY; WAYS] };

struct Slot {
    tuple: Tuple,
    hash: u32,
    generation: u32,
    entry: Option<FlowEntry>,
}

/// The table.
pub struct FlowTable {
    buckets: Vec<Bucket>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    len: usize,
    gone: usize,
    /// Deadlines of the flows, by [`FlowId::token`].
    pub wheel: Wheel,
}

impl Default for FlowTable {
    fn default() -> FlowTable {
        FlowTable::new()
    }
}

impl FlowTable {
    /// An empty table.
    pub fn new() -> FlowTable {
        FlowTable {
            buckets: vec![FREE_BUCKET; MIN_BUCKETS],
            slots: Vec::new(),
            free: Vec::new(),
            len: 0,
            gone: 0,
            wheel: Wheel::new(),
        }
    }

    /// Number of flows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without flows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    fn bucket_of(&self, hash: u32) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    /// Asks the cache for the bucket of `hash`.
    #[inline(always)]
    pub fn prefetch_bucket(&self, hash: u32) {
        prefetch::line(&self.buckets[self.bucket_of(hash)]);
    }

    /// The slab place that probably belongs to `hash`.
    #[inline(always)]
    fn probable(&self, hash: u32) -> Option<&Slot> {
        let bucket = &self.buckets[self.bucket_of(hash)];
        let way = (0..WAYS).find(|&way| bucket.tags[way] == hash && bucket.index[way] < GONE)?;
        self.slots.get(bucket.index[way] as usize)
    }

    /// Asks the cache for the entry that probably belongs to `hash`.
    #[inline(always)]
    pub fn prefetch_flow(&self, hash: u32) {
        if let Some(slot) = self.probable(hash) {
            prefetch::line(slot);
        }
    }

    /// Asks the cache for the socket behind that entry.
    #[inline(always)]
    pub fn prefetch_sock(&self, hash: u32) {
        if let Some(Slot { entry: Some(FlowEntry::Sock(SockEntry { sock: Some(sock), .. })), .. }) = self.probable(hash)
        {
            prefetch::line(&**sock);
        }
    }

    /// Promises to look at a flow at `at`.
    #[inline]
    pub fn arm(&mut self, id: FlowId, at: Time) {
        self.wheel.insert(at, id.token());
    }

    /// The flow of a tuple.
    #[inline]
    pub fn lookup(&self, hash: u32, tuple: &Tuple) -> Option<FlowId> {
        let mut at = self.bucket_of(hash);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            for way in 0..WAYS {
                let index = bucket.index[way];
                if index == EMPTY {
                    return None;
                }
                if bucket.tags[way] == hash && index != GONE {
                    let slot = &self.slots[index as usize];
                    if slot.tuple == *tuple {
                        return Some(FlowId { index, generation: slot.generation });
                    }
                }
            }
            at = (at + 1) & (self.buckets.len() - 1);
        }
        None
    }

    /// Adds a flow. The tuple must not be in the table.
    pub fn insert(&mut self, hash: u32, tuple: Tuple, entry: FlowEntry) -> FlowId {
        if (self.len + self.gone + 1) * 4 > self.buckets.len() * WAYS * 3 {
            self.rebuild();
        }
        let index = match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                slot.tuple = tuple;
                slot.hash = hash;
                slot.entry = Some(entry);
                index
            }
            None => {
                self.slots.push(Slot { tuple, hash, generation: 0, entry: Some(entry) });
                self.slots.len() as u32 - 1
            }
        };
        self.len += 1;
        self.place(hash, index);
        FlowId { index, generation: self.slots[index as usize].generation }
    }

    fn place(&mut self, hash: u32, index: u32) {
        let mut at = self.bucket_of(hash);
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(way) = bucket.index.iter().position(|&other| other >= GONE) {
                self.gone -= usize::from(bucket.index[way] == GONE);
                bucket.tags[way] = hash;
                bucket.index[way] = index;
                return;
            }
            at = (at + 1) & (self.buckets.len() - 1);
        }
    }

    /// Doubles the table, or only sweeps it if it is full of removed entries.
    fn rebuild(&mut self) {
        let wanted = (self.len + 1) * 2 / WAYS;
        let buckets = wanted.next_power_of_two().max(MIN_BUCKETS);
        self.buckets.clear();
        self.buckets.resize(buckets, FREE_BUCKET);
        self.gone = 0;
        for index in 0..self.slots.len() {
            if self.slots[index].entry.is_some() {
                self.place(self.slots[index].hash, index as u32);
            }
        }
    }

    /// The entry of a flow, if it is still the same one.
    #[inline(always)]
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut FlowEntry> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation == id.generation { slot.entry.as_mut() } else { None }
    }

    /// Whether a flow has a full socket.
    #[inline(always)]
    pub fn is_sock(&self, id: FlowId) -> bool {
        let slot = self.slots.get(id.index as usize).filter(|slot| slot.generation == id.generation);
        matches!(slot.map(|slot| &slot.entry), Some(Some(FlowEntry::Sock(_))))
    }

    /// The socket of a flow, if it is a full socket.
    #[inline(always)]
    pub fn sock_mut(&mut self, id: FlowId) -> Option<&mut SockEntry> {
        match self.get_mut(id) {
            Some(FlowEntry::Sock(entry)) => Some(entry),
            _ => None,
        }
    }

    /// Puts another entry in the place of a flow: the tuple stays, and so does the id.
    pub fn replace(&mut self, id: FlowId, entry: FlowEntry) -> Option<FlowEntry> {
        self.get_mut(id).map(|place| std::mem::replace(place, entry))
    }

    /// Removes a flow.
    pub fn remove(&mut self, id: FlowId) -> Option<FlowEntry> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        let hash = slot.hash;
        self.free.push(id.index);
        self.len -= 1;
        let mut at = self.bucket_of(hash);
        for _ in 0..self.buckets.len() {
            let bucket = &mut self.buckets[at];
            if let Some(way) = bucket.index.iter().position(|&index| index == id.index) {
                // A probe may stop here only if it would have stopped here before.
                let last = way + 1 == WAYS || bucket.index[way + 1] != EMPTY;
                bucket.index[way] = if last { GONE } else { EMPTY };
                self.gone += usize::from(last);
                break;
            }
            at = (at + 1) & (self.buckets.len() - 1);
        }
        Some(entry)
    }

    /// Every flow.
    pub fn iter(&self) -> impl Iterator<Item = (&Tuple, &FlowEntry)> {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref().map(|entry| (&slot.tuple, entry)))
    }

    /// The ids of every flow.
    pub fn ids(&self) -> Vec<FlowId> {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| slot.entry.is_some());
        used.map(|(index, slot)| FlowId { index: index as u32, generation: slot.generation }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rxpath_wire::Addr;
    use std::collections::HashMap;

    fn tuple(n: u32) -> Tuple {
        let [a, b, c, d] = n.to_be_bytes();
        Tuple {
            local: Addr::from_v4([10, 0, 0, 1]),
            remote: Addr::from_v4([10, a, b, c]),
            local_port: 80,
            remote_port: u16::from(d),
        }
    }

    fn entry(n: u32) -> FlowEntry {
        FlowEntry::TimeWait(Box::new(TimeWait {
            tuple: tuple(n),
            substate: crate::tcp::State::TimeWait,
            rcv_nxt: rxpath_wire::SeqNum(n),
            snd_nxt: rxpath_wire::SeqNum(0),
            rcv_wnd: 0,
            rcv_wscale: 0,
            ts_recent: None,
            stamped: false,
            ts_offset: 0,
            deadline: Time::ZERO,
            tos: 0,
            last_oow_ack: None,
            opened_here: false,
            signer: None,
            ifindex: 0,
        }))
    }

    fn value(entry: &FlowEntry) -> u32 {
        match entry {
            FlowEntry::TimeWait(tw) => tw.rcv_nxt.0,
            _ => unreachable!("only mini-sockets here"),
        }
    }

    #[test]
    fn agrees_with_a_map_even_when_hashes_collide() {
        let mut rng = crate::cx::Rng::new(11);
        let mut table = FlowTable::new();
        let mut model: HashMap<u32, FlowId> = HashMap::new();
        for _ in 0..50_000 {
            let n = rng.below(600);
            let hash = n % 7;
            let found = table.lookup(hash, &tuple(n));
            assert_eq!(found, model.get(&n).copied());
            match found {
                Some(id) if rng.below(2) == 0 => {
                    assert_eq!(table.remove(id).map(|entry| value(&entry)), Some(n));
                    assert!(table.get_mut(id).is_none(), "the id is dead");
                    model.remove(&n);
                }
                Some(id) => assert_eq!(table.get_mut(id).map(|entry| value(entry)), Some(n)),
                None => {
                    model.insert(n, table.insert(hash, tuple(n), entry(n)));
                }
            }
            assert_eq!(table.len(), model.len());
        }
        assert_eq!(table.iter().count(), model.len());
    }

    #[test]
    fn ids_survive_the_way_through_a_timer() {
        let id = FlowId { index: 77, generation: 0xdead_beef };
        assert_eq!(FlowId::of_token(id.token()), id);
    }
}
