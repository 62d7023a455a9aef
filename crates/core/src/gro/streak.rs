//! The expected frame: one that continues the packet that was merged last.
//!
//! In a stream nearly every frame is the one that was expected, so it is compared whole with what the expected one would
//! look like ([`expected`]). [`Gro::receive`] asks that before it reads a header. And a short one goes behind the others
//! before it ever was a packet ([`Gro::streak`]): no [`Skb`] is made and its slot is armed again where it lies. Whatever
//! is not exactly as expected is left to the full comparison, which decides the same and more.

use rxpath_arch::csum;
use rxpath_mem::{RxDesc, Skb};
use rxpath_trace::{Consumed, EventKind, PacketId};

use super::held::{Held, STAMPED};
use super::inet;
use super::segment::{FIXED, at, be16, is_all_ones, is_known_good};
use super::table::Spot;
use super::{COPY_MAX, Gro, MAX_PACKET};
use crate::cx::Cx;

impl Gro {
    /// Merges the frame of the ring's next descriptor into the packet that was merged last, if it is the expected one:
    /// same flow and same headers, in order, of the same length, with at most 256 bytes of payload. The packet is then
    /// consumed, and the caller re-arms its slot in place; otherwise nothing has happened and the caller takes the
    /// frame as a packet to [`Gro::receive`].
    ///
    /// `frame` is the whole Ethernet frame, which must be in one piece and free of receive errors.
    #[inline]
    pub fn streak(&mut self, cx: &mut Cx, frame: &[u8], desc: &RxDesc, id: PacketId, ifindex: u16) -> bool {
        let Some(held) = self.last.and_then(|spot| self.table.held_mut(spot)) else { return false };
        let Some(payload) = expected(held, frame, desc.hash, desc.gso_size, ifindex) else { return false };
        if payload.len() > COPY_MAX {
            return false;
        }
        let Some(room) = held.skb.extend_tail(payload.len()) else { return false };
        if is_known_good(desc.csum) {
            room.copy_from_slice(payload);
        } else {
            let sum = csum::copy_and_sum(room, payload);
            if !held.expected_sums_up(frame, sum) {
                take_back(&mut held.skb, payload.len());
                return false;
            }
        }
        held.skb.truesize += held.truesize_each;
        held.advance(held.mss);
        cx.ledger.consumed(Consumed::GroMerged, 1);
        if held.traced {
            let (len, segs, head) = (held.mss, u32::from(held.segs), held.skb.id);
            cx.record(id, EventKind::GroMerged, len, segs, head);
        }
        true
    }

    /// Merges `skb` into the packet held at `spot`, if it is the frame that comes next there; or gives it back.
    #[inline]
    pub(super) fn merge_expected(&mut self, cx: &mut Cx, spot: Option<Spot>, skb: Skb) -> Result<(), Skb> {
        let Some(held) = spot.and_then(|spot| self.table.held_mut(spot)) else { return Err(skb) };
        let Some(frame) = inet::frame(&skb).filter(|_| skb.data_len() == 0) else { return Err(skb) };
        let Some(payload) = expected(held, frame, skb.hash, skb.gso_size, skb.ifindex) else { return Err(skb) };
        if !is_known_good(skb.ip_summed) && !held.expected_sums_up(frame, csum::sum(payload)) {
            return Err(skb);
        }
        held.merge(cx, skb, held.mss)
    }
}

/// The payload of `frame` if its headers are exactly those that come next, and the packet does not grow too long by
/// it. The TCP checksum is not looked at.
#[inline(always)]
fn expected<'a>(held: &Held, frame: &'a [u8], hash: u32, gso_size: u16, ifindex: u16) -> Option<&'a [u8]> {
    if frame.len() != held.expected_len as usize {
        return None;
    }
    let fixed = frame.first_chunk::<FIXED>()?;
    let (stamps, payload) = if usize::from(held.header_len) == FIXED {
        (0, &frame[FIXED..])
    } else {
        let (headers, payload) = frame.split_first_chunk::<STAMPED>()?;
        (differing_stamps(held, headers), payload)
    };
    let ip_sum = u32::from(held.ip_sum) + u32::from(held.next_id) + u32::from(be16(fixed, at::IP_CHECKSUM));
    let unexpected = stamps
        | differing(held, fixed)
        | u64::from(ifindex ^ held.ifindex)
        | u64::from(hash ^ held.device_hash)
        | u64::from(gso_size)
        | u64::from(!is_all_ones(ip_sum));
    (unexpected == 0 && held.packet_len + held.mss <= MAX_PACKET).then_some(payload)
}

/// Takes a payload back that turned out to be wrong while it was copied.
#[cold]
fn take_back(skb: &mut Skb, len: usize) {
    skb.trim(skb.len() - len);
}

impl Held {
    /// Whether the TCP checksum of an expected frame, whose payload adds up to `payload`, is right.
    #[inline(always)]
    fn expected_sums_up(&self, frame: &[u8], payload: u16) -> bool {
        let seq = (self.next_seq.0 >> 16) + (self.next_seq.0 & 0xffff);
        let fixed = u32::from(self.fixed_sum) + seq;
        is_all_ones(fixed + u32::from(be16(frame, at::CHECKSUM)) + u32::from(payload))
    }
}

/// The bits in which the fixed headers differ from those that are expected, but for both checksums.
#[inline(always)]
fn differing(held: &Held, fixed: &[u8; FIXED]) -> u64 {
    let [id_high, id_low] = held.next_id.to_be_bytes();
    let [a, b, c, d] = held.next_seq.0.to_be_bytes();
    let id = u64::from_ne_bytes([0, 0, id_high, id_low, 0, 0, 0, 0]);
    let seq = u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]);
    let words = &held.words.0;
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
fn differing_stamps(held: &Held, headers: &[u8; STAMPED]) -> u64 {
    (held.words.0[7] ^ word(headers, FIXED)) | (held.words.0[8] ^ word(headers, STAMPED - 8))
}

/// The headers of a held packet as words, at 0, 8, 16, 24, 30, 38, 46, 54 and 58 (some overlap, so that each field that
/// changes from segment to segment lies in one word). Identification and sequence number are zero: they go in when
/// they are known.
#[derive(Debug, Default)]
pub(super) struct Words([u64; 9]);

impl Words {
    /// The words of headers that start at the Ethernet header, with zeroes behind their end.
    pub fn of(headers: &[u8; STAMPED]) -> Words {
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
