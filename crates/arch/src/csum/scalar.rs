//! The portable checksum.
//!
//! Two shapes of the same sum: up to [`super::INLINE_MAX`] bytes a straight line of 64-bit words
//! added into 128 bits, one add and one carry a word; beyond, 32-bit halves of words added into
//! 64 bits, which cannot overflow below 16 GiB, needs no carries, and which compilers turn into
//! whatever vectors the target has.

use super::{INLINE_MAX, assert_same_len, finish, fold_wide};
use std::mem;

/// [`super::sum`] without vector instructions of its own.
#[inline(never)]
pub fn sum(bytes: &[u8]) -> u16 {
    if bytes.len() <= INLINE_MAX {
        return finish(add_up(bytes));
    }
    let (blocks, rest) = bytes.as_chunks::<32>();
    let blocks: u64 = blocks.iter().map(block_total).sum();
    finish(blocks + add_up(rest))
}

/// [`super::copy_and_sum`] without vector instructions of its own.
///
/// # Panics
///
/// If the lengths differ.
#[inline(never)]
pub fn copy_and_sum(dst: &mut [u8], src: &[u8]) -> u16 {
    assert_same_len(dst, src);
    if src.len() <= INLINE_MAX {
        return finish(copy_and_add_up(dst, src));
    }
    let (blocks, rest) = src.as_chunks::<32>();
    let (out_blocks, out_rest) = dst.as_chunks_mut::<32>();
    let mut total = 0;
    for (to, from) in out_blocks.iter_mut().zip(blocks) {
        *to = *from;
        total += block_total(from);
    }
    finish(total + copy_and_add_up(out_rest, rest))
}

/// The little-endian words of 32 bytes as an exact total.
#[inline(always)]
fn block_total(block: &[u8; 32]) -> u64 {
    let words = block.as_chunks::<8>().0.iter();
    words.map(|word| u64::from_le_bytes(*word)).map(|word| (word & 0xffff_ffff) + (word >> 32)).sum()
}

/// The total of the little-endian words of up to [`INLINE_MAX`] bytes, an odd last byte padded with
/// zero, wrapped to 33 bits with end-around carry.
///
/// The length's bits choose the steps: a loop here would be turned into vectors and, in the copying
/// twin, into a call of `memcpy`, both too dear for a header.
#[inline(always)]
pub(crate) fn add_up(bytes: &[u8]) -> u64 {
    debug_assert!(bytes.len() <= INLINE_MAX);
    let src = &mut &*bytes;
    let mut total = 0;
    total += take::<64>(src).map_or(0, |chunk| words_total(&chunk));
    total += take::<32>(src).map_or(0, |chunk| words_total(&chunk));
    total += take::<32>(src).map_or(0, |chunk| words_total(&chunk));
    total += take::<16>(src).map_or(0, |chunk| words_total(&chunk));
    total += take::<8>(src).map_or(0, |chunk| words_total(&chunk));
    let mut small = 0;
    small += take::<4>(src).map_or(0, |chunk| u64::from(u32::from_le_bytes(chunk)));
    small += take::<2>(src).map_or(0, |chunk| u64::from(u16::from_le_bytes(chunk)));
    small += take::<1>(src).map_or(0, |[byte]| u64::from(byte));
    fold_wide(total + u128::from(small))
}

/// Copies up to [`INLINE_MAX`] bytes from `src` to `dst`, of the same length, and gives [`add_up`].
#[inline(always)]
pub(crate) fn copy_and_add_up(dst: &mut [u8], src: &[u8]) -> u64 {
    debug_assert!(src.len() <= INLINE_MAX && src.len() == dst.len());
    let (src, dst) = (&mut &*src, &mut &mut *dst);
    let mut total = 0;
    total += copy::<64>(dst, src).map_or(0, |chunk| words_total(&chunk));
    total += copy::<32>(dst, src).map_or(0, |chunk| words_total(&chunk));
    total += copy::<32>(dst, src).map_or(0, |chunk| words_total(&chunk));
    total += copy::<16>(dst, src).map_or(0, |chunk| words_total(&chunk));
    total += copy::<8>(dst, src).map_or(0, |chunk| words_total(&chunk));
    let mut small = 0;
    small += copy::<4>(dst, src).map_or(0, |chunk| u64::from(u32::from_le_bytes(chunk)));
    small += copy::<2>(dst, src).map_or(0, |chunk| u64::from(u16::from_le_bytes(chunk)));
    small += copy::<1>(dst, src).map_or(0, |[byte]| u64::from(byte));
    fold_wide(total + u128::from(small))
}

#[inline(always)]
fn words_total(words: &[u8]) -> u128 {
    words.as_chunks::<8>().0.iter().map(|word| u128::from(u64::from_le_bytes(*word))).sum()
}

/// The next `N` bytes, if there are as many.
#[inline(always)]
fn take<const N: usize>(src: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, after) = src.split_first_chunk::<N>()?;
    *src = after;
    Some(*chunk)
}

/// The next `N` bytes, if there are as many, also written to `dst`.
#[inline(always)]
fn copy<const N: usize>(dst: &mut &mut [u8], src: &mut &[u8]) -> Option<[u8; N]> {
    let chunk = take::<N>(src)?;
    let (to, after) = mem::take(dst).split_first_chunk_mut::<N>()?;
    *to = chunk;
    *dst = after;
    Some(chunk)
}
