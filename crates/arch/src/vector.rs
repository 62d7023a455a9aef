//! Whole loops per instruction set.
//!
//! A function that is compiled for vector instructions cannot be inlined into code that is not, and a call for every
//! frame costs more than the instructions save. So the code around the loop asks once: [`vectorized`] compiles what it is
//! given for each level, and runs the one that the machine has. Inside, a [`Simd`] is the proof that it has it.

#[cfg(target_arch = "x86_64")]
use crate::expect::avx2::Vectors;
use crate::expect::{Expect, Plain, Series};
use crate::level::{Level, level};

mod sealed {
    pub trait Sealed {}
}

/// Proof that the machine has an instruction set, and what is made of it.
pub trait Simd: Copy + sealed::Sealed {
    /// A series of headers in its registers.
    type Expect<const N: usize>: Expect<N>;

    /// Puts a series there.
    fn expect<const N: usize>(self, series: &Series<'_, N>) -> Self::Expect<N>;
}

/// Nothing beyond what the program is compiled for.
#[derive(Clone, Copy, Debug)]
pub struct Scalar(());

impl sealed::Sealed for Scalar {}

impl Simd for Scalar {
    type Expect<const N: usize> = Plain<N>;

    fn expect<const N: usize>(self, series: &Series<'_, N>) -> Plain<N> {
        Plain::new(series)
    }
}

/// [`Level::Avx2`]. There is such a value only where the processor has AVX2: `run_avx2` makes it.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

#[cfg(target_arch = "x86_64")]
impl sealed::Sealed for Avx2 {}

#[cfg(target_arch = "x86_64")]
impl Simd for Avx2 {
    type Expect<const N: usize> = Vectors<N>;

    #[inline(always)]
    fn expect<const N: usize>(self, series: &Series<'_, N>) -> Vectors<N> {
        Vectors::new(self, series)
    }
}

/// Work that is to be compiled once for every instruction set.
pub trait Vectorized {
    /// What it gives.
    type Output;

    /// Does it. To be marked `#[inline(always)]`, with all that it calls in its loops: what is not inlined is not compiled
    /// for the instruction set.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs `work` as compiled for the best instruction set of the machine.
#[inline(always)]
pub fn vectorized<W: Vectorized>(work: W) -> W::Output {
    run_by(level(), work)
}

/// As [`vectorized`], for one level, or the machine's best where that is lower.
pub fn vectorized_at<W: Vectorized>(wanted: Level, work: W) -> W::Output {
    run_by(wanted.min(level()), work)
}

/// `present` must not be above the machine's level.
#[inline(always)]
fn run_by<W: Vectorized>(present: Level, work: W) -> W::Output {
    match present {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: both callers pass at most `level()`, which answers Avx2 only after the processor was seen to have it.
        Level::Avx2 => unsafe { run_avx2(work) },
        _ => work.run(Scalar(())),
    }
}

/// # Safety
///
/// The processor must have AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2<W: Vectorized>(work: W) -> W::Output {
    work.run(Avx2(()))
}
