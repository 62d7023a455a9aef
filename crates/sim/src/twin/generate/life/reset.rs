//! Resets: true ones, blind ones around every edge (RFC 5961), those that the host sends because of what its application
//! does, and what comes after.

use super::super::super::case::{Ack, Case, Echo, Segment, Seq};
use super::super::super::stream::{Direction, TcpCall};
use super::{ACK, FAR, FIN, Life, PSH, RST, SYN, Stage};

/// The case of a seed.
pub fn tcp_reset(seed: u64) -> Case {
    let mut life = Life::new("tcp-reset", seed);
    if life.chance(25) {
        let ms = life.pick([0, 10, 50, 1_000]);
        life.set("net.ipv4.tcp_invalid_ratelimit", ms);
    }
    let stage = match life.rng.below(4) {
        0 => life.pick(Stage::ALL),
        1 => life.pick(Stage::OPEN),
        _ => life.pick([Stage::Established, Stage::CloseWait, Stage::FinWait2, Stage::SynRecv, Stage::SynSent]),
    };
    if stage == Stage::SynSent {
        life.unscaled();
    }
    life.may_wait(10);
    life.reach(stage);
    for _ in 0..2 + life.rng.below(7) {
        life.pause();
        life.may_wait_otherwise();
        match life.rng.below(20) {
            0..10 => life.reset(),
            10..12 => life.challenged(),
            12..14 => life.aborts(),
            14..17 => life.look(),
            _ => life.ordinary(),
        }
    }
    life.look_well();
    let quiet = life.quiet();
    life.case(quiet)
}

impl Life {
    /// An RST at some edge of what may be.
    fn reset(&mut self) {
        let far = self.rng.next_u64() as u32;
        let inside = 1 + self.rng.below(4_000);
        let seq = match self.rng.below(14) {
            0..5 => Seq::At(self.next),
            5 => Seq::At(self.next.wrapping_sub(1)),
            6 => Seq::At(self.next.wrapping_add(1)),
            7 => Seq::At(self.next.wrapping_add(inside)),
            8 => Seq::Edge(self.pick([-1, 0, 1, 2])),
            9 => Seq::At(self.next.wrapping_sub(inside)),
            10 => Seq::At(far),
            11 => Seq::At(0),
            12 => Seq::At(1),
            _ => Seq::Edge(1_000),
        };
        let ack = match self.rng.below(6) {
            0..3 => Ack::Latest,
            3 => Ack::Beside(self.pick([-1, 1, -1_000, 100_000])),
            _ => Ack::Beside(self.pick([FAR, -FAR])),
        };
        let flags = self.pick([RST, RST, RST, RST | ACK, RST | ACK, RST | FIN, RST | SYN, RST | PSH | ACK]);
        let len = self.pick([0, 0, 0, 0, 1, 20]);
        let mut segment = Segment { seq, ack, ..self.segment(flags, len) };
        if let Some(stamp) = &mut segment.stamp {
            match self.rng.below(6) {
                0 => segment.stamp = None,
                1 => stamp.tsval = stamp.tsval.wrapping_sub(100_000),
                2 => stamp.echo = Echo::Beside(self.pick([FAR, -FAR])),
                _ => {}
            }
        }
        self.put(segment);
    }

    /// What draws a challenge ACK, several times.
    fn challenged(&mut self) {
        let inside = 1 + self.rng.below(1_000);
        for _ in 0..1 + self.rng.below(4) {
            let segment = match self.rng.below(4) {
                0 => Segment { seq: Seq::At(self.next.wrapping_add(inside)), ..self.segment(RST, 0) },
                1 => Segment { seq: Seq::At(self.next.wrapping_add(inside)), mss: self.mss, ..self.segment(SYN, 0) },
                2 => Segment { ack: Ack::Beside(10_000), ..self.segment(ACK, 0) },
                _ => Segment { ack: Ack::Beside(-1_000_000), ..self.segment(ACK, 0) },
            };
            self.put(segment);
            if self.chance(30) {
                let wait_us = self.pick([1_000, 5_000, 60_000]);
                self.pass(wait_us);
            }
        }
    }

    /// The application resets, or makes the host reset.
    fn aborts(&mut self) {
        match self.rng.below(4) {
            0 => {
                self.app(TcpCall::LingerZero(true));
                self.app(TcpCall::Close);
            }
            1 => {
                self.say(ACK | PSH, 10);
                self.app(TcpCall::Close);
            }
            2 => {
                self.app(TcpCall::Shutdown(Direction::Both));
                self.say(ACK | PSH, 10);
            }
            _ => {
                self.app(TcpCall::Close);
                self.pause();
                self.say(ACK | PSH, 100);
            }
        }
    }

    fn ordinary(&mut self) {
        match self.rng.below(6) {
            0 => self.say(ACK, 0),
            1 => self.say(ACK | PSH, 100),
            2 => self.say(FIN | ACK, 0),
            3 => self.app(TcpCall::Write(500)),
            4 => {
                let syn = self.syn(0);
                self.put(syn);
            }
            _ => {
                self.unacked = 0;
                self.say(ACK, 0);
            }
        }
    }
}
