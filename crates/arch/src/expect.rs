//! Recognising a frame that was expected: its header is compared with a pattern, and its payload copied and summed, in
//! one pass over the bytes.
//!
//! A pattern is a header and a mask of the same length, 32 to 96 bytes; bits that the mask leaves out may differ. Totals
//! are those of [`crate::csum::total`].

use crate::csum::scalar;
use crate::vector::Simd;

/// The shortest pattern, and the length of the pieces that vectors compare.
const V: usize = 32;

/// A header as it is expected.
#[derive(Clone, Copy, Debug)]
pub struct Pattern<'a, const N: usize> {
    /// Its bytes.
    pub header: &'a [u8; N],
    /// Which of their bits must be as they stand.
    pub mask: &'a [u8; N],
}

impl<const N: usize> Pattern<'_, N> {
    const LENGTH_IS_POSSIBLE: () = assert!(V <= N && N <= 3 * V, "patterns have 32 to 96 bytes");

    /// Whether `frame` begins as expected.
    #[inline]
    pub fn matches(&self, frame: &[u8]) -> bool {
        const { Self::LENGTH_IS_POSSIBLE };
        let Some(header) = frame.first_chunk::<N>() else { return false };
        self.differing_bits(header) == 0
    }

    /// If `frame` begins as expected, copies what follows to `dst` and gives its total, with the instructions of `simd`.
    ///
    /// `dst` may have been written to when the answer is None.
    ///
    /// # Panics
    ///
    /// If `dst` is not as long as what follows.
    #[inline(always)]
    pub fn copy_behind<S: Simd>(&self, simd: S, frame: &[u8], dst: &mut [u8]) -> Option<u64> {
        const { Self::LENGTH_IS_POSSIBLE };
        simd.copy_behind(self, frame, dst)
    }

    /// [`Pattern::copy_behind`] without vector instructions of its own.
    #[inline]
    pub(crate) fn copy_behind_scalar(&self, frame: &[u8], dst: &mut [u8]) -> Option<u64> {
        let (header, payload) = frame.split_first_chunk::<N>()?;
        assert!(dst.len() == payload.len(), "{LENGTHS}");
        (self.differing_bits(header) == 0).then(|| u64::from(scalar::copy_and_sum(dst, payload).swap_bytes()))
    }

    /// The bits in which a header differs where it must not; several bytes of it may share a bit of the answer.
    #[inline(always)]
    fn differing_bits(&self, header: &[u8; N]) -> u64 {
        let word = |bytes: &[u8; N], at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        let differing = |at: usize| (word(header, at) ^ word(self.header, at)) & word(self.mask, at);
        // The last word overlaps the one before.
        (0..N / 8).fold(differing(N - 8), |bits, index| bits | differing(index * 8))
    }
}

const LENGTHS: &str = "room for the payload, and for no more, is to be given";

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use core::arch::x86_64::{
        __m256i, _mm256_and_si256, _mm256_or_si256, _mm256_setzero_si256, _mm256_testz_si256, _mm256_xor_si256,
    };

    use super::{LENGTHS, Pattern, V};
    use crate::csum::avx2::{add_words, keep_fused, load, store, total_of_few_words, total_of_words};
    use crate::csum::scalar;

    /// Copies a vector and adds its words to `lanes`.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn copy_and_add(lanes: __m256i, to: &mut [u8; V], from: &[u8; V]) -> __m256i {
        let words = load(from);
        store(to, words);
        keep_fused();
        add_words(lanes, words)
    }

    impl<const N: usize> Pattern<'_, N> {
        /// [`Pattern::copy_behind`] with AVX2. Not marked as compiled for it, so that it can always be inlined into what is
        /// ([`crate::vector`]); its parts are.
        ///
        /// # Safety
        ///
        /// The processor must have AVX2.
        #[inline(always)]
        pub(crate) unsafe fn copy_behind_avx2(&self, frame: &[u8], dst: &mut [u8]) -> Option<u64> {
            let (header, payload) = frame.split_first_chunk::<N>()?;
            assert!(dst.len() == payload.len(), "{LENGTHS}");
            // SAFETY: by the caller's promise.
            if !unsafe { self.is_same(header) } {
                return None;
            }
            let (vectors, rest) = payload.as_chunks::<V>();
            let (out, out_rest) = dst.as_chunks_mut::<V>();
            // SAFETY: as above.
            let mut lanes = unsafe { _mm256_setzero_si256() };
            for (to, from) in out.iter_mut().zip(vectors) {
                // SAFETY: as above.
                lanes = unsafe { copy_and_add(lanes, to, from) };
            }
            let count = vectors.len();
            let total = if payload.len() <= usize::from(u16::MAX) {
                // SAFETY: as above.
                unsafe { total_of_few_words(lanes, count) }
            } else {
                // SAFETY: as above.
                unsafe { total_of_words(lanes, count) }
            };
            if rest.is_empty() {
                return Some(total);
            }
            Some(total + scalar::copy_and_add_up(out_rest, rest))
        }

        #[target_feature(enable = "avx2")]
        #[inline]
        fn is_same(&self, header: &[u8; N]) -> bool {
            let mut bits = _mm256_or_si256(self.differing_at(header, 0), self.differing_at(header, N - V));
            if N > 2 * V {
                bits = _mm256_or_si256(bits, self.differing_at(header, V));
            }
            _mm256_testz_si256(bits, bits) != 0
        }

        /// The bits in which 32 bytes of a header differ where they must not.
        #[target_feature(enable = "avx2")]
        #[inline]
        fn differing_at(&self, header: &[u8; N], at: usize) -> __m256i {
            let piece = |bytes: &[u8; N]| bytes[at..].first_chunk::<V>().map_or(_mm256_setzero_si256(), |b| load(b));
            _mm256_and_si256(_mm256_xor_si256(piece(header), piece(self.header)), piece(self.mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csum;
    use crate::level::available;
    use crate::vector::{Vectorized, vectorized_at};

    fn bytes(seed: u64, len: usize) -> Vec<u8> {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    /// One call at a level.
    struct Copy<'a, const N: usize>(Pattern<'a, N>, &'a [u8], &'a mut [u8]);

    impl<const N: usize> Vectorized for Copy<'_, N> {
        type Output = Option<u64>;

        fn run<S: Simd>(self, simd: S) -> Option<u64> {
            self.0.copy_behind(simd, self.1, self.2)
        }
    }

    fn every_bit<const N: usize>() {
        for level in available() {
            for len in (0..200).chain([255, 256, 1_000, 1_447, 1_448]) {
                let frame = bytes(len as u64 + 1, N + len);
                let header: &[u8; N] = frame.first_chunk().expect("long enough");
                let mask: [u8; N] = bytes(77, N).try_into().expect("as long");
                let pattern = Pattern { header, mask: &mask };
                let mut out = vec![0; len];
                let total = vectorized_at(*level, Copy(pattern, &frame, &mut out)).expect("the same");
                assert_eq!(out, frame[N..], "{level} {N}+{len}");
                assert_eq!(csum::fold(total).swap_bytes(), csum::sum(&frame[N..]), "{level} {N}+{len}");
                assert!(pattern.matches(&frame));
            }
            let frame = bytes(3, N + 64);
            let header: [u8; N] = *frame.first_chunk().expect("long enough");
            let mask: [u8; N] = bytes(78, N).try_into().expect("as long");
            for bit in 0..N * 8 {
                let mut other = header;
                other[bit / 8] ^= 1 << (bit % 8);
                let pattern = Pattern { header: &other, mask: &mask };
                let expected = mask[bit / 8] & (1 << (bit % 8)) == 0;
                let copied = vectorized_at(*level, Copy(pattern, &frame, &mut [0; 64])).is_some();
                assert_eq!((copied, pattern.matches(&frame)), (expected, expected), "{level}: bit {bit} of {N} bytes");
            }
        }
    }

    #[test]
    fn every_bit_of_the_mask_counts_and_the_payload_arrives() {
        every_bit::<32>();
        every_bit::<54>();
        every_bit::<64>();
        every_bit::<66>();
        every_bit::<96>();
    }

    #[test]
    fn a_frame_that_is_too_short_is_not_the_expected_one() {
        let pattern = Pattern { header: &[0; 54], mask: &[0; 54] };
        assert!(!pattern.matches(&[0; 53]));
        for level in available() {
            assert_eq!(vectorized_at(*level, Copy(pattern, &[0; 53], &mut [])), None);
        }
    }
}
