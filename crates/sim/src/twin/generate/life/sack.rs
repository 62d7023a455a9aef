//! Selective acknowledgements: the host's about what came out of order and twice, and the client's about what the host
//! sent, true and false.

use rxpath_core::cx::Rng;

use super::super::super::case::{Ack, Arrival, Case, Sack, Segment};
use super::ACK;
use super::flow::Flow;

/// The case of a seed.
pub fn tcp_sack(seed: u64) -> Case {
    let mut flow = Flow::new("tcp-sack", seed);
    flow.sack = flow.chance(95);
    flow.wscale = flow.pick([None, Some(2), Some(7)]);
    flow.window = flow.pick([65_535, 65_535, 65_535, 29_200]);
    flow.tune_sack();
    flow.tune_recovery();
    let sends = flow.chance(55);
    flow.open(&[]);
    let rounds = 8 + flow.rng.below(16);
    for _ in 0..rounds {
        match sends {
            true => flow.lossy_sender(),
            false => flow.disorder(),
        }
        if flow.chance(15) {
            flow.ask();
        }
    }
    flow.ending();
    let quiet_us = flow.quiet();
    flow.case(quiet_us)
}

impl Flow {
    /// Recovery is tuned in a fourth of the cases: by draws of their own, so that the others stay as they are.
    fn tune_recovery(&mut self) {
        let mut rng = Rng::new(!self.seed);
        if rng.below(4) > 0 {
            return;
        }
        let tunables: [(&str, &[u32]); 5] = [
            ("net.ipv4.tcp_recovery", &[0, 1, 2, 4, 5]),
            ("net.ipv4.tcp_frto", &[0, 0, 1, 2]),
            ("net.ipv4.tcp_reordering", &[1, 2, 5, 20]),
            ("net.ipv4.tcp_retrans_collapse", &[0, 1]),
            ("net.ipv4.tcp_thin_linear_timeouts", &[0, 1]),
        ];
        for (name, values) in tunables {
            if rng.below(2) == 0 {
                self.set(name, values[rng.below(values.len() as u32) as usize]);
            }
        }
    }

    fn tune_sack(&mut self) {
        if self.chance(8) {
            self.set("net.ipv4.tcp_dsack", 0);
        }
        if self.chance(4) {
            self.set("net.ipv4.tcp_sack", 0);
        }
        if self.chance(8) {
            let early = self.pick([0, 3]);
            self.set("net.ipv4.tcp_early_retrans", early);
        }
    }

    /// The client's segments in every order.
    fn disorder(&mut self) {
        match self.rng.below(20) {
            0..5 => self.leave_gap(),
            5..9 => self.fill_gap(),
            9..12 => self.in_order(),
            12..15 => self.repeat(6_000),
            15 => {
                for _ in 0..3 + self.rng.below(5) {
                    self.leave_gap();
                }
            }
            16 => {
                while !self.gaps.is_empty() {
                    self.fill_gap();
                }
            }
            17 => {
                // Over what may be there and what is not.
                let from = self.next.saturating_sub(self.rng.below(8_000)).max(1);
                let len = 1 + self.rng.below(1_440) as u16;
                let segment = self.data_at(from, len);
                self.next = self.next.max(from + u32::from(len));
                self.put(segment);
            }
            18 => {
                let size = 1 + self.rng.below(4_000);
                self.write(size);
            }
            _ => self.some_read(),
        }
        self.pause();
    }

    /// The host sends, and the way to the client loses, delays and turns about.
    fn lossy_sender(&mut self) {
        let mss = self.smss();
        match self.rng.below(32) {
            0..7 => {
                let some = 1 + self.rng.below(6 * mss);
                let size = self.pick([mss, 2 * mss, 3 * mss, 5 * mss, 6 * mss, some, some, 4 * mss, 6 * mss]);
                self.write(size);
            }
            7..12 => {
                let come = 1 + self.rng.below(3) as u8;
                self.ack_arrived(Arrival { come, ..Arrival::default() });
            }
            12..15 => {
                // Each segment is acknowledged.
                for _ in 0..1 + self.rng.below(8) {
                    self.ack_arrived(Arrival { come: 1, ..Arrival::default() });
                }
            }
            15..19 => {
                let lost = 1 + self.rng.below(3) as u8;
                self.ack_arrived(Arrival { lost, come: 1, late: 0 });
                for _ in 0..self.rng.below(8) {
                    self.ack_arrived(Arrival { come: 1, ..Arrival::default() });
                }
            }
            19..21 => {
                let late = 1 + self.rng.below(4) as u8;
                self.ack_arrived(Arrival { late, come: 1, lost: 0 });
            }
            21 => self.ack_arrived(Arrival { lost: 20, ..Arrival::default() }),
            22 => self.ack(),
            23..25 => self.wrong_blocks(),
            25 => self.idle(10_000, 30_000),
            26 => self.idle(200_000, 100_000),
            27 => {
                // The client forgets what it had.
                let segment = Segment { ack: Ack::Arrived(Arrival::default()), ..self.segment(ACK, 0) };
                self.put(segment);
            }
            28 => self.in_order(),
            29 => self.ack_arrived(Arrival::default()),
            _ => self.ask(),
        }
        self.pause();
    }

    /// Blocks that no honest receiver sends, or only after a segment came twice.
    fn wrong_blocks(&mut self) {
        let mss = self.smss() as i32;
        let some = self.rng.below(20_000) as i32;
        let few = 1 + self.rng.below(6) as i32;
        let blocks = match self.rng.below(9) {
            // Beyond what was sent, before what was acknowledged, empty, turned about, far away.
            0 => vec![(0, -mss)],
            1 => vec![(some + 200_000, some + 190_000)],
            2 => vec![(some, some)],
            3 => vec![(some.min(mss), some.max(2 * mss))],
            4 => vec![(-100_000, -101_000)],
            // In the middle of segments.
            5 => vec![(mss * few - 100, mss * (few - 1) - 10)],
            6 => vec![(mss * few, mss * (few - 1)), (mss * (few + 3), mss * (few + 2))],
            // A duplicate of something.
            7 => vec![(mss * few, mss * (few - 1)), (mss * (few + 1), 0)],
            _ => vec![(mss * few, 0)],
        };
        let ack = if self.chance(70) { Ack::Arrived(Arrival::default()) } else { Ack::Beside(-few * mss) };
        let segment = Segment { ack, sack: Sack::Back(blocks), ..self.segment(ACK, 0) };
        self.put(segment);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::case::Action;
    use super::*;

    #[test]
    fn segments_are_lost_and_blocks_are_wrong() {
        assert_eq!(tcp_sack(5), tcp_sack(5));
        let (mut lost, mut wrong, mut gaps) = (0, 0, 0);
        for seed in 0..200 {
            let case = tcp_sack(seed);
            let mut highest = 0;
            for step in &case.steps {
                let Action::Send(segment) = &step.action else { continue };
                lost += u32::from(matches!(segment.ack, Ack::Arrived(Arrival { lost: 1.., .. })));
                wrong += u32::from(matches!(segment.sack, Sack::Back(_)));
                if let super::super::super::super::case::Seq::At(at) = segment.seq {
                    gaps += u32::from(at > highest);
                    highest = highest.max(at + u32::from(segment.len) + 1);
                }
            }
        }
        assert!(lost > 200 && wrong > 100 && gaps > 200, "{lost} {wrong} {gaps}");
    }
}
