//! All datagrams that wait for fragments, in shards, and what they cost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rxpath_mem::{Skb, SkbQueue};
use rxpath_trace::Time;
use rxpath_wire::Ipv4Header;

use super::queue::{FragQueue, Outcome, Piece, Refused};
use crate::sysctl::Sysctls;

/// Shards: senders of different ones are locked separately.
const SHARDS: usize = 16;
/// What a datagram is charged besides its fragments, in bytes: what Linux 6.18 shows in `sockstat`.
const QUEUE_CHARGE: u64 = 200;
const SECOND: u64 = 1_000_000_000;

/// What the fragments of a datagram have in common (RFC 791 section 3.2). Who waits for them is always local delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    src: Ipv4Addr,
    dst: Ipv4Addr,
    id: u16,
    protocol: u8,
}

impl Key {
    /// The key of a fragment with this header.
    pub(super) fn of(header: &Ipv4Header) -> Key {
        Key { src: header.src(), dst: header.dst(), id: header.id(), protocol: header.protocol() }
    }
}

/// A sender with datagrams that wait.
#[derive(Debug, Default)]
struct Sender {
    /// Fragments that came from it (`inet_peer.rid`).
    count: u32,
    datagrams: usize,
}

/// Datagrams of some senders. Ordered, so that timers run in the same order whenever a simulation is run again, and a
/// look-up costs the same whatever an enemy chooses.
#[derive(Debug, Default)]
struct Shard {
    queues: BTreeMap<Key, FragQueue>,
    expiry: BTreeSet<(Time, Key)>,
    senders: BTreeMap<Ipv4Addr, Sender>,
}

impl Shard {
    /// Takes a datagram out.
    fn remove(&mut self, key: Key) -> Option<FragQueue> {
        let queue = self.queues.remove(&key)?;
        self.expiry.remove(&(queue.expires, key));
        if let Some(sender) = self.senders.get_mut(&key.src) {
            sender.datagrams -= 1;
            if sender.datagrams == 0 {
                self.senders.remove(&key.src);
            }
        }
        Some(queue)
    }
}

/// The datagrams that wait for fragments, shared by all Cpus.
#[derive(Debug)]
pub struct FragTable {
    shards: [Mutex<Shard>; SHARDS],
    /// What they are charged (`fqdir.mem`).
    memory: AtomicU64,
    datagrams: AtomicUsize,
    packets: AtomicUsize,
    /// Most packets.
    capacity: usize,
    /// Nothing expires before this.
    next_timer: AtomicU64,
}

/// What became of a fragment, and of those before it that it is too far behind.
pub(super) struct Taken {
    pub(super) outcome: Outcome,
    pub(super) too_far: SkbQueue,
}

impl FragTable {
    /// An empty table for at most `capacity` fragments.
    pub fn new(capacity: usize) -> FragTable {
        FragTable {
            shards: std::array::from_fn(|_| Mutex::default()),
            memory: AtomicU64::new(0),
            datagrams: AtomicUsize::new(0),
            packets: AtomicUsize::new(0),
            capacity,
            next_timer: AtomicU64::new(u64::MAX),
        }
    }

    /// Datagrams that wait (`sockstat`: `FRAG: inuse`).
    pub fn datagrams(&self) -> usize {
        self.datagrams.load(Ordering::Relaxed)
    }

    /// What they are charged, in bytes of truesize (`sockstat`: `FRAG: memory`).
    pub fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Fragments that wait.
    pub fn packets(&self) -> usize {
        self.packets.load(Ordering::Relaxed)
    }

    /// When `tick` is to be called next, if anything waits. It may find nothing to do then.
    pub fn next_deadline(&self) -> Option<Time> {
        let at = self.next_timer.load(Ordering::Acquire);
        (at != u64::MAX).then_some(Time(at))
    }

    /// Whether no fragment is taken any more.
    pub(super) fn is_full(&self, sysctl: &Sysctls) -> bool {
        self.memory() > u64::from(sysctl.ipfrag_high_thresh) || self.packets() >= self.capacity
    }

    /// Puts a fragment where it belongs.
    pub(super) fn take_in(&self, key: Key, piece: &Piece, skb: Skb, now: Time, sysctl: &Sysctls) -> Taken {
        let expires = now + u64::from(sysctl.ipfrag_time) * SECOND;
        let mut guard = lock(&self.shards[shard_of(key)]);
        let shard = &mut *guard;
        let queue = shard.queues.entry(key).or_insert_with(|| {
            shard.expiry.insert((expires, key));
            shard.senders.entry(key.src).or_default().datagrams += 1;
            self.begin(expires);
            FragQueue::new(expires)
        });
        let mut too_far = SkbQueue::new();
        let sender = shard.senders.entry(key.src).or_default();
        if is_too_far(queue, sender, sysctl.ipfrag_max_dist) {
            shard.expiry.remove(&(queue.expires, key));
            shard.expiry.insert((expires, key));
            let old = queue.restart(expires);
            self.give_back(&old);
            too_far = old.into_pieces();
        }
        let charge = u64::from(skb.truesize);
        let outcome = match queue.add(piece, skb) {
            Ok(()) => {
                self.memory.fetch_add(charge, Ordering::Relaxed);
                self.packets.fetch_add(1, Ordering::Relaxed);
                let whole = queue.is_whole().then(|| shard.remove(key)).flatten();
                match whole {
                    Some(whole) => Outcome::Whole(Box::new(self.over(whole))),
                    None => Outcome::Held,
                }
            }
            Err((skb, Refused::Duplicate)) => Outcome::Duplicate(skb),
            Err((skb, why)) => {
                let all = shard.remove(key).map(|queue| self.over(queue).into_pieces());
                let mut pieces = all.unwrap_or_default();
                pieces.push_back(skb);
                Outcome::Impossible { pieces, overlap: why == Refused::Overlap }
            }
        };
        Taken { outcome, too_far }
    }

    /// The datagrams that have waited long enough.
    pub(super) fn take_due(&self, now: Time) -> Vec<FragQueue> {
        let mut due = Vec::new();
        // Whoever begins a datagram in a shard that has been looked at already lowers this again.
        self.next_timer.store(u64::MAX, Ordering::Release);
        for shard in &self.shards {
            let mut shard = lock(shard);
            while let Some(&(at, key)) = shard.expiry.first() {
                if at > now {
                    self.next_timer.fetch_min(at.0, Ordering::AcqRel);
                    break;
                }
                match shard.remove(key) {
                    Some(queue) => due.push(self.over(queue)),
                    None => drop(shard.expiry.pop_first()),
                }
            }
        }
        due
    }

    /// Takes all datagrams out.
    pub(super) fn drain(&self) -> Vec<FragQueue> {
        let shards = self.shards.iter().map(|shard| std::mem::take(&mut *lock(shard)));
        shards.flat_map(|shard| shard.queues.into_values()).map(|queue| self.over(queue)).collect()
    }

    fn begin(&self, expires: Time) {
        self.memory.fetch_add(QUEUE_CHARGE, Ordering::Relaxed);
        self.datagrams.fetch_add(1, Ordering::Relaxed);
        self.next_timer.fetch_min(expires.0, Ordering::AcqRel);
    }

    /// The table has let a datagram go.
    fn over(&self, queue: FragQueue) -> FragQueue {
        self.give_back(&queue);
        self.memory.fetch_sub(QUEUE_CHARGE, Ordering::Relaxed);
        self.datagrams.fetch_sub(1, Ordering::Relaxed);
        queue
    }

    fn give_back(&self, queue: &FragQueue) {
        self.memory.fetch_sub(queue.truesize(), Ordering::Relaxed);
        self.packets.fetch_sub(queue.packets(), Ordering::Relaxed);
    }
}

/// `ip_frag_too_far`: so many fragments came from the sender since the last one of this datagram that its identification
/// may be in use for another by now.
fn is_too_far(queue: &mut FragQueue, sender: &mut Sender, max_dist: u32) -> bool {
    sender.count = sender.count.wrapping_add(1);
    let since = sender.count.wrapping_sub(queue.seen);
    queue.seen = sender.count;
    max_dist != 0 && !queue.is_empty() && since > max_dist
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All datagrams of a sender are in one shard. The choice need not resist an enemy: it decides only who shares a lock.
fn shard_of(key: Key) -> usize {
    let [.., a, b] = key.src.octets();
    usize::from(a ^ b) % SHARDS
}
