//! One datagram that waits for its fragments. Nothing here sends, counts or locks.

use std::collections::BTreeMap;

use rxpath_mem::{IpSummed, Skb, SkbQueue};
use rxpath_trace::Time;
use rxpath_wire::Ipv4Header;

/// What the header of a fragment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where its payload belongs, in bytes.
    pub(super) offset: u32,
    /// Bytes of payload.
    pub(super) len: u32,
    /// Bytes of header.
    header_len: u32,
    more: bool,
    dont_fragment: bool,
    ecn: u8,
}

impl Piece {
    /// Reads it off the header of a packet of `len` bytes.
    pub(super) fn of(header: &Ipv4Header, len: usize) -> Piece {
        let header_len = header.header_len();
        Piece {
            offset: u32::from(header.fragment_offset()),
            len: len.saturating_sub(header_len) as u32,
            header_len: header_len as u32,
            more: header.more_fragments(),
            dont_fragment: header.dont_fragment(),
            ecn: header.ecn(),
        }
    }
}

/// Fragments that came in order, each behind the one before.
#[derive(Debug)]
struct Run {
    end: u32,
    pieces: SkbQueue,
}

/// A datagram that is not whole.
#[derive(Debug)]
pub(super) struct FragQueue {
    /// By offset of the first byte; none overlap. Two may be adjacent and stay apart, as in the kernel: a fragment that
    /// lies in both is an overlap.
    runs: BTreeMap<u32, Run>,
    /// Where the payload ends, as far as it is known.
    len: u32,
    /// Bytes that are there.
    meat: u32,
    last_in: bool,
    /// The ECN fields that were seen: bit `1 << field`.
    ecn: u8,
    /// Longest fragment, and the longest that was not to be cut.
    max_size: u32,
    max_df_size: u32,
    /// What all fragments are charged.
    truesize: u64,
    packets: usize,
    /// The source's count of fragments when the last one of this datagram came.
    pub(super) seen: u32,
    /// When it is given up.
    pub(super) expires: Time,
}

/// What became of a fragment.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It waits.
    Held,
    /// It was the one that was missing. The table has let the datagram go.
    Whole(Box<FragQueue>),
    /// What it brings is there.
    Duplicate(Skb),
    /// The datagram cannot become whole: its fragments, this one the last.
    Impossible { pieces: SkbQueue, overlap: bool },
}

/// How a fragment is no part of the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Duplicate,
    Overlap,
    /// It contradicts what is known of the end, or is empty.
    Contradiction,
}

impl FragQueue {
    /// Nothing came yet.
    pub(super) fn new(expires: Time) -> FragQueue {
        FragQueue {
            runs: BTreeMap::new(),
            len: 0,
            meat: 0,
            last_in: false,
            ecn: 0,
            max_size: 0,
            max_df_size: 0,
            truesize: 0,
            packets: 0,
            seen: 0,
            expires,
        }
    }

    /// `ip_frag_queue`: adds a fragment, cut to what counts of it.
    ///
    /// # Errors
    /// The fragment, and why it was not added.
    pub(super) fn add(&mut self, piece: &Piece, mut skb: Skb) -> Result<(), (Skb, Refused)> {
        let place = self.end_of(piece).and_then(|end| Ok((self.run_for(piece.offset, end)?, end)));
        let (start, end) = match place {
            Ok(place) => place,
            Err(why) => return Err((skb, why)),
        };
        let size = piece.header_len + (end - piece.offset);
        if skb.len() > size as usize {
            skb.trim(size as usize);
            if skb.ip_summed != IpSummed::Unnecessary {
                skb.ip_summed = IpSummed::None;
            }
        }
        self.meat += end - piece.offset;
        self.ecn |= 1 << piece.ecn;
        self.max_size = self.max_size.max(size);
        if piece.dont_fragment {
            self.max_df_size = self.max_df_size.max(size);
        }
        self.truesize += u64::from(skb.truesize);
        self.packets += 1;
        let run = self.runs.entry(start).or_insert_with(|| Run { end, pieces: SkbQueue::new() });
        run.end = end;
        run.pieces.push_back(skb);
        Ok(())
    }

    /// Where the fragment ends, as far as it counts: all but the last one bring whole units of eight bytes.
    fn end_of(&mut self, piece: &Piece) -> Result<u32, Refused> {
        let mut end = piece.offset + piece.len;
        if piece.more {
            end &= !7;
            if end > self.len {
                if self.last_in {
                    return Err(Refused::Contradiction);
                }
                self.len = end;
            }
        } else {
            if end < self.len || (self.last_in && end != self.len) {
                return Err(Refused::Contradiction);
            }
            self.last_in = true;
            self.len = end;
        }
        if end == piece.offset { Err(Refused::Contradiction) } else { Ok(end) }
    }

    /// The start of the run that bytes from `offset` to `end` join, or make. Only the last run grows, as in the kernel.
    fn run_for(&self, offset: u32, end: u32) -> Result<u32, Refused> {
        match self.runs.last_key_value() {
            Some((&start, run)) if run.end == offset => return Ok(start),
            Some((_, run)) if run.end > offset => {}
            _ => return Ok(offset),
        }
        if let Some((_, before)) = self.runs.range(..=offset).next_back()
            && offset < before.end
        {
            return Err(if end <= before.end { Refused::Duplicate } else { Refused::Overlap });
        }
        match self.runs.range(offset..).next() {
            Some((&next, _)) if next < end => Err(Refused::Overlap),
            _ => Ok(offset),
        }
    }

    /// Whether the fragment with offset 0 is there.
    pub(super) fn has_first(&self) -> bool {
        self.runs.contains_key(&0)
    }

    /// Whether all is there.
    pub(super) fn is_whole(&self) -> bool {
        self.last_in && self.meat == self.len && self.has_first()
    }

    /// Whether no fragment is there.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes of payload of the whole.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// The ECN fields that were seen, bit `1 << field`.
    pub(super) fn ecn(&self) -> u8 {
        self.ecn
    }

    /// Whether the longest fragment was not to be cut further: nor is the whole then.
    pub(super) fn dont_fragment(&self) -> bool {
        self.max_df_size == self.max_size
    }

    /// What its fragments are charged.
    pub(super) fn truesize(&self) -> u64 {
        self.truesize
    }

    /// Number of its fragments.
    pub(super) fn packets(&self) -> usize {
        self.packets
    }

    /// Begins anew: gives what was there.
    pub(super) fn restart(&mut self, expires: Time) -> FragQueue {
        let fresh = FragQueue { seen: self.seen, ..FragQueue::new(expires) };
        std::mem::replace(self, fresh)
    }

    /// Its fragments, by offset.
    pub(super) fn into_pieces(self) -> SkbQueue {
        let mut all = SkbQueue::new();
        for mut run in self.runs.into_values() {
            all.append(&mut run.pieces);
        }
        all
    }
}
