//! Where events are written, and collected.
//!
//! Each Cpu owns a [`LifeShard`]: a ring of events, allocated when it is created, and the [`Selector`]. One
//! [`LifeReader`] collects from all of them. A full ring loses events, never time; how many were lost is recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::event::{Event, EventKind};
use crate::filter::Flow;
use crate::packet_id::PacketId;
use crate::selector::Selector;
use crate::time::Time;

/// A Cpu's end of its life ring.
#[derive(Debug)]
pub struct LifeShard {
    on: bool,
    cpu: u8,
    /// Lost since the last [`EventKind::Lost`] that found room.
    unsaid: u32,
    lost: Arc<AtomicU64>,
    selector: Selector,
    ring: Producer<Event>,
}

impl LifeShard {
    /// A shard that records nothing and that nobody reads.
    pub fn off() -> LifeShard {
        let (ring, _) = RingBuffer::new(0);
        LifeShard { on: false, cpu: 0, unsaid: 0, lost: Arc::default(), selector: Selector::Off, ring }
    }

    /// True if any life is recorded at all. A plain bool: the path asks it before it makes an event.
    #[inline(always)]
    pub fn on(&self) -> bool {
        self.on
    }

    /// Which lives are recorded.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// Changes which lives are recorded. Packets on their way keep what was decided at their birth.
    pub fn set_selector(&mut self, selector: Selector) {
        self.on = !selector.is_off() && self.ring.buffer().capacity() > 0;
        self.selector = selector;
    }

    /// True if the life of packet `id` is to be recorded; see [`Selector::selects`].
    #[inline]
    pub fn selects(&self, id: PacketId, flow: impl FnOnce() -> Flow) -> bool {
        self.on && self.selector.selects(id, flow)
    }

    /// Records an event; nothing happens if the shard is off. If the ring is full, the event is lost and counted, and an
    /// [`EventKind::Lost`] goes in as soon as there is room for it and the next event.
    #[inline]
    pub fn record(&mut self, event: Event) {
        if self.on {
            self.push(event);
        }
    }

    fn push(&mut self, event: Event) {
        if self.unsaid > 0 && !self.say_lost(event.at) {
            return self.lose();
        }
        if self.ring.push(event).is_err() {
            self.lose();
        }
    }

    /// Puts the [`EventKind::Lost`] in; false if there is no room for it and another event.
    fn say_lost(&mut self, at: Time) -> bool {
        if self.ring.slots() < 2 {
            return false;
        }
        let (a, b, kind) = (self.unsaid, 0, EventKind::Lost);
        let said = Event { id: PacketId::NONE, at, other: PacketId::NONE, a, b, kind, cpu: self.cpu };
        if self.ring.push(said).is_err() {
            return false;
        }
        self.unsaid = 0;
        true
    }

    #[cold]
    fn lose(&mut self) {
        self.unsaid = self.unsaid.saturating_add(1);
        // The shard is the only writer, so a load and a store are enough.
        self.lost.store(self.lost.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

/// The reading end of all life rings.
#[derive(Debug, Default)]
pub struct LifeReader {
    rings: Vec<Consumer<Event>>,
    lost: Vec<Arc<AtomicU64>>,
}

impl LifeReader {
    /// A reader without shards.
    pub fn new() -> LifeReader {
        LifeReader::default()
    }

    /// Makes a shard for Cpu `cpu` with room for `capacity` events of 40 bytes, and reads it from now on. All its memory
    /// is allocated here. A `capacity` below 2 is taken as 2, as an [`EventKind::Lost`] needs room beside another event.
    pub fn shard(&mut self, cpu: u8, capacity: usize, selector: Selector) -> LifeShard {
        let (ring, reading) = RingBuffer::new(capacity.max(2));
        let lost = Arc::<AtomicU64>::default();
        self.rings.push(reading);
        self.lost.push(Arc::clone(&lost));
        LifeShard { on: !selector.is_off(), cpu, unsaid: 0, lost, selector, ring }
    }

    /// Takes all events that are there, shard by shard, in each shard in the order in which they were recorded: what
    /// [`lives::group`](crate::lives::group) wants.
    pub fn collect(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.collect_into(&mut events, usize::MAX);
        events
    }

    /// Takes up to `limit` events of each shard and appends them. Returns how many it took in all.
    pub fn collect_into(&mut self, events: &mut Vec<Event>, limit: usize) -> usize {
        let before = events.len();
        for ring in &mut self.rings {
            let n = ring.slots().min(limit);
            if let Ok(chunk) = ring.read_chunk(n) {
                events.extend(chunk);
            }
        }
        events.len() - before
    }

    /// How many events were lost in all shards since the beginning.
    pub fn lost(&self) -> u64 {
        self.lost.iter().map(|lost| lost.load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: u64) -> Event {
        Event {
            id: PacketId::of_ring(0, n),
            at: Time(n),
            other: PacketId::NONE,
            a: 60,
            b: 0,
            kind: EventKind::Offered,
            cpu: 1,
        }
    }

    #[test]
    fn a_shard_that_is_off_records_nothing() {
        let mut off = LifeShard::off();
        off.record(event(1));
        off.set_selector(Selector::All);
        assert!(!off.on(), "there is no ring to record into");

        let mut reader = LifeReader::new();
        let mut shard = reader.shard(0, 8, Selector::Off);
        shard.record(event(1));
        assert!(!shard.on() && !shard.selects(PacketId::of_ring(0, 1), Flow::default));
        shard.set_selector(Selector::OneIn(2));
        assert!(shard.on() && shard.selects(PacketId::of_ring(0, 2), Flow::default));
        shard.record(event(2));
        assert_eq!(reader.collect(), [event(2)]);
        assert_eq!(reader.lost(), 0);
    }

    #[test]
    fn a_full_ring_loses_events_and_says_so_when_there_is_room() {
        let mut reader = LifeReader::new();
        let mut shard = reader.shard(1, 4, Selector::All);
        for n in 1..=7 {
            shard.record(event(n));
        }
        assert_eq!(reader.lost(), 3);
        assert_eq!(reader.collect(), [event(1), event(2), event(3), event(4)]);

        shard.record(event(8));
        let said = Event { id: PacketId::NONE, kind: EventKind::Lost, a: 3, ..event(8) };
        assert_eq!(reader.collect(), [said, event(8)]);
        assert_eq!(reader.lost(), 3);
    }

    #[test]
    fn one_free_slot_is_not_enough_after_a_loss() {
        let mut reader = LifeReader::new();
        let mut shard = reader.shard(0, 2, Selector::All);
        (1..=3).for_each(|n| shard.record(event(n)));
        let mut taken = Vec::new();
        assert_eq!(reader.collect_into(&mut taken, 1), 1);
        shard.record(event(4));
        assert_eq!(reader.lost(), 2, "the event would have followed a gap that nothing tells of");
        assert_eq!(reader.collect(), [event(2)]);
        shard.record(event(5));
        let kinds: Vec<EventKind> = reader.collect().iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [EventKind::Lost, EventKind::Offered]);
    }

    #[test]
    fn events_come_out_in_order_while_another_thread_records() {
        let mut reader = LifeReader::new();
        let mut shard = reader.shard(0, 64, Selector::All);
        let writer = std::thread::spawn(move || (1..=10_000).for_each(|n| shard.record(event(n))));
        let mut events = Vec::new();
        while !writer.is_finished() {
            reader.collect_into(&mut events, 16);
        }
        writer.join().expect("the writer does not panic");
        reader.collect_into(&mut events, usize::MAX);

        let mut next = 1;
        for event in &events {
            match event.kind {
                EventKind::Lost => next += u64::from(event.a),
                _ => {
                    assert_eq!(event.at, Time(next));
                    next += 1;
                }
            }
        }
        let said: u64 = events.iter().filter(|e| e.kind == EventKind::Lost).map(|e| u64::from(e.a)).sum();
        let recorded = events.iter().filter(|e| e.kind != EventKind::Lost).count() as u64;
        assert_eq!(recorded + reader.lost(), 10_000);
        assert!(said <= reader.lost());
    }
}
