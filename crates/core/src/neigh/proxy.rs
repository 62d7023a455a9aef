//! Requests that are answered for other hosts, and those that wait for it (proxy ARP, RFC 1027).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use rxpath_mem::Skb;
use rxpath_trace::{DropReason, EventKind, Holder, Time};
use rxpath_wire::Addr;

use super::entry::{CENTISECOND, Key};
use crate::cx::{Cx, End, Fate};
use crate::netns::NetConfig;
use crate::route::Forward;

/// What the table knows of proxies: shared by all Cpus.
#[derive(Debug)]
pub(super) struct Proxies {
    /// Those that are configured one by one (`ip neigh add proxy`).
    neighbours: RwLock<BTreeSet<Key>>,
    waiting: Mutex<Waiting>,
    /// When the first of those that wait is due; MAX without one.
    next: AtomicU64,
}

/// Requests by when they are answered and in which order they came.
#[derive(Debug, Default)]
struct Waiting {
    queue: BTreeMap<(Time, u64), Skb>,
    /// How many are of an interface.
    of: BTreeMap<u16, u32>,
    came: u64,
}

impl Default for Proxies {
    fn default() -> Proxies {
        Proxies { neighbours: RwLock::default(), waiting: Mutex::default(), next: AtomicU64::new(u64::MAX) }
    }
}

impl Proxies {
    /// `pneigh_create`: from now on this host answers for `key`'s address on its interface. False if it did already.
    pub(super) fn add(&self, key: Key) -> bool {
        self.neighbours.write().unwrap_or_else(PoisonError::into_inner).insert(key)
    }

    /// `pneigh_delete`. False if there was none.
    pub(super) fn remove(&self, key: &Key) -> bool {
        self.neighbours.write().unwrap_or_else(PoisonError::into_inner).remove(key)
    }

    /// All of them, by interface and address.
    pub(super) fn all(&self) -> Vec<Key> {
        self.neighbours.read().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// `pneigh_lookup`.
    fn has(&self, key: &Key) -> bool {
        self.neighbours.read().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    pub(super) fn next_deadline(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request wait until `at`; gives it back if more than `most` of its interface wait already.
    fn push(&self, skb: Skb, at: Time, most: u32) -> Result<(), Skb> {
        let mut waiting = self.lock();
        let of = waiting.of.entry(skb.ifindex).or_default();
        if *of > most {
            return Err(skb);
        }
        *of += 1;
        waiting.came += 1;
        let place = (at, waiting.came);
        waiting.queue.insert(place, skb);
        self.next.fetch_min(at.0, Ordering::AcqRel);
        Ok(())
    }

    /// The next request that is due.
    pub(super) fn pop_due(&self, now: Time) -> Option<Skb> {
        if self.next_deadline() > now.0 {
            return None;
        }
        let mut waiting = self.lock();
        let due = waiting.queue.first_key_value().is_some_and(|((at, _), _)| *at <= now);
        let skb = if due { waiting.queue.pop_first().map(|(_, skb)| skb) } else { None };
        if let Some(of) = skb.as_ref().and_then(|skb| waiting.of.get_mut(&skb.ifindex)) {
            *of -= 1;
        }
        let next = waiting.queue.first_key_value().map_or(u64::MAX, |((at, _), _)| at.0);
        self.next.store(next, Ordering::Release);
        skb
    }

    /// Takes all that wait.
    pub(super) fn drain(&self) -> Vec<Skb> {
        let mut waiting = self.lock();
        self.next.store(u64::MAX, Ordering::Release);
        waiting.of.clear();
        std::mem::take(&mut waiting.queue).into_values().collect()
    }
}

/// Whether a request of `sender` that came by `ifindex` is answered for `target`, to which packets are sent on as `way` says
/// (`arp_fwd_proxy`, `arp_fwd_pvlan`, `pneigh_lookup`).
pub(super) fn answers(
    net: &NetConfig,
    proxies: &Proxies,
    ifindex: u16,
    (sender, target): (Addr, Addr),
    way: Forward,
) -> bool {
    let conf = net.conf(ifindex);
    if way.ifindex == ifindex {
        // RFC 3069: its neighbours there do not hear one another. Who asks for himself looks for another with his address.
        return conf.proxy_arp_pvlan && sender != target;
    }
    let same_medium = conf.medium_id != 0 && conf.medium_id == net.conf(way.ifindex).medium_id;
    conf.proxy_arp && !same_medium || proxies.has(&(ifindex, target))
}

/// `pneigh_enqueue`: lets a request for `target` wait for up to `proxy_delay`, so that the host itself or a better proxy may
/// be faster. [`tick`](super::tick) sees to it then.
pub(super) fn enqueue(cx: &mut Cx, skb: Skb, target: u32) -> End {
    let parms = *cx.net.neigh(skb.ifindex);
    let longest = u64::from(parms.proxy_delay) * CENTISECOND;
    let delay = cx.rng.next_u64() % longest.max(1);
    cx.event(&skb, EventKind::ArpHeld, target, (delay / 1_000).min(u64::from(u32::MAX)) as u32);
    let table = std::sync::Arc::clone(&cx.neigh);
    match table.proxies.push(skb, cx.now + delay, parms.proxy_qlen) {
        Ok(()) => {
            cx.hold(Holder::Neighbour);
            Fate::Held
        }
        // The kernel has no finer reason.
        Err(skb) => Fate::Drop(skb, DropReason::NotSpecified),
    }
}
