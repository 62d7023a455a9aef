//! One direction of a faulty cable: a bounded queue of frames under way, in the order of their arrival.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rxpath::device::wire::Frame;
use rxpath_core::cx::Rng;
use rxpath_mem::IpSummed;
use rxpath_trace::Time;
use rxpath_wire::{EtherType, EthernetHeader};

use super::{Count, Counts, Faults};
use crate::driven::Parcel;

/// Frames under way in one direction, at most.
pub const QUEUE_MAX: usize = 1_024;

/// Frames under way.
pub(super) struct Line {
    faults: Faults,
    rng: Rng,
    counts: Arc<Counts>,
    /// By arrival; the number keeps frames that arrive together in order.
    waiting: BTreeMap<(Time, u64), Parcel>,
    number: u64,
    /// Arrival of the last frame that keeps its place.
    last: Time,
    /// Until when the cable is occupied.
    busy: Time,
}

impl Line {
    pub(super) fn new(faults: Faults, rng: Rng, counts: Arc<Counts>) -> Line {
        let waiting = BTreeMap::new();
        Line { faults, rng, counts, waiting, number: 0, last: Time::ZERO, busy: Time::ZERO }
    }

    /// A frame enters the cable. The number of random draws does not depend on what they decide.
    pub(super) fn offer(&mut self, now: Time, mut parcel: Parcel) {
        self.counts.inc(Count::Offered);
        let (loss, duplicate) = (self.faults.loss, self.faults.duplicate);
        let (corrupt, reorder) = (self.faults.corrupt, self.faults.reorder);
        let (lost, twice) = (self.happens(loss), self.happens(duplicate));
        let (corrupted, reordered) = (self.happens(corrupt), self.happens(reorder));
        let [flips, delay, hold, again] = std::array::from_fn(|_| self.rng.next_u64());
        if lost {
            return self.counts.inc(Count::Lost);
        }
        let copy = twice.then(|| parcel.clone());
        if corrupted && has_checksum(&parcel.bytes) {
            self.counts.inc(Count::Corrupted);
            corrupt_bits(&mut parcel, flips);
        }
        let hold = if reordered {
            self.counts.inc(Count::Reordered);
            Some(1 + hold % Faults::REORDER_HOLD.as_nanos() as u64)
        } else {
            None
        };
        self.enqueue(now, parcel, delay, hold);
        if let Some(copy) = copy {
            self.counts.inc(Count::Duplicated);
            self.enqueue(now, copy, again, None);
        }
    }

    fn happens(&mut self, probability: f64) -> bool {
        // 53 bits: what an f64 between 0 and 1 can tell apart.
        let drawn = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        drawn < probability
    }

    fn enqueue(&mut self, now: Time, parcel: Parcel, delay: u64, hold: Option<u64>) {
        if self.waiting.len() >= QUEUE_MAX {
            return self.counts.inc(Count::Overflowed);
        }
        if let Some(rate) = self.faults.rate.filter(|&rate| rate > 0) {
            let bits = parcel.bytes.len() as u64 * 8;
            self.busy = self.busy.max(now) + (u128::from(bits) * 1_000_000_000 / u128::from(rate)) as u64;
        }
        let (least, most) = (nanos(*self.faults.delay.start()), nanos(*self.faults.delay.end()));
        let spread = most.saturating_sub(least).saturating_add(1);
        let mut arrival = self.busy.max(now) + least + delay % spread;
        match hold {
            Some(hold) => arrival += hold,
            None => {
                arrival = arrival.max(self.last);
                self.last = arrival;
            }
        }
        self.number += 1;
        self.waiting.insert((arrival, self.number), parcel);
    }

    /// The next frame that has arrived by `now`.
    pub(super) fn take(&mut self, now: Time) -> Option<Parcel> {
        let entry = self.waiting.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    /// When the next frame arrives.
    pub(super) fn next_arrival(&self) -> Option<Time> {
        self.waiting.first_key_value().map(|(&(at, _), _)| at)
    }

    pub(super) fn count(&self, count: Count, n: u64) {
        self.counts.add(count, n);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether the frame's contents have a checksum: an ARP packet has none, so that a corrupted one would be believed, which
/// the frame check sequence of a real cable prevents.
fn has_checksum(frame: &[u8]) -> bool {
    EthernetHeader::parse(frame).is_none_or(|(header, _)| header.ethertype() != EtherType::ARP)
}

/// Flips one to three bits of one byte, anywhere. What a device vouched for no longer holds.
///
/// Of one byte: two bits far apart can cancel out in a sum of 16-bit words, and TCP would deliver the corrupted data.
fn corrupt_bits(parcel: &mut Parcel, drawn: u64) {
    if parcel.csum == IpSummed::Partial {
        let mut frame = Frame { bytes: std::mem::take(&mut parcel.bytes), partial: true, ..Frame::default() };
        frame.complete();
        parcel.bytes = frame.bytes;
    }
    parcel.csum = IpSummed::None;
    (parcel.gso_size, parcel.gso_segs) = (0, 0);
    let len = parcel.bytes.len() as u64;
    if len == 0 {
        return;
    }
    let mut rng = Rng::new(drawn);
    let at = (rng.next_u64() % len) as usize;
    // One bit for certain, and up to two others that may be the same: never none.
    let mut flips = 1_u8 << rng.below(8);
    for _ in 0..rng.below(3) {
        flips |= 1 << rng.below(8);
    }
    parcel.bytes[at] ^= flips;
}

#[cfg(test)]
mod tests;
