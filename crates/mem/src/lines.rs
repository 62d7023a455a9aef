//! Arrays on cache lines of their own.
//!
//! Where a thread writes with each packet, no other thread may have anything on the same line, or on its neighbour, which
//! processors fetch along with it. The heap puts blocks side by side, whoever they are for.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::Deref;
use std::ptr::NonNull;

use crate::sync::LINES;

/// Values of a fixed number, on lines that hold nothing else.
pub(crate) struct Lines<T> {
    first: NonNull<T>,
    len: usize,
}

// SAFETY: it owns its values and gives out shared references only, as `Box<[T]>` does.
unsafe impl<T: Send> Send for Lines<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Sync> Sync for Lines<T> {}

impl<T> Lines<T> {
    /// `len` values, which `value` makes in turn.
    ///
    /// # Panics
    /// For a length of 0, and for more memory than there can be.
    pub(crate) fn from_fn(len: usize, mut value: impl FnMut() -> T) -> Lines<T> {
        let layout = Lines::<T>::layout(len);
        assert!(layout.size() > 0, "an array of nothing needs no lines");
        // SAFETY: the size is not 0.
        let block = unsafe { alloc(layout) }.cast::<T>();
        let Some(first) = NonNull::new(block) else { handle_alloc_error(layout) };
        for at in 0..len {
            // SAFETY: the block has room for `len` values, and `at` is below that.
            let place = unsafe { first.add(at) };
            // SAFETY: the place is the block's, and aligned. If `value` panics, the block is leaked and nothing freed twice.
            unsafe { place.write(value()) };
        }
        Lines { first, len }
    }

    fn layout(len: usize) -> Layout {
        let values = Layout::array::<T>(len).and_then(|values| values.align_to(LINES));
        values.expect("fits into memory").pad_to_align()
    }
}

impl<T> Deref for Lines<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `len` values were written from `first` on, and they live as long as this.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T> Drop for Lines<T> {
    fn drop(&mut self) {
        // SAFETY: the values were written by `from_fn`, and nobody refers to them any more.
        unsafe { std::ptr::slice_from_raw_parts_mut(self.first.as_ptr(), self.len).drop_in_place() };
        // SAFETY: the block came from `alloc` with this very layout.
        unsafe { dealloc(self.first.as_ptr().cast(), Lines::<T>::layout(self.len)) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn values_stand_in_order_on_whole_lines_and_are_dropped_once() {
        let alive = Rc::new(());
        for len in [1, 2, 31, 256] {
            let mut next = 0;
            let lines = Lines::from_fn(len, || {
                next += 1;
                (next, Rc::clone(&alive))
            });
            assert_eq!(lines.as_ptr().addr() % LINES, 0, "{len}");
            assert_eq!(Lines::<(i32, Rc<()>)>::layout(len).size() % LINES, 0, "{len}: nobody else's on the last line");
            assert!(lines.iter().map(|(value, _)| *value).eq(1..=len as i32));
            assert_eq!(Rc::strong_count(&alive), 1 + len);
            drop(lines);
            assert_eq!(Rc::strong_count(&alive), 1);
        }
    }

    #[test]
    #[should_panic(expected = "needs no lines")]
    fn nothing_is_refused() {
        drop(Lines::from_fn(0, || 0_u64));
    }
}
