//! The expected frame: one that continues the packet that was merged last.
//!
//! In a stream nearly every frame is the one that was expected, so it is compared whole with what the expected one would
//! look like ([`Next`]). [`Gro::receive`] asks that before it reads a header. And in the ring frames are merged before
//! they ever were packets ([`Gro::streak`]): no [`Skb`] is made of them, and short ones leave their slots behind. Whatever
//! is not exactly as expected is left to the full comparison, which decides the same and more.

use rxpath_arch::csum;
use rxpath_arch::expect::Pattern;
use rxpath_arch::vector::{Simd, Vectorized, vectorized};
use rxpath_mem::{FrameUser, IpSummed, RxRing, Skb, Tail, Use};
use rxpath_trace::{Consumed, Counter};

use super::flow::Next;
use super::held::Held;
use super::table::Spot;
use super::{COPY_MAX, Gro, MAX_PACKET};
use crate::cx::Cx;
use crate::expect::{FIXED, Ident, STAMPED, pattern};

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
        if held.flow.next.frame_len == 0 {
            return (0, 0);
        }
        if ifindex != held.flow.ifindex {
            return (0, 0);
        }
        let limit = held.segments_to_come(limit);
        let (mut used, mut goes_on) = (0, true);
        while goes_on && used < limit {
            let had_room = held.has_room();
            let more = held.streak(cx, ring, limit - used);
            used += more;
            // Copying ends where the room does, and chaining one frame makes some.
            goes_on = more > 0 && held.is_short() && !(had_room && held.has_room());
        }
        (used, used * held.flow.next.frame_len as usize)
    }

    /// Merges `skb` into the packet held at `spot`, if it is the frame that comes next there; or gives it back.
    #[inline]
    pub(super) fn merge_expected(&mut self, cx: &mut Cx, spot: Option<Spot>, skb: Skb) -> Result<(), Skb> {
        let Some(held) = spot.and_then(|spot| self.table.held_mut(spot)) else { return Err(skb) };
        if held.segments_to_come(1) == 0 || !held.flow.goes_on_with(&skb) {
            return Err(skb);
        }
        let (len, flags) = (held.flow.mss, held.flags());
        held.merge(cx, skb, len, flags)
    }
}

/// The loop over the frames of a ring that continue a packet whose headers have `N` bytes: one that copies payloads to the
/// packet's tail as long as there is room, and one that chains. Gives how many, and payload bytes copied.
struct Streak<'a, const N: usize, const COPY: bool> {
    held: &'a mut Held,
    ring: &'a mut RxRing,
    limit: usize,
}

impl<const N: usize, const COPY: bool> Vectorized for Streak<'_, N, COPY> {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (usize, usize) {
        let Streak { held, ring, limit } = self;
        let Some(pattern) = pattern::<N>(&held.flow.header) else { return (0, 0) };
        // By value, so that it stays in registers.
        let (next, mss) = (held.flow.next, held.flow.mss);
        let ident = Ident::with(&held.flow.header, next.id);
        let mut expected = Expected::<S, N, COPY> { next, ident, mss, pattern, simd };
        let mut tail = held.skb.tail();
        let used = ring.use_in_place(limit, (next.frame_len as u16, next.hash), &mut tail, &mut expected);
        (used, tail.bytes_taken())
    }
}

/// The frame that is expected next in a ring.
struct Expected<'a, S: Simd, const N: usize, const COPY: bool> {
    next: Next,
    ident: Ident,
    mss: u32,
    pattern: Pattern<'a, N>,
    simd: S,
}

impl<S: Simd, const N: usize, const COPY: bool> FrameUser for Expected<'_, S, N, COPY> {
    /// Merges a frame if it is the expected one: copies its payload, or says that it is to be chained.
    #[inline(always)]
    fn use_frame(&mut self, tail: &mut Tail<'_>, frame: &[u8], summed: IpSummed) -> Use {
        let Some((fixed, len)) = frame.first_chunk::<FIXED>().zip(frame.len().checked_sub(N)) else { return Use::None };
        if !self.next.follows(self.ident, fixed) {
            return Use::None;
        }
        let is_good = summed.is_known_good();
        let used = if COPY {
            let Some(room) = tail.room(len) else { return Use::None };
            // What was copied and is not taken is nothing.
            let Some(payload) = self.pattern.copy_behind(self.simd, frame, room) else { return Use::None };
            if !is_good && !self.next.sum.is_right(fixed, payload) {
                return Use::None;
            }
            tail.take(len);
            Use::Copied
        } else if self.pattern.matches(frame) && (is_good || self.next.sum.is_right(fixed, csum::total(&frame[N..]))) {
            Use::Chained { skip: N }
        } else {
            return Use::None;
        };
        self.next.seq += self.mss;
        self.ident.advance(self.next.id_step);
        used
    }
}

impl Held {
    /// Merges at most `limit` frames of the ring: copies short ones behind the last slot, or where there is no room chains
    /// one of them, which brings some; chains long ones.
    #[inline(always)]
    fn streak(&mut self, cx: &Cx, ring: &mut RxRing, limit: usize) -> usize {
        let (is_short, is_fixed) = (self.is_short(), usize::from(self.flow.header_len) == FIXED);
        if is_short && self.has_room() {
            let held = &mut *self;
            let (used, copied) = if is_fixed {
                vectorized(Streak::<FIXED, true> { held, ring, limit })
            } else {
                vectorized(Streak::<STAMPED, true> { held, ring, limit })
            };
            cx.count_n(Counter::CopiedGro, copied as u64);
            self.went_on(cx, used as u32);
            return used;
        }
        let (limit, held) = (if is_short { 1 } else { limit }, &mut *self);
        let (used, _) = if is_fixed {
            vectorized(Streak::<FIXED, false> { held, ring, limit })
        } else {
            vectorized(Streak::<STAMPED, false> { held, ring, limit })
        };
        self.went_on(cx, used as u32);
        used
    }

    /// Payloads of the expected length are copied where there is room.
    fn is_short(&self) -> bool {
        self.flow.mss as usize <= COPY_MAX
    }

    /// Whether one fits behind the last slot.
    #[inline(always)]
    fn has_room(&mut self) -> bool {
        self.skb.tail().bytes_left() >= self.flow.mss as usize
    }

    /// Of `limit` segments of the expected length, those that the packet may still take.
    #[inline(always)]
    fn segments_to_come(&self, limit: usize) -> usize {
        let (left, mss) = (MAX_PACKET - self.packet_len, self.flow.mss.max(1));
        // A division costs as much as ten frames' comparisons, and is hardly ever needed.
        if limit as u64 * u64::from(mss) <= u64::from(left) { limit } else { (left / mss) as usize }
    }

    /// So many segments of the expected length were merged in a streak.
    #[inline(always)]
    fn went_on(&mut self, cx: &Cx, segments: u32) {
        self.flow.next.seq += segments * self.flow.mss;
        self.flow.next.id = self.flow.next.id.wrapping_add(self.flow.next.id_step.wrapping_mul(segments as u16));
        self.packet_len += segments * self.flow.mss;
        self.segs += segments as u16;
        self.skb.truesize += segments * self.truesize_each;
        if segments > 0 {
            cx.ledger.consumed(Consumed::GroMerged, u64::from(segments));
        }
    }
}
