//! Sending again (`tcp_retransmit_skb`, `tcp_xmit_retransmit_queue`).

use rxpath_trace::{Counter, Time};

use super::super::isn::tsval;
use super::super::write_queue::PACKET_CHARGE;
use super::super::{CaState, SentSegment, State, TcpSock, XmitTimer, expiry};
use crate::cx::Cx;

impl TcpSock {
    /// Sends lost segments again as far as the window allows.
    pub(in super::super) fn xmit_retransmit_queue(&mut self, cx: &mut Cx) {
        let after_timeout = self.cong.state == CaState::Loss;
        let counter = if after_timeout { Counter::TcpExtTCPSlowStartRetrans } else { Counter::TcpExtTCPFastRetrans };
        let (mut at, mut head) = (0, false);
        let most = self.tso_segs(&cx.net.sysctl, u32::from(self.current_mss()));
        while self.cong.quota() > 0 && self.cong.retrans_out < self.cong.lost_out {
            let Some(record) = self.tx.segments.get(at) else { break };
            if record.lost && !record.sacked && !record.retrans {
                if self.pacing_holds(cx.now) || !self.retransmit(cx, at, self.cong.quota().min(most)) {
                    break;
                }
                let segments = self.tx.segments.get(at).map_or(0, |record| record.pcount);
                cx.count_n(counter, u64::from(segments));
                self.cong.reduction_sent(segments);
                head |= at == 0;
                cx.now += cx.takes;
            }
            at += 1;
        }
        if head && self.timers.pending != XmitTimer::Reorder {
            self.timers.retransmit = Time::MAX;
            self.rearm_rto(cx);
        }
    }

    /// What is longer than the way allows now was lost for that reason alone: it is sent again, and the window stays as it
    /// is (`tcp_simple_retransmit`).
    pub(in super::super) fn simple_retransmit(&mut self, cx: &mut Cx) {
        let mss = u32::from(self.tx.mss);
        for at in 0..self.tx.segments.len() {
            if self.tx.segments[at].len() > mss {
                self.mark_lost(cx, at);
            }
        }
        if self.cong.lost_out == 0 {
            return;
        }
        self.begin_simple_loss();
        self.xmit_retransmit_queue(cx);
    }

    /// Nothing that was sent has arrived, and not for want of room: all of it goes again, and the window stays as it is
    /// (`tcp_simple_retransmit`, after a Fast Open whose data was not taken).
    pub(in super::super) fn resend_all(&mut self, cx: &mut Cx) {
        let mss = u32::from(self.current_mss());
        let una = self.tx.snd_una;
        if let Some(head) = self.tx.segments.front_mut() {
            self.rx.uncharge_output(head.trim(una));
        }
        let mut at = 0;
        while at < self.tx.segments.len() {
            self.split_record(at, mss, mss);
            self.mark_lost(cx, at);
            at += 1;
        }
        self.begin_simple_loss();
        self.xmit_retransmit_queue(cx);
    }

    /// Loss that does not cut the window.
    fn begin_simple_loss(&mut self) {
        if self.cong.state != CaState::Loss {
            self.loss.high_seq = self.tx.snd_nxt;
            self.loss.undo_marker = None;
            self.cong.state = CaState::Loss;
        }
    }

    /// Sends the oldest segment again; false if there is none or no slot.
    pub(in super::super) fn retransmit_head(&mut self, cx: &mut Cx) -> bool {
        !self.tx.segments.is_empty() && self.retransmit(cx, 0, 1)
    }

    /// Sends up to `segs` segments of a record again, and counts them as under way (`tcp_retransmit_skb`).
    pub(super) fn retransmit(&mut self, cx: &mut Cx, index: usize, segs: u32) -> bool {
        if !self.retransmit_once(cx, index, segs) {
            return false;
        }
        let Some(record) = self.tx.segments.get_mut(index) else { return true };
        let pcount = record.pcount;
        // The copy before it counts on, where it was not found lost, until nothing is in flight.
        record.retrans = true;
        self.cong.retrans_out += pcount;
        let loss = &mut self.loss;
        loss.undo_retrans = Some(loss.undo_retrans.unwrap_or(0).saturating_add(pcount));
        loss.retransmits(tsval(cx.now, self.tx.ts_offset), cx.now);
        true
    }

    /// Sends up to `segs` segments of a record again, as one super-frame where the device takes it, and cuts the record where
    /// it is longer (`__tcp_retransmit_skb`).
    pub(super) fn retransmit_once(&mut self, cx: &mut Cx, index: usize, segs: u32) -> bool {
        let una = self.tx.snd_una;
        if let Some(segment) = self.tx.segments.get_mut(index) {
            self.rx.uncharge_output(segment.trim(una));
        }
        if self.tx.pmtu != self.route.mtu && !matches!(self.state, State::SynSent | State::SynRecv) {
            self.sync_route(cx);
        }
        let mss = u32::from(self.current_mss());
        let Some(most) = self.retransmit_window(index, segs.max(1).saturating_mul(mss), mss) else { return false };
        self.split_record(index, most, mss);
        self.recount(index, mss);
        if cx.net.sysctl.tcp_retrans_collapse != 0 {
            self.collapse(index, mss);
        }
        let Some(segment) = self.tx.segments.get_mut(index) else { return false };
        let segment = *segment;
        // The end of a super-frame is pushed (`__tcp_transmit_skb`).
        let psh = segment.psh || segment.pcount > 1;
        let len = segment.len();
        if segment.syn {
            // Something on the way may not bear the bits.
            self.ecn.asks &= !cx.net.sysctl.tcp_ecn_fallback;
            self.send_syn(cx);
            cx.count(Counter::TcpExtTCPSynRetrans);
        } else if !self.send_pieces(cx, segment.seq, len, segment.fin, psh) {
            cx.count(Counter::TcpExtTCPRetransFail);
            return false;
        }
        cx.count_n(Counter::TcpRetransSegs, u64::from(segment.pcount));
        self.tx.bytes_retrans += u64::from(len);
        self.note_retransmitted(cx.now, index);
        true
    }

    /// How many bytes of a record may go again, of `most` at a time: whole segments as far as the peer's window reaches, part of
    /// one where it has room for no more. Beyond the window only the oldest segment goes, as a probe.
    fn retransmit_window(&self, index: usize, most: u32, mss: u32) -> Option<u32> {
        let seq = self.tx.segments.get(index)?.seq;
        let room = self.tx.snd_una + self.tx.snd_wnd - seq;
        match u32::try_from(room) {
            Ok(room @ 1..) if room < mss => Some(room),
            Ok(room @ 1..) => Some(most.min(room / mss * mss)),
            _ => (seq == self.tx.snd_una).then_some(mss),
        }
    }

    /// Joins to a short segment those behind it, as far as one MSS and the peer's window reach: so much less is to be
    /// lost again (RFC 1122 section 4.2.2.15, `tcp_retrans_try_collapse`). A FIN has room in any that was short.
    fn collapse(&mut self, index: usize, mss: u32) {
        let edge = self.tx.snd_una + self.tx.snd_wnd;
        if self.tx.segments.get(index).is_none_or(|segment| segment.len() >= mss) {
            return;
        }
        while let Some(next) = self.tx.segments.get(index + 1).copied() {
            let Some(segment) = self.tx.segments.get_mut(index) else { return };
            let single = segment.pcount == 1 && next.pcount == 1 && !segment.syn && !next.syn;
            let fits = segment.len() + next.len() <= mss;
            if !single || !fits || segment.eor || segment.sacked || next.sacked || next.end_seq.after(edge) {
                return;
            }
            let freed = next.charge.min(PACKET_CHARGE);
            segment.end_seq = next.end_seq;
            segment.fin |= next.fin;
            segment.psh |= next.psh;
            segment.eor = next.eor;
            segment.retransmitted |= next.retransmitted;
            segment.charge += next.charge - freed;
            self.tx.segments.remove(index + 1);
            let cong = &mut self.cong;
            cong.packets_out = cong.packets_out.saturating_sub(1);
            cong.lost_out = cong.lost_out.saturating_sub(u32::from(next.lost));
            cong.retrans_out = cong.retrans_out.saturating_sub(u32::from(next.retrans));
            if !self.opts.sack {
                cong.sacked_out = cong.sacked_out.saturating_sub(1);
            }
            self.rx.uncharge_output(freed);
        }
    }

    fn note_retransmitted(&mut self, now: Time, index: usize) {
        let stamp = self.cong.rate.sent(now, self.cong.packets_out, self.cong.delivered);
        let Some(record) = self.tx.segments.get_mut(index) else { return };
        record.sent_at = now;
        record.stamp = stamp;
        record.retransmitted = true;
        record.overdue = false;
        self.loss.total_retrans = self.loss.total_retrans.saturating_add(record.pcount);
    }

    /// Cuts a record longer than `first` bytes in two there, each with segments of `mss` (`tcp_fragment`).
    pub(in super::super) fn split_record(&mut self, index: usize, first: u32, mss: u32) {
        if self.cut_record(index, first, mss) {
            self.rx.charge_output(PACKET_CHARGE);
        }
    }

    /// The same, without charging for the record that there is more; false if there is not.
    pub(super) fn cut_record(&mut self, index: usize, first: u32, mss: u32) -> bool {
        let Some(segment) = self.tx.segments.get_mut(index) else { return false };
        let len = segment.len();
        if len <= first || first == 0 {
            return false;
        }
        let before = segment.pcount;
        let mut rest = *segment;
        segment.end_seq = segment.seq + first;
        segment.fin = false;
        segment.psh = false;
        segment.eor = false;
        segment.charge = PACKET_CHARGE + first;
        segment.pcount = first.div_ceil(mss);
        segment.mss = mss as u16;
        rest.mss = mss as u16;
        rest.seq = segment.end_seq;
        rest.charge = rest.charge.saturating_sub(first);
        rest.pcount = (len - first).div_ceil(mss).max(1);
        let after = segment.pcount + rest.pcount;
        self.correct_sums(&rest, before, after);
        self.tx.segments.insert(index + 1, rest);
        true
    }

    /// A record goes again in segments of `mss`, which may be shorter or longer than those before (`tcp_adjust_pcount`).
    fn recount(&mut self, index: usize, mss: u32) {
        let Some(segment) = self.tx.segments.get_mut(index).filter(|segment| !segment.syn) else { return };
        segment.mss = mss as u16;
        let pcount = segment.len().div_ceil(mss).max(1);
        let before = std::mem::replace(&mut segment.pcount, pcount);
        let segment = *segment;
        self.correct_sums(&segment, before, pcount);
    }

    /// The MSS has changed since: a record takes `after` packets instead of `before`, in all sums that it has a share in.
    fn correct_sums(&mut self, record: &SentSegment, before: u32, after: u32) {
        let correct = |sum: &mut u32, counted: bool| {
            if counted {
                *sum = (*sum + after).saturating_sub(before);
            }
        };
        correct(&mut self.cong.packets_out, true);
        correct(&mut self.cong.lost_out, record.lost);
        correct(&mut self.cong.sacked_out, record.sacked);
        correct(&mut self.cong.retrans_out, record.retrans);
    }

    /// The retransmission timer: the timeout of the oldest segment, from now on or, if another timer stood in its place,
    /// from when that segment was sent (`tcp_rearm_rto`).
    pub(in super::super) fn rearm_rto(&mut self, cx: &Cx) {
        if self.timers.pending == XmitTimer::SynAck {
            return;
        }
        let stood_in = matches!(self.timers.pending, XmitTimer::LossProbe | XmitTimer::Reorder)
            && self.timers.retransmit != Time::MAX;
        self.arm_rto(cx, stood_in);
    }

    /// The retransmission timer, from when the oldest segment was sent or from now on.
    pub(super) fn arm_rto(&mut self, cx: &Cx, from_oldest: bool) {
        self.timers.pending = XmitTimer::Retransmit;
        if self.tx.segments.is_empty() {
            self.timers.retransmit = Time::MAX;
            return;
        }
        let timeout = if from_oldest { self.rto_left(cx.now).max(1) } else { self.rtt.backed_off() };
        self.timers.retransmit = expiry(cx.now, timeout);
    }
}
