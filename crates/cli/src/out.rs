//! Where all output goes.
//!
//! Everything that a command prints goes through one [`Out`], whose errors come back: a full disk is an error, a reader
//! that went away ends the command, and nothing panics. Messages about the run itself (progress, errors) go to standard
//! error through [`note`], where nobody can be told if they do not arrive.

use std::fmt;
use std::io::{self, BufWriter, Write};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::failure::Failure;

/// Headings and what matters most.
pub const STRONG: Style = Style::new().bold();
/// What is well.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// What is not.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What explains.
pub const FAINT: Style = Style::new().dimmed();

/// Standard output, buffered; colours are left out where it is no terminal or the environment says so (`NO_COLOR`).
pub struct Out {
    sink: BufWriter<Box<dyn Write + Send>>,
    is_stdout: bool,
}

impl Out {
    /// The process's standard output.
    pub fn stdout() -> Out {
        let stdout = io::stdout();
        let choice = AutoStream::choice(&stdout);
        Out { is_stdout: true, ..Out::to(Box::new(AutoStream::new(stdout, choice))) }
    }

    /// Any other sink; colours are passed on as they come.
    pub fn to(sink: Box<dyn Write + Send>) -> Out {
        Out { sink: BufWriter::with_capacity(1 << 16, sink), is_stdout: false }
    }

    /// Writes a text as it is.
    ///
    /// # Errors
    /// The sink does not take it; so for all methods here.
    pub fn text(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        write!(self.sink, "{text}").map_err(Failure::output)
    }

    /// Writes a text and ends the line.
    pub fn line(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.sink, "{text}").map_err(Failure::output)
    }

    /// Writes a value as JSON in one line.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.sink, value).map_err(|error| Failure::output(error.into()))?;
        self.line("")
    }

    /// Fails if the reader of the output went away, which otherwise only shows when something is written.
    pub fn check_reader(&self) -> Result<(), Failure> {
        if self.is_stdout && stdout_is_closed() { Err(Failure::ClosedPipe) } else { Ok(()) }
    }

    /// Hands over what was written so far.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.sink.flush().map_err(Failure::output)
    }
}

/// Whether the reading end of a pipe on standard output is closed. Where that cannot be told, it is not.
fn stdout_is_closed() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    polled.is_ok() && fds[0].revents().contains(PollFlags::ERR)
}

/// Says something about the run on standard error. If that is gone, too, there is nobody left to tell.
pub fn note(text: impl fmt::Display) {
    let _ = writeln!(AutoStream::auto(io::stderr()), "{text}");
}

#[cfg(test)]
pub mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    /// A sink whose contents can be looked at afterwards.
    #[derive(Clone, Default)]
    pub struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        /// What was written.
        pub fn text(&self) -> String {
            let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Refuses everything with the error it was made with.
    struct Refusing(io::ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `print` writes.
    pub fn printed(print: impl FnOnce(&mut Out) -> Result<(), Failure>) -> String {
        let memory = Memory::default();
        let mut out = Out::to(Box::new(memory.clone()));
        print(&mut out).and_then(|()| out.flush()).expect("memory takes everything");
        memory.text()
    }

    #[test]
    fn text_lines_and_json_arrive_in_order() {
        let text = printed(|out| {
            out.text("a")?;
            out.line("b")?;
            out.json(&[1, 2])
        });
        assert_eq!(text, "ab\n[1,2]\n");
    }

    #[test]
    fn a_sink_that_refuses_is_an_error_of_its_kind() {
        let mut full = Out::to(Box::new(Refusing(io::ErrorKind::StorageFull)));
        full.line("x").expect("it is buffered");
        assert!(matches!(full.flush(), Err(Failure::Output(_))));
        let mut closed = Out::to(Box::new(Refusing(io::ErrorKind::BrokenPipe)));
        closed.json(&"x".repeat(1 << 17)).expect_err("more than the buffer holds");
        assert!(matches!(closed.flush(), Err(Failure::ClosedPipe)));
    }
}
