//! The bytes that the application handed over and the peer has not acknowledged, indexed by offset from the first.
//!
//! Bytes that were copied lie in a ring, which grows by doubling up to the socket's send buffer and then allocates no more.
//! Bytes that the application lent (`MSG_ZEROCOPY`) stay where they are: a stretch of the stream refers to them until all
//! of it is acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;

use rxpath_mem::UserPages;

/// Smallest allocation.
const MIN_CAPACITY: usize = 4 * 1_024;

/// The bytes of a connection that wait to be sent or acknowledged.
#[derive(Default)]
pub struct SendBuffer {
    /// The ring.
    bytes: Vec<u8>,
    head: usize,
    /// Bytes in the ring.
    copied: usize,
    /// Bytes in all.
    len: usize,
    /// Bytes before the first one, and those of them that were lent, since the connection began.
    gone: u64,
    gone_lent: u64,
    /// What was lent, in order.
    lent: VecDeque<Stretch>,
}

/// A stretch of the stream that lies in the application's memory.
struct Stretch {
    /// Where it begins, in bytes since the connection began.
    at: u64,
    len: usize,
    /// Bytes in stretches before it.
    before: u64,
    pages: Arc<dyn UserPages>,
}

impl Stretch {
    fn end(&self) -> u64 {
        self.at + self.len as u64
    }
}

/// A part of the stream that lies in one kind of memory.
#[derive(Clone)]
pub(super) enum Piece<'a> {
    /// In the ring: in one piece or, where that wraps, in two.
    Copied(&'a [u8], &'a [u8]),
    /// In the application's memory: so many bytes from an offset on.
    Lent(&'a Arc<dyn UserPages>, usize, usize),
}

impl std::fmt::Debug for SendBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendBuffer")
            .field("len", &self.len)
            .field("stretches", &self.lent.len())
            .finish_non_exhaustive()
    }
}

impl SendBuffer {
    /// Bytes held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends as much of `data` as fits under `limit` bytes in all, and gives how much that was.
    pub fn append(&mut self, data: &[u8], limit: usize) -> usize {
        let taken = data.len().min(limit.saturating_sub(self.len));
        self.grow_for(self.copied + taken);
        let (mut at, mut rest) = (self.index(self.copied), &data[..taken]);
        while !rest.is_empty() {
            let run = rest.len().min(self.bytes.len() - at);
            self.bytes[at..at + run].copy_from_slice(&rest[..run]);
            rest = &rest[run..];
            at = 0;
        }
        self.copied += taken;
        self.len += taken;
        taken
    }

    /// Appends all bytes of `pages`, which stay where they are.
    pub fn append_lent(&mut self, pages: Arc<dyn UserPages>) {
        let len = pages.bytes().len();
        if len == 0 {
            return;
        }
        let before = self.lent.back().map_or(self.gone_lent, |last| last.before + last.len as u64);
        self.lent.push_back(Stretch { at: self.gone + self.len as u64, len, before, pages });
        self.len += len;
    }

    /// True if some of the `len` bytes from `offset` on are the application's.
    #[inline(always)]
    pub(super) fn is_lent(&self, offset: usize, len: usize) -> bool {
        !self.lent.is_empty() && self.is_among_lent(offset, len)
    }

    #[cold]
    fn is_among_lent(&self, offset: usize, len: usize) -> bool {
        let (from, to) = (self.gone + offset as u64, self.gone + (offset + len) as u64);
        let next = self.lent.partition_point(|stretch| stretch.end() <= from);
        len > 0 && self.lent.get(next).is_some_and(|stretch| stretch.at < to)
    }

    /// The `len` bytes from `offset` on, as they lie; fewer, if there are not as many.
    pub(super) fn pieces(&self, offset: usize, len: usize) -> impl Iterator<Item = Piece<'_>> {
        let end = self.gone + (offset + len).min(self.len) as u64;
        let mut at = self.gone + offset as u64;
        let mut next = self.lent.partition_point(|stretch| stretch.end() <= at);
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            match self.lent.get(next) {
                Some(stretch) if stretch.at <= at => {
                    let from = (at - stretch.at) as usize;
                    let len = (stretch.len - from).min((end - at) as usize);
                    at += len as u64;
                    next += 1;
                    Some(Piece::Lent(&stretch.pages, from, len))
                }
                behind => {
                    let to = behind.map_or(end, |stretch| stretch.at.min(end));
                    let lent = match behind {
                        Some(stretch) => stretch.before,
                        None => self.lent.back().map_or(self.gone_lent, |last| last.before + last.len as u64),
                    };
                    let start = (at - self.gone - (lent - self.gone_lent)) as usize;
                    let (first, second) = self.of_ring(start, (to - at) as usize);
                    at = to;
                    Some(Piece::Copied(first, second))
                }
            }
        })
    }

    /// `len` bytes of the ring from `offset` on; there are as many.
    fn of_ring(&self, offset: usize, len: usize) -> (&[u8], &[u8]) {
        let at = self.index(offset);
        let run = len.min(self.bytes.len() - at);
        (&self.bytes[at..at + run], &self.bytes[..len - run])
    }

    /// Copies the bytes from `offset` on into `out`; false if there are not that many.
    pub fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        if offset + out.len() > self.len {
            return false;
        }
        if !self.lent.is_empty() {
            self.gather(offset, out);
            return true;
        }
        let (first, second) = self.of_ring(offset, out.len());
        out[..first.len()].copy_from_slice(first);
        out[first.len()..].copy_from_slice(second);
        true
    }

    /// [`SendBuffer::copy_to`] where some of it was lent.
    #[cold]
    fn gather(&self, offset: usize, mut out: &mut [u8]) {
        for piece in self.pieces(offset, out.len()) {
            let mut put = |bytes: &[u8]| {
                let (to, rest) = std::mem::take(&mut out).split_at_mut(bytes.len());
                to.copy_from_slice(bytes);
                out = rest;
            };
            match piece {
                Piece::Copied(first, second) => {
                    put(first);
                    put(second);
                }
                Piece::Lent(pages, from, len) => {
                    pages.note_copied();
                    put(pages.bytes().get(from..from + len).unwrap_or_default());
                }
            }
        }
    }

    /// Forgets the first `n` bytes: they were acknowledged.
    pub fn advance(&mut self, n: usize) {
        let n = n.min(self.len);
        let lent = if self.lent.is_empty() { 0 } else { self.advance_lent(n) };
        self.gone += n as u64;
        self.gone_lent += lent as u64;
        self.head = self.index(n - lent);
        self.copied -= n - lent;
        self.len -= n;
    }

    /// Lets go of stretches that end within the first `n` bytes; gives how many of those were lent.
    #[cold]
    fn advance_lent(&mut self, n: usize) -> usize {
        let to = self.gone + n as u64;
        let mut lent = 0;
        while let Some(first) = self.lent.front().filter(|first| first.at < to) {
            lent += first.end().min(to) - first.at.max(self.gone);
            if first.end() > to {
                break;
            }
            self.lent.pop_front();
        }
        lent as usize
    }

    /// Gives the memory back.
    pub fn clear(&mut self) {
        *self = SendBuffer::default();
    }

    fn index(&self, offset: usize) -> usize {
        (self.head + offset) & self.bytes.len().wrapping_sub(1)
    }

    fn grow_for(&mut self, len: usize) {
        if len <= self.bytes.len() {
            return;
        }
        let mut grown = vec![0; len.next_power_of_two().max(MIN_CAPACITY)];
        let (first, second) = self.of_ring(0, self.copied);
        grown[..first.len()].copy_from_slice(first);
        grown[first.len()..self.copied].copy_from_slice(second);
        self.bytes = grown;
        self.head = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_behaves_like_a_queue_of_bytes() {
        let mut rng = crate::cx::Rng::new(3);
        let mut ring = SendBuffer::default();
        let mut model: std::collections::VecDeque<u8> = std::collections::VecDeque::new();
        let mut next = 0u8;
        for _ in 0..5_000 {
            let data: Vec<u8> = (0..rng.below(900)).map(|i| next.wrapping_add(i as u8)).collect();
            next = next.wrapping_add(data.len() as u8);
            let taken = ring.append(&data, 10_000);
            assert_eq!(taken, data.len().min(10_000 - model.len()));
            model.extend(&data[..taken]);
            next = next.wrapping_sub((data.len() - taken) as u8);
            let gone = rng.below(1_000).min(model.len() as u32) as usize;
            ring.advance(gone);
            model.drain(..gone);
            assert_eq!(ring.len(), model.len());
            let offset = rng.below(model.len() as u32 + 1) as usize;
            let mut out = vec![0; model.len() - offset];
            assert!(ring.copy_to(offset, &mut out));
            assert!(out.iter().eq(model.iter().skip(offset)));
            assert!(!ring.copy_to(model.len(), &mut [0]), "nothing behind the end");
        }
    }

    struct Lender(Vec<u8>, std::sync::atomic::AtomicUsize);

    impl UserPages for Lender {
        fn bytes(&self) -> &[u8] {
            &self.0
        }

        fn note_copied(&self) {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn lent_stretches_and_copied_bytes_are_one_stream() {
        for seed in 0..20 {
            let mut rng = crate::cx::Rng::new(seed);
            let mut buffer = SendBuffer::default();
            let mut model: VecDeque<u8> = VecDeque::new();
            let mut lenders: Vec<(std::sync::Weak<Lender>, u64)> = Vec::new();
            let (mut end, mut una) = (0u64, 0u64);
            for _ in 0..500 {
                let data: Vec<u8> = (0..rng.below(900)).map(|_| rng.below(256) as u8).collect();
                if rng.below(2) == 0 {
                    assert_eq!(buffer.append(&data, usize::MAX), data.len());
                } else {
                    let lender = Arc::new(Lender(data.clone(), Default::default()));
                    lenders.push((Arc::downgrade(&lender), end + data.len() as u64));
                    buffer.append_lent(lender);
                }
                end += data.len() as u64;
                model.extend(&data);
                let gone = rng.below(1_000).min(model.len() as u32) as usize;
                buffer.advance(gone);
                una += gone as u64;
                model.drain(..gone);
                assert_eq!(buffer.len(), model.len());
                lenders.retain(|(lender, end)| {
                    let acknowledged = *end <= una;
                    let empty = lender.upgrade().is_none_or(|lender| lender.0.is_empty());
                    assert!(acknowledged || !empty || lender.upgrade().is_none());
                    assert_eq!(
                        lender.upgrade().is_none(),
                        acknowledged || empty,
                        "referred to until it is acknowledged"
                    );
                    !acknowledged
                });
                let offset = rng.below(model.len() as u32 + 1) as usize;
                let len = rng.below((model.len() - offset) as u32 + 1) as usize;
                let mut seen = Vec::new();
                let mut touched = false;
                for piece in buffer.pieces(offset, len) {
                    match piece {
                        Piece::Copied(first, second) => seen.extend([first, second].concat()),
                        Piece::Lent(pages, from, len) => {
                            touched = true;
                            seen.extend(&pages.bytes()[from..from + len]);
                        }
                    }
                }
                assert!(seen.iter().eq(model.iter().skip(offset).take(len)), "seed {seed}");
                assert_eq!(buffer.is_lent(offset, len), touched);
                let mut out = vec![0; len];
                assert!(buffer.copy_to(offset, &mut out));
                assert_eq!(out, seen);
            }
            buffer.clear();
            assert!(lenders.iter().all(|(lender, _)| lender.upgrade().is_none()));
        }
    }
}
