//! Waiters: threads that block and tasks that await. They are woken after all locks are released.

use std::sync::atomic::{AtomicU32, Ordering};

use event_listener::{Event, EventListener, Listener as _};

/// Threads and tasks that wait for one kind of event.
///
/// The order that loses no wake-up: register ([`WaitQueue::listen`]), then look at the condition under its lock, then
/// wait. Whoever changes the condition does so under the same lock and wakes afterwards.
#[derive(Debug, Default)]
pub struct WaitQueue {
    event: Event,
    woken: AtomicU32,
}

impl WaitQueue {
    /// Nobody waits.
    pub fn new() -> WaitQueue {
        WaitQueue::default()
    }

    /// Registers the caller.
    pub fn listen(&self) -> EventListener {
        self.event.listen()
    }

    /// Wakes everybody who registered before.
    pub fn wake_all(&self) {
        self.woken.fetch_add(1, Ordering::Relaxed);
        self.event.notify(usize::MAX);
    }

    /// How often it was woken.
    pub fn wakeups(&self) -> u32 {
        self.woken.load(Ordering::Relaxed)
    }
}

/// Blocks the thread until `listener` is woken or `timeout` has passed; false on time-out.
pub fn wait(listener: EventListener, timeout: Option<std::time::Duration>) -> bool {
    match timeout {
        Some(timeout) => listener.wait_timeout(timeout).is_some(),
        None => {
            listener.wait();
            true
        }
    }
}
