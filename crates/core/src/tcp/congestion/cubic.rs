//! CUBIC (RFC 9438) with HyStart: the window grows as a cubic function of the time since the last cut, flat around the
//! window at which that happened; slow start ends before it loses segments, when ACK trains or delays tell.

use rxpath_trace::Time;
use rxpath_wire::SeqNum;

use super::super::{MS, tick};

/// The multiplicative decrease, in 1024ths (RFC 9438 section 4.6 has 0.7).
const BETA: u64 = 717;
/// Nanoseconds in a second.
const SECOND: u64 = 1_000 * MS;
/// Delays are not sampled for this long after a cut.
const QUIET: u64 = SECOND;
/// The function is not evaluated more often than this while the window stands.
const STEP: u64 = SECOND / 32;
/// Windows below this are too small for HyStart.
const HYSTART_LOW_WINDOW: u32 = 16;
/// ACKs of one train are at most so far apart.
const HYSTART_TRAIN_GAP: u64 = 2 * MS;
/// Samples of a round before its delay counts.
const HYSTART_MIN_SAMPLES: u8 = 8;
/// Bounds of the increase of delay that ends slow start.
const HYSTART_DELAY: (u64, u64) = (4 * MS, 16 * MS);

/// What ended slow start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A train of ACKs as long as the path.
    Train,
    /// Round trips became longer.
    Delay,
}

/// State of one connection; windows in segments.
#[derive(Clone, Debug, Default)]
pub(super) struct Cubic {
    /// Segments to be delivered for one step of the window.
    per_step: u32,
    /// The window at the last cut, less a share if that was below the cut before it.
    last_max: u32,
    /// The window when the function was last evaluated, and when.
    last: Option<(u32, Time)>,
    /// When the current epoch began.
    epoch: Option<Time>,
    /// The plateau of the function.
    origin: u32,
    /// When the plateau is reached, in milliseconds of the epoch.
    k_ms: u64,
    /// Segments delivered in this epoch, not yet counted into `reno`.
    delivered: u32,
    /// The window that Reno would have.
    reno: u32,
    /// Smallest round trip seen; 0 is none.
    delay_min: u64,
    /// HyStart.
    hystart: Hystart,
}

#[derive(Clone, Debug, Default)]
struct Hystart {
    found: bool,
    samples: u8,
    round_start: Time,
    last_ack: Time,
    end_seq: Option<SeqNum>,
    /// Smallest round trip of the round.
    rtt: u64,
}

/// The integer cube root, rounded down.
fn cube_root(value: u64) -> u64 {
    let mut root = 0u64;
    for bit in (0..22).rev() {
        let more = root | 1 << bit;
        if more.checked_mul(more * more).is_some_and(|cube| cube <= value) {
            root = more;
        }
    }
    root
}

impl Cubic {
    /// The threshold after a cut of `cwnd` (RFC 9438 sections 4.6 and 4.7: fast convergence).
    pub(super) fn cut(&mut self, cwnd: u32) -> u32 {
        self.epoch = None;
        let window = u64::from(cwnd);
        self.last_max = if cwnd < self.last_max { (window * (1_024 + BETA) / 2_048) as u32 } else { cwnd };
        ((window * BETA / 1_024) as u32).max(2)
    }

    /// Nothing was sent for a while: that time does not count.
    pub(super) fn idle(&mut self, idle: u64, now: Time) {
        if let Some(epoch) = &mut self.epoch {
            *epoch = Time((epoch.0 + idle).min(now.0));
        }
    }

    /// How many segments must be delivered for one step of the window (`bictcp_update`).
    pub(super) fn update(&mut self, cwnd: u32, acked: u32, now: Time) -> u32 {
        let at = tick(now);
        self.delivered = self.delivered.saturating_add(acked);
        if self.last.is_some_and(|(window, then)| window == cwnd && at - then <= STEP) {
            return self.per_step;
        }
        let same_tick = self.epoch.is_some() && self.last.is_some_and(|(_, then)| then == at);
        self.last = Some((cwnd, at));
        if !same_tick {
            let target = self.target(cwnd, acked, at);
            self.per_step = if target > cwnd { cwnd / (target - cwnd) } else { cwnd.saturating_mul(100) };
            // Without a plateau to go to, the window is to double in a while all the same.
            if self.last_max == 0 && self.per_step > 20 {
                self.per_step = 20;
            }
        }
        self.not_slower_than_reno(cwnd);
        self.per_step = self.per_step.max(2);
        self.per_step
    }

    /// The function, one smallest round trip ahead (RFC 9438 section 4.2).
    fn target(&mut self, cwnd: u32, acked: u32, at: Time) -> u32 {
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => {
                self.delivered = acked;
                self.reno = cwnd;
                if self.last_max <= cwnd {
                    (self.k_ms, self.origin) = (0, cwnd);
                } else {
                    // C is 0.4 segments per cubic second.
                    self.k_ms = cube_root(u64::from(self.last_max - cwnd) * 2_500_000_000);
                    self.origin = self.last_max;
                }
                self.epoch = Some(at);
                at
            }
        };
        let elapsed_ms = ((at - epoch) + self.delay_min) / MS;
        // Four minutes from the plateau no window is large enough.
        let distance = elapsed_ms.abs_diff(self.k_ms).min(1 << 18);
        let step = (distance * distance * distance / 2_500_000_000).min(u64::from(u32::MAX)) as u32;
        if elapsed_ms < self.k_ms { self.origin.saturating_sub(step) } else { self.origin.saturating_add(step) }
    }

    /// On short paths Reno would be faster; then as fast as Reno (RFC 9438 section 4.3).
    fn not_slower_than_reno(&mut self, cwnd: u32) {
        // Three times (1 - beta) / (1 + beta) of a segment for each window delivered.
        let per_step = (u64::from(cwnd) * 15 / 8).max(1) as u32;
        let steps = self.delivered / per_step;
        self.delivered -= steps * per_step;
        self.reno = self.reno.saturating_add(steps);
        if self.reno > cwnd {
            self.per_step = self.per_step.min(cwnd / (self.reno - cwnd));
        }
    }

    /// A round trip was measured. In slow start, with the window, `snd_una`, `snd_nxt` and the least time between ACKs of
    /// super-frames, HyStart looks at it.
    pub(super) fn sampled(
        &mut self,
        rtt: u64,
        now: Time,
        slow_start: Option<(u32, SeqNum, SeqNum, u64)>,
    ) -> Option<Found> {
        if self.epoch.is_some_and(|epoch| now - epoch < QUIET) {
            return None;
        }
        let rtt = rtt.max(1_000);
        if self.delay_min == 0 || self.delay_min > rtt {
            self.delay_min = rtt;
        }
        let (cwnd, una, nxt, spacing) = slow_start?;
        if self.hystart.found || cwnd < HYSTART_LOW_WINDOW {
            return None;
        }
        let found = self.hystart.update(rtt, self.delay_min, now, (una, nxt), spacing);
        self.hystart.found = found.is_some();
        found
    }
}

impl Hystart {
    /// `hystart_update`.
    fn update(
        &mut self,
        rtt: u64,
        delay_min: u64,
        now: Time,
        (una, nxt): (SeqNum, SeqNum),
        spacing: u64,
    ) -> Option<Found> {
        if self.end_seq.is_none_or(|end_seq| una.after(end_seq)) {
            let found = self.found;
            *self = Hystart {
                found,
                round_start: now,
                last_ack: now,
                end_seq: Some(nxt),
                rtt: u64::MAX,
                ..Hystart::default()
            };
        }
        if now - self.last_ack <= HYSTART_TRAIN_GAP {
            self.last_ack = now;
            // Nothing paces the sender, so half of the path will do.
            if now - self.round_start > (delay_min + spacing) / 2 {
                return Some(Found::Train);
            }
        }
        self.rtt = self.rtt.min(rtt);
        if self.samples < HYSTART_MIN_SAMPLES {
            self.samples += 1;
            return None;
        }
        let allowed = (delay_min / 8).clamp(HYSTART_DELAY.0, HYSTART_DELAY.1);
        (self.rtt > delay_min + allowed).then_some(Found::Delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cube_roots_are_exact() {
        for root in [0, 1, 2, 9, 1_000, 65_535, 2_000_000] {
            let cube = root * root * root;
            assert_eq!(cube_root(cube), root);
            assert_eq!(cube_root((cube + 1).max(1) - 1), root);
            if root > 0 {
                assert_eq!(cube_root(cube - 1), root - 1);
            }
        }
        cube_root(u64::MAX);
    }

    /// Runs a path of 100 ms whose ACKs all come; gives the window after each second.
    fn run(cubic: &mut Cubic, mut cwnd: u32, seconds: u64) -> Vec<u32> {
        let (mut windows, mut acked) = (Vec::new(), 0);
        cubic.delay_min = 100 * MS;
        for ms in 0..seconds * 1_000 {
            let now = Time::from_millis(1_000_000 + ms);
            acked += u64::from(cwnd);
            // A window in 100 ms.
            while acked >= 100 {
                let segments = (acked / 100) as u32;
                acked %= 100;
                let per_step = cubic.update(cwnd, segments, now);
                cubic.acked_for_test(&mut cwnd, per_step, segments);
            }
            if ms % 1_000 == 999 {
                windows.push(cwnd);
            }
        }
        windows
    }

    impl Cubic {
        /// Additive increase without the remainder: good enough to see the shape.
        fn acked_for_test(&mut self, cwnd: &mut u32, per_step: u32, segments: u32) {
            let total = self.hystart.rtt + u64::from(segments);
            *cwnd += (total / u64::from(per_step)) as u32;
            self.hystart.rtt = total % u64::from(per_step);
        }
    }

    #[test]
    fn the_window_returns_to_where_it_was_cut_and_rests_there() {
        let mut cubic = Cubic::default();
        let threshold = cubic.cut(1_000);
        assert_eq!(threshold, 700);
        let windows = run(&mut cubic, threshold, 14);
        // K is the cube root of 300 / 0.4: about nine seconds.
        assert!((8_950..9_100).contains(&cubic.k_ms), "{}", cubic.k_ms);
        assert!(windows.is_sorted(), "{windows:?}");
        assert!(windows[1] > 820, "fast at first: {windows:?}");
        assert!((985..=1_005).contains(&windows[8]), "flat at the plateau: {windows:?}");
        assert!(windows[13] > 1_040, "and on, faster and faster: {windows:?}");
    }

    #[test]
    fn a_cut_below_the_last_one_makes_room_for_others() {
        let mut cubic = Cubic::default();
        cubic.cut(1_000);
        assert_eq!(cubic.last_max, 1_000);
        cubic.cut(800);
        assert_eq!(cubic.last_max, 680, "(1 + 0.7) / 2 of it");
    }

    #[test]
    fn hystart_ends_slow_start_when_the_delay_rises() {
        let mut cubic = Cubic::default();
        let (una, nxt) = (SeqNum(1_000), SeqNum(50_000));
        let next = nxt + 1;
        let sample = |cubic: &mut Cubic, ms: u64, at: u64, una: SeqNum| {
            let nxt = if una == next { nxt + 50_000 } else { nxt };
            cubic.sampled(ms * MS, Time::from_millis(at), Some((32, una, nxt, 0)))
        };
        for nth in 0..9 {
            assert_eq!(sample(&mut cubic, 40, 1_000 + 4 * nth, una), None);
        }
        let found: Vec<_> = (0..9).map(|nth| sample(&mut cubic, 60, 1_100 + 4 * nth, next)).collect();
        assert_eq!(found.last(), Some(&Some(Found::Delay)));
        assert!(found[..8].iter().all(Option::is_none), "not before eight samples");
        assert_eq!(sample(&mut cubic, 90, 1_200, next), None, "once");
    }

    #[test]
    fn hystart_ends_slow_start_when_a_train_is_as_long_as_half_the_path() {
        let mut cubic = Cubic::default();
        let mut found = None;
        for nth in 0..40 {
            let at = Time::from_millis(1_000 + nth);
            found =
                found.or(cubic.sampled(40 * MS, at, Some((32, SeqNum(1_000), SeqNum(50_000), 0))).map(|f| (f, nth)));
        }
        assert_eq!(found, Some((Found::Train, 21)));
    }
}
