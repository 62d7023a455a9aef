//! Segments of an established connection: header prediction, and the checks that every other segment passes.

use rxpath_mem::Skb;
use rxpath_trace::{AckWhy, Consumed, Counter, DropReason, EventKind, SlowWhy};
use rxpath_wire::{TcpFlags, TcpOptions};

use super::ack::Acked;
use super::challenge::may_challenge;
use super::{MS, Segment, State, TcpSock};
use crate::cx::{Cx, End, Fate};

/// Bits of the offset-flags-window word that header prediction ignores: PSH and the reserved bits.
pub(super) const PRED_IGNORED: u32 = 0x0f08_0000;
/// Difference of timestamps that is still believed (`TCP_PAWS_WINDOW`).
const PAWS_WINDOW: i32 = 1;

impl TcpSock {
    /// `tcp_rcv_established`: header prediction first, the full procedure otherwise.
    #[inline(always)]
    pub fn rcv_established(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment) -> End {
        match self.predict(cx, &skb, seg) {
            Ok(tsecr) if seg.len == 0 => self.fast_ack(cx, skb, seg, tsecr),
            Ok(tsecr) => self.fast_data(cx, skb, seg, tsecr),
            Err(why) => {
                cx.event(&skb, EventKind::SlowPath, why as u32, seg.len);
                if why == SlowWhy::Memory && self.says_nothing_new(seg) {
                    return self.unaccounted_data(cx, skb, seg);
                }
                self.slow_path(cx, skb, seg)
            }
        }
    }

    /// Whether a predicted segment with data has nothing to say to the sender.
    #[inline(always)]
    fn says_nothing_new(&self, seg: &Segment) -> bool {
        seg.ack == self.tx.snd_una && self.tx.snd_up.is_none() && self.expects_only_data()
    }

    /// What the slow path does with predicted data that says nothing new, and whose memory is to be accounted first: so it
    /// is with nearly every merged packet.
    #[inline(always)]
    fn unaccounted_data(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment) -> End {
        if self.opts.timestamps
            && let Some((tsval, tsecr)) = TcpOptions::only_timestamps(seg.option_bytes(&skb))
        {
            if self.rx.rcv_nxt == self.rx.rcv_wup {
                self.store_ts_recent(cx.now, tsval);
            }
            self.loss.last_tsecr = Some(tsecr);
            self.measure_rcv_rtt_ts(cx.now, tsecr, seg.len);
        }
        // What began at the edge of the window, and was not taken, may have been the last word on the peer's.
        if seg.seq.after(self.tx.snd_wl1) {
            self.tx.snd_wl1 = seg.seq;
        }
        self.live.last_ack = cx.now;
        self.live.probes_out = 0;
        self.user.error_soft = None;
        let end = self.data_queue(cx, skb, seg);
        self.ack_snd_check(cx);
        end
    }

    /// Header prediction: the timestamp echo (0 without timestamps) if the segment is the expected one.
    #[inline(always)]
    fn predict(&mut self, cx: &Cx, skb: &Skb, seg: &Segment) -> Result<u32, SlowWhy> {
        if (seg.word & !PRED_IGNORED) != self.pred_flags {
            return Err(if self.pred_flags == 0 { SlowWhy::Disabled } else { SlowWhy::Flags });
        }
        // An old acknowledgement is predicted, too: `tcp_ack` sees to it.
        if seg.seq != self.rx.rcv_nxt || seg.ack.after(self.tx.snd_nxt) {
            return Err(SlowWhy::Sequence);
        }
        let mut echo = 0;
        if self.opts.timestamps {
            let stamps = TcpOptions::only_timestamps(seg.option_bytes(skb));
            let Some((tsval, tsecr)) = stamps else { return Err(SlowWhy::Options) };
            if (tsval.wrapping_sub(self.opts.ts_recent) as i32) < 0 {
                return Err(SlowWhy::Timestamp);
            }
            if seg.len > 0 {
                self.fast_data_fits(skb, seg)?;
            }
            if self.rx.rcv_nxt == self.rx.rcv_wup {
                self.store_ts_recent(cx.now, tsval);
            }
            echo = tsecr;
        } else if seg.len > 0 {
            self.fast_data_fits(skb, seg)?;
        }
        Ok(echo)
    }

    /// Predicted data must also lie in the window and in memory that is already accounted.
    #[inline(always)]
    fn fast_data_fits(&self, skb: &Skb, seg: &Segment) -> Result<(), SlowWhy> {
        if seg.end_seq.after(self.rx.right_edge()) {
            return Err(SlowWhy::Window);
        }
        if i64::from(skb.truesize) > i64::from(self.rx.forward_alloc) {
            return Err(SlowWhy::Memory);
        }
        Ok(())
    }

    /// A predicted pure ACK: for a sender of bulk data.
    fn fast_ack(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment, tsecr: u32) -> End {
        cx.event(&skb, EventKind::FastPath, 0, 0);
        if self.tcp_ack(cx, seg, self.predicted(tsecr), false).is_err() {
            self.send_challenge_ack(cx);
        }
        self.data_snd_check(cx);
        Fate::Consumed(skb, Consumed::AckOnly)
    }

    /// Predicted data: queue, then see to the ACKs of both directions.
    #[inline(always)]
    fn fast_data(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment, tsecr: u32) -> End {
        cx.event(&skb, EventKind::FastPath, seg.len, 0);
        cx.count(Counter::TcpExtTCPHPHits);
        if self.opts.timestamps {
            self.measure_rcv_rtt_ts(cx.now, tsecr, seg.len);
        }
        let (len, truesize) = (seg.len, skb.truesize);
        let mss_len = if skb.gso_size > 0 { u32::from(skb.gso_size) } else { len };
        let mark = self.ecn_mark(&skb);
        let end = self.queue_rcv(cx, skb, seg);
        self.event_data_recv(cx, len, mss_len, seg.header_len, seg.flags, truesize);
        self.ecn_check(mark);
        self.grow_window_for(cx, len, truesize);
        if seg.ack != self.tx.snd_una {
            if self.tcp_ack(cx, seg, self.predicted(tsecr), false).is_err() {
                self.send_challenge_ack(cx);
            }
            self.data_snd_check(cx);
        } else {
            self.tx.snd_wl1 = seg.seq;
        }
        self.ack_snd_check(cx);
        self.data_ready(cx, false);
        end
    }

    /// Everything that was not predicted, in the kernel's order.
    #[inline(never)]
    fn slow_path(&mut self, cx: &mut Cx, skb: Skb, seg: &Segment) -> End {
        if !seg.flags.intersects(TcpFlags(TcpFlags::ACK.0 | TcpFlags::RST.0 | TcpFlags::SYN.0)) {
            return Fate::Drop(skb, DropReason::TcpFlags);
        }
        let options = seg.options(&skb);
        let stamps = if self.opts.timestamps { options.timestamps } else { None };
        if let Err(refused) = self.validate_incoming(cx, seg, stamps) {
            return refused.end(skb);
        }
        if !seg.flags.ack() {
            return Fate::Drop(skb, DropReason::TcpFlags);
        }
        if let Some((tsval, _)) = stamps
            && seg.ack.between(self.tx.snd_una, self.tx.snd_nxt)
        {
            self.replace_ts_recent(cx.now, tsval, seg.seq);
        }
        match self.tcp_ack(cx, seg, self.heard(&options), true) {
            Ok(Acked::Fine) => self.accept_cwr(seg),
            Ok(Acked::Old) => {}
            Err(reason) => {
                self.send_challenge_ack(cx);
                return Fate::Drop(skb, reason);
            }
        }
        if let Some((_, tsecr)) = stamps {
            self.measure_rcv_rtt_ts(cx.now, tsecr, seg.len);
        }
        if seg.has(TcpFlags::URG) || self.rx.urgent.is_set() {
            self.tcp_urg(cx, &skb, seg);
        }
        let end = self.data_queue(cx, skb, seg);
        self.data_snd_check(cx);
        self.ack_snd_check(cx);
        end
    }

    /// `tcp_validate_incoming`: PAWS, sequence, RST, SYN. An error tells how the segment ends; what must be answered
    /// has been answered.
    pub(super) fn validate_incoming(
        &mut self,
        cx: &mut Cx,
        seg: &Segment,
        stamps: Option<(u32, u32)>,
    ) -> Result<(), Refused> {
        if let Some((tsval, _)) = stamps
            && self.paws_rejects(cx, tsval)
            && !seg.flags.rst()
        {
            if seg.flags.syn() {
                return Err(self.syn_challenge(cx));
            }
            self.paws_discard(cx, seg, tsval)?;
        }
        if let Some(reason) = self.sequence_rejects(seg) {
            return Err(self.sequence_discard(cx, seg, reason));
        }
        if seg.flags.rst() {
            // RFC 5961 section 3.2: only the exact sequence number resets.
            if self.reset_is_exact(seg) {
                self.reset(cx);
                return Err(Refused::Reset);
            }
            self.fast_open_strange_reset(cx);
            self.send_challenge_ack(cx);
            return Err(Refused::Because(DropReason::TcpReset));
        }
        if seg.flags.syn() && !self.ends_crossed_open(seg) {
            // RFC 5961 section 4.2.
            return Err(self.syn_challenge(cx));
        }
        Ok(())
    }

    /// The SYN-ACK of a peer whose SYN crossed ours (RFC 9293 section 3.5, figure 7): it acknowledges our SYN.
    fn ends_crossed_open(&self, seg: &Segment) -> bool {
        self.state == State::SynRecv
            && self.user.accepted
            && seg.flags.ack()
            && seg.end_seq == seg.seq + 1
            && seg.end_seq == self.rx.rcv_nxt
            && seg.ack == self.tx.snd_nxt
    }

    fn syn_challenge(&mut self, cx: &mut Cx) -> Refused {
        if self.state == State::Established {
            cx.count(Counter::TcpInErrs);
        }
        cx.count(Counter::TcpExtTCPSYNChallenge);
        self.send_challenge_ack(cx);
        Refused::Because(DropReason::TcpInvalidSyn)
    }

    /// RFC 7323 section 5.3, R1.
    fn paws_rejects(&self, cx: &Cx, tsval: u32) -> bool {
        self.opts.ts_recent.wrapping_sub(tsval) as i32 > PAWS_WINDOW
            && self.opts.ts_recent != 0
            && !self.ts_recent_expired(cx.now)
            && self.opts.ts_recent_stamp != 0
    }

    /// An old timestamp: forgiven for a pure duplicate ACK that was overtaken and could not change the window, otherwise dropped
    /// (`tcp_disordered_ack`). The first ACK behind data could.
    fn paws_discard(&mut self, cx: &mut Cx, seg: &Segment, tsval: u32) -> Result<(), Refused> {
        let pure_ack = seg.flags.ack() && seg.seq == seg.end_seq;
        if pure_ack && seg.seq.before(self.rx.rcv_nxt) {
            cx.count(Counter::TcpExtPAWSOldAck);
            return Err(Refused::Because(DropReason::TcpRfc7323PawsAck));
        }
        let window = u32::from(seg.window) << self.opts.snd_wscale;
        let lag_ms = u64::from(self.opts.ts_recent.wrapping_sub(tsval));
        let harmless = pure_ack
            && seg.seq == self.rx.rcv_nxt
            && seg.ack == self.tx.snd_una
            && !self.may_update_window(seg, window)
            && lag_ms <= self.rtt.backed_off() * 12 / (10 * MS);
        if harmless {
            return Ok(());
        }
        cx.count(Counter::TcpExtPAWSEstab);
        if !self.oow_rate_limited(cx, seg.len > 0 || seg.flags.fin(), seg.flags.syn(), Counter::TcpExtTCPACKSkippedPAWS)
        {
            self.send_dupack(cx, seg, AckWhy::OldTimestamp);
        }
        Err(Refused::Because(DropReason::TcpRfc7323Paws))
    }

    /// RFC 9293 section 3.10.7.4, first check, as current kernels apply it (`tcp_sequence`).
    fn sequence_rejects(&self, seg: &Segment) -> Option<DropReason> {
        if seg.end_seq.before(self.rx.rcv_wup) {
            return Some(DropReason::TcpOldSequence);
        }
        let edge = self.rx.right_edge();
        // A FIN may stand just behind the edge.
        if !(seg.end_seq - u32::from(seg.flags.fin())).after(edge) {
            return None;
        }
        if seg.seq.after(edge) {
            return Some(DropReason::TcpInvalidSequence);
        }
        let empty = self.rx.queue.is_empty() && self.rx.fin_charge == 0;
        (!empty).then_some(DropReason::TcpInvalidEndSequence)
    }

    fn sequence_discard(&mut self, cx: &mut Cx, seg: &Segment, reason: DropReason) -> Refused {
        if seg.flags.rst() {
            if self.reset_is_exact(seg) {
                self.reset(cx);
                return Refused::Reset;
            }
        } else if seg.flags.syn() {
            return self.syn_challenge(cx);
        } else {
            if reason != DropReason::TcpOldSequence {
                cx.count(Counter::TcpExtBeyondWindow);
            }
            if !self.oow_rate_limited(cx, seg.len > 0 || seg.flags.fin(), false, Counter::TcpExtTCPACKSkippedSeq) {
                self.send_dupack(cx, seg, AckWhy::OutOfWindow);
            }
        }
        Refused::Because(reason)
    }

    /// RST at exactly the next sequence number, or one before it after a FIN (`tcp_reset_check`), or at the end of the
    /// farthest range that was reported: there a peer that lost its state may think the next byte is.
    fn reset_is_exact(&self, seg: &Segment) -> bool {
        let after_fin = matches!(self.state, State::CloseWait | State::LastAck | State::Closing);
        let ends = self.rx.sack.ranges().iter().map(|&(_, end)| end);
        let farthest = ends.reduce(|far, end| if end.after(far) { end } else { far });
        seg.seq == self.rx.rcv_nxt || (after_fin && seg.seq == self.rx.rcv_nxt - 1) || farthest == Some(seg.seq)
    }

    /// RFC 5961 section 7, within its limits (`tcp_send_challenge_ack`).
    pub(super) fn send_challenge_ack(&mut self, cx: &mut Cx) {
        if may_challenge(&mut self.tx.last_oow_ack, cx) {
            self.send_ack(cx, AckWhy::Challenge);
        }
    }

    /// After an ACK: send what it allows, and see to the writer (`tcp_data_snd_check`).
    #[inline]
    pub(super) fn data_snd_check(&mut self, cx: &mut Cx) {
        if self.send_end().after(self.tx.snd_nxt) {
            self.push(cx);
        }
        if self.user.wait_send {
            self.expand_sndbuf(cx.net.sysctl.tcp_wmem.max);
            self.write_space(cx);
        }
    }
}

/// How a segment that was not accepted ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Dropped for this reason.
    Because(DropReason),
    /// It reset the connection.
    Reset,
}

impl Refused {
    /// The end of the segment.
    pub(super) fn end(self, skb: Skb) -> End {
        match self {
            Refused::Because(reason) => Fate::Drop(skb, reason),
            Refused::Reset => Fate::Consumed(skb, Consumed::Reset),
        }
    }
}
