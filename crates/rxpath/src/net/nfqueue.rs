//! Netfilter queues: deciders outside of the stack.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rxpath_core::netfilter::PacketQueue;
pub use rxpath_core::netfilter::{Answer, QueueOptions, QueueStats, QueuedPacket, ToQueue};
use rxpath_core::stack::{QueueError, RecvError};

use super::call::{block, check_timeout, down};
use crate::runtime::Attempt;
use crate::stack::Stack;

/// A netfilter queue that this program listens to (`nfnetlink_queue`): packets that a hook said QUEUE of wait in it until
/// somebody says what becomes of them. What finds it full is dropped (`NFQUEUE_FULL`) or goes on, as its options say; where
/// nobody listens, packets are dropped (`NETFILTER_DROP`) unless the hook said otherwise. Handles can be cloned, and used
/// by several threads; dropping the last one ends what waits as `QUEUE_PURGE`.
///
/// ```
/// use std::sync::Arc;
///
/// use rxpath::device::wire::{self, WireConfig};
/// use rxpath::net::{Answer, NetfilterQueue, QueueOptions, ToQueue, UdpSocket};
/// use rxpath::rxpath_core::netfilter::{Decision, HookPoint, Hooks, Priority, Rule};
/// use rxpath::{Interface, Stack};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Every datagram that comes in is for queue 7.
/// let mut hooks = Hooks::new();
/// let rule = Rule::new("udp", |_, packet| match packet[9] {
///     17 => Decision::Queue(ToQueue::number(7)),
///     _ => Decision::Accept,
/// });
/// hooks.register(HookPoint::LocalIn, Priority::FILTER, Arc::new(rule));
///
/// let (a, b) = wire::pair(WireConfig::default(), WireConfig::default());
/// let host = Stack::builder().interface(Interface::new(a).address("10.0.0.1/24")?).hooks(hooks).build()?;
/// let peer = Stack::builder().interface(Interface::new(b).address("10.0.0.2/24")?).build()?;
/// let queue = NetfilterQueue::open(&host, 7, QueueOptions::default())?;
/// let socket = UdpSocket::bind(&host, "10.0.0.1:53")?;
/// let sender = UdpSocket::bind(&peer, "10.0.0.2:0")?;
///
/// for word in ["bad", "good"] {
///     sender.send_to(word.as_bytes(), "10.0.0.1:53")?;
///     let mut packet = [0; 2_048];
///     let (bytes, queued) = queue.recv(&mut packet)?;
///     let answer = if packet[..bytes].ends_with(b"bad") { Answer::Drop } else { Answer::Accept };
///     queue.verdict(queued.id, answer)?;
/// }
/// let mut buf = [0; 16];
/// let (bytes, _) = socket.recv_from(&mut buf)?;
/// assert_eq!(&buf[..bytes], b"good");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct NetfilterQueue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stack: Stack,
    queue: Arc<PacketQueue>,
    nonblocking: AtomicBool,
    read_timeout: Mutex<Option<Duration>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stack.core().close_queue(&self.queue, self.stack.now());
    }
}

fn queue_error(error: QueueError) -> io::Error {
    let kind = match error {
        QueueError::InUse => io::ErrorKind::AddrInUse,
        QueueError::NoPacket => io::ErrorKind::NotFound,
        QueueError::Malformed => io::ErrorKind::InvalidInput,
        QueueError::Down => return down(),
    };
    io::Error::new(kind, error)
}

impl NetfilterQueue {
    /// Listens to the queue of this number. Packets come into it from now on.
    ///
    /// # Errors
    /// `AddrInUse` if somebody listens to it already; `NetworkDown`.
    pub fn open(stack: &Stack, number: u16, options: QueueOptions) -> io::Result<NetfilterQueue> {
        let queue = stack.core().open_queue(number, options).map_err(queue_error)?;
        let (nonblocking, read_timeout) = (AtomicBool::new(false), Mutex::default());
        Ok(NetfilterQueue(Arc::new(Inner { stack: stack.clone(), queue, nonblocking, read_timeout })))
    }

    /// Reads the packet that has waited longest of those that nobody has read, from its IP header on, and waits for one if
    /// there is none. Gives the bytes that fit `buf` and the queue's copy range, and what is known of the packet; the packet
    /// waits on for its verdict.
    ///
    /// # Errors
    /// `WouldBlock` on a non-blocking queue or past the time-out, `NetworkDown`.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<(usize, QueuedPacket)> {
        let Inner { stack, queue, nonblocking, .. } = &*self.0;
        let timeout = *self.0.read_timeout.lock().unwrap_or_else(PoisonError::into_inner);
        block(stack, 0..stack.cpus(), nonblocking.load(Ordering::Relaxed), timeout, |register| {
            match stack.core().queue_recv(queue, buf, register) {
                Ok(read) => Attempt::Done(Ok(read)),
                Err(RecvError::Empty(waiter)) => Attempt::Pending(waiter),
                Err(_) => Attempt::Done(Err(down())),
            }
        })
    }

    /// Says what becomes of the packet of this [`id`](QueuedPacket::id): it ends, or goes on behind the hook that queued it.
    /// Packets can be decided over in any order, and before they were read.
    ///
    /// # Errors
    /// `NotFound` if no such packet waits.
    pub fn verdict(&self, id: u32, answer: Answer) -> io::Result<()> {
        self.decide(id, answer, None)
    }

    /// As [`NetfilterQueue::verdict`], and the packet consists of `bytes` from now on: a whole IPv4 packet, with checksums
    /// that hold.
    ///
    /// # Errors
    /// `NotFound` if no such packet waits; `InvalidInput` if the bytes are no IPv4 packet of their length, and it waits on.
    pub fn verdict_with(&self, id: u32, answer: Answer, bytes: &[u8]) -> io::Result<()> {
        self.decide(id, answer, Some(bytes))
    }

    fn decide(&self, id: u32, answer: Answer, changed: Option<&[u8]>) -> io::Result<()> {
        let Inner { stack, queue, .. } = &*self.0;
        stack.core().queue_verdict(queue, id, answer, changed, stack.now()).map_err(queue_error)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.0.queue.number()
    }

    /// What it counted since it was opened.
    pub fn statistics(&self) -> QueueStats {
        self.0.queue.stats()
    }

    /// Whether [`NetfilterQueue::recv`] gives `WouldBlock` instead of waiting. Holds for all handles.
    ///
    /// # Errors
    /// None; as `std` has it.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.nonblocking.store(nonblocking, Ordering::Relaxed);
        Ok(())
    }

    /// How long [`NetfilterQueue::recv`] waits, `None` for ever; past that it gives `WouldBlock`. Holds for all handles.
    ///
    /// # Errors
    /// `InvalidInput` if it is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        check_timeout(timeout)?;
        *self.0.read_timeout.lock().unwrap_or_else(PoisonError::into_inner) = timeout;
        Ok(())
    }
}
