//! Recognising frames that were expected: the header of each is compared with what follows from the one before, and its
//! payload copied and summed, in one pass over the bytes.
//!
//! A [`Series`] says what the next header is and how the one after differs; [`Simd::expect`](crate::vector::Simd::expect)
//! puts it into the registers of an instruction set, as [`Expect`]. Totals are those of [`crate::csum::total`], below
//! 2^32.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
mod scalar;
#[cfg(test)]
mod tests;

pub(crate) use self::scalar::Plain;

/// The length of the pieces that headers are compared in.
const V: usize = 32;
/// Longest payload.
const MAX: usize = u16::MAX as usize;

/// Headers of `N` bytes, 32 to 96, that follow from one another.
///
/// What counts up are numbers in network order: of 16 bits in the first 32 bytes, at even offsets, and of 32 bits in the
/// last 32 behind those, at multiples of four from where the last 32 begin. Each sum is cut to its number's bits.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a, const N: usize> {
    /// A header.
    pub header: &'a [u8; N],
    /// So many frames behind the header's is the one that comes next.
    pub ahead: u16,
    /// Which bits of a header must be as they stand.
    pub mask: &'a [u8; N],
    /// What is added to the 16-bit numbers from one header to the next.
    pub words: &'a [u8; V],
    /// The 32-bit numbers to which `by` is added: all bits of them.
    pub dwords: &'a [u8; V],
    /// See `dwords`.
    pub by: u32,
    /// Which bits of the last 32 bytes are added to totals.
    pub summed: &'a [u8; V],
}

impl<const N: usize> Series<'_, N> {
    const LENGTH_IS_POSSIBLE: () = assert!(V <= N && N <= 3 * V && N.is_multiple_of(2), "headers have 32 to 96 bytes");

    /// The first 32 bytes of an array of `N`.
    #[inline(always)]
    fn first(of: &[u8; N]) -> &[u8; V] {
        const { Self::LENGTH_IS_POSSIBLE };
        of.first_chunk().unwrap_or(&ZEROS)
    }

    /// The bytes from the 32nd on: fewer than 32 of them count if the last piece overlaps.
    #[inline(always)]
    fn middle(of: &[u8; N]) -> &[u8; V] {
        of.get(V..).and_then(|rest| rest.first_chunk()).unwrap_or(&ZEROS)
    }

    /// The last 32 bytes.
    #[inline(always)]
    fn last(of: &[u8; N]) -> &[u8; V] {
        of.last_chunk().unwrap_or(&ZEROS)
    }

    /// Which bytes of the last piece are not in the first one.
    const LAST_ALONE: [u8; V] = bytes_between(V.saturating_sub(N - V), V);
    /// Which bytes of the middle are not in the last piece.
    const MIDDLE_ALONE: [u8; V] = bytes_between(0, (N - V).saturating_sub(V));
}

/// All bits of the bytes from `start` on, below `end`.
const fn bytes_between(start: usize, end: usize) -> [u8; V] {
    let mut mask = [0; V];
    let mut at = start;
    while at < end {
        mask[at] = 0xff;
        at += 1;
    }
    mask
}

static ZEROS: [u8; V] = [0; V];

mod sealed {
    pub trait Sealed {}
}

/// A [`Series`] in the registers of an instruction set. Its methods are compiled for that only where they are inlined:
/// see [`crate::vector::Vectorized`].
pub trait Expect<const N: usize>: Copy + sealed::Sealed {
    /// Whether `frame` begins with the header that comes next: then the total of what is summed in it.
    fn is_next(&self, frame: &[u8]) -> Option<u32>;

    /// The same, and adds what follows to the total. None also if that is longer than 65,535 bytes.
    fn sum_next(&self, frame: &[u8]) -> Option<u32>;

    /// The same, and copies what follows to `to`, and adds it to the total. None also if `to` is not as long, or longer
    /// than 65,535 bytes. `to` may have been written to when the answer is None.
    fn copy_next(&self, frame: &[u8], to: &mut [u8]) -> Option<u32>;

    /// The next header was that of the frame: another one comes next.
    fn advance(&mut self);
}
