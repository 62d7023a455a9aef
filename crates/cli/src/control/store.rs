//! The lives that ended lately.
//!
//! The stack's event rings are short: somebody must empty them all the time. [`LifeStore`] takes their events in, keeps
//! those of packets on their way until they end, and keeps a bounded number of ended lives for those who ask later.
//! Memory is bounded: of packets on their way the oldest is let go first, and a packet's events are bounded, too.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use rxpath_trace::{Event, EventKind, Life, PacketId, lives};

/// Ended lives that are kept.
const KEPT: usize = 4_096;
/// Packets on their way whose events are kept.
const ON_THEIR_WAY: usize = 65_536;
/// Events of one packet that are kept: many more than any has.
const EVENTS: usize = 1_024;

/// Lives, from the event rings to those who ask.
#[derive(Debug, Default)]
pub struct LifeStore {
    on_their_way: HashMap<PacketId, Vec<Event>>,
    /// The packets on their way in the order of their first events; those that ended since are passed over.
    begun: VecDeque<PacketId>,
    /// Ended in the last round. A life is complete one round later: what follows from its end (a wake-up), and what
    /// another Cpu did before, may be in a ring that was emptied just before.
    ending: Vec<PacketId>,
    ended: VecDeque<Arc<Life>>,
    /// Packets of `ended`: events that come later than that are passed over.
    known: HashSet<PacketId>,
}

impl LifeStore {
    /// An empty store.
    pub fn new() -> LifeStore {
        LifeStore::default()
    }

    /// Takes in one round of events and gives the lives that are complete with it, in the order of their beginnings.
    pub fn absorb(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<Arc<Life>> {
        let settled = std::mem::take(&mut self.ending);
        for event in events {
            self.take(event);
        }
        let events = settled.iter().filter_map(|id| self.on_their_way.remove(id)).flatten();
        let complete: Vec<Arc<Life>> = lives::group(events).into_iter().map(Arc::new).collect();
        for life in &complete {
            self.keep(Arc::clone(life));
        }
        complete
    }

    /// The ended lives that are kept, the newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Arc<Life>> {
        self.ended.iter().rev()
    }

    fn take(&mut self, event: Event) {
        if event.kind == EventKind::Lost || self.known.contains(&event.id) {
            return;
        }
        let events = self.on_their_way.entry(event.id).or_default();
        if events.is_empty() {
            self.begun.push_back(event.id);
        }
        if events.len() < EVENTS {
            events.push(event);
        }
        if event.kind.terminal() {
            self.ending.push(event.id);
        }
        self.let_go();
    }

    /// Lets the oldest go while there are too many on their way.
    fn let_go(&mut self) {
        while self.on_their_way.len() > ON_THEIR_WAY {
            let Some(id) = self.begun.pop_front() else { return };
            self.on_their_way.remove(&id);
        }
        if self.begun.len() > 2 * ON_THEIR_WAY {
            self.begun.retain(|id| self.on_their_way.contains_key(id));
        }
    }

    fn keep(&mut self, life: Arc<Life>) {
        self.known.insert(life.id);
        self.ended.push_back(life);
        if self.ended.len() > KEPT
            && let Some(oldest) = self.ended.pop_front()
        {
            self.known.remove(&oldest.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use rxpath_trace::Time;
    use rxpath_trace::lives::Status;

    use super::*;

    fn event(n: u64, kind: EventKind) -> Event {
        let (id, at, other) = (PacketId::of_ring(0, n), Time(n), PacketId::NONE);
        Event { id, at, other, a: 0, b: 0, kind, cpu: 0 }
    }

    #[test]
    fn a_life_is_complete_one_round_after_its_end() {
        let mut store = LifeStore::new();
        assert!(store.absorb([event(1, EventKind::Offered)]).is_empty());
        assert!(store.absorb([event(1, EventKind::Recv)]).is_empty());
        // What another Cpu had recorded before the end.
        let complete = store.absorb([event(1, EventKind::Queued)]);
        assert_eq!(complete.len(), 1);
        assert_eq!((complete[0].events.len(), complete[0].status()), (3, Status::Finished));
        // What comes later still makes no second life.
        assert!(store.absorb([event(1, EventKind::Woken)]).is_empty());
        assert!(store.absorb([]).is_empty());
        assert_eq!(store.newest().count(), 1);
        assert!(store.on_their_way.is_empty() && store.ending.is_empty());
    }

    #[test]
    fn the_newest_come_first_and_are_bounded() {
        let mut store = LifeStore::new();
        let more = KEPT as u64 + 10;
        for n in 1..=more {
            store.absorb([event(n, EventKind::Offered), event(n, EventKind::Recv)]);
        }
        store.absorb([]);
        assert_eq!(store.newest().count(), KEPT);
        assert_eq!(store.known.len(), KEPT);
        assert_eq!(store.newest().next().map(|life| life.id), Some(PacketId::of_ring(0, more)));
    }

    #[test]
    fn packets_that_never_end_are_bounded() {
        let mut store = LifeStore::new();
        let more = ON_THEIR_WAY as u64 + 10;
        store.absorb((1..=more).map(|n| event(n, EventKind::Offered)));
        assert_eq!(store.on_their_way.len(), ON_THEIR_WAY);
        assert!(!store.on_their_way.contains_key(&PacketId::of_ring(0, 10)));
        store.absorb((0..2 * EVENTS).map(|_| event(more, EventKind::Queued)));
        assert_eq!(store.on_their_way[&PacketId::of_ring(0, more)].len(), EVENTS);
    }
}
