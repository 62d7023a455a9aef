//! How a command can fail, and the exit code that says so.

use std::io;

use rxpath::config::ConfigErrors;

/// Exit code: what was asked failed.
const FAILED: u8 = 1;
/// Exit code: wrong usage or configuration.
const USAGE: u8 = 2;

/// Why a command did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line is wrong: what, and the mend. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A configuration file is wrong: places and mends, a line each. Exit code 2.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// What was asked failed. Exit code 1.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    /// Output was not taken. Exit code 1.
    #[error("writing the output: {0}; nothing after this point was written")]
    Output(io::Error),
    /// The reader of the output went away. Exit code 1, and not a word.
    #[error("the reader of the output went away")]
    ClosedPipe,
    /// All that there is to say was said. Exit code as given.
    #[error("ended with code {0}")]
    Told(u8),
}

impl Failure {
    /// The failure of standard output.
    pub fn output(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::Output(error),
        }
    }

    /// What was asked failed, and the output says why.
    pub const fn told() -> Failure {
        Failure::Told(FAILED)
    }

    /// Its exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) | Failure::Config(_) => USAGE,
            Failure::Failed(_) | Failure::Output(_) | Failure::ClosedPipe => FAILED,
            Failure::Told(code) => *code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_usage_from_failure() {
        assert_eq!(Failure::Usage("x".to_owned()).code(), 2);
        assert_eq!(Failure::from(anyhow::anyhow!("x")).code(), 1);
        assert_eq!(Failure::output(io::ErrorKind::StorageFull.into()).code(), 1);
        assert_eq!(Failure::output(io::ErrorKind::BrokenPipe.into()).code(), 1);
        assert_eq!(Failure::Told(7).code(), 7);
    }

    #[test]
    fn a_failure_tells_its_whole_chain() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::NotFound)).context("opening the TAP");
        assert_eq!(Failure::from(error).to_string(), "opening the TAP: entity not found");
    }
}
