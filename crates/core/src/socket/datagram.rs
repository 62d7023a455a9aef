//! The receive side of a datagram socket (UDP, raw): whole packets, charged by truesize, the error that the next call
//! reports, and the errors that are told in detail.
//!
//! A softirq of any Cpu queues here, readers on any thread take from here: one lock for each socket, held for the time
//! of a push or a pop. Who takes a packet copies it when the lock is free again.
//!
//! Mirrors `__udp_enqueue_schedule_skb`, `sock_queue_rcv_skb`, `__skb_recv_udp`, `udp_rmem_release`, `sock_error`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::EventListener;
use rxpath_mem::{Skb, SkbQueue};
use rxpath_trace::{EventKind, Holder, Time};

use super::WaitQueue;
use super::error_queue::{ErrorQueue, QueuedError};
use crate::cx::Cx;
use crate::nic::napi_id;
use crate::tcp::SockError;

/// Bytes of a page, in which a protocol's memory is counted.
const PAGE: u32 = 4_096;
/// Least receive buffer (`SOCK_MIN_RCVBUF`).
const RCVBUF_MIN: u32 = 2_304;

/// The memory of all receive queues of a protocol, in pages (`udp_memory_allocated`).
#[derive(Debug, Default)]
pub struct ProtoMemory(AtomicU64);

impl ProtoMemory {
    /// Pages in use.
    pub fn pages(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a packet was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The receive buffer is full.
    Rcvbuf,
    /// The memory of all sockets is used up.
    Memory,
    /// Nobody will read it.
    Closed,
}

/// Why there is no datagram for a reader.
#[derive(Debug)]
pub enum NoDatagram {
    /// A pending error, now taken.
    Failed(SockError),
    /// Nothing there; with the registration that was asked for.
    Empty(Option<EventListener>),
    /// The socket is closed.
    Closed,
}

/// The most that a queue may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pages of all queues; `u64::MAX` for no limit.
    pub pages: u64,
    /// What a socket may hold beyond that, in bytes.
    pub least: u32,
    /// The receive buffer takes a packet as long as it is not full, and may be exceeded by the last.
    pub beyond_brim: bool,
}

/// The queue.
pub struct Datagrams {
    queue: Mutex<Queue>,
    /// The queue of a device that datagrams came by last (`SO_INCOMING_NAPI_ID`); 0 for none yet.
    napi_id: AtomicU32,
    /// Threads and tasks that wait for a datagram.
    pub wait: Arc<WaitQueue>,
    memory: Arc<ProtoMemory>,
}

#[derive(Default)]
struct Queue {
    packets: SkbQueue,
    /// Truesize of the packets (`sk_rmem_alloc`).
    rmem: u32,
    rcvbuf: u32,
    /// Truesize of what was read and is still charged (`forward_deficit`).
    deferred: u32,
    /// What is read is given back in lots: a datagram socket's.
    in_lots: bool,
    /// Packets at the front that readers have taken over, whose number decides about that (`reader_queue`).
    readers: usize,
    /// Bytes of the pages that are charged to the socket and not used (`sk_forward_alloc`).
    forward: u32,
    drops: u32,
    error: Option<SockError>,
    errors: ErrorQueue,
    waiting: bool,
    closed: bool,
}

impl std::fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queue = self.lock();
        f.debug_struct("Datagrams")
            .field("len", &queue.packets.len())
            .field("rmem", &queue.rmem)
            .finish_non_exhaustive()
    }
}

impl Datagrams {
    /// An empty queue.
    pub fn new(rcvbuf: u32, memory: Arc<ProtoMemory>) -> Datagrams {
        let queue = Queue { rcvbuf, ..Queue::default() };
        Datagrams { queue: Mutex::new(queue), napi_id: AtomicU32::new(0), wait: Arc::default(), memory }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue of a device that datagrams came by last; 0 for none yet.
    pub fn napi_id(&self) -> u32 {
        self.napi_id.load(Ordering::Relaxed)
    }

    /// Truesize of what waits (`sk_rmem_alloc`).
    pub fn rmem(&self) -> u32 {
        self.lock().rmem
    }

    /// Datagrams that wait.
    pub fn len(&self) -> usize {
        self.lock().packets.len()
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the socket dropped (`sk_drops`).
    pub fn drops(&self) -> u32 {
        self.lock().drops
    }

    /// Size of the receive buffer.
    pub fn rcvbuf(&self) -> u32 {
        self.lock().rcvbuf
    }

    /// `SO_RCVBUF`: twice what is asked for, within `rmem_max`.
    pub fn set_rcvbuf(&self, bytes: u32, rmem_max: u32) {
        self.lock().rcvbuf = bytes.min(rmem_max).saturating_mul(2).max(RCVBUF_MIN);
    }

    /// Whether the receive buffer is full for those who fill it beyond its brim (`sk_rmem_alloc >= sk_rcvbuf`); counts the
    /// drop if so.
    pub fn is_full(&self) -> bool {
        let mut queue = self.lock();
        let full = queue.rmem >= queue.rcvbuf;
        queue.drops += u32::from(full);
        full
    }

    /// Something for this socket was dropped elsewhere.
    pub fn count_drop(&self) {
        self.lock().drops += 1;
    }

    /// Queues a packet and wakes its readers: if it fits the buffer whole or is the only one, and if there is memory.
    ///
    /// # Errors
    /// The packet, and why it was refused; the drop is counted.
    pub fn push(&self, cx: &mut Cx, mut skb: Skb, payload: u32, limits: Limits) -> Result<(), (Skb, Refused)> {
        set_arrival(&mut skb, cx.now);
        let short = cx.pool_is_short();
        let dry = short && cx.pool_is_dry();
        let mut queue = self.lock();
        if let Err(refused) = queue.admit(skb.truesize, &self.memory, limits, short, dry) {
            queue.drops += 1;
            return Err((skb, refused));
        }
        let (traced, id, rmem) = (skb.traced(), skb.id, queue.rmem);
        if let Some(id) = napi_id(id) {
            self.napi_id.store(id, Ordering::Relaxed);
        }
        queue.packets.push_back(skb);
        let wake = std::mem::take(&mut queue.waiting);
        drop(queue);
        cx.hold(Holder::ReceiveQueue);
        if traced {
            cx.record(id, EventKind::DatagramQueued, payload, rmem, rxpath_trace::PacketId::NONE);
            cx.record(id, EventKind::Woken, payload, u32::from(wake), rxpath_trace::PacketId::NONE);
        }
        if wake {
            cx.wakeups.queue(&self.wait);
        }
        Ok(())
    }

    /// Whether a datagram waits, and whether an error does, the next call's or one that is told in detail
    /// (`datagram_poll`). With `register` the caller waits for either from now on.
    pub fn ready(&self, register: bool) -> (bool, bool, Option<EventListener>) {
        let mut queue = self.lock();
        let readable = !queue.packets.is_empty() || queue.closed;
        let error = queue.error.is_some() || !queue.errors.is_empty();
        let listener = (register && !readable && !error).then(|| {
            queue.waiting = true;
            self.wait.listen()
        });
        (readable, error, listener)
    }

    /// Takes the first datagram. What goes wrong with the socket is told before what came.
    ///
    /// # Errors
    /// As [`NoDatagram`] lists them. With `register` the caller waits from now on.
    pub fn take(&self, register: bool) -> Result<Skb, NoDatagram> {
        let mut queue = self.lock();
        if let Some(error) = queue.error.take() {
            return Err(NoDatagram::Failed(error));
        }
        match queue.pop() {
            Some(skb) => {
                queue.uncharge(skb.truesize, &self.memory);
                Ok(skb)
            }
            None => Err(self.nothing(&mut queue, register)),
        }
    }

    /// Looks at the first datagram (`MSG_PEEK`). One that `sound` does not find so is taken off and given back in the place
    /// of what `look` saw: the caller ends it, and looks again.
    ///
    /// # Errors
    /// As [`Datagrams::take`].
    pub fn peek<R>(
        &self,
        register: bool,
        sound: impl FnOnce(&Skb) -> bool,
        look: impl FnOnce(&Skb) -> R,
    ) -> Result<Result<R, Skb>, NoDatagram> {
        let mut queue = self.lock();
        if let Some(error) = queue.error.take() {
            return Err(NoDatagram::Failed(error));
        }
        queue.take_over();
        match queue.packets.front() {
            Some(skb) if sound(skb) => Ok(Ok(look(skb))),
            Some(_) => match queue.pop() {
                Some(skb) => {
                    queue.uncharge(skb.truesize, &self.memory);
                    Ok(Err(skb))
                }
                None => Err(self.nothing(&mut queue, register)),
            },
            None => Err(self.nothing(&mut queue, register)),
        }
    }

    /// The first datagram, taken off, if `sound` does not find it so; what goes wrong with the socket is not told.
    pub fn take_unsound(&self, sound: impl FnOnce(&Skb) -> bool) -> Option<Skb> {
        let mut queue = self.lock();
        queue.take_over();
        if sound(queue.packets.front()?) {
            return None;
        }
        let skb = queue.pop()?;
        queue.uncharge(skb.truesize, &self.memory);
        Some(skb)
    }

    fn nothing(&self, queue: &mut Queue, register: bool) -> NoDatagram {
        if queue.closed {
            return NoDatagram::Closed;
        }
        NoDatagram::Empty(register.then(|| {
            queue.waiting = true;
            self.wait.listen()
        }))
    }

    /// Reports an error to the next call (`sk_error_report`); gives the wait queue if somebody is to be woken.
    pub fn fail(&self, error: SockError) -> Option<&Arc<WaitQueue>> {
        let mut queue = self.lock();
        queue.error = Some(error);
        std::mem::take(&mut queue.waiting).then_some(&self.wait)
    }

    /// The pending error, which is taken (`sock_error`).
    pub fn take_error(&self) -> Option<SockError> {
        self.lock().error.take()
    }

    /// `sock_queue_err_skb`: an error to be told in detail. False, and it is forgotten, where it would fill the receive
    /// buffer.
    pub fn push_error(&self, error: QueuedError) -> bool {
        let mut queue = self.lock();
        if queue.closed || queue.rmem.saturating_add(error.charge) >= queue.rcvbuf {
            return false;
        }
        queue.rmem += error.charge;
        queue.errors.push(error);
        true
    }

    /// `sock_dequeue_err_skb`: the oldest error that is told in detail. The next call tells of the one behind it, if another
    /// host sent that; of none, if this was the last of them.
    pub fn pop_error(&self) -> Option<QueuedError> {
        let mut queue = self.lock();
        let (error, pending) = queue.errors.pop()?;
        queue.rmem = queue.rmem.saturating_sub(error.charge);
        if let Some(pending) = pending {
            queue.error = pending;
        }
        Some(error)
    }

    /// Whether errors wait that are told in detail.
    pub fn has_errors(&self) -> bool {
        !self.lock().errors.is_empty()
    }

    /// Forgets the errors that are told in detail (`skb_errqueue_purge`); what is pending stays.
    pub fn forget_errors(&self) {
        let mut queue = self.lock();
        let charged = queue.errors.clear();
        queue.rmem = queue.rmem.saturating_sub(charged);
    }

    /// Takes nothing any more. Those who wait are to be woken by the caller.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// All that waits (`skb_queue_purge`); the caller ends it.
    pub fn drain(&self) -> SkbQueue {
        let mut queue = self.lock();
        let all = std::mem::take(&mut queue.packets);
        let charged = queue.errors.clear();
        queue.rmem = queue.rmem.saturating_sub(charged);
        let rmem = queue.rmem - queue.deferred;
        queue.readers = 0;
        queue.uncharge(rmem, &self.memory);
        queue.release_pages(0, &self.memory);
        all
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        let queue = self.queue.get_mut().unwrap_or_else(PoisonError::into_inner);
        queue.release_pages(0, &self.memory);
    }
}

impl Queue {
    fn admit(
        &mut self,
        truesize: u32,
        memory: &ProtoMemory,
        limits: Limits,
        short: bool,
        dry: bool,
    ) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        let full = match limits.beyond_brim {
            true => self.rmem >= self.rcvbuf,
            false => self.rmem != 0 && u64::from(self.rmem) + u64::from(truesize) > u64::from(self.rcvbuf),
        };
        self.in_lots = !limits.beyond_brim;
        if full {
            return Err(Refused::Rcvbuf);
        }
        let poor = self.rmem < limits.least;
        if dry || (short && !poor) || !self.charge(truesize, memory, limits.pages, poor) {
            return Err(Refused::Memory);
        }
        self.rmem += truesize;
        Ok(())
    }

    /// `__sk_mem_raise_allocated`: takes pages as they are needed.
    fn charge(&mut self, truesize: u32, memory: &ProtoMemory, most: u64, poor: bool) -> bool {
        if self.forward < truesize {
            let pages = (truesize - self.forward).div_ceil(PAGE);
            let sum = memory.0.fetch_add(u64::from(pages), Ordering::Relaxed) + u64::from(pages);
            if sum > most && !poor {
                memory.0.fetch_sub(u64::from(pages), Ordering::Relaxed);
                return false;
            }
            self.forward += pages * PAGE;
        }
        self.forward -= truesize;
        true
    }

    /// Readers take over what waits once they have read what they had.
    fn take_over(&mut self) {
        if self.readers == 0 {
            self.readers = self.packets.len();
        }
    }

    fn pop(&mut self) -> Option<Skb> {
        self.take_over();
        let skb = self.packets.pop_front()?;
        self.readers = self.readers.saturating_sub(1);
        Some(skb)
    }

    /// `udp_rmem_release`: what is read stays charged until it is a quarter of the buffer, or readers have read all that
    /// they had taken over; then they take over what waits.
    fn uncharge(&mut self, truesize: u32, memory: &ProtoMemory) {
        self.deferred += truesize;
        if self.in_lots && self.deferred < self.rcvbuf / 4 && self.readers > 0 {
            return;
        }
        self.readers = self.packets.len();
        let released = std::mem::take(&mut self.deferred);
        self.rmem = self.rmem.saturating_sub(released);
        self.forward += released;
        self.release_pages(1, memory);
    }

    /// Gives back the pages that are not used, but for `keep` bytes.
    fn release_pages(&mut self, keep: u32, memory: &ProtoMemory) {
        let pages = self.forward.saturating_sub(keep) / PAGE;
        if pages > 0 {
            self.forward -= pages * PAGE;
            memory.0.fetch_sub(u64::from(pages), Ordering::Relaxed);
        }
    }
}

/// Writes down when the packet came to the socket. A datagram has no sequence numbers, in whose place this is kept.
fn set_arrival(skb: &mut Skb, at: Time) {
    (skb.seq, skb.end_seq) = (at.0 as u32, (at.0 >> 32) as u32);
}

/// When a packet that was taken off a queue had come.
pub fn arrival(skb: &Skb) -> Time {
    Time(u64::from(skb.end_seq) << 32 | u64::from(skb.seq))
}
