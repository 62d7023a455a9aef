//! `cargo bench -p rxpath-bench [-- CASE…]`: the cases that are named, or all, as a table.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use rxpath_bench::{Case, Options, UnknownCase, run};

fn main() -> ExitCode {
    // Cargo itself passes `--bench`.
    let names = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let only: Result<Vec<Case>, UnknownCase> = names.map(|name| name.parse()).collect();
    match only {
        Ok(only) => {
            println!("{}", run(&Options { only, ..Options::default() }));
            ExitCode::SUCCESS
        }
        Err(unknown) => {
            eprintln!("{unknown}");
            ExitCode::FAILURE
        }
    }
}
