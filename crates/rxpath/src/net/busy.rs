//! Readers that poll the queue of a device instead of sleeping (`SO_BUSY_POLL`).

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use rxpath_core::napi::BUSY_POLL_BUDGET;

use super::call::block;
use crate::clock::nanos;
use crate::runtime::Attempt;
use crate::stack::Stack;

/// What the application has set of a socket.
#[derive(Debug)]
pub(super) struct Busy {
    /// How long (`SO_BUSY_POLL`), in microseconds.
    us: AtomicU32,
    /// `SO_PREFER_BUSY_POLL`.
    prefer: AtomicBool,
    /// `SO_BUSY_POLL_BUDGET`.
    budget: AtomicU16,
}

impl Busy {
    /// As `net.core.busy_read` says.
    pub(super) fn new(stack: &Stack) -> Busy {
        Busy {
            us: AtomicU32::new(stack.core().config().sysctl.busy_read),
            prefer: AtomicBool::new(false),
            budget: AtomicU16::new(BUSY_POLL_BUDGET),
        }
    }

    pub(super) fn set_time(&self, time: Duration) -> io::Result<()> {
        match u32::try_from(time.as_micros()) {
            Ok(us) if i32::try_from(us).is_ok() => {
                self.us.store(us, Ordering::Relaxed);
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn time(&self) -> Duration {
        Duration::from_micros(self.us.load(Ordering::Relaxed).into())
    }

    pub(super) fn prefer(&self, prefer: bool) {
        self.prefer.store(prefer, Ordering::Relaxed);
    }

    pub(super) fn set_budget(&self, packets: u16) {
        self.budget.store(packets, Ordering::Relaxed);
    }

    /// As [`block`]; before it sleeps it polls the queue of the socket for as long as was set (`sk_busy_loop`): once, if it
    /// does not block. In virtual time, which stands still meanwhile, once.
    pub(super) fn block<T>(
        &self,
        stack: &Stack,
        cpus: Range<u16>,
        nonblocking: bool,
        timeout: Option<Duration>,
        napi_id: impl FnOnce() -> u32,
        mut attempt: impl FnMut(bool) -> Attempt<io::Result<T>>,
    ) -> io::Result<T> {
        let time = self.time().min(timeout.unwrap_or(Duration::MAX));
        if time.is_zero() || stack.core().is_down() {
            return block(stack, cpus, nonblocking, timeout, attempt);
        }
        if let Attempt::Done(outcome) = attempt(false) {
            return outcome;
        }
        let clock = stack.clock();
        let once = nonblocking || clock.manual().is_some();
        let end = clock.now() + nanos(time);
        let budget = self.budget.load(Ordering::Relaxed);
        if let Some(mut queue) = stack.core().busy_queue(napi_id(), self.prefer.load(Ordering::Relaxed)) {
            loop {
                queue.poll(budget, &mut || clock.now());
                if let Attempt::Done(outcome) = attempt(false) {
                    return outcome;
                }
                if once || clock.now() >= end || stack.core().is_down() {
                    break;
                }
                std::hint::spin_loop();
            }
        }
        block(stack, cpus, nonblocking, timeout, attempt)
    }
}
