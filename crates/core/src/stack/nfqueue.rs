//! Deciders outside: queues that are listened to, and packets that come back from them or from a hook that kept them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use event_listener::EventListener;
use rxpath_trace::Time;
use rxpath_trace::proc::{self, NfQueueRow};
use rxpath_wire::Ipv4Header;

use super::{Mail, RecvError, Stack, lock};
use crate::netfilter::{Answer, HookPoint, PacketQueue, QueueOptions, QueuedPacket, Stolen};
use crate::nic::owner_cpu;
use crate::tcp::FlowKey;

/// What a decider cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// Somebody listens to the queue already (`EBUSY`).
    InUse,
    /// No packet of this number waits in the queue (`ENOENT`).
    NoPacket,
    /// What is to take the packet's place is no IPv4 packet of that length (`EINVAL`).
    Malformed,
    /// The stack is down.
    Down,
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            QueueError::InUse => "somebody listens to this queue already",
            QueueError::NoPacket => "no packet of this number waits in the queue",
            QueueError::Malformed => "what is to take the packet's place is no IPv4 packet of that length",
            QueueError::Down => "the stack was shut down",
        })
    }
}

impl std::error::Error for QueueError {}

/// A packet that was kept, and what its owner says of it.
pub(super) struct GivenBack {
    pub(super) held: Stolen,
    pub(super) answer: Answer,
    pub(super) changed: Option<Box<[u8]>>,
}

impl Stack {
    /// Listens to a netfilter queue: packets come into it from each Cpu's next softirq run on.
    ///
    /// # Errors
    /// [`QueueError::InUse`], [`QueueError::Down`].
    pub fn open_queue(&self, number: u16, options: QueueOptions) -> Result<Arc<PacketQueue>, QueueError> {
        if self.is_down() {
            return Err(QueueError::Down);
        }
        let queue = PacketQueue::new(number, options);
        let mut bound = false;
        self.reconfigure(|net| {
            let mut changed = net.clone();
            bound = changed.hooks.bind(&queue);
            changed
        });
        if bound { Ok(queue) } else { Err(QueueError::InUse) }
    }

    /// Nobody listens any more: what waits in the queue ends as `QUEUE_PURGE`.
    pub fn close_queue(&self, queue: &Arc<PacketQueue>, now: Time) {
        self.reconfigure(|net| {
            let mut changed = net.clone();
            changed.hooks.unbind(queue);
            changed
        });
        self.purge_queue(queue, now);
    }

    /// Closes all queues: the stack goes down.
    pub(super) fn close_queues(&self, now: Time) {
        for queue in self.config().hooks.queues() {
            self.purge_queue(queue, now);
        }
    }

    fn purge_queue(&self, queue: &PacketQueue, now: Time) {
        for held in queue.close() {
            self.post_packet(held.cpu, Mail::Purged(Box::new(held)), now);
        }
        queue.wake();
    }

    /// Reads the next packet of a queue into `buf`: gives the bytes that were copied and what is known of the packet, which
    /// waits on for its verdict.
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is nothing to read, [`RecvError::Down`].
    pub fn queue_recv(
        &self,
        queue: &PacketQueue,
        buf: &mut [u8],
        register: bool,
    ) -> Result<(usize, QueuedPacket), RecvError> {
        // Registered first, so that no packet comes unnoticed in between.
        let listener: Option<EventListener> = register.then(|| queue.listen());
        match queue.read(buf) {
            Some(read) => Ok(read),
            None if self.is_down() => Err(RecvError::Down),
            None => Err(RecvError::Empty(listener)),
        }
    }

    /// Says what becomes of a packet in a queue, read or not (`nfqnl_recv_verdict`), and which bytes it has from now on.
    ///
    /// # Errors
    /// [`QueueError::NoPacket`]; [`QueueError::Malformed`], and the packet waits on.
    pub fn queue_verdict(
        &self,
        queue: &PacketQueue,
        id: u32,
        answer: Answer,
        changed: Option<&[u8]>,
        now: Time,
    ) -> Result<(), QueueError> {
        check(changed)?;
        let held = queue.take(id).ok_or(QueueError::NoPacket)?;
        self.give_back(held, answer, changed, now);
        Ok(())
    }

    /// Gives back a packet that a hook kept, with other bytes if it was changed: it goes on behind that hook, at once or when
    /// the holder of its Cpu's token comes to it (`nf_reinject`). May be called from a hook.
    ///
    /// # Errors
    /// Gives the packet back if what is to take its place is no IPv4 packet of that length.
    pub fn reinject(&self, held: Stolen, answer: Answer, changed: Option<&[u8]>, now: Time) -> Result<(), Stolen> {
        if check(changed).is_err() {
            return Err(held);
        }
        self.give_back(held, answer, changed, now);
        Ok(())
    }

    fn give_back(&self, held: Stolen, answer: Answer, changed: Option<&[u8]>, now: Time) {
        let cpu = self.cpu_of(&held, changed);
        let mail = if self.is_down() {
            Mail::Purged(Box::new(held))
        } else {
            Mail::Packet(Box::new(GivenBack { held, answer, changed: changed.map(Box::from) }))
        };
        self.post_packet(cpu, mail, now);
    }

    /// The pool bounds how many wait. Whoever posts must not wait for the token: he may be a hook, whose Cpu has it.
    fn post_packet(&self, cpu: u16, mail: Mail, now: Time) {
        let Some(cell) = self.0.cpus.get(usize::from(cpu)) else { return };
        let mut mailbox = lock(&cell.mailbox);
        mailbox.push_back(mail);
        cell.mail.store(true, Ordering::Release);
        drop(mailbox);
        fence(Ordering::SeqCst);
        self.kick_mail(cpu, None, now);
    }

    /// The Cpu that goes on with a packet: the one that had it, unless it came in and is now of another flow.
    fn cpu_of(&self, held: &Stolen, changed: Option<&[u8]>) -> u16 {
        let inbound = matches!(held.state().point(), HookPoint::PreRouting | HookPoint::LocalIn);
        let Some(bytes) = changed.filter(|_| inbound) else { return held.cpu };
        let net = self.config();
        FlowKey::of_unusual(bytes).map_or(held.cpu, |key| owner_cpu(key.hash(&net.hasher), net.cpus))
    }

    /// `/proc/net/netfilter/nfnetlink_queue`. The port is the queue's number, as there is no netlink.
    pub fn proc_nfnetlink_queue(&self) -> String {
        let row = |queue: &Arc<PacketQueue>| {
            let stats = queue.stats();
            NfQueueRow {
                number: queue.number(),
                port: u32::from(queue.number()),
                waiting: stats.waiting as u32,
                copy_range: queue.options().copy_range as u32,
                dropped: stats.dropped,
                id_sequence: stats.id_sequence,
            }
        };
        proc::nfnetlink_queue(&self.config().hooks.queues().iter().map(row).collect::<Vec<_>>())
    }
}

/// Whether bytes that are to take a packet's place are an IPv4 packet, whole and no more.
fn check(changed: Option<&[u8]>) -> Result<(), QueueError> {
    let Some(bytes) = changed else { return Ok(()) };
    let Some((header, _)) = Ipv4Header::parse(bytes) else { return Err(QueueError::Malformed) };
    let whole = header.version() == 4
        && usize::from(header.total_len()) == bytes.len()
        && (Ipv4Header::LEN..=bytes.len()).contains(&header.header_len());
    if whole { Ok(()) } else { Err(QueueError::Malformed) }
}
