//! Congestion window and loss recovery without SACK: NewReno (RFC 5681, RFC 6582).

use rxpath_trace::{Counter, Time};
use rxpath_wire::SeqNum;

use super::write_queue::PACKET_CHARGE;
use super::{TcpSock, tick};
use crate::cx::Cx;

/// Initial window in segments (RFC 6928).
const INITIAL_CWND: u32 = 10;
/// Duplicate ACKs that mean a loss (RFC 5681 section 3.2).
const DUPACK_THRESHOLD: u32 = 3;

/// What the sender believes about the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaState {
    /// Nothing unusual.
    Open,
    /// Duplicate ACKs, not yet enough.
    Disorder,
    /// Fast retransmit and recovery.
    Recovery,
    /// After a retransmission timeout.
    Loss,
}

impl CaState {
    /// A loss is being repaired.
    pub(super) fn is_recovering(self) -> bool {
        matches!(self, CaState::Recovery | CaState::Loss)
    }
}

/// Congestion control state; windows in segments.
#[derive(Clone, Debug)]
pub struct Congestion {
    /// State.
    pub state: CaState,
    /// Congestion window.
    pub cwnd: u32,
    /// Slow-start threshold; `u32::MAX` until the first loss.
    pub ssthresh: u32,
    /// Segments sent and not acknowledged.
    pub packets_out: u32,
    /// Segments that duplicate ACKs say have left the network.
    pub sacked_out: u32,
    /// Segments counted as lost and not sent again.
    pub lost_out: u32,
    /// `snd_nxt` when recovery began: it ends when this is acknowledged.
    pub high_seq: SeqNum,
    /// Segments acknowledged towards the next increase of the window.
    acked: u32,
    /// The window held the sender back, in the current round.
    limited: bool,
    /// Most segments in flight in the current round.
    max_packets_out: u32,
    /// `snd_nxt` when the current round began.
    usage_seq: SeqNum,
    /// Most segments in flight since the window last held the sender back.
    used: u32,
    /// When the window was last held to be right.
    stamp: Time,
}

impl Default for Congestion {
    fn default() -> Congestion {
        Congestion::new()
    }
}

impl Congestion {
    /// The initial window, in slow start.
    pub fn new() -> Congestion {
        Congestion {
            state: CaState::Open,
            cwnd: INITIAL_CWND,
            ssthresh: u32::MAX,
            packets_out: 0,
            sacked_out: 0,
            lost_out: 0,
            high_seq: SeqNum(0),
            acked: 0,
            limited: false,
            max_packets_out: 0,
            usage_seq: SeqNum(0),
            used: 0,
            stamp: Time::ZERO,
        }
    }

    /// Segments in the network.
    pub fn in_flight(&self) -> u32 {
        self.packets_out.saturating_sub(self.sacked_out + self.lost_out)
    }

    /// Segments that may be sent now.
    pub fn quota(&self) -> u32 {
        self.cwnd.saturating_sub(self.in_flight())
    }

    /// True if the window, not the application, limits the sender: only then it may grow (`tcp_is_cwnd_limited`).
    pub(super) fn is_limited(&self) -> bool {
        self.limited || (self.cwnd < self.ssthresh && self.cwnd < self.max_packets_out.saturating_mul(2))
    }

    /// Takes note of how much of the window a round of sending used. After a timeout's worth of not filling it, it
    /// shrinks towards what was used (`tcp_cwnd_validate`, RFC 2861).
    pub(super) fn validate(&mut self, limited: bool, una: SeqNum, nxt: SeqNum, now: Time, rto: u64) {
        if una.at_or_after(self.usage_seq) || limited || (!self.limited && self.packets_out > self.max_packets_out) {
            self.limited = limited;
            self.max_packets_out = self.packets_out;
            self.usage_seq = nxt;
        }
        if self.is_limited() {
            self.used = 0;
            self.stamp = tick(now);
            return;
        }
        self.used = self.used.max(self.packets_out);
        if tick(now) - self.stamp < rto {
            return;
        }
        let used = self.used.max(INITIAL_CWND);
        if self.state == CaState::Open && used < self.cwnd {
            self.remember_threshold();
            self.cwnd = self.cwnd.midpoint(used);
        }
        self.used = 0;
        self.stamp = tick(now);
    }

    /// Three quarters of the window were fine (`tcp_current_ssthresh`).
    fn remember_threshold(&mut self) {
        self.ssthresh = self.ssthresh.max(self.cwnd / 2 + self.cwnd / 4);
    }

    /// Slow start, then one segment per window (RFC 5681 section 3.1).
    fn grow(&mut self, acked: u32) {
        let mut acked = acked;
        if self.cwnd < self.ssthresh {
            let step = acked.min(self.ssthresh - self.cwnd);
            self.cwnd += step;
            acked -= step;
        }
        self.acked += acked;
        if self.acked >= self.cwnd {
            self.acked -= self.cwnd;
            self.cwnd += 1;
        }
    }

    /// After an idle time the window is no longer known to be right (RFC 2861): halved per timeout, not below the
    /// initial one.
    pub fn restart_after_idle(&mut self, idle: u64, rto: u64, now: Time) {
        if idle <= rto {
            return;
        }
        self.remember_threshold();
        self.used = 0;
        self.stamp = tick(now);
        let mut left = idle;
        while left > rto && self.cwnd > INITIAL_CWND {
            self.cwnd = (self.cwnd / 2).max(INITIAL_CWND);
            left -= rto;
        }
    }

    fn halve(&mut self) {
        self.ssthresh = (self.cwnd / 2).max(2);
    }
}

impl TcpSock {
    /// The congestion side of an ACK (`tcp_fastretrans_alert`, `tcp_cong_control`). `acked` segments were newly
    /// acknowledged; `dupack` tells a duplicate.
    pub(super) fn congestion_on_ack(&mut self, cx: &mut Cx, acked: u32, dupack: bool) {
        match self.cong.state {
            CaState::Open | CaState::Disorder => {
                if dupack {
                    self.on_dupack(cx);
                } else if acked > 0 {
                    self.cong.sacked_out = 0;
                    self.cong.state = CaState::Open;
                    if self.cong.is_limited() {
                        self.cong.grow(acked);
                        self.cong.stamp = tick(cx.now);
                    }
                }
            }
            CaState::Recovery => self.in_recovery(cx, acked, dupack),
            CaState::Loss => self.in_loss(cx, acked),
        }
    }

    fn on_dupack(&mut self, cx: &mut Cx) {
        self.cong.state = CaState::Disorder;
        self.cong.sacked_out = (self.cong.sacked_out + 1).min(self.cong.packets_out.saturating_sub(1));
        if self.cong.sacked_out < DUPACK_THRESHOLD {
            return;
        }
        cx.count(Counter::TcpExtTCPRenoRecovery);
        self.cong.state = CaState::Recovery;
        self.cong.high_seq = self.tx.snd_nxt;
        self.cong.halve();
        self.cong.cwnd = self.cong.ssthresh;
        if self.retransmit_head(cx) {
            cx.count(Counter::TcpExtTCPFastRetrans);
        }
    }

    /// Fast recovery: a duplicate ACK frees a place, a partial one shows the next hole (RFC 6582 section 3.2).
    fn in_recovery(&mut self, cx: &mut Cx, acked: u32, dupack: bool) {
        if self.tx.snd_una.at_or_after(self.cong.high_seq) {
            self.cong.state = CaState::Open;
            self.cong.sacked_out = 0;
            self.cong.cwnd = self.cong.ssthresh;
        } else if acked > 0 {
            self.cong.sacked_out = self.cong.sacked_out.saturating_sub(acked - 1);
            if self.retransmit_head(cx) {
                cx.count(Counter::TcpExtTCPFastRetrans);
            }
        } else if dupack {
            self.cong.sacked_out = (self.cong.sacked_out + 1).min(self.cong.packets_out.saturating_sub(1));
        }
    }

    /// After a timeout everything in flight was counted as lost; it is sent again in slow start.
    fn in_loss(&mut self, cx: &mut Cx, acked: u32) {
        self.cong.grow(acked);
        if self.tx.snd_una.at_or_after(self.cong.high_seq) {
            self.cong.state = CaState::Open;
            self.cong.sacked_out = 0;
        }
        self.retransmit_lost(cx);
    }

    /// The retransmission timer fired (`tcp_enter_loss`).
    pub(super) fn enter_loss(&mut self) {
        if self.cong.state != CaState::Loss {
            self.cong.halve();
            self.cong.high_seq = self.tx.snd_nxt;
        }
        self.cong.state = CaState::Loss;
        self.cong.cwnd = 1;
        self.cong.sacked_out = 0;
        self.cong.lost_out = 0;
        for segment in &mut self.tx.segments {
            segment.lost = true;
            self.cong.lost_out += u32::from(segment.pcount);
        }
    }

    /// Sends lost segments again as far as the window allows (`tcp_xmit_retransmit_queue`).
    fn retransmit_lost(&mut self, cx: &mut Cx) {
        let mut index = 0;
        while index < self.tx.segments.len() {
            if self.tx.segments[index].lost {
                if self.cong.quota() == 0 || !self.retransmit(cx, index) {
                    return;
                }
                cx.count(Counter::TcpExtTCPSlowStartRetrans);
            }
            index += 1;
        }
    }

    /// Sends the oldest segment again; false if there is none or no slot.
    pub(super) fn retransmit_head(&mut self, cx: &mut Cx) -> bool {
        !self.tx.segments.is_empty() && self.retransmit(cx, 0)
    }

    /// Sends one MSS of a segment again, cutting the segment's record where it is longer (`__tcp_retransmit_skb`).
    pub(super) fn retransmit(&mut self, cx: &mut Cx, index: usize) -> bool {
        let una = self.tx.snd_una;
        if let Some(segment) = self.tx.segments.get_mut(index) {
            self.rx.uncharge_output(segment.trim(una, self.tx.mss));
        }
        self.split_record(index);
        self.collapse(index);
        let Some(segment) = self.tx.segments.get(index).copied() else { return false };
        let len = segment.len();
        if segment.syn {
            self.send_syn(cx);
        } else if !self.send_range(cx, segment.seq, len, segment.fin, segment.psh) {
            return false;
        }
        cx.count(Counter::TcpRetransSegs);
        let now = cx.now;
        if let Some(record) = self.tx.segments.get_mut(index) {
            record.retransmitted = true;
            record.sent_at = now;
            if std::mem::take(&mut record.lost) {
                self.cong.lost_out = self.cong.lost_out.saturating_sub(u32::from(record.pcount));
            }
        }
        true
    }

    /// Joins to a short segment those behind it, as far as one MSS and the peer's window reach: so much less is to be
    /// lost again (RFC 1122 section 4.2.2.15, `tcp_retrans_try_collapse`).
    fn collapse(&mut self, index: usize) {
        let (mss, edge) = (u32::from(self.tx.mss), self.tx.snd_una + self.tx.snd_wnd);
        while let Some(next) = self.tx.segments.get(index + 1).copied() {
            let Some(segment) = self.tx.segments.get_mut(index) else { return };
            let single = segment.pcount == 1 && next.pcount == 1 && !segment.syn && !next.syn;
            let short = segment.len() < mss && segment.len() + next.len() <= mss;
            if !single || !short || next.end_seq.after(edge) {
                return;
            }
            let freed = next.charge.min(PACKET_CHARGE);
            segment.end_seq = next.end_seq;
            segment.fin |= next.fin;
            segment.psh |= next.psh;
            segment.retransmitted |= next.retransmitted;
            segment.charge += next.charge - freed;
            self.tx.segments.remove(index + 1);
            self.cong.packets_out = self.cong.packets_out.saturating_sub(1);
            self.cong.lost_out = self.cong.lost_out.saturating_sub(u32::from(next.lost));
            self.cong.sacked_out = self.cong.sacked_out.saturating_sub(1);
            self.rx.uncharge_output(freed);
        }
    }

    /// Cuts a record longer than one MSS in two, so that only its head is sent again.
    fn split_record(&mut self, index: usize) {
        let mss = u32::from(self.current_mss());
        let Some(segment) = self.tx.segments.get_mut(index) else { return };
        let len = segment.len();
        if len <= mss {
            return;
        }
        let mut rest = *segment;
        segment.end_seq = segment.seq + mss;
        segment.fin = false;
        segment.psh = false;
        segment.charge = PACKET_CHARGE + mss;
        let before = u32::from(segment.pcount);
        segment.pcount = 1;
        rest.seq = segment.end_seq;
        rest.charge = rest.charge.saturating_sub(mss);
        rest.pcount = (len - mss).div_ceil(mss).max(1) as u16;
        // The MSS may have changed since: keep the sums right.
        let after = 1 + u32::from(rest.pcount);
        self.cong.packets_out += after - before;
        if rest.lost {
            self.cong.lost_out += after - before;
        }
        self.tx.segments.insert(index + 1, rest);
        self.rx.charge_output(PACKET_CHARGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_doubles_per_round_trip_and_then_grows_by_one() {
        let mut cong = Congestion::new();
        cong.ssthresh = 20;
        cong.grow(10);
        assert_eq!(cong.cwnd, 20);
        cong.grow(20);
        assert_eq!(cong.cwnd, 21);
        cong.grow(10);
        assert_eq!(cong.cwnd, 21);
        cong.grow(11);
        assert_eq!(cong.cwnd, 22);
    }

    #[test]
    fn idleness_halves_the_window_down_to_the_initial_one() {
        let mut cong = Congestion { cwnd: 100, ..Congestion::new() };
        cong.restart_after_idle(250, 100, Time(1));
        assert_eq!(cong.cwnd, 25);
        cong.restart_after_idle(10_000, 100, Time(1));
        assert_eq!(cong.cwnd, INITIAL_CWND);
    }

    #[test]
    fn a_window_that_is_not_filled_does_not_grow() {
        let (una, nxt) = (SeqNum(1), SeqNum(1_000));
        let mut cong = Congestion { packets_out: 5, ..Congestion::new() };
        cong.validate(false, una, nxt, Time(1), 100);
        assert!(!cong.is_limited(), "half of it in flight");
        cong.packets_out = 6;
        cong.validate(false, una, nxt, Time(1), 100);
        assert!(cong.is_limited(), "slow start: more than half of it in flight");
        cong.ssthresh = 10;
        assert!(!cong.is_limited(), "beyond slow start all of it has to be");
        cong.packets_out = 10;
        cong.validate(true, una, nxt, Time(1), 100);
        assert!(cong.is_limited());
    }
}
