//! Wrong usage and configuration: exit code 2, the place and the mend.

use crate::machine::{Folder, run};

#[track_caller]
fn refused(arguments: &[&str], says: &[&str]) {
    let ran = run(arguments);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}: {}", ran.err);
    for text in says {
        assert!(ran.err.contains(text), "{arguments:?} does not say {text:?}:\n{}", ran.err);
    }
}

#[test]
fn a_command_line_that_is_wrong_is_refused_with_the_mend() {
    refused(&[], &["Usage: rxpath", "demo"]);
    refused(&["dmo"], &["dmo", "similar", "'demo'"]);
    refused(&["demo", "--wires"], &["--wires", "'--wire'"]);
    refused(&["serve"], &["--config <FILE>"]);
    refused(&["life", "--last", "many"], &["'many'", "--last"]);
    refused(&["life", "--last", "1001"], &["1001", "0..=1000"]);
    refused(&["life", "--select", "all", "--last", "3"], &["--select", "--last"]);
    refused(&["serve", "--config", "x", "--kernel-address", "10.0.0.1"], &["no /LENGTH; write it as 10.9.0.254/24"]);
    refused(&["config"], &["check", "reference"]);
}

#[test]
fn a_wrong_filter_is_shown_with_its_place() {
    refused(&["life", "--filter", "dst port http"], &["dst port http\n         ^^^^\n", "found `http`"]);
    refused(&["life", "--select", "tcp and"], &["tcp and\n       ^\n", "the text ends", "all, off, or 1/100"]);
    refused(&["life", "--select", "1/0"], &["chooses no packet"]);
}

#[test]
fn a_kind_or_measurement_that_does_not_exist_is_refused_with_those_that_do() {
    refused(&["twin", "--kind", "x"], &["there are: all, tcp-basic"]);
    refused(&["twin", "--cases", "0"], &["--cases"]);
    if cfg!(feature = "bench") {
        refused(&["bench", "--only", "tcp-64,x"], &["no case \"x\"; there are tcp-64,"]);
        refused(&["bench", "--seconds", "0"], &["0.01 to 3600"]);
    }
}

const WRONG: &str =
    "[[interface]]\nname = \"eth0\"\ndriver = \"tap\"\nadress = [\"10.9.0.1/24\"]\n[life]\nselect = \"tcp und\"\n";

#[test]
fn a_wrong_file_is_told_with_line_column_and_mend() {
    let folder = Folder::new();
    let file = folder.file("host.toml", WRONG);
    let address = format!("{file}:4:1: unknown key \"adress\" in [[interface]]; did you mean \"addresses\"?");
    let filter = format!("{file}:6:15: ");
    refused(&["config", "check", &file], &[&address, &filter]);
    refused(&["serve", "--config", &file, "--in-namespace"], &[&address, &filter]);
    let missing = folder.path("missing.toml");
    refused(&["config", "check", &missing], &[&missing, "cannot be read"]);
    refused(&["serve", "--config", &missing], &[&missing, "cannot be read"]);
}

#[test]
fn a_file_is_told_in_json_too() {
    let folder = Folder::new();
    let ran = run(&["config", "check", "--json", &folder.file("host.toml", WRONG)]);
    let told: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.code, &told["ok"]), (2, &false.into()));
    assert_eq!((&told["errors"][0]["line"], &told["errors"][0]["column"]), (&4.into(), &1.into()));
    let sound = folder.file("sound.toml", "[[interface]]\nname = \"eth0\"\ndriver = \"tap\"\n");
    let ran = run(&["config", "check", &sound]);
    assert_eq!((ran.code, ran.out), (0, format!("{sound}: sound (1 interface, 0 services)\n")));
}

#[test]
fn a_cable_in_memory_is_refused_where_nobody_is_at_its_other_end() {
    let folder = Folder::new();
    let file = folder.file("host.toml", "[[interface]]\nname = \"w0\"\ndriver = \"wire\"\n");
    let control = folder.path("rx.sock");
    refused(&["serve", "--config", &file, "--control", &control], &["interface w0", "use driver = \"tap\""]);
    let file = folder.file("host.toml", "[[interface]]\nname = \"c0\"\ndriver = \"pcap\"\n");
    refused(&["serve", "--config", &file, "--control", &control], &["interface c0", "which `rxpath replay` does"]);
}

#[test]
fn the_reference_is_the_one_in_the_documentation() {
    let ran = run(&["config", "reference"]);
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/host.toml.md"));
    assert_eq!((ran.code, ran.out), (0, page.expect("the page is there")));
}

#[test]
fn without_a_running_stack_views_fail_and_say_what_to_do() {
    let folder = Folder::new();
    let nobody = folder.path("nobody.sock");
    for view in ["life", "drops", "ss", "nstat", "softnet", "route", "neigh"] {
        let ran = run(&[view, "--control", &nobody]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{view}");
        assert!(ran.err.contains(&nobody) && ran.err.contains("start `rxpath serve`"), "{view}: {}", ran.err);
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [&["--help"][..], &["demo", "--help"], &["config", "check", "--help"], &["--version"]] {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{arguments:?}");
        assert!(ran.out.contains("rxpath"), "{arguments:?}: {}", ran.out);
    }
    assert!(run(&["life", "--help"]).out.contains("One JSON object per life, one life per line"));
}
