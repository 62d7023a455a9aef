//! TIME-WAIT, entered in each way there is, met by segments of every class: SYNs that may open anew by their sequence number
//! or their timestamp and such that may not, resets with and without RFC 1337, old and repeated FINs, data, the past.

use std::net::SocketAddrV4;

use super::super::super::case::{Ack, Case, Echo, Segment, Seq};
use super::super::super::frames::CLIENT;
use super::super::super::stream::TcpCall;
use super::{ACK, FAR, FIN, LISTENER, Life, PSH, RST, SOCKET, SYN, Stage};

/// The case of a seed.
pub fn tcp_timewait(seed: u64) -> Case {
    let mut life = Life::new("tcp-timewait", seed);
    if life.chance(40) {
        life.set("net.ipv4.tcp_rfc1337", 1);
    }
    if life.chance(20) {
        let ms = life.pick([0, 10, 50]);
        life.set("net.ipv4.tcp_invalid_ratelimit", ms);
    }
    if life.chance(20) {
        life.set("net.ipv4.tcp_tw_reuse", 1);
        life.set("net.ipv4.tcp_tw_reuse_delay", 1);
    }
    life.reach(Stage::TimeWait);
    for _ in 0..1 + life.rng.below(8) {
        life.pause();
        match life.rng.below(20) {
            0..7 => life.reopens(),
            7..10 => life.resets(),
            10..12 => life.say(FIN | ACK, 0),
            12 => {
                let (client, server) = life.ports;
                life.on(SOCKET + 1, TcpCall::Connect(server, SocketAddrV4::new(CLIENT, client)));
            }
            13 => life.look(),
            _ => life.late(),
        }
    }
    life.look_well();
    let quiet = life.quiet();
    life.case(quiet)
}

impl Life {
    /// A SYN for the same ports; if it is taken, what follows.
    fn reopens(&mut self) {
        let near = 1 + self.rng.below(3_000);
        let far = self.rng.next_u64() as u32;
        let seq = match self.rng.below(10) {
            0 => self.next,
            1 => self.next.wrapping_add(1),
            2 => self.next.wrapping_sub(1),
            3 => self.next.wrapping_sub(near),
            4 => far,
            5 => 0,
            _ => self.next.wrapping_add(near),
        };
        let mut syn = Segment { seq: Seq::At(seq), ..self.syn(0) };
        match self.rng.below(12) {
            0 => syn.flags |= self.pick([FIN, PSH, RST, ACK]),
            1 => syn.len = 20,
            _ => {}
        }
        if let Some(stamp) = &mut syn.stamp {
            match self.rng.below(8) {
                0 => stamp.tsval = stamp.tsval.wrapping_sub(near),
                1 => stamp.tsval = stamp.tsval.wrapping_sub((self.elapsed / 1_000) as u32),
                2 => stamp.tsval = stamp.tsval.wrapping_add(near),
                3 => syn.stamp = None,
                _ => {}
            }
        }
        self.put(syn);
        if self.chance(60) {
            let before = std::mem::replace(&mut self.next, seq.wrapping_add(1));
            self.pause();
            self.say(ACK, 0);
            if self.chance(70) {
                self.on(SOCKET, TcpCall::Accept(LISTENER));
            }
            if self.chance(50) {
                self.say(ACK | PSH, 10);
                self.app(TcpCall::Read(100));
            }
            if self.chance(40) {
                self.app(TcpCall::Close);
                self.pause();
                self.say(ACK, 0);
                self.say(FIN | ACK, 0);
            } else if self.chance(30) {
                self.next = before;
            }
        }
    }

    fn resets(&mut self) {
        let near = 1 + self.rng.below(3_000) as i32;
        let by = self.pick([0, 0, 0, -1, 1, near, -near, 1_000_000]);
        let flags = self.pick([RST, RST, RST | ACK, RST | FIN, RST | SYN]);
        let mut segment = Segment { seq: Seq::At(self.next.wrapping_add_signed(by)), ..self.segment(flags, 0) };
        self.past(&mut segment);
        self.put(segment);
    }

    /// Something late of the connection.
    fn late(&mut self) {
        let near = 1 + self.rng.below(3_000) as i32;
        let by = self.pick([0, 0, 0, -1, -2, 1, near, -near, 1_000_000]);
        let flags = self.pick([ACK, ACK, ACK | PSH, FIN | ACK, SYN | ACK, FIN, PSH, 0]);
        let len = self.pick([0, 0, 0, 1, 100]);
        let ack = self.pick([Ack::Latest, Ack::Latest, Ack::Beside(-1), Ack::Beside(near), Ack::Beside(FAR)]);
        let seq = Seq::At(self.next.wrapping_add_signed(by));
        let mut segment = Segment { seq, ack, ..self.segment(flags, len) };
        self.past(&mut segment);
        self.put(segment);
    }

    /// Some come from the past, or from elsewhere.
    fn past(&mut self, segment: &mut Segment) {
        let by = 1 + self.rng.below(10_000);
        let Some(stamp) = &mut segment.stamp else { return };
        match self.rng.below(8) {
            0 | 1 => stamp.tsval = stamp.tsval.wrapping_sub(by),
            2 => stamp.tsval = stamp.tsval.wrapping_add(by),
            3 => stamp.echo = Echo::Beside(self.pick([-1, 1, 5_000])),
            4 => segment.stamp = None,
            _ => {}
        }
    }
}
