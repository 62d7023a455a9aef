//! The interrupt line between a device queue and its NAPI: masking, moderation, and the `SCHED`/`MISSED` bits.
//!
//! Mirrors the hard interrupt handler of a driver (`napi_schedule_irqoff`) and `napi_schedule_prep`. The handler does
//! nothing but schedule NAPI and leave the line masked; the line is unmasked by `napi_complete_done`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use rxpath_trace::Time;

/// How a Cpu's softirq is woken from outside: by a device's interrupt or by another thread's command.
pub trait Doorbell: Send + Sync {
    /// Wakes the holder of the Cpu's token. May be called from any thread, any number of times.
    fn ring(&self);
}

/// A doorbell that wakes nobody: for stacks that are polled.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDoorbell;

impl Doorbell for NoDoorbell {
    fn ring(&self) {}
}

/// Interrupt moderation (`ethtool -c`): the interrupt fires when `rx_usecs` have passed since the first frame that was
/// not yet reported, or when `rx_frames` have gathered, whichever comes first; 0 switches a criterion off. With both
/// off every frame raises the interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moderation {
    /// Microseconds to wait after the first unreported frame.
    pub rx_usecs: u32,
    /// Number of frames to gather.
    pub rx_frames: u32,
}

/// On a poll list, or about to be put there. The line is masked while it is set.
const SCHED: u8 = 1;
/// A schedule request came while `SCHED` was set.
const MISSED: u8 = 2;

/// Scheduling state of one NAPI, shared with the interrupt line: both bits in one word, so that no request is lost
/// between them.
#[derive(Debug, Default)]
pub struct NapiState(AtomicU8);

impl NapiState {
    /// `napi_schedule_prep`: true if the caller is the one who must put the NAPI on the poll list.
    pub fn schedule_prep(&self) -> bool {
        let mask = |bits| Some(if bits & SCHED != 0 { SCHED | MISSED } else { SCHED });
        let before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, mask);
        before.is_ok_and(|bits| bits & SCHED == 0)
    }

    /// True while the NAPI is scheduled.
    pub fn is_scheduled(&self) -> bool {
        self.0.load(Ordering::Acquire) & SCHED != 0
    }

    /// The end of `napi_complete_done`: clears `SCHED`, or gives false if a schedule request was missed meanwhile, in
    /// which case the NAPI stays scheduled.
    pub fn complete(&self) -> bool {
        let unmask = |bits| Some(if bits & MISSED != 0 { SCHED } else { 0 });
        let before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, unmask);
        before.is_ok_and(|bits| bits & MISSED == 0)
    }
}

/// Counts of an interrupt line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IrqStats {
    /// Interrupts that fired.
    pub fired: u64,
    /// Requests that found the line masked (NAPI already scheduled).
    pub masked: u64,
    /// Requests that moderation held back.
    pub moderated: u64,
}

/// On lines of its own: those of other queues are written by other Cpus.
#[repr(align(128))]
struct Line {
    napi: NapiState,
    /// Set when the interrupt fired and the owner has not yet put the NAPI on its poll list.
    pending: AtomicBool,
    moderation: Moderation,
    /// Frames since the last interrupt.
    unreported: AtomicU32,
    /// Time of the first unreported frame plus one (0 = none).
    first_at: AtomicU64,
    bell: Arc<dyn Doorbell>,
    fired: AtomicU64,
    masked: AtomicU64,
    moderated: AtomicU64,
}

/// One queue's interrupt line. Cloning gives another handle to the same line.
#[derive(Clone)]
pub struct IrqLine(Arc<Line>);

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrqLine").field("napi", &self.0.napi).field("stats", &self.stats()).finish()
    }
}

impl IrqLine {
    /// A line that rings `bell` when it fires.
    pub fn new(moderation: Moderation, bell: Arc<dyn Doorbell>) -> IrqLine {
        IrqLine(Arc::new(Line {
            napi: NapiState::default(),
            pending: AtomicBool::new(false),
            moderation,
            unreported: AtomicU32::new(0),
            first_at: AtomicU64::new(0),
            bell,
            fired: AtomicU64::new(0),
            masked: AtomicU64::new(0),
            moderated: AtomicU64::new(0),
        }))
    }

    /// The scheduling state that this line drives.
    pub fn napi(&self) -> &NapiState {
        &self.0.napi
    }

    /// The device completed `frames` descriptors at `now`: fires the interrupt unless it is masked or held back.
    pub fn raise(&self, now: Time, frames: u32) {
        let line = &*self.0;
        if line.moderation != Moderation::default() && !self.due(now, frames) {
            line.moderated.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.fire();
    }

    /// Fires at once, past moderation: readiness of a file descriptor, or a poll that must not wait.
    pub fn fire(&self) {
        let line = &*self.0;
        line.unreported.store(0, Ordering::Relaxed);
        line.first_at.store(0, Ordering::Relaxed);
        if line.napi.schedule_prep() {
            line.fired.fetch_add(1, Ordering::Relaxed);
            line.pending.store(true, Ordering::Release);
            line.bell.ring();
        } else {
            line.masked.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the frames against `rx_frames` and the first one's age against `rx_usecs`.
    fn due(&self, now: Time, frames: u32) -> bool {
        let line = &*self.0;
        let Moderation { rx_usecs, rx_frames } = line.moderation;
        let unreported = line.unreported.fetch_add(frames, Ordering::Relaxed) + frames;
        if rx_frames > 0 && unreported >= rx_frames {
            return true;
        }
        let first = line.first_at.load(Ordering::Relaxed);
        if first == 0 {
            line.first_at.store(now.0 + 1, Ordering::Relaxed);
            return false;
        }
        rx_usecs > 0 && now.0 + 1 >= first + u64::from(rx_usecs) * 1_000
    }

    /// A reader who had the line lets it go: it fires if a request came meanwhile, or if frames are `left`.
    pub(crate) fn release(&self, left: bool) {
        let line = &*self.0;
        if !line.napi.complete() {
            line.fired.fetch_add(1, Ordering::Relaxed);
            line.pending.store(true, Ordering::Release);
            line.bell.ring();
        } else if left {
            self.fire();
        }
    }

    /// When the moderation timer runs out, if frames wait unreported.
    pub fn deadline(&self) -> Option<Time> {
        let first = self.0.first_at.load(Ordering::Relaxed);
        (first != 0 && self.0.moderation.rx_usecs > 0)
            .then(|| Time(first - 1 + u64::from(self.0.moderation.rx_usecs) * 1_000))
    }

    /// The moderation timer: fires if frames have waited for `rx_usecs`.
    pub fn tick(&self, now: Time) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.fire();
        }
    }

    /// True once after each interrupt: the owner, of whom there is one at a time, puts the NAPI on its poll list.
    ///
    /// Two plain accesses: the line cannot fire anew between them, as it is masked until the owner completes the poll.
    pub fn take_pending(&self) -> bool {
        let pending = self.0.pending.load(Ordering::Acquire);
        if pending {
            self.0.pending.store(false, Ordering::Relaxed);
        }
        pending
    }

    /// What the line has counted so far.
    pub fn stats(&self) -> IrqStats {
        IrqStats {
            fired: self.0.fired.load(Ordering::Relaxed),
            masked: self.0.masked.load(Ordering::Relaxed),
            moderated: self.0.moderated.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rx_usecs: u32, rx_frames: u32) -> IrqLine {
        IrqLine::new(Moderation { rx_usecs, rx_frames }, Arc::new(NoDoorbell))
    }

    #[test]
    fn an_interrupt_masks_the_line_until_the_poll_completes() {
        let irq = line(0, 0);
        irq.raise(Time(1), 1);
        assert!(irq.take_pending());
        assert!(!irq.take_pending());
        irq.raise(Time(2), 1);
        assert!(!irq.take_pending(), "masked: no second interrupt");
        assert_eq!(irq.stats(), IrqStats { fired: 1, masked: 1, moderated: 0 });
    }

    #[test]
    fn a_request_during_the_poll_is_not_lost() {
        let irq = line(0, 0);
        irq.raise(Time(1), 1);
        assert!(irq.take_pending());
        irq.raise(Time(2), 1);
        assert!(!irq.napi().complete(), "MISSED was set: poll again");
        assert!(irq.napi().complete());
        irq.raise(Time(3), 1);
        assert!(irq.take_pending(), "unmasked again");
    }

    #[test]
    fn who_lets_the_line_go_loses_no_request() {
        let irq = line(0, 0);
        assert!(irq.napi().schedule_prep(), "a reader has it");
        irq.raise(Time(1), 1);
        assert!(!irq.take_pending());
        irq.release(false);
        assert!(irq.take_pending() && irq.napi().is_scheduled(), "the request fires late");
        assert!(irq.napi().complete() && irq.napi().schedule_prep());
        irq.release(true);
        assert!(irq.take_pending(), "frames are left");
        assert!(irq.napi().complete() && irq.napi().schedule_prep());
        irq.release(false);
        assert!(!irq.take_pending() && !irq.napi().is_scheduled());
    }

    #[test]
    fn moderation_gathers_frames_or_waits() {
        let irq = line(50, 4);
        irq.raise(Time(0), 1);
        irq.raise(Time(10_000), 1);
        assert!(!irq.take_pending());
        assert_eq!(irq.deadline(), Some(Time(50_000)));
        irq.raise(Time(20_000), 2);
        assert!(irq.take_pending(), "four frames gathered");
        assert!(irq.napi().complete());
        irq.raise(Time(100_000), 1);
        irq.tick(Time(149_999));
        assert!(!irq.take_pending());
        irq.tick(Time(150_000));
        assert!(irq.take_pending(), "50 us after the first frame");
        assert_eq!(irq.stats().fired, 2);
    }
}
