//! The buckets that held packets lie in: 8 of them, with 8 places each, all allocated at the start.

use rxpath_mem::Skb;
use rxpath_trace::Time;

use super::held::Held;
use super::inet::frame;
use crate::expect::{FIXED, at, be32};

/// Number of buckets (`GRO_HASH_BUCKETS`).
const BUCKETS: usize = 8;
/// Packets held in a bucket (`MAX_GRO_SKBS`).
const PLACES: usize = 8;
/// Packets held in all buckets.
pub(super) const ALL_PLACES: usize = BUCKETS * PLACES;

/// Where a held packet lies. Good until the packet is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot(u8);

impl Spot {
    fn new(bucket: usize, place: usize) -> Spot {
        Spot((bucket * PLACES + place) as u8)
    }

    fn bucket(self) -> usize {
        usize::from(self.0) / PLACES % BUCKETS
    }

    fn place(self) -> usize {
        usize::from(self.0) % PLACES
    }

    #[inline(always)]
    fn index(self) -> usize {
        usize::from(self.0) % (BUCKETS * PLACES)
    }
}

/// The order and the hashes of a bucket's packets: what a search reads before it looks at any packet.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    hashes: [u32; PLACES],
    /// Places in the order in which they were filled, the oldest first.
    order: [u8; PLACES],
    /// Places in use.
    len: u8,
}

impl Bucket {
    fn places(&self) -> &[u8] {
        &self.order[..usize::from(self.len).min(PLACES)]
    }

    fn free_place(&self) -> Option<usize> {
        let used = self.places().iter().fold(0u8, |used, place| used | 1 << place);
        (used != 0xff).then(|| used.trailing_ones() as usize)
    }

    fn forget(&mut self, place: usize) {
        if let Some(position) = self.places().iter().position(|&at| usize::from(at) == place) {
            self.order.copy_within(position + 1.., position);
            self.len -= 1;
        }
    }
}

/// The held packets, on lines that no other Cpu writes.
#[derive(Debug)]
#[repr(align(128))]
struct Places([Option<Held>; ALL_PLACES]);

/// All buckets.
#[derive(Debug)]
pub(super) struct Table {
    buckets: [Bucket; BUCKETS],
    places: Box<Places>,
    len: usize,
    /// Buckets that hold packets, as bits.
    in_use: u8,
}

impl Table {
    pub fn new() -> Table {
        let places = Box::new(Places([const { None }; ALL_PLACES]));
        Table { buckets: [Bucket::default(); BUCKETS], places, len: 0, in_use: 0 }
    }

    /// Packets held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The held packet of the flow that `skb` belongs to.
    pub fn find(&self, skb: &Skb) -> Option<Spot> {
        if self.len == 0 {
            return None;
        }
        let fixed = frame(skb)?.first_chunk::<FIXED>()?;
        let hash = flow_hash(skb.hash, fixed);
        let bucket = bucket_of(hash);
        let candidates = self.buckets[bucket].places().iter().map(|&place| usize::from(place) % PLACES);
        let mut of_hash = candidates.filter(|&place| self.buckets[bucket].hashes[place] == hash);
        let found = of_hash.find(|&place| {
            let held = &self.places.0[Spot::new(bucket, place).index()];
            held.as_ref().is_some_and(|held| held.notes.flow.is_of(fixed, skb.ifindex))
        });
        found.map(|place| Spot::new(bucket, place))
    }

    #[inline(always)]
    pub fn held_mut(&mut self, spot: Spot) -> Option<&mut Held> {
        self.places.0[spot.index()].as_mut()
    }

    /// The packet that must go before one of the same bucket as `held` has a place: the oldest of a full bucket.
    pub fn in_the_way(&self, held: &Held) -> Option<Spot> {
        let bucket = bucket_of(hash_of(held));
        let is_full = usize::from(self.buckets[bucket].len) >= PLACES;
        if is_full { self.oldest(bucket, None) } else { None }
    }

    /// Puts a packet into its bucket, in which there is a place.
    pub fn insert(&mut self, held: Held) -> Spot {
        let hash = hash_of(&held);
        let index = bucket_of(hash);
        let bucket = &mut self.buckets[index];
        debug_assert!(usize::from(bucket.len) < PLACES, "what is in the way was let go");
        let place = bucket.free_place().unwrap_or_default();
        bucket.hashes[place] = hash;
        bucket.order[usize::from(bucket.len) % PLACES] = place as u8;
        bucket.len += 1;
        self.len += 1;
        self.in_use |= 1 << index;
        let spot = Spot::new(index, place);
        self.places.0[spot.index()] = Some(held);
        spot
    }

    /// Packets in the bucket of `spot`.
    pub fn beside(&self, spot: Spot) -> u32 {
        u32::from(self.buckets[spot.bucket()].len)
    }

    /// Takes a packet out.
    pub fn remove(&mut self, spot: Spot) -> Option<Held> {
        let held = self.places.0[spot.index()].take()?;
        let bucket = &mut self.buckets[spot.bucket()];
        bucket.forget(spot.place());
        if bucket.len == 0 {
            self.in_use &= !(1 << spot.bucket());
        }
        self.len -= 1;
        Some(held)
    }

    /// The buckets that hold packets, as bits.
    pub fn in_use(&self) -> u8 {
        self.in_use
    }

    /// The oldest packet of a bucket; given a time, only if it came before.
    pub fn oldest(&self, bucket: usize, older_than: Option<Time>) -> Option<Spot> {
        let place = *self.buckets[bucket % BUCKETS].places().first()?;
        let spot = Spot::new(bucket % BUCKETS, usize::from(place));
        let held = self.places.0[spot.index()].as_ref()?;
        older_than.is_none_or(|then| held.is_older_than(then)).then_some(spot)
    }
}

fn hash_of(held: &Held) -> u32 {
    held.notes.flow.header.first_chunk::<FIXED>().map_or(0, |fixed| flow_hash(held.notes.flow.next.hash, fixed))
}

fn bucket_of(hash: u32) -> usize {
    hash as usize % BUCKETS
}

/// The device's hash, or one of addresses and ports if the device gave none. Not keyed: whoever makes flows collide
/// gains that 9 of them push each other out of a bucket, as 9 flows on one bucket do anyway.
fn flow_hash(device: u32, fixed: &[u8; FIXED]) -> u32 {
    if device != 0 {
        return device;
    }
    let addresses = u64::from(be32(fixed, at::TUPLE)) << 32 | u64::from(be32(fixed, at::TUPLE + 4));
    let ports = u64::from(be32(fixed, at::TUPLE + 8));
    let mixed = (addresses ^ ports.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed >> 32) as u32
}
