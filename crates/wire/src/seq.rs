//! TCP sequence numbers.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};

/// A TCP sequence number: a place on a circle of 2^32 (RFC 9293 section 3.4).
///
/// There is no `Ord`, because there is no order on a circle: `a` is *before* `b` when the way from
/// `a` up to `b` is shorter than the way back. Of two numbers exactly 2^31 apart each is before the
/// other (as with the kernel's `before`); windows never reach half of the circle, so this has no
/// effect on live traffic.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// How far `self` is ahead of `other`; negative when it is behind.
    #[inline(always)]
    pub const fn diff(self, other: SeqNum) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// Whether `self` comes strictly before `other` (kernel: `before`).
    #[inline(always)]
    pub const fn before(self, other: SeqNum) -> bool {
        self.diff(other) < 0
    }

    /// Whether `self` comes strictly after `other` (kernel: `after`).
    #[inline(always)]
    pub const fn after(self, other: SeqNum) -> bool {
        other.before(self)
    }

    /// Whether `self` is `other` or comes before it.
    #[inline(always)]
    pub const fn at_or_before(self, other: SeqNum) -> bool {
        !self.after(other)
    }

    /// Whether `self` is `other` or comes after it.
    #[inline(always)]
    pub const fn at_or_after(self, other: SeqNum) -> bool {
        !self.before(other)
    }

    /// Whether `self` lies on the way from `lo` up to `hi`, both included (kernel: `between`).
    #[inline(always)]
    pub const fn between(self, lo: SeqNum, hi: SeqNum) -> bool {
        self.0.wrapping_sub(lo.0) <= hi.0.wrapping_sub(lo.0)
    }

    /// The later of the two.
    #[inline(always)]
    pub const fn max(self, other: SeqNum) -> SeqNum {
        if self.before(other) { other } else { self }
    }

    /// The earlier of the two.
    #[inline(always)]
    pub const fn min(self, other: SeqNum) -> SeqNum {
        if self.after(other) { other } else { self }
    }
}

impl Add<u32> for SeqNum {
    type Output = SeqNum;

    #[inline(always)]
    fn add(self, n: u32) -> SeqNum {
        SeqNum(self.0.wrapping_add(n))
    }
}

impl AddAssign<u32> for SeqNum {
    #[inline(always)]
    fn add_assign(&mut self, n: u32) {
        *self = *self + n;
    }
}

impl Sub<u32> for SeqNum {
    type Output = SeqNum;

    #[inline(always)]
    fn sub(self, n: u32) -> SeqNum {
        SeqNum(self.0.wrapping_sub(n))
    }
}

impl SubAssign<u32> for SeqNum {
    #[inline(always)]
    fn sub_assign(&mut self, n: u32) {
        *self = *self - n;
    }
}

impl Sub for SeqNum {
    type Output = i32;

    /// [`SeqNum::diff`].
    #[inline(always)]
    fn sub(self, other: SeqNum) -> i32 {
        self.diff(other)
    }
}

impl From<u32> for SeqNum {
    #[inline(always)]
    fn from(n: u32) -> SeqNum {
        SeqNum(n)
    }
}

impl fmt::Display for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
