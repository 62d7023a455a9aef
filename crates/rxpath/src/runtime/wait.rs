//! What a blocked call waits on.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use event_listener::EventListener;
use rxpath_trace::Time;

use crate::clock::Clock;

/// What a call found when it tried.
pub(crate) enum Attempt<T> {
    /// It is done.
    Done(T),
    /// Not yet; with the registration to wait on, if one was asked for.
    Pending(Option<EventListener>),
}

/// Real time until `at`.
pub(super) fn span(clock: &dyn Clock, at: Time) -> Duration {
    Duration::from_nanos(at - clock.now())
}

/// The error of a call whose time is over.
pub(super) fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// Waits for the wake-ups that others deliver.
pub(super) fn block_on_wakeups<T>(
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
pub(super) fn wait_any(mut listeners: Vec<EventListener>, timeout: Option<Duration>) {
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
