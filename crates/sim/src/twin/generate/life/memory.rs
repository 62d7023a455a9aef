//! Receive buffers that run out: small ones, tiny segments that cost much more than they carry, floods out of order,
//! readers that never come.

use super::super::super::case::Case;
use super::super::super::stream::{Fact, Knob, TcpCall};
use super::flow::Flow;

/// The case of a seed.
pub fn tcp_memory(seed: u64) -> Case {
    let mut flow = Flow::new("tcp-memory", seed);
    flow.wscale = flow.pick([None, Some(2), Some(7)]);
    let some = flow.rng.below(60_000);
    let options = match flow.rng.below(10) {
        0..6 => vec![(Knob::RecvBuffer, flow.pick([0, 1_200, 2_304, 4_096, 8_192, 20_000, 50_000, some]))],
        _ => vec![],
    };
    if options.is_empty() && flow.chance(50) {
        let middle = flow.pick([4_096, 8_192, 20_000, 131_072]);
        let most = flow.pick([8_192, 65_536, 200_000, 6_291_456]).max(middle);
        flow.host.sysctls.push(("net.ipv4.tcp_rmem".to_owned(), format!("4096 {middle} {most}")));
    }
    flow.open(&options);
    let rounds = 3 + flow.rng.below(10);
    for _ in 0..rounds {
        flow.flood();
    }
    flow.ending();
    let quiet_us = flow.quiet();
    flow.case(quiet_us)
}

impl Flow {
    fn flood(&mut self) {
        let tiny = 1 + self.rng.below(60) as u16;
        let small = 60 + self.rng.below(400) as u16;
        let full = self.full();
        let len = self.pick([1, tiny, tiny, small, 536, full, full]);
        match self.rng.below(16) {
            0..4 => {
                let count = 4 + self.rng.below(40);
                self.burst(count, len);
            }
            4..7 => {
                // Out of order: behind a hole, or with holes between them.
                let holes = self.chance(50);
                let (count, hole) = (4 + self.rng.below(30), 1 + self.rng.below(600));
                for index in 0..count {
                    if index == 0 || holes {
                        self.gaps.push((self.next, self.next + hole));
                        self.next += hole;
                    }
                    self.burst(1, len);
                }
            }
            7 => {
                // From the end of a range to its beginning.
                let count = 4 + self.rng.below(20);
                let from = self.next + 1;
                self.gaps.push((self.next, from));
                for index in (0..count).rev() {
                    let segment = self.data_at(from + index * u32::from(len), len);
                    self.put(segment);
                }
                self.next = from + count * u32::from(len);
            }
            8..10 => {
                while !self.gaps.is_empty() {
                    self.fill_gap();
                }
            }
            10 => self.fill_gap(),
            11 => self.repeat(3_000),
            12 => {
                let some = self.rng.below(100_000);
                let size = self.pick([0, 2_304, 8_192, some]);
                self.app(TcpCall::Set(Knob::RecvBuffer, size));
            }
            13 => {
                self.app(TcpCall::Ask(Fact::Option(Knob::RecvBuffer)));
                self.app(TcpCall::Ask(Fact::Info));
            }
            _ => self.some_read(),
        }
        self.pause();
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::case::Action;
    use super::*;

    #[test]
    fn floods_are_of_tiny_segments_and_others() {
        assert_eq!(tcp_memory(5), tcp_memory(5));
        let (mut tiny, mut others) = (0, 0);
        for seed in 0..100 {
            for step in &tcp_memory(seed).steps {
                let Action::Send(segment) = &step.action else { continue };
                tiny += u32::from((1..=60).contains(&segment.len));
                others += u32::from(segment.len > 60);
            }
        }
        assert!(tiny > 1_000 && others > 1_000, "{tiny} {others}");
    }
}
