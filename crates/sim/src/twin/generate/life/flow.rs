//! A connection that stands and carries data in both directions: what the kinds about that have in common.

use std::ops::{Deref, DerefMut};

use rxpath_core::cx::Rng;

use super::super::super::case::{Ack, Arrival, Case, Sack, Segment, Seq};
use super::super::super::stream::{Fact, How, Knob, Tail, TcpCall};
use super::{ACK, FIN, LISTENER, Life, PSH, SOCKET};

/// A script about a connection's data.
pub(super) struct Flow {
    life: Life,
    /// The client permits selective acknowledgements.
    pub sack: bool,
    /// What the client left out so far.
    pub gaps: Vec<(u32, u32)>,
    /// Bytes that the application has tried to write.
    pub written: u32,
    pub fin_sent: bool,
    /// In some cases the application says what follows its writes: its own draws.
    pub corks: Option<Rng>,
}

impl Deref for Flow {
    type Target = Life;

    fn deref(&self) -> &Life {
        &self.life
    }
}

impl DerefMut for Flow {
    fn deref_mut(&mut self) -> &mut Life {
        &mut self.life
    }
}

impl Flow {
    pub fn new(kind: &str, seed: u64) -> Flow {
        let mut life = Life::new(kind, seed);
        life.mss = life.pick([Some(1_460), Some(1_460), Some(1_460), Some(1_200), Some(536), None]);
        life.wscale = life.pick([None, Some(0), Some(2), Some(7), Some(7), Some(10)]);
        life.window = life.pick([65_535, 65_535, 64_240, 29_200, 8_192]);
        let sack = life.chance(80);
        // Otherwise duplicate ACKs wait for less time than steps are apart, and nobody can tell for how long.
        life.set("net.ipv4.tcp_comp_sack_nr", 0);
        Flow { life, sack, gaps: Vec::new(), written: 0, fin_sent: false, corks: None }
    }

    pub fn case(self, quiet_us: u32) -> Case {
        self.life.case(quiet_us)
    }

    // ---- the handshake ----

    /// The connection is opened by the client and accepted, with these options of the listener.
    pub fn open(&mut self, options: &[(Knob, u32)]) {
        self.listen(5);
        for &(knob, value) in options {
            self.on(LISTENER, TcpCall::Set(knob, value));
        }
        let syn = Segment { sack_permitted: self.sack, ..self.syn(0) };
        self.put(syn);
        self.next = 1;
        self.pause();
        self.say(ACK, 0);
        self.on(SOCKET, TcpCall::Accept(LISTENER));
    }

    /// Payload of the host's full segments.
    pub fn smss(&self) -> u32 {
        u32::from(self.mss.unwrap_or(536)) - if self.clock.is_some() { 12 } else { 0 }
    }

    /// Largest payload that the client sends.
    pub fn full(&self) -> u16 {
        if self.clock.is_some() { 1_448 } else { 1_460 }
    }

    // ---- the client ----

    /// So many microseconds pass, or some more.
    pub fn idle(&mut self, wait_us: u32, more: u32) {
        let wait_us = wait_us + self.rng.below(more);
        self.pass(wait_us);
    }

    /// Bytes of a segment: few, some, or as many as fit.
    pub fn size(&mut self) -> u16 {
        let full = self.full();
        match self.rng.below(10) {
            0 => 1,
            1..3 => 1 + self.rng.below(100) as u16,
            3..5 => 100 + self.rng.below(500) as u16,
            5 => 536,
            6 => 600 + self.rng.below(800) as u16,
            _ => full,
        }
    }

    /// A segment with data at this place.
    pub fn data_at(&self, seq: u32, len: u16) -> Segment {
        Segment { seq: Seq::At(seq), ..self.segment(ACK, len) }
    }

    /// Data in order, now and then pushed.
    pub fn in_order(&mut self) {
        let (len, pushed) = (self.size(), self.chance(40));
        self.say(if pushed { ACK | PSH } else { ACK }, len);
    }

    /// Segments back to back.
    pub fn burst(&mut self, count: u32, len: u16) {
        for _ in 0..count {
            self.say(ACK, len);
        }
    }

    /// Leaves something out and goes on behind it.
    pub fn leave_gap(&mut self) {
        let len = u32::from(self.size());
        let from = self.next;
        self.gaps.push((from, from + len));
        self.next += len;
        self.in_order();
    }

    /// Sends what was left out, or a part of it.
    pub fn fill_gap(&mut self) {
        if self.gaps.is_empty() {
            return self.in_order();
        }
        let count = self.gaps.len() as u32;
        let index = self.rng.below(count) as usize;
        let (from, to) = self.gaps.swap_remove(index);
        let len = to - from;
        let segment = match self.rng.below(5) {
            0 if len > 1 => {
                let first = 1 + self.rng.below(len - 1);
                self.gaps.push((from + first, to));
                self.data_at(from, first as u16)
            }
            1 if len > 1 => {
                let first = 1 + self.rng.below(len - 1);
                self.gaps.push((from, from + first));
                self.data_at(from + first, (len - first) as u16)
            }
            _ => self.data_at(from, len as u16),
        };
        self.put(segment);
    }

    /// Old data, or old and new.
    pub fn repeat(&mut self, most: u32) {
        let back = (1 + self.rng.below(most)).min(self.next.saturating_sub(1));
        let len = (1 + self.rng.below(1_400)) as u16;
        let from = self.next - back;
        let segment = self.data_at(from, len);
        self.next = self.next.max(from + u32::from(len));
        self.put(segment);
    }

    /// Acknowledges everything.
    pub fn ack(&mut self) {
        self.say(ACK, 0);
    }

    /// Acknowledges what has come to the client once this has.
    pub fn ack_arrived(&mut self, arrival: Arrival) {
        let sack = if self.sack { Sack::Held } else { Sack::None };
        let segment = Segment { ack: Ack::Arrived(arrival), sack, ..self.segment(ACK, 0) };
        self.put(segment);
    }

    /// The client's window becomes this.
    pub fn window_becomes(&mut self, window: u16) {
        self.window = window;
        self.ack();
    }

    pub fn fin(&mut self) {
        if self.fin_sent {
            return self.ack();
        }
        self.fin_sent = true;
        let len = if self.chance(50) { 0 } else { self.size() };
        self.say(FIN | ACK, len);
    }

    // ---- the application ----

    pub fn write(&mut self, size: u32) {
        self.written += size;
        let call = match &mut self.corks {
            Some(corks) => {
                let [more, record] = [40, 15].map(|percent| corks.below(100) < percent);
                TcpCall::Send(size, Tail { more, record })
            }
            None => TcpCall::Write(size),
        };
        self.app(call);
    }

    /// The application of a third of the cases has corks, and says what follows its writes.
    pub fn has_corks(&mut self) {
        let mut corks = Rng::new(!self.seed);
        if corks.below(3) == 0 {
            self.corks = Some(corks);
        }
    }

    /// A cork goes in or out now and then, or out and in again.
    pub fn cork(&mut self) {
        let Some(draw) = self.corks.as_mut().map(|corks| corks.below(10)) else { return };
        match draw {
            0..2 => self.app(TcpCall::Cork(true)),
            2 => self.app(TcpCall::Cork(false)),
            3 => {
                self.app(TcpCall::Cork(false));
                self.app(TcpCall::Cork(true));
            }
            _ => {}
        }
    }

    pub fn read(&mut self, size: u32) {
        self.app(TcpCall::Read(size));
    }

    /// Some read, of all or of a part.
    pub fn some_read(&mut self) {
        let some = 1 + self.rng.below(3_000);
        let size = self.pick([65_536, 65_536, some, 1, 10_000]);
        match self.rng.below(8) {
            0 => self.app(TcpCall::Recv(size, How { peek: true, ..How::default() })),
            1 => self.app(TcpCall::Recv(size, How { discard: true, ..How::default() })),
            2 => self.app(TcpCall::Recv(size, How { wait_all: true, ..How::default() })),
            _ => self.read(size),
        }
    }

    /// The application asks what the socket knows.
    pub fn ask(&mut self) {
        let call = match self.rng.below(8) {
            0..3 => TcpCall::Ask(Fact::Info),
            3 => TcpCall::Ask(Fact::Inq),
            4 => TcpCall::Ask(Fact::Outq),
            5 => TcpCall::Ask(Fact::Unsent),
            _ => TcpCall::Poll,
        };
        self.app(call);
    }

    /// The end of some cases.
    pub fn ending(&mut self) {
        match self.rng.below(5) {
            0 => self.app(TcpCall::Close),
            1 => {
                self.fin();
                self.read(65_536);
                self.read(100);
                self.app(TcpCall::Close);
                self.ack();
            }
            2 => {
                self.read(65_536);
                self.ask();
            }
            _ => {}
        }
    }
}
