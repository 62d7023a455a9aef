//! Softirqs run by the threads that wait for them.
//!
//! One of the blocked threads leads: it runs the softirqs of all Cpus and, when they have nothing to do, sleeps for all.
//! The others wait for their own wake-ups, and for the leader to be satisfied and leave: then one of them leads.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use event_listener::Event;
use rxpath_core::nic::Doorbell;
use rxpath_core::stack::Stack as Core;
use rxpath_trace::Time;

use super::sleeper::{Bell, Sleeper};
use super::wait::{Attempt, span, timed_out, wait_any};
use crate::clock::Clock;

/// Further runs of a softirq for one call that does not block.
const NUDGES: usize = 4;

/// What the threads that drive a stack share.
pub(crate) struct Driver {
    leader: Mutex<Sleeper>,
    bell: Arc<Bell>,
    /// Notified when the leader leaves.
    vacant: Event,
    /// Calls on non-blocking sockets run a softirq.
    eager: bool,
}

impl Driver {
    pub(super) fn new(core: &Core, bell: Arc<Bell>, eager: bool) -> io::Result<Driver> {
        let sleeper = Sleeper::new(core, 0..core.cpus(), bell.clone())?;
        Ok(Driver { leader: Mutex::new(sleeper), bell, vacant: Event::new(), eager })
    }

    fn try_lead(&self) -> Option<Leader<'_>> {
        match self.leader.try_lock() {
            Ok(sleeper) => Some(Leader { sleeper: Some(sleeper), vacant: &self.vacant }),
            Err(TryLockError::Poisoned(poisoned)) => {
                Some(Leader { sleeper: Some(poisoned.into_inner()), vacant: &self.vacant })
            }
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(super) fn block<T>(
        &self,
        core: &Core,
        clock: &dyn Clock,
        deadline: Option<Time>,
        mut attempt: impl FnMut(bool) -> Attempt<T>,
    ) -> io::Result<T> {
        loop {
            if let Attempt::Done(value) = attempt(false) {
                return Ok(value);
            }
            let vacant = self.vacant.listen();
            if let Some(mut leader) = self.try_lead() {
                drop(vacant);
                return leader.lead(core, clock, deadline, attempt);
            }
            match attempt(true) {
                Attempt::Done(value) => return Ok(value),
                Attempt::Pending(listener) => {
                    let left = time_left(clock, deadline)?;
                    wait_any(listener.into_iter().chain([vacant]).collect(), left);
                }
            }
        }
    }

    /// One softirq run for a call that does not block; false if it would be no use.
    pub(super) fn nudge(&self, core: &Core, clock: &dyn Clock, cpu: u16) -> bool {
        if !self.eager {
            return false;
        }
        let mut runs = 0;
        while core.softirq(cpu, &mut || clock.now()).is_some_and(|ran| ran.again) && runs < NUDGES {
            runs += 1;
        }
        self.polled_beside();
        true
    }

    /// Softirqs were run past the leader: what it waits for may have come.
    pub(super) fn polled_beside(&self) {
        if matches!(self.leader.try_lock(), Err(TryLockError::WouldBlock)) {
            self.bell.ring();
        }
    }

    /// Sleeps until something is to be polled; at once if somebody else leads, for he polls.
    pub(super) fn wait(&self, core: &Core, clock: &dyn Clock, until: Option<Time>) -> io::Result<()> {
        let Some(mut leader) = self.try_lead() else {
            let left = until.map_or(Duration::from_millis(1), |at| span(clock, at));
            wait_any(vec![self.vacant.listen()], Some(left));
            return Ok(());
        };
        if core.is_down() {
            return Ok(());
        }
        leader.sleep(until.map(|at| span(clock, at)))
    }

    /// Wakes everybody: the stack goes down.
    pub(super) fn wake_all(&self) {
        self.bell.ring();
        self.vacant.notify(usize::MAX);
    }
}

/// Real time until the deadline.
fn time_left(clock: &dyn Clock, deadline: Option<Time>) -> io::Result<Option<Duration>> {
    match deadline {
        Some(at) if at <= clock.now() => Err(timed_out()),
        deadline => Ok(deadline.map(|at| span(clock, at))),
    }
}

/// The one thread that drives; another one is called when it leaves.
struct Leader<'a> {
    sleeper: Option<MutexGuard<'a, Sleeper>>,
    vacant: &'a Event,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.sleeper = None;
        self.vacant.notify(1);
    }
}

impl Leader<'_> {
    fn lead<T>(
        &mut self,
        core: &Core,
        clock: &dyn Clock,
        deadline: Option<Time>,
        mut attempt: impl FnMut(bool) -> Attempt<T>,
    ) -> io::Result<T> {
        loop {
            let mut again = false;
            for cpu in 0..core.cpus() {
                // A token that somebody else holds is given back soon: look again.
                again |= core.softirq(cpu, &mut || clock.now()).is_none_or(|ran| ran.again);
            }
            if let Attempt::Done(value) = attempt(false) {
                return Ok(value);
            }
            let left = time_left(clock, deadline)?;
            // A token that is taken again by now is given back soon, too.
            let timers: Option<Vec<Time>> = (0..core.cpus()).map(|cpu| core.sleep_until(cpu)).collect();
            let (false, Some(timers)) = (again, timers) else { continue };
            let timer = timers.into_iter().min().filter(|&at| at < Time::MAX).map(|at| span(clock, at));
            let nap = [left, timer].into_iter().flatten().min();
            if nap != Some(Duration::ZERO) {
                self.sleep(nap)?;
            }
        }
    }

    fn sleep(&mut self, time: Option<Duration>) -> io::Result<()> {
        match &mut self.sleeper {
            Some(sleeper) => sleeper.sleep(time),
            None => Ok(()),
        }
    }
}
