//! The bytes of one direction of a connection: what is written, and whether what was read is that.

use std::collections::BTreeSet;

/// Urgent bytes are this one, which no other byte of a stream is.
const URGENT: u8 = 0xff;

/// A stream of known bytes.
#[derive(Clone, Debug)]
pub struct Stream {
    id: u64,
    /// Bytes in all, urgent ones included.
    pub len: usize,
    /// Where urgent bytes stand.
    pub urgent: BTreeSet<usize>,
}

impl Stream {
    pub fn new(id: u64, len: usize, urgent: BTreeSet<usize>) -> Stream {
        Stream { id, len, urgent }
    }

    /// The byte at `offset`.
    fn byte(&self, offset: usize) -> u8 {
        if self.urgent.contains(&offset) {
            return URGENT;
        }
        let word = (offset as u64 / 8).wrapping_add(self.id << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((word >> ((offset % 8) * 8)) as u8).min(URGENT - 1)
    }

    /// What is to be written next at `offset`, `most` bytes or less, and whether it is urgent: an urgent byte goes by
    /// itself.
    pub fn chunk(&self, offset: usize, most: usize) -> (Vec<u8>, bool) {
        let urgent = self.urgent.contains(&offset);
        let limit = if urgent { offset + 1 } else { self.len.min(offset + most) };
        let end = self.urgent.range(offset + 1..).next().map_or(limit, |&next| limit.min(next));
        ((offset..end).map(|at| self.byte(at)).collect(), urgent)
    }
}

/// How far a reader has come in a stream.
#[derive(Clone, Debug)]
pub struct Progress {
    stream: Stream,
    /// Bytes of the stream that were read or left out.
    pub at: usize,
    /// Urgent bytes are read in their place.
    inline: bool,
}

impl Progress {
    pub fn new(stream: Stream, inline: bool) -> Progress {
        Progress { stream, at: 0, inline }
    }

    /// Bytes of the stream in all.
    pub fn len(&self) -> usize {
        self.stream.len
    }

    pub fn has_urgent(&self) -> bool {
        !self.stream.urgent.is_empty()
    }

    /// Bytes that were read.
    ///
    /// # Panics
    /// If they are not what follows. Urgent bytes may have been left out, unless they are to be in their place.
    pub fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            while !self.inline && byte != URGENT && self.stream.urgent.contains(&self.at) {
                self.at += 1;
            }
            assert!(self.at < self.stream.len, "more than was written");
            assert_eq!(byte, self.stream.byte(self.at), "byte {} of stream {}", self.at, self.stream.id);
            self.at += 1;
        }
    }

    /// Bytes that were taken without a look.
    pub fn skip(&mut self, len: usize) {
        self.at += len;
        assert!(self.at <= self.stream.len, "more than was written");
    }

    /// The stream is over: it was read to its end.
    pub fn end(&mut self) {
        while !self.inline && self.stream.urgent.contains(&self.at) {
            self.at += 1;
        }
        assert_eq!(self.at, self.stream.len, "stream {} ends before its end", self.stream.id);
    }

    /// A byte that was read beside the stream.
    pub fn urgent(&self, byte: u8) {
        assert_eq!(byte, URGENT, "the urgent byte");
        assert!(self.has_urgent() && !self.inline, "an urgent byte that nobody sent, or that is in its place");
    }
}
