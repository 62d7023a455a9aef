//! A socket that is over its memory: its buffer is raised if it may be, what it holds is copied into dense buffers, and
//! what lies farthest ahead is given up (`tcp_prune_queue`, `tcp_collapse`, `tcp_collapse_ofo_queue`,
//! `tcp_prune_ofo_queue`, `tcp_clamp_window`, `tcp_try_rmem_schedule`).

use rxpath_mem::{Skb, SkbQueue, SlotClass};
use rxpath_trace::{Consumed, Counter, DropReason, EventKind, Holder, MadeHow, PacketId};
use rxpath_wire::{SeqNum, TcpFlags};

use super::ofo::{NodeId, Side};
use super::queue::OVERLAPS;
use super::{Segment, TcpSock};
use crate::cx::{Cx, Fate};
use crate::nic::{DENSE_MAX, Dense};

/// Packets that are to be copied together, and where their bytes begin and end.
struct Loose {
    packets: SkbQueue,
    start: SeqNum,
    end: SeqNum,
    holder: Holder,
}

impl TcpSock {
    /// Whether the segment may be charged (`tcp_try_rmem_schedule`): the socket's buffer, then the stack's memory.
    #[inline(always)]
    pub(super) fn try_rmem_schedule(&mut self, cx: &mut Cx, seg: &Segment, truesize: u32) -> bool {
        let ingests = self.can_ingest() && !cx.pool_is_short();
        (ingests && self.rmem_schedule(cx, truesize)) || self.make_room(cx, seg, truesize)
    }

    /// The buffer is not over its limit; the last packet may bring it there (`tcp_can_ingest`).
    #[inline(always)]
    fn can_ingest(&self) -> bool {
        self.rx.rmem_alloc <= self.rx.rcvbuf
    }

    /// Accounts for a charge, if the memory of all sockets has as much (`sk_rmem_schedule`).
    #[inline(always)]
    fn rmem_schedule(&mut self, cx: &Cx, truesize: u32) -> bool {
        let missing = self.rx.missing_for(truesize);
        if missing <= 0 {
            return true;
        }
        let sysctl = &cx.net.sysctl;
        let admitted = {
            let owner = self.rx.owner(self.rx.rmem_alloc, sysctl.tcp_rmem.min);
            cx.tcp_memory.admits(sysctl.tcp_mem, cx.now, missing, owner)
        };
        if admitted {
            self.rx.extend(missing);
        }
        admitted
    }

    #[cold]
    fn make_room(&mut self, cx: &mut Cx, seg: &Segment, truesize: u32) -> bool {
        if !self.prune_queue(cx, seg.seq) {
            return false;
        }
        while !self.rmem_schedule(cx, truesize) {
            if !self.prune_ofo_queue(cx, seg.seq) {
                return false;
            }
        }
        true
    }

    /// Makes room for a segment at `seq`, in the kernel's steps (`tcp_prune_queue`). The page pool, which the kernel has
    /// not, counts as memory: while it is short, a socket that holds little may still receive, so that new connections
    /// stay alive.
    fn prune_queue(&mut self, cx: &mut Cx, seq: SeqNum) -> bool {
        cx.count(Counter::TcpExtPruneCalled);
        let short = cx.pool_is_short();
        if !self.can_ingest() {
            self.clamp_window(cx);
        } else if cx.tcp_memory.is_under_pressure() {
            self.adjust_ssthresh();
        }
        if self.can_ingest() && !short {
            return true;
        }
        // What is short of slots is not helped by what saves charge.
        if !short {
            self.collapse_ofo_queue(cx);
            self.collapse_receive_queue(cx);
            if self.can_ingest() {
                return true;
            }
        }
        self.prune_ofo_queue(cx, seq);
        if short {
            return self.rx.rmem_alloc < cx.net.sysctl.tcp_rmem.min && !cx.pool_is_dry();
        }
        if self.can_ingest() {
            return true;
        }
        cx.count(Counter::TcpExtRcvPruned);
        self.pred_flags = 0;
        false
    }

    /// Raises the buffer to what is in it, within `tcp_rmem`, unless the application or the memory of all is against it;
    /// what is still too much makes the window small (`tcp_clamp_window`).
    fn clamp_window(&mut self, cx: &Cx) {
        self.ack.quick = 0;
        let sysctl = &cx.net.sysctl;
        let memory = &cx.tcp_memory;
        let plenty = !memory.is_under_pressure() && memory.allocated() < i64::from(sysctl.tcp_mem.min);
        if self.rx.rcvbuf < sysctl.tcp_rmem.max && !self.rx.rcvbuf_locked && plenty && !cx.pool_is_short() {
            self.rx.rcvbuf = self.rx.rmem_alloc.min(sysctl.tcp_rmem.max);
        }
        if self.rx.rmem_alloc > self.rx.rcvbuf {
            self.rx.rcv_ssthresh = self.rx.window_clamp.min(2 * u32::from(self.tx.advmss));
        }
    }

    /// Gives up out-of-order data that lies behind `seq`, the farthest first, an eighth of the buffer at a time. False if
    /// there was none.
    fn prune_ofo_queue(&mut self, cx: &mut Cx, seq: SeqNum) -> bool {
        let step = (self.rx.rcvbuf >> 3) as i64;
        let (mut pruned, mut goal) = (false, step);
        while let Some(last) = self.rx.ofo.last() {
            if seq.after(SeqNum(self.rx.ofo[last].seq)) {
                break;
            }
            let Some(skb) = self.rx.ofo.remove(last) else { break };
            pruned = true;
            goal -= i64::from(skb.truesize);
            self.rx.uncharge(skb.truesize);
            cx.release(Holder::OutOfOrder);
            self.end(cx, Fate::Drop(skb, DropReason::TcpOfoQueuePrune));
            if goal <= 0 {
                if self.can_ingest() && !cx.tcp_memory.is_under_pressure() {
                    break;
                }
                goal = step;
            }
        }
        if pruned {
            // What was promised to the peer is not kept.
            self.rx.sack.reset();
            cx.count(Counter::TcpExtOfoPruned);
        }
        pruned
    }

    // ---- collapse ----

    /// Bytes that a packet came with and that another has: the kernel keeps them.
    fn known_of(skb: &Skb) -> u32 {
        if skb.tcp_flags == OVERLAPS { skb.hash } else { 0 }
    }

    /// A packet is charged more than a window of its length stands for: copied together with others it saves memory.
    fn is_wasteful(&self, skb: &Skb) -> bool {
        self.rx.win_from_space(i64::from(skb.truesize)) as usize > skb.len() + Self::known_of(skb) as usize
    }

    /// The in-order data, from the first packet on that is worth it.
    fn collapse_receive_queue(&mut self, cx: &mut Cx) {
        let mut queue = std::mem::take(&mut self.rx.queue);
        let mut start = self.rx.copied_seq;
        // A packet that the next one overlaps is copied, too.
        let overlapped: Vec<u32> = queue.iter().filter(|skb| Self::known_of(skb) > 0).map(|skb| skb.seq).collect();
        let mut kept = queue.split_front_while(|skb| {
            let first = SeqNum(skb.seq) - Self::known_of(skb);
            let keeps = !self.is_wasteful(skb) && !first.before(start) && !overlapped.contains(&skb.end_seq);
            if keeps {
                start = SeqNum(skb.end_seq);
            }
            keeps
        });
        if let Some(end) = queue.back().map(|skb| SeqNum(skb.end_seq)) {
            let loose = Loose { packets: queue, start, end, holder: Holder::ReceiveQueue };
            let (mut dense, mut rest) = self.collapse_packets(cx, loose);
            kept.append(&mut dense);
            kept.append(&mut rest);
        }
        self.rx.queue = kept;
    }

    /// The out-of-order data, range by range. Single small packets are left alone, and once they are an eighth of the
    /// buffer, all the rest (`tcp_collapse_ofo_queue`).
    fn collapse_ofo_queue(&mut self, cx: &mut Cx) {
        let mut tiny = 0;
        let mut next = self.rx.ofo.first();
        while let Some(head) = next {
            let first = &self.rx.ofo[head];
            let (mut start, mut end) = (SeqNum(first.seq), SeqNum(first.end_seq));
            let (alone, mut charge) = (first.truesize, first.truesize);
            next = self.rx.ofo.next(head);
            while let Some(at) = next {
                let skb = &self.rx.ofo[at];
                if SeqNum(skb.seq).after(end) || SeqNum(skb.end_seq).before(start) {
                    break;
                }
                charge += skb.truesize;
                start = if SeqNum(skb.seq).before(start) { SeqNum(skb.seq) } else { start };
                end = if SeqNum(skb.end_seq).after(end) { SeqNum(skb.end_seq) } else { end };
                next = self.rx.ofo.next(at);
            }
            if charge != alone || (end - start) as usize >= DENSE_MAX {
                self.collapse_range(cx, head, next, start, end);
            } else {
                tiny += charge;
                if tiny > self.rx.rcvbuf >> 3 {
                    return;
                }
            }
        }
    }

    /// One range of the out-of-order queue, which ends before `tail`.
    fn collapse_range(&mut self, cx: &mut Cx, head: NodeId, tail: Option<NodeId>, start: SeqNum, end: SeqNum) {
        let (mut at, mut start) = (Some(head), start);
        while let Some(node) = at.filter(|node| Some(*node) != tail) {
            let skb = &self.rx.ofo[node];
            let next = self.rx.ofo.next(node).filter(|next| Some(*next) != tail);
            let overlaps = next.is_some_and(|next| self.rx.ofo[next].seq != skb.end_seq);
            if self.is_wasteful(skb) || SeqNum(skb.seq).before(start) || overlaps {
                break;
            }
            start = SeqNum(skb.end_seq);
            at = next;
        }
        let mut packets = SkbQueue::new();
        while let Some(node) = at.filter(|node| Some(*node) != tail) {
            // A FIN keeps its packet.
            if TcpFlags(self.rx.ofo[node].tcp_flags).fin() {
                break;
            }
            at = self.rx.ofo.next(node);
            if let Some(skb) = self.rx.ofo.remove(node) {
                packets.push_back(skb);
            }
        }
        // The copy has room for the whole range, and is charged for it, where a FIN ended what is copied, too.
        let (dense, rest) = self.collapse_packets(cx, Loose { packets, start, end, holder: Holder::OutOfOrder });
        for mut queue in [dense, rest] {
            while let Some(skb) = queue.pop_front() {
                self.insert_ofo(skb);
            }
        }
    }

    /// Puts a packet into the out-of-order queue at its place, whatever it overlaps (`tcp_rbtree_insert`).
    fn insert_ofo(&mut self, skb: Skb) {
        let (mut parent, mut side, mut at) = (None, Side::Left, self.rx.ofo.root());
        while let Some(node) = at {
            side = if SeqNum(skb.seq).before(SeqNum(self.rx.ofo[node].seq)) { Side::Left } else { Side::Right };
            parent = Some(node);
            at = self.rx.ofo.child(node, side);
        }
        self.rx.ofo.insert(parent, side, skb);
    }

    /// Copies packets into dense ones (`tcp_collapse`); gives those, and what was left as it was because the pool is dry.
    fn collapse_packets(&mut self, cx: &mut Cx, loose: Loose) -> (SkbQueue, SkbQueue) {
        let Loose { mut packets, mut start, end, holder } = loose;
        let mut dense = SkbQueue::new();
        let traced = packets.iter().any(Skb::traced);
        while start.before(end) && !packets.is_empty() {
            let wanted = ((end - start) as usize).min(DENSE_MAX);
            let slots = wanted.div_ceil(SlotClass::Frame.capacity()) + 1;
            let alloc = if cx.pool.free_of(SlotClass::Frame) > slots { cx.alloc_part(wanted) } else { None };
            let Some(mut into) = alloc else { break };
            let form = Dense::of(wanted);
            into.set_traced(traced);
            into.truesize = form.charge();
            into.scratch = form.joins().0;
            (into.seq, into.end_seq) = (start.0, start.0);
            cx.hold(holder);
            self.rx.charge(into.truesize);
            cx.event(&into, EventKind::Made, MadeHow::Collapsed as u32, wanted as u32);
            self.fill_dense(cx, &mut into, wanted, &mut packets, holder);
            if into.is_empty() {
                self.rx.uncharge(into.truesize);
                cx.release(holder);
                cx.drop_skb(into, DropReason::Nomem);
                break;
            }
            start = SeqNum(into.end_seq);
            dense.push_back(into);
        }
        if let Some(mut first) = packets.pop_front() {
            // What was copied of it already goes.
            let copied = (start - SeqNum(first.seq)).max(0) as usize;
            if copied > 0 && !dense.is_empty() {
                first.consume_front(copied);
                first.seq = start.0;
            }
            packets.push_front(first);
        }
        (dense, packets)
    }

    /// Copies `wanted` bytes from the front of `packets` behind the end of `into`; packets that are used up end.
    fn fill_dense(&mut self, cx: &mut Cx, into: &mut Skb, wanted: usize, packets: &mut SkbQueue, holder: Holder) {
        let mut left = wanted;
        while left > 0 {
            let Some(skb) = packets.pop_front() else { return };
            let skip = (SeqNum(into.end_seq) - SeqNum(skb.seq)).max(0) as usize;
            let take = skb.len().saturating_sub(skip).min(left);
            let (mut skipped, mut taken) = (skip, 0);
            for piece in skb.fragments() {
                if skipped >= piece.len() {
                    skipped -= piece.len();
                    continue;
                }
                let part = &piece[std::mem::take(&mut skipped)..];
                let part = &part[..part.len().min(take - taken)];
                if !cx.append(into, part) {
                    break;
                }
                taken += part.len();
            }
            cx.count_n(Counter::CopiedDense, taken as u64);
            left -= take;
            into.end_seq = into.end_seq.wrapping_add(taken as u32);
            if SeqNum(into.end_seq).before(SeqNum(skb.end_seq)) {
                packets.push_front(skb);
                return;
            }
            self.end_collapsed(cx, skb, into.id, holder);
        }
    }

    /// A packet whose bytes another one has (`tcp_collapse_one`).
    fn end_collapsed(&mut self, cx: &mut Cx, skb: Skb, into: PacketId, holder: Holder) {
        self.rx.uncharge(skb.truesize);
        cx.release(holder);
        cx.count(Counter::TcpExtTCPRcvCollapsed);
        if skb.traced() {
            cx.record(skb.id, EventKind::Consumed, Consumed::Collapsed as u32, 0, into);
        }
        cx.ledger.consumed(Consumed::Collapsed, 1);
        cx.pool.free(skb);
    }
}
