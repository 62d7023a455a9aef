//! `rxpath bench`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rxpath_bench::Options;

use crate::args::BenchArgs;
use crate::failure::Failure;
use crate::out::{Out, note};

/// Measures and prints the report.
///
/// # Errors
/// A stack lost bytes; with `--check`, a ratio is below the project's goal; the output is not taken.
pub fn run(out: &mut Out, args: &BenchArgs, json: bool) -> Result<(), Failure> {
    if cfg!(debug_assertions) {
        note("this is a debug build: its figures mean nothing; build with --release");
    }
    let defaults = Options::default();
    let options = Options {
        only: args.only.clone(),
        rounds: args.rounds.unwrap_or(defaults.rounds),
        seconds: args.seconds.unwrap_or(defaults.seconds),
        seed: args.seed.unwrap_or(defaults.seed),
    };
    // A run whose figures would mean nothing panics, and has said why on standard error.
    let report = catch_unwind(AssertUnwindSafe(|| rxpath_bench::run(&options))).map_err(|_| Failure::told())?;
    if json {
        out.line(report.json())?
    } else {
        out.text(&report)?
    }
    let missed: Vec<&str> = report.results.iter().filter(|case| !case.reaches_goal()).map(|case| case.case).collect();
    if args.check && !missed.is_empty() {
        return Err(anyhow::anyhow!("below their goals: {}", missed.join(", ")).into());
    }
    Ok(())
}
