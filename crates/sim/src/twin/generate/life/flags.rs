//! Every combination of the six old control bits, in every state: the seed counts them through. Where a segment lies, what it
//! acknowledges, what it carries and how it is stamped is drawn. What comes after it meets what it made of the connection.

use rxpath_wire::TcpFlags;

use super::super::super::case::{Ack, Case, Echo, Segment, Seq};
use super::{ACK, FAR, FIN, Life, PSH, RST, SYN, Stage};

/// Combinations of FIN, SYN, RST, PSH, ACK and URG.
const COMBINATIONS: u64 = 64;

/// The case of a seed.
pub fn tcp_flags(seed: u64) -> Case {
    let mut life = Life::new("tcp-flags", seed);
    let stage = Stage::ALL[(seed / COMBINATIONS % Stage::ALL.len() as u64) as usize];
    if stage == Stage::SynSent {
        life.unscaled();
    }
    life.reach(stage);
    life.pause();
    life.probe((seed % COMBINATIONS) as u8);
    for _ in 0..life.rng.below(6) {
        life.pause();
        match life.rng.below(8) {
            0 => life.look(),
            1 => life.say(ACK, 0),
            2 => life.say(ACK | PSH, 10),
            _ => {
                let flags = life.rng.below(COMBINATIONS as u32) as u8;
                let likely = life.pick([ACK, ACK, SYN, SYN | ACK, FIN | ACK, RST, flags, flags, flags]);
                life.probe(likely);
            }
        }
    }
    life.look_well();
    let quiet = life.quiet();
    life.case(quiet)
}

impl Life {
    /// A segment with these control bits.
    fn probe(&mut self, flags: u8) {
        self.urgent_fin |= flags & (FIN | TcpFlags::URG.0) == FIN | TcpFlags::URG.0;
        let far = self.rng.next_u64() as u32;
        let near = 1 + self.rng.below(3_000);
        let seq = match self.rng.below(16) {
            0..6 => Seq::At(self.next),
            6 => Seq::At(self.next.wrapping_sub(1)),
            7 => Seq::At(self.next.wrapping_add(1)),
            8 => Seq::At(self.next.wrapping_add(near)),
            9 => Seq::At(self.next.wrapping_sub(near)),
            10 | 11 => Seq::Edge(self.pick([-20, -1, 0, 1])),
            12 => Seq::Edge(near as i32),
            13 => Seq::At(0),
            14 => Seq::At(1),
            _ => Seq::At(far),
        };
        let ack = match self.rng.below(10) {
            0..5 => self.segment(ACK, 0).ack,
            5 => Ack::Latest,
            6 => Ack::Beside(-1),
            7 => Ack::Beside(self.pick([1, 1_000, -1_000, 1_000_000, -1_000_000])),
            _ => Ack::Beside(self.pick([FAR, -FAR])),
        };
        let len = self.pick([0, 0, 0, 0, 1, 20, 500]);
        let mut segment = Segment { seq, ack, ..self.segment(flags, len) };
        if self.chance(5) {
            segment.flags |= self.pick([TcpFlags::ECE.0, TcpFlags::CWR.0, TcpFlags::ECE.0 | TcpFlags::CWR.0]);
        }
        if flags & SYN != 0 && self.chance(60) {
            (segment.mss, segment.wscale) = (self.mss, self.wscale);
        }
        if self.chance(10) {
            segment.window = self.pick([0, 1, 1_000]);
        }
        if let Some(stamp) = &mut segment.stamp {
            match self.rng.below(10) {
                0 => segment.stamp = None,
                1 => stamp.tsval = stamp.tsval.wrapping_sub(1 + near),
                2 => stamp.tsval = stamp.tsval.wrapping_add(near),
                3 => stamp.echo = Echo::Beside(self.pick([-1, 1, -10_000, 10_000])),
                4 => stamp.echo = Echo::Number(0),
                _ => {}
            }
        }
        let taken = u32::from(len) + u32::from(flags & FIN != 0) + u32::from(flags & SYN != 0);
        if seq == Seq::At(self.next) && flags & RST == 0 && (flags & ACK != 0 || flags & SYN != 0) && self.chance(80) {
            self.next = self.next.wrapping_add(taken);
        }
        self.put(segment);
    }
}
