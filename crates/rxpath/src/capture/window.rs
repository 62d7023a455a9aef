//! The part of an input that is in memory.

use std::io::{self, Read};

use super::MAX_RECORD;

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 18;

/// A window that moves forward over an input. It is as large as the largest record so far, and at most [`MAX_RECORD`].
pub(super) struct Window<R> {
    input: R,
    buffer: Vec<u8>,
    /// What is not consumed: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Bytes of the input before `start`.
    offset: u64,
}

impl<R: Read> Window<R> {
    pub(super) fn new(input: R) -> Window<R> {
        Window { input, buffer: vec![0; CHUNK], start: 0, end: 0, offset: 0 }
    }

    /// Where the window begins, in bytes of the input.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// What is in memory.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads until `need` bytes are there, or the input ends: fewer are there then. `need` is at most [`MAX_RECORD`].
    pub(super) fn fill(&mut self, need: usize) -> io::Result<&[u8]> {
        let need = need.min(MAX_RECORD);
        while self.end - self.start < need {
            if self.buffer.len() - self.start < need {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
                if self.buffer.len() < need {
                    self.buffer.resize(need.next_power_of_two().min(MAX_RECORD), 0);
                }
            }
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(n) => self.end += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.bytes())
    }

    /// Moves on by `n` bytes, which are in memory.
    pub(super) fn consume(&mut self, n: usize) {
        let n = n.min(self.end - self.start);
        self.start += n;
        self.offset += n as u64;
    }

    /// Moves on by `n` bytes, wherever they are; gives how many there were.
    pub(super) fn skip(&mut self, n: u64) -> io::Result<u64> {
        let mut left = n;
        while left > 0 {
            let here = self.fill(1)?.len();
            if here == 0 {
                break;
            }
            let step = here.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.consume(step);
            left -= step as u64;
        }
        Ok(n - left)
    }
}
