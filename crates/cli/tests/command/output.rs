//! Output that is not taken: an error where the disk is full, silence where the reader went away, never a panic.

use std::fs::OpenOptions;
use std::io::{PipeWriter, pipe};

use crate::machine::{Folder, ran, rxpath};

/// Commands that print without a running stack.
const PRINTING: [&[&str]; 7] = [
    &["--help"],
    &["--version"],
    &["serve", "--help"],
    &["config", "reference"],
    &["config", "reference", "--json"],
    &["demo", "--wire"],
    &["demo", "--wire", "--json"],
];

/// The writing end of a pipe that nobody reads.
fn closed_pipe() -> PipeWriter {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    writer
}

#[test]
fn a_full_disk_is_an_error() {
    for arguments in PRINTING {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full is there");
        let ran = ran(rxpath(arguments).stdout(full).output().expect("the command starts"));
        assert_eq!(ran.code, 1, "{arguments:?}");
        assert!(ran.err.contains("writing the output: No space left on device"), "{arguments:?}: {}", ran.err);
    }
}

#[test]
fn a_reader_that_went_away_ends_the_command_without_a_word() {
    for arguments in PRINTING {
        let ran = ran(rxpath(arguments).stdout(closed_pipe()).output().expect("the command starts"));
        assert_eq!((ran.code, ran.err.as_str()), (1, ""), "{arguments:?}");
    }
}

#[test]
fn errors_that_nobody_reads_do_not_change_the_exit_code() {
    let folder = Folder::new();
    let missing = folder.path("missing.toml");
    let status = rxpath(&["config", "check", &missing]).stderr(closed_pipe()).status().expect("the command starts");
    assert_eq!(status.code(), Some(2));
}
