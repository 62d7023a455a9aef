//! The kernel's tick: when it comes, and whether it is late.
//!
//! Timers and much of what TCP measures count in ticks of 1/HZ. On a busy machine a tick can be late, and what counts in
//! ticks then sees an earlier time than the clock tells. The coarse clock moves with the tick and gives both away.

use std::ops::RangeInclusive;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

pub const MS: u64 = 1_000_000;
/// The tick that is reckoned with: 4 ms at 250 Hz.
pub const TICK: u64 = 4 * MS;
/// How often the coarse clock is watched moving.
const LOOKS: usize = 8;
/// What a step may take: nanoseconds.
pub const TOO_LONG: u64 = 250_000;
/// Time after a tick, or a millisecond, that no step begins in.
const MARGIN: u64 = 40_000;
/// When the 32 bits of the kernel's ticks pass zero, since it was started: nanoseconds.
const TICKS_WRAP: u64 = 300_000 * MS;
/// How long a listener that has sent a cookie believes that others come back: nanoseconds.
const COOKIES_LIVE: u64 = 120_000 * MS;
/// What the longest case takes, generously, and more than the counts of ticks and of nanoseconds may be apart: nanoseconds.
const LONG_CASE: u64 = 30_000 * MS;
const APART: u64 = 2_000 * MS;

/// Nanoseconds on the kernel's monotonic clock.
pub fn clock() -> u64 {
    nanos(clock_gettime(ClockId::Monotonic))
}

fn coarse() -> u64 {
    nanos(clock_gettime(ClockId::MonotonicCoarse))
}

fn nanos(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How long no case is to begin on a kernel that was started so long before. Ticks of zero are the time of the last cookie of
/// a listener that has sent none: for two minutes behind that moment each of them believes to have sent some lately, and
/// counts ACKs that it would refuse at any other time (`TcpExtSyncookiesFailed`).
pub fn until_cookies_count(since_start: u64) -> Option<Duration> {
    let (from, to) = (TICKS_WRAP - LONG_CASE, TICKS_WRAP + COOKIES_LIVE + APART);
    (from..to).contains(&since_start).then(|| Duration::from_nanos(to - since_start))
}

/// The tick of the running machine.
#[derive(Clone, Copy, Debug)]
pub struct Tick {
    /// One moment at which it came.
    came: u64,
    /// What the coarse clock showed from then on.
    shown: u64,
}

impl Tick {
    /// Watches the coarse clock move, for some ticks. Being late to see it move is an error to one side only.
    pub fn find() -> Tick {
        let mut seen = [Tick { came: 0, shown: 0 }; LOOKS];
        let mut last = coarse();
        for seen in &mut seen {
            while seen.came == 0 {
                let shown = coarse();
                if shown != last {
                    *seen = Tick { came: clock(), shown };
                    last = shown;
                }
            }
        }
        let late = |tick: &Tick| tick.came.wrapping_sub(tick.shown);
        seen.into_iter().min_by_key(late).unwrap_or(seen[0])
    }

    /// The last tick before `now`.
    pub fn before(&self, now: u64) -> u64 {
        now - (now - self.came) % TICK
    }

    /// True while a tick that is due at `now` has not come.
    pub fn is_late(&self, now: u64) -> bool {
        let due = (now - self.came) / TICK;
        // The coarse clock gains a few nanoseconds per tick: to the nearest.
        let came = (coarse().saturating_sub(self.shown) + TICK / 2) / TICK;
        came < due
    }

    /// Where in a millisecond, counted from a tick, steps may begin: where both the stack's millisecond clock, which
    /// counts from a tick, and the kernel's, which does not, are far enough from their next millisecond.
    pub fn moments(&self) -> RangeInclusive<u64> {
        let boundary = (MS - self.came % MS) % MS;
        if boundary >= MS / 2 { MARGIN..=boundary - TOO_LONG } else { (boundary + MARGIN)..=MS - TOO_LONG }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_case_runs_while_each_listener_believes_in_cookies() {
        assert_eq!(until_cookies_count(269_999 * MS), None);
        assert_eq!(until_cookies_count(270_000 * MS), Some(Duration::from_secs(152)));
        assert_eq!(until_cookies_count(421_000 * MS), Some(Duration::from_secs(1)));
        assert_eq!(until_cookies_count(422_000 * MS), None);
    }
}
