//! Series without vector instructions of their own: in shapes that compilers turn into whatever vectors the target has.

use super::sealed::Sealed;
use super::{Expect, MAX, Series, V};
use crate::csum::{self, scalar};

/// A series, its numbers in the machine's order.
#[derive(Clone, Copy, Debug)]
pub struct Plain<const N: usize> {
    first: Numbers<[u16; V / 2]>,
    last: Numbers<[u32; V / 4]>,
    middle: [u8; V],
    middle_mask: [u8; V],
    summed: [u8; V],
}

#[derive(Clone, Copy, Debug)]
struct Numbers<T> {
    next: T,
    mask: T,
    step: T,
}

fn words(bytes: &[u8; V]) -> [u16; V / 2] {
    let mut words = [0; V / 2];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u16::from_be_bytes(*bytes);
    }
    words
}

fn dwords(bytes: &[u8; V]) -> [u32; V / 4] {
    let mut dwords = [0; V / 4];
    for (dword, bytes) in dwords.iter_mut().zip(bytes.as_chunks().0) {
        *dword = u32::from_be_bytes(*bytes);
    }
    dwords
}

fn both(a: &[u8; V], b: &[u8; V]) -> [u8; V] {
    std::array::from_fn(|at| a[at] & b[at])
}

impl<const N: usize> Plain<N> {
    pub(crate) fn new(series: &Series<'_, N>) -> Plain<N> {
        let Series { header, ahead, mask, words: steps, dwords: counting, by, summed } = *series;
        let (first, last) = (Series::<N>::first, Series::<N>::last);
        let alone = &Series::<N>::LAST_ALONE;
        let steps = words(steps);
        let counting = dwords(&both(counting, alone)).map(|all| all & by);
        let (mut low, mut high) = (words(first(header)), dwords(last(header)));
        for (number, step) in low.iter_mut().zip(steps) {
            *number = number.wrapping_add(step.wrapping_mul(ahead));
        }
        for (number, step) in high.iter_mut().zip(counting) {
            *number = number.wrapping_add(step.wrapping_mul(u32::from(ahead)));
        }
        Plain {
            first: Numbers { next: low, mask: words(first(mask)), step: steps },
            last: Numbers { next: high, mask: dwords(&both(last(mask), alone)), step: counting },
            middle: *Series::middle(header),
            middle_mask: both(Series::middle(mask), &Series::<N>::MIDDLE_ALONE),
            summed: *summed,
        }
    }
}

impl<const N: usize> Sealed for Plain<N> {}

impl<const N: usize> Expect<N> for Plain<N> {
    #[inline]
    fn is_next(&self, frame: &[u8]) -> Option<u32> {
        let header = frame.first_chunk::<N>()?;
        let last = Series::last(header);
        let (mut bits, mut rest) = (0, 0);
        for (at, word) in words(Series::first(header)).into_iter().enumerate() {
            bits |= (word ^ self.first.next[at]) & self.first.mask[at];
        }
        for (at, dword) in dwords(last).into_iter().enumerate() {
            rest |= (dword ^ self.last.next[at]) & self.last.mask[at];
        }
        if N > 2 * V {
            for (at, byte) in Series::middle(header).iter().enumerate() {
                bits |= u16::from((byte ^ self.middle[at]) & self.middle_mask[at]);
            }
        }
        let is_same = bits == 0 && rest == 0;
        is_same.then(|| u32::from(csum::fold(scalar::add_up(&both(last, &self.summed)))))
    }

    #[inline]
    fn sum_next(&self, frame: &[u8]) -> Option<u32> {
        let total = self.is_next(frame)?;
        let payload = &frame[N..];
        (payload.len() <= MAX).then(|| total + u32::from(csum::fold(csum::total(payload))))
    }

    #[inline]
    fn copy_next(&self, frame: &[u8], to: &mut [u8]) -> Option<u32> {
        let total = self.is_next(frame)?;
        let payload = &frame[N..];
        let fits = payload.len() == to.len() && to.len() <= MAX;
        fits.then(|| total + u32::from(scalar::copy_and_sum(to, payload).swap_bytes()))
    }

    #[inline]
    fn advance(&mut self) {
        for (next, step) in self.first.next.iter_mut().zip(self.first.step) {
            *next = next.wrapping_add(step);
        }
        for (next, step) in self.last.next.iter_mut().zip(self.last.step) {
            *next = next.wrapping_add(step);
        }
    }
}
