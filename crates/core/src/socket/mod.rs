//! Phase 8 and the tables of phase 6: sockets, how they are found, and how the application reads and writes them.
//!
//! A [`Sock`] belongs to the Cpu that owns its flow; its locked state is [`crate::tcp::TcpSock`]. The application
//! reads in steps ([`recv`]): own the socket, take and account for what will be copied, release, copy.

pub mod bind;
pub mod datagram;
mod deferred;
mod error_queue;
pub mod fast_open;
mod icmp_error;
pub mod listener;
pub mod readiness;
pub mod recv;
pub mod send;
pub mod table;
pub mod wake;
mod wakeups;
mod zerocopy;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU16, AtomicU32, Ordering};

use rxpath_mem::{LockOwner, SockLock};
use rxpath_wire::Tuple;

use crate::tcp::{TcpMemory, TcpSock};

pub use bind::{BindTable, NoPort, Rest, Wanted};
pub use datagram::{Datagrams, NoDatagram, Refused};
pub use deferred::{Deferred, DeferredErrors};
pub(crate) use error_queue::Quoted;
pub use error_queue::{ErrorOrigin, LOCAL_ERROR, QueuedError};
pub use fast_open::FastOpenQueue;
pub use icmp_error::ErrorMeans;
pub use listener::{AcceptQueue, Arrival, Listener, ListenerCache, ListenerMap, Listeners};
pub use readiness::Readiness;
pub use recv::{Lent, Nothing, ReadOf, Taken};
pub use send::{Part, WriteStep};
pub use table::{FlowEntry, FlowId, FlowTable};
pub use wake::WaitQueue;
pub use wakeups::Wakeups;
pub use zerocopy::{Lending, Notices, Payload, ZerocopyNotice};

/// Requests that another thread posts for a socket; the owner's Cpu carries them out (bits of [`Sock::post`]).
pub mod post {
    /// Send what the application wrote.
    pub const PUSH: u8 = 1;
    /// Acknowledge, or update the window, after a read.
    pub const ACK: u8 = 2;
    /// Work off the backlog that grew while the application owned the socket, wake whom it has reason to, and mind its timers.
    pub const BACKLOG: u8 = 4;
    /// The application writes no more.
    pub const SHUTDOWN: u8 = 8;
    /// The application has let go.
    pub const CLOSE: u8 = 16;
    /// Begin the handshake.
    pub const CONNECT: u8 = 32;
    /// A timer came while the application owned the socket.
    pub const TIMER: u8 = 64;
    /// An ICMP error came while the application owned the socket.
    pub const ERROR: u8 = 128;
}

/// One TCP socket.
#[repr(align(64))]
pub struct Sock {
    /// Addresses and ports.
    pub tuple: Tuple,
    /// Keyed hash of the tuple.
    pub hash: u32,
    /// The Cpu that owns the flow.
    pub cpu: u16,
    /// The interface that it is bound to, as last published; 0 for none.
    ifindex: AtomicU16,
    /// Requests not yet carried out ([`post`]).
    posted: AtomicU8,
    /// Requests that found the socket owned by the application; they wait for its release.
    deferred: AtomicU8,
    /// Charged memory and its limit, for the bound of the backlog while a user owns the socket.
    rmem: AtomicU32,
    rcvbuf: AtomicU32,
    /// Segments that the full backlog refused; its Cpu alone counts.
    backlog_drops: AtomicU32,
    /// Its segments are signed, as last published.
    signed: AtomicBool,
    /// The account of all, and the pages of this socket that it knows.
    memory: Arc<TcpMemory>,
    pages: AtomicI32,
    /// The locked state.
    pub lock: SockLock<TcpSock>,
    /// Threads and tasks that wait for bytes.
    pub recv_wait: WaitQueue,
    /// Threads and tasks that wait for room or for the handshake.
    pub send_wait: WaitQueue,
    /// ICMP errors that wait for the application to release the socket.
    pub errors: DeferredErrors,
    /// The listener whose accept queue a passive connection goes to.
    pub listener: Option<Arc<Listener>>,
}

impl Sock {
    /// A socket around its locked state.
    pub fn new(sk: TcpSock, hash: u32, cpu: u16, listener: Option<Arc<Listener>>, memory: &Arc<TcpMemory>) -> Sock {
        memory.socket_added();
        Sock {
            tuple: sk.tuple,
            hash,
            cpu,
            ifindex: AtomicU16::new(sk.ifindex),
            posted: AtomicU8::new(0),
            deferred: AtomicU8::new(0),
            rmem: AtomicU32::new(0),
            rcvbuf: AtomicU32::new(sk.rx.rcvbuf),
            backlog_drops: AtomicU32::new(0),
            signed: AtomicBool::new(sk.auth_len > 0),
            memory: Arc::clone(memory),
            pages: AtomicI32::new(0),
            lock: SockLock::new(sk),
            recv_wait: WaitQueue::new(),
            send_wait: WaitQueue::new(),
            errors: DeferredErrors::default(),
            listener,
        }
    }

    /// Adds requests; true if none were posted, so that the caller must put the socket into the mailbox.
    pub fn post(&self, bits: u8) -> bool {
        self.posted.fetch_or(bits, Ordering::AcqRel) == 0
    }

    /// Takes all requests.
    pub fn take_posted(&self) -> u8 {
        self.posted.swap(0, Ordering::AcqRel)
    }

    /// Puts requests off until the application releases the socket. It will: the attempt to lock left its mark.
    pub fn defer(&self, bits: u8) {
        self.deferred.fetch_or(bits, Ordering::AcqRel);
    }

    /// Takes what was put off.
    pub fn take_deferred(&self) -> u8 {
        if self.deferred.load(Ordering::Relaxed) == 0 { 0 } else { self.deferred.swap(0, Ordering::AcqRel) }
    }

    /// Publishes what the bound of the backlog is derived from, and what the account of all is told of: `change` pages
    /// (`Receiver::take_untold`).
    #[inline(always)]
    pub fn publish_memory(&self, sk: &TcpSock, change: i32) {
        self.rmem.store(sk.rx.rmem_alloc, Ordering::Relaxed);
        self.rcvbuf.store(sk.rx.rcvbuf, Ordering::Relaxed);
        if change != 0 {
            self.pages.store(sk.rx.pages, Ordering::Relaxed);
        }
    }

    /// Tells the account of all, by a thread of the application, that the socket has so many pages more, or less.
    #[inline(always)]
    pub fn tell_memory(&self, change: i32) {
        if change != 0 {
            self.memory.tell(self.cpu, change);
        }
    }

    /// Keys came or went.
    pub(crate) fn publish_keys(&self, sk: &TcpSock) {
        self.signed.store(sk.auth_len > 0, Ordering::Release);
    }

    /// It was bound to an interface, or to none any more.
    pub(crate) fn publish_interface(&self, sk: &TcpSock) {
        self.ifindex.store(sk.ifindex, Ordering::Relaxed);
    }

    /// Whether it takes what comes by this interface.
    #[inline(always)]
    pub(crate) fn takes_link(&self, ifindex: u16) -> bool {
        let bound = self.ifindex.load(Ordering::Relaxed);
        bound == 0 || bound == ifindex
    }

    /// Whether its segments are signed, as last published.
    pub(crate) fn is_signed(&self) -> bool {
        self.signed.load(Ordering::Acquire)
    }

    /// Charged memory, as last published.
    pub fn rmem(&self) -> u32 {
        self.rmem.load(Ordering::Relaxed)
    }

    /// The backlog was full.
    pub(crate) fn count_backlog_drop(&self) {
        self.backlog_drops.fetch_add(1, Ordering::Relaxed);
    }

    /// Segments that were refused because the backlog was full.
    pub fn backlog_drops(&self) -> u32 {
        self.backlog_drops.load(Ordering::Relaxed)
    }

    /// Limit of the backlog: twice the receive buffer and 64 KiB, and something for what is being sent
    /// (`tcp_add_backlog`).
    pub fn backlog_limit(&self) -> u64 {
        u64::from(self.rcvbuf.load(Ordering::Relaxed)) * 2 + 64 * 1_024 + SNDBUF_SHARE
    }
}

impl Drop for Sock {
    fn drop(&mut self) {
        self.memory.tell(self.cpu, -*self.pages.get_mut());
        self.memory.socket_removed();
    }
}

/// Half of the default send buffer, which counts towards the limit of the backlog.
const SNDBUF_SHARE: u64 = 8_192;

impl LockOwner<TcpSock> for Sock {
    #[inline(always)]
    fn lock_ref(&self) -> &SockLock<TcpSock> {
        &self.lock
    }
}
