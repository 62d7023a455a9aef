//! Listening sockets: the accept queue with the kernel's limits, and the table in which SYNs find their listener.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rxpath_trace::Time;
use rxpath_wire::Addr;

use super::fast_open::FastOpenQueue;
use super::{Sock, WaitQueue};
use crate::tcp::{ListenerAuth, SockOptions};

/// A listening socket. `listen(n)` gives room for n + 1 established and n + 1 half-open connections.
#[derive(Debug)]
pub struct Listener {
    /// Local address; unspecified takes every local address.
    pub addr: Addr,
    /// Local port.
    pub port: u16,
    /// The argument of `listen`, within `somaxconn`.
    pub backlog: u32,
    /// It shares its address with others that do, too (`SO_REUSEPORT`).
    pub shared: bool,
    /// What its connections inherit.
    options: Mutex<SockOptions>,
    /// Of those what each segment is asked for, without the lock.
    min_ttl: AtomicU8,
    /// Keys that segments for it are verified with, and signed.
    pub auth: ListenerAuth,
    /// Half-open connections.
    requests: AtomicU32,
    /// Of those, with a SYN-ACK that was sent once (`reqsk_queue_len_young`).
    young: AtomicU32,
    closed: AtomicBool,
    /// When the queue of requests was last full, in nanoseconds plus one; 0 for never. All who share an address have it in
    /// common: where a cookie comes back to may be another one than who sent it (`reuse->synq_overflow_ts`).
    overflow: Arc<AtomicU64>,
    /// SYN-ACK timeouts for which connections without data are not accepted.
    defer: AtomicU8,
    queue: Mutex<AcceptQueue>,
    /// Connections that are open before their handshakes end.
    pub fast_open: FastOpenQueue,
    /// Threads and tasks in `accept`.
    pub wait: WaitQueue,
}

/// How long a full queue of requests is remembered: cookies are valid for less.
const OVERFLOW_MEMORY: u64 = 120_000_000_000;

/// Established connections that nobody has accepted yet.
#[derive(Default)]
pub struct AcceptQueue {
    ready: VecDeque<Arc<Sock>>,
}

impl std::fmt::Debug for AcceptQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcceptQueue").field("len", &self.ready.len()).finish()
    }
}

impl Listener {
    /// A listener that nobody has connected to.
    pub fn new(addr: Addr, port: u16, backlog: u32, shared: bool) -> Listener {
        Listener {
            addr,
            port,
            backlog,
            shared,
            options: Mutex::default(),
            min_ttl: AtomicU8::new(0),
            auth: ListenerAuth::default(),
            young: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            overflow: Arc::default(),
            defer: AtomicU8::new(0),
            queue: Mutex::default(),
            fast_open: FastOpenQueue::default(),
            wait: WaitQueue::new(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, AcceptQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `sk_acceptq_is_full`: one more than `backlog` fits.
    pub fn accept_queue_full(&self) -> bool {
        self.queue().ready.len() > self.backlog as usize
    }

    /// Connections that wait to be accepted: the listener's Recv-Q.
    pub fn accept_queue_len(&self) -> usize {
        self.queue().ready.len()
    }

    /// `inet_csk_reqsk_queue_is_full`: one more than `backlog` may be half open.
    pub fn request_queue_full(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > self.backlog
    }

    /// A SYN was answered with a cookie (`tcp_synq_overflow`).
    pub(crate) fn note_overflow(&self, now: Time) {
        self.overflow.store(now.0 + 1, Ordering::Relaxed);
    }

    /// Cookies were sent within the last two minutes, by this one or by who shares its address, so that some may come back
    /// (`tcp_synq_no_recent_overflow`).
    pub(crate) fn overflowed_recently(&self, now: Time) -> bool {
        let at = self.overflow.load(Ordering::Relaxed);
        at > 0 && now - Time(at - 1) <= OVERFLOW_MEMORY
    }

    /// Connections are accepted only with data, for as many seconds after their SYN-ACK as its timeouts round up to; 0
    /// accepts them at once (`TCP_DEFER_ACCEPT`). Gives the seconds that are set.
    pub fn set_defer_accept(&self, seconds: u32) -> u32 {
        let (mut timeouts, mut timeout, mut period) = (0, 1, 0);
        while period < seconds && timeouts < u8::MAX {
            timeouts += 1;
            period += timeout;
            timeout = (timeout * 2).min(120);
        }
        self.defer.store(timeouts, Ordering::Relaxed);
        period
    }

    /// SYN-ACK timeouts for which data is waited for.
    pub fn deferred(&self) -> u8 {
        self.defer.load(Ordering::Relaxed)
    }

    /// What its connections inherit.
    pub fn options(&self) -> SockOptions {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what its connections inherit.
    pub fn set_options(&self, options: SockOptions) {
        let mut current = self.options.lock().unwrap_or_else(PoisonError::into_inner);
        *current = options;
        self.min_ttl.store(options.ip.min_ttl, Ordering::Relaxed);
    }

    /// Segments with a lower time to live are dropped (`IP_MINTTL`).
    #[inline]
    pub fn min_ttl(&self) -> u8 {
        self.min_ttl.load(Ordering::Relaxed)
    }

    /// Half-open connections whose SYN-ACK was sent only once.
    pub fn young_requests(&self) -> u32 {
        self.young.load(Ordering::Relaxed)
    }

    /// A half-open connection is not young any more.
    pub fn request_aged(&self) {
        self.young.fetch_sub(1, Ordering::Relaxed);
    }

    /// Half-open connections.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// A half-open connection more.
    pub fn request_added(&self) {
        self.young.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A half-open connection less, which was `young` or not.
    pub fn request_removed(&self, young: bool) {
        self.young.fetch_sub(u32::from(young), Ordering::Relaxed);
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// A half-open connection, which is `young` or not, goes over to another.
    pub(crate) fn request_moved(&self, to: &Listener, young: bool) {
        self.request_removed(young);
        to.young.fetch_add(u32::from(young), Ordering::Relaxed);
        to.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Queues an established connection; gives it back if the listener is closed.
    pub fn push(&self, sock: Arc<Sock>) -> Result<(), Arc<Sock>> {
        let mut queue = self.queue();
        if self.closed.load(Ordering::Relaxed) {
            return Err(sock);
        }
        queue.ready.push_back(sock);
        Ok(())
    }

    /// The oldest connection, if there is one.
    pub fn pop(&self) -> Option<Arc<Sock>> {
        self.queue().ready.pop_front()
    }

    /// True once closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Closes; gives the connections that nobody will accept.
    pub fn close(&self) -> Vec<Arc<Sock>> {
        let mut queue = self.queue();
        self.closed.store(true, Ordering::Release);
        queue.ready.drain(..).collect()
    }
}

/// Listeners by port; replaced whole when one comes or goes.
#[derive(Clone, Debug, Default)]
pub struct ListenerMap {
    by_port: HashMap<u16, Vec<Arc<Listener>>>,
}

impl ListenerMap {
    /// The listener for a SYN to this address: an exact local address goes before the wildcard
    /// (`__inet_lookup_listener`). Of those that share it, the flow's hash names one, the same for as long as they are the
    /// same (`reuseport_select_sock`, `reciprocal_scale`).
    pub fn lookup(&self, addr: Addr, port: u16, hash: impl FnOnce() -> u32) -> Option<&Arc<Listener>> {
        let listeners = self.by_port.get(&port)?;
        let exact = listeners.iter().find(|listener| listener.addr == addr);
        let found = exact.or_else(|| listeners.iter().find(|listener| listener.addr.is_unspecified()))?;
        if !found.shared {
            return Some(found);
        }
        let group = || listeners.iter().filter(|listener| listener.addr == found.addr);
        let index = (u64::from(hash()) * group().count() as u64) >> 32;
        group().nth(index as usize)
    }

    /// Of those that share their address with `of`, which is closed, the one that the flow's hash names
    /// (`reuseport_migrate_sock`).
    pub fn successor(&self, of: &Listener, hash: u32) -> Option<&Arc<Listener>> {
        let group = || {
            let listeners = self.by_port.get(&of.port).into_iter().flatten();
            listeners.filter(|other| of.shared && other.shared && other.addr == of.addr && !std::ptr::eq(&***other, of))
        };
        let index = (u64::from(hash) * group().count() as u64) >> 32;
        group().nth(index as usize)
    }

    /// Adds a listener, which joins those that share its address (`reuseport_add_sock`).
    pub fn insert(&mut self, mut listener: Listener) -> Arc<Listener> {
        let listeners = self.by_port.entry(listener.port).or_default();
        let shares = |other: &&Arc<Listener>| listener.shared && other.shared && other.addr == listener.addr;
        if let Some(other) = listeners.iter().find(shares) {
            listener.overflow = Arc::clone(&other.overflow);
        }
        let listener = Arc::new(listener);
        listeners.push(Arc::clone(&listener));
        listener
    }

    /// Removes a listener.
    pub fn remove(&mut self, listener: &Arc<Listener>) {
        if let Some(listeners) = self.by_port.get_mut(&listener.port) {
            let Some(gone) = listeners.iter().position(|other| Arc::ptr_eq(other, listener)) else { return };
            // The last one of a group takes the place of one that goes, so that few flows change over.
            let last = listeners.iter().rposition(|other| other.addr == listener.addr).unwrap_or(gone);
            listeners.swap(gone, last);
            listeners.remove(last);
            if listeners.is_empty() {
                self.by_port.remove(&listener.port);
            }
        }
    }

    /// All listeners, by port.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Listener>> {
        let mut ports: Vec<_> = self.by_port.keys().copied().collect();
        ports.sort_unstable();
        ports.into_iter().flat_map(|port| &self.by_port[&port])
    }
}

/// The listeners of a stack, for all Cpus.
#[derive(Debug, Default)]
pub struct Listeners {
    map: RwLock<Arc<ListenerMap>>,
    /// Grows with every change, after it.
    changes: AtomicU64,
}

impl Listeners {
    /// All of them as they are now.
    pub fn map(&self) -> Arc<ListenerMap> {
        Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the map by what `change` makes of it, and gives what that gives. Every look-up from now on sees it.
    pub fn change<R>(&self, change: impl FnOnce(&mut ListenerMap) -> R) -> R {
        let mut current = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut map = (**current).clone();
        let changed = change(&mut map);
        *current = Arc::new(map);
        self.changes.fetch_add(1, Ordering::Release);
        changed
    }

    /// How often they changed.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }
}

/// A Cpu's own handle to the listeners: looks at what is shared only when that has changed.
///
/// Unlike the configuration this is no snapshot for a whole softirq run: who has got a listener may connect to it at
/// once, and the SYN may come to a run that is under way.
#[derive(Debug, Default)]
pub struct ListenerCache {
    shared: Arc<Listeners>,
    seen: u64,
    map: Arc<ListenerMap>,
}

impl ListenerCache {
    /// A handle to these.
    pub fn of(shared: Arc<Listeners>) -> ListenerCache {
        ListenerCache { shared, ..ListenerCache::default() }
    }

    /// As [`ListenerMap::lookup`], among the listeners as they are now.
    pub fn lookup(&mut self, addr: Addr, port: u16, hash: impl FnOnce() -> u32) -> Option<&Arc<Listener>> {
        self.refresh();
        self.map.lookup(addr, port, hash)
    }

    /// As [`ListenerMap::successor`], likewise.
    pub fn successor(&mut self, of: &Listener, hash: u32) -> Option<&Arc<Listener>> {
        self.refresh();
        self.map.successor(of, hash)
    }

    fn refresh(&mut self) {
        let changes = self.shared.changes();
        if changes != self.seen {
            // The map may be newer than the count; then it is loaded once more than needed.
            self.seen = changes;
            self.map = self.shared.map();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_the_next_look_up() {
        let shared = Arc::new(Listeners::default());
        let mut cache = ListenerCache::of(Arc::clone(&shared));
        let (here, any) = (Addr::from_v4([10, 0, 0, 1]), Addr::UNSPECIFIED_V4);
        assert!(cache.lookup(here, 80, || 0).is_none());
        let wildcard = shared.change(|map| map.insert(Listener::new(any, 80, 1, false)));
        assert!(cache.lookup(here, 80, || 0).is_some_and(|found| Arc::ptr_eq(found, &wildcard)));
        let exact = shared.change(|map| map.insert(Listener::new(here, 80, 1, false)));
        assert!(
            cache.lookup(here, 80, || 0).is_some_and(|found| Arc::ptr_eq(found, &exact)),
            "the exact address goes first"
        );
        assert!(cache.lookup(here, 81, || 0).is_none());
        shared.change(|map| map.remove(&exact));
        assert!(cache.lookup(here, 80, || 0).is_some_and(|found| Arc::ptr_eq(found, &wildcard)));
        assert_eq!((shared.changes(), shared.map().iter().count()), (3, 1));
    }

    #[test]
    fn flows_are_spread_over_those_who_share_an_address() {
        let here = Addr::from_v4([10, 0, 0, 1]);
        let mut map = ListenerMap::default();
        map.insert(Listener::new(Addr::UNSPECIFIED_V4, 80, 1, true));
        let group: Vec<_> = (0..3).map(|_| map.insert(Listener::new(here, 80, 1, true))).collect();
        let place = |map: &ListenerMap, hash: u32| {
            let found = map.lookup(here, 80, || hash).expect("there are some");
            group.iter().position(|listener| Arc::ptr_eq(listener, found))
        };
        let third = u32::MAX / 3;
        let places = |map: &ListenerMap| [0, third, third + 1, 2 * third + 1, u32::MAX].map(|hash| place(map, hash));
        assert_eq!(places(&map), [0, 0, 1, 2, 2].map(Some));
        map.remove(&group[0]);
        assert_eq!(places(&map), [2, 2, 2, 1, 1].map(Some), "the last one is where the first one was");
    }

    #[test]
    fn who_shares_an_address_knows_of_the_cookies_of_the_others() {
        let (here, now) = (Addr::from_v4([10, 0, 0, 1]), Time::from_secs(5));
        let mut map = ListenerMap::default();
        let mut listen = |port, shared| map.insert(Listener::new(here, port, 1, shared));
        let (first, second, elsewhere) = (listen(80, true), listen(80, true), listen(81, true));
        first.note_overflow(now);
        assert!(second.overflowed_recently(now) && !elsewhere.overflowed_recently(now));
        // Who joins later, and when the one that sent them has gone, too; but not who comes when all have gone.
        map.remove(&first);
        let third = map.insert(Listener::new(here, 80, 1, true));
        assert!(third.overflowed_recently(now + 120_000_000_000) && !third.overflowed_recently(now + 120_000_000_001));
        map.remove(&second);
        map.remove(&third);
        assert!(!map.insert(Listener::new(here, 80, 1, true)).overflowed_recently(now));
    }
}
