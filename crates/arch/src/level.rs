//! Run-time detection of what the processor offers.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set that this crate has code for, from the least to the most capable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Level {
    /// Portable code on 64-bit words; runs everywhere.
    Scalar = 1,
    /// 256-bit integer vectors (x86-64 since 2013).
    Avx2 = 2,
}

impl Level {
    /// The name as printed in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Avx2 => "avx2",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The detected level as a number, 0 as long as nobody asked.
static DETECTED: AtomicU8 = AtomicU8::new(0);

/// The best level of this machine. After the first call this is one load and one test; in a program
/// compiled for AVX2 it is a constant.
#[inline]
pub fn level() -> Level {
    const SCALAR: u8 = Level::Scalar as u8;
    const AVX2: u8 = Level::Avx2 as u8;
    if cfg!(target_feature = "avx2") {
        return Level::Avx2;
    }
    // Relaxed: the number says all; nothing else is published with it.
    match DETECTED.load(Ordering::Relaxed) {
        AVX2 => Level::Avx2,
        SCALAR => Level::Scalar,
        _ => detect(),
    }
}

#[cold]
fn detect() -> Level {
    #[cfg(target_arch = "x86_64")]
    let level = if std::is_x86_feature_detected!("avx2") { Level::Avx2 } else { Level::Scalar };
    #[cfg(not(target_arch = "x86_64"))]
    let level = Level::Scalar;
    DETECTED.store(level as u8, Ordering::Relaxed);
    level
}

/// All levels of this machine, ascending: what tests and benchmarks iterate over.
pub fn available() -> &'static [Level] {
    match level() {
        Level::Scalar => &[Level::Scalar],
        Level::Avx2 => &[Level::Scalar, Level::Avx2],
    }
}
