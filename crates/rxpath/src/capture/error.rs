//! What can be wrong with a capture.

use std::{fmt, io};

/// Why reading a capture ended before the end.
#[derive(Debug)]
pub struct CaptureError {
    /// How many bytes into the input the record begins that could not be read.
    pub offset: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong.
#[derive(Debug)]
pub enum Fault {
    /// The input could not be read.
    Io(io::Error),
    /// There is not a single byte.
    Empty,
    /// It is compressed: by what, and the command that undoes it.
    Compressed(&'static str, &'static str),
    /// It does not begin as a capture does: its first bytes.
    NotACapture([u8; 4]),
    /// It ends within a record: so many bytes are missing at least.
    Cut {
        /// What it ends in.
        within: &'static str,
        /// How many bytes of it are there.
        present: usize,
        /// How many it should have, as far as can be told.
        needed: usize,
    },
    /// A length that cannot be.
    Length {
        /// Of what.
        of: &'static str,
        /// The length that it claims.
        claimed: u64,
        /// What it could be.
        limit: &'static str,
    },
    /// Anything else.
    Malformed(&'static str),
}

impl CaptureError {
    pub(super) fn new(offset: u64, fault: Fault) -> CaptureError {
        CaptureError { offset, fault }
    }

    /// True if the input simply ends too early, as the file of a capture that was killed does.
    pub fn is_cut(&self) -> bool {
        matches!(self.fault, Fault::Cut { .. })
    }
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Fault::Io(error) => write!(f, "byte {}: {error}", self.offset),
            Fault::Empty => f.write_str("is empty: not even the header of a capture is there"),
            Fault::Compressed(by, mend) => write!(f, "is compressed with {by}; undo that first: {mend}"),
            Fault::NotACapture(magic) => {
                let [a, b, c, d] = magic;
                write!(
                    f,
                    "is no capture: it begins with {a:02x} {b:02x} {c:02x} {d:02x}, which neither pcap nor pcapng does"
                )
            }
            Fault::Cut { within, present, needed } => {
                write!(f, "byte {}: ends within {within}: {present} of {needed} bytes are there", self.offset)
            }
            Fault::Length { of, claimed, limit } => {
                write!(f, "byte {}: {of} claims {claimed} bytes; {limit}", self.offset)
            }
            Fault::Malformed(what) => write!(f, "byte {}: {what}", self.offset),
        }
    }
}

impl std::error::Error for CaptureError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            Fault::Io(error) => Some(error),
            _ => None,
        }
    }
}
