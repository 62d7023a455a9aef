//! BBR (draft-cardwell-iccrg-bbr-congestion-control-00): the sender models the path by its bandwidth, the most that was
//! delivered in any of ten round trips, and its propagation time, the least round trip in ten seconds. It sends at that
//! bandwidth and keeps about two of their products in flight; losses alone do not slow it down.
//!
//! To notice changes it asks for more now and then (each eighth round trip) and empties the queue that this may have made;
//! and if no round trip was as short for ten seconds, it sends next to nothing for a moment, to see the path without its own
//! queue. Names are the draft's.
//!
//! As Linux does, it sends one per cent below what it has found, so that queues drain.

use rxpath_trace::Time;

use super::super::MS;
use super::super::rate::Sample;
use super::{CaState, INITIAL_CWND};

/// One, in the unit of gains.
pub(super) const UNIT: u32 = 256;
/// 2/ln 2: the smallest gain that doubles the rate in a round trip.
const HIGH_GAIN: u32 = 739;
/// Its inverse, which drains in a round trip what that has queued.
const DRAIN_GAIN: u32 = 88;
/// Two products of bandwidth and time in flight, as ACKs may be delayed.
const CWND_GAIN: u32 = 2 * UNIT;
/// A phase is a round trip long.
const GAIN_CYCLE: [u32; 8] = [UNIT * 5 / 4, UNIT * 3 / 4, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT];
/// Rounds of the bandwidth's filter.
const BW_ROUNDS: u32 = 10;
/// Time of the propagation time's.
const RTPROP_FILTER: u64 = 10_000 * MS;
/// How long next to nothing is in flight then.
const PROBE_RTT: u64 = 200 * MS;
/// Next to nothing, in segments.
const CWND_MIN: u32 = 4;
/// Rounds without growth by a quarter after which the pipe is full.
const FULL_ROUNDS: u8 = 3;
/// Below this rate, in bytes per second, super-frames have one segment.
const SLOW: u64 = 1_200_000 / 8;
const SECOND: u64 = 1_000 * MS;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Startup,
    Drain,
    ProbeBw,
    ProbeRtt,
}

/// The largest of the last ten rounds. It fades only as new samples come.
#[derive(Clone, Copy, Debug, Default)]
struct MaxFilter {
    rounds: [(u32, u64); BW_ROUNDS as usize],
    best: u64,
}

impl MaxFilter {
    fn update(&mut self, round: u32, value: u64) {
        let slot = &mut self.rounds[(round % BW_ROUNDS) as usize];
        *slot = (round, if slot.0 == round { slot.1.max(value) } else { value });
        let recent = self.rounds.iter().filter(|(then, _)| round.wrapping_sub(*then) < BW_ROUNDS);
        self.best = recent.map(|&(_, value)| value).max().unwrap_or(value);
    }
}

/// What an ACK brings.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Ack {
    pub(in super::super) now: Time,
    pub(in super::super) sample: Option<Sample>,
    /// A round trip was measured, in nanoseconds.
    pub(in super::super) rtt: Option<u64>,
    /// Segments that it delivered, and that it has shown to be lost.
    pub(in super::super) delivered: u32,
    pub(in super::super) lost: u32,
    /// Segments in flight before and after it.
    pub(in super::super) in_flight_before: u32,
    pub(in super::super) in_flight: u32,
    /// Segments delivered in all.
    pub(in super::super) delivered_in_all: u32,
    pub(in super::super) mss: u32,
    /// Segments that leave as one.
    pub(in super::super) quantum: u32,
    pub(in super::super) state: CaState,
    /// A random number, for where the cycle of gains begins.
    pub(in super::super) random: u32,
}

/// State of one connection; windows in segments, bandwidth in bytes per second, gains in 256ths.
#[derive(Clone, Debug, Default)]
pub(super) struct Bbr {
    mode: Mode,
    btl_bw: MaxFilter,
    /// 0 is unknown.
    rtprop: u64,
    rtprop_stamp: Time,
    probe_rtt_done: Option<Time>,
    probe_rtt_round_done: bool,
    pub(super) pacing_gain: u32,
    pub(super) cwnd_gain: u32,
    next_round_delivered: u32,
    round: u32,
    round_start: bool,
    filled_pipe: bool,
    full_bw: u64,
    full_bw_count: u8,
    cycle_index: u8,
    cycle_stamp: Time,
    prior_cwnd: u32,
    restores_cwnd: bool,
    packet_conservation: bool,
    idle_restart: bool,
    was: Option<CaState>,
}

/// What the window and the pacing rate become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) cwnd: u32,
    pub(super) pacing_rate: u64,
    /// What is in flight now is little on purpose.
    pub(super) app_limited: bool,
}

impl Bbr {
    /// The rate before there are samples: the window in a round trip, or in a millisecond if none is known.
    pub(super) fn initial_rate(&self, cwnd: u32, mss: u32, srtt: u64) -> u64 {
        let srtt = if srtt == 0 { MS } else { srtt };
        paced(HIGH_GAIN, u64::from(cwnd) * u64::from(mss) * SECOND / srtt)
    }

    /// Bytes per second that the path carries; 0 is unknown.
    pub(super) fn bandwidth(&self) -> u64 {
        self.btl_bw.best
    }

    /// The round trip of the empty path, in nanoseconds; 0 is unknown.
    pub(super) fn rtprop(&self) -> u64 {
        self.rtprop
    }

    /// Segments of a super-frame at the least (section 4.2.2).
    pub(super) fn tso_segs_min(rate: u64) -> u32 {
        if rate < SLOW { 1 } else { 2 }
    }

    /// An ACK: the model, then the controls (section 4.1.1). `cwnd` and `rate` are what they are now.
    pub(super) fn on_ack(&mut self, ack: &Ack, cwnd: u32, rate: u64) -> Control {
        self.update_round(ack);
        self.update_bandwidth(ack);
        self.check_cycle_phase(ack);
        self.check_full_pipe(ack);
        self.check_drain(ack);
        let app_limited = self.update_rtprop(ack, cwnd);
        self.update_gains();
        let pacing_rate = self.pacing_rate(self.pacing_gain, rate);
        let cwnd = self.cwnd(ack, cwnd);
        self.was = Some(ack.state);
        Control { cwnd, pacing_rate, app_limited }
    }

    /// Section 4.1.1.3: a round trip ends when a segment is delivered that was sent after it began.
    fn update_round(&mut self, ack: &Ack) {
        let Some(sample) = ack.sample else {
            self.round_start = false;
            return;
        };
        self.round_start = (sample.prior_delivered.wrapping_sub(self.next_round_delivered) as i32) >= 0;
        if self.round_start {
            self.next_round_delivered = ack.delivered_in_all;
            self.round = self.round.wrapping_add(1);
            self.packet_conservation = false;
        }
    }

    fn update_bandwidth(&mut self, ack: &Ack) {
        let Some(sample) = ack.sample else { return };
        let bytes = u64::from(sample.delivered) * u64::from(ack.mss);
        let rate = bytes.saturating_mul(SECOND) / sample.interval.max(1);
        if rate >= self.btl_bw.best || !sample.app_limited {
            self.btl_bw.update(self.round, rate);
        }
    }

    /// So many segments in flight fill the path `gain` times (section 4.2.3.2).
    fn inflight(&self, gain: u32, ack: &Ack) -> u32 {
        if self.rtprop == 0 {
            return INITIAL_CWND;
        }
        let product = u128::from(self.btl_bw.best) * u128::from(self.rtprop) * u128::from(gain);
        let segments = product.div_ceil(u128::from(SECOND) * u128::from(UNIT) * u128::from(ack.mss.max(1)));
        (segments.min(u128::from(u32::MAX / 2)) as u32).saturating_add(3 * ack.quantum)
    }

    /// Section 4.3.4.4.
    fn check_cycle_phase(&mut self, ack: &Ack) {
        if self.mode != Mode::ProbeBw {
            return;
        }
        let full_length = ack.now - self.cycle_stamp > self.rtprop;
        let next = match self.pacing_gain {
            // Longer, until losses or the flight show that the path has seen the higher rate.
            gain if gain > UNIT => full_length && (ack.lost > 0 || ack.in_flight_before >= self.inflight(gain, ack)),
            // Shorter, if the queue is gone.
            gain if gain < UNIT => full_length || ack.in_flight_before <= self.inflight(UNIT, ack),
            _ => full_length,
        };
        if next {
            self.advance_cycle(ack.now);
        }
    }

    fn advance_cycle(&mut self, now: Time) {
        self.cycle_stamp = now;
        self.cycle_index = (self.cycle_index + 1) % GAIN_CYCLE.len() as u8;
    }

    /// Section 4.3.2.2: the bandwidth has not grown by a quarter in three rounds.
    fn check_full_pipe(&mut self, ack: &Ack) {
        let app_limited = ack.sample.is_none_or(|sample| sample.app_limited);
        if self.filled_pipe || !self.round_start || app_limited {
            return;
        }
        if self.btl_bw.best >= self.full_bw + self.full_bw / 4 {
            (self.full_bw, self.full_bw_count) = (self.btl_bw.best, 0);
            return;
        }
        self.full_bw_count += 1;
        self.filled_pipe = self.full_bw_count >= FULL_ROUNDS;
    }

    /// Section 4.3.3.
    fn check_drain(&mut self, ack: &Ack) {
        if self.mode == Mode::Startup && self.filled_pipe {
            self.mode = Mode::Drain;
        }
        if self.mode == Mode::Drain && ack.in_flight <= self.inflight(UNIT, ack) {
            self.enter_probe_bw(ack);
        }
    }

    /// Anywhere in the cycle but where it drains (section 4.3.4.3).
    fn enter_probe_bw(&mut self, ack: &Ack) {
        self.mode = Mode::ProbeBw;
        let phases = GAIN_CYCLE.len() as u32;
        self.cycle_index = (phases - 1 - ack.random % (phases - 1)) as u8;
        self.advance_cycle(ack.now);
    }

    /// Sections 4.1.2 and 4.3.5. True while little is in flight on purpose.
    fn update_rtprop(&mut self, ack: &Ack, cwnd: u32) -> bool {
        let expired = self.rtprop_stamp != Time::ZERO && ack.now > self.rtprop_stamp + RTPROP_FILTER;
        if let Some(rtt) = ack.rtt.filter(|&rtt| self.rtprop == 0 || rtt <= self.rtprop || expired) {
            (self.rtprop, self.rtprop_stamp) = (rtt.max(1), ack.now);
        }
        if expired && !self.idle_restart && self.mode != Mode::ProbeRtt {
            self.save_cwnd(cwnd, ack.state);
            self.mode = Mode::ProbeRtt;
            self.probe_rtt_done = None;
        }
        let probing = self.mode == Mode::ProbeRtt;
        if probing {
            self.probe_rtt(ack);
        }
        if ack.delivered > 0 {
            self.idle_restart = false;
        }
        probing
    }

    fn probe_rtt(&mut self, ack: &Ack) {
        match self.probe_rtt_done {
            None if ack.in_flight <= CWND_MIN => {
                self.probe_rtt_done = Some(ack.now + PROBE_RTT);
                self.probe_rtt_round_done = false;
                self.next_round_delivered = ack.delivered_in_all;
            }
            Some(done) => {
                self.probe_rtt_round_done |= self.round_start;
                if self.probe_rtt_round_done && ack.now > done {
                    self.rtprop_stamp = ack.now;
                    self.restores_cwnd = true;
                    if self.filled_pipe {
                        self.enter_probe_bw(ack);
                    } else {
                        self.mode = Mode::Startup;
                    }
                }
            }
            None => {}
        }
    }

    fn update_gains(&mut self) {
        (self.pacing_gain, self.cwnd_gain) = match self.mode {
            Mode::Startup => (HIGH_GAIN, HIGH_GAIN),
            Mode::Drain => (DRAIN_GAIN, HIGH_GAIN),
            Mode::ProbeBw => (GAIN_CYCLE[usize::from(self.cycle_index)], CWND_GAIN),
            Mode::ProbeRtt => (UNIT, UNIT),
        };
    }

    /// Section 4.2.1: until the pipe is full the rate only rises.
    fn pacing_rate(&self, gain: u32, rate: u64) -> u64 {
        let wanted = paced(gain, self.btl_bw.best);
        if self.btl_bw.best > 0 && (self.filled_pipe || wanted > rate) { wanted } else { rate }
    }

    /// Section 4.2.3.
    fn cwnd(&mut self, ack: &Ack, before: u32) -> u32 {
        let mut cwnd = before;
        if std::mem::take(&mut self.restores_cwnd) {
            cwnd = cwnd.max(self.prior_cwnd);
        }
        if ack.delivered > 0 {
            cwnd = self.modulated_for_recovery(ack, cwnd);
            if self.packet_conservation {
                cwnd = cwnd.max(ack.in_flight + ack.delivered);
            } else {
                let target = self.inflight(self.cwnd_gain, ack);
                if self.filled_pipe {
                    cwnd = cwnd.saturating_add(ack.delivered).min(target);
                } else if cwnd < target || ack.delivered_in_all < INITIAL_CWND {
                    cwnd = cwnd.saturating_add(ack.delivered);
                }
                cwnd = cwnd.max(CWND_MIN);
            }
        }
        if self.mode == Mode::ProbeRtt { cwnd.min(CWND_MIN) } else { cwnd }
    }

    /// In the first round trip of a recovery only as much is sent as is delivered; behind it the window is what it was
    /// (section 4.2.3.4).
    fn modulated_for_recovery(&mut self, ack: &Ack, before: u32) -> u32 {
        let mut cwnd = if ack.lost > 0 { before.saturating_sub(ack.lost).max(1) } else { before };
        let recovering = |state: CaState| state.is_recovering();
        let was = self.was.unwrap_or(CaState::Open);
        if ack.state == CaState::Recovery && was != CaState::Recovery {
            self.packet_conservation = true;
            self.next_round_delivered = ack.delivered_in_all;
            cwnd = ack.in_flight + ack.delivered;
        } else if recovering(was) && !recovering(ack.state) {
            self.packet_conservation = false;
            cwnd = cwnd.max(self.prior_cwnd);
        }
        cwnd
    }

    /// A loss, or a timeout, is about to change the window (`bbr_save_cwnd`).
    pub(super) fn save_cwnd(&mut self, cwnd: u32, state: CaState) {
        let anew = !state.is_recovering() && self.mode != Mode::ProbeRtt;
        self.prior_cwnd = if anew { cwnd } else { self.prior_cwnd.max(cwnd) };
    }

    /// A timeout: what was known of the pipe's filling is forgotten, and a round begins.
    pub(super) fn timed_out(&mut self) {
        self.full_bw = 0;
        self.round_start = true;
        self.was = Some(CaState::Loss);
    }

    /// What looked like a loss was none.
    pub(super) fn undone(&mut self) {
        (self.full_bw, self.full_bw_count) = (0, 0);
    }

    /// Sending begins anew after the application had nothing to say (section 4.3.4.4): at the path's own rate, if that is
    /// known.
    pub(super) fn restart(&mut self) -> Option<u64> {
        self.idle_restart = true;
        (self.mode == Mode::ProbeBw).then(|| paced(UNIT, self.btl_bw.best))
    }
}

/// The rate at which a bandwidth is used.
fn paced(gain: u32, bandwidth: u64) -> u64 {
    (u128::from(bandwidth) * u128::from(gain) * 99 / (u128::from(UNIT) * 100)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1_000;

    fn ack(now: u64, delivered_in_all: u32, delivered: u32, rtt: u64) -> Ack {
        let sample =
            Sample { delivered, interval: rtt, prior_delivered: delivered_in_all - delivered, app_limited: false };
        Ack {
            now: Time(now),
            sample: Some(sample),
            rtt: Some(rtt),
            delivered,
            lost: 0,
            in_flight_before: delivered,
            in_flight: 0,
            delivered_in_all,
            mss: MSS,
            quantum: 1,
            state: CaState::Open,
            random: 3,
        }
    }

    /// Round trips of 100 ms over a path that carries `per_round` segments in one; gives modes and windows.
    fn run(bbr: &mut Bbr, per_round: u32, rounds: u32) -> Vec<(Mode, u32)> {
        let (mut cwnd, mut rate, mut total, mut seen) = (10, 0, 0, Vec::new());
        for round in 1..=rounds {
            let delivered = cwnd.min(per_round);
            total += delivered;
            let control = bbr.on_ack(&ack(u64::from(round) * 100 * MS, total, delivered, 100 * MS), cwnd, rate);
            (cwnd, rate) = (control.cwnd, control.pacing_rate);
            seen.push((bbr.mode, cwnd));
        }
        seen
    }

    #[test]
    fn the_pipe_is_filled_drained_and_then_probed() {
        let mut bbr = Bbr::default();
        let seen = run(&mut bbr, 100, 20);
        assert_eq!(seen[0].0, Mode::Startup);
        let (last, cwnd) = seen[19];
        assert_eq!(last, Mode::ProbeBw);
        assert_eq!(bbr.bandwidth(), 1_000_000, "100 segments of 1000 bytes in 100 ms");
        assert_eq!(cwnd, 2 * 100 + 3);
    }

    #[test]
    fn the_bandwidth_is_the_most_of_ten_rounds() {
        let mut filter = MaxFilter::default();
        filter.update(1, 500);
        (2..11).for_each(|round| filter.update(round, 100));
        assert_eq!(filter.best, 500);
        filter.update(11, 100);
        assert_eq!(filter.best, 100);
    }

    #[test]
    fn after_ten_seconds_without_a_shorter_round_trip_the_flight_is_small_for_a_moment() {
        let mut bbr = Bbr::default();
        run(&mut bbr, 100, 20);
        let mut total = 2_000;
        let mut at = |ms: u64, cwnd: u32, in_flight: u32| {
            total += 1;
            bbr.on_ack(&Ack { in_flight, ..ack(ms * MS, total, 1, 101 * MS) }, cwnd, 1)
        };
        let small = at(12_050, 203, 50);
        assert_eq!((small.cwnd, small.app_limited), (CWND_MIN, true));
        at(12_100, CWND_MIN, CWND_MIN);
        assert_eq!(at(12_200, CWND_MIN, CWND_MIN).cwnd, CWND_MIN, "200 ms are not over");
        let back = at(12_400, CWND_MIN, CWND_MIN);
        assert!(back.cwnd >= 200, "{back:?}");
    }

    #[test]
    fn a_loss_alone_leaves_the_model_as_it_is() {
        let mut bbr = Bbr::default();
        run(&mut bbr, 100, 20);
        bbr.save_cwnd(203, CaState::Open);
        let lost = Ack { lost: 2, state: CaState::Recovery, in_flight: 80, ..ack(2_100 * MS, 2_100, 10, 100 * MS) };
        assert_eq!(bbr.on_ack(&lost, 203, 1).cwnd, 90, "as much as was delivered, for a round trip");
        let over = Ack { in_flight: 90, ..ack(2_200 * MS, 2_200, 10, 100 * MS) };
        assert!(bbr.on_ack(&over, 90, 1).cwnd >= 200);
        assert_eq!(bbr.bandwidth(), 1_000_000);
    }
}
