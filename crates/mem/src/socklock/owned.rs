//! A softirq guard that keeps its lock alive by itself: what a run of packets for one socket holds.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use super::{NotAuto, SockLock};
use crate::sync::Ordering;

/// Says where the lock lies in what owns it.
pub trait LockOwner<T> {
    /// The lock. Only the one that is found when the guard is made counts.
    fn lock_ref(&self) -> &SockLock<T>;
}

/// The lock, owned by a softirq, together with the handle that keeps it alive. Released by [`OwnedSoftirq::release`],
/// which gives the handle back, or when it goes out of scope.
#[must_use = "the lock is released at once"]
pub struct OwnedSoftirq<S, T> {
    /// None only while [`OwnedSoftirq::release`] takes the guard apart.
    owner: Option<Arc<S>>,
    lock: NonNull<SockLock<T>>,
    not_auto: NotAuto<T>,
}

impl<S: LockOwner<T>, T> OwnedSoftirq<S, T> {
    /// Takes the lock as [`SockLock::softirq`] does.
    ///
    /// # Errors
    /// The handle, if a user owns the lock: the user now knows that there is a backlog.
    #[inline]
    pub fn lock(owner: Arc<S>) -> Result<OwnedSoftirq<S, T>, Arc<S>> {
        let lock = owner.lock_ref();
        let Some(guard) = lock.softirq() else { return Err(owner) };
        std::mem::forget(guard);
        let lock = NonNull::from(lock);
        Ok(OwnedSoftirq { owner: Some(owner), lock, not_auto: PhantomData })
    }
}

impl<S, T> OwnedSoftirq<S, T> {
    /// What owns the lock.
    #[inline(always)]
    pub fn owner(&self) -> Option<&Arc<S>> {
        self.owner.as_ref()
    }

    /// Frees the lock and gives the handle back.
    #[inline]
    pub fn release(mut self) -> Option<Arc<S>> {
        let owner = self.owner.take();
        self.unlock();
        std::mem::forget(self);
        owner
    }

    #[inline(always)]
    fn unlock(&self) {
        // SAFETY: the lock lies in what `owner` keeps alive, which the caller has not dropped yet; it was taken in
        // `lock` and is released once: here, by `release` or by `drop`.
        unsafe { self.lock.as_ref() }.state.store(0, Ordering::Release);
    }
}

impl<S, T> Drop for OwnedSoftirq<S, T> {
    fn drop(&mut self) {
        self.unlock();
    }
}

impl<S, T> Deref for OwnedSoftirq<S, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: `owner` keeps the lock alive.
        let lock = unsafe { self.lock.as_ref() };
        // SAFETY: the guard owns the lock, and `&self` excludes `&mut` from it.
        lock.value.with(|value| unsafe { &*value })
    }
}

impl<S, T> DerefMut for OwnedSoftirq<S, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: `owner` keeps the lock alive.
        let lock = unsafe { self.lock.as_ref() };
        // SAFETY: the guard owns the lock, and `&mut self` excludes other references from it.
        lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    struct Owner(SockLock<u32>);

    impl LockOwner<u32> for Owner {
        fn lock_ref(&self) -> &SockLock<u32> {
            &self.0
        }
    }

    #[test]
    fn the_guard_holds_the_lock_and_gives_its_handle_back() {
        let owner = Arc::new(Owner(SockLock::new(1)));
        let mut guard = OwnedSoftirq::lock(Arc::clone(&owner)).ok().expect("free");
        *guard += 1;
        assert!(owner.0.try_user().is_none(), "owned");
        assert!(Arc::ptr_eq(&guard.release().expect("the handle"), &owner));
        assert_eq!(*owner.0.user(), 2);
    }

    #[test]
    fn a_user_turns_the_guard_away_and_learns_of_it() {
        let owner = Arc::new(Owner(SockLock::new(1)));
        let user = owner.0.user();
        assert!(OwnedSoftirq::lock(Arc::clone(&owner)).is_err());
        assert!(user.release(), "there is a backlog");
    }

    #[test]
    fn going_out_of_scope_frees_the_lock() {
        let owner = Arc::new(Owner(SockLock::new(1)));
        drop(OwnedSoftirq::lock(Arc::clone(&owner)));
        assert!(owner.0.try_user().is_some());
    }
}
