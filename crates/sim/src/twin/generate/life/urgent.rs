//! Urgent data: pointers of every relation to what came and what is in the window, and the calls that ask for the byte.

use super::super::super::case::{Case, Segment, Seq};
use super::super::super::stream::{Fact, How, Knob, TcpCall};
use super::flow::Flow;
use super::{ACK, FIN, PSH};
use rxpath_wire::TcpFlags;

const URG: u8 = TcpFlags::URG.0;

/// The case of a seed.
pub fn tcp_urgent(seed: u64) -> Case {
    let mut flow = Flow::new("tcp-urgent", seed);
    if flow.chance(20) {
        flow.set("net.ipv4.tcp_stdurg", 1);
    }
    flow.open(&[]);
    if flow.chance(25) {
        flow.app(TcpCall::Set(Knob::UrgentInline, 1));
    }
    let sends = flow.chance(25);
    let rounds = 6 + flow.rng.below(20);
    for _ in 0..rounds {
        match sends {
            true => flow.urgent_sends(),
            false => flow.urgent_comes(),
        }
    }
    flow.ending();
    let quiet_us = flow.quiet();
    flow.case(quiet_us)
}

impl Flow {
    fn urgent_comes(&mut self) {
        match self.rng.below(20) {
            0..6 => self.urgent_segment(),
            6..8 => self.in_order(),
            8 => self.leave_gap(),
            9 => self.fill_gap(),
            10..12 => self.look_for_urgent(),
            12..14 => {
                let peek = self.chance(30);
                self.app(TcpCall::RecvUrgent(peek));
            }
            14 => {
                let inline = u32::from(self.chance(50));
                self.app(TcpCall::Set(Knob::UrgentInline, inline));
            }
            15 => {
                let lowat = self.pick([1, 2, 100, 1_000]);
                self.app(TcpCall::Set(Knob::RecvLowat, lowat));
            }
            16 => self.repeat(3_000),
            _ => {
                let some = 1 + self.rng.below(2_000);
                let size = self.pick([1, 2, 10, some, 65_536, 65_536]);
                let (peek, wait_all, discard) = (self.chance(10), self.chance(15), self.chance(10));
                self.app(TcpCall::Recv(size, How { peek, wait_all, discard: discard && !peek }));
            }
        }
        self.pause();
    }

    /// A segment with URG: the pointer in the data, at its ends, behind it, far away, before it.
    fn urgent_segment(&mut self) {
        let len = if self.chance(15) { 0 } else { self.size() };
        let some = self.rng.below(65_536) as u16;
        let inside = self.rng.below(u32::from(len) + 1) as u16;
        let behind = len + self.rng.below(3_000) as u16;
        let urgent = self.pick([0, 1, 2, len, len, len.saturating_sub(1), len + 1, inside, inside, behind, some]);
        let flags = URG | self.pick([ACK, ACK, ACK | PSH, ACK | PSH, ACK | FIN]);
        let flags = if flags & FIN != 0 && !self.chance(20) { URG | ACK } else { flags };
        let segment = Segment { urgent, ..self.segment(flags, len) };
        match self.rng.below(10) {
            // Repeated, out of order, beyond the window.
            0 => {
                let back = (1 + self.rng.below(2_000)).min(self.next - 1);
                let again = Segment { seq: Seq::At(self.next - back), ..segment };
                self.put(again);
            }
            1 => {
                let ahead = self.next + 1 + self.rng.below(3_000);
                let early = Segment { seq: Seq::At(ahead), ..segment };
                self.put(early);
            }
            2 => {
                let beyond = Segment { seq: Seq::Edge(self.rng.below(2_000) as i32 - 1_000), ..segment };
                self.put(beyond);
            }
            _ => {
                self.put(segment);
                self.next += u32::from(len) + u32::from(flags & FIN != 0);
                self.fin_sent |= flags & FIN != 0;
            }
        }
    }

    fn look_for_urgent(&mut self) {
        let call = match self.rng.below(4) {
            0 => TcpCall::Ask(Fact::AtMark),
            1 => TcpCall::Ask(Fact::Inq),
            2 => TcpCall::Poll,
            _ => TcpCall::Ask(Fact::Info),
        };
        self.app(call);
    }

    fn urgent_sends(&mut self) {
        let mss = self.smss();
        match self.rng.below(12) {
            0..4 => {
                let some = 1 + self.rng.below(5_000);
                let size = self.pick([1, 1, 10, mss, mss + 1, some]);
                self.written += size;
                self.app(TcpCall::SendUrgent(size));
            }
            4..7 => {
                let some = 1 + self.rng.below(5_000);
                let size = self.pick([1, 100, mss, some, 5 * mss]);
                self.write(size);
            }
            7..9 => self.ack(),
            9 => {
                let window = self.pick([0, 1, 500, 5_000, 65_535]);
                self.window_becomes(window);
            }
            10 => self.in_order(),
            _ => self.idle(200_000, 50_000),
        }
        self.pause();
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::case::Action;
    use super::*;

    #[test]
    fn pointers_lie_everywhere() {
        assert_eq!(tcp_urgent(5), tcp_urgent(5));
        let (mut inside, mut behind, mut none) = (0, 0, 0);
        for seed in 0..200 {
            for step in &tcp_urgent(seed).steps {
                let Action::Send(segment) = &step.action else { continue };
                if segment.flags & URG != 0 {
                    inside += u32::from((1..=segment.len).contains(&segment.urgent));
                    behind += u32::from(segment.urgent > segment.len);
                    none += u32::from(segment.urgent == 0);
                }
            }
        }
        assert!(inside > 100 && behind > 100 && none > 20, "{inside} {behind} {none}");
    }
}
