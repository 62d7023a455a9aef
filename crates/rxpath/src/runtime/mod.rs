//! Who runs the softirqs, and how a call waits.
//!
//! | file | for |
//! |---|---|
//! | `threads` | [`Mode::Threads`]: a softirq thread per Cpu |
//! | `drive` | [`Mode::AppThreads`] and [`Mode::Polled`]: blocked calls run the softirqs themselves |
//! | `sleeper` | sleeping until a doorbell rings, a device interrupts or a deadline comes |
//! | `wait` | what a blocked call waits on |
//!
//! Under a [`ManualClock`](crate::clock::ManualClock) the clock itself does all of this.

mod drive;
mod sleeper;
mod threads;
mod wait;

use std::io;
use std::sync::Arc;

use rxpath_core::nic::Doorbell;
use rxpath_core::stack::Stack as Core;
use rxpath_trace::Time;

use self::drive::Driver;
use self::sleeper::Bell;
use self::threads::Threads;
pub(crate) use self::wait::Attempt;
use self::wait::{block_on_wakeups, span, timed_out};
use crate::clock::{Clock, Waited, deadlock};

/// Who runs the stack's softirqs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A thread per Cpu, named `softirq/N`. Needs a clock that runs by itself.
    #[default]
    Threads,
    /// The application's threads: one of those that are blocked in a call runs the softirqs of all Cpus and sleeps for
    /// all of them; a call that would block on a non-blocking socket runs its Cpu's softirq once. While no thread is in
    /// a call nothing is received.
    AppThreads,
    /// Whoever calls [`Stack::poll`](crate::Stack::poll); a call that blocks polls until it is satisfied. Calls on
    /// non-blocking sockets run no softirq. The only mode for a [`ManualClock`](crate::clock::ManualClock).
    Polled,
}

/// The doorbells of a stack that is to be made, by Cpu.
pub(crate) struct Bells {
    mode: Mode,
    manual: bool,
    bells: Vec<Arc<Bell>>,
}

impl Bells {
    pub(crate) fn new(mode: Mode, manual: bool, cpus: u16) -> io::Result<Bells> {
        if manual && mode != Mode::Polled {
            let what = "a virtual clock does not run by itself: build the stack with Mode::Polled";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let count = match (manual, mode) {
            (true, _) => 0,
            (false, Mode::Threads) => usize::from(cpus),
            (false, _) => 1,
        };
        let bells = (0..count).map(|_| Bell::new().map(Arc::new)).collect::<io::Result<_>>()?;
        Ok(Bells { mode, manual, bells })
    }

    /// As the core wants them: one per Cpu.
    pub(crate) fn doorbells(&self, cpus: u16) -> Vec<Arc<dyn Doorbell>> {
        let Some(last) = self.bells.last() else { return Vec::new() };
        let bell = |cpu| -> Arc<dyn Doorbell> { self.bells.get(usize::from(cpu)).unwrap_or(last).clone() };
        (0..cpus).map(bell).collect()
    }

    /// Sets the stack going.
    pub(crate) fn start(self, core: &Core, clock: &Arc<dyn Clock>) -> io::Result<Runtime> {
        if self.manual {
            return Ok(Runtime::Virtual);
        }
        match (self.mode, self.bells.first()) {
            (Mode::Threads, _) => Threads::start(core, clock, self.bells).map(Runtime::Threads),
            (mode, Some(bell)) => Driver::new(core, bell.clone(), mode == Mode::AppThreads).map(Runtime::Driven),
            (_, None) => Ok(Runtime::Virtual),
        }
    }
}

/// Who runs the softirqs of a stack that was made.
pub(crate) enum Runtime {
    Threads(Threads),
    Driven(Driver),
    /// The virtual clock's world.
    Virtual,
}

impl Runtime {
    /// Tries until `attempt` is done or `deadline` has come (`TimedOut`). `attempt` gets whether it is to register.
    pub(crate) fn block<T>(
        &self,
        core: &Core,
        clock: &dyn Clock,
        deadline: Option<Time>,
        mut attempt: impl FnMut(bool) -> Attempt<T>,
    ) -> io::Result<T> {
        match self {
            Runtime::Threads(_) => block_on_wakeups(clock, deadline, attempt),
            Runtime::Driven(driver) => driver.block(core, clock, deadline, attempt),
            Runtime::Virtual => {
                let Some(clock) = clock.manual() else { return Err(deadlock()) };
                let once = || match attempt(false) {
                    Attempt::Done(value) => Some(value),
                    Attempt::Pending(_) => None,
                };
                clock.block(deadline, once).map_err(|ended| match ended {
                    Waited::TimedOut | Waited::Again => timed_out(),
                    Waited::Dead => deadlock(),
                })
            }
        }
    }

    /// A call on a non-blocking socket found nothing: true if the softirq was run, so that it may try again.
    pub(crate) fn nudge(&self, core: &Core, clock: &dyn Clock, cpu: u16) -> bool {
        match self {
            Runtime::Driven(driver) => driver.nudge(core, clock, cpu),
            Runtime::Threads(_) | Runtime::Virtual => false,
        }
    }

    /// Sleeps until there is a reason to poll, `until` at the latest. On threads there never is one, and virtual time
    /// jumps.
    pub(crate) fn wait(&self, core: &Core, clock: &dyn Clock, until: Option<Time>) -> io::Result<()> {
        match (self, clock.manual(), until) {
            (Runtime::Driven(driver), _, until) => driver.wait(core, clock, until),
            (Runtime::Threads(_), _, Some(until)) => {
                std::thread::sleep(span(clock, until));
                Ok(())
            }
            (Runtime::Virtual, Some(clock), Some(until)) => {
                clock.advance_to(until);
                Ok(())
            }
            (Runtime::Threads(_) | Runtime::Virtual, _, _) => Err(deadlock()),
        }
    }

    /// Somebody polled the core: those who are blocked may have to look.
    pub(crate) fn polled(&self) {
        if let Runtime::Driven(driver) = self {
            driver.polled_beside();
        }
    }

    /// Ends what runs; the core is down.
    pub(crate) fn stop(&self) {
        match self {
            Runtime::Threads(threads) => threads.join(),
            Runtime::Driven(driver) => driver.wake_all(),
            Runtime::Virtual => {}
        }
    }
}
