//! Instants on the stack's clock.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// An instant: nanoseconds on the stack's clock, which starts at an arbitrary point and never goes back.
///
/// The stack is told the time; it never reads a clock. Arithmetic saturates, so [`Time::MAX`] can stand for "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The clock's beginning.
    pub const ZERO: Time = Time(0);
    /// The end of time: a deadline that never comes. Adding to it leaves it as it is.
    pub const MAX: Time = Time(u64::MAX);

    /// The instant `ms` milliseconds after the clock's beginning.
    pub const fn from_millis(ms: u64) -> Time {
        Time(ms.saturating_mul(1_000_000))
    }

    /// The instant `us` microseconds after the clock's beginning.
    pub const fn from_micros(us: u64) -> Time {
        Time(us.saturating_mul(1_000))
    }

    /// The instant `s` seconds after the clock's beginning.
    pub const fn from_secs(s: u64) -> Time {
        Time(s.saturating_mul(1_000_000_000))
    }

    /// Whole milliseconds since the clock's beginning, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole microseconds since the clock's beginning, rounded down.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }
}

impl Add<u64> for Time {
    type Output = Time;

    /// The instant `ns` nanoseconds later; [`Time::MAX`] at the most.
    #[inline]
    fn add(self, ns: u64) -> Time {
        Time(self.0.saturating_add(ns))
    }
}

impl AddAssign<u64> for Time {
    #[inline]
    fn add_assign(&mut self, ns: u64) {
        *self = *self + ns;
    }
}

impl Sub for Time {
    type Output = u64;

    /// Nanoseconds from `earlier` to `self`; 0 where `earlier` is the later of the two.
    #[inline]
    fn sub(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Time {
    /// Seconds with microseconds, as in `1.002340 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.as_micros();
        write!(f, "{}.{:06} s", us / 1_000_000, us % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Time::from_millis(3) + 5, Time(3_000_005));
        assert_eq!(Time::MAX + 1, Time::MAX);
        assert_eq!(Time(5) - Time(3), 2);
        assert_eq!(Time(3) - Time(5), 0);
        assert_eq!(Time::from_secs(u64::MAX), Time::MAX);
    }

    #[test]
    fn reads_as_seconds() {
        assert_eq!(Time(1_002_340_999).to_string(), "1.002340 s");
        assert_eq!(Time::ZERO.to_string(), "0.000000 s");
        assert_eq!(Time(1_999_999).as_millis(), 1);
        assert_eq!(Time::from_micros(7).as_micros(), 7);
    }
}
