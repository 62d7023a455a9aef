//! Queues to deciders outside: whoever listens to one reads the packets and says what becomes of each.
//!
//! One bound holds for packets that nobody has read and for those whose reader has not decided: what the kernel bounds
//! twice, by `queue_maxlen` and by the receive buffer of a netlink socket.
//!
//! Mirrors `nfqnl_enqueue_packet`, `nfqnl_recv_verdict`. A merged packet is queued whole, as with `NFQA_CFG_F_GSO`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::{Event, EventListener};
use rxpath_mem::{IpSummed, Skb};
use rxpath_trace::{DropReason, PacketId, Time};

use super::{HookPoint, HookState, Stolen};
use crate::cx::{Cx, Fate};

/// What fits a netlink attribute (`NFQNL_MAX_COPY_RANGE`).
const MAX_COPY_RANGE: usize = 65_531;

/// What a queue holds and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// Packets that may wait to be read or decided over (`NFQA_CFG_QUEUE_MAXLEN`); 1,024 by default.
    pub max_len: usize,
    /// How many bytes of each its reader is given (`copy_range`); 65,531, the most by default.
    pub copy_range: usize,
    /// What finds the queue full goes on instead of being dropped (`NFQA_CFG_F_FAIL_OPEN`).
    pub fail_open: bool,
}

impl Default for QueueOptions {
    fn default() -> QueueOptions {
        QueueOptions { max_len: 1_024, copy_range: MAX_COPY_RANGE, fail_open: false }
    }
}

/// What is known of a packet in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedPacket {
    /// By which its verdict names it: counted from 1, anew after 2^32.
    pub id: u32,
    /// The packet's identity, as lives and captures have it.
    pub packet: PacketId,
    /// Where it waits.
    pub point: HookPoint,
    /// When it came into the queue.
    pub at: Time,
    /// The interface by which it came, if it did and that is known there.
    pub came_by: Option<u16>,
    /// The interface by which it is to leave, once that is known.
    pub leaves_by: Option<u16>,
    /// Its length in bytes, from the IP header on; what did not fit the buffer or the copy range is not given.
    pub len: usize,
    /// Its priority (`NFQA_PRIORITY`): 0, unless a VLAN device or a hook gave it another.
    pub priority: u8,
    /// Payload bytes of each segment if it was merged of several; 0 if it was not.
    pub segment: u16,
    /// Its transport checksum is not filled in (`NFQA_SKB_CSUMNOTREADY`).
    pub checksum_open: bool,
}

/// What a queue counts, as `/proc/net/netfilter/nfnetlink_queue` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Packets that wait to be read or decided over.
    pub waiting: usize,
    /// Packets that found it full and were dropped (`queue_dropped`).
    pub dropped: u64,
    /// The number that was given last (`id_sequence`).
    pub id_sequence: u32,
}

/// A queue that somebody listens to.
pub struct PacketQueue {
    number: u16,
    options: QueueOptions,
    inner: Mutex<Inner>,
    /// Notified when a packet comes that nobody has read.
    arrived: Event,
}

#[derive(Default)]
struct Inner {
    /// By number, which grows.
    entries: VecDeque<Entry>,
    /// The first one that nobody has read.
    unread: usize,
    stats: QueueStats,
    closed: bool,
}

struct Entry {
    id: u32,
    at: Time,
    held: Stolen,
}

impl fmt::Debug for PacketQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PacketQueue { number, options, .. } = self;
        f.debug_struct("PacketQueue").field("number", number).field("options", options).finish_non_exhaustive()
    }
}

impl PacketQueue {
    /// A queue without packets.
    pub(crate) fn new(number: u16, options: QueueOptions) -> Arc<PacketQueue> {
        let copy_range = options.copy_range.min(MAX_COPY_RANGE);
        let options = QueueOptions { copy_range, ..options };
        Arc::new(PacketQueue { number, options, inner: Mutex::default(), arrived: Event::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here is done by halves.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// What it holds and gives.
    pub fn options(&self) -> QueueOptions {
        self.options
    }

    /// What it counted.
    pub fn stats(&self) -> QueueStats {
        let inner = self.lock();
        QueueStats { waiting: inner.entries.len(), ..inner.stats }
    }

    /// Registers the caller for the next packet.
    pub(crate) fn listen(&self) -> EventListener {
        self.arrived.listen()
    }

    /// Wakes those who wait for a packet.
    pub(crate) fn wake(&self) {
        self.arrived.notify(usize::MAX);
    }

    /// `nfqnl_enqueue_packet`: takes the packet in, if there is room for it. Where the pool runs short, there is none: who
    /// does not decide must not hold others back.
    pub(super) fn enqueue(self: &Arc<PacketQueue>, cx: &mut Cx, at: &HookState, skb: Skb, bypass: bool) -> Fate<Skb> {
        let mut inner = self.lock();
        if inner.closed {
            return if bypass { Fate::Pass(skb) } else { Fate::Drop(skb, DropReason::NetfilterDrop) };
        }
        if inner.entries.len() >= self.options.max_len || cx.pool_is_short() {
            if self.options.fail_open {
                return Fate::Pass(skb);
            }
            inner.stats.dropped += 1;
            return Fate::Drop(skb, DropReason::NfqueueFull);
        }
        inner.stats.id_sequence = inner.stats.id_sequence.wrapping_add(1);
        let id = inner.stats.id_sequence;
        if inner.unread == inner.entries.len() {
            cx.wakeups.decider(self);
        }
        let (now, held) = (cx.now, at.steal(cx, skb));
        inner.entries.push_back(Entry { id, at: now, held });
        Fate::Held
    }

    /// The next packet that nobody has read: what fits `buf` of it, and what is known. None if there is none.
    pub(crate) fn read(&self, buf: &mut [u8]) -> Option<(usize, QueuedPacket)> {
        let mut inner = self.lock();
        let Entry { id, at, held } = inner.entries.get(inner.unread)?;
        let (skb, state) = (held.packet(), held.state());
        let room = buf.len().min(self.options.copy_range);
        let copied = skb.copy_to(0, &mut buf[..room]);
        let packet = QueuedPacket {
            id: *id,
            packet: skb.id,
            point: state.point(),
            at: *at,
            came_by: state.came_by(skb),
            leaves_by: state.leaves_by(),
            len: skb.len(),
            priority: skb.priority(),
            segment: skb.gso_size,
            checksum_open: skb.ip_summed == IpSummed::Partial || skb.gso_size > 0,
        };
        inner.unread += 1;
        Some((copied, packet))
    }

    /// Takes the packet of this number out (`find_dequeue_entry`), read or not.
    pub(crate) fn take(&self, id: u32) -> Option<Stolen> {
        let mut inner = self.lock();
        let first = inner.entries.front()?.id;
        let place =
            inner.entries.binary_search_by_key(&id.wrapping_sub(first), |entry| entry.id.wrapping_sub(first)).ok()?;
        if place < inner.unread {
            inner.unread -= 1;
        }
        inner.entries.remove(place).map(|entry| entry.held)
    }

    /// Takes nothing in any more, and gives what waits.
    pub(crate) fn close(&self) -> Vec<Stolen> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.unread = 0;
        inner.entries.drain(..).map(|entry| entry.held).collect()
    }
}
