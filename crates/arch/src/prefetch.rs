//! Cache prefetch (kernel: `prefetch`): hints that never fault and never change what a program
//! computes.
//!
//! Only x86-64 has code here; elsewhere the functions compile to nothing.

/// Asks for the cache line that holds the first byte of `bytes`, for reading. An empty slice is
/// allowed.
#[inline(always)]
pub fn read(bytes: &[u8]) {
    hint(bytes.as_ptr());
}

/// Asks for the cache line that holds the first byte of `value`. A value that spans several lines
/// needs one call per line: hand in a field of each.
#[inline(always)]
pub fn line<T: ?Sized>(value: &T) {
    hint(core::ptr::from_ref(value).cast::<u8>());
}

/// Asks for the cache line at an address, whatever lies there, and whoever writes to it.
#[inline(always)]
pub fn at(address: *const u8) {
    hint(address);
}

#[inline(always)]
fn hint(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: PREFETCHT0 is part of the x86-64 baseline (SSE) and is only a hint: it reads no
        // value and cannot fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = at;
    }
}
