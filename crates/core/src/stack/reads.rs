//! What application threads take off the receive queues of a Cpu's sockets, counted by all of them at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of the gathered bytes; the packets stand above them.
const BYTES: u32 = 40;
/// Either of these bits set, half of the room of its number is used up.
const HALF_FULL: u64 = 1 << 63 | 1 << (BYTES - 1);

/// Packets and bytes that were read.
///
/// Both are gathered in one word, so that a read costs one locked operation, and carried over to words of their own when
/// either has used up half of its room. One of the two would run over only if more than 8,192 threads stood between finding
/// that so and carrying over; larger reads are not gathered.
#[derive(Debug, Default)]
pub(super) struct Reads {
    gathered: AtomicU64,
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Reads {
    /// A read took `packets` packets to their ends and copied `bytes` bytes.
    #[inline(always)]
    pub fn add(&self, packets: u64, bytes: u64) {
        if packets >> 10 != 0 || bytes >> 26 != 0 {
            return self.add_many(packets, bytes);
        }
        let more = packets << BYTES | bytes;
        if self.gathered.fetch_add(more, Ordering::Relaxed).wrapping_add(more) & HALF_FULL != 0 {
            self.carry_over();
        }
    }

    #[cold]
    fn add_many(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    #[cold]
    fn carry_over(&self) {
        let (packets, bytes) = split(self.gathered.swap(0, Ordering::Relaxed));
        self.add_many(packets, bytes);
    }

    /// Packets and bytes so far. Right whenever no read is under way.
    pub fn sums(&self) -> (u64, u64) {
        let (packets, bytes) = split(self.gathered.load(Ordering::Relaxed));
        (self.packets.load(Ordering::Relaxed) + packets, self.bytes.load(Ordering::Relaxed) + bytes)
    }
}

fn split(gathered: u64) -> (u64, u64) {
    (gathered >> BYTES, gathered & ((1 << BYTES) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest read that is gathered.
    const LARGEST: (u64, u64) = ((1 << 10) - 1, (1 << 26) - 1);

    #[test]
    fn reads_of_every_size_are_counted() {
        let reads = Reads::default();
        let sizes = [(0, 0), (0, 1), (1, 0), (1, 1_448), LARGEST, (1_024, 1), (1, 1 << 26)];
        let mut sums = (0, 0);
        // Far enough for either number to be carried over more than once.
        for (packets, bytes) in sizes.into_iter().cycle().take(7 * 20_000) {
            reads.add(packets, bytes);
            sums = (sums.0 + packets, sums.1 + bytes);
            assert_eq!(reads.sums(), sums);
        }
        let (packets, bytes) = split(reads.gathered.load(Ordering::Relaxed));
        let gathered = (20_000 * (LARGEST.0 + 2), 20_000 * (LARGEST.1 + 1_449));
        assert!(packets < gathered.0 / 2 && bytes < gathered.1 / 2, "carried over: {packets}, {bytes}");
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let reads = Reads::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| reads.add(LARGEST.0, LARGEST.1)));
            }
        });
        assert_eq!(reads.sums(), (40_000 * LARGEST.0, 40_000 * LARGEST.1));
    }
}
