//! The identity of a packet.

use std::fmt;
use std::str::FromStr;

/// A packet's identity, minted when a device offers the frame or when the stack makes a packet.
///
/// | bits | of a frame | of a packet made by the stack |
/// |---|---|---|
/// | 63 | 0 | 1 |
/// | 40..=62 | number of the RX ring | number of the Cpu |
/// | 0..=39 | count on that ring, from 1 | count on that Cpu, from 1 |
///
/// An identity never comes from an address or from contents, and stays with the packet through NAT and rewrites. Counts
/// start at 1, so that [`PacketId::NONE`] names no packet; after 2^40 packets a source starts over.
///
/// Shown as `r0:17`, the 17th frame of ring 0, or `c2:5`, the 5th packet made by Cpu 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(pub u64);

const COUNT_BITS: u32 = 40;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const SOURCE_MASK: u64 = (1 << (63 - COUNT_BITS)) - 1;
const MADE: u64 = 1 << 63;

impl PacketId {
    /// No packet.
    pub const NONE: PacketId = PacketId(0);

    /// The `n`-th frame, from 1, that a device offered on RX ring `ring`.
    #[inline]
    pub const fn of_ring(ring: u16, n: u64) -> PacketId {
        PacketId((ring as u64) << COUNT_BITS | (n & COUNT_MASK))
    }

    /// The `n`-th packet, from 1, that Cpu `cpu` made.
    #[inline]
    pub const fn of_cpu(cpu: u16, n: u64) -> PacketId {
        PacketId(MADE | (cpu as u64) << COUNT_BITS | (n & COUNT_MASK))
    }

    /// True for [`PacketId::NONE`].
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// True if the stack made this packet, false if a device offered it.
    #[inline]
    pub const fn is_made(self) -> bool {
        self.0 & MADE != 0
    }

    /// The RX ring that the frame came by, or the Cpu that made the packet.
    pub const fn source(self) -> u32 {
        ((self.0 >> COUNT_BITS) & SOURCE_MASK) as u32
    }

    /// How many packets its source had had, this one included.
    pub const fn count(self) -> u64 {
        self.0 & COUNT_MASK
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("none");
        }
        let letter = if self.is_made() { 'c' } else { 'r' };
        write!(f, "{letter}{}:{}", self.source(), self.count())
    }
}

/// A text that does not name a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketIdError {
    found: String,
}

impl fmt::Display for PacketIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` names no packet: write r0:17 for the 17th frame of ring 0, c2:5 for the 5th packet made by Cpu 2",
            self.found
        )
    }
}

impl std::error::Error for PacketIdError {}

impl FromStr for PacketId {
    type Err = PacketIdError;

    /// Reads the form that is shown: `r0:17`, `c2:5`, `none`.
    fn from_str(text: &str) -> Result<PacketId, PacketIdError> {
        parse(text).ok_or_else(|| PacketIdError { found: text.chars().take(64).collect() })
    }
}

fn parse(text: &str) -> Option<PacketId> {
    if text == "none" {
        return Some(PacketId::NONE);
    }
    let (made, rest) = match text.split_at_checked(1)? {
        ("r", rest) => (0, rest),
        ("c", rest) => (MADE, rest),
        _ => return None,
    };
    let (source, count) = rest.split_once(':')?;
    let (source, count): (u64, u64) = (source.parse().ok()?, count.parse().ok()?);
    if source > SOURCE_MASK || count > COUNT_MASK || (made | source | count) == 0 {
        return None;
    }
    Some(PacketId(made | source << COUNT_BITS | count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_and_reads_the_short_form() {
        for (id, text) in [
            (PacketId::of_ring(0, 17), "r0:17"),
            (PacketId::of_ring(65_535, 1), "r65535:1"),
            (PacketId::of_cpu(2, 5), "c2:5"),
            (PacketId::of_cpu(0, 0), "c0:0"),
            (PacketId(u64::MAX), "c8388607:1099511627775"),
            (PacketId::NONE, "none"),
        ] {
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse(), Ok(id));
        }
    }

    #[test]
    fn refuses_what_names_no_packet() {
        for text in ["", "r", "x0:1", "r0", "r0:", "r:1", "r0:0", "r8388608:1", "c0:1099511627776", "é:1", "r0:1 "] {
            let error = text.parse::<PacketId>().expect_err(text);
            assert!(error.to_string().starts_with(&format!("`{text}` names no packet")), "{error}");
        }
    }

    #[test]
    fn a_count_wraps_within_its_source() {
        assert_eq!(PacketId::of_ring(3, COUNT_MASK + 2), PacketId::of_ring(3, 1));
        assert_eq!(PacketId::of_cpu(7, 9).source(), 7);
        assert_eq!(PacketId::of_cpu(7, 9).count(), 9);
        assert!(PacketId::of_cpu(7, 9).is_made() && !PacketId::of_ring(7, 9).is_made());
    }
}
