//! What a listener knows of Fast Open (RFC 7413): how many of its connections may be open before their handshakes end, and
//! the keys of its cookies.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rxpath_trace::Time;

use crate::sysctl::FastOpenKeys;

/// For how long the place of a connection that its peer has reset stays taken: who sends SYNs with data under a false
/// address gains nothing by having the owner of that address reset them (RFC 7413 section 5.1).
const RESET_PENALTY: u64 = 60_000_000_000;

/// The connections of a listener whose handshakes have not ended (`struct fastopen_queue`).
#[derive(Debug, Default)]
pub struct FastOpenQueue {
    limit: AtomicU32,
    taken: Mutex<Taken>,
    no_cookie: AtomicBool,
    keys: Mutex<Option<FastOpenKeys>>,
}

/// Places that are taken.
#[derive(Debug, Default)]
struct Taken {
    /// All of them.
    count: u32,
    /// Of those, which are free again when: their connections were reset.
    reset: VecDeque<Time>,
}

/// Whether a listener takes another connection early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It takes none.
    Off,
    /// It has as many as it may have.
    Full,
    /// There is room.
    Room,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FastOpenQueue {
    /// How many connections may be open early at a time; 0 for none (`TCP_FASTOPEN`).
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How many may be open early.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Whether data is taken without a cookie (`TCP_FASTOPEN_NO_COOKIE`).
    pub fn set_no_cookie(&self, on: bool) {
        self.no_cookie.store(on, Ordering::Relaxed);
    }

    /// Whether data is taken without a cookie.
    pub fn no_cookie(&self) -> bool {
        self.no_cookie.load(Ordering::Relaxed)
    }

    /// Keys of its own (`TCP_FASTOPEN_KEY`).
    pub fn set_keys(&self, keys: FastOpenKeys) {
        *lock(&self.keys) = Some(keys);
    }

    /// Keys of its own, if it has any.
    pub fn keys(&self) -> Option<FastOpenKeys> {
        *lock(&self.keys)
    }

    /// Connections that take a place now.
    pub fn taken(&self) -> u32 {
        lock(&self.taken).count
    }

    /// Whether another one may be opened early (`tcp_fastopen_queue_check`).
    pub fn admits(&self, now: Time) -> Admission {
        let limit = self.limit();
        if limit == 0 {
            return Admission::Off;
        }
        let mut taken = lock(&self.taken);
        if taken.count < limit {
            return Admission::Room;
        }
        if taken.reset.front().is_none_or(|&free_at| free_at > now) {
            return Admission::Full;
        }
        taken.reset.pop_front();
        taken.count -= 1;
        Admission::Room
    }

    /// A connection takes a place.
    pub fn enter(&self) {
        lock(&self.taken).count += 1;
    }

    /// The handshake of one has ended, or the connection has.
    pub fn leave(&self) {
        let mut taken = lock(&self.taken);
        taken.count = taken.count.saturating_sub(1);
    }

    /// The peer has reset one that the application had already: its place stays taken for a minute.
    pub fn leave_reset(&self, now: Time) {
        lock(&self.taken).reset.push_back(now + RESET_PENALTY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_connection_that_was_reset_is_free_after_a_minute() {
        let queue = FastOpenQueue::default();
        let at = Time::from_secs;
        assert_eq!(queue.admits(at(1)), Admission::Off);
        queue.set_limit(2);
        queue.enter();
        queue.enter();
        assert_eq!(queue.admits(at(1)), Admission::Full);
        queue.leave();
        assert_eq!(queue.admits(at(1)), Admission::Room);
        queue.leave_reset(at(1));
        assert_eq!(queue.admits(at(1)), Admission::Room, "one of two places is taken for a while");
        queue.enter();
        assert_eq!(queue.admits(at(60)), Admission::Full);
        assert_eq!(queue.admits(at(61)), Admission::Room);
        assert_eq!(queue.taken(), 1);
    }
}
