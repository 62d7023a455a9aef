//! What the machine does better than portable Rust: checksums with vector instructions, cache
//! prefetch, and the cycle counter.
//!
//! * [`csum`]: the Internet checksum (RFC 1071) and the copy that computes it on the way. Mirrors
//!   the kernel's `csum_partial` and `csum_and_copy_to_iter`.
//! * [`expect`]: a header compared with what was expected, and the payload behind it copied and summed on the way.
//! * [`prefetch`]: hints that pull a cache line closer. Mirrors `prefetch`.
//! * [`vector`]: loops compiled once for every instruction set.
//! * [`cycles`]: a cheap counter for cost measurements. Mirrors `get_cycles`.
//!
//! What the processor offers is detected once, at run time ([`level`]); a scalar version of
//! everything exists and every version can be called by itself for tests and benchmarks. This crate
//! imports nothing of rxpath.
//!
//! Nothing here panics on any content of the bytes that it is given; the one condition on lengths
//! is named at [`csum::copy_and_sum`].

#![warn(missing_docs)]

pub mod csum;
mod cycle;
pub mod expect;
mod level;
pub mod prefetch;
pub mod vector;

pub use cycle::cycles;
pub use level::{Level, available, level};
