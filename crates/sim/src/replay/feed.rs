//! The way of one frame at a time into a [`Pcap`](rxpath::device::pcap::Pcap), and of what the stack opens out of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rxpath::device::pcap::{Frame, Source};
use rxpath_mem::Skb;
use rxpath_trace::{PacketId, Time};
use rxpath_wire::{SeqNum, Tuple};

use super::segment::Segment;

/// Segments that open connections and wait to be looked at: more than a softirq run makes.
const OPENED_MAX: usize = 4_096;

/// A SYN or SYN-ACK that the stack sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    /// This host is `local`.
    pub(super) tuple: Tuple,
    pub(super) isn: SeqNum,
    /// Its time stamp, if it has one.
    pub(super) tsval: Option<u32>,
    pub(super) at: Time,
}

#[derive(Default)]
struct Inbox {
    next: Option<(Time, Frame)>,
    spare: Frame,
    arrived: Option<(PacketId, u16)>,
    opened: VecDeque<Opened>,
}

/// The replay's end of a device.
#[derive(Clone, Default)]
pub(super) struct Feed(Arc<Mutex<Inbox>>);

impl Feed {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame to be filled, whose memory was used before.
    pub(super) fn spare(&self) -> Frame {
        std::mem::take(&mut self.inbox().spare)
    }

    /// The next frame, which arrives at `at`.
    pub(super) fn put(&self, at: Time, frame: Frame) {
        self.inbox().next = Some((at, frame));
    }

    /// The identity of the frame that was put last, and its queue; None if the device has not taken it.
    pub(super) fn arrived(&self) -> Option<(PacketId, u16)> {
        let mut inbox = self.inbox();
        inbox.next = None;
        inbox.arrived.take()
    }

    /// What the stack opened since the last call.
    pub(super) fn opened(&self) -> VecDeque<Opened> {
        let mut inbox = self.inbox();
        if inbox.opened.is_empty() { VecDeque::new() } else { std::mem::take(&mut inbox.opened) }
    }
}

impl Source for Feed {
    fn next_at(&self) -> Option<Time> {
        self.inbox().next.as_ref().map(|(at, _)| *at)
    }

    fn take(&mut self, frame: &mut Frame) -> bool {
        let mut inbox = self.inbox();
        let Some((_, next)) = inbox.next.take() else { return false };
        inbox.spare = std::mem::replace(frame, next);
        true
    }

    fn arrived(&mut self, id: PacketId, queue: u16) {
        self.inbox().arrived = Some((id, queue));
    }

    fn sent(&mut self, now: Time, frame: &Skb) {
        let Some(segment) = Segment::of(frame.data()).filter(|segment| segment.flags.syn()) else { return };
        let mut inbox = self.inbox();
        if inbox.opened.len() < OPENED_MAX {
            let (tuple, isn) = (segment.tuple.reversed(), segment.seq);
            inbox.opened.push_back(Opened { tuple, isn, tsval: segment.timestamps.map(|(tsval, _)| tsval), at: now });
        }
    }
}
