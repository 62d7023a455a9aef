//! Faults on a device: a wrapper that loses, duplicates, reorders, corrupts, delays and throttles frames, both ways.
//!
//! [`Faulty`] is a [`Device`] around another one. The device inside gets a descriptor ring and a pool of its own, so the
//! stack's ledger sees a frame when it leaves the wrapper, and no longer once it entered it: what is lost in between is
//! lost as on a real cable. Every decision comes from a seed, in the order of the frames.
//!
//! Order is kept except for frames that are chosen to be reordered, whatever the delay: a cable has no jitter that
//! overtakes. A corrupted frame has one to three bits of one byte flipped, which no checksum misses; it loses what a
//! device vouched for (an open or verified checksum, a segment size), its checksum being completed first, so that only the
//! checksum can tell. ARP packets, which have none, are spared.
//!
//! Memory is bounded: [`QUEUE_MAX`] frames wait in each direction, more are dropped as by a full switch.

mod line;
mod queue;

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rxpath_core::cx::Rng;
use rxpath_core::nic::{Device, DeviceInfo, DeviceQueue, RxAttach, Steering};

use self::line::Line;
pub use self::line::QUEUE_MAX;
use self::queue::FaultyQueue;

/// What goes wrong. Probabilities are from 0 to 1 and apply to each frame; what lies outside counts as the nearer end.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// The frame is lost.
    pub loss: f64,
    /// The frame comes twice.
    pub duplicate: f64,
    /// The frame is held back for up to [`Faults::REORDER_HOLD`], so that later ones overtake it.
    pub reorder: f64,
    /// One to three bits of one byte of the frame are flipped.
    pub corrupt: f64,
    /// How long a frame is under way, uniformly within the range.
    pub delay: RangeInclusive<Duration>,
    /// Bits per second that the cable carries; frames queue for it.
    pub rate: Option<u64>,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults {
        loss: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        corrupt: 0.0,
        delay: Duration::ZERO..=Duration::ZERO,
        rate: None,
    };

    /// The longest time that a reordered frame is held back beyond its delay.
    pub const REORDER_HOLD: Duration = Duration::from_millis(3);

    /// Two percent lost, two reordered, one twice, half a percent corrupted.
    pub const ROUGH: Faults = Faults { loss: 0.02, duplicate: 0.01, reorder: 0.02, corrupt: 0.005, ..Faults::NONE };
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::NONE
    }
}

/// What a wrapper did to the frames of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Frames that came.
    pub offered: u64,
    /// Frames that went on, copies included.
    pub passed: u64,
    /// Frames lost on purpose.
    pub lost: u64,
    /// Second copies made.
    pub duplicated: u64,
    /// Frames held back for others to overtake.
    pub reordered: u64,
    /// Frames with bits flipped.
    pub corrupted: u64,
    /// Frames dropped because too many waited.
    pub overflowed: u64,
    /// Frames that the device inside did not take, or its ring had no room for.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Counts([AtomicU64; 8]);

/// Index of a count in [`Counts`]; the order of the fields of [`FaultCounts`].
#[derive(Clone, Copy)]
enum Count {
    Offered,
    Passed,
    Lost,
    Duplicated,
    Reordered,
    Corrupted,
    Overflowed,
    Refused,
}

impl Counts {
    fn add(&self, count: Count, n: u64) {
        self.0[count as usize].fetch_add(n, Ordering::Relaxed);
    }

    fn inc(&self, count: Count) {
        self.add(count, 1);
    }

    fn snapshot(&self) -> FaultCounts {
        let [offered, passed, lost, duplicated, reordered, corrupted, overflowed, refused] =
            std::array::from_fn(|i| self.0[i].load(Ordering::Relaxed));
        FaultCounts { offered, passed, lost, duplicated, reordered, corrupted, overflowed, refused }
    }
}

/// Reads what a wrapper did, from any thread and as long as one likes.
#[derive(Clone, Debug, Default)]
pub struct FaultStats {
    rx: Arc<Counts>,
    tx: Arc<Counts>,
}

impl FaultStats {
    /// Frames towards the stack, all queues together.
    pub fn rx(&self) -> FaultCounts {
        self.rx.snapshot()
    }

    /// Frames from the stack, all queues together.
    pub fn tx(&self) -> FaultCounts {
        self.tx.snapshot()
    }
}

/// A device with faults.
pub struct Faulty {
    inner: Box<dyn Device>,
    faults: Faults,
    seed: u64,
    stats: FaultStats,
}

impl Faulty {
    /// Wraps `device`. The same seed and the same frames at the same times give the same faults.
    pub fn new(device: Box<dyn Device>, faults: Faults, seed: u64) -> Faulty {
        Faulty { inner: device, faults, seed, stats: FaultStats::default() }
    }

    /// What is done to frames, counted: to be taken before the stack takes the device.
    pub fn stats(&self) -> FaultStats {
        self.stats.clone()
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faulty")
            .field("device", &self.inner.info().name)
            .field("faults", &self.faults)
            .field("seed", &self.seed)
            .finish()
    }
}

impl Device for Faulty {
    fn info(&self) -> DeviceInfo {
        self.inner.info()
    }

    fn open(self: Box<Self>, queues: Vec<RxAttach>, steering: Steering) -> io::Result<Vec<Box<dyn DeviceQueue>>> {
        let Faulty { inner, faults, seed, stats } = *self;
        let mut seeds = Rng::new(seed);
        let mut line = |counts: &Arc<Counts>| Line::new(faults.clone(), Rng::new(seeds.next_u64()), counts.clone());
        let lines: Vec<_> = queues.iter().map(|_| (line(&stats.rx), line(&stats.tx))).collect();
        let (attached, outers) = queue::rings(queues)?;
        let opened = inner.open(attached, steering.clone())?;
        let queues = opened.into_iter().zip(outers).zip(lines).map(|((inner, outer), lines)| {
            Box::new(FaultyQueue::new(inner, outer, lines, steering.clone())) as Box<dyn DeviceQueue>
        });
        Ok(queues.collect())
    }
}
