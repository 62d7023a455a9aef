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
    /// The interface that it takes connections by, and its connections go by (`SO_BINDTODEVICE`); 0 for any.
    pub ifindex: u16,
    /// The Cpu whose SYNs it wants before others that share its address ([`NO_CPU`] for none).
    incoming_cpu: AtomicU32,
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
    /// When the queue of requests was last full, in nanoseconds plus one; 0 for never. All of a group have it in
    /// common, and are of one because they have: where a cookie comes back to may be another one than who sent it
    /// (`struct sock_reuseport`, `synq_overflow_ts`).
    overflow: Arc<AtomicU64>,
    /// SYN-ACK timeouts for which connections without data are not accepted.
    defer: AtomicU8,
    queue: Mutex<AcceptQueue>,
    /// Connections that are open before their handshakes end.
    pub fast_open: FastOpenQueue,
    /// Threads and tasks in `accept`.
    pub wait: WaitQueue,
}

/// No Cpu.
const NO_CPU: u32 = u32::MAX;

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
    pub fn new(addr: Addr, port: u16, backlog: u32, shared: bool, ifindex: u16) -> Listener {
        Listener {
            addr,
            port,
            backlog,
            shared,
            ifindex,
            incoming_cpu: AtomicU32::new(NO_CPU),
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

    /// Of those that share its address it wants the connections that begin on this Cpu (`SO_INCOMING_CPU`).
    pub fn set_incoming_cpu(&self, cpu: Option<u16>) {
        self.incoming_cpu.store(cpu.map_or(NO_CPU, u32::from), Ordering::Relaxed);
    }

    /// The Cpu whose connections it wants, if it does.
    pub fn incoming_cpu(&self) -> Option<u16> {
        u16::try_from(self.incoming_cpu.load(Ordering::Relaxed)).ok()
    }

    /// Whether it takes what comes by this interface.
    pub(crate) fn takes_link(&self, ifindex: u16) -> bool {
        self.ifindex == 0 || self.ifindex == ifindex
    }

    /// Whether both are of one group (`reuseport_add_sock`).
    fn shares_with(&self, other: &Listener) -> bool {
        self.shared && other.shared && self.addr == other.addr && self.ifindex == other.ifindex
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

/// Where a segment came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The interface that it came by.
    pub ifindex: u16,
    /// The Cpu that has it.
    pub cpu: u16,
}

/// Listeners by port; replaced whole when one comes or goes.
#[derive(Clone, Debug, Default)]
pub struct ListenerMap {
    /// Those of a port in the order of their groups, each with how many came before it.
    by_port: HashMap<u16, Vec<(u64, Arc<Listener>)>>,
    came: u64,
}

impl ListenerMap {
    /// The listener for a SYN to this address: an exact local address goes before the wildcard
    /// (`__inet_lookup_listener`). Of those that take what comes by its interface the newest, or its group, is found: so
    /// the kernel has it, although one that is bound to the interface counts for more. In a group the flow's hash names one,
    /// the same for as long as they are the same; the next one from there on that wants the Cpu goes before it
    /// (`reuseport_select_sock`, `reciprocal_scale`).
    pub fn lookup(&self, addr: Addr, port: u16, from: Arrival, hash: impl FnOnce() -> u32) -> Option<&Arc<Listener>> {
        let listeners = self.by_port.get(&port)?;
        let newest = |wanted: fn(Addr, Addr) -> bool| {
            let takes = listeners.iter().filter(|(_, one)| wanted(one.addr, addr) && one.takes_link(from.ifindex));
            takes.max_by_key(|(came, _)| *came).map(|(_, one)| one)
        };
        let found = newest(|own, addr| own == addr).or_else(|| newest(|own, _| own.is_unspecified()))?;
        if !found.shared {
            return Some(found);
        }
        let group = || listeners.iter().map(|(_, one)| one).filter(|one| one.shares_with(found));
        let count = group().count();
        let index = ((u64::from(hash()) * count as u64) >> 32) as usize;
        let wants = |one: &&Arc<Listener>| one.incoming_cpu() == Some(from.cpu);
        group().cycle().skip(index).take(count).find(wants).or_else(|| group().nth(index))
    }

    /// Of those in the group of `of`, which is closed, the one that the flow's hash names (`reuseport_migrate_sock`). Who came
    /// when nobody of the group was left has begun another one.
    pub fn successor(&self, of: &Listener, hash: u32) -> Option<&Arc<Listener>> {
        let group = || {
            let listeners = self.by_port.get(&of.port).into_iter().flatten().map(|(_, one)| one);
            listeners.filter(|other| Arc::ptr_eq(&of.overflow, &other.overflow) && !std::ptr::eq(&***other, of))
        };
        let index = (u64::from(hash) * group().count() as u64) >> 32;
        group().nth(index as usize)
    }

    /// Adds a listener, which joins those that share its address (`reuseport_add_sock`).
    pub fn insert(&mut self, mut listener: Listener) -> Arc<Listener> {
        let listeners = self.by_port.entry(listener.port).or_default();
        if let Some((_, other)) = listeners.iter().find(|(_, other)| listener.shares_with(other)) {
            listener.overflow = Arc::clone(&other.overflow);
        }
        let listener = Arc::new(listener);
        listeners.push((self.came, Arc::clone(&listener)));
        self.came += 1;
        listener
    }

    /// Removes a listener.
    pub fn remove(&mut self, listener: &Arc<Listener>) {
        if let Some(listeners) = self.by_port.get_mut(&listener.port) {
            let Some(gone) = listeners.iter().position(|(_, other)| Arc::ptr_eq(other, listener)) else { return };
            // The last one of a group takes the place of one that goes, so that few flows change over.
            let last = listeners.iter().rposition(|(_, other)| other.shares_with(listener)).unwrap_or(gone);
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
        ports.into_iter().flat_map(|port| &self.by_port[&port]).map(|(_, listener)| listener)
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
    pub fn lookup(
        &mut self,
        addr: Addr,
        port: u16,
        from: Arrival,
        hash: impl FnOnce() -> u32,
    ) -> Option<&Arc<Listener>> {
        self.refresh();
        self.map.lookup(addr, port, from, hash)
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

    const FROM: Arrival = Arrival { ifindex: 1, cpu: 0 };

    #[test]
    fn a_change_is_seen_by_the_next_look_up() {
        let shared = Arc::new(Listeners::default());
        let mut cache = ListenerCache::of(Arc::clone(&shared));
        let (here, any) = (Addr::from_v4([10, 0, 0, 1]), Addr::UNSPECIFIED_V4);
        assert!(cache.lookup(here, 80, FROM, || 0).is_none());
        let wildcard = shared.change(|map| map.insert(Listener::new(any, 80, 1, false, 0)));
        assert!(cache.lookup(here, 80, FROM, || 0).is_some_and(|found| Arc::ptr_eq(found, &wildcard)));
        let exact = shared.change(|map| map.insert(Listener::new(here, 80, 1, false, 0)));
        assert!(
            cache.lookup(here, 80, FROM, || 0).is_some_and(|found| Arc::ptr_eq(found, &exact)),
            "the exact address goes first"
        );
        assert!(cache.lookup(here, 81, FROM, || 0).is_none());
        shared.change(|map| map.remove(&exact));
        assert!(cache.lookup(here, 80, FROM, || 0).is_some_and(|found| Arc::ptr_eq(found, &wildcard)));
        assert_eq!((shared.changes(), shared.map().iter().count()), (3, 1));
    }

    #[test]
    fn flows_are_spread_over_those_who_share_an_address() {
        let here = Addr::from_v4([10, 0, 0, 1]);
        let mut map = ListenerMap::default();
        map.insert(Listener::new(Addr::UNSPECIFIED_V4, 80, 1, true, 0));
        let group: Vec<_> = (0..3).map(|_| map.insert(Listener::new(here, 80, 1, true, 0))).collect();
        let place = |map: &ListenerMap, hash: u32| {
            let found = map.lookup(here, 80, FROM, || hash).expect("there are some");
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
        let mut listen = |port, shared| map.insert(Listener::new(here, port, 1, shared, 0));
        let (first, second, elsewhere) = (listen(80, true), listen(80, true), listen(81, true));
        first.note_overflow(now);
        assert!(second.overflowed_recently(now) && !elsewhere.overflowed_recently(now));
        // Who joins later, and when the one that sent them has gone, too; but not who comes when all have gone.
        map.remove(&first);
        let third = map.insert(Listener::new(here, 80, 1, true, 0));
        assert!(third.overflowed_recently(now + 120_000_000_000) && !third.overflowed_recently(now + 120_000_000_001));
        map.remove(&second);
        map.remove(&third);
        assert!(!map.insert(Listener::new(here, 80, 1, true, 0)).overflowed_recently(now));
    }

    /// Listeners of interfaces (0 for any), of the wildcard or not, in the order in which they came; all share.
    fn listening(of: &[(bool, u16)]) -> (ListenerMap, Vec<Arc<Listener>>) {
        let mut map = ListenerMap::default();
        let made = of.iter().map(|&(any, ifindex)| {
            let addr = if any { Addr::UNSPECIFIED_V4 } else { Addr::from_v4([10, 0, 0, 1]) };
            map.insert(Listener::new(addr, 80, 1, true, ifindex))
        });
        let made = made.collect();
        (map, made)
    }

    /// Which of them each of 24 flows is for that come by this interface on this Cpu.
    fn chosen(map: &ListenerMap, made: &[Arc<Listener>], ifindex: u16, cpu: u16) -> Vec<Option<usize>> {
        let here = Addr::from_v4([10, 0, 0, 1]);
        let flows = (0..24).map(|nth| nth * (u32::MAX / 24) + u32::MAX / 48);
        let found = flows.map(|hash| map.lookup(here, 80, Arrival { ifindex, cpu }, || hash));
        found.map(|found| made.iter().position(|one| found.is_some_and(|found| Arc::ptr_eq(one, found)))).collect()
    }

    /// As Linux 6.18 chose.
    #[test]
    fn what_comes_by_an_interface_is_for_the_newest_that_takes_it() {
        const EXACT: bool = false;
        const ANY: bool = true;
        for (of, by_1, by_2) in [
            (&[(ANY, 0), (ANY, 1)][..], Some(1), Some(0)),
            (&[(ANY, 1), (ANY, 0)], Some(1), Some(1)),
            (&[(EXACT, 0), (ANY, 1)], Some(0), Some(0)),
            (&[(EXACT, 0), (EXACT, 1)], Some(1), Some(0)),
            (&[(EXACT, 2), (ANY, 0)], Some(1), Some(0)),
            (&[(EXACT, 2)], None, Some(0)),
        ] {
            let (map, made) = listening(of);
            assert_eq!(
                (chosen(&map, &made, 1, 0), chosen(&map, &made, 2, 0)),
                (vec![by_1; 24], vec![by_2; 24]),
                "{of:?}"
            );
        }
        // Those of one interface are a group, and the newest one's group it is.
        let (mut map, made) = listening(&[(EXACT, 1), (EXACT, 0), (EXACT, 1)]);
        let count = |map: &ListenerMap, of| chosen(map, &made, 1, 0).iter().filter(|one| **one == Some(of)).count();
        assert_eq!([0, 1, 2].map(|of| count(&map, of)), [12, 0, 12]);
        map.remove(&made[2]);
        assert_eq!([0, 1, 2].map(|of| count(&map, of)), [0, 24, 0]);
    }

    /// As Linux 6.18 chose.
    #[test]
    fn of_a_group_the_next_one_goes_first_that_wants_the_cpu() {
        for (wanted, spread) in [
            (&[Some(0), Some(1)][..], &[24, 0][..]),
            (&[Some(1), Some(0)], &[0, 24]),
            (&[Some(0), None, None], &[24, 0, 0]),
            (&[Some(0), Some(0), Some(1)], &[16, 8, 0]),
            (&[Some(0), Some(0), None, None], &[18, 6, 0, 0]),
            (&[Some(7), None], &[12, 12]),
            (&[None, Some(1), None], &[8, 8, 8]),
        ] {
            let (map, made) = listening(&vec![(false, 0); wanted.len()]);
            made.iter().zip(wanted).for_each(|(one, cpu)| one.set_incoming_cpu(*cpu));
            assert_eq!(made.iter().map(|one| one.incoming_cpu()).collect::<Vec<_>>(), wanted);
            let chosen = chosen(&map, &made, 1, 0);
            let counts: Vec<usize> =
                (0..made.len()).map(|of| chosen.iter().filter(|one| **one == Some(of)).count()).collect();
            assert_eq!(counts, spread, "{wanted:?}");
        }
    }
}
