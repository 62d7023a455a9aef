//! Events grouped into lives, and lives told: as a story for people, as a line of JSON for machines.
//!
//! A life is one birth, any number of events, and exactly one end. What was recorded may fall short of that: rings
//! overflow, recording begins while packets are on their way, and packets are still on their way when it is read.
//! [`group`] never fails; [`Life::status`] says what is missing, and [`Census`] counts.

mod facts;
mod json;
mod story;
mod words;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use crate::event::{Event, EventKind};
use crate::filter::Flow;
use crate::packet_id::PacketId;
use crate::phase::Phase;

pub use json::SCHEMA;

/// What was recorded of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The packet.
    pub id: PacketId,
    /// Its events, in the order in which they happened. Never empty in what [`group`] returns.
    pub events: Vec<Event>,
}

/// Whether a life was recorded whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// One birth, at the beginning, and one end.
    Finished,
    /// One birth, at the beginning, and no end: somebody holds the packet, or the end was lost.
    Unfinished,
    /// No birth: it was lost, or recording began later.
    Orphan,
    /// More than one birth or end, or something before the birth: a fault in what recorded it.
    Broken,
}

impl Status {
    /// Its name in lower case, such as `finished`.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Finished => "finished",
            Status::Unfinished => "unfinished",
            Status::Orphan => "orphan",
            Status::Broken => "broken",
        }
    }
}

impl Life {
    /// The event that began it.
    pub fn birth(&self) -> Option<&Event> {
        self.events.iter().find(|event| event.kind.birth())
    }

    /// The event that ended it. What follows from the packet, such as a wake-up, may come after.
    pub fn end(&self) -> Option<&Event> {
        self.events.iter().find(|event| event.kind.terminal())
    }

    /// Whether it was recorded whole.
    pub fn status(&self) -> Status {
        let count = |wanted: fn(EventKind) -> bool| self.events.iter().filter(|event| wanted(event.kind)).count();
        let begins = self.events.first().is_some_and(|event| event.kind.birth());
        match (count(EventKind::birth), count(EventKind::terminal)) {
            (_, 2..) | (2.., _) => Status::Broken,
            (0, _) => Status::Orphan,
            (1, _) if !begins => Status::Broken,
            (1, 0) => Status::Unfinished,
            (1, 1) => Status::Finished,
        }
    }

    /// Addresses, ports and flags of the packet as far as its events tell: what a [`Filter`](crate::Filter) looks at. What
    /// they do not tell is 0.
    pub fn flow(&self) -> Flow {
        facts::Facts::of(self).flow()
    }

    /// The life as a story: a headline, then a line for each phase and moment, with the kernel's function names. Times
    /// are relative to the birth. Ends with a line feed.
    pub fn story(&self) -> String {
        self.story_with(&Names::new())
    }

    /// [`Life::story`] with the devices' names.
    pub fn story_with(&self, names: &Names) -> String {
        story::tell(self, names)
    }

    /// The life as one JSON object, in one line, without a line feed; [`SCHEMA`] describes it.
    pub fn json_line(&self) -> String {
        json::line(self)
    }
}

/// The names of devices, for the story; without one, interface 2 is `device 2`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    devices: BTreeMap<u16, String>,
}

impl Names {
    /// No names.
    pub fn new() -> Names {
        Names::default()
    }

    /// Adds the name of the interface with that index.
    #[must_use]
    pub fn device(mut self, ifindex: u16, name: impl Into<String>) -> Names {
        self.devices.insert(ifindex, name.into());
        self
    }

    fn device_name(&self, ifindex: u16) -> String {
        self.devices.get(&ifindex).cloned().unwrap_or_else(|| format!("device {ifindex}"))
    }
}

/// Groups events into lives, in the order of their first events (at the same time, of their identities).
///
/// The events may come shard by shard, each shard's in the order of recording, as
/// [`LifeReader::collect`](crate::LifeReader::collect) gives them. Events of different Cpus at the same moment, and those of
/// a Cpu and of a reader, are put in the order of the path. [`EventKind::Lost`] belongs to no life; see [`lost`].
pub fn group(events: impl IntoIterator<Item = Event>) -> Vec<Life> {
    let mut by_id: HashMap<PacketId, Vec<Event>> = HashMap::new();
    for event in events.into_iter().filter(|event| event.kind != EventKind::Lost) {
        by_id.entry(event.id).or_default().push(event);
    }
    let mut lives: Vec<Life> = by_id.into_iter().map(|(id, events)| Life { id, events: in_order(events) }).collect();
    lives.sort_by_key(|life| (life.events.first().map(|event| event.at), life.id));
    lives
}

/// How many events the rings lost, as far as these events tell.
pub fn lost<'a>(events: impl IntoIterator<Item = &'a Event>) -> u64 {
    events.into_iter().filter(|event| event.kind == EventKind::Lost).map(|event| u64::from(event.a)).sum()
}

/// Who recorded an event: a Cpu, or an application's thread beside it.
fn recorder(event: &Event) -> (u8, bool) {
    (event.cpu, event.phase() == Phase::Recv)
}

/// One packet's events in the order in which they happened.
fn in_order(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| event.at);
    let mut ordered = Vec::with_capacity(events.len());
    for moment in events.chunk_by(|one, next| one.at == next.at) {
        let first = moment.first().map(recorder);
        if moment.iter().all(|event| Some(recorder(event)) == first) {
            ordered.extend_from_slice(moment);
        } else {
            merge_recorders(moment, &mut ordered);
        }
    }
    ordered
}

/// Events of one moment by several recorders: each one's stay in their order, and of the next ones of all the one that
/// is earliest on the path comes first.
fn merge_recorders(moment: &[Event], ordered: &mut Vec<Event>) {
    let mut queues: BTreeMap<(u8, bool), VecDeque<Event>> = BTreeMap::new();
    for event in moment {
        queues.entry(recorder(event)).or_default().push_back(*event);
    }
    let rank = |event: &Event| (!event.kind.birth(), event.kind.terminal(), event.kind);
    while let Some(queue) =
        queues.values_mut().filter(|queue| !queue.is_empty()).min_by_key(|queue| queue.front().map(rank))
    {
        ordered.extend(queue.pop_front());
    }
}

/// How many lives of each status there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Lives recorded whole.
    pub finished: usize,
    /// Lives without an end.
    pub unfinished: usize,
    /// Lives without a birth.
    pub orphans: usize,
    /// Lives with more than one birth or end.
    pub broken: usize,
}

impl Census {
    /// Counts lives.
    pub fn of(lives: &[Life]) -> Census {
        let mut census = Census::default();
        for life in lives {
            match life.status() {
                Status::Finished => census.finished += 1,
                Status::Unfinished => census.unfinished += 1,
                Status::Orphan => census.orphans += 1,
                Status::Broken => census.broken += 1,
            }
        }
        census
    }
}

impl fmt::Display for Census {
    /// `5 lives: 3 finished, 1 unfinished, 1 without a beginning, 0 broken`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Census { finished, unfinished, orphans, broken } = *self;
        let all = finished + unfinished + orphans + broken;
        write!(
            f,
            "{all} lives: {finished} finished, {unfinished} unfinished, {orphans} without a beginning, {broken} broken"
        )
    }
}

#[cfg(test)]
mod tests;
