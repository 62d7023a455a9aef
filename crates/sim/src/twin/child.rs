//! The process in which cases run against the kernel, and how it is spoken to: a case as a line of JSON in, a recording
//! as a line of JSON out.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::geteuid;
use rxpath::device::netns;

use super::case::Case;
use super::kernel;
use super::record::Recording;

/// What stands before a recording: whatever else the program prints is passed over.
const MARK: &str = "rxpath-twin ";
/// Set in the environment of the process.
pub const ENVIRONMENT: &str = "RXPATH_TWIN_CHILD";

/// What the child says to a case.
type Answer = Result<Recording, String>;

/// Reads cases from standard input until it ends, runs them against the kernel, and writes recordings to standard output.
///
/// # Errors
/// Standard input or output failed. What goes wrong with a case goes into its answer.
pub fn serve() -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let case: Result<Case, String> = serde_json::from_str(&line?).map_err(|error| format!("no case: {error}"));
        let answer: Answer = case.and_then(|case| kernel::record(&case).map_err(|error| error.to_string()));
        let text = serde_json::to_string(&answer)?;
        let mut out = io::stdout().lock();
        writeln!(out, "\n{MARK}{text}")?;
        out.flush()?;
    }
    Ok(())
}

/// A process that runs cases.
pub struct Worker {
    process: Child,
    /// None once it is told to end.
    cases: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts this program again with `arguments`, in a user namespace if this user needs one to have a network namespace.
    ///
    /// # Errors
    /// The program could not be started.
    pub fn start(arguments: &[OsString]) -> io::Result<Worker> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).env(ENVIRONMENT, "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if !geteuid().is_root() {
            netns::private_child(&mut command);
        }
        let mut process = command.spawn()?;
        let (cases, answers) = (process.stdin.take(), process.stdout.take());
        let answers = answers.ok_or_else(|| io::Error::other("the process has no standard output"))?;
        Ok(Worker { process, cases, answers: BufReader::new(answers) })
    }

    /// Runs a case.
    ///
    /// # Errors
    /// The process ended, or could not run the case.
    pub fn run(&mut self, case: &Case) -> io::Result<Recording> {
        let cases = self.cases.as_mut().ok_or_else(gone)?;
        writeln!(cases, "{}", serde_json::to_string(case)?)?;
        cases.flush()?;
        let mut line = String::new();
        loop {
            line.clear();
            if self.answers.read_line(&mut line)? == 0 {
                return Err(gone());
            }
            if let Some(text) = line.strip_prefix(MARK) {
                let answer: Answer = serde_json::from_str(text)?;
                return answer.map_err(io::Error::other);
            }
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the process that runs the kernel's side has ended")
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        self.cases = None;
        let _ = self.process.wait();
    }
}
