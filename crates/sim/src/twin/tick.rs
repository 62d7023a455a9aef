//! The kernel's tick: when it comes, and whether it is late.
//!
//! Timers and much of what TCP measures count in ticks of 1/HZ. On a busy machine a tick can be late, and what counts in
//! ticks then sees an earlier time than the clock tells. The coarse clock moves with the tick and gives both away.

use std::ops::RangeInclusive;

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
