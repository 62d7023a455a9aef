//! `rxpath bench` and `rxpath twin`: that they run and tell, not what they find.

use rxpath_testkit::{need_netns, need_tun};
use serde_json::Value;

use crate::machine::run;

#[test]
fn bench_measures_what_was_asked_for() {
    if !cfg!(feature = "bench") {
        return;
    }
    let short = ["bench", "--only", "tcp-1448,tcp-64", "--rounds", "1", "--seconds", "0.01"];
    let ran = run(&short);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let told: Vec<&str> = ran.out.lines().filter(|line| line.starts_with("tcp-")).collect();
    assert!(told.len() == 2 && told[0].starts_with("tcp-1448 ") && told[1].starts_with("tcp-64 "), "{}", ran.out);

    let ran = run(&[&short[..], &["--json"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let told: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(told["results"][0]["case"], "tcp-1448");
    assert!(told["results"][1]["ratio"]["median"].as_f64() > Some(0.0), "{told}");
}

#[test]
fn twin_compares_as_many_cases_as_asked_for() {
    if !(need_tun() && need_netns()) {
        return;
    }
    let ran = run(&["twin", "--seed", "3", "--cases", "3", "--jobs", "3", "--json"]);
    let told: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.err));
    let differed = told["differed"].as_array().expect("a list");
    assert_eq!(told["agreed"].as_u64(), Some(3 - differed.len() as u64), "{told}");
    assert_eq!((&told["ok"], ran.code), (&differed.is_empty().into(), i32::from(!differed.is_empty())), "{told}");
}
