//! Taps: packet sockets that see every packet, in and out, before any check (`packet_rcv`, `dev_queue_xmit_nit`).
//!
//! A [`Tap`] is a bounded queue of clones, filled by the Cpus and emptied by whoever reads. Inbound packets come as GRO
//! made them, without their VLAN tag; outbound ones as the device is to get them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rxpath_mem::{PktType, Returns, Skb};
use rxpath_trace::{DropReason, EventKind, Holder, Ledger, PacketId, Time};
use rxpath_wire::EthernetHeader;

use crate::cx::Cx;

/// What a tap sees, and how much it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapConfig {
    /// The tap's number in the events of lives.
    pub number: u32,
    /// Only this interface; None for all.
    pub ifindex: Option<u16>,
    /// Bytes of truesize that may wait for the reader (`SO_RCVBUF`).
    pub rcvbuf: u32,
}

impl Default for TapConfig {
    /// Tap 0, all interfaces, 212,992 bytes as the kernel's `rmem_default`.
    fn default() -> TapConfig {
        TapConfig { number: 0, ifindex: None, rcvbuf: 212_992 }
    }
}

/// What a tap counted since it was made (`PACKET_STATISTICS`, which clears on reading, is the difference of two).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapStats {
    /// Packets that it was offered, the dropped ones included (`tp_packets`).
    pub packets: u64,
    /// Packets that it had no room for (`tp_drops`).
    pub drops: u64,
}

/// A packet that a tap saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The packet that was seen (the original, not the clone).
    pub id: PacketId,
    /// When.
    pub at: Time,
    /// On which interface.
    pub ifindex: u16,
    /// To whom it was addressed; `Outgoing` for our own.
    pub pkt_type: PktType,
    /// EtherType.
    pub protocol: u16,
    /// Bytes of the frame, Ethernet header included.
    pub len: usize,
}

/// A packet socket's receive side.
pub struct Tap {
    config: TapConfig,
    queue: Mutex<Queue>,
    /// A shard that only holders of the lock write.
    ledger: Arc<Ledger>,
}

struct Queue {
    frames: VecDeque<(Captured, Skb)>,
    /// Truesize of the frames.
    charged: u64,
    stats: TapStats,
    closed: bool,
    returns: Returns,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("config", &self.config).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Tap {
    /// A tap. `ledger` is a shard of its own, summed with those of the Cpus: what the Cpus enter as held by the tap is
    /// given out there.
    pub fn new(config: TapConfig, ledger: Arc<Ledger>) -> Arc<Tap> {
        let queue = Queue {
            frames: VecDeque::new(),
            charged: 0,
            stats: TapStats::default(),
            closed: false,
            returns: Returns::new(),
        };
        Arc::new(Tap { config, queue: Mutex::new(queue), ledger })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A reader that panicked leaves the queue whole: nothing in here is done by halves.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it sees and may hold.
    pub fn config(&self) -> &TapConfig {
        &self.config
    }

    /// What it counted.
    pub fn stats(&self) -> TapStats {
        self.lock().stats
    }

    /// Packets that wait for the reader.
    pub fn len(&self) -> usize {
        self.lock().frames.len()
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `packet_recvmsg`: the next packet, its bytes in `frame` (whose old contents go). None if nothing waits.
    pub fn read(&self, frame: &mut Vec<u8>) -> Option<Captured> {
        let mut queue = self.lock();
        let (captured, skb) = queue.frames.pop_front()?;
        frame.clear();
        for piece in skb.fragments() {
            frame.extend_from_slice(piece);
        }
        queue.charged -= u64::from(skb.truesize);
        self.ledger.held_out(Holder::TapQueue, 1);
        self.ledger.delivered(1);
        queue.returns.push(skb);
        if queue.frames.is_empty() {
            queue.returns.flush();
        }
        Some(captured)
    }

    /// Throws away what waits and takes nothing any more.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        while let Some((_, skb)) = queue.frames.pop_front() {
            self.ledger.held_out(Holder::TapQueue, 1);
            self.ledger.dropped(DropReason::QueuePurge, 1);
            queue.returns.push(skb);
        }
        queue.charged = 0;
        queue.returns.flush();
    }

    /// Offers a packet; the clone, if there is room and memory for one.
    ///
    /// A full queue is found out before the clone is made, so that no clone is ever dropped.
    fn offer(&self, cx: &mut Cx, skb: &Skb, pkt_type: PktType) {
        if self.config.ifindex.is_some_and(|only| only != skb.ifindex) {
            return;
        }
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        queue.stats.packets += 1;
        let room = queue.charged < u64::from(self.config.rcvbuf);
        let Some(clone) = room.then(|| frame_of(cx, skb)).flatten() else {
            queue.stats.drops += 1;
            return;
        };
        let len = clone.len();
        cx.event_with(skb, EventKind::TapClone, len as u32, self.config.number, clone.id);
        let captured = Captured { id: skb.id, at: cx.now, ifindex: skb.ifindex, pkt_type, protocol: skb.protocol, len };
        queue.charged += u64::from(clone.truesize);
        cx.ledger.clones(1);
        cx.hold(Holder::TapQueue);
        queue.frames.push_back((captured, clone));
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.close();
    }
}

/// A clone of the packet, its data starting at the Ethernet header. Its own life is not recorded: it ends with a reader
/// that has no life ring; the original's life tells of it.
fn frame_of(cx: &mut Cx, skb: &Skb) -> Option<Skb> {
    let mut clone = cx.clone_shared(skb)?;
    clone.id = cx.ids.mint();
    clone.set_traced(false);
    let pulled = clone.data_offset().saturating_sub(usize::from(clone.network_off) - mac_len(&clone));
    let whole = clone.unpull(pulled);
    debug_assert!(whole, "the Ethernet header was pulled from this buffer");
    Some(clone)
}

/// Bytes of link header in front of the network header.
fn mac_len(skb: &Skb) -> usize {
    EthernetHeader::LEN.min(usize::from(skb.network_off))
}

/// Offers an inbound packet to all taps.
#[cold]
pub(crate) fn deliver(cx: &mut Cx, skb: &Skb) {
    deliver_as(cx, skb, skb.pkt_type);
}

/// `dev_queue_xmit_nit`: offers an outbound frame to all taps.
#[cold]
pub(crate) fn deliver_outgoing(cx: &mut Cx, skb: &Skb) {
    deliver_as(cx, skb, PktType::Outgoing);
}

fn deliver_as(cx: &mut Cx, skb: &Skb, pkt_type: PktType) {
    let net = Arc::clone(&cx.net);
    for tap in net.ptypes.taps() {
        tap.offer(cx, skb, pkt_type);
    }
}
