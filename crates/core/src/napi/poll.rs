//! One queue's NAPI: the driver's poll over the descriptor ring.

use rxpath_mem::{Harvest, PagePool, RxErrors, RxRing, Skb, SkbQueue};
use rxpath_trace::event::device_word;
use rxpath_trace::{DropReason, EventKind, PacketId, Time};
use rxpath_wire::MacAddr;

use super::poll_list::Polled;
use crate::cx::{Cx, flow_of_frame};
use crate::demux::stats::DevStat;
use crate::demux::{self, eth_type_trans};
use crate::gro::Gro;
use crate::nic::{DeviceQueue, IrqLine, TruesizeModel, Xmit};
use crate::tcp::{Source, Taken};
use crate::xdp;

/// A receive queue with its ring, its device and its GRO lists. Owned by one Cpu, on lines that no other Cpu writes.
#[repr(align(128))]
pub struct Napi {
    /// Index of the interface.
    pub ifindex: u16,
    /// Queue of the device.
    pub queue_index: u16,
    /// The device's queue.
    pub queue: Box<dyn DeviceQueue>,
    /// The queue's interrupt.
    pub irq: IrqLine,
    pub(super) ring: RxRing,
    pub(super) gro: Gro,
    /// What follows it on the list that it stands on (`napi_struct.poll_list`).
    pub(super) after: Option<Polled>,
    mac: MacAddr,
    truesize: TruesizeModel,
    gro_on: bool,
    /// A program stands in the native door, as of this poll.
    xdp_on: bool,
    /// Segments handed on before the list is pushed up (`gro_normal_batch`).
    batch: usize,
}

/// What stands above the driver's poll.
pub trait Upper {
    /// Takes a list of packets, in order.
    fn receive(&mut self, cx: &mut Cx, ready: &mut SkbQueue);

    /// Takes frames that continue the packet that was received last, at most `limit`, straight from the ring.
    fn streak(&mut self, cx: &mut Cx, source: &mut Source<'_>, limit: usize) -> Option<Taken>;
}

/// What a NAPI needs to know of its interface.
pub struct NapiSetup {
    /// Index of the interface.
    pub ifindex: u16,
    /// Queue of the device.
    pub queue_index: u16,
    /// Hardware address.
    pub mac: MacAddr,
    /// Memory charge of its frames.
    pub truesize: TruesizeModel,
    /// Whether GRO merges.
    pub gro: bool,
    /// `gro_normal_batch`.
    pub batch: u32,
}

impl Napi {
    /// The NAPI of a queue that has been opened.
    pub fn new(setup: NapiSetup, queue: Box<dyn DeviceQueue>, irq: IrqLine, ring: RxRing) -> Napi {
        Napi {
            ifindex: setup.ifindex,
            queue_index: setup.queue_index,
            queue,
            irq,
            ring,
            gro: Gro::new(),
            after: None,
            mac: setup.mac,
            truesize: setup.truesize,
            gro_on: setup.gro,
            xdp_on: false,
            batch: setup.batch.max(1) as usize,
        }
    }

    /// Posts slots before the first frame comes.
    pub fn fill(&mut self, cx: &mut Cx) {
        self.ring.refill(&mut cx.pool);
    }

    /// The statistics of the ring, readable from anywhere.
    pub fn ring_stats(&self) -> std::sync::Arc<rxpath_mem::RingStats> {
        self.ring.stats()
    }

    /// Slots that are posted to the ring and not taken from it.
    pub fn posted(&self) -> usize {
        self.ring.posted()
    }

    /// The driver's poll: takes at most `weight` frames off the ring. Lists of packets that are ready go `up` as they
    /// fill. Gives the number of frames taken.
    #[inline]
    pub fn poll(&mut self, cx: &mut Cx, weight: usize, up: &mut impl Upper) -> usize {
        self.queue.dma(cx.now, &mut cx.pool, weight);
        if self.ring.has_missed() {
            self.count_missed(cx);
        }
        self.xdp_on = cx.net.interface(self.ifindex).is_some_and(|interface| interface.xdp.native.is_some());
        let mut ready = SkbQueue::new();
        let (mut work, mut bytes, mut errors) = (0, 0, 0);
        while work < weight {
            let (used, used_bytes) = self.streak(cx, weight - work, ready.is_empty(), up);
            work += used;
            bytes += used_bytes;
            if work == weight {
                break;
            }
            let Some(harvest) = self.ring.take() else { break };
            work += 1;
            match harvest {
                Harvest::Frame(skb) => {
                    bytes += skb.len();
                    self.frame(cx, skb, &mut ready);
                }
                Harvest::Error(skb) => {
                    self.bad_frame(cx, skb);
                    errors += 1;
                }
            }
            if ready.len() >= self.batch || self.goes_on(&ready) {
                up.receive(cx, &mut ready);
            }
        }
        // Counted for the whole poll: nobody looks at the figures of this Cpu before it is over.
        cx.ledger.offered(work as u64);
        cx.dev.received(self.ifindex, (work - errors) as u64, bytes as u64);
        self.ring.refill(&mut cx.pool);
        if !ready.is_empty() {
            up.receive(cx, &mut ready);
        }
        work
    }

    /// Flushes what GRO holds: all of it, at the end of a poll on a machine whose jiffies are as long as here.
    pub fn gro_flush(&mut self, cx: &mut Cx, up: &mut impl Upper) {
        let mut ready = SkbQueue::new();
        self.gro.flush(cx, &mut ready, None);
        if !ready.is_empty() {
            up.receive(cx, &mut ready);
        }
    }

    /// Frames that continue what GRO holds or, without GRO, what the socket received last: used where they lie. Gives their
    /// number and their bytes. Nothing may be overtaken: without GRO, `all_up` says that all packets before them went up.
    #[inline(always)]
    fn streak(&mut self, cx: &mut Cx, limit: usize, all_up: bool, up: &mut impl Upper) -> (usize, usize) {
        if self.xdp_on {
            return (0, 0);
        }
        if self.gro_on {
            let holds = self.gro.held() > 0 && !cx.life.on();
            return if holds { self.gro.streak(cx, &mut self.ring, limit, self.ifindex) } else { (0, 0) };
        }
        if !all_up {
            return (0, 0);
        }
        let mut source = Source { ring: &mut self.ring, ifindex: self.ifindex, truesize: self.truesize };
        up.streak(cx, &mut source, limit).map_or((0, 0), |taken| (taken.frames, taken.frames * taken.frame_len))
    }

    /// Whether, without GRO, the next frame is of the flow of the last packet, as far as the device's hash tells: then that
    /// goes up at once, and the frame may be used where it lies.
    #[inline(always)]
    fn goes_on(&mut self, ready: &SkbQueue) -> bool {
        !self.gro_on && ready.back().is_some_and(|skb| skb.hash != 0 && self.ring.hash_at(0) == Some(skb.hash))
    }

    /// A frame as an Skb: charge, type, GRO.
    #[inline(always)]
    fn frame(&mut self, cx: &mut Cx, mut skb: Skb, ready: &mut SkbQueue) {
        let len = skb.len() as u32;
        skb.truesize = self.truesize.charge(len);
        skb.scratch = self.truesize.joins(len).0;
        if cx.life.on() {
            self.birth(cx, &mut skb);
        }
        if self.xdp_on {
            match xdp::native(cx, skb, self.ifindex, self.mac).split() {
                Ok(passed) => skb = passed,
                Err(end) => return cx.end(end),
            }
        }
        if !eth_type_trans(cx, &mut skb, self.ifindex, self.mac) {
            cx.dev.add(self.ifindex, DevStat::RxErrors, 1);
            cx.dev.add(self.ifindex, DevStat::RxLengthErrors, 1);
            return cx.drop_skb(skb, DropReason::DevHdr);
        }
        if self.gro_on {
            if demux::is_tagged(&skb) {
                match demux::vlan_gro_receive(cx, skb).split() {
                    Ok(untagged) => skb = untagged,
                    Err(end) => return cx.end(end),
                }
            }
            let more = self.ring.done_count_hint() > 0 || self.ring.pending() > 0;
            self.gro.receive(cx, skb, more, ready);
        } else {
            ready.push_back(skb);
        }
    }

    /// Decides whether this life is recorded, and writes its first events.
    #[cold]
    fn birth(&mut self, cx: &mut Cx, skb: &mut Skb) {
        let desc = self.ring.taken_desc();
        let wanted = cx.life.selects(skb.id, || flow_of_frame(skb.data()));
        skb.set_traced(wanted);
        let len = skb.len() as u32;
        if wanted {
            cx.record_at(desc.at, skb.id, EventKind::Offered, len, device_word(self.ifindex, self.queue_index));
        }
        cx.event(skb, EventKind::Harvested, desc.hash, desc.csum as u32);
    }

    /// A frame that the device marked as bad never becomes a packet of the stack.
    #[cold]
    fn bad_frame(&mut self, cx: &mut Cx, mut skb: Skb) {
        let desc = self.ring.taken_desc();
        if cx.life.on() {
            self.birth(cx, &mut skb);
        }
        let (stat, reason) = if desc.errors.contains(RxErrors::CRC) {
            (DevStat::RxCrcErrors, DropReason::RxCrc)
        } else if desc.errors.contains(RxErrors::RUNT) {
            (DevStat::RxLengthErrors, DropReason::RxRunt)
        } else if desc.errors.contains(RxErrors::OVERSIZE) {
            (DevStat::RxLengthErrors, DropReason::RxOversize)
        } else {
            (DevStat::RxFifoErrors, DropReason::DevHdr)
        };
        cx.dev.add(self.ifindex, DevStat::RxErrors, 1);
        cx.dev.add(self.ifindex, stat, 1);
        cx.drop_skb(skb, reason);
    }

    /// Frames that met a full ring: they were offered, and ended there.
    #[cold]
    fn count_missed(&mut self, cx: &mut Cx) {
        let ifindex = self.ifindex;
        let word = device_word(ifindex, self.queue_index);
        let count = |cx: &mut Cx, n: u64, reason: DropReason| {
            cx.ledger.offered(n);
            cx.ledger.dropped(reason, n);
            cx.dev.add(ifindex, DevStat::RxMissedErrors, n);
        };
        let unrecorded = self.ring.drain_missed_frames(|frame| {
            let reason = if frame.no_buffer { DropReason::RxNoBuffer } else { DropReason::RxMissed };
            count(cx, 1, reason);
            // What was not taken over cannot be looked at: only selections that ask for no addresses see it.
            if cx.life.on() && cx.life.selects(frame.id, || flow_of_frame(&[])) {
                cx.record_at(frame.at, frame.id, EventKind::Missed, frame.len, word);
                cx.record(frame.id, EventKind::Dropped, reason as u32, 0, PacketId::NONE);
            }
        });
        if unrecorded > 0 {
            count(cx, unrecorded, DropReason::RxMissed);
        }
    }

    /// Closes the device's queue and ends everything that this one holds.
    pub fn purge(&mut self, cx: &mut Cx) {
        // The device goes first: what it writes afterwards nobody would count.
        self.queue = Box::new(Unplugged);
        self.count_missed(cx);
        let mut ready = SkbQueue::new();
        self.gro.flush(cx, &mut ready, None);
        while let Some(harvest) = self.ring.take() {
            cx.ledger.offered(1);
            match harvest {
                Harvest::Frame(skb) | Harvest::Error(skb) => ready.push_back(skb),
            }
        }
        while let Some(skb) = ready.pop_front() {
            cx.drop_skb(skb, DropReason::QueuePurge);
        }
    }

    /// `napi_complete_done`: GRO is flushed by the caller; true if the interrupt is unmasked again and nothing was
    /// missed meanwhile.
    pub fn complete(&mut self) -> bool {
        if !self.irq.napi().complete() {
            return false;
        }
        // The race that loses an interrupt: a frame that was written after the last look and before the unmasking.
        if self.ring.pending() > 0 {
            self.irq.fire();
        }
        true
    }
}

/// Where a device was.
struct Unplugged;

impl DeviceQueue for Unplugged {
    fn dma(&mut self, _now: Time, _pool: &mut PagePool, _budget: usize) -> usize {
        0
    }

    fn xmit(&mut self, _now: Time, _skb: &Skb) -> Xmit {
        Xmit::Failed
    }

    fn flush(&mut self, _now: Time) {}
}
