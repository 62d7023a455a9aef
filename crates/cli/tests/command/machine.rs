//! Starting the command, and files for it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The command, with arguments, an empty standard input, and no settings of the machine's.
pub fn rxpath(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rxpath"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["RXPATH_CONTROL", "PROC_ROOT", "NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR"] {
        command.env_remove(name);
    }
    command
}

/// What the command did.
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs the command to its end.
pub fn run(arguments: &[&str]) -> Ran {
    ran(rxpath(arguments).output().expect("the command starts"))
}

/// What a finished process did. One that was ended by a signal fails the test.
pub fn ran(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the output is UTF-8");
    let code = output.status.code().unwrap_or_else(|| panic!("ended by {}", output.status));
    let ran = Ran { code, out: text(output.stdout), err: text(output.stderr) };
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
    ran
}

/// A folder of the test's own, which goes with this.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one.
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rxpath-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the folder is made");
        Folder(path)
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("the folder's name is UTF-8").to_owned()
    }

    /// Writes a file in it and gives its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("the file is written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The last line of a text.
pub fn last_line(text: &str) -> &str {
    text.lines().next_back().unwrap_or_default()
}

/// Whether a line is a ledger in balance.
pub fn is_balanced_ledger(line: &str) -> bool {
    line.starts_with("ledger: offered ") && line.ends_with(" (balanced)")
}
