//! The index protocol of the descriptor ring, apart from packets, so that loom can check it.
//!
//! Three free-running positions chase each other: `tail` (posted, published by the driver), `head` (completed,
//! published by the device) and the driver's private `next` (taken). Places `head..tail` belong to the device,
//! `next..head` to the driver. At most `size - 1` places are in use. A position published with Release and read with
//! Acquire hands over all places below it.

use crate::lines::Lines;
use crate::sync::{Arc, AtomicUsize, Ordering, Padded, SharedCell};

/// What the driver and the device share. `P` is what is posted (a buffer), `D` what is reported (a descriptor).
pub(crate) struct RingCore<P: Copy, D: Copy> {
    mask: usize,
    /// Written by the driver only.
    posted: Lines<SharedCell<P>>,
    /// Written by the device only.
    done: Lines<SharedCell<D>>,
    tail: Padded<AtomicUsize>,
    head: Padded<AtomicUsize>,
    /// The driver's `next` when it went.
    taken: AtomicUsize,
    /// Takes back what is left when both sides are gone: a buffer, and its report if it was completed.
    reclaim: fn(P, Option<D>),
}

// SAFETY: the positions hand each place over from one side to the other, and there is one of each.
unsafe impl<P: Copy + Send, D: Copy + Send> Sync for RingCore<P, D> {}
// SAFETY: nothing in it is bound to a thread.
unsafe impl<P: Copy + Send, D: Copy + Send> Send for RingCore<P, D> {}

impl<P: Copy, D: Copy> RingCore<P, D> {
    /// Reads the posted buffer at `at`.
    ///
    /// # Safety
    /// The place belongs to the caller, or to the device if the caller is the driver: a posted buffer is not rewritten
    /// before the driver has taken it.
    #[inline(always)]
    unsafe fn posted(&self, at: usize) -> P {
        // SAFETY: by the caller's promise.
        place(&self.posted, at).with(|p| unsafe { *p })
    }

    /// The report at `at`.
    ///
    /// # Safety
    /// The place belongs to the caller as long as the result is used.
    #[inline(always)]
    unsafe fn done(&self, at: usize) -> &D {
        // SAFETY: by the caller's promise.
        place(&self.done, at).with(|d| unsafe { &*d })
    }
}

/// The place of a free-running position.
#[inline(always)]
fn place<T>(places: &[SharedCell<T>], at: usize) -> &SharedCell<T> {
    // SAFETY: the number of places is a power of two, so masking with one less gives an index below it.
    unsafe { places.get_unchecked(at & (places.len() - 1)) }
}

impl<P: Copy, D: Copy> Drop for RingCore<P, D> {
    fn drop(&mut self) {
        let (tail, head) = (self.tail.0.load(Ordering::Relaxed), self.head.0.load(Ordering::Relaxed));
        let mut at = self.taken.load(Ordering::Relaxed);
        while at != tail {
            // SAFETY: both sides are gone.
            let buffer = unsafe { self.posted(at) };
            let completed = tail.wrapping_sub(at) > tail.wrapping_sub(head);
            // SAFETY: both sides are gone.
            let report = completed.then(|| *unsafe { self.done(at) });
            (self.reclaim)(buffer, report);
            at = at.wrapping_add(1);
        }
    }
}

/// The two sides of a ring of `size` places, a power of two of at least 2. `fill` and `none` fill unused places.
pub(crate) fn split<P: Copy, D: Copy>(
    size: usize,
    fill: P,
    none: D,
    reclaim: fn(P, Option<D>),
) -> (Driver<P, D>, Device<P, D>) {
    assert!(size.is_power_of_two() && size >= 2, "a ring has a power of two of places, and at least 2");
    let core = Arc::new(RingCore {
        mask: size - 1,
        posted: Lines::from_fn(size, || SharedCell::new(fill)),
        done: Lines::from_fn(size, || SharedCell::new(none)),
        tail: Padded(AtomicUsize::new(0)),
        head: Padded(AtomicUsize::new(0)),
        taken: AtomicUsize::new(0),
        reclaim,
    });
    (Driver { core: core.clone(), tail: 0, next: 0, done: 0 }, Device { core, head: 0, posted: 0 })
}

/// The driver's side: posts buffers, takes reports.
pub(crate) struct Driver<P: Copy, D: Copy> {
    core: Arc<RingCore<P, D>>,
    /// Next place to post to; what is below is published by [`Driver::publish`].
    tail: usize,
    /// Next place to take from.
    next: usize,
    /// `head` when it was last read.
    done: usize,
}

impl<P: Copy, D: Copy> Driver<P, D> {
    /// Places in all.
    pub(crate) fn size(&self) -> usize {
        self.core.mask + 1
    }

    /// Places that can be posted to.
    #[inline(always)]
    pub(crate) fn room(&self) -> usize {
        self.core.mask - self.tail.wrapping_sub(self.next)
    }

    /// Posted and not yet taken.
    #[inline(always)]
    pub(crate) fn in_use(&self) -> usize {
        self.tail.wrapping_sub(self.next)
    }

    /// Posts as many of `buffers` as there is room for, from the first on; gives how many.
    #[inline(always)]
    pub(crate) fn post_all(&mut self, mut buffers: impl ExactSizeIterator<Item = P>) -> usize {
        let count = buffers.len().min(self.room());
        // In two pieces, up to the end of the places and from their beginning on: straight lines for the compiler.
        let (start, end) = self.core.posted.split_at(self.tail & self.core.mask);
        let at_end = count.min(end.len());
        for pieces in [&end[..at_end], &start[..count - at_end]] {
            for (place, buffer) in pieces.iter().zip(&mut buffers) {
                // SAFETY: places above the published tail belong to the driver; the room says that this one was taken.
                place.with_mut(|p| unsafe { *p = buffer });
            }
        }
        self.tail = self.tail.wrapping_add(count);
        count
    }

    /// Takes `n` completed buffers, as [`Driver::take`] does, of which `again` were posted anew
    /// ([`Spot::post_again`]), and hands those to the device.
    #[inline(always)]
    pub(crate) fn take_and_post(&mut self, n: usize, again: usize) {
        debug_assert!(again <= n);
        self.take(n);
        if again > 0 {
            self.tail = self.tail.wrapping_add(again.min(n));
            self.publish();
        }
    }

    /// Hands what was posted to the device.
    #[inline(always)]
    pub(crate) fn publish(&mut self) {
        self.core.tail.0.store(self.tail, Ordering::Release);
    }

    /// Completed and not taken, as far as last seen.
    #[inline(always)]
    pub(crate) fn ready_hint(&self) -> usize {
        self.done.wrapping_sub(self.next)
    }

    /// Completed and not taken, as of now.
    #[inline(always)]
    pub(crate) fn ready(&mut self) -> usize {
        self.done = self.core.head.0.load(Ordering::Acquire);
        self.ready_hint()
    }

    /// Completed and not taken, as of now, for those who only look.
    pub(crate) fn ready_now(&self) -> usize {
        self.core.head.0.load(Ordering::Relaxed).wrapping_sub(self.next)
    }

    /// True if the `i`-th place, from 0, is completed and not taken.
    #[inline(always)]
    pub(crate) fn is_completed(&mut self, i: usize) -> bool {
        i < self.ready_hint() || i < self.ready()
    }

    /// The `i`-th completed buffer and its report; None if [`Driver::is_completed`] did not say that there is one.
    #[inline(always)]
    pub(crate) fn completed(&self, i: usize) -> Option<(P, &D)> {
        if i >= self.ready_hint() {
            return None;
        }
        let at = self.next.wrapping_add(i);
        // SAFETY: places below the `head` that was read belong to the driver.
        let buffer = unsafe { self.core.posted(at) };
        // SAFETY: as above, until they are taken, posted again and published, which takes `&mut self`.
        Some((buffer, unsafe { self.core.done(at) }))
    }

    /// The report of the place that was taken last; the one that the ring was filled with, if none was.
    #[inline]
    pub(crate) fn just_taken(&self) -> &D {
        // SAFETY: one place less than there are is posted at most, from `next` on: the one before `next` is never the
        // device's. It is posted, and may become the device's, only behind a `take`, which takes `&mut self`.
        unsafe { self.core.done(self.next.wrapping_sub(1)) }
    }

    /// The completed buffers and their reports, as far as last seen, for a loop over them.
    #[inline(always)]
    pub(crate) fn completed_run(&self) -> CompletedRun<'_, P, D> {
        let RingCore { posted, done, .. } = &*self.core;
        CompletedRun { posted, done, next: self.next, len: self.ready_hint(), tail: self.tail }
    }

    /// Takes `n` completed buffers, which the caller saw by [`Driver::completed`].
    #[inline(always)]
    pub(crate) fn take(&mut self, n: usize) {
        debug_assert!(n <= self.ready_hint());
        self.next = self.next.wrapping_add(n.min(self.ready_hint()));
    }
}

/// Completed places in a row: where they lie is looked up once.
#[derive(Clone, Copy)]
pub(crate) struct CompletedRun<'a, P: Copy, D: Copy> {
    posted: &'a [SharedCell<P>],
    done: &'a [SharedCell<D>],
    next: usize,
    len: usize,
    tail: usize,
}

/// A completed place.
pub(crate) struct Spot<'a, P: Copy, D: Copy> {
    pub(crate) report: &'a D,
    pub(crate) buffer: P,
    again: &'a SharedCell<P>,
}

impl<'a, P: Copy, D: Copy> CompletedRun<'a, P, D> {
    /// The report of the first place, if there is one.
    #[inline(always)]
    pub(crate) fn first(&self) -> Option<&'a D> {
        // SAFETY: places below the `head` that was read belong to the driver, until they are taken, posted again and
        // published, for which it must not be borrowed.
        (self.len > 0).then(|| place(self.done, self.next).with(|d| unsafe { &*d }))
    }

    /// Places from the `used`-th on, from 0, at most `most`: as many as lie in straight lines, and at least one if there
    /// is one. `again` buffers of the run were posted anew ([`Spot::post_again`]) so far.
    #[inline(always)]
    pub(crate) fn places(
        &self,
        used: usize,
        again: usize,
        most: usize,
    ) -> impl ExactSizeIterator<Item = Spot<'a, P, D>> + use<'a, P, D> {
        let size = self.posted.len();
        let at = self.next.wrapping_add(used);
        let [at, tail] = [at, self.tail.wrapping_add(again)].map(|position| position & (size - 1));
        // All within the line that ends first.
        let to_the_end = size - at.max(tail);
        let len = most.min(self.len.saturating_sub(used)).min(to_the_end);
        // SAFETY: `start` is below `size`, the length of the slice, and so is what `len` adds to it at most.
        let line = |start: usize| unsafe { self.posted.get_unchecked(start..start + len) };
        // SAFETY: as above: there are as many reports.
        let reports = unsafe { self.done.get_unchecked(at..at + len) };
        let spots = reports.iter().zip(line(at)).zip(line(tail));
        spots.map(|((report, buffer), again)| Spot {
            // SAFETY: places below the `head` that was read belong to the driver, until they are taken, posted again and
            // published, for which it must not be borrowed.
            report: report.with(|d| unsafe { &*d }),
            // SAFETY: as above.
            buffer: buffer.with(|p| unsafe { *p }),
            again,
        })
    }
}

impl<P: Copy, D: Copy> Spot<'_, P, D> {
    /// Posts the buffer anew, behind those before it that were. All before it have been looked at for the last time, and
    /// so has this one: [`Driver::take_and_post`] follows.
    #[inline(always)]
    pub(crate) fn post_again(self) {
        // SAFETY: places above the published tail belong to the driver, which is borrowed, as long as they are not in use.
        // The ring has one place that is not; each buffer that is done with leaves its own behind.
        self.again.with_mut(|p| unsafe { *p = self.buffer });
    }
}

impl<P: Copy, D: Copy> Drop for Driver<P, D> {
    fn drop(&mut self) {
        // What was posted and not published is published now, so that there is one account of what is left.
        self.publish();
        self.core.taken.store(self.next, Ordering::Relaxed);
    }
}

/// The device's side: fills buffers, reports them.
pub(crate) struct Device<P: Copy, D: Copy> {
    core: Arc<RingCore<P, D>>,
    /// Next place to complete.
    head: usize,
    /// `tail` when it was last read.
    posted: usize,
}

impl<P: Copy, D: Copy> Device<P, D> {
    /// Buffers that can be filled, as of now.
    #[inline(always)]
    pub(crate) fn available(&mut self) -> usize {
        self.posted = self.core.tail.0.load(Ordering::Acquire);
        self.posted.wrapping_sub(self.head)
    }

    /// The `i`-th buffer to fill, from 0; None if there are not so many.
    #[inline(always)]
    pub(crate) fn buffer(&mut self, i: usize) -> Option<P> {
        if i >= self.posted.wrapping_sub(self.head) && i >= self.available() {
            return None;
        }
        // SAFETY: places below the `tail` that was read belong to the device.
        Some(unsafe { self.core.posted(self.head.wrapping_add(i)) })
    }

    /// Writes the report of the `i`-th buffer, which the caller saw by [`Device::buffer`]; the driver sees it after
    /// [`Device::complete`].
    #[inline(always)]
    pub(crate) fn report(&mut self, i: usize, report: D) {
        debug_assert!(i < self.posted.wrapping_sub(self.head));
        if i < self.posted.wrapping_sub(self.head) {
            let place = place(&self.core.done, self.head.wrapping_add(i));
            // SAFETY: as in `buffer`.
            place.with_mut(|d| unsafe { *d = report });
        }
    }

    /// Hands the first `n` buffers, which were reported, to the driver, all at once.
    #[inline(always)]
    pub(crate) fn complete(&mut self, n: usize) {
        debug_assert!(n <= self.posted.wrapping_sub(self.head));
        self.head = self.head.wrapping_add(n.min(self.posted.wrapping_sub(self.head)));
        self.core.head.0.store(self.head, Ordering::Release);
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
