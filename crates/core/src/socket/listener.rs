//! Listening sockets: the accept queue with the kernel's limits, and the table in which SYNs find their listener.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rxpath_wire::Addr;

use super::{Sock, WaitQueue};

/// A listening socket. `listen(n)` gives room for n + 1 established and n + 1 half-open connections.
#[derive(Debug)]
pub struct Listener {
    /// Local address; unspecified takes every local address.
    pub addr: Addr,
    /// Local port.
    pub port: u16,
    /// The argument of `listen`, within `somaxconn`.
    pub backlog: u32,
    /// Receive buffer of its children.
    pub rcvbuf: u32,
    /// Half-open connections.
    requests: AtomicU32,
    closed: AtomicBool,
    queue: Mutex<AcceptQueue>,
    /// Threads and tasks in `accept`.
    pub wait: WaitQueue,
}

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
    pub fn new(addr: Addr, port: u16, backlog: u32, rcvbuf: u32) -> Listener {
        Listener {
            addr,
            port,
            backlog,
            rcvbuf,
            requests: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            queue: Mutex::default(),
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

    /// Half-open connections.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// A half-open connection more.
    pub fn request_added(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A half-open connection less.
    pub fn request_removed(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
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
    /// (`__inet_lookup_listener`).
    pub fn lookup(&self, addr: Addr, port: u16) -> Option<&Arc<Listener>> {
        let listeners = self.by_port.get(&port)?;
        // A run of the softirq goes on with the map that it began with; what was closed meanwhile takes no more SYNs.
        let mut open = listeners.iter().filter(|listener| !listener.is_closed());
        let exact = open.clone().find(|listener| listener.addr == addr);
        exact.or_else(|| open.find(|listener| listener.addr.is_unspecified()))
    }

    /// Adds a listener.
    pub fn insert(&mut self, listener: Arc<Listener>) {
        self.by_port.entry(listener.port).or_default().push(listener);
    }

    /// Removes a listener.
    pub fn remove(&mut self, listener: &Arc<Listener>) {
        if let Some(listeners) = self.by_port.get_mut(&listener.port) {
            listeners.retain(|other| !Arc::ptr_eq(other, listener));
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
