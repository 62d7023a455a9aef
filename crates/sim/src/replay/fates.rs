//! What became of each packet of a capture.
//!
//! Packets are told in the order of the capture, each when its fate is known. Until then it waits in a window of bounded
//! length and size; what is still held when the window is full is told as held, and counted anew when it ends.

use std::collections::{HashMap, VecDeque};

use rxpath::capture::Notes;
use rxpath_trace::{Consumed, DropReason, Event, EventKind, Flow, Holder, Life, PacketId, Time};

/// Packets that wait for their fate at most.
const WINDOW: usize = 16_384;
/// Captured bytes that wait at most.
const WINDOW_BYTES: usize = 64 << 20;

/// What became of a packet of the capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// An application read it to its end.
    Delivered,
    /// It had done its work.
    Consumed(Consumed),
    /// It was dropped.
    Dropped(DropReason),
    /// It belongs to a TCP connection whose beginning is not in the capture.
    NotFollowed,
    /// Somebody still held it when the capture ended.
    Held(Holder),
    /// The host itself sent it.
    Outbound,
    /// It was not given to the stack.
    Unfed(Unfed),
}

/// Why a packet was not given to the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfed {
    /// Its headers were not captured whole.
    TooShort,
    /// Its link type is none that can be read.
    LinkType(u16),
    /// What follows its link header is no network protocol.
    LinkPayload,
    /// Its interface is not described in the capture.
    NoInterface,
    /// This stack does not have the network protocol, which the kernel has: an EtherType.
    Network(u16),
    /// This stack does not have the transport protocol, which the kernel has: an IP protocol.
    Transport(u8),
}

/// A packet that is told.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its number in the capture, from 1.
    pub number: u64,
    /// Where its record begins, in bytes of the capture.
    pub offset: u64,
    /// When it was captured, in nanoseconds since 1970.
    pub time: Option<i64>,
    /// Index of its interface in the capture.
    pub interface: Option<usize>,
    /// Bytes on the wire.
    pub wire_len: u32,
    /// Bytes that were captured.
    pub captured_len: u32,
    /// What was captured, if that was asked for.
    pub data: Vec<u8>,
    /// pcapng's `epb_flags`.
    pub flags: u32,
    /// Packets that the capture lost right before it.
    pub lost: u64,
    /// Addresses, ports and the like.
    pub flow: Flow,
    /// What was made up for.
    pub notes: Notes,
    /// Its identity in the stack, with the receive queue that it came by.
    pub id: Option<(PacketId, u16)>,
    /// What became of it.
    pub fate: Fate,
    /// The number of the packet that it was merged into or joined to, if that is one of the capture.
    pub other: Option<u64>,
    /// Its life, if that was asked for and it was given to the stack.
    pub life: Option<Life>,
}

/// A packet that waits, its fate perhaps not known.
struct Waiting {
    told: Told,
    known: bool,
    events: Option<Vec<Event>>,
}

/// Packets that wait for their fate.
#[derive(Default)]
pub(super) struct Books {
    window: VecDeque<Waiting>,
    bytes: usize,
    /// The capture's number of each packet that the stack has.
    numbers: HashMap<PacketId, u64>,
    /// How many there are of each fate.
    counts: Vec<(Fate, u64)>,
    /// Whether any life is wanted.
    lives: bool,
}

impl Books {
    /// Enters a packet of the capture that is not given to the stack.
    pub(super) fn enter(&mut self, told: Told) {
        self.bytes += told.data.len();
        self.window.push_back(Waiting { told, known: true, events: None });
    }

    /// Enters a packet that the stack has, as `id`. With `life` its events are kept.
    pub(super) fn enter_fed(&mut self, told: Told, id: PacketId, life: bool) {
        self.bytes += told.data.len();
        self.numbers.insert(id, told.number);
        self.lives |= life;
        self.window.push_back(Waiting { told, known: false, events: life.then(Vec::new) });
    }

    /// What happened in the stack.
    pub(super) fn learn(&mut self, events: &[Event]) {
        for event in events {
            let holder = holder(event.kind);
            if event.id.is_made() || !(self.lives || event.kind.terminal() || holder.is_some()) {
                continue;
            }
            let Some(&number) = self.numbers.get(&event.id) else { continue };
            let other = self.numbers.get(&event.other).copied();
            let waiting = self.place(number).and_then(|place| self.window.get_mut(place));
            let end = event.kind.terminal().then(|| fate(event)).flatten();
            if let Some(waiting) = waiting {
                if let Some(events) = &mut waiting.events {
                    events.push(*event);
                }
                if let Some(holder) = holder {
                    waiting.told.fate = Fate::Held(holder);
                }
                if let Some(end) = end {
                    (waiting.told.fate, waiting.told.other, waiting.known) = (end, other, true);
                }
            } else if let Some(end) = end {
                self.revise(end);
            }
        }
        // Further events of a packet that ended (a wake-up, an answer) come with the one that ended it.
        for event in events.iter().filter(|event| event.kind.terminal() && !event.id.is_made()) {
            self.numbers.remove(&event.id);
        }
    }

    fn place(&self, number: u64) -> Option<usize> {
        let first = self.window.front()?.told.number;
        usize::try_from(number.checked_sub(first)?).ok()
    }

    /// A packet ended that was told as held.
    fn revise(&mut self, end: Fate) {
        let held = self.counts.iter_mut().rev().find(|(fate, n)| matches!(fate, Fate::Held(_)) && *n > 0);
        if let Some((_, n)) = held {
            *n -= 1;
        }
        self.count(end);
    }

    fn count(&mut self, fate: Fate) {
        match self.counts.iter_mut().find(|(known, _)| *known == fate) {
            Some((_, n)) => *n += 1,
            None => self.counts.push((fate, 1)),
        }
    }

    /// The next packet to be told: the first, if its fate is known, if there is no room to wait, or if `all` are to be told.
    pub(super) fn next(&mut self, all: bool) -> Option<Told> {
        let full = self.window.len() > WINDOW || self.bytes > WINDOW_BYTES;
        self.window.front().filter(|front| front.known || full || all)?;
        let Waiting { mut told, events, .. } = self.window.pop_front()?;
        self.bytes -= told.data.len();
        self.count(told.fate);
        let id = told.id.map(|(id, _)| id);
        told.life = id.zip(events).map(|(id, events)| Life { id, events });
        Some(told)
    }

    /// How many packets had each fate, the most frequent first.
    pub(super) fn counts(&self) -> Vec<(Fate, u64)> {
        let mut counts: Vec<(Fate, u64)> = self.counts.iter().copied().filter(|(_, n)| *n > 0).collect();
        counts.sort_by_key(|&(fate, n)| (std::cmp::Reverse(n), fate));
        counts
    }
}

/// The fate that an end is.
fn fate(event: &Event) -> Option<Fate> {
    Some(match event.kind {
        EventKind::Recv | EventKind::DatagramRecv | EventKind::TapRead => Fate::Delivered,
        EventKind::GroMerged => Fate::Consumed(Consumed::GroMerged),
        EventKind::Coalesced => Fate::Consumed(Consumed::Coalesced),
        EventKind::Consumed => Fate::Consumed(Consumed::from_number(event.a)?),
        EventKind::Dropped => match DropReason::from_number(event.a)? {
            DropReason::FlowNotFollowed => Fate::NotFollowed,
            reason => Fate::Dropped(reason),
        },
        _ => return None,
    })
}

/// Who holds a packet after this.
fn holder(kind: EventKind) -> Option<Holder> {
    Some(match kind {
        EventKind::GroHeld => Holder::Gro,
        EventKind::CpuBacklog => Holder::CpuBacklog,
        EventKind::SocketBacklog => Holder::SocketBacklog,
        EventKind::Queued | EventKind::OfoDrained => Holder::ReceiveQueue,
        EventKind::OutOfOrder => Holder::OutOfOrder,
        EventKind::FragHeld => Holder::Reassembly,
        // Of the verdicts, QUEUE and STOLEN keep the packet; another holder or end follows any other.
        EventKind::Hook => Holder::Netfilter,
        EventKind::NeighHeld | EventKind::ArpHeld => Holder::Neighbour,
        _ => return None,
    })
}

impl Told {
    /// When, relative to the first packet's time.
    pub fn since(&self, first: Option<i64>) -> Option<Time> {
        let since = self.time?.checked_sub(first?)?;
        Some(Time(u64::try_from(since).unwrap_or(0)))
    }
}
