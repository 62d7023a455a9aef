//! The Internet checksum (RFC 1071): the ones' complement sum of 16-bit big-endian words.
//!
//! A *sum* in this module is folded to 16 bits and **not** complemented; it has the meaning that
//! adding big-endian words gives (so `0x0001` for the bytes `00 01`), on every machine. An odd last
//! byte counts as a word padded with a zero byte. The checksum that goes into a header is the
//! complement, `!sum`; a region that holds its own right checksum sums to `0xffff`. Only bytes that
//! are all zero sum to 0; ones' complement has a second zero, `0xffff`, and that is what all other
//! multiples of 65,535 give. The scalar and the vector code agree bit for bit.
//!
//! [`sum`] mirrors `csum_partial`, [`copy_and_sum`] `csum_partial_copy_nocheck`, [`combine`]
//! `csum_block_add`, [`sum_add`] `csum16_add` and [`sum_sub`] `csum16_sub`.
//!
//! Up to [`INLINE_MAX`] bytes the work is scalar code that the caller inlines; above, one direct
//! call goes to the code for the machine's [`Level`].

#[cfg(target_arch = "x86_64")]
pub mod avx2;
pub mod scalar;

use crate::level::{Level, level};

/// Inputs up to this many bytes are summed by inlined scalar code, without detection and without a
/// call.
pub const INLINE_MAX: usize = 128;

/// The ones' complement sum of `bytes`, folded, not complemented.
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    if bytes.len() <= INLINE_MAX {
        return finish(scalar::add_up(bytes));
    }
    sum_long(bytes)
}

/// The sum of `N` bytes, at most [`INLINE_MAX`], known at compile time: for headers of fixed
/// length, where it becomes straight-line adds.
#[inline(always)]
pub fn sum_array<const N: usize>(bytes: &[u8; N]) -> u16 {
    const { assert!(N <= INLINE_MAX, "longer regions are for `sum`") };
    finish(scalar::add_up(bytes))
}

/// A total of the little-endian words of `bytes`, an odd last byte padded with zero: a number below 2^34 that [`fold`]s to
/// the sum with its bytes swapped. For adding several parts before anything is folded.
#[inline]
pub fn total(bytes: &[u8]) -> u64 {
    if bytes.len() <= INLINE_MAX { scalar::add_up(bytes) } else { u64::from(sum_long(bytes).swap_bytes()) }
}

/// Whether `bytes` sum to all ones together with `others`, a [`total`]: what a receiver asks of a segment and its
/// pseudo-header. The order of bytes in a word does not matter to that question (RFC 1071 section 2(B)).
#[inline(always)]
pub fn is_all_ones(bytes: &[u8], others: u64) -> bool {
    fold(total(bytes) + others) == 0xffff
}

#[inline(never)]
fn sum_long(bytes: &[u8]) -> u16 {
    sum_by(level(), bytes)
}

/// [`sum`] by the code of one level, or of the machine's best where that is lower.
pub fn sum_at(wanted: Level, bytes: &[u8]) -> u16 {
    sum_by(wanted.min(level()), bytes)
}

/// `present` must not be above the machine's level.
#[inline(always)]
fn sum_by(present: Level, bytes: &[u8]) -> u16 {
    match present {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: both callers pass at most `level()`, which answers Avx2 only after the processor
        // was seen to have it.
        Level::Avx2 => unsafe { avx2::sum(bytes) },
        _ => scalar::sum(bytes),
    }
}

/// Copies `src` to `dst` and returns the [`sum`] of the bytes, reading them once.
///
/// # Panics
///
/// If the lengths differ, as [`slice::copy_from_slice`] does.
#[inline]
pub fn copy_and_sum(dst: &mut [u8], src: &[u8]) -> u16 {
    assert!(dst.len() == src.len(), "copy_and_sum between slices of different lengths");
    if src.len() <= INLINE_MAX {
        return finish(scalar::copy_and_add_up(dst, src));
    }
    copy_and_sum_long(dst, src)
}

#[inline(never)]
fn copy_and_sum_long(dst: &mut [u8], src: &[u8]) -> u16 {
    copy_and_sum_by(level(), dst, src)
}

/// [`copy_and_sum`] by the code of one level, or of the machine's best where that is lower.
///
/// # Panics
///
/// If the lengths differ.
pub fn copy_and_sum_at(wanted: Level, dst: &mut [u8], src: &[u8]) -> u16 {
    copy_and_sum_by(wanted.min(level()), dst, src)
}

/// `present` must not be above the machine's level.
#[inline(always)]
fn copy_and_sum_by(present: Level, dst: &mut [u8], src: &[u8]) -> u16 {
    match present {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: both callers pass at most `level()`, which answers Avx2 only after the processor
        // was seen to have it.
        Level::Avx2 => unsafe { avx2::copy_and_sum(dst, src) },
        _ => scalar::copy_and_sum(dst, src),
    }
}

#[inline(always)]
fn assert_same_len(dst: &[u8], src: &[u8]) {
    assert!(dst.len() == src.len(), "copy_and_sum between slices of different lengths");
}

/// Adds two sums: the sum of two regions of which the first has an even length.
#[inline(always)]
pub const fn sum_add(a: u16, b: u16) -> u16 {
    let (low, carry) = a.overflowing_add(b);
    low + carry as u16
}

/// Takes `b`, the sum of a part, out of `a`, the sum of the whole. In ones' complement that is
/// adding `!b`, so the zero that comes out may be either of the two.
#[inline(always)]
pub const fn sum_sub(a: u16, b: u16) -> u16 {
    sum_add(a, !b)
}

/// The sum of two adjacent regions: when the first has an odd length, the second's bytes stand in
/// the other halves of their words, which swaps its sum (RFC 1071 section 2(B)).
#[inline(always)]
pub const fn combine(a: u16, b: u16, a_len_is_odd: bool) -> u16 {
    sum_add(a, if a_len_is_odd { b.swap_bytes() } else { b })
}

/// The header checksum after one of the words that it covers changed from `old` to `new` (RFC 1624,
/// equation 3). Takes and gives the complemented value that stands in the header.
#[inline]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !sum_add(sum_add(!checksum, !old), new)
}

/// Folds a sum of 16-, 32- or 64-bit words to 16 bits with end-around carry. Gives 0 only for 0.
#[inline(always)]
pub const fn fold(wide: u64) -> u16 {
    let (low, carry) = (wide as u32).overflowing_add((wide >> 32) as u32);
    let half = low + carry as u32;
    sum_add(half as u16, (half >> 16) as u16)
}

/// Folds 128 bits to 33 with end-around carry, small enough to add two of and to [`fold`].
#[inline(always)]
const fn fold_wide(wide: u128) -> u64 {
    let (sum, carry) = (wide as u64).overflowing_add((wide >> 64) as u64);
    let sum = sum + carry as u64;
    (sum & 0xffff_ffff) + (sum >> 32)
}

/// From an exact total of little-endian words to the big-endian meaning: swapping the bytes of all
/// words swaps those of the sum (RFC 1071 section 2(B)).
#[inline(always)]
const fn finish(little_endian_total: u64) -> u16 {
    fold(little_endian_total).swap_bytes()
}
