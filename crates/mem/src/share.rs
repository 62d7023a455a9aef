//! Who else uses a slot's data: a side array of counts, one per slot, so that the metadata line stays small.
//!
//! A slot that was never cloned has no count (0) and never looks here. The first clone sets 2; after that the count is
//! an ordinary reference count. Whoever takes it to 0 gives the slot back.

use std::ptr::NonNull;

use crate::sync::{AtomicU32, Ordering};

/// The counts of a pool.
pub(crate) struct ShareCounts(Box<[AtomicU32]>);

impl ShareCounts {
    pub(crate) fn new(slots: usize) -> ShareCounts {
        ShareCounts((0..slots).map(|_| AtomicU32::new(0)).collect())
    }

    /// The first clone of a slot whose data is used by its owner alone. Only the owner may call this.
    pub(crate) fn begin(&self, slot: usize) {
        // Relaxed: the count reaches other threads together with the clone that they are handed.
        self.0[slot].store(2, Ordering::Relaxed);
    }

    /// One more user. Only a user may call this.
    pub(crate) fn join(&self, slot: usize) {
        // Relaxed: an existing user keeps the data alive.
        self.0[slot].fetch_add(1, Ordering::Relaxed);
    }

    /// One user less. True if it was the last: the caller then owns the slot.
    ///
    /// Takes a pointer: once this user has left, another may end the pool, so no reference may outlive the count.
    ///
    /// # Safety
    /// `this` is live and the caller is a user of `slot`, which it gives up.
    pub(crate) unsafe fn leave(this: NonNull<ShareCounts>, slot: usize) -> bool {
        // SAFETY: the pool lives as long as the caller is a user; this reference is not used after it left.
        let count = NonNull::from(unsafe { &this.as_ref().0[slot] });
        // SAFETY: as above. Release: this user's reads come before the slot is used again. Acquire: so do all others'.
        unsafe { count.as_ref() }.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// True if the caller, a user, is the only one. Acquire: it may write then.
    pub(crate) fn alone(&self, slot: usize) -> bool {
        self.0[slot].load(Ordering::Acquire) <= 1
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use super::*;
    use crate::sync::SharedCell;

    /// Data that two clones read; who leaves last writes over it, as the next owner of the slot would.
    struct Shared {
        counts: ShareCounts,
        data: SharedCell<u32>,
    }

    // SAFETY: the protocol under test guards the cell; loom reports where it fails to.
    unsafe impl Sync for Shared {}
    // SAFETY: nothing in it is bound to a thread.
    unsafe impl Send for Shared {}

    fn read_and_leave(shared: &Shared) -> u32 {
        // SAFETY: a user may read; loom checks that nobody writes.
        let seen = shared.data.with(|p| unsafe { *p });
        assert_eq!(seen, 7);
        // SAFETY: a user leaves; the counts live as long as the test.
        if unsafe { ShareCounts::leave(NonNull::from(&shared.counts), 0) } {
            // SAFETY: the last user owns the slot; loom checks that nobody reads.
            shared.data.with_mut(|p| unsafe { *p = 8 });
            1
        } else {
            0
        }
    }

    #[test]
    fn loom_exactly_one_user_is_the_last() {
        loom::model(|| {
            let shared = Arc::new(Shared { counts: ShareCounts::new(1), data: SharedCell::new(7) });
            shared.counts.begin(0);
            let other = shared.clone();
            let clone = loom::thread::spawn(move || {
                other.counts.join(0);
                read_and_leave(&other) + read_and_leave(&other)
            });
            let mine = read_and_leave(&shared);
            assert_eq!(mine + clone.join().unwrap(), 1);
        });
    }

    #[test]
    fn loom_a_user_that_finds_itself_alone_may_write() {
        loom::model(|| {
            let shared = Arc::new(Shared { counts: ShareCounts::new(1), data: SharedCell::new(7) });
            shared.counts.begin(0);
            let other = shared.clone();
            let clone = loom::thread::spawn(move || read_and_leave(&other));
            if shared.counts.alone(0) {
                // SAFETY: alone; loom checks it.
                shared.data.with_mut(|p| unsafe { *p = 7 });
            }
            let mine = read_and_leave(&shared);
            assert_eq!(mine + clone.join().unwrap(), 1);
        });
    }
}
