//! The congestion window: how many segments may be in the network, and how that number grows, shrinks and ages.
//!
//! What has left the network and what was lost is found out in [`super::loss`]; here is only what follows from it. Two
//! algorithms say how the window grows and how far it falls: CUBIC ([`cubic`], RFC 9438), the default, and Reno
//! (RFC 5681); a third, BBR ([`bbr`]), sets window and rate by a model of the path, whatever the state. While losses are repaired neither has a say: proportional rate reduction ([`prr`], RFC 9937) has.
//!
//! Nothing here panics: all arithmetic on counts saturates or is bounded by the window.

mod bbr;
mod cubic;
mod prr;

use rxpath_trace::{Counter, Time};
use rxpath_wire::SeqNum;

pub(super) use self::bbr::Ack as BbrAck;
use self::bbr::Bbr;
use self::cubic::{Cubic, Found};
use self::prr::Prr;
use super::{Pacing, Rate, tick};
use crate::cx::Cx;
use crate::sysctl::CongestionControl;

/// Initial window in segments (RFC 6928).
pub(super) const INITIAL_CWND: u32 = 10;

/// What the sender believes about the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CaState {
    /// Nothing unusual.
    Open,
    /// Something came out of order or twice; not yet enough to call it a loss.
    Disorder,
    /// The window shrinks for another reason than loss.
    Cwr,
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

    /// Proportional rate reduction sets the window (`tcp_in_cwnd_reduction`).
    pub(super) fn is_reducing(self) -> bool {
        matches!(self, CaState::Cwr | CaState::Recovery)
    }
}

/// Congestion control state; windows in segments.
#[derive(Clone, Debug)]
pub struct Congestion {
    /// State.
    pub state: CaState,
    /// Which algorithm grows and cuts the window.
    pub algorithm: CongestionControl,
    /// Congestion window.
    pub cwnd: u32,
    /// Slow-start threshold; `u32::MAX` until the first loss.
    pub ssthresh: u32,
    /// Segments sent and not acknowledged.
    pub packets_out: u32,
    /// Segments that left the network: by SACK, or as many as there were duplicate ACKs.
    pub sacked_out: u32,
    /// Segments counted as lost.
    pub lost_out: u32,
    /// Segments sent again that were neither acknowledged nor counted as lost since.
    pub retrans_out: u32,
    /// Segments found to be lost in all.
    pub lost: u32,
    /// Segments delivered in all.
    pub delivered: u32,
    /// Of those, how many by ACKs that told of a mark.
    pub delivered_ce: u32,
    /// The window before the last cut.
    pub(super) prior_cwnd: u32,
    /// The threshold to be restored if the cut was a mistake; 0 if it must not be.
    pub(super) prior_ssthresh: u32,
    /// Segments acknowledged towards the next increase of the window.
    acked: u32,
    /// Reduction under way.
    prr: Prr,
    /// State of CUBIC.
    cubic: Cubic,
    /// State of BBR.
    bbr: Bbr,
    /// How fast the network delivers.
    pub rate: Rate,
    /// How fast segments leave.
    pub pacing: Pacing,
    /// The window held the sender back, in the current round.
    limited: bool,
    /// Most segments in flight in the current round.
    max_packets_out: u32,
    /// `snd_nxt` when the current round began.
    usage_seq: SeqNum,
    /// Most segments in flight since the window last held the sender back.
    used: u32,
    /// When the window was last held to be right.
    pub(super) stamp: Time,
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
            algorithm: CongestionControl::Cubic,
            cwnd: INITIAL_CWND,
            ssthresh: u32::MAX,
            packets_out: 0,
            sacked_out: 0,
            lost_out: 0,
            retrans_out: 0,
            lost: 0,
            delivered: 0,
            delivered_ce: 0,
            prior_cwnd: 0,
            prior_ssthresh: 0,
            acked: 0,
            prr: Prr::default(),
            cubic: Cubic::default(),
            bbr: Bbr::default(),
            rate: Rate::default(),
            pacing: Pacing::default(),
            limited: false,
            max_packets_out: 0,
            usage_seq: SeqNum(0),
            used: 0,
            stamp: Time::ZERO,
        }
    }

    /// Another algorithm from now on; what the former one knew is forgotten (`TCP_CONGESTION`).
    pub fn set_algorithm(&mut self, algorithm: CongestionControl) {
        self.algorithm = algorithm;
        self.cubic = Cubic::default();
        self.bbr = Bbr::default();
        if algorithm == CongestionControl::Bbr {
            self.ssthresh = u32::MAX;
        }
    }

    /// The algorithm sets window and rate by itself, whatever the state (`tcp_congestion_ops.cong_control`).
    pub(super) fn has_own_control(&self) -> bool {
        self.algorithm == CongestionControl::Bbr
    }

    /// Both directions are open: an algorithm with a rate of its own chooses its first.
    pub(super) fn begin(&mut self, mss: u32, srtt: u64) {
        if self.has_own_control() {
            self.pacing.rate = self.bbr.initial_rate(self.cwnd, mss, srtt).min(self.pacing.max);
        }
    }

    /// An ACK, for BBR.
    pub(super) fn bbr_on_ack(&mut self, ack: &BbrAck) {
        if self.pacing.rate == u64::MAX {
            self.begin(ack.mss, ack.rtt.unwrap_or(0));
        }
        let control = self.bbr.on_ack(ack, self.cwnd, self.pacing.rate);
        self.cwnd = control.cwnd;
        self.pacing.rate = control.pacing_rate.min(self.pacing.max);
        if control.app_limited {
            self.rate.limit_by_app(self.delivered, ack.in_flight);
        }
    }

    /// Segments of a super-frame at the least.
    pub(super) fn tso_segs_min(&self, configured: u32) -> u32 {
        if self.has_own_control() { Bbr::tso_segs_min(self.pacing.rate) } else { configured }
    }

    /// What BBR knows of the path: bytes per second, its round trip in nanoseconds, and the gains of rate and window in 256ths.
    pub fn bbr(&self) -> Option<(u64, u64, u32, u32)> {
        let Bbr { pacing_gain, cwnd_gain, .. } = self.bbr;
        self.has_own_control().then(|| (self.bbr.bandwidth(), self.bbr.rtprop(), pacing_gain, cwnd_gain))
    }

    /// Segments in the network.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        (self.packets_out + self.retrans_out).saturating_sub(self.sacked_out + self.lost_out)
    }

    /// Segments that may be sent now.
    #[inline]
    pub fn quota(&self) -> u32 {
        self.cwnd.saturating_sub(self.in_flight())
    }

    /// Something left the network in another way than by being acknowledged.
    pub(super) fn left_out(&self) -> u32 {
        self.sacked_out + self.lost_out
    }

    /// True if the window, not the application, limits the sender: only then it may grow (`tcp_is_cwnd_limited`).
    pub(super) fn is_limited(&self) -> bool {
        self.limited || (self.cwnd < self.ssthresh && self.cwnd < self.max_packets_out.saturating_mul(2))
    }

    /// Takes note of how much of the window a round of sending used. After a timeout's worth of not filling it, it
    /// shrinks towards what was used, where it `shrinks` at all (`tcp_cwnd_validate`, RFC 2861).
    pub(super) fn validate(&mut self, limited: bool, (una, nxt): (SeqNum, SeqNum), now: Time, rto: u64, shrinks: bool) {
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
        if tick(now) - self.stamp < rto || !shrinks || self.has_own_control() {
            return;
        }
        let used = self.used.max(INITIAL_CWND);
        if self.state == CaState::Open && used < self.cwnd {
            self.ssthresh = self.current_ssthresh();
            self.cwnd = self.cwnd.midpoint(used);
        }
        self.used = 0;
        self.stamp = tick(now);
    }

    /// Three quarters of the window were fine (`tcp_current_ssthresh`); while it is being reduced, only what it was
    /// reduced to.
    pub(super) fn current_ssthresh(&self) -> u32 {
        if self.state.is_reducing() { self.ssthresh } else { self.ssthresh.max(self.cwnd / 2 + self.cwnd / 4) }
    }

    /// Data goes while nothing is in flight, after an idle time (`CA_EVENT_TX_START`).
    pub(super) fn starts_sending(&mut self, idle: u64, now: Time) {
        if !self.has_own_control() {
            self.cubic.idle(idle, now);
        } else if self.rate.is_app_limited()
            && let Some(rate) = self.bbr.restart()
        {
            self.pacing.rate = rate.min(self.pacing.max);
        }
    }

    /// The application writes again, and nothing is in flight: after an idle time the window is no longer known to be right
    /// (RFC 2861). It is halved per timeout, not below the initial one (`tcp_slow_start_after_idle_check`).
    pub(super) fn restart_after_idle(&mut self, idle: u64, rto: u64, now: Time) {
        if idle <= rto || self.has_own_control() {
            return;
        }
        self.ssthresh = self.current_ssthresh();
        self.used = 0;
        self.stamp = tick(now);
        let mut left = idle;
        while left > rto && self.cwnd > INITIAL_CWND {
            self.cwnd = (self.cwnd / 2).max(INITIAL_CWND);
            left -= rto;
        }
    }

    /// The threshold after a loss, by the algorithm; it takes note (`tcp_congestion_ops.ssthresh`).
    fn cut(&mut self) -> u32 {
        match self.algorithm {
            CongestionControl::Reno => (self.cwnd / 2).max(2),
            CongestionControl::Cubic => self.cubic.cut(self.cwnd),
            CongestionControl::Bbr => {
                self.bbr.save_cwnd(self.cwnd, self.state);
                self.ssthresh
            }
        }
    }

    /// Starts to reduce the window in proportion to what is delivered (`tcp_init_cwnd_reduction`).
    pub(super) fn begin_reduction(&mut self) {
        self.acked = 0;
        self.prior_cwnd = self.cwnd;
        self.prr = Prr::default();
        self.ssthresh = self.cut();
    }

    /// A timeout: from one segment on, towards a threshold by the algorithm, if it is to be cut anew (`tcp_enter_loss`).
    pub(super) fn collapse(&mut self, anew: bool, now: Time) {
        if anew {
            self.prior_ssthresh = self.current_ssthresh();
            self.prior_cwnd = self.cwnd;
            self.ssthresh = self.cut();
        }
        self.acked = 0;
        self.stamp = tick(now);
        self.cubic = Cubic::default();
        self.bbr.timed_out();
    }

    /// The window while losses are repaired (`tcp_cwnd_reduction`).
    pub(super) fn reduce(&mut self, delivered: u32, lost: bool, advanced: bool) {
        if delivered > 0 && self.prior_cwnd > 0 {
            let in_flight = self.in_flight();
            let may_send = self.prr.quota(delivered, in_flight, self.ssthresh, self.prior_cwnd, advanced && !lost);
            self.cwnd = in_flight + may_send;
        }
    }

    /// Segments went out during a reduction.
    pub(super) fn reduction_sent(&mut self, segments: u32) {
        if self.state.is_reducing() {
            self.prr.sent(segments);
        }
    }

    /// The cut was a mistake (`tcp_undo_cwnd_reduction`).
    pub(super) fn undo(&mut self, now: Time) {
        if self.has_own_control() {
            self.bbr.undone();
        } else if self.prior_ssthresh > 0 {
            self.cwnd = self.cwnd.max(self.prior_cwnd);
            self.ssthresh = self.ssthresh.max(self.prior_ssthresh);
        }
        self.stamp = tick(now);
    }

    /// `acked` segments were delivered while nothing is being repaired: slow start, then as the algorithm says
    /// (`tcp_congestion_ops.cong_avoid`).
    pub(super) fn avoid(&mut self, acked: u32, now: Time) {
        if !self.is_limited() {
            return;
        }
        let mut acked = acked;
        if self.cwnd < self.ssthresh {
            let step = acked.min(self.ssthresh - self.cwnd);
            self.cwnd += step;
            acked -= step;
            if acked == 0 {
                return;
            }
        }
        let per_step = match self.algorithm {
            CongestionControl::Reno => self.cwnd,
            CongestionControl::Cubic => self.cubic.update(self.cwnd, acked, now),
            // BBR sets its window elsewhere.
            CongestionControl::Bbr => return,
        };
        self.additive_increase(per_step.max(1), acked);
    }

    /// One segment more for each `per_step` that were delivered (`tcp_cong_avoid_ai`).
    fn additive_increase(&mut self, per_step: u32, acked: u32) {
        if self.acked >= per_step {
            self.acked = 0;
            self.cwnd += 1;
        }
        self.acked += acked;
        if self.acked >= per_step {
            let steps = self.acked / per_step;
            self.acked -= steps * per_step;
            self.cwnd = self.cwnd.saturating_add(steps);
        }
    }

    /// A round trip was measured: HyStart may see in it that slow start has gone far enough (`bictcp_acked`). The least
    /// time between ACKs of two super-frames is `spacing`.
    pub(super) fn rtt_sampled(&mut self, cx: &Cx, rtt: u64, una: SeqNum, nxt: SeqNum, spacing: u64) {
        if self.algorithm != CongestionControl::Cubic {
            return;
        }
        let slow_start = self.cwnd < self.ssthresh;
        match self.cubic.sampled(rtt, cx.now, slow_start.then_some((self.cwnd, una, nxt, spacing))) {
            None => return,
            Some(Found::Train) => {
                cx.count(Counter::TcpExtTCPHystartTrainDetect);
                cx.count_n(Counter::TcpExtTCPHystartTrainCwnd, u64::from(self.cwnd));
            }
            Some(Found::Delay) => {
                cx.count(Counter::TcpExtTCPHystartDelayDetect);
                cx.count_n(Counter::TcpExtTCPHystartDelayCwnd, u64::from(self.cwnd));
            }
        }
        self.ssthresh = self.cwnd;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reno() -> Congestion {
        Congestion { algorithm: CongestionControl::Reno, limited: true, ..Congestion::new() }
    }

    #[test]
    fn the_window_doubles_per_round_trip_and_then_grows_by_one() {
        let mut cong = reno();
        cong.ssthresh = 20;
        cong.avoid(10, Time(1));
        assert_eq!(cong.cwnd, 20);
        cong.avoid(20, Time(1));
        assert_eq!(cong.cwnd, 21);
        cong.avoid(10, Time(1));
        assert_eq!(cong.cwnd, 21);
        cong.avoid(11, Time(1));
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
        cong.validate(false, (una, nxt), Time(1), 100, true);
        assert!(!cong.is_limited(), "half of it in flight");
        cong.packets_out = 6;
        cong.validate(false, (una, nxt), Time(1), 100, true);
        assert!(cong.is_limited(), "slow start: more than half of it in flight");
        cong.ssthresh = 10;
        assert!(!cong.is_limited(), "beyond slow start all of it has to be");
        cong.packets_out = 10;
        cong.validate(true, (una, nxt), Time(1), 100, true);
        assert!(cong.is_limited());
    }

    #[test]
    fn a_cut_that_was_a_mistake_is_undone() {
        let mut cong = reno();
        (cong.cwnd, cong.ssthresh) = (40, 60);
        cong.prior_ssthresh = cong.current_ssthresh();
        cong.begin_reduction();
        assert_eq!((cong.cwnd, cong.ssthresh), (40, 20));
        cong.cwnd = 20;
        cong.undo(Time(1));
        assert_eq!((cong.cwnd, cong.ssthresh), (40, 60));
    }
}
