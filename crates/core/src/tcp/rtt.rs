//! Round-trip time and retransmission timeout (RFC 6298, with Linux's bounds).
//!
//! `tcp_rtt_estimator`: the smoothed time moves by 1/8 of the error; the deviation by 1/4, and by only 1/32 while the
//! time falls, so that a falling round trip does not look like jitter. The deviation that counts is the largest of the
//! last round trip, and never below `tcp_rto_min`, so that the timeout is about the round trip plus 200 ms.

use rxpath_wire::SeqNum;

use super::{JIFFY, MS, RTO_INITIAL, RTO_MAX};

/// The estimator of one connection; all times in nanoseconds.
#[derive(Clone, Debug)]
pub struct RttEstimator {
    /// Smoothed round-trip time; 0 before the first sample.
    pub srtt: u64,
    /// Mean deviation.
    pub mdev: u64,
    /// Largest deviation within the current round trip.
    mdev_max: u64,
    /// The deviation that counts.
    pub rttvar: u64,
    /// When the current round trip of `mdev_max` ends.
    rtt_seq: SeqNum,
    /// Retransmission timeout without back-off, in whole ticks. What counts is [`RttEstimator::backed_off`] (`icsk_rto`).
    pub(super) rto: u64,
    /// Number of doublings of it that timeouts made (in `icsk_rto`).
    doubled: u8,
    /// Doublings that a closed window's probes reckon with besides: those of timeouts and of probes (`icsk_backoff`).
    pub backoff: u8,
    /// Timeouts since the peer last acknowledged something new.
    pub retransmits: u8,
    /// Smallest sample seen.
    pub min_rtt: u64,
    /// Smallest deviation that counts (`tcp_rto_min_us`).
    pub rto_min: u64,
}

impl Default for RttEstimator {
    fn default() -> RttEstimator {
        RttEstimator::new()
    }
}

impl RttEstimator {
    /// No sample yet: the timeout is one second.
    pub fn new() -> RttEstimator {
        RttEstimator {
            srtt: 0,
            mdev: 0,
            mdev_max: 0,
            rttvar: 0,
            rtt_seq: SeqNum(0),
            rto: RTO_INITIAL,
            doubled: 0,
            backoff: 0,
            retransmits: 0,
            min_rtt: u64::MAX,
            rto_min: 200 * MS,
        }
    }

    /// Takes a sample of `rtt` nanoseconds; `snd_una` and `snd_nxt` tell where the measured round trip ends.
    pub fn sample(&mut self, rtt: u64, snd_una: SeqNum, snd_nxt: SeqNum) {
        let rtt = rtt.max(1_000);
        self.note_least(rtt);
        if self.srtt == 0 {
            self.srtt = rtt;
            self.mdev = rtt / 2;
            self.rttvar = self.mdev.saturating_mul(4).max(self.rto_min);
            self.mdev_max = self.rttvar;
            self.rtt_seq = snd_nxt;
        } else {
            self.smooth(rtt);
            if self.mdev.saturating_mul(4) > self.mdev_max {
                self.mdev_max = self.mdev.saturating_mul(4);
                self.rttvar = self.rttvar.max(self.mdev_max);
            }
            if snd_una.after(self.rtt_seq) {
                if self.mdev_max < self.rttvar {
                    self.rttvar -= (self.rttvar - self.mdev_max) / 4;
                }
                self.rtt_seq = snd_nxt;
                self.mdev_max = self.rto_min;
            }
        }
        self.rto = (self.srtt + self.rttvar).next_multiple_of(JIFFY).min(RTO_MAX);
        (self.doubled, self.backoff) = (0, 0);
    }

    /// The handshake gave no sample, as its segment was sent again: the timeout is three seconds (RFC 6298 section 5.7).
    pub fn no_sample(&mut self) {
        (self.rto, self.doubled) = (3_000 * MS, 0);
    }

    /// A round trip took only so long: a segment that is no sample, because older ones were acknowledged with it.
    pub fn note_least(&mut self, rtt: u64) {
        self.min_rtt = self.min_rtt.min(rtt.max(1_000));
    }

    fn smooth(&mut self, rtt: u64) {
        let error = rtt.abs_diff(self.srtt);
        let falling = rtt < self.srtt;
        if falling {
            self.srtt -= error / 8;
        } else {
            self.srtt += error / 8;
        }
        if error > self.mdev {
            let gain = if falling { 32 } else { 4 };
            self.mdev += (error - self.mdev) / gain;
        } else {
            self.mdev -= (self.mdev - error) / 4;
        }
    }

    /// The timer fired: the next timeout is twice as long.
    pub fn back_off(&mut self) {
        self.double();
        self.retransmits = self.retransmits.saturating_add(1);
    }

    /// The timer fired because the window is closed: the next timeout doubles, and nobody counts a retransmission.
    pub fn double(&mut self) {
        self.doubled = self.doubled.saturating_add(1);
        self.backoff = self.backoff.saturating_add(1);
    }

    /// The timer fired, and the next timeout is as long as if it had not.
    pub fn repeat(&mut self) {
        (self.doubled, self.backoff) = (0, 0);
        self.retransmits = self.retransmits.saturating_add(1);
    }

    /// The last doubling is taken back; what was made of a handshake without a sample is forgotten with it.
    pub fn revert(&mut self) {
        if self.srtt == 0 {
            self.rto = RTO_INITIAL;
        }
        self.backoff = self.backoff.saturating_sub(1);
        self.doubled = self.backoff;
    }

    /// The timeout with its back-off, at most two minutes.
    pub fn backed_off(&self) -> u64 {
        // Ten doublings of the smallest timeout exceed the largest one.
        (self.rto << self.doubled.min(10)).min(RTO_MAX)
    }

    /// The time from one probe of a closed window to the next (`tcp_probe0_when`). Doublings by timeouts count twice where no
    /// sample has ended them.
    pub fn until_probe(&self) -> u64 {
        (self.backed_off().max(self.rto_min) << self.backoff.min(10)).min(RTO_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_the_round_trip_plus_the_minimum() {
        let mut rtt = RttEstimator::new();
        assert_eq!(rtt.rto, 1_000 * MS);
        for _ in 0..50 {
            rtt.sample(90 * MS, SeqNum(1), SeqNum(1));
        }
        assert!((290 * MS..300 * MS).contains(&rtt.rto), "{} ms", rtt.rto / MS);
    }

    #[test]
    fn back_off_doubles_up_to_two_minutes_and_a_sample_ends_it() {
        let mut rtt = RttEstimator::new();
        rtt.sample(MS, SeqNum(1), SeqNum(2));
        let base = rtt.rto;
        for _ in 0..3 {
            rtt.back_off();
        }
        assert_eq!(rtt.backed_off(), base * 8);
        assert_eq!(rtt.until_probe(), base * 64, "the doublings count again");
        for _ in 0..60 {
            rtt.back_off();
        }
        assert_eq!((rtt.backed_off(), rtt.until_probe()), (RTO_MAX, RTO_MAX));
        rtt.sample(MS, SeqNum(1), SeqNum(2));
        assert_eq!((rtt.backed_off(), rtt.until_probe(), rtt.backoff), (base, base, 0));
    }

    #[test]
    fn a_falling_round_trip_does_not_look_like_jitter() {
        let (mut falling, mut rising) = (RttEstimator::new(), RttEstimator::new());
        falling.sample(800 * MS, SeqNum(1), SeqNum(1));
        rising.sample(800 * MS, SeqNum(1), SeqNum(1));
        falling.sample(100 * MS, SeqNum(1), SeqNum(1));
        rising.sample(1_500 * MS, SeqNum(1), SeqNum(1));
        assert!(falling.mdev < rising.mdev);
    }
}
