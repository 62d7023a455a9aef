//! The stack's clock: all time that a stack knows comes from one [`Clock`].
//!
//! [`MonotonicClock`] is the system's; [`ManualClock`] is virtual: it stands still while the program runs and jumps to
//! the next deadline when every call is blocked.

mod world;

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rxpath_trace::Time;

use self::world::Timeline;
pub(crate) use self::world::{Lives, Waited};

/// Where a stack's clocks begin: late enough that no age of anything is below zero.
const EPOCH: Time = Time(1_000_000_000);

/// A source of time. It never goes back.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Time;

    /// Itself, if it is virtual: calls that block then advance it instead of sleeping.
    fn manual(&self) -> Option<&ManualClock> {
        None
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Time {
        (**self).now()
    }

    fn manual(&self) -> Option<&ManualClock> {
        (**self).manual()
    }
}

/// The system's monotonic clock, from one second on when it is made.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock(Instant);

impl MonotonicClock {
    /// A clock that begins now.
    pub fn new() -> MonotonicClock {
        MonotonicClock(Instant::now())
    }
}

impl Default for MonotonicClock {
    fn default() -> MonotonicClock {
        MonotonicClock::new()
    }
}

impl Clock for MonotonicClock {
    #[inline]
    fn now(&self) -> Time {
        EPOCH + u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX / 2)
    }
}

/// A virtual clock, shared by all stacks that are to live in one time. Cloning gives another handle to the same clock.
///
/// A blocking call on such a stack polls all stacks of the clock; when nothing is left to do, it advances the clock to
/// the next deadline of any stack or call. Each round of polls takes one tick (1 us unless [`ManualClock::with_tick`]
/// says otherwise), so that no round trip is free and nothing goes on for ever in no time.
///
/// Programs of several threads run in [`ManualClock::run`]: one thread at a time, in a fixed order, so that the same
/// program gives the same run. A call that can never be satisfied, because everybody is blocked and no timer is armed,
/// ends with [`std::io::ErrorKind::Deadlock`].
///
/// ```
/// use std::time::Duration;
/// use rxpath::clock::{Clock, ManualClock};
///
/// let clock = ManualClock::new();
/// let before = clock.now();
/// clock.sleep(Duration::from_secs(3_600))?;
/// assert!(clock.now() - before >= 3_600_000_000_000, "an hour has passed, in no time");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct ManualClock(Arc<Timeline>);

impl std::fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManualClock").field("now", &self.now()).finish_non_exhaustive()
    }
}

impl Default for ManualClock {
    fn default() -> ManualClock {
        ManualClock::new()
    }
}

impl ManualClock {
    /// A clock that stands at one second, with a tick of 1 us.
    pub fn new() -> ManualClock {
        ManualClock::with_tick(Duration::from_micros(1))
    }

    /// A clock with another tick, 1 ns at least.
    pub fn with_tick(tick: Duration) -> ManualClock {
        ManualClock(Arc::new(Timeline::new(EPOCH, nanos(tick))))
    }

    /// Sets the clock forward to `to`; does nothing if it is past that. Stacks notice with their next poll.
    pub fn advance_to(&self, to: Time) {
        self.0.advance_to(to);
    }

    /// Sets the clock forward by `by`.
    pub fn advance(&self, by: Duration) {
        self.0.advance(nanos(by));
    }

    /// Lets `time` pass: everything that is due until then happens.
    ///
    /// # Errors
    /// None; a call that waits may fail.
    pub fn sleep(&self, time: Duration) -> io::Result<()> {
        let end = self.now() + nanos(time);
        match self.block(Some(end), || (self.now() >= end).then_some(())) {
            Ok(()) | Err(Waited::Again | Waited::TimedOut) => Ok(()),
            Err(Waited::Dead) => Err(deadlock()),
        }
    }

    /// Runs programs side by side in virtual time, each on a thread of its own, one at a time: in this order at first,
    /// and from one to the next whenever a call blocks. Returns when all have ended.
    ///
    /// # Panics
    /// If one of the programs panics, with what it panicked with.
    pub fn run<'env>(&self, programs: Vec<Box<dyn FnOnce() + Send + 'env>>) {
        self.0.run(programs);
    }

    /// Adds a stack to the world.
    pub(crate) fn enter(&self, stack: Weak<dyn Lives>) {
        self.0.enter(stack);
    }

    /// Runs `attempt` until it gives something, the deadline has passed, or nothing can happen any more.
    pub(crate) fn block<T>(&self, deadline: Option<Time>, attempt: impl FnMut() -> Option<T>) -> Result<T, Waited> {
        self.0.block(deadline, attempt)
    }
}

impl Clock for ManualClock {
    #[inline]
    fn now(&self) -> Time {
        self.0.now()
    }

    fn manual(&self) -> Option<&ManualClock> {
        Some(self)
    }
}

/// A duration in nanoseconds; 146 years at most.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 4)
}

/// The error of a call that can never be satisfied.
pub(crate) fn deadlock() -> io::Error {
    let what = "every call is blocked and no timer is armed: in virtual time nothing can happen any more";
    io::Error::new(io::ErrorKind::Deadlock, what)
}
