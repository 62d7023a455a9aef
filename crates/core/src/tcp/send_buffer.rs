//! The bytes that the application handed over and the peer has not acknowledged: a ring, indexed by sequence number.
//!
//! It grows by doubling up to the socket's send buffer and then allocates no more.

/// Smallest allocation.
const MIN_CAPACITY: usize = 4 * 1_024;

/// A byte ring.
#[derive(Debug, Default)]
pub struct SendBuffer {
    bytes: Vec<u8>,
    head: usize,
    len: usize,
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
        self.grow_for(self.len + taken);
        let (mut at, mut rest) = (self.index(self.len), &data[..taken]);
        while !rest.is_empty() {
            let run = rest.len().min(self.bytes.len() - at);
            self.bytes[at..at + run].copy_from_slice(&rest[..run]);
            rest = &rest[run..];
            at = 0;
        }
        self.len += taken;
        taken
    }

    /// Copies the bytes from `offset` on into `out`; false if there are not that many.
    pub fn copy_to(&self, offset: usize, out: &mut [u8]) -> bool {
        if offset + out.len() > self.len {
            return false;
        }
        let (mut at, mut done) = (self.index(offset), 0);
        while done < out.len() {
            let run = (out.len() - done).min(self.bytes.len() - at);
            out[done..done + run].copy_from_slice(&self.bytes[at..at + run]);
            done += run;
            at = 0;
        }
        true
    }

    /// Forgets the first `n` bytes: they were acknowledged.
    pub fn advance(&mut self, n: usize) {
        let n = n.min(self.len);
        self.head = self.index(n);
        self.len -= n;
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
        let held = self.len;
        self.copy_to(0, &mut grown[..held]);
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
}
