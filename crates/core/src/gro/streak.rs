//! The expected frame: one that continues the packet that was merged last.
//!
//! In a stream nearly every frame is the one that was expected, so it is compared whole with what the expected one would
//! look like ([`Next`]). [`Gro::receive`] asks that before it reads a header. And in the ring frames are merged before
//! they ever were packets ([`Gro::streak`]): no [`Skb`] is made of them, and short ones leave their slots behind. Whatever
//! is not exactly as expected is left to the full comparison, which decides the same and more.

use rxpath_arch::csum;
use rxpath_mem::{RxDesc, RxRing, Skb, Tail, Use};
use rxpath_trace::{Consumed, EventKind, PacketId};
use rxpath_wire::SeqNum;

use super::held::{Held, STAMPED};
use super::inet;
use super::segment::{FIXED, at, be16, is_all_ones, is_known_good};
use super::table::Spot;
use super::{COPY_MAX, Gro, MAX_PACKET};
use crate::cx::Cx;

impl Gro {
    /// Merges the next frames of the ring, at most `limit`, into the packet that was merged last, as long as each is the
    /// expected one: same flow and same headers, in order, of the same length. They are consumed: up to 256 bytes of
    /// payload are copied and the slot armed again in place, longer ones keep their slot, which is chained. What follows
    /// is for the caller to take as a packet to [`Gro::receive`]. Gives their number and their bytes.
    ///
    /// Lives are not recorded here: with records on, frames go the other way. A function of its own, so that the loop
    /// has the registers to itself.
    #[inline(never)]
    pub fn streak(&mut self, cx: &Cx, ring: &mut RxRing, limit: usize, ifindex: u16) -> (usize, usize) {
        let Some(held) = self.last.and_then(|spot| self.table.held_mut(spot)) else { return (0, 0) };
        let Some(mut streak) = Streak::of(held, ifindex) else { return (0, 0) };
        let limit = limit.min(streak.limit(held));
        let mut tail = held.skb.tail();
        let used = ring.use_in_place(limit, &mut tail, |tail, frame| streak.merge(tail, frame.bytes, &frame.desc));
        drop(tail);
        held.went_on(cx, used.0 as u32);
        used
    }

    /// As [`Gro::streak`] for a single frame that lies in no ring. False, and nothing done, if it is not the expected one
    /// or does not fit the last slot.
    pub fn streak_one(&mut self, cx: &mut Cx, frame: &[u8], desc: &RxDesc, id: PacketId, ifindex: u16) -> bool {
        let Some(held) = self.last.and_then(|spot| self.table.held_mut(spot)) else { return false };
        let Some(mut streak) = Streak::of(held, ifindex) else { return false };
        if streak.limit(held) == 0 || streak.merge(&mut held.skb.tail(), frame, desc) != Use::Copied {
            return false;
        }
        held.went_on(cx, 1);
        if held.traced {
            cx.record(id, EventKind::GroMerged, held.mss, u32::from(held.segs), held.skb.id);
        }
        true
    }

    /// Merges `skb` into the packet held at `spot`, if it is the frame that comes next there; or gives it back.
    #[inline]
    pub(super) fn merge_expected(&mut self, cx: &mut Cx, spot: Option<Spot>, skb: Skb) -> Result<(), Skb> {
        let Some(held) = spot.and_then(|spot| self.table.held_mut(spot)) else { return Err(skb) };
        let Some(frame) = inet::frame(&skb).filter(|_| skb.data_len() == 0) else { return Err(skb) };
        let is_foreign = skb.ifindex != held.ifindex || held.packet_len + held.mss > MAX_PACKET;
        let Some(payload) = held.next.payload_of(frame, skb.hash, skb.gso_size).filter(|_| !is_foreign) else {
            return Err(skb);
        };
        if !is_known_good(skb.ip_summed) && !held.next.sums_up(frame, csum::sum(payload)) {
            return Err(skb);
        }
        held.merge(cx, skb, held.mss)
    }
}

/// A streak under way: what comes next by value, so that it stays in registers.
struct Streak {
    next: Next,
    payload: usize,
}

impl Streak {
    /// None if nothing is expected from this interface.
    #[inline(always)]
    fn of(held: &Held, ifindex: u16) -> Option<Streak> {
        let is_expecting = held.next.frame_len != 0 && held.ifindex == ifindex;
        is_expecting.then_some(Streak { next: held.next, payload: held.mss as usize })
    }

    /// Segments that the packet may still take.
    #[inline(always)]
    fn limit(&self, held: &Held) -> usize {
        (MAX_PACKET - held.packet_len) as usize / self.payload.max(1)
    }

    /// Merges a frame if it is the expected one: copies its payload, or says that it is to be chained.
    #[inline(always)]
    fn merge(&mut self, tail: &mut Tail<'_>, frame: &[u8], desc: &RxDesc) -> Use {
        let Some(payload) = self.next.payload_of(frame, desc.hash, desc.gso_size) else { return Use::None };
        let is_good = is_known_good(desc.csum);
        let merged = if self.payload <= COPY_MAX
            && let Some(room) = tail.room(payload.len())
        {
            if is_good {
                room.copy_from_slice(payload);
            } else if !self.next.sums_up(frame, csum::copy_and_sum(room, payload)) {
                return Use::None;
            }
            tail.take(payload.len());
            Use::Copied
        } else if is_good || self.next.sums_up(frame, csum::sum(payload)) {
            Use::Chained { skip: usize::from(self.next.header_len) }
        } else {
            return Use::None;
        };
        self.next.advance(self.payload as u32);
        merged
    }
}

impl Held {
    /// So many segments of the expected length were merged in a streak.
    #[inline(always)]
    fn went_on(&mut self, cx: &Cx, segments: u32) {
        self.next.seq += segments * self.mss;
        self.next.id = self.next.id.wrapping_add(self.next.id_step.wrapping_mul(segments as u16));
        self.packet_len += segments * self.mss;
        self.segs += segments as u16;
        self.skb.truesize += segments * self.truesize_each;
        if segments > 0 {
            cx.ledger.consumed(Consumed::GroMerged, u64::from(segments));
        }
    }
}

/// The frame that comes next, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Next {
    /// Its length. 0: none is expected.
    pub frame_len: u32,
    /// Bytes of its headers, 54 or 66.
    pub header_len: u8,
    /// Its headers.
    words: Words,
    /// Its sequence number.
    pub seq: SeqNum,
    /// Its identification.
    pub id: u16,
    /// 0 if all segments carry the same identification, 1 if they count.
    pub id_step: u16,
    /// [`super::segment::fixed_sum`] of its headers.
    pub fixed_sum: u16,
    /// Sum of its IPv4 header's words but identification and checksum; folded.
    pub ip_sum: u16,
    /// The device's hash, which may be 0.
    pub hash: u32,
}

impl Next {
    /// The next segment begins at `seq`, and its identification is one more than `id`.
    pub fn counting(seq: SeqNum, id: u16, hash: u32) -> Next {
        Next { seq, id: id.wrapping_add(1), id_step: 1, hash, ..Next::default() }
    }

    /// Headers are as these, which start at the Ethernet header, with zeroes behind their end.
    pub fn set_headers(&mut self, headers: &[u8; STAMPED]) {
        self.words = Words::of(headers);
    }

    /// The payload of `frame` if its headers are exactly those that come next. The TCP checksum is not looked at.
    #[inline(always)]
    fn payload_of<'a>(&self, frame: &'a [u8], hash: u32, gso_size: u16) -> Option<&'a [u8]> {
        if frame.len() != self.frame_len as usize {
            return None;
        }
        let fixed = frame.first_chunk::<FIXED>()?;
        let (stamps, payload) = if usize::from(self.header_len) == FIXED {
            (0, &frame[FIXED..])
        } else {
            let (headers, payload) = frame.split_first_chunk::<STAMPED>()?;
            (self.differing_stamps(headers), payload)
        };
        let ip_sum = u32::from(self.ip_sum) + u32::from(self.id) + u32::from(be16(fixed, at::IP_CHECKSUM));
        let unexpected = stamps
            | self.differing(fixed)
            | u64::from(hash ^ self.hash)
            | u64::from(gso_size)
            | u64::from(!is_all_ones(ip_sum));
        (unexpected == 0).then_some(payload)
    }

    /// Whether the TCP checksum of the expected frame, whose payload adds up to `payload`, is right.
    #[inline(always)]
    fn sums_up(&self, frame: &[u8], payload: u16) -> bool {
        let seq = (self.seq.0 >> 16) + (self.seq.0 & 0xffff);
        let fixed = u32::from(self.fixed_sum) + seq;
        is_all_ones(fixed + u32::from(be16(frame, at::CHECKSUM)) + u32::from(payload))
    }

    /// The bits in which the fixed headers differ from those that are expected, but for both checksums.
    #[inline(always)]
    fn differing(&self, fixed: &[u8; FIXED]) -> u64 {
        let [id_high, id_low] = self.id.to_be_bytes();
        let [a, b, c, d] = self.seq.0.to_be_bytes();
        let id = u64::from_ne_bytes([0, 0, id_high, id_low, 0, 0, 0, 0]);
        let seq = u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]);
        let words = &self.words.0;
        (words[0] ^ word(fixed, 0))
            | (words[1] ^ word(fixed, 8))
            | (words[2] ^ id ^ word(fixed, 16))
            | ((words[3] ^ word(fixed, 24)) & without(0, 2))
            | (words[4] ^ word(fixed, 30))
            | (words[5] ^ seq ^ word(fixed, 38))
            | ((words[6] ^ word(fixed, 46)) & without(4, 6))
    }

    /// The bits in which the options differ.
    #[inline(always)]
    fn differing_stamps(&self, headers: &[u8; STAMPED]) -> u64 {
        (self.words.0[7] ^ word(headers, FIXED)) | (self.words.0[8] ^ word(headers, STAMPED - 8))
    }

    /// Moves on by one segment of `len` payload bytes.
    #[inline(always)]
    pub fn advance(&mut self, len: u32) {
        self.seq += len;
        self.id = self.id.wrapping_add(self.id_step);
    }
}

/// The headers of a frame as words, at 0, 8, 16, 24, 30, 38, 46, 54 and 58 (some overlap, so that each field that
/// changes from segment to segment lies in one word). Identification and sequence number are zero: they go in when
/// they are known.
#[derive(Clone, Copy, Debug, Default)]
struct Words([u64; 9]);

impl Words {
    fn of(headers: &[u8; STAMPED]) -> Words {
        let mut blank = *headers;
        blank[at::ID..at::ID + 2].fill(0);
        blank[at::SEQ..at::SEQ + 4].fill(0);
        Words([0, 8, 16, 24, 30, 38, 46, FIXED, STAMPED - 8].map(|at| word(&blank, at)))
    }
}

/// All bits of a word but those of the bytes `from..to`.
const fn without(from: usize, to: usize) -> u64 {
    let mut mask = [0xff; 8];
    let mut at = from;
    while at < to {
        mask[at] = 0;
        at += 1;
    }
    u64::from_ne_bytes(mask)
}

#[inline(always)]
fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}
