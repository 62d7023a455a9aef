//! A flow as its segments show it: the headers that they have in common, and what the next frame looks like.

use rxpath_wire::SeqNum;

use rxpath_arch::csum;
use rxpath_arch::expect::{Expect, Series};
use rxpath_arch::vector::{Simd, Vectorized, vectorized};
use rxpath_mem::Skb;

use super::inet;
use super::segment::Segment;
use crate::expect::{CONSTANT, COUNTING, ETHERNET, FIXED, Headers, LONGEST, STAMPED, TcpSum, at, be16};

/// What the segments of a packet have in common, and the one that comes next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    /// The frame that comes next.
    pub next: Next,
    /// Headers of one of its segments, from the Ethernet header on; valid to `header_len`.
    pub header: [u8; LONGEST],
    /// 54 to 94.
    pub header_len: u8,
    /// The interface that they come by.
    pub ifindex: u16,
    /// Payload of the first segment: no later one may be longer.
    pub mss: u32,
}

impl Default for Flow {
    /// Of nobody: no frame is expected.
    fn default() -> Flow {
        Flow { next: Next::default(), header: [0; LONGEST], header_len: 0, ifindex: 0, mss: 0 }
    }
}

impl Flow {
    /// Of a first segment.
    pub fn of(skb: &Skb, segment: &Segment) -> Flow {
        let mut flow = Flow {
            next: Next::counting(segment.seq + segment.len, segment.id, skb.hash),
            header: [0; LONGEST],
            header_len: segment.header_len.min(LONGEST) as u8,
            ifindex: skb.ifindex,
            mss: segment.len,
        };
        flow.note_headers(skb);
        if matches!(segment.header_len, FIXED | STAMPED) {
            flow.next.set_headers(&flow.header, segment.header_len, segment.len);
        }
        flow
    }

    /// The packet that is expected becomes the first segment of another.
    #[inline(always)]
    pub fn begin_anew(&mut self, skb: &Skb) {
        self.note_headers(skb);
        let id = be16(&self.header, at::ID);
        let before = self.next;
        self.next = Next {
            frame_len: before.frame_len,
            sum: before.sum,
            ..Next::counting(before.seq + self.mss, id, before.hash)
        };
    }

    fn note_headers(&mut self, skb: &Skb) {
        // What lies behind shorter headers is payload, and no business of anybody.
        match inet::frame(skb) {
            Some(frame) if let Some(all) = frame.first_chunk() => self.header = *all,
            Some(frame) => self.header[..frame.len()].copy_from_slice(frame),
            None => {}
        }
    }

    /// Whether a frame is of the flow: device, Ethernet header, addresses and ports.
    pub fn is_of(&self, fixed: &[u8; FIXED], ifindex: u16) -> bool {
        self.ifindex == ifindex
            && self.header[at::TUPLE..at::SEQ] == fixed[at::TUPLE..at::SEQ]
            && self.header[..ETHERNET] == fixed[..ETHERNET]
    }

    /// Whether a packet is the one that comes next, its checksum right or known to be.
    #[inline]
    pub fn goes_on_with(&self, skb: &Skb) -> bool {
        let is_other = skb.hash != self.next.hash || skb.gso_size != 0 || skb.data_len() != 0;
        if is_other || skb.ifindex != self.ifindex || self.frames_to_come() == 0 {
            return false;
        }
        let Some(frame) = inet::frame(skb) else { return false };
        let is_good = skb.ip_summed.is_known_good();
        if usize::from(self.header_len) == FIXED {
            self.goes_on_with_frame::<FIXED>(frame, is_good)
        } else {
            self.goes_on_with_frame::<STAMPED>(frame, is_good)
        }
    }

    #[inline(always)]
    fn goes_on_with_frame<const N: usize>(&self, frame: &[u8], is_good: bool) -> bool {
        if frame.len() != self.next.frame_len as usize {
            return false;
        }
        let Some(series) = self.series::<N>() else { return false };
        vectorized(IsNext { series: &series, frame, is_good })
            .is_some_and(|total| is_good || self.next.sum.is_right(total))
    }

    /// Counts the frames that come from the next one on: where identification or checksum wrapped, they go on from there.
    pub fn count_anew(&mut self) {
        let (id, checksum) = (be16(&self.header, at::ID), be16(&self.header, at::IP_CHECKSUM));
        let checksum = csum::update(checksum, id, self.next.id);
        self.header[at::ID..][..2].copy_from_slice(&self.next.id.to_be_bytes());
        self.header[at::IP_CHECKSUM..][..2].copy_from_slice(&checksum.to_be_bytes());
        self.header[at::SEQ..at::ACK].copy_from_slice(&self.next.seq.0.to_be_bytes());
        self.next.ahead = 0;
    }

    /// How many frames follow from the headers: until the identification or the IP checksum wraps, which are no simple
    /// counts in ones' complement (0xffff and 0 are one number, of which a checksum is never 0xffff).
    #[inline(always)]
    pub fn frames_to_come(&self) -> u32 {
        if self.next.id_step == 0 {
            return u32::MAX;
        }
        let to_wrap = (u16::MAX - be16(&self.header, at::ID)).min(be16(&self.header, at::IP_CHECKSUM));
        (u32::from(to_wrap) + 1).saturating_sub(u32::from(self.next.ahead))
    }

    /// The headers of the frame that comes next and of those behind it, if headers have `N` bytes.
    #[inline(always)]
    pub fn series<const N: usize>(&self) -> Option<Series<'_, N>> {
        Some(Series {
            header: self.header.first_chunk()?,
            ahead: self.next.ahead,
            mask: const { &Headers::<N>::COUNTED },
            words: if self.next.id_step == 0 { &CONSTANT } else { &COUNTING },
            dwords: const { &Headers::<N>::SEQ },
            by: self.mss,
            summed: const { &Headers::<N>::SUMMED },
        })
    }
}

/// One frame, compared; and summed, if its checksum is not known to be right.
struct IsNext<'a, const N: usize> {
    series: &'a Series<'a, N>,
    frame: &'a [u8],
    is_good: bool,
}

impl<const N: usize> Vectorized for IsNext<'_, N> {
    type Output = Option<u32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Option<u32> {
        let expect = simd.expect(self.series);
        if self.is_good { expect.is_next(self.frame) } else { expect.sum_next(self.frame) }
    }
}

/// The frame that comes next, as far as it is known. Its other headers are the flow's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Next {
    /// Its length. 0: none is expected.
    pub frame_len: u32,
    /// Its sequence number.
    pub seq: SeqNum,
    /// Its identification.
    pub id: u16,
    /// 0 if all segments carry the same identification, 1 if they count.
    pub id_step: u16,
    /// How many frames it is behind the one that the flow has the headers of.
    ahead: u16,
    /// The device's hash, which may be 0.
    pub hash: u32,
    /// Over its headers.
    pub sum: TcpSum,
}

impl Next {
    /// The next segment begins at `seq`, and its identification is one more than `id`. Nothing is known of its headers.
    pub fn counting(seq: SeqNum, id: u16, hash: u32) -> Next {
        Next { frame_len: 0, seq, id: id.wrapping_add(1), id_step: 1, ahead: 1, hash, sum: TcpSum::default() }
    }

    /// Its headers are as these, which start at the Ethernet header, and `payload` bytes follow.
    pub fn set_headers(&mut self, headers: &[u8; LONGEST], header_len: usize, payload: u32) {
        self.frame_len = header_len as u32 + payload;
        self.sum = TcpSum::of(headers, header_len, payload);
    }

    /// Moves on by some segments of `len` payload bytes.
    #[inline(always)]
    pub fn advance(&mut self, segments: u32, len: u32) {
        self.seq += segments * len;
        self.id = self.id.wrapping_add(self.id_step.wrapping_mul(segments as u16));
        self.ahead = self.ahead.wrapping_add(segments as u16);
    }
}
