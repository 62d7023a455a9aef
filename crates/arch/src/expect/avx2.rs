//! Series in 256-bit vectors.
//!
//! Nothing here is marked as compiled for AVX2 that the caller's loop must inline: a function that is cannot always be
//! inlined, one that is not takes on what its caller is compiled for. The parts are marked.

use core::arch::x86_64::{
    __m256i, _mm_set_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_mullo_epi16, _mm256_or_si256, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_testz_si256, _mm256_xor_si256,
};

use super::sealed::Sealed;
use super::{Expect, MAX, Series, V};
use crate::csum;
use crate::csum::avx2::{add_words, keep_fused, load, store, sum_of_lanes};
use crate::csum::scalar;
use crate::vector::Avx2;

/// A series, made where the processor has AVX2 alone. The next header stands here as the frame has it, and, to be added to, with its numbers in the machine's
/// order.
#[derive(Clone, Copy, Debug)]
pub struct Vectors<const N: usize> {
    first: Numbers,
    last: Numbers,
    middle: __m256i,
    middle_mask: __m256i,
    summed: __m256i,
}

/// A piece of the header with numbers of one width.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    /// As it lies in a frame.
    next: __m256i,
    mask: __m256i,
    /// In the machine's order.
    numbers: __m256i,
    step: __m256i,
}

impl<const N: usize> Vectors<N> {
    #[inline(always)]
    pub(crate) fn new(_: Avx2, series: &Series<'_, N>) -> Vectors<N> {
        // SAFETY: there is an `Avx2` only where the processor has AVX2.
        unsafe { Vectors::load(series) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn load(series: &Series<'_, N>) -> Vectors<N> {
        let Series { header, ahead, mask, words, dwords, by, summed } = *series;
        let alone = load(&Series::<N>::LAST_ALONE);
        let counting = _mm256_and_si256(load(dwords), alone);
        let (steps, by_ahead) = (swap_words(load(words)), by.wrapping_mul(u32::from(ahead)));
        let low = _mm256_add_epi16(
            swap_words(load(Series::first(header))),
            _mm256_mullo_epi16(steps, _mm256_set1_epi16(ahead.cast_signed())),
        );
        let high = _mm256_add_epi32(
            swap_dwords(load(Series::last(header))),
            _mm256_and_si256(counting, _mm256_set1_epi32(by_ahead.cast_signed())),
        );
        Vectors {
            first: Numbers { next: swap_words(low), mask: load(Series::first(mask)), numbers: low, step: steps },
            last: Numbers {
                next: swap_dwords(high),
                mask: _mm256_and_si256(load(Series::last(mask)), alone),
                numbers: high,
                step: _mm256_and_si256(counting, _mm256_set1_epi32(by.cast_signed())),
            },
            middle: load(Series::middle(header)),
            middle_mask: _mm256_and_si256(load(Series::middle(mask)), load(&Series::<N>::MIDDLE_ALONE)),
            summed: load(summed),
        }
    }

    /// The last piece of a header, if it is the one that comes next.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn compare(&self, header: &[u8; N]) -> Option<__m256i> {
        let last = load(Series::last(header));
        let mut bits = _mm256_or_si256(
            differing(load(Series::first(header)), self.first.next, self.first.mask),
            differing(last, self.last.next, self.last.mask),
        );
        if N > 2 * V {
            bits = _mm256_or_si256(bits, differing(load(Series::middle(header)), self.middle, self.middle_mask));
        }
        (_mm256_testz_si256(bits, bits) != 0).then_some(last)
    }

    /// The lanes of a total, with what counts of the last piece of a header.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn begin(&self, last: __m256i) -> __m256i {
        add_words(_mm256_setzero_si256(), _mm256_and_si256(last, self.summed))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn step(&mut self) {
        self.first.numbers = _mm256_add_epi16(self.first.numbers, self.first.step);
        self.first.next = swap_words(self.first.numbers);
        self.last.numbers = _mm256_add_epi32(self.last.numbers, self.last.step);
        self.last.next = swap_dwords(self.last.numbers);
    }
}

impl<const N: usize> Sealed for Vectors<N> {}

impl<const N: usize> Expect<N> for Vectors<N> {
    #[inline(always)]
    fn is_next(&self, frame: &[u8]) -> Option<u32> {
        let header = frame.first_chunk::<N>()?;
        // SAFETY: `new` was given an `Avx2`: the processor has it.
        let last = unsafe { self.compare(header) }?;
        // SAFETY: as above.
        let lanes = unsafe { self.begin(last) };
        // SAFETY: as above.
        Some(unsafe { sum_of_lanes(lanes, 1) })
    }

    #[inline(always)]
    fn sum_next(&self, frame: &[u8]) -> Option<u32> {
        let (header, payload) = frame.split_first_chunk::<N>()?;
        if payload.len() > MAX {
            return None;
        }
        // SAFETY: `new` was given an `Avx2`: the processor has it.
        let last = unsafe { self.compare(header) }?;
        // SAFETY: as above.
        let mut lanes = unsafe { self.begin(last) };
        let (pieces, rest) = payload.as_chunks::<V>();
        for piece in pieces {
            // SAFETY: as above.
            let words = unsafe { load(piece) };
            // SAFETY: as above.
            lanes = unsafe { add_words(lanes, words) };
        }
        let rest = if rest.is_empty() { 0 } else { u32::from(csum::fold(scalar::add_up(rest))) };
        // SAFETY: as above.
        Some(rest + unsafe { sum_of_lanes(lanes, 1 + pieces.len()) })
    }

    #[inline(always)]
    fn copy_next(&self, frame: &[u8], to: &mut [u8]) -> Option<u32> {
        let (header, payload) = frame.split_first_chunk::<N>()?;
        if payload.len() != to.len() || to.len() > MAX {
            return None;
        }
        // SAFETY: `new` was given an `Avx2`: the processor has it.
        let last = unsafe { self.compare(header) }?;
        // SAFETY: as above.
        let mut lanes = unsafe { self.begin(last) };
        let (pairs, rest) = payload.as_chunks::<{ 2 * V }>();
        let (to_pairs, to_rest) = to.as_chunks_mut::<{ 2 * V }>();
        for (to, from) in to_pairs.iter_mut().zip(pairs) {
            // SAFETY: as above.
            lanes = unsafe { copy_and_add(lanes, to, from) };
        }
        let count = 1 + 2 * pairs.len();
        if to_rest.is_empty() {
            // SAFETY: as above.
            return Some(unsafe { sum_of_lanes(lanes, count) });
        }
        let rest = u32::from(csum::fold(scalar::copy_and_add_up(to_rest, rest)));
        // SAFETY: as above.
        Some(rest + unsafe { sum_of_lanes(lanes, count) })
    }

    #[inline(always)]
    fn advance(&mut self) {
        // SAFETY: `new` was given an `Avx2`: the processor has it.
        unsafe { self.step() }
    }
}

/// Copies two vectors and adds their words to `lanes`.
#[target_feature(enable = "avx2")]
#[inline]
fn copy_and_add(mut lanes: __m256i, to: &mut [u8; 2 * V], from: &[u8; 2 * V]) -> __m256i {
    for (to, from) in to.as_chunks_mut().0.iter_mut().zip(from.as_chunks().0) {
        let words = load(from);
        store(to, words);
        keep_fused();
        lanes = add_words(lanes, words);
    }
    lanes
}

/// The bits in which two pieces differ where they must not.
#[target_feature(enable = "avx2")]
#[inline]
fn differing(piece: __m256i, expected: __m256i, mask: __m256i) -> __m256i {
    _mm256_and_si256(_mm256_xor_si256(piece, expected), mask)
}

/// Swaps the bytes of 16-bit numbers.
#[target_feature(enable = "avx2")]
#[inline]
fn swap_words(numbers: __m256i) -> __m256i {
    let order = _mm_set_epi8(14, 15, 12, 13, 10, 11, 8, 9, 6, 7, 4, 5, 2, 3, 0, 1);
    _mm256_shuffle_epi8(numbers, _mm256_broadcastsi128_si256(order))
}

/// Swaps the bytes of 32-bit numbers.
#[target_feature(enable = "avx2")]
#[inline]
fn swap_dwords(numbers: __m256i) -> __m256i {
    let order = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    _mm256_shuffle_epi8(numbers, _mm256_broadcastsi128_si256(order))
}
