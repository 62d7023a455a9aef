//! The socket lock (`lock_sock`, `bh_lock_sock`): one lock, two kinds of owner.
//!
//! *Softirq* holds it for the time of a few packets. *A user* (a reader, a writer) may hold it longer; a softirq that
//! finds it so does not wait: it leaves a mark, puts its packets on the socket's backlog and goes on. The user learns
//! of the mark at release and sees to it that the backlog is drained. A second user parks; everyone else spins a
//! little, because softirq owners are short.
//!
//! The word: `SOFTIRQ` or `USER` (never both), and beside `USER` possibly `BACKLOG` (a softirq was here) and `WAITERS`
//! (another user is parked). While a softirq owns the lock nobody else changes the word, so its release is a plain
//! store; taking the lock is one compare-and-swap for either.

mod owned;

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

pub use owned::{LockOwner, OwnedSoftirq};

use crate::sync::{AtomicU32, Backoff, Condvar, Mutex, Ordering, SharedCell};

const SOFTIRQ: u32 = 1;
const USER: u32 = 2;
const BACKLOG: u32 = 4;
const WAITERS: u32 = 8;

/// A lock around what belongs to a socket, with the kernel's two kinds of owner.
#[repr(C)]
pub struct SockLock<T> {
    state: AtomicU32,
    value: SharedCell<T>,
    parked: Mutex<usize>,
    freed: Condvar,
}

// SAFETY: the lock gives one owner at a time access to the value, and may so move it from thread to thread.
unsafe impl<T: Send> Sync for SockLock<T> {}
// SAFETY: as a box of T.
unsafe impl<T: Send> Send for SockLock<T> {}

impl<T> SockLock<T> {
    /// A free lock around `value`.
    pub fn new(value: T) -> SockLock<T> {
        SockLock {
            state: AtomicU32::new(0),
            value: SharedCell::new(value),
            parked: Mutex::new(0),
            freed: Condvar::new(),
        }
    }

    /// Takes the lock for a softirq (`bh_lock_sock` and `sock_owned_by_user` in one). None if a user owns it: the user
    /// now knows that there is a backlog. Waits for another softirq.
    #[inline]
    pub fn softirq(&self) -> Option<SoftirqGuard<'_, T>> {
        let free = self.state.compare_exchange(0, SOFTIRQ, Ordering::Acquire, Ordering::Relaxed);
        (free.is_ok() || self.softirq_slow()).then(|| SoftirqGuard { lock: self, not_sync: PhantomData })
    }

    #[cold]
    fn softirq_slow(&self) -> bool {
        let mut backoff = Backoff::new();
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            if state & SOFTIRQ != 0 {
                backoff.wait();
                state = self.state.load(Ordering::Relaxed);
                continue;
            }
            // A swap even if the mark is there already: only the newest value of the word tells that the user, who
            // clears it at release, is yet to see it.
            let to = if state == 0 { SOFTIRQ } else { state | BACKLOG };
            match self.exchange(state, to) {
                Ok(()) => return state == 0,
                Err(now) => state = now,
            }
        }
    }

    /// Takes the lock for a user (`lock_sock`). Waits for a softirq, parks for another user.
    #[inline]
    pub fn user(&self) -> UserGuard<'_, T> {
        if self.state.compare_exchange(0, USER, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.user_slow();
        }
        UserGuard { lock: self, not_sync: PhantomData }
    }

    /// Takes the lock for a user if nobody owns it.
    #[inline]
    pub fn try_user(&self) -> Option<UserGuard<'_, T>> {
        let free = self.state.compare_exchange(0, USER, Ordering::Acquire, Ordering::Relaxed);
        free.is_ok().then(|| UserGuard { lock: self, not_sync: PhantomData })
    }

    #[cold]
    fn user_slow(&self) {
        let mut backoff = Backoff::new();
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            if state == 0 {
                match self.exchange(0, USER) {
                    Ok(()) => return,
                    Err(now) => state = now,
                }
            } else if state & USER != 0 {
                return self.park();
            } else {
                backoff.wait();
                state = self.state.load(Ordering::Relaxed);
            }
        }
    }

    /// Waits for another user's release and takes the lock.
    fn park(&self) {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        *parked += 1;
        let mut backoff = Backoff::new();
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            if state == 0 {
                // Who leaves others parked takes their mark along: its release must wake the next.
                let own = if *parked > 1 { USER | WAITERS } else { USER };
                match self.exchange(0, own) {
                    Ok(()) => {
                        *parked -= 1;
                        return;
                    }
                    Err(now) => state = now,
                }
                continue;
            }
            if state & USER != 0 {
                // The releasing user takes the mutex before it notifies, so it cannot do so between mark and wait.
                if let Err(now) = self.exchange(state, state | WAITERS) {
                    state = now;
                    continue;
                }
                parked = self.freed.wait(parked).unwrap_or_else(PoisonError::into_inner);
            } else {
                backoff.wait();
            }
            state = self.state.load(Ordering::Relaxed);
        }
    }

    /// From one state to another; else says what the state is.
    #[inline]
    fn exchange(&self, from: u32, to: u32) -> Result<(), u32> {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).map(|_| ())
    }

    /// Frees the lock. True if a softirq found it owned since it was taken.
    #[inline]
    fn release_user(&self) -> bool {
        let state = self.state.swap(0, Ordering::AcqRel);
        if state & WAITERS != 0 {
            self.wake();
        }
        state & BACKLOG != 0
    }

    #[cold]
    fn wake(&self) {
        let _parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        self.freed.notify_one();
    }

    /// The value; the lock is no more.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// The value: `&mut` says that nobody owns the lock.
    #[inline]
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: `&mut self` excludes guards and other references.
        self.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T: Default> Default for SockLock<T> {
    fn default() -> SockLock<T> {
        SockLock::new(T::default())
    }
}

impl<T> std::fmt::Debug for SockLock<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.load(Ordering::Relaxed);
        f.debug_struct("SockLock")
            .field("softirq", &(state & SOFTIRQ != 0))
            .field("user", &(state & USER != 0))
            .finish()
    }
}

/// Takes away the automatic `Send` and `Sync`, which would follow from those of the lock, not of the value.
type NotAuto<T> = PhantomData<*mut T>;

/// The lock, owned by a softirq. Released when it goes out of scope.
#[must_use = "the lock is released at once"]
pub struct SoftirqGuard<'a, T> {
    lock: &'a SockLock<T>,
    not_sync: NotAuto<T>,
}

/// The lock, owned by a user. [`UserGuard::release`] it, to learn of a backlog; going out of scope releases it too.
#[must_use = "the lock is released at once"]
pub struct UserGuard<'a, T> {
    lock: &'a SockLock<T>,
    not_sync: NotAuto<T>,
}

impl<T> UserGuard<'_, T> {
    /// Frees the lock (`release_sock`). True if a softirq was turned away meanwhile: the caller must see to it that the
    /// backlog is drained.
    #[inline]
    #[must_use = "true means that the backlog must be drained"]
    pub fn release(self) -> bool {
        ManuallyDrop::new(self).lock.release_user()
    }

    /// True if a softirq was turned away so far.
    #[inline]
    pub fn backlogged(&self) -> bool {
        self.lock.state.load(Ordering::Relaxed) & BACKLOG != 0
    }
}

impl<T> Drop for SoftirqGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.state.store(0, Ordering::Release);
    }
}

impl<T> Drop for UserGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.release_user();
    }
}

/// Access to the value for a guard.
macro_rules! guard {
    ($guard:ident) => {
        // SAFETY: a guard may be dropped, and its value used, on another thread if the value may.
        unsafe impl<T: Send> Send for $guard<'_, T> {}
        // SAFETY: a shared guard gives shared references to the value.
        unsafe impl<T: Sync> Sync for $guard<'_, T> {}

        impl<T> Deref for $guard<'_, T> {
            type Target = T;

            #[inline(always)]
            fn deref(&self) -> &T {
                // SAFETY: the guard owns the lock, and `&self` excludes `&mut` from it.
                self.lock.value.with(|value| unsafe { &*value })
            }
        }

        impl<T> DerefMut for $guard<'_, T> {
            #[inline(always)]
            fn deref_mut(&mut self) -> &mut T {
                // SAFETY: the guard owns the lock, and `&mut self` excludes other references from it.
                self.lock.value.with_mut(|value| unsafe { &mut *value })
            }
        }
    };
}

guard!(SoftirqGuard);
guard!(UserGuard);

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
