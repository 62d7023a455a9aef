//! Who runs the softirqs, and how a call waits.
//!
//! | file | for |
//! |---|---|
//! | `threads` | [`Mode::Threads`]: a softirq thread per Cpu |
//! | `drive` | [`Mode::AppThreads`] and [`Mode::Polled`]: blocked calls run the softirqs themselves |
//! | `virtual_time` | a [`ManualClock`](crate::clock::ManualClock): one thread at a time, and the clock jumps |
//! | `sleeper` | sleeping until a doorbell rings, a device interrupts or a deadline comes |

mod drive;
mod sleeper;
mod threads;
pub(crate) mod virtual_time;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use event_listener::EventListener;
use rxpath_core::nic::Doorbell;
use rxpath_core::stack::Stack as Core;
use rxpath_trace::Time;

use self::drive::Driver;
use self::sleeper::Bell;
use self::threads::Threads;
use self::virtual_time::{Waited, deadlock};
use crate::clock::Clock;

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
    /// non-blocking sockets run no softirq. The only mode for a [`ManualClock`].
    Polled,
}

/// What a call found when it tried.
pub(crate) enum Attempt<T> {
    /// It is done.
    Done(T),
    /// Not yet; with the registration to wait on, if one was asked for.
    Pending(Option<EventListener>),
}

/// The doorbells of a stack that is to be made, by Cpu.
pub(crate) struct Bells {
    mode: Mode,
    manual: bool,
    bells: Vec<Arc<Bell>>,
}

impl Bells {
    pub(crate) fn new(mode: Mode, manual: bool, cpus: u16) -> io::Result<Bells> {
        if manual && mode == Mode::Threads {
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

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// Real time until `at`.
fn span(clock: &dyn Clock, at: Time) -> Duration {
    Duration::from_nanos(at - clock.now())
}

/// The error of a call whose time is over.
fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// Waits for the wake-ups that others deliver.
fn block_on_wakeups<T>(
    clock: &dyn Clock,
    deadline: Option<Time>,
    mut attempt: impl FnMut(bool) -> Attempt<T>,
) -> io::Result<T> {
    loop {
        match attempt(true) {
            Attempt::Done(value) => return Ok(value),
            Attempt::Pending(listener) => {
                let now = clock.now();
                if deadline.is_some_and(|at| at <= now) {
                    return Err(timed_out());
                }
                let listeners = listener.into_iter().collect();
                wait_any(listeners, deadline.map(|at| Duration::from_nanos(at - now)));
            }
        }
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Unpark>) {
        self.0.unpark();
    }
}

thread_local! {
    static WAKER: Waker = Waker::from(Arc::new(Unpark(std::thread::current())));
}

/// Sleeps until one of the listeners is notified or the time is over. May return early.
fn wait_any(mut listeners: Vec<EventListener>, timeout: Option<Duration>) {
    WAKER.with(|waker| {
        let mut context = Context::from_waker(waker);
        for listener in &mut listeners {
            if let Poll::Ready(()) = Pin::new(listener).poll(&mut context) {
                return;
            }
        }
        match timeout {
            Some(timeout) => std::thread::park_timeout(timeout),
            None => std::thread::park(),
        }
    });
}
