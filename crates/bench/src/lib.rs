//! Side-by-side benchmarks: rxpath and smoltcp take the same TCP stream in the same run.
//!
//! [`run`] measures what [`Options`] ask for and gives a [`Report`], which prints as a table and as JSON
//! ([`Report::json`]). What is timed is the way of a segment from a device's memory to the application's buffer, with
//! checksums verified, ACKs sent and the bytes copied out:
//!
//! 1. a [`peer`] with an established connection writes a burst of segments into the memory of the stack's device, as
//!    far as the window that the stack offers goes;
//! 2. the stack takes them ([`rx`], [`smol`]);
//! 3. the application reads them into one buffer of 64 KiB, the same for both;
//! 4. the ACKs reach the peer.
//!
//! Both sides get the same frames, and both do everything: nothing is offloaded. The peer's own work is timed apart, in
//! place, and subtracted. Rounds of both sides alternate in slices of about a millisecond of processor time ([`clock`],
//! [`measure`]); a round's value is the median of its slices, the result the median over the rounds, with the lowest and
//! the highest. In each round
//! some bursts are compared byte by byte; at the end every byte must be acknowledged.
//!
//! Time on the stacks' clocks is that of a wire of 10 Gbit/s, so that the same seed gives the same run.
//!
//! Neighbours: [`rxpath_core`] and the crate `smoltcp` are what is measured. Nothing here is part of a stack.
//! A stack that loses, changes or does not acknowledge bytes makes a run panic: its figures would mean nothing.
#![forbid(unsafe_code)]

pub mod case;
pub mod clock;
pub mod drive;
pub mod feed;
pub mod frames;
pub mod heard;
pub mod machine;
pub mod measure;
pub mod pair;
pub mod peer;
pub mod queues;
pub mod report;
pub mod rx;
pub mod smol;

pub use case::{Case, UnknownCase};
pub use machine::Machine;
pub use measure::Spread;
pub use report::{CaseResult, Limit, Report, SideResult};

/// What is to be measured, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cases, in this order; empty means all.
    pub only: Vec<Case>,
    /// Rounds of each case, at least [`MIN_ROUNDS`].
    pub rounds: u32,
    /// Seconds that the rounds of each case may take together, about.
    pub seconds: f64,
    /// Seed of the payload and of the stacks' own random numbers.
    pub seed: u64,
}

/// Fewer rounds than this would make medians of too little.
pub const MIN_ROUNDS: u32 = 15;

impl Default for Options {
    /// All cases, 21 rounds, 4 seconds a case.
    fn default() -> Options {
        Options { only: Vec::new(), rounds: 21, seconds: 4.0, seed: 1 }
    }
}

/// Measures. Takes [`Options::seconds`] for each case and about a second besides.
///
/// # Panics
/// If a stack loses, changes or does not acknowledge bytes.
pub fn run(options: &Options) -> Report {
    let all = Case::ALL.to_vec();
    let cases = if options.only.is_empty() { &all } else { &options.only };
    let options = Options { rounds: options.rounds.max(MIN_ROUNDS), ..options.clone() };
    let measured = |&case: &Case| match case {
        Case::TwoQueues => queues::run(&options),
        case => pair::run(case, &options),
    };
    let results = cases.iter().map(measured).collect();
    Report { machine: Machine::here(), rounds: options.rounds, seed: options.seed, results }
}
