//! With a condition variable, for systems without epoll: no device there interrupts by a file descriptor.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rxpath_core::nic::Doorbell;
use rxpath_core::stack::Stack as Core;

/// Wakes one [`Sleeper`].
pub(crate) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        Ok(Bell { rung: Mutex::new(false), changed: Condvar::new() })
    }
}

impl Doorbell for Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// Sleeps on behalf of some Cpus.
pub(crate) struct Sleeper {
    bell: Arc<Bell>,
}

impl Sleeper {
    pub(crate) fn new(_core: &Core, _cpus: impl Iterator<Item = u16>, bell: Arc<Bell>) -> io::Result<Sleeper> {
        Ok(Sleeper { bell })
    }

    /// Sleeps until the bell rings or the time is over. May return early.
    pub(crate) fn sleep(&mut self, time: Option<Duration>) -> io::Result<()> {
        let mut rung = self.bell.rung.lock().unwrap_or_else(PoisonError::into_inner);
        if !*rung {
            let wait = time.unwrap_or(Duration::from_secs(3_600));
            rung = self.bell.changed.wait_timeout(rung, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        *rung = false;
        Ok(())
    }
}
