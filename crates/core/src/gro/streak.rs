//! The expected frame: one that continues the packet that was merged last.
//!
//! In a stream nearly every frame is the one that was expected, so it is compared whole with what the expected one would
//! look like ([`super::flow::Flow::series`]). [`Gro::receive`] asks that before it reads a header. And in the ring frames are merged before
//! they ever were packets ([`Gro::streak`]): no [`Skb`] is made of them, and short ones leave their slots behind. Whatever
//! is not exactly as expected is left to the full comparison, which decides the same and more.

use rxpath_arch::expect::Expect;
use rxpath_arch::vector::{Simd, Vectorized, vectorized};
use rxpath_mem::{Alike, FrameUser, RxRing, Skb};
use rxpath_trace::{Consumed, Counter};

use super::held::Held;
use super::table::Spot;
use super::{COPY_MAX, Gro, MAX_PACKET};
use crate::cx::Cx;
use crate::expect::{FIXED, STAMPED, TcpSum};

impl Gro {
    /// Merges the next frames of the ring, at most `limit`, into the packet that was merged last, as long as each is the
    /// expected one: same flow and same headers, in order, of the same length. They are consumed: up to 256 bytes of
    /// payload are copied and the slot armed again in place, longer ones keep their slot, which is chained. What follows
    /// is for the caller to take as a packet to [`Gro::receive`]. Gives their number and their bytes.
    ///
    /// Lives are not recorded here: with records on, frames go the other way. A function of its own, so that the loop
    /// has the registers to itself.
    #[inline(never)]
    pub fn streak(&mut self, cx: &Cx, ring: &mut RxRing, limit: usize, ifindex: u16) -> (usize, usize) {
        let Some(held) = self.last.and_then(|spot| self.table.held_mut(spot)) else { return (0, 0) };
        if held.notes.flow.next.frame_len == 0 {
            return (0, 0);
        }
        if ifindex != held.notes.flow.ifindex {
            return (0, 0);
        }
        let used = held.streak(cx, ring, held.segments_to_come(limit));
        (used, used * held.notes.flow.next.frame_len as usize)
    }

    /// Merges `skb` into the packet held at `spot`, if it is the frame that comes next there; or gives it back.
    #[inline]
    pub(super) fn merge_expected(&mut self, cx: &mut Cx, spot: Option<Spot>, skb: Skb) -> Result<(), Skb> {
        let Some(held) = spot.and_then(|spot| self.table.held_mut(spot)) else { return Err(skb) };
        if held.segments_to_come(1) == 0 || !held.notes.flow.goes_on_with(&skb) {
            return Err(skb);
        }
        let (len, flags) = (held.notes.flow.mss, held.flags());
        held.merge(cx, skb, len, flags)
    }
}

/// The loop over the frames of a ring that continue a packet whose headers have `N` bytes. Gives how many, and payload
/// bytes copied.
struct Streak<'a, const N: usize> {
    held: &'a mut Held,
    ring: &'a mut RxRing,
    limit: usize,
}

impl<const N: usize> Vectorized for Streak<'_, N> {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (usize, usize) {
        let Streak { held, ring, limit } = self;
        let Some(series) = held.notes.flow.series::<N>() else { return (0, 0) };
        let next = &held.notes.flow.next;
        let kind = Alike { len: next.frame_len as u16, hash: next.hash, skip: N as u16, copied: held.is_short() };
        // By value, so that it stays in registers.
        let mut expected = Expected::<S, N> { expect: simd.expect(&series), sum: next.sum };
        let mut tail = held.skb.tail();
        let used = ring.use_in_place(limit, &kind, &mut tail, &mut expected);
        (used, tail.bytes_taken())
    }
}

/// The frame that is expected next in a ring.
struct Expected<S: Simd, const N: usize> {
    expect: S::Expect<N>,
    sum: TcpSum,
}

impl<S: Simd, const N: usize> FrameUser for Expected<S, N> {
    #[inline(always)]
    fn copy(&mut self, frame: &[u8], is_good: bool, to: &mut [u8]) -> bool {
        let Some(total) = self.expect.copy_next(frame, to) else { return false };
        let is_right = is_good || self.sum.is_right(total);
        if is_right {
            self.expect.advance();
        }
        is_right
    }

    #[inline(always)]
    fn chain(&mut self, frame: &[u8], is_good: bool) -> bool {
        let Some(total) = self.expect.is_next(frame) else { return false };
        let is_right = is_good || self.sum.is_right_with(total, &frame[N..]);
        if is_right {
            self.expect.advance();
        }
        is_right
    }
}

impl Held {
    /// Merges at most `limit` frames of the ring: copies short ones behind the last slot, or where there is no room chains
    /// one of them, which brings some; chains long ones.
    #[inline(always)]
    fn streak(&mut self, cx: &Cx, ring: &mut RxRing, limit: usize) -> usize {
        let (is_fixed, held) = (usize::from(self.notes.flow.header_len) == FIXED, &mut *self);
        let (used, copied) = if is_fixed {
            vectorized(Streak::<FIXED> { held, ring, limit })
        } else {
            vectorized(Streak::<STAMPED> { held, ring, limit })
        };
        if copied > 0 {
            cx.count_n(Counter::CopiedGro, copied as u64);
        }
        self.went_on(cx, used as u32);
        used
    }

    /// Payloads of the expected length are copied where there is room.
    fn is_short(&self) -> bool {
        self.notes.flow.mss as usize <= COPY_MAX
    }

    /// Of `limit` segments of the expected length, those that the packet may still take.
    #[inline(always)]
    fn segments_to_come(&self, limit: usize) -> usize {
        let (left, mss) = (MAX_PACKET - self.notes.packet_len, self.notes.flow.mss.max(1));
        // A division costs as much as ten frames' comparisons, and is hardly ever needed.
        let fits = if limit as u64 * u64::from(mss) <= u64::from(left) { limit } else { (left / mss) as usize };
        fits.min(self.notes.flow.frames_to_come() as usize)
    }

    /// So many segments of the expected length were merged in a streak.
    #[inline(always)]
    fn went_on(&mut self, cx: &Cx, segments: u32) {
        self.notes.flow.next.advance(segments, self.notes.flow.mss);
        self.notes.packet_len += segments * self.notes.flow.mss;
        self.notes.segs += segments as u16;
        self.skb.truesize += segments * self.notes.truesize_each;
        if segments > 0 {
            cx.ledger.consumed(Consumed::GroMerged, u64::from(segments));
        }
    }
}
