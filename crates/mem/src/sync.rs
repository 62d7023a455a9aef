//! Synchronisation primitives: the standard library's, or loom's when a model is checked (`--cfg loom`).

#[cfg(loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    sync::{Arc, Condvar, Mutex},
    thread::yield_now,
};
#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    sync::{Arc, Condvar, Mutex},
    thread::yield_now,
};

/// An `UnsafeCell` whose accesses loom can see.
#[cfg(not(loom))]
pub(crate) struct SharedCell<T>(std::cell::UnsafeCell<T>);
/// An `UnsafeCell` whose accesses loom can see.
#[cfg(loom)]
pub(crate) struct SharedCell<T>(loom::cell::UnsafeCell<T>);

impl<T> SharedCell<T> {
    /// Wraps `value`.
    #[cfg(not(loom))]
    pub(crate) const fn new(value: T) -> SharedCell<T> {
        SharedCell(std::cell::UnsafeCell::new(value))
    }

    /// Wraps `value`.
    #[cfg(loom)]
    pub(crate) fn new(value: T) -> SharedCell<T> {
        SharedCell(loom::cell::UnsafeCell::new(value))
    }

    /// Hands a pointer for reading to `f`; loom reports a race with a writer.
    #[inline(always)]
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        #[cfg(not(loom))]
        return f(self.0.get());
        #[cfg(loom)]
        return self.0.with(f);
    }

    /// Hands a pointer for writing to `f`; loom reports a race with anyone.
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        #[cfg(not(loom))]
        return f(self.0.get());
        #[cfg(loom)]
        return self.0.with_mut(f);
    }

    /// The value itself.
    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

/// Bytes of the cache lines that two threads are to keep apart: two, because of the adjacent-line prefetcher.
pub(crate) const LINES: usize = 128;

/// A value on cache lines of its own: on [`LINES`] bytes, which the attribute cannot name.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// Waits a little: spins at first, then lets another thread run.
pub(crate) struct Backoff(u32);

impl Backoff {
    /// Rounds of spinning before the thread yields.
    const SPINS: u32 = 64;

    pub(crate) const fn new() -> Backoff {
        Backoff(0)
    }

    #[inline]
    pub(crate) fn wait(&mut self) {
        if self.0 < Self::SPINS && cfg!(not(loom)) {
            self.0 += 1;
            spin_loop();
        } else {
            yield_now();
        }
    }
}
