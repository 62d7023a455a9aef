use super::*;
use crate::csum;
use crate::level::available;
use crate::vector::{Simd, Vectorized, vectorized_at};

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed;
    let mut next = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn array<const N: usize>(seed: u64) -> [u8; N] {
    bytes(seed, N).try_into().expect("as long")
}

/// Of headers in which nothing counts.
fn still<'a, const N: usize>(header: &'a [u8; N], mask: &'a [u8; N], summed: &'a [u8; 32]) -> Series<'a, N> {
    Series { header, ahead: 9, mask, words: &[0; 32], dwords: &[0; 32], by: 1, summed }
}

/// After `steps` steps, one frame at a level: compared, and compared and copied.
struct Once<'a, const N: usize> {
    series: &'a Series<'a, N>,
    steps: usize,
    frame: &'a [u8],
    to: &'a mut [u8],
}

impl<const N: usize> Vectorized for Once<'_, N> {
    type Output = (Option<u32>, Option<u32>, Option<u32>);

    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let mut expect = simd.expect(self.series);
        for _ in 0..self.steps {
            expect.advance();
        }
        (expect.is_next(self.frame), expect.sum_next(self.frame), expect.copy_next(self.frame, self.to))
    }
}

fn total_of(header: &[u8], summed: &[u8; 32], payload: &[u8]) -> u16 {
    let summed: Vec<u8> = header[header.len() - 32..].iter().zip(summed).map(|(byte, mask)| byte & mask).collect();
    csum::sum_add(csum::sum(&summed), csum::sum(payload))
}

/// A sum in one form: zero has two.
fn is_same_sum(total: u32, sum: u16) -> bool {
    let total = csum::fold(u64::from(total)).swap_bytes();
    total == sum || (total == 0xffff && sum == 0)
}

fn every_bit<const N: usize>() {
    let (mask, summed) = (array::<N>(77), array::<32>(5));
    for level in available() {
        for len in (0..200).chain([255, 256, 1_000, 1_447, 1_448]) {
            let frame = bytes(len as u64 + 1, N + len);
            let header: [u8; N] = *frame.first_chunk().expect("long enough");
            let series = still(&header, &mask, &summed);
            let mut to = vec![0; len];
            let once = Once { series: &series, steps: 3, frame: &frame, to: &mut to };
            let (header_total, summed_total, total) = vectorized_at(*level, once);
            assert!(is_same_sum(header_total.expect("the next"), total_of(&header, &summed, &[])), "{level} {N}+{len}");
            assert!(
                is_same_sum(total.expect("the next"), total_of(&header, &summed, &frame[N..])),
                "{level} {N}+{len}"
            );
            let both = [summed_total, total].map(|total| csum::fold(u64::from(total.expect("the next"))));
            assert_eq!(both[0], both[1], "{level} {N}+{len}");
            assert_eq!(to, frame[N..], "{level} {N}+{len}");
        }
        let frame = bytes(3, N + 64);
        for bit in 0..N * 8 {
            let mut header: [u8; N] = *frame.first_chunk().expect("long enough");
            header[bit / 8] ^= 1 << (bit % 8);
            let series = still(&header, &mask, &summed);
            let expected = mask[bit / 8] & (1 << (bit % 8)) == 0;
            let once = Once { series: &series, steps: 0, frame: &frame, to: &mut [0; 64] };
            let (is_next, summed, copied) = vectorized_at(*level, once);
            let found = [is_next, summed, copied].map(|total| total.is_some());
            assert_eq!(found, [expected; 3], "{level}: bit {bit} of {N} bytes");
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

/// A number of `width` bytes, `at` some offset of a header, plus `more`.
fn add(header: &mut [u8], at: usize, width: usize, more: u32) {
    let number = header[at..at + width].iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    header[at..at + width].copy_from_slice(&number.wrapping_add(more).to_be_bytes()[4 - width..]);
}

fn counts_up<const N: usize>() {
    let (header, mask, summed, words) = (array::<N>(21), [0xff; N], [0xff; 32], array::<32>(22));
    let by = 0x1234_5678;
    // Every other number.
    let counting: Vec<usize> = (N - V..N).step_by(4).filter(|at| *at >= V).step_by(2).collect();
    let mut dwords = [0; 32];
    for at in &counting {
        dwords[at + V - N..][..4].fill(0xff);
    }
    for (ahead, steps) in [(0, 0), (0, 1), (1, 0), (2, 5), (7, 1_000), (u16::MAX, 3)] {
        let mut frame = header;
        let total_steps = u32::from(ahead) + steps;
        for at in (0..V).step_by(2) {
            let step = u16::from_be_bytes([words[at], words[at + 1]]);
            add(&mut frame, at, 2, u32::from(step).wrapping_mul(total_steps));
        }
        for at in &counting {
            add(&mut frame, *at, 4, total_steps.wrapping_mul(by));
        }
        let series =
            Series { header: &header, ahead, mask: &mask, words: &words, dwords: &dwords, by, summed: &summed };
        for level in available() {
            let once = Once { series: &series, steps: steps as usize, frame: &frame, to: &mut [] };
            let (is_next, summed_too, copied) = vectorized_at(*level, once);
            assert!(
                is_same_sum(is_next.expect("the next"), total_of(&frame, &summed, &[])),
                "{level} {N} {ahead}+{steps}"
            );
            assert_eq!((is_next, is_next), (summed_too, copied), "{level} {N} {ahead}+{steps}");
            let once = Once { series: &series, steps: steps as usize + 1, frame: &frame, to: &mut [] };
            assert_eq!(vectorized_at(*level, once), (None, None, None), "{level} {N} {ahead}+{steps}");
        }
    }
}

#[test]
fn numbers_count_up_each_by_itself() {
    counts_up::<32>();
    counts_up::<54>();
    counts_up::<64>();
    counts_up::<66>();
    counts_up::<96>();
}

#[test]
fn a_frame_of_another_length_is_not_the_next_one() {
    let series = still(&[0; 54], &[0; 54], &[0; 32]);
    for level in available() {
        let of = |frame: &[u8], to: &mut [u8]| vectorized_at(*level, Once { series: &series, steps: 0, frame, to });
        assert_eq!(of(&[0; 53], &mut []), (None, None, None));
        assert_eq!(of(&[0; 60], &mut [0; 5]), (Some(0), Some(0), None));
        assert_eq!(of(&[0; 60], &mut [0; 7]), (Some(0), Some(0), None));
        assert_eq!(of(&vec![0; 54 + MAX + 1], &mut vec![0; MAX + 1]), (Some(0), None, None));
        assert_eq!(of(&vec![0; 54 + MAX], &mut vec![0; MAX]), (Some(0), Some(0), Some(0)));
    }
}
