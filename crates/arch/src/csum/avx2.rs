//! The checksum on 256-bit vectors.
//!
//! `vpmaddwd` with ones adds the two 16-bit words of each 32-bit lane, but reads them as signed.
//! Flipping the top bit of every word first turns the unsigned `w` into the signed `w - 32768`, so
//! the total comes out short by exactly 32,768 a word, which is added back at the end. That is
//! three instructions for 32 bytes, one of which carries the load.
//!
//! The functions are callable without `unsafe` from code that is itself compiled for AVX2. Inputs
//! shorter than a vector go to the scalar code.

use super::{assert_same_len, finish, scalar};
use core::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi32, _mm_add_epi64, _mm_cvtsi128_si32, _mm_cvtsi128_si64, _mm_shuffle_epi32,
    _mm_unpackhi_epi64, _mm256_add_epi32, _mm256_add_epi64, _mm256_and_si256, _mm256_castsi256_si128,
    _mm256_cvtepi32_epi64, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi16,
    _mm256_setzero_si256, _mm256_storeu_si256, _mm256_xor_si256,
};
use core::sync::atomic::{Ordering, compiler_fence};

/// Bytes of a vector.
const V: usize = 32;
/// Bytes of a pass through the unrolled loop: four vectors on four accumulators.
const PASS: usize = 4 * V;
/// A 32-bit lane loses at most 2^16 a vector, so it is widened after this many bytes at the latest
/// (2^14 vectors).
const PIECE: usize = 1 << 19;

/// [`super::sum`] with AVX2.
///
/// # Safety
///
/// The processor must have AVX2. A caller that is itself compiled for it needs no `unsafe`.
#[target_feature(enable = "avx2")]
pub fn sum(bytes: &[u8]) -> u16 {
    if bytes.len() < V {
        return finish(scalar::add_up(bytes));
    }
    let (mut total, mut rest) = (0, bytes);
    while rest.len() > PIECE + V {
        let (piece, after) = rest.split_at(PIECE);
        total += sum_piece(piece);
        rest = after;
    }
    finish(total + sum_piece(rest))
}

/// [`super::copy_and_sum`] with AVX2.
///
/// # Panics
///
/// If the lengths differ.
///
/// # Safety
///
/// The processor must have AVX2. A caller that is itself compiled for it needs no `unsafe`.
#[target_feature(enable = "avx2")]
pub fn copy_and_sum(dst: &mut [u8], src: &[u8]) -> u16 {
    assert_same_len(dst, src);
    if src.len() < V {
        return finish(scalar::copy_and_add_up(dst, src));
    }
    let (mut total, mut rest, mut out) = (0, src, dst);
    while rest.len() > PIECE + V {
        let (piece, after) = rest.split_at(PIECE);
        let (to, out_after) = out.split_at_mut(PIECE);
        total += copy_piece(to, piece);
        (rest, out) = (after, out_after);
    }
    finish(total + copy_piece(out, rest))
}

/// The exact total of the little-endian words of [`V`] to [`PIECE`] + [`V`] bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn sum_piece(bytes: &[u8]) -> u64 {
    let (passes, rest) = bytes.as_chunks::<PASS>();
    let mut lanes = [_mm256_setzero_si256(); 4];
    for pass in passes {
        for (lane, vector) in lanes.iter_mut().zip(pass.as_chunks::<V>().0) {
            *lane = add_words(*lane, load(vector));
        }
    }
    let mut lane = join(lanes);
    let (vectors, rest) = rest.as_chunks::<V>();
    for vector in vectors {
        lane = add_words(lane, load(vector));
    }
    end(lane, passes.len() * 4 + vectors.len(), bytes, rest.len())
}

/// Copies a piece and gives [`sum_piece`] of it.
#[target_feature(enable = "avx2")]
#[inline]
fn copy_piece(dst: &mut [u8], src: &[u8]) -> u64 {
    let (passes, rest) = src.as_chunks::<PASS>();
    let (out_passes, out_rest) = dst.as_chunks_mut::<PASS>();
    let mut lanes = [_mm256_setzero_si256(); 4];
    for (to, pass) in out_passes.iter_mut().zip(passes) {
        let out = to.as_chunks_mut::<V>().0;
        for ((lane, vector), to) in lanes.iter_mut().zip(pass.as_chunks::<V>().0).zip(out) {
            let words = load(vector);
            store(to, words);
            *lane = add_words(*lane, words);
        }
        keep_fused();
    }
    let mut lane = join(lanes);
    let (vectors, rest) = rest.as_chunks::<V>();
    for (to, vector) in out_rest.as_chunks_mut::<V>().0.iter_mut().zip(vectors) {
        let words = load(vector);
        store(to, words);
        lane = add_words(lane, words);
        keep_fused();
    }
    // The tail is stored as the last whole vector, which repeats bytes that are already there.
    if let (Some(to), Some(last)) = (dst.last_chunk_mut::<V>(), src.last_chunk::<V>()) {
        store(to, load(last));
    }
    end(lane, passes.len() * 4 + vectors.len(), src, rest.len())
}

/// Ends a piece of which `lane` holds the first `whole` vectors: adds the `tail` bytes behind them.
///
/// The tail is read as the last whole vector at an even offset, with the words that were already
/// added masked out. An odd last byte is added by itself.
#[target_feature(enable = "avx2")]
#[inline]
fn end(mut lane: __m256i, whole: usize, bytes: &[u8], tail: usize) -> u64 {
    let mut counted = whole;
    let even = bytes.len() & !1;
    let odd = if even < bytes.len() { u64::from(bytes[even]) } else { 0 };
    if tail > 1
        && let Some(last) = bytes[..even].last_chunk::<V>()
        && let Some(mask) = TAIL_MASK[tail & !1..].first_chunk::<V>()
    {
        lane = add_words(lane, _mm256_and_si256(load(last), load(mask)));
        counted += 1;
    }
    total_of_words(lane, counted) + odd
}

/// The exact total of the words of `vectors` vectors that were added to `lanes` by [`add_words`].
#[target_feature(enable = "avx2")]
#[inline]
fn total_of_words(lanes: __m256i, vectors: usize) -> u64 {
    // Each of the 16 words of a vector came out short by 2^15.
    let short = (vectors as u64) << 19;
    total_of(lanes).wrapping_add(short)
}

/// The exact total of the words of `vectors` vectors, fewer than 2^12, that were added to `lanes` by [`add_words`]: the sum
/// of all lanes fits 32 bits, which is quicker to make than [`total_of_words`].
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn sum_of_lanes(lanes: __m256i, vectors: usize) -> u32 {
    debug_assert!(vectors < 1 << 12);
    let four = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
    let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    let one = _mm_add_epi32(two, _mm_shuffle_epi32::<1>(two));
    // Each of the 16 words of a vector came out short by 2^15.
    _mm_cvtsi128_si32(one).cast_unsigned().wrapping_add((vectors as u32) << 19)
}

/// The four accumulators of the unrolled loop as one.
#[target_feature(enable = "avx2")]
#[inline]
fn join([a, b, c, d]: [__m256i; 4]) -> __m256i {
    _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d))
}

/// From offset `n`, 32 bytes that keep the last `n` bytes of a vector.
static TAIL_MASK: [u8; 2 * V] = {
    let mut mask = [0; 2 * V];
    let mut at = V;
    while at < 2 * V {
        mask[at] = 0xff;
        at += 1;
    }
    mask
};

/// Adds `w - 32768` for each word `w` of `words` to the 32-bit lanes of `to`, two words to a lane.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn add_words(to: __m256i, words: __m256i) -> __m256i {
    let signed = _mm256_xor_si256(words, _mm256_set1_epi16(i16::MIN));
    _mm256_add_epi32(to, _mm256_madd_epi16(signed, _mm256_set1_epi16(1)))
}

/// The total of the eight signed lanes, as a wrapped two's complement number.
#[target_feature(enable = "avx2")]
#[inline]
fn total_of(lanes: __m256i) -> u64 {
    let low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(lanes));
    let high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256::<1>(lanes));
    let four = _mm256_add_epi64(low, high);
    let two: __m128i = _mm_add_epi64(_mm256_castsi256_si128(four), _mm256_extracti128_si256::<1>(four));
    let one = _mm_add_epi64(two, _mm_unpackhi_epi64(two, two));
    _mm_cvtsi128_si64(one) as u64
}

/// Keeps a loop that stores and adds one loop. Without it the compiler recognizes the copy, takes
/// it out as a call of `memcpy`, and has the sum read everything a second time. Costs no
/// instruction.
#[inline(always)]
pub(crate) fn keep_fused() {
    compiler_fence(Ordering::AcqRel);
}

#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn load(from: &[u8; V]) -> __m256i {
    // SAFETY: the reference is good for reading 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn store(to: &mut [u8; V], vector: __m256i) {
    // SAFETY: the reference is good for writing 32 bytes, and the store asks for no alignment.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), vector) }
}
