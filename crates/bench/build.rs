//! Tells the program how it was built, for its reports.

use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CARGO_ENCODED_RUSTFLAGS");
    let profile = env::var("PROFILE").unwrap_or_default();
    let mut flags = vec![format!("opt-level={}", env::var("OPT_LEVEL").unwrap_or_default())];
    // Cargo does not tell build scripts about link-time optimisation, so the workspace's profile is read.
    let workspace = "../../Cargo.toml";
    if let Ok(manifest) = fs::read_to_string(workspace) {
        println!("cargo::rerun-if-changed={workspace}");
        flags.extend(profile_lines(&manifest, &profile));
    }
    let rustflags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    flags.extend(rustflags.split('\u{1f}').filter(|flag| !flag.is_empty()).map(str::to_owned));
    println!("cargo::rustc-env=RXPATH_BENCH_PROFILE={profile}");
    println!("cargo::rustc-env=RXPATH_BENCH_FLAGS={}", flags.join(", "));
    println!("cargo::rustc-env=RXPATH_BENCH_RUSTC={}", compiler());
}

/// `lto` and `codegen-units` of a profile.
fn profile_lines(manifest: &str, profile: &str) -> Vec<String> {
    let header = format!("[profile.{profile}]");
    let lines = manifest.lines().skip_while(|line| line.trim() != header).skip(1);
    let lines = lines.take_while(|line| !line.trim_start().starts_with('['));
    let named = lines.filter(|line| line.starts_with("lto") || line.starts_with("codegen-units"));
    named.map(|line| line.replace([' ', '"'], "")).collect()
}

fn compiler() -> String {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(rustc).arg("--version").output();
    let version = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let version = version.unwrap_or_default();
    let short: Vec<&str> = version.split_whitespace().take(2).collect();
    short.join(" ")
}
