//! The driver's side of the ring.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rxpath_trace::{PacketId, Time};

use super::core::{Driver, Spot};
use super::missed::{MissedFrame, RingStats};
use super::{EOP, EXTRA, Report, RxDesc, RxErrors, SEGMENTED, Side, take_extra};
use crate::pool::PagePool;
use crate::returns::Returns;
use crate::skb::{Skb, Tail};
use crate::slot::{LINE, RX_HEADROOM, SkbMeta, SlotClass, SlotPtr};

/// Slots posted at a time, at the least (less in small rings): posting is cheap in batches.
const REFILL_BATCH: usize = 16;

/// The driver's side of a descriptor ring: posts slots, takes frames.
pub struct RxRing {
    driver: Driver<SlotPtr, Report>,
    side: Arc<Side>,
    /// The pool that the posted slots are from.
    pool: usize,
    missed: Vec<MissedFrame>,
    /// The frame taken last was put together by `take_slow`: its descriptor is `slow_desc`.
    was_slow: bool,
    slow_desc: RxDesc,
    /// Frames taken so far.
    harvested: u64,
    stats: Arc<RingStats>,
}

/// A frame that lies in the ring, looked at without taking it.
#[derive(Clone, Copy, Debug)]
pub struct Peek<'a> {
    /// The frame, from its link header on.
    pub bytes: &'a [u8],
    /// What the device reported.
    pub desc: RxDesc,
    /// Its identity.
    pub id: PacketId,
}

/// Frames of one kind, as far as a ring's reports tell ([`RxRing::use_in_place`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alike {
    /// Bytes of each, headers included.
    pub len: u16,
    /// The device's hash.
    pub hash: u32,
    /// Bytes of headers: what a packet that goes on with them leaves out. Fewer than `len`.
    pub skip: u16,
    /// They are copied to the packet's end where there is room; otherwise they are chained.
    pub copied: bool,
}

/// Who uses frames where they lie ([`RxRing::use_in_place`]).
///
/// Methods and no closures, so that they can be marked `#[inline(always)]`: a loop that is compiled for an instruction set
/// needs that.
pub trait FrameUser {
    /// Whether a frame is of use: then what follows its headers was copied to `to`. If not, whatever was written there is
    /// forgotten. `is_good`: its checksum is known to be right ([`crate::IpSummed::is_known_good`]).
    fn copy(&mut self, frame: &[u8], is_good: bool, to: &mut [u8]) -> bool;

    /// Whether a frame is of use, and is to be chained.
    fn chain(&mut self, frame: &[u8], is_good: bool) -> bool;
}

/// A frame taken from the ring. [`RxRing::taken_desc`] has what else the device reported of it.
#[derive(Debug)]
#[must_use = "holds a packet that must be ended"]
pub enum Harvest {
    /// A frame as a packet: id, hash, checksum state and gso fields are filled in from the descriptor, the data begins
    /// at the link header.
    Frame(Skb),
    /// What there is of a frame with something wrong: the descriptor says what.
    Error(Skb),
}

impl RxRing {
    pub(super) fn new(driver: Driver<SlotPtr, Report>, side: Arc<Side>) -> RxRing {
        let stats = side.stats.clone();
        RxRing {
            driver,
            side,
            pool: 0,
            missed: Vec::new(),
            was_slow: false,
            slow_desc: RxDesc::default(),
            harvested: 0,
            stats,
        }
    }

    /// Posts slots, if enough places are free to be worth it (16, or a quarter of a small ring); gives how many. Takes
    /// in what other threads returned to the pool first.
    ///
    /// # Panics
    /// If slots of another pool are still in the ring: a ring has one pool at a time.
    #[inline]
    pub fn refill(&mut self, pool: &mut PagePool) -> usize {
        if self.driver.room() < REFILL_BATCH.min(self.driver.size() / 4).max(1) {
            return 0;
        }
        self.refill_now(pool)
    }

    fn refill_now(&mut self, pool: &mut PagePool) -> usize {
        if self.pool != pool.id() {
            assert!(self.driver.in_use() == 0, "a ring has one pool at a time");
            self.pool = pool.id();
        }
        pool.drain();
        let room = self.driver.room();
        let posted = self.driver.post_all(pool.pop_frames(room));
        self.driver.publish();
        let starved = posted < room;
        if starved {
            pool.count_empty();
            self.stats.refill_failed();
        }
        if self.side.starved.load(Ordering::Relaxed) != starved {
            self.side.starved.store(starved, Ordering::Relaxed);
        }
        posted
    }

    /// The next frame, if it lies whole in one slot and nothing is wrong with it, without taking it.
    #[inline(always)]
    pub fn peek(&mut self) -> Option<Peek<'_>> {
        self.peek_at(0)
    }

    /// As [`RxRing::peek`], for the frame `n` places further on: for prefetching and for looking at a burst as a whole.
    /// None also if that place is not a frame of one slot.
    #[inline(always)]
    pub fn peek_at(&mut self, n: usize) -> Option<Peek<'_>> {
        let (slot, report) = self.look(n)?;
        if !report.is_plain() {
            return None;
        }
        // SAFETY: the place is completed, so the slot belongs to the driver, and `self` is borrowed as long as the
        // bytes.
        let bytes = unsafe { frame(slot, report.len) };
        Some(Peek { bytes, desc: report.desc(u32::from(report.len)), id: report.id })
    }

    /// The flow hash of the place `n` further on, without looking at the frame.
    #[inline(always)]
    pub fn hash_at(&mut self, n: usize) -> Option<u32> {
        self.look(n).map(|(_, report)| report.hash)
    }

    /// The place `n` further on, if it is completed.
    #[inline(always)]
    fn look(&mut self, n: usize) -> Option<(SlotPtr, &Report)> {
        if !self.driver.is_completed(n) {
            return None;
        }
        self.driver.completed(n)
    }

    /// Uses frames where they lie: shows at most `limit` of the next frames to `user`, one after the other, as long as each
    /// is one that [`RxRing::peek`] would show, is of the given kind, of the same checksum state as the first, says nothing
    /// of segments, and is of use. The packet of `tail` goes on with them. Where frames are copied and there is no room, one
    /// is chained, which brings some. Gives the number of frames used.
    #[inline(always)]
    pub fn use_in_place(
        &mut self,
        limit: usize,
        kind: &Alike,
        tail: &mut Tail<'_>,
        user: &mut impl FrameUser,
    ) -> usize {
        let ready = self.driver.ready().min(limit);
        let run = self.driver.completed_run();
        let (Some(first), Some(payload @ 1..)) = (run.first(), kind.len.checked_sub(kind.skip)) else { return 0 };
        let payload = usize::from(payload);
        let is_of_kind = first.hash == kind.hash && first.len == kind.len && first.flags & SEGMENTED == 0;
        if !is_of_kind || !first.is_plain() {
            return 0;
        }
        let is_good = first.csum().is_known_good();
        let row = Row { like: first.likeness(), len: kind.len, skip: kind.skip, payload, is_good };
        let (mut used, mut copied) = (0, 0);
        while used < ready {
            let fits = if kind.copied { tail.pieces(payload, ready - used) } else { 0 };
            let (shown, of_use) = if fits > 0 {
                let places = run.places(used, copied, fits);
                (places.len(), row.copy(places, tail, user))
            } else {
                let places = run.places(used, copied, if kind.copied { 1 } else { ready - used });
                (places.len(), row.chain(places, tail, user))
            };
            used += of_use;
            copied += if fits > 0 { of_use } else { 0 };
            if of_use < shown {
                break;
            }
        }
        self.driver.take_and_post(used, copied);
        self.harvested += used as u64;
        self.stats.harvested_so_far(self.harvested);
        used
    }

    /// Takes the next frame.
    #[inline(always)]
    pub fn take(&mut self) -> Option<Harvest> {
        let (slot, report) = self.look(0)?;
        if !report.is_plain() {
            return self.take_slow();
        }
        // SAFETY: the place is completed, and is taken in the next line: the slot is this function's.
        let skb = unsafe { packet(slot, report) };
        self.driver.take(1);
        self.was_slow = false;
        self.count_harvested();
        Some(Harvest::Frame(skb))
    }

    /// What the device reported of the frame that [`RxRing::take`] gave last; of an empty frame before the first.
    pub fn taken_desc(&self) -> RxDesc {
        if self.was_slow {
            return self.slow_desc;
        }
        let report = self.driver.just_taken();
        report.desc(u32::from(report.len))
    }

    /// A frame with errors, of several places, or with a large slot.
    #[inline(never)]
    fn take_slow(&mut self) -> Option<Harvest> {
        let (mut skb, first) = self.take_place()?;
        let mut end = first.flags & EOP != 0;
        let mut errors = first.errors;
        // Frames are handed over whole, so the places up to the end are there.
        while !end && let Some((part, report)) = self.take_place() {
            end = report.flags & EOP != 0;
            errors |= report.errors;
            if let Err(part) = skb.add_frag(part) {
                Returns::new().push(part);
                errors |= RxErrors::FIFO;
            }
        }
        self.slow_desc = RxDesc { errors, ..first.desc(skb.len() as u32) };
        self.was_slow = true;
        self.count_harvested();
        Some(if errors.is_empty() { Harvest::Frame(skb) } else { Harvest::Error(skb) })
    }

    /// Takes one place as a packet of its own.
    fn take_place(&mut self) -> Option<(Skb, Report)> {
        let (slot, report) = self.look(0)?;
        let mut report = *report;
        self.driver.take(1);
        // SAFETY: the place was completed and has been taken: the slot is this function's; the flag says what is there.
        let extra = (report.flags & EXTRA != 0).then(|| unsafe { take_extra(slot) });
        // SAFETY: as above.
        let mut skb = unsafe { packet(slot, &report) };
        if let Some(Err(extra)) = extra.map(|extra| skb.add_frag(extra)) {
            Returns::new().push(extra);
            report.errors |= RxErrors::FIFO;
        }
        Some((skb, report))
    }

    #[inline(always)]
    fn count_harvested(&mut self) {
        self.harvested += 1;
        self.stats.harvested_so_far(self.harvested);
    }

    /// Places done and not taken, as far as last seen: costs nothing.
    #[inline(always)]
    pub fn done_count_hint(&self) -> usize {
        self.driver.ready_hint()
    }

    /// Places done and not taken, as of now: for the check that closes a poll.
    #[inline]
    pub fn pending(&self) -> usize {
        self.driver.ready_now()
    }

    /// Slots posted and not taken, done or not.
    #[inline]
    pub fn posted(&self) -> usize {
        self.driver.in_use()
    }

    /// Places in the ring; one less can be posted.
    pub fn size(&self) -> usize {
        self.driver.size()
    }

    /// Refills that found the pool dry.
    pub fn alloc_failed(&self) -> u64 {
        self.stats.alloc_failed()
    }

    /// Hands every frame that found no descriptor since the last call to `f`: identity, time, length. Gives the number
    /// of further such frames, of which there is no record because there were too many (more than 256 since the last
    /// call).
    #[inline]
    pub fn drain_missed(&mut self, mut f: impl FnMut(PacketId, Time, u32)) -> u64 {
        self.drain_missed_frames(|frame| f(frame.id, frame.at, frame.len))
    }

    /// Whether frames met the ring full since they were last drained.
    #[inline(always)]
    pub fn has_missed(&self) -> bool {
        self.side.missed.any()
    }

    /// As [`RxRing::drain_missed`], with all that is known of a frame.
    #[inline]
    pub fn drain_missed_frames(&mut self, f: impl FnMut(MissedFrame)) -> u64 {
        self.side.missed.drain(&mut self.missed, f)
    }

    /// Counters of the ring.
    pub fn stats(&self) -> Arc<RingStats> {
        self.stats.clone()
    }
}

impl std::fmt::Debug for RxRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RxRing")
            .field("size", &self.size())
            .field("posted", &self.posted())
            .field("pending", &self.pending())
            .field("stats", &self.stats)
            .finish()
    }
}

/// Frames of one kind in a row.
struct Row {
    like: u64,
    len: u16,
    skip: u16,
    payload: usize,
    is_good: bool,
}

impl Row {
    /// The frame at a place. Nothing is fetched ahead: the processor is some frames ahead of this loop by itself.
    ///
    /// # Safety
    /// The place is completed, and is not taken while the bytes are looked at.
    #[inline(always)]
    unsafe fn frame<'a>(&self, spot: &Spot<'a, SlotPtr, Report>) -> &'a [u8] {
        // SAFETY: the slot belongs to the driver as long as the place does.
        unsafe { frame(spot.buffer, self.len) }
    }

    /// Copies frames to the end of a packet, which has room for all. Gives how many were of use.
    ///
    /// Two loops: where payloads are known to be one cache line, nothing is left in it of what other lengths take.
    #[inline(always)]
    fn copy<'a>(
        &self,
        places: impl ExactSizeIterator<Item = Spot<'a, SlotPtr, Report>>,
        tail: &mut Tail<'_>,
        user: &mut impl FrameUser,
    ) -> usize {
        if self.payload == LINE {
            self.copy_each(LINE, places, tail, user)
        } else {
            self.copy_each(self.payload, places, tail, user)
        }
    }

    #[inline(always)]
    fn copy_each<'a>(
        &self,
        payload: usize,
        places: impl ExactSizeIterator<Item = Spot<'a, SlotPtr, Report>>,
        tail: &mut Tail<'_>,
        user: &mut impl FrameUser,
    ) -> usize {
        debug_assert!(tail.pieces(payload, usize::MAX) >= places.len());
        let (count, mut of_no_use) = (places.len(), 0);
        let mut places = places.enumerate();
        for (i, spot) in places.by_ref() {
            // SAFETY: the places of a run are completed; they are taken when all is over.
            let frame = unsafe { self.frame(&spot) };
            // SAFETY: the packet has room for all.
            let to = unsafe { tail.piece(i, payload) };
            if spot.report.likeness() != self.like || !user.copy(frame, self.is_good, to) {
                of_no_use = 1;
                break;
            }
            // Armed again at once: most recently used, and still warm.
            spot.post_again();
        }
        let used = count - places.len() - of_no_use;
        tail.take(used * payload);
        used
    }

    /// Chains frames to a packet. Gives how many were of use.
    #[inline(always)]
    fn chain<'a>(
        &self,
        places: impl ExactSizeIterator<Item = Spot<'a, SlotPtr, Report>>,
        tail: &mut Tail<'_>,
        user: &mut impl FrameUser,
    ) -> usize {
        let mut used = 0;
        for spot in places {
            if spot.report.likeness() != self.like {
                break;
            }
            // SAFETY: as in `copy`.
            if !user.chain(unsafe { self.frame(&spot) }, self.is_good) {
                break;
            }
            // SAFETY: the slot belongs to the driver, which takes its place when all is over, and forgets it.
            if !unsafe { tail.chain(spot.buffer, usize::from(self.len), usize::from(self.skip)) } {
                break;
            }
            used += 1;
        }
        used
    }
}

/// The frame in a slot of the ring.
///
/// # Safety
/// The caller owns the slot for `'a`, and does not write to it.
#[inline(always)]
unsafe fn frame<'a>(slot: SlotPtr, len: u16) -> &'a [u8] {
    let start = slot.buffer().wrapping_add(RX_HEADROOM);
    // SAFETY: reports never exceed the room of a slot; initialised memory.
    unsafe { std::slice::from_raw_parts(start, usize::from(len)) }
}

/// Makes a packet of a slot from the ring: writes its one line.
///
/// # Safety
/// The caller owns the slot and passes it on.
#[inline(always)]
unsafe fn packet(slot: SlotPtr, report: &Report) -> Skb {
    // SAFETY: the slot is the caller's, and no reference to its line lives.
    unsafe { slot.init_fresh(SlotClass::Frame) };
    // SAFETY: as above; initialised.
    let mut skb = unsafe { Skb::from_slot(slot) };
    let from: *const u8 = std::ptr::from_ref(report).cast();
    let to: *mut u8 = std::ptr::from_mut(&mut *skb).cast();
    let (start, len) = (COMMON.start, COMMON.end - COMMON.start);
    // SAFETY: from the hash on both have the same fields of the same types, with no padding between (asserted below), and a
    // report in the ring never overlaps a line.
    unsafe { std::ptr::copy_nonoverlapping(from.wrapping_add(start), to.wrapping_add(start), len) };
    skb.ip_summed = report.csum();
    skb.link_mut().len = report.len;
    skb
}

/// Where the fields lie that [`Report`] and [`SkbMeta`] have in common: hash, id, gso_size, gso_segs.
const COMMON: std::ops::Range<usize> = 4..20;

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Report, hash) == COMMON.start && offset_of!(SkbMeta, hash) == COMMON.start);
    assert!(offset_of!(Report, id) == 8 && offset_of!(SkbMeta, id) == 8);
    assert!(offset_of!(Report, gso_size) == 16 && offset_of!(SkbMeta, gso_size) == 16);
    assert!(offset_of!(Report, gso_segs) + 2 == COMMON.end && offset_of!(SkbMeta, gso_segs) + 2 == COMMON.end);
};
