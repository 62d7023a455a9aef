//! What a received frame costs a socket in accounted memory (`skb->truesize`), and what joining it to another costs.
//!
//! Accounting, not memory: the receive window, pruning and buffer-full decisions follow the kernel's figures, while
//! real memory is bounded by the page pool. The figures are those of the running kernel's TAP, found by injecting
//! frames of every length and reading the socket's memory.

/// Longest frame that the kernel puts into one linear buffer.
const LINEAR_MAX: u32 = 3_456;
/// Shortest frame, with its checksum still open, whose payload the kernel puts into pages.
const PAGED_MIN: u32 = 4_032;
/// Metadata and shared information charged with a linear buffer.
const LINEAR_OVERHEAD: u32 = 640;
/// Metadata charged per packet; given back when a packet is joined to another.
const SKB_OVERHEAD: u32 = 256;
/// Head of a packet whose payload lies in pages.
const PAGED_HEAD: u32 = 832;
const PAGE: u32 = 4_096;
/// Page fragments that one packet may have.
const FRAGS_MAX: u8 = 17;
/// Ethernet, IPv4 and TCP header with timestamps: what stays in the head of a paged packet.
const HEADERS: u32 = 66;

/// Most bytes of a packet into which others are collapsed: what a page holds besides the shared information.
pub const DENSE_MAX: usize = 3_776;

/// A buffer of the kernel's own that packets are collapsed into: one of the sizes that its allocator has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dense(u8);

impl Dense {
    /// Bytes that the buffer holds, and its charge.
    const FORMS: [(u32, u32); 4] = [(256, 832), (704, 1_280), (1_728, 2_304), (DENSE_MAX as u32, 4_352)];

    /// The smallest buffer for `len` bytes, at most [`DENSE_MAX`].
    pub fn of(len: usize) -> Dense {
        let form = Dense::FORMS.iter().position(|(room, _)| *room as usize >= len);
        Dense(form.unwrap_or(Dense::FORMS.len() - 1) as u8)
    }

    /// Bytes charged for it.
    pub fn charge(self) -> u32 {
        Dense::FORMS[usize::from(self.0)].1
    }

    /// What may be joined to it.
    pub fn joins(self) -> Joins {
        Joins(DENSE + self.0)
    }
}

/// How frames of a device are charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TruesizeModel {
    /// As the running kernel charges a frame written to a TAP.
    #[default]
    Kernel,
    /// The slot that the frame really lies in: 64 bytes of metadata and 2,240 of buffer.
    Slot,
}

impl TruesizeModel {
    /// Bytes charged for a frame of `len` bytes, Ethernet header included.
    #[inline]
    pub fn charge(self, len: u32) -> u32 {
        match self {
            TruesizeModel::Kernel if len <= LINEAR_MAX => LINEAR_OVERHEAD + align(len),
            TruesizeModel::Kernel if len < PAGED_MIN => SKB_OVERHEAD + PAGE,
            TruesizeModel::Kernel => PAGED_HEAD + PAGE * len.saturating_sub(HEADERS).div_ceil(PAGE),
            TruesizeModel::Slot => 2_304 * len.div_ceil(2_240).max(1),
        }
    }

    /// What a frame of `len` bytes leaves for others, as a fresh [`Joins`].
    #[inline]
    pub fn joins(self, len: u32) -> Joins {
        match self {
            TruesizeModel::Kernel if len > LINEAR_MAX => Joins::fragments(len.div_ceil(PAGE).min(u32::from(FRAGS_MAX))),
            TruesizeModel::Kernel => Joins((align(len) - len) as u8),
            TruesizeModel::Slot => Joins::fragments(1),
        }
    }
}

#[inline]
fn align(len: u32) -> u32 {
    (len + 63) & !63
}

/// What may still be joined to a queued packet: bytes in its tail room, or page fragments. One byte, so that it fits
/// the packet's metadata: below 64 the tail room of a packet without fragments, from 64 on the number of fragments
/// behind a head with payload, from 128 on the number of fragments of a packet whose head has none, from 192 on the number
/// of fragments behind a buffer of the kernel's own, from 248 on which such buffer it lies in, whose room is what its length
/// leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joins(pub u8);

/// The least value of a packet that others were collapsed into, and that fragments were chained to.
const BEHIND_DENSE: u8 = 192;
/// The least value of a packet that others were collapsed into, and that nothing was chained to.
const DENSE: u8 = 248;

impl Joins {
    /// Nothing can be joined to the packet.
    pub const FULL: Joins = Joins(128 + FRAGS_MAX);

    /// True of a packet that others were collapsed into, while its buffer may have room.
    #[inline(always)]
    pub fn is_dense(self) -> bool {
        self.0 >= DENSE
    }

    /// As [`Joins::join`], to such a packet of `tail_len` bytes.
    #[cold]
    pub fn join_dense(self, tail_len: u32, len: u32, truesize: u32, other: Joins) -> Option<(u32, Joins)> {
        let (room, _) = Dense::FORMS[usize::from(self.0 - DENSE).min(Dense::FORMS.len() - 1)];
        if len <= room.saturating_sub(tail_len) {
            return Some((0, self));
        }
        let (_, fragments) = other.count();
        (fragments <= FRAGS_MAX).then(|| (truesize.saturating_sub(SKB_OVERHEAD), Joins(BEHIND_DENSE + fragments)))
    }

    fn fragments(count: u32) -> Joins {
        Joins(128 + count as u8)
    }

    /// Fragments that the packet has, and that it becomes if it is joined to another.
    #[inline]
    fn count(self) -> (u8, u8) {
        match self.0 {
            0..64 => (0, 1),
            64..128 => (self.0 - 64, self.0 - 63),
            128..BEHIND_DENSE => (self.0 - 128, self.0 - 128),
            // Such a buffer cannot become a fragment.
            BEHIND_DENSE..DENSE => (self.0 - BEHIND_DENSE, u8::MAX),
            _ => (0, u8::MAX),
        }
    }

    /// Joins a packet of `len` bytes charged `truesize` on its own, which `other` was joined to (`skb_try_coalesce`): the
    /// charge that is left and the new state, or None if the packet is full. Bytes that fit the tail room cost nothing;
    /// otherwise the buffer becomes a fragment and only the packet's metadata is saved.
    #[inline]
    pub fn join(self, len: u32, truesize: u32, other: Joins) -> Option<(u32, Joins)> {
        let room = if self.0 < 64 { u32::from(self.0) } else { 0 };
        // A FIN by itself always fits.
        if len <= room {
            return Some((0, Joins(self.0 - len as u8)));
        }
        let fragments = self.count().0.saturating_add(other.count().1);
        let kind = match self.0 {
            0..128 => 64,
            128..BEHIND_DENSE => 128,
            _ => BEHIND_DENSE,
        };
        (fragments <= FRAGS_MAX).then(|| (truesize.saturating_sub(SKB_OVERHEAD), Joins(kind + fragments)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_model_gives_the_measured_charges() {
        // Frame lengths and charges read off a TAP of Linux 6.18.
        for (len, charge) in [(55, 704), (67, 768), (554, 1_216), (1_054, 1_728), (1_514, 2_176), (5_066, 9_024)] {
            assert_eq!(TruesizeModel::Kernel.charge(len), charge, "frame of {len} bytes");
        }
    }

    #[test]
    fn eighteen_full_segments_share_one_packet() {
        let fresh = TruesizeModel::Kernel.joins(1_514);
        let mut joins = fresh;
        for _ in 0..17 {
            let (charge, next) = joins.join(1_448, 2_176, fresh).expect("room for a fragment");
            assert_eq!(charge, 1_920);
            joins = next;
        }
        assert_eq!(joins.join(1_448, 2_176, fresh), None);
    }

    #[test]
    fn a_packet_that_others_joined_brings_their_fragments() {
        let fresh = TruesizeModel::Kernel.joins(1_514);
        let join = |joins: Joins, other: Joins| joins.join(1_448, 2_176, other).map(|(_, next)| next);
        let many = (0..9).fold(fresh, |joins, _| join(joins, fresh).expect("few"));
        let most = (0..7).fold(fresh, |joins, _| join(joins, fresh).expect("few"));
        assert_eq!(join(most, many), Some(Joins(64 + 17)));
        assert_eq!(join(many, many), None);
        let paged = TruesizeModel::Kernel.joins(16 * PAGE);
        assert_eq!(join(paged, fresh), Some(Joins(128 + 17)));
        assert_eq!(join(paged, paged), None);
    }

    #[test]
    fn what_was_collapsed_joins_nothing_whatever_joined_it() {
        let fresh = TruesizeModel::Kernel.joins(1_514);
        let dense = Dense::of(1_000).joins();
        let (charge, joined) = dense.join_dense(1_000, 1_448, 2_176, fresh).expect("a fragment");
        assert_eq!((charge, joined.is_dense()), (1_920, false));
        let (_, more) = joined.join(1_448, 2_176, fresh).expect("another fragment");
        for own in [dense, joined, more] {
            assert_eq!(fresh.join(2_448, 3_000, own), None, "{own:?}");
            assert_eq!(dense.join_dense(1_728, 2_448, 3_000, own), None, "{own:?}");
        }
        let full = (0..16).fold(joined, |joins, _| joins.join(1_448, 2_176, fresh).expect("few").1);
        assert_eq!(full.join(1_448, 2_176, fresh), None);
        assert_eq!(full.join(0, 704, fresh), Some((0, full)), "a FIN by itself");
    }

    #[test]
    fn small_segments_fit_the_tail_room_at_no_charge() {
        let joins = TruesizeModel::Kernel.joins(67);
        let (charge, next) = joins.join(50, 832, TruesizeModel::Kernel.joins(116)).expect("61 bytes of room");
        assert_eq!((charge, next), (0, Joins(11)));
        assert_eq!(next.join(12, 768, joins), Some((512, Joins(65))));
    }
}
