//! One contiguous, zeroed piece of memory at a multiple of [`REGION_SIZE`]: the home of a pool.
//!
//! On Unix an anonymous mapping with huge-page advice; elsewhere the allocator's, aligned the same way.

use std::io;
use std::ptr::NonNull;

use crate::slot::REGION_SIZE;

/// A piece of memory and the way to give it back. Dropping it does nothing: the pool decides when.
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
    unmap: unsafe fn(NonNull<u8>, usize),
}

// SAFETY: a Region owns its memory, and mappings and allocations may be released from any thread.
unsafe impl Send for Region {}
// SAFETY: a shared Region only tells addresses.
unsafe impl Sync for Region {}

impl Region {
    /// A region of `len` bytes, zeroed.
    ///
    /// # Errors
    /// `InvalidInput` if `len` exceeds [`REGION_SIZE`]; else what the system says.
    pub(crate) fn new(len: usize) -> io::Result<Region> {
        if len > REGION_SIZE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a pool of {len} bytes exceeds the limit of {REGION_SIZE}"),
            ));
        }
        #[cfg(unix)]
        return mapped(len);
        #[cfg(not(unix))]
        return allocated(len);
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn with_unmap(self, unmap: unsafe fn(NonNull<u8>, usize)) -> Region {
        Region { unmap, ..self }
    }

    /// Gives the memory back.
    ///
    /// # Safety
    /// Nothing refers to it any more.
    pub(crate) unsafe fn release(self) {
        // SAFETY: `unmap` belongs to the way in which this memory was obtained; the caller vouches for the rest.
        unsafe { (self.unmap)(self.base, self.len) };
    }
}

/// Bytes of a huge page on the platforms that matter; smaller regions are not worth the advice.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 2 << 20;

/// An anonymous mapping. More is reserved than asked for, and what lies outside the aligned part is given back.
#[cfg(unix)]
pub(crate) fn mapped(len: usize) -> io::Result<Region> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

    let len = len.max(1).next_multiple_of(PAGE);
    let reserve = len + REGION_SIZE;
    // SAFETY: a new private mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            reserve,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }?;
    let start: NonNull<u8> = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
    let skip = start.addr().get().next_multiple_of(REGION_SIZE) - start.addr().get();
    // SAFETY: `skip` is below REGION_SIZE, so it lies in the mapping.
    let base = unsafe { start.add(skip) };
    // SAFETY: `skip + len` is at most `reserve`.
    let end = unsafe { base.add(len) };
    // SAFETY: the piece in front of the base belongs to this mapping and nothing uses it.
    unsafe { unmap_piece(start, skip) };
    // SAFETY: so does the piece behind the end.
    unsafe { unmap_piece(end, reserve - skip - len) };
    advise(base, len);
    Ok(Region { base, len, unmap: unmap_piece })
}

/// Granularity that mappings are rounded to: a multiple of every common page size.
#[cfg(unix)]
const PAGE: usize = 64 << 10;

/// Asks for huge pages. Only advice: what the system makes of it changes nothing but speed.
#[cfg(target_os = "linux")]
fn advise(base: NonNull<u8>, len: usize) {
    if len >= HUGE_PAGE {
        // SAFETY: the range is ours, and this advice does not change its contents.
        let _ = unsafe { rustix::mm::madvise(base.as_ptr().cast(), len, rustix::mm::Advice::LinuxHugepage) };
    }
}

/// Huge pages are a matter of the system's own policy here.
#[cfg(all(unix, not(target_os = "linux")))]
fn advise(_: NonNull<u8>, _: usize) {}

/// Unmaps `len` bytes.
///
/// # Safety
/// The range is mapped, belongs to the caller, and nothing refers to it.
#[cfg(unix)]
unsafe fn unmap_piece(base: NonNull<u8>, len: usize) {
    if len > 0 {
        // SAFETY: by the caller's promise. It can only fail on arguments that are no mapping.
        let _ = unsafe { rustix::mm::munmap(base.as_ptr().cast(), len) };
    }
}

/// Memory from the allocator, for systems without mmap.
#[cfg(any(not(unix), all(test, not(loom))))]
pub(crate) fn allocated(len: usize) -> io::Result<Region> {
    let layout = allocation(len).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: the layout's size is not 0.
    let base = unsafe { std::alloc::alloc_zeroed(layout) };
    let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
    Ok(Region { base, len, unmap: deallocate })
}

/// Layout of such a piece.
#[cfg(any(not(unix), all(test, not(loom))))]
fn allocation(len: usize) -> Option<std::alloc::Layout> {
    std::alloc::Layout::from_size_align(len.max(1), REGION_SIZE).ok()
}

/// Counterpart of [`allocated`].
///
/// # Safety
/// `base` and `len` are those of a Region from [`allocated`], and nothing refers to it.
#[cfg(any(not(unix), all(test, not(loom))))]
unsafe fn deallocate(base: NonNull<u8>, len: usize) {
    if let Some(layout) = allocation(len) {
        // SAFETY: allocated with this same layout.
        unsafe { std::alloc::dealloc(base.as_ptr(), layout) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn check(region: Region, len: usize) {
        let base = region.base();
        assert_eq!(base.addr().get() % REGION_SIZE, 0);
        // SAFETY: the region has `len` bytes, zeroed, ours.
        let bytes = unsafe { std::slice::from_raw_parts_mut(base.as_ptr(), len) };
        assert!(bytes.iter().all(|byte| *byte == 0));
        bytes[0] = 1;
        bytes[len - 1] = 2;
        // SAFETY: `bytes` is not used any more.
        unsafe { region.release() };
    }

    #[test]
    fn both_kinds_are_aligned_zeroed_and_writable() {
        for len in [1, 4096, 100_000, 3 << 20] {
            check(Region::new(len).unwrap(), len);
        }
        check(allocated(100_000).unwrap(), 100_000);
    }

    #[test]
    fn a_region_beyond_the_limit_is_refused() {
        assert_eq!(Region::new(REGION_SIZE + 1).err().map(|e| e.kind()), Some(io::ErrorKind::InvalidInput));
    }
}
