//! The Toeplitz hash of receive side scaling: which queue a NIC puts a frame into.
//!
//! The result starts at 0; for each bit of the input that is set, the most significant of the first
//! byte first, the 32 bits of the key from that bit's position on are XORed in. The input is source
//! address, destination address and, for the 4-tuple, source port and destination port, in network
//! order.

use crate::Addr;

/// The key of the published verification vectors. A real NIC draws a random one: with a known key
/// anybody can aim all flows at one queue.
pub const MICROSOFT_KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
    0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
    0x01, 0xfa,
];

/// The hash of any input, bit by bit: the definition. The key counts as followed by zeros where it
/// is shorter than the input and four bytes.
pub fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let mut hash = 0;
    for (at, byte) in input.iter().enumerate() {
        for bit in 0..8 {
            if byte & (0x80 >> bit) != 0 {
                hash ^= window(key, at * 8 + bit);
            }
        }
    }
    hash
}

/// The 32 bits of the key from bit `from` on.
fn window(key: &[u8], from: usize) -> u32 {
    let byte = |at: usize| u64::from(key.get(from / 8 + at).copied().unwrap_or(0));
    let forty = byte(0) << 32 | byte(1) << 24 | byte(2) << 16 | byte(3) << 8 | byte(4);
    (forty >> (8 - from % 8)) as u32
}

/// Nibbles of the longest input, two IPv6 addresses and two ports.
const NIBBLES: usize = 2 * 36;

/// The hash of address pairs and 4-tuples under one key, by tables: one look-up for each nibble of
/// the input. The tables take 4.5 KiB, of which IPv4 touches a third, so that they live in the
/// first-level cache beside the packets.
#[derive(Clone)]
pub struct Toeplitz {
    tables: Box<[[u32; 16]; NIBBLES]>,
}

impl Toeplitz {
    /// The tables for a key, usually of 40 or 52 bytes; what a shorter one lacks counts as zeros.
    pub fn new(key: &[u8]) -> Self {
        let mut tables = Box::new([[0; 16]; NIBBLES]);
        for (at, table) in tables.iter_mut().enumerate() {
            let windows = [0, 1, 2, 3].map(|bit| window(key, at * 4 + bit));
            for (value, entry) in table.iter_mut().enumerate() {
                let set = windows.iter().enumerate().filter(|(bit, _)| value & (8 >> bit) != 0);
                *entry = set.fold(0, |hash, (_, window)| hash ^ window);
            }
        }
        Toeplitz { tables }
    }

    /// The hash of two addresses: for fragments and for what has no ports.
    #[inline]
    pub fn hash_2tuple(&self, src: Addr, dst: Addr) -> u32 {
        if src.is_v4() && dst.is_v4() {
            let ([a, b, c, d], [e, f, g, h]) = (src.low_octets(), dst.low_octets());
            self.hash([a, b, c, d, e, f, g, h])
        } else {
            self.hash(v6_input::<32>(src, dst, [0; 4]))
        }
    }

    /// The hash of addresses and ports.
    #[inline]
    pub fn hash_4tuple(&self, src: Addr, dst: Addr, sport: u16, dport: u16) -> u32 {
        let ([s, t], [u, v]) = (sport.to_be_bytes(), dport.to_be_bytes());
        if src.is_v4() && dst.is_v4() {
            let ([a, b, c, d], [e, f, g, h]) = (src.low_octets(), dst.low_octets());
            self.hash([a, b, c, d, e, f, g, h, s, t, u, v])
        } else {
            self.hash(v6_input::<36>(src, dst, [s, t, u, v]))
        }
    }

    #[inline]
    fn hash<const N: usize>(&self, input: [u8; N]) -> u32 {
        let (pairs, _) = self.tables.as_chunks::<2>();
        input
            .iter()
            .zip(pairs)
            .fold(0, |hash, (byte, [high, low])| hash ^ high[usize::from(byte >> 4)] ^ low[usize::from(byte & 0xf)])
    }
}

/// The first `N` bytes of two whole addresses and the ports.
fn v6_input<const N: usize>(src: Addr, dst: Addr, ports: [u8; 4]) -> [u8; N] {
    let mut input = [0; N];
    let bytes = src.0.into_iter().chain(dst.0).chain(ports);
    for (to, from) in input.iter_mut().zip(bytes) {
        *to = from;
    }
    input
}

impl std::fmt::Debug for Toeplitz {
    /// Without the tables, which give the key away.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Toeplitz").finish_non_exhaustive()
    }
}
