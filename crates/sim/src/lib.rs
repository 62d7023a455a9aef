//! What tests, demonstrations and oracles need around a stack: faults on a device, virtual time, and the kernel twin.
//!
//! - [`faults`]: [`Faulty`] loses, duplicates, reorders, corrupts and delays the frames of any device, from a seed.
//! - [`simulation`]: [`Simulation`] runs stacks in virtual time, which jumps to whatever happens next.
//! - [`replay`]: a capture through a stack that stands in for the host that it was made on, and what became of each packet.
//! - `twin` (Linux): the same frames into the running kernel and into a stack, and what differs.
//!
//! Everything random comes from a seed; a failure names the seed and the command that replays it.
#![forbid(unsafe_code)]

mod driven;
pub mod faults;
pub mod replay;
pub mod simulation;
#[cfg(target_os = "linux")]
pub mod twin;

pub use faults::{FaultCounts, FaultStats, Faults, Faulty};
pub use simulation::Simulation;
