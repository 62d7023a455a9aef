//! Frames that found no descriptor: counted, and remembered for the driver, so that they have a life too.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rxpath_trace::{PacketId, Time};

use crate::sync::Padded;

/// A frame that the device had to drop because no descriptor was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The identity that the frame was given.
    pub id: PacketId,
}

impl std::fmt::Display for Missed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no descriptor posted for frame {:?}", self.id)
    }
}

impl std::error::Error for Missed {}

/// What the driver learns of such a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissedFrame {
    /// The identity that the frame was given.
    pub id: PacketId,
    /// When it was offered.
    pub at: Time,
    /// Its length in bytes.
    pub len: u32,
    /// True if the driver could not refill because the pool was dry (`rx_no_buffer`); else it was too slow.
    pub no_buffer: bool,
}

/// Records kept between two visits of the driver.
const RECORDS: usize = 256;

/// The bounded list.
pub(crate) struct MissedList {
    any: AtomicBool,
    list: Mutex<Records>,
}

struct Records {
    frames: Vec<MissedFrame>,
    overflow: u64,
}

impl MissedList {
    pub(crate) fn new() -> MissedList {
        let list = Records { frames: Vec::with_capacity(RECORDS), overflow: 0 };
        MissedList { any: AtomicBool::new(false), list: Mutex::new(list) }
    }

    pub(crate) fn push(&self, frame: MissedFrame) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.frames.len() < RECORDS {
            list.frames.push(frame);
        } else {
            list.overflow += 1;
        }
        self.any.store(true, Ordering::Release);
    }

    /// Whether there are records.
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Hands all records to `f`, oldest first; gives the number of frames of which there is no record. `spare` is the
    /// driver's own list: the two are swapped, so that nothing is allocated and `f` runs outside the lock.
    pub(crate) fn drain(&self, spare: &mut Vec<MissedFrame>, f: impl FnMut(MissedFrame)) -> u64 {
        if !self.any() {
            return 0;
        }
        spare.clear();
        spare.reserve(RECORDS);
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        self.any.store(false, Ordering::Relaxed);
        std::mem::swap(&mut list.frames, spare);
        let overflow = std::mem::take(&mut list.overflow);
        drop(list);
        spare.drain(..).for_each(f);
        overflow
    }
}

/// Counters of a ring, readable from anywhere.
#[derive(Default)]
pub struct RingStats {
    device: Padded<DeviceStats>,
    driver: Padded<DriverStats>,
}

#[derive(Default)]
struct DeviceStats {
    offered: AtomicU64,
    missed: AtomicU64,
    no_buffer: AtomicU64,
}

#[derive(Default)]
struct DriverStats {
    harvested: AtomicU64,
    alloc_failed: AtomicU64,
}

impl RingStats {
    /// Frames that the device had for this ring, missed ones included.
    pub fn offered(&self) -> u64 {
        self.device.0.offered.load(Ordering::Relaxed)
    }

    /// Of these, frames that found no descriptor (`rx_missed`), for whatever reason.
    pub fn missed(&self) -> u64 {
        self.device.0.missed.load(Ordering::Relaxed)
    }

    /// Of the missed, frames that found none because the pool was dry (`rx_no_buffer`).
    pub fn no_buffer(&self) -> u64 {
        self.device.0.no_buffer.load(Ordering::Relaxed)
    }

    /// Frames that the driver took, recycled ones included.
    pub fn harvested(&self) -> u64 {
        self.driver.0.harvested.load(Ordering::Relaxed)
    }

    /// Refills that found the pool dry (`alloc_rx_buff_failed`).
    pub fn alloc_failed(&self) -> u64 {
        self.driver.0.alloc_failed.load(Ordering::Relaxed)
    }

    /// Frames in the ring, waiting for the driver.
    pub fn held(&self) -> u64 {
        // The driver's count first: a frame that is taken between the reads then counts as held, not as less than none.
        let gone = self.harvested();
        self.offered().saturating_sub(self.missed()).saturating_sub(gone)
    }

    /// The device offered `n` frames so far.
    #[inline(always)]
    pub(crate) fn offered_so_far(&self, n: u64) {
        self.device.0.offered.store(n, Ordering::Relaxed);
    }

    pub(crate) fn frame_missed(&self, no_buffer: bool) {
        bump(&self.device.0.missed);
        if no_buffer {
            bump(&self.device.0.no_buffer);
        }
    }

    /// The driver took `n` frames so far.
    #[inline(always)]
    pub(crate) fn harvested_so_far(&self, n: u64) {
        self.driver.0.harvested.store(n, Ordering::Relaxed);
    }

    pub(crate) fn refill_failed(&self) {
        bump(&self.driver.0.alloc_failed);
    }
}

impl std::fmt::Debug for RingStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingStats")
            .field("offered", &self.offered())
            .field("missed", &self.missed())
            .field("no_buffer", &self.no_buffer())
            .field("harvested", &self.harvested())
            .field("alloc_failed", &self.alloc_failed())
            .finish()
    }
}

/// Adds one. Each counter has a single writer, so a load and a store do; a locked instruction costs ten times as much.
#[inline(always)]
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
