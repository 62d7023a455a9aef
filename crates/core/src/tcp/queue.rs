//! Payload into the receive queue: in order, coalesced where the kernel coalesces; out of order, kept by sequence
//! number; charged by truesize either way.

use rxpath_mem::Skb;
use rxpath_trace::{Consumed, Counter, DropReason, EventKind, Holder, PacketId};
use rxpath_wire::{SeqNum, TcpFlags};

use super::ofo::{NodeId, Side};
use super::{QUICKACKS_MAX, Segment, TcpSock};
use crate::cx::{Cx, End, Fate};
use crate::nic::Joins;

/// Where a packet belongs among those that wait out of order.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// It continues this packet: the charge that is left, and what may join after it.
    Behind(NodeId, u32, Joins),
    /// Another packet has all of it.
    Covered,
    /// It has all of this packet, and begins with it.
    InsteadOf(NodeId),
    /// A place of its own.
    Below(Option<NodeId>, Side),
}

/// If `skb` continues `tail` and the charge model lets it join: the charge that is left and what may join after it.
#[inline(always)]
pub(super) fn joined(tail: &Skb, skb: &Skb) -> Option<(u32, Joins)> {
    if tail.end_seq != skb.seq || !tail.same_pool(skb) {
        return None;
    }
    let joins = Joins(tail.scratch);
    if joins.is_dense() {
        return joins.join_dense(tail.len() as u32, skb.len() as u32, skb.truesize, Joins(skb.scratch));
    }
    joins.join(skb.len() as u32, skb.truesize, Joins(skb.scratch))
}

/// Marks a packet of the receive queue, in the place of its control bits, that came with bytes that were known before: its
/// hash is their number.
pub(super) const OVERLAPS: u8 = 0xff;

/// Payload up to this size is copied when the pool runs low, so that its slot is free again.
const DENSE_MAX: usize = 192;

impl TcpSock {
    /// `tcp_data_queue`: a segment whose sequence numbers and ACK were accepted; `skb` holds the payload.
    pub fn data_queue(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment) -> End {
        if seg.seq == seg.end_seq {
            return Fate::Consumed(skb, Consumed::AckOnly);
        }
        // What came twice before this is old news, told or not.
        self.rx.sack.forget_dsack();
        let nxt = self.rx.rcv_nxt;
        if seg.seq == nxt {
            if self.rx.offered() == 0 && !(seg.len == 0 && seg.has(TcpFlags::FIN)) {
                cx.count(Counter::TcpExtTCPZeroWindowDrop);
                return self.out_of_window(skb, DropReason::TcpZerowindow);
            }
            return self.queue_in_order(cx, skb, seg);
        }
        if seg.end_seq.at_or_before(nxt) {
            cx.count(Counter::TcpExtDelayedACKLost);
            self.dsack_set(cx, seg.seq, seg.end_seq);
            return self.out_of_window(skb, DropReason::TcpOldData);
        }
        if seg.seq.at_or_after(self.rx.right_edge()) {
            return self.out_of_window(skb, DropReason::TcpOverwindow);
        }
        if seg.seq.before(nxt) {
            self.dsack_set(cx, seg.seq, nxt);
            if self.rx.offered() == 0 {
                cx.count(Counter::TcpExtTCPZeroWindowDrop);
                return self.out_of_window(skb, DropReason::TcpZerowindow);
            }
            return self.queue_in_order(cx, skb, seg);
        }
        self.data_queue_ofo(cx, skb, seg)
    }

    /// Not to be queued: the peer is told at once where we are.
    fn out_of_window(&mut self, skb: Skb, reason: DropReason) -> End {
        self.enter_quickack_mode(QUICKACKS_MAX);
        self.ack.scheduled = true;
        Fate::Drop(skb, reason)
    }

    /// The next bytes: queue, wake, and see what of the out-of-order queue follows.
    fn queue_in_order(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment) -> End {
        if !self.try_rmem_schedule(cx, seg, skb.truesize) {
            self.rx.nomem = true;
            self.ack.now = true;
            self.ack.scheduled = true;
            self.data_ready(cx, true);
            if !self.rx.queue.is_empty() && seg.len > 0 {
                cx.count(Counter::TcpExtTCPRcvQDrop);
                return Fate::Drop(skb, DropReason::ProtoMem);
            }
            self.rx.schedule(skb.truesize);
        }
        let (len, header_len, flags, truesize) = (seg.len, seg.header_len, seg.flags, skb.truesize);
        let mss_len = if skb.gso_size > 0 { u32::from(skb.gso_size) } else { len };
        let mark = self.ecn_mark(&skb);
        let end = if seg.seq == self.rx.rcv_nxt { self.queue_rcv(cx, skb, seg) } else { self.queue_rest(cx, skb, seg) };
        if len > 0 {
            self.event_data_recv(cx, len, mss_len, header_len, flags, truesize);
            self.ecn_check(mark);
            self.grow_window_for(cx, len, truesize);
        }
        if seg.has(TcpFlags::FIN) {
            self.fin_received(cx);
        }
        if !self.rx.ofo.is_empty() {
            self.ofo_queue(cx);
            if self.rx.ofo.is_empty() {
                self.ack.now = true;
            }
        }
        self.sack_advance();
        self.fast_path_check();
        self.data_ready(cx, false);
        end
    }

    /// Appends to the receive queue, or joins its tail (`tcp_queue_rcv`, `tcp_try_coalesce`).
    #[inline(always)]
    pub fn queue_rcv(&mut self, cx: &mut Cx, mut skb: Skb, seg: &Segment) -> End {
        self.rx.rcv_nxt = seg.end_seq;
        if seg.len == 0 {
            // A FIN by itself joins the tail, too, if there is one.
            if self.rx.queue.back().is_some_and(|tail| tail.end_seq == seg.seq.0) {
                cx.count(Counter::TcpExtTCPRcvCoalesce);
            } else {
                self.rx.charge(skb.truesize);
                self.rx.fin_charge = skb.truesize;
            }
            return Fate::Consumed(skb, Consumed::Fin);
        }
        skb.seq = seg.seq.0;
        skb.end_seq = (seg.seq + seg.len).0;
        match self.rx.queue.back().and_then(|tail| joined(tail, &skb)) {
            Some((charge, joins)) => self.coalesce(cx, skb, charge, joins),
            None => self.append(cx, skb),
        }
    }

    /// Queues what is new of a segment whose head was received before. It joins nothing, and is charged whole: the
    /// kernel keeps the head, too, and its reader skips it.
    #[cold]
    fn queue_rest(&mut self, cx: &mut Cx, mut skb: Skb, seg: &Segment) -> End {
        let known = (self.rx.rcv_nxt - seg.seq).max(0) as u32;
        self.rx.rcv_nxt = seg.end_seq;
        skb.consume_front(known as usize);
        if skb.is_empty() {
            return Fate::Consumed(skb, Consumed::Fin);
        }
        (skb.tcp_flags, skb.hash) = (OVERLAPS, known);
        skb.seq = (seg.seq + known).0;
        skb.end_seq = (seg.seq + seg.len).0;
        self.append(cx, skb)
    }

    /// A packet of its own at the end of the receive queue.
    #[inline(always)]
    fn append(&mut self, cx: &mut Cx, skb: Skb) -> End {
        self.rx.charge(skb.truesize);
        self.rx.pressure = cx.pool_is_tight() || cx.tcp_memory.is_under_pressure();
        cx.event(&skb, EventKind::Queued, skb.len() as u32, self.rx.rmem_alloc);
        let skb = cx.compact(skb, DENSE_MAX);
        cx.hold(Holder::ReceiveQueue);
        self.rx.queue.push_back(skb);
        Fate::Held
    }

    /// Joins the segment to the tail of the receive queue: its slot is chained behind the tail, or, when the pool runs
    /// low, its bytes are copied and the slot is free.
    #[inline(always)]
    fn coalesce(&mut self, cx: &mut Cx, mut skb: Skb, charge: u32, joins: Joins) -> End {
        let (traced, id, len, end_seq, truesize) = (skb.traced(), skb.id, skb.len(), skb.end_seq, skb.truesize);
        // What the packet adds to its own charge by being chained is what is charged here.
        skb.truesize = charge;
        let chained = if len <= DENSE_MAX && cx.pool_is_low() {
            self.rx.queue.append_back(skb, &mut cx.pool).map(|(tail, copied)| {
                cx.count_n(Counter::CopiedDense, copied as u64);
                tail
            })
        } else {
            self.rx.queue.chain_back(skb)
        };
        let into = match chained {
            Ok(tail) => {
                tail.end_seq = end_seq;
                tail.scratch = joins.0;
                tail.id
            }
            Err(mut skb) => {
                skb.truesize = truesize;
                return self.append(cx, skb);
            }
        };
        self.rx.charge(charge);
        cx.ledger.consumed(Consumed::Coalesced, 1);
        cx.count(Counter::TcpExtTCPRcvCoalesce);
        if traced {
            cx.record(id, EventKind::Coalesced, len as u32, self.rx.rmem_alloc, into);
        }
        Fate::Held
    }

    /// A segment beyond the next byte (`tcp_data_queue_ofo`). Packets here may overlap: only what is covered whole goes,
    /// and a packet joins another only where that one ends. The window grows only with selective acknowledgements:
    /// without, the peer must see duplicates, which repeat the window.
    fn data_queue_ofo(&mut self, cx: &mut Cx, mut skb: Skb, seg: &Segment) -> End {
        self.ecn_check(self.ecn_mark(&skb));
        if !self.try_rmem_schedule(cx, seg, skb.truesize) {
            // Without an answer: nothing is acknowledged, and the peer shall not send the same again at once.
            cx.count(Counter::TcpExtTCPOFODrop);
            self.data_ready(cx, true);
            return Fate::Drop(skb, DropReason::ProtoMem);
        }
        let mss_len = if skb.gso_size > 0 { u32::from(skb.gso_size) } else { seg.len };
        self.measure_rcv_mss(mss_len, seg.len, seg.header_len, seg.flags, skb.truesize);
        self.pred_flags = 0;
        self.ack.scheduled = true;
        cx.count(Counter::TcpExtTCPOFOQueue);
        self.rx.ooopack += u32::from(skb.gso_segs.max(1));
        skb.seq = seg.seq.0;
        skb.end_seq = seg.end_seq.0;
        skb.tcp_flags = seg.flags.0;
        let (truesize, first) = (skb.truesize, self.rx.ofo.is_empty());
        let place = self.ofo_place(cx, &skb);
        // A FIN by itself that joins another packet costs nothing, and is worth a larger window.
        let cost = if seg.len == 0 && matches!(place, Place::Behind(..)) { 0 } else { truesize };
        let mut uncharged = 0;
        let covered = matches!(place, Place::Covered);
        let end = match place {
            Place::Covered => {
                cx.count(Counter::TcpExtTCPOFOMerge);
                self.dsack_set(cx, seg.seq, seg.end_seq);
                Fate::Drop(skb, DropReason::TcpOfomerge)
            }
            Place::Behind(before, charge, joins) => self.coalesce_ofo(cx, before, skb, charge, joins),
            Place::InsteadOf(other) => {
                let skb = self.compact_ofo(cx, skb);
                uncharged = skb.truesize;
                let replaced = self.rx.ofo.replace(other, skb);
                self.dsack_extend(cx, SeqNum(replaced.seq), SeqNum(replaced.end_seq));
                self.end_covered(cx, replaced);
                self.drop_covered(cx, other, seg.end_seq);
                Fate::Held
            }
            Place::Below(parent, side) => {
                let skb = self.compact_ofo(cx, skb);
                uncharged = skb.truesize;
                let inserted = self.rx.ofo.insert(parent, side, skb);
                self.drop_covered(cx, inserted, seg.end_seq);
                Fate::Held
            }
        };
        if self.opts.sack {
            if first {
                self.rx.sack.begin((seg.seq, seg.end_seq));
            } else {
                self.sack_new_ofo(cx, seg.seq, seg.end_seq);
            }
            if !covered {
                self.grow_window(cx, seg.len, cost);
            }
        }
        // The window grows by the room that there was before the packet.
        self.rx.charge(uncharged);
        self.make_room_for_ofo(cx);
        end
    }

    /// Finds the place of a packet: the last one is tried first, then those on the way down the tree, and no others. What
    /// it has in common with one on that way that it only overlaps came twice: each counts, the last is told.
    fn ofo_place(&mut self, cx: &Cx, skb: &Skb) -> Place {
        let ofo = &self.rx.ofo;
        let (seq, end_seq) = (SeqNum(skb.seq), SeqNum(skb.end_seq));
        let Some(last) = ofo.last() else { return Place::Below(None, Side::Left) };
        if let Some((charge, joins)) = joined(&ofo[last], skb) {
            return Place::Behind(last, charge, joins);
        }
        if seq.at_or_after(SeqNum(ofo[last].end_seq)) {
            return Place::Below(Some(last), Side::Right);
        }
        let (mut place, mut at) = (Place::Below(None, Side::Left), ofo.root());
        while let Some(id) = at {
            let here = &self.rx.ofo[id];
            let mut side = Side::Right;
            if seq.before(SeqNum(here.seq)) {
                side = Side::Left;
            } else if seq.before(SeqNum(here.end_seq)) {
                let known = SeqNum(here.end_seq);
                if end_seq.at_or_before(known) {
                    return Place::Covered;
                }
                if skb.seq == here.seq {
                    return Place::InsteadOf(id);
                }
                self.dsack_set(cx, seq, known);
            } else if let Some((charge, joins)) = joined(here, skb) {
                return Place::Behind(id, charge, joins);
            }
            place = Place::Below(Some(id), side);
            at = self.rx.ofo.child(id, side);
        }
        place
    }

    fn compact_ofo(&mut self, cx: &mut Cx, skb: Skb) -> Skb {
        cx.event(&skb, EventKind::OutOfOrder, skb.seq, skb.len() as u32);
        let skb = cx.compact(skb, DENSE_MAX);
        cx.hold(Holder::OutOfOrder);
        skb
    }

    /// Joins a segment to the out-of-order packet that it continues (`tcp_ooo_try_coalesce`).
    fn coalesce_ofo(&mut self, cx: &mut Cx, before: NodeId, skb: Skb, charge: u32, joins: Joins) -> End {
        let (end_seq, flags) = (skb.end_seq, skb.tcp_flags);
        let before = &mut self.rx.ofo[before];
        let (traced, id, into, truesize) = (skb.traced(), skb.id, before.id, before.truesize + charge);
        let fin_alone = if skb.is_empty() { Some(skb) } else { before.add_frag(skb).err() };
        before.truesize = truesize;
        before.end_seq = end_seq;
        before.tcp_flags |= flags;
        before.scratch = joins.0;
        self.rx.charge(charge);
        cx.count(Counter::TcpExtTCPRcvCoalesce);
        match fin_alone {
            Some(skb) => Fate::Consumed(skb, Consumed::OfoCoalesced),
            None => {
                cx.ledger.consumed(Consumed::OfoCoalesced, 1);
                if traced {
                    cx.record(id, EventKind::Consumed, Consumed::OfoCoalesced as u32, 0, into);
                }
                Fate::Held
            }
        }
    }

    /// Removes the packets behind `id`, which ends at `end_seq`, that it covers whole.
    fn drop_covered(&mut self, cx: &mut Cx, id: NodeId, end_seq: SeqNum) {
        while let Some(next) = self.rx.ofo.next(id) {
            let covered = &self.rx.ofo[next];
            let (seq, covered_end) = (SeqNum(covered.seq), SeqNum(covered.end_seq));
            if seq.at_or_after(end_seq) {
                break;
            }
            if end_seq.before(covered_end) {
                self.dsack_extend(cx, seq, end_seq);
                break;
            }
            self.dsack_extend(cx, seq, covered_end);
            let Some(covered) = self.rx.ofo.remove(next) else { break };
            self.end_covered(cx, covered);
        }
    }

    fn end_covered(&mut self, cx: &mut Cx, skb: Skb) {
        self.rx.uncharge(skb.truesize);
        cx.count(Counter::TcpExtTCPOFOMerge);
        cx.release(Holder::OutOfOrder);
        self.end(cx, Fate::Drop(skb, DropReason::TcpOfomerge));
    }

    /// Moves what has become in order to the receive queue (`tcp_ofo_queue`).
    fn ofo_queue(&mut self, cx: &mut Cx) {
        let dsack_high = self.rx.rcv_nxt;
        while let Some(first) = self.rx.ofo.first() {
            let (seq, end_seq) = (SeqNum(self.rx.ofo[first].seq), SeqNum(self.rx.ofo[first].end_seq));
            if seq.after(self.rx.rcv_nxt) {
                break;
            }
            if seq.before(dsack_high) {
                // What came in order had this, too.
                self.dsack_extend(cx, seq, if end_seq.before(dsack_high) { end_seq } else { dsack_high });
            }
            let Some(skb) = self.rx.ofo.remove(first) else { break };
            cx.release(Holder::OutOfOrder);
            if end_seq.at_or_before(self.rx.rcv_nxt) {
                self.rx.uncharge(skb.truesize);
                self.end(cx, Fate::Drop(skb, DropReason::TcpOfoDrop));
                continue;
            }
            let flags = TcpFlags(skb.tcp_flags);
            cx.event(&skb, EventKind::OfoDrained, seq.0, skb.len() as u32);
            let seg = Segment {
                seq,
                end_seq,
                ack: SeqNum(0),
                window: 0,
                flags,
                header_len: 20,
                len: skb.len() as u32,
                word: 0,
            };
            // Its charge goes with it; only what joining saves goes back.
            let charged = self.rx.rmem_alloc;
            self.rx.rmem_alloc -= skb.truesize;
            self.rx.forward_alloc += skb.truesize as i32;
            let end =
                if seq == self.rx.rcv_nxt { self.queue_rcv(cx, skb, &seg) } else { self.queue_rest(cx, skb, &seg) };
            if self.rx.rmem_alloc != charged {
                self.rx.reclaim();
            }
            cx.end(end);
            if flags.contains(TcpFlags::FIN) {
                self.fin_received(cx);
                self.purge_ofo(cx);
                break;
            }
        }
    }

    /// Ends everything that waits out of order: nothing of it can follow a FIN.
    pub fn purge_ofo(&mut self, cx: &mut Cx) {
        while let Some(first) = self.rx.ofo.first() {
            let Some(skb) = self.rx.ofo.remove(first) else { break };
            self.rx.uncharge(skb.truesize);
            cx.release(Holder::OutOfOrder);
            cx.drop_skb(skb, DropReason::QueuePurge);
        }
    }

    /// Ends everything that the application did not read.
    pub fn purge_receive_queue(&mut self, cx: &mut Cx) {
        while let Some(skb) = self.rx.queue.pop_front() {
            self.rx.uncharge(skb.truesize);
            cx.release(Holder::ReceiveQueue);
            cx.drop_skb(skb, DropReason::QueuePurge);
        }
        let fin = std::mem::take(&mut self.rx.fin_charge);
        self.rx.uncharge(fin);
    }

    /// `sk_data_ready`: wakes the reader once enough is readable, or when waiting longer would stall the peer.
    #[inline(always)]
    pub fn data_ready(&mut self, cx: &mut Cx, force: bool) {
        if !self.user.wait_recv {
            cx.effect(EventKind::Woken, self.readable(), 0, PacketId::NONE);
        } else if force || self.worth_waking() {
            self.wake_reader(cx);
        }
    }

    /// Wakes whoever waits to read, once the lock is released.
    #[inline]
    pub(super) fn wake_reader(&mut self, cx: &mut Cx) {
        if !self.effects.wake_recv {
            cx.effect(EventKind::Woken, self.readable(), 1, PacketId::NONE);
        }
        self.effects.wake_recv = true;
    }

    fn worth_waking(&self) -> bool {
        self.has_readable(0) || self.rx.fin
    }

    /// True if what can be read is worth a read: `SO_RCVLOWAT` and `skipped` bytes more, or less where the peer would
    /// have to wait for the reader (`tcp_epollin_ready`).
    pub(crate) fn has_readable(&self, skipped: u32) -> bool {
        let (rx, readable) = (&self.rx, self.readable());
        if readable >= rx.lowat.saturating_add(skipped) {
            return true;
        }
        readable > 0 && (rx.rmem_alloc > rx.rcvbuf - rx.rcvbuf / 8 || rx.offered() <= u32::from(self.ack.rcv_mss))
    }
}

impl super::Receiver {
    /// The reader has come to the end of what is queued: if that is the peer's FIN, it is read, too.
    pub fn eat_fin(&mut self) {
        if self.fin {
            self.copied_seq += 1;
            self.forget_fin();
        }
    }

    /// The end of the stream lies behind the reader.
    pub(super) fn forget_fin(&mut self) {
        self.fin = false;
        let charge = std::mem::take(&mut self.fin_charge);
        self.uncharge(charge);
    }
}
