//! The same frames into the running kernel and into a stack.
//!
//! `RXPATH_SEED=17` runs that case alone, `RXPATH_CASES=2000` more of them.
#![allow(clippy::print_stdout, reason = "the report of the comparison is worth reading")]
#![cfg(target_os = "linux")]

use std::ffi::OsString;

use rxpath_sim::twin::{self, Kind, TwinOptions};

/// The test that is started again as the process that runs the kernel's side.
const CHILD: &str = "one_case_at_a_time_in_a_process_of_its_own";

fn options(seed: u64, cases: u64) -> TwinOptions {
    let child = [CHILD, "--exact", "--nocapture", "--test-threads=1"].map(OsString::from).into();
    TwinOptions { seed, cases, kind: Kind::TcpBasic, child, ..TwinOptions::default() }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn possible() -> bool {
    match twin::kernel_available() {
        Ok(()) => true,
        Err(why) => {
            rxpath_testkit::skip(&why);
            false
        }
    }
}

/// Serves cases when it was started to do that; otherwise has two served by such a process.
#[test]
fn one_case_at_a_time_in_a_process_of_its_own() {
    if std::env::var_os(twin::ENVIRONMENT).is_some() {
        twin::child_main().expect("cases come and recordings go");
        return;
    }
    if !possible() {
        return;
    }
    let report = twin::run(&TwinOptions { jobs: 1, ..options(1, 2) }).expect("the kernel's side runs");
    assert!(report.all_agree(), "{report}");
    assert_eq!(report.agreed, 2);
}

#[test]
fn two_hundred_cases_agree_but_for_what_is_known() {
    if !possible() {
        return;
    }
    let (seed, cases) = match number("RXPATH_SEED") {
        Some(seed) => (seed, number("RXPATH_CASES").unwrap_or(1)),
        None => (1, number("RXPATH_CASES").unwrap_or(200)),
    };
    let report = twin::run(&options(seed, cases)).expect("the kernel's side runs");
    println!("{report}");
    // One in twenty may differ: what is known to differ still, and what a busy machine does to the kernel's times.
    assert!(report.agreed + cases / 20 >= cases, "{report}");
}
