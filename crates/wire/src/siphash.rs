//! SipHash, a keyed hash whose results an outsider can neither predict nor steer (Aumasson and
//! Bernstein, 2012). With one round per word and three at the end, SipHash-1-3: for flow tables,
//! steering and initial sequence numbers. With two and four, SipHash-2-4 as it was published: for
//! what other hosts compute, too.

use crate::Tuple;
use std::fmt;

/// The hash of any bytes under a 128-bit key.
pub fn siphash13(k0: u64, k1: u64, bytes: &[u8]) -> u64 {
    let mut state = State::new(k0, k1);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        state.absorb(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    last[7] = bytes.len() as u8;
    state.absorb(u64::from_le_bytes(last));
    state.finish()
}

/// SipHash-2-4 of any bytes under a 128-bit key.
pub fn siphash24(k0: u64, k1: u64, bytes: &[u8]) -> u64 {
    let mut state = State::new(k0, k1);
    let (words, tail) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    last[7] = bytes.len() as u8;
    for word in words.iter().chain([&last]) {
        let word = u64::from_le_bytes(*word);
        state.v3 ^= word;
        state.round();
        state.round();
        state.v0 ^= word;
    }
    state.v2 ^= 0xff;
    for _ in 0..4 {
        state.round();
    }
    state.v0 ^ state.v1 ^ state.v2 ^ state.v3
}

/// The stack's own flow hash: SipHash-1-3 of a [`Tuple`] under a secret key.
///
/// The hashed bytes are local address, remote address, local port, remote port in network order,
/// addresses of 4 bytes when both are IPv4 (so that two words hold all) and of 16 otherwise.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FlowHasher {
    /// First half of the key.
    pub k0: u64,
    /// Second half of the key.
    pub k1: u64,
}

impl FlowHasher {
    /// A hasher with this key, which should be random.
    pub const fn new(k0: u64, k1: u64) -> Self {
        FlowHasher { k0, k1 }
    }

    /// The hash of a connection as a packet carries it: the lower half of [`FlowHasher::hash64`],
    /// and 1 in place of 0, which in a packet means that there is none.
    #[inline]
    pub fn hash(&self, tuple: &Tuple) -> u32 {
        (self.hash64(tuple) as u32).max(1)
    }

    /// All 64 bits of the hash.
    #[inline]
    pub fn hash64(&self, tuple: &Tuple) -> u64 {
        let ([a, b], [c, d]) = (tuple.local_port.to_be_bytes(), tuple.remote_port.to_be_bytes());
        let ports = u64::from(u32::from_le_bytes([a, b, c, d]));
        let mut state = State::new(self.k0, self.k1);
        let len: u64 = if tuple.local.is_v4() && tuple.remote.is_v4() {
            let local = u64::from(u32::from_le_bytes(tuple.local.low_octets()));
            let remote = u64::from(u32::from_le_bytes(tuple.remote.low_octets()));
            state.absorb(remote << 32 | local);
            12
        } else {
            for addr in [tuple.local, tuple.remote] {
                let (first, second) = addr.words();
                state.absorb(first.to_le());
                state.absorb(second.to_le());
            }
            36
        };
        state.absorb(len << 56 | ports);
        state.finish()
    }
}

impl fmt::Debug for FlowHasher {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowHasher").finish_non_exhaustive()
    }
}

/// The four words that SipHash stirs.
struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline(always)]
    const fn new(k0: u64, k1: u64) -> Self {
        // "somepseudorandomlygeneratedbytes", as the paper has it.
        State {
            v0: k0 ^ 0x736f_6d65_7073_6575,
            v1: k1 ^ 0x646f_7261_6e64_6f6d,
            v2: k0 ^ 0x6c79_6765_6e65_7261,
            v3: k1 ^ 0x7465_6462_7974_6573,
        }
    }

    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    #[inline(always)]
    fn finish(mut self) -> u64 {
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash24_is_that_of_the_paper() {
        // The example of appendix A: the key 00 to 0f, the fifteen bytes 00 to 0e.
        let (k0, k1) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let bytes: Vec<u8> = (0..15).collect();
        assert_eq!(siphash24(k0, k1, &bytes), 0xa129_ca61_49be_45e5);
    }
}
