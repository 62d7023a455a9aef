//! A softirq thread per Cpu.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rxpath_core::stack::Stack as Core;
use rxpath_trace::Time;

use super::sleeper::{Bell, Sleeper};
use crate::clock::Clock;

/// Looks at a Cpu whose token somebody else holds before the thread goes to sleep for a moment.
const CONTENDED_TRIES: u32 = 16;
/// That moment.
const CONTENDED_NAP: Duration = Duration::from_micros(100);

/// The threads of a stack.
pub(crate) struct Threads {
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    /// Starts one thread per bell.
    pub(super) fn start(core: &Core, clock: &Arc<dyn Clock>, bells: Vec<Arc<Bell>>) -> io::Result<Threads> {
        let threads = Threads { handles: Mutex::default() };
        for (cpu, bell) in (0..).zip(bells) {
            let sleeper = Sleeper::new(core, std::iter::once(cpu), bell)?;
            let softirq = SoftirqThread { core: core.clone(), clock: clock.clone(), cpu, sleeper };
            let thread = std::thread::Builder::new().name(format!("softirq/{cpu}"));
            threads.handles().push(thread.spawn(move || softirq.run())?);
        }
        Ok(threads)
    }

    fn handles(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all threads; the core is down. A thread of them does not wait for itself.
    pub(super) fn join(&self) {
        let handles = std::mem::take(&mut *self.handles());
        let me = std::thread::current().id();
        for handle in handles {
            if handle.thread().id() != me {
                // A thread that panicked has said so.
                let _ = handle.join();
            }
        }
    }
}

struct SoftirqThread {
    core: Core,
    clock: Arc<dyn Clock>,
    cpu: u16,
    sleeper: Sleeper,
}

impl SoftirqThread {
    fn run(mut self) {
        let mut contended = 0;
        while !self.core.is_down() {
            let ran = self.core.softirq(self.cpu, &mut || self.clock.now());
            let nap = match ran {
                Some(ran) if ran.again => continue,
                Some(_) => match self.core.sleep_until(self.cpu) {
                    Some(Time::MAX) => None,
                    Some(at) => Some(self.until(at)),
                    None => continue,
                },
                None if contended < CONTENDED_TRIES => {
                    contended += 1;
                    std::thread::yield_now();
                    continue;
                }
                None => Some(CONTENDED_NAP),
            };
            contended = 0;
            if nap.is_some_and(|nap| nap.is_zero()) {
                continue;
            }
            if self.sleeper.sleep(nap).is_err() {
                // Without epoll there is still the clock.
                std::thread::sleep(CONTENDED_NAP);
            }
        }
    }

    fn until(&self, at: Time) -> Duration {
        Duration::from_nanos(at - self.clock.now())
    }
}
