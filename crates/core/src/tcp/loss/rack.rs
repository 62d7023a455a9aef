//! RACK (RFC 8985): a segment is lost if one that was sent later was delivered, and long enough ago that it cannot just
//! have been overtaken.

use rxpath_trace::{Counter, Time};

use super::super::{CaState, JIFFY, MS, SentSegment, TcpSock, XmitTimer, expiry};
use super::state::AckSays;
use crate::cx::Cx;

/// Bit of `tcp_recovery`: the number of duplicate ACKs does not close the window of reordering (`TCP_RACK_NO_DUPTHRESH`).
const NO_DUPTHRESH: u8 = 4;

impl TcpSock {
    /// A record was delivered (`tcp_rack_advance`). One that was sent again and comes back faster than any before answers
    /// the first copy: it tells nothing.
    pub(in super::super) fn rack_advance(&mut self, now: Time, record: &SentSegment, says: &mut AckSays) {
        let rtt = now - record.sent_at;
        if record.retransmitted && rtt < self.rtt.min_rtt {
            return;
        }
        let rack = &mut self.loss.rack;
        rack.advanced = true;
        rack.rtt = rtt;
        let later =
            record.sent_at > rack.sent_at || (record.sent_at == rack.sent_at && record.end_seq.after(rack.end_seq));
        if later {
            rack.sent_at = record.sent_at;
            rack.end_seq = record.end_seq;
            says.delivered_before = Some(record.stamp.delivered);
        }
    }

    /// Time by which segments may be overtaken (`tcp_rack_reo_wnd`).
    fn reorder_window(&self, cx: &Cx) -> u64 {
        let counts = cx.net.sysctl.tcp_recovery & NO_DUPTHRESH == 0;
        if self.loss.reord_seen == 0
            && (self.cong.state.is_recovering() || (counts && self.cong.sacked_out >= self.loss.reordering))
        {
            return 0;
        }
        let quarter = if self.rtt.min_rtt == u64::MAX { 0 } else { self.rtt.min_rtt / 4 };
        quarter.saturating_mul(u64::from(self.loss.rack.steps)).min(self.rtt.srtt)
    }

    /// How long a record has still to be waited for; None if it is overdue (`tcp_rack_skb_timeout`).
    pub(super) fn rack_time_left(&self, now: Time, record: &SentSegment, window: u64) -> Option<u64> {
        let due = record.sent_at.0 + self.loss.rack.rtt + window;
        due.checked_sub(now.0).filter(|&left| left > 0)
    }

    /// Marks what is lost, if a delivery has told anything new (`tcp_rack_mark_lost`); arms the timer for what may still
    /// turn out to be. True if it did.
    pub(super) fn rack_mark_lost(&mut self, cx: &Cx) -> bool {
        if !std::mem::take(&mut self.loss.rack.advanced) {
            return false;
        }
        let Some(left) = self.rack_detect_loss(cx) else { return false };
        let timeout = (left + 2 * MS).next_multiple_of(JIFFY);
        self.timers.pending = XmitTimer::Reorder;
        self.timers.retransmit = expiry(cx.now, timeout.min(self.rtt.backed_off()));
        true
    }

    /// The longest time that is left for a segment which may have been overtaken (`tcp_rack_detect_loss`).
    fn rack_detect_loss(&mut self, cx: &Cx) -> Option<u64> {
        let window = self.reorder_window(cx);
        let mut longest = None;
        for at in 0..self.tx.segments.len() {
            let record = self.tx.segments[at];
            // Found overdue once, it is not looked at until it has gone again, also where what was sent again before that counts
            // as under way: it was not known to be lost then, because a timeout had been undone.
            if record.sacked || (record.lost && (!record.retrans || record.overdue)) {
                continue;
            }
            if !self.loss.rack.is_after(record.sent_at, record.end_seq) {
                if record.retransmitted {
                    continue;
                }
                // Records are in the order in which they were first sent: what follows is later still.
                break;
            }
            match self.rack_time_left(cx.now, &record, window) {
                Some(left) => longest = longest.max(Some(left)),
                None => {
                    self.mark_lost(cx, at);
                    self.tx.segments[at].overdue = true;
                }
            }
        }
        longest
    }

    /// A record is lost, or, if it had been sent again, lost again (`tcp_mark_skb_lost`).
    pub(super) fn mark_lost(&mut self, cx: &Cx, at: usize) {
        let Some(record) = self.tx.segments.get_mut(at).filter(|record| !record.sacked) else { return };
        if !std::mem::replace(&mut record.lost, true) {
            self.cong.lost_out += record.pcount;
            self.cong.lost = self.cong.lost.wrapping_add(record.pcount);
        } else if std::mem::take(&mut record.retrans) {
            self.cong.retrans_out = self.cong.retrans_out.saturating_sub(record.pcount);
            self.cong.lost = self.cong.lost.wrapping_add(record.pcount);
            cx.count_n(Counter::TcpExtTCPLostRetransmit, u64::from(record.pcount));
        }
    }

    /// A segment has been waited for long enough (`tcp_rack_reo_timeout`).
    pub(in super::super) fn reorder_timer(&mut self, cx: &mut Cx) {
        let before = self.cong.in_flight();
        let lost_before = self.cong.lost;
        self.rack_detect_loss(cx);
        if self.cong.in_flight() != before {
            if self.cong.state != CaState::Recovery {
                self.enter_recovery(cx, false);
                self.cong.reduce(1, self.cong.lost != lost_before, false);
            }
            self.xmit_retransmit_queue(cx);
        }
        // What may still have been overtaken waits for the next ACK, or for the timeout of the oldest.
        self.arm_rto(cx, true);
    }
}
