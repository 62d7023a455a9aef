//! Windows: those that the host offers, with buffers of every size and readers of every speed, and those of the client's
//! that close, shrink and open.

use super::super::super::case::{Ack, Case, Segment, Seq};
use super::super::super::stream::{Fact, Knob, TcpCall};
use super::flow::Flow;
use super::{ACK, FIN, PSH};

/// The case of a seed.
pub fn tcp_window(seed: u64) -> Case {
    let mut flow = Flow::new("tcp-window", seed);
    flow.tune();
    let options = flow.window_options();
    flow.open(&options);
    if flow.chance(25) {
        let (knob, value) = flow.window_option();
        flow.app(TcpCall::Set(knob, value));
    }
    let receives = flow.chance(60);
    let rounds = 8 + flow.rng.below(20);
    for _ in 0..rounds {
        match receives {
            true => flow.fill_and_read(),
            false => flow.peers_window(),
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
    /// Tunables that windows hang on.
    fn tune(&mut self) {
        if self.chance(10) {
            self.set("net.ipv4.tcp_window_scaling", 0);
        }
        if self.chance(10) {
            self.set("net.ipv4.tcp_moderate_rcvbuf", 0);
        }
        if self.chance(25) {
            let middle = self.pick([4_096, 8_192, 16_384, 65_536, 131_072, 1_000_000]);
            let most = self.pick([65_536, 131_072, 1_000_000, 6_291_456]).max(middle);
            self.host.sysctls.push(("net.ipv4.tcp_rmem".to_owned(), format!("4096 {middle} {most}")));
        }
    }

    fn window_option(&mut self) -> (Knob, u32) {
        let some = self.rng.below(200_000);
        let small = self.rng.below(10_000);
        let buffer = self.pick([0, 1_000, 2_304, 4_096, 8_192, 20_000, 65_536, 300_000, some, small]);
        let clamp = self.pick([1, 1_152, 3_000, 10_000, 65_535, 65_536, small]);
        if self.chance(75) { (Knob::RecvBuffer, buffer) } else { (Knob::WindowClamp, clamp) }
    }

    fn window_options(&mut self) -> Vec<(Knob, u32)> {
        match self.rng.below(10) {
            0..4 => vec![],
            4..8 => vec![self.window_option()],
            _ => vec![self.window_option(), self.window_option()],
        }
    }

    /// The client sends into the window, to its edge and beyond; the application reads.
    fn fill_and_read(&mut self) {
        match self.rng.below(20) {
            0..6 => {
                let (count, len) = (1 + self.rng.below(8), self.size());
                self.burst(count, len);
            }
            6..9 => self.in_order(),
            9..11 => self.at_edge(),
            11 => {
                // As much as the window takes, and what the client sends then is in order again or not.
                let len = self.size();
                self.burst(24, len);
            }
            12 => self.probe_host(),
            13 => {
                self.leave_gap();
                self.pause();
                self.fill_gap();
            }
            14 => self.pause(),
            15 => {
                let (knob, value) = self.window_option();
                self.app(TcpCall::Set(knob, value));
                self.app(TcpCall::Ask(Fact::Option(knob)));
            }
            _ => {
                self.pause();
                self.some_read();
            }
        }
    }

    /// A segment about the right edge of the window: before it, on it, over it, behind it.
    fn at_edge(&mut self) {
        let len = self.size();
        let offset = match self.rng.below(6) {
            0 => 0,
            1 => -i32::from(len as i16),
            2 => -(self.rng.below(u32::from(len) + 1) as i32),
            3 => 1 - i32::from(len as i16),
            4 => 1 + self.rng.below(5_000) as i32,
            _ => -1,
        };
        let flags = self.pick([ACK, ACK | PSH, FIN | ACK]);
        let len = if self.chance(20) { 0 } else { len };
        let segment = Segment { seq: Seq::Edge(offset), ..self.segment(flags, len) };
        self.put(segment);
    }

    /// Probes of the client's, as different stacks send them.
    fn probe_host(&mut self) {
        let before = self.next.wrapping_sub(1);
        let segment = match self.rng.below(4) {
            0 => Segment { seq: Seq::At(before), ..self.segment(ACK, 0) },
            1 => Segment { seq: Seq::At(before), ..self.segment(ACK, 1) },
            2 => self.segment(ACK, 1),
            _ => self.segment(ACK, 0),
        };
        self.put(segment);
    }

    /// The application writes, and the client's window is what it is.
    fn peers_window(&mut self) {
        let mss = self.smss();
        match self.rng.below(20) {
            0..5 => {
                let some = 1 + self.rng.below(6_000);
                let size = self.pick([1, 100, mss, mss + 1, 2 * mss, some, some, 8_000]);
                self.write(size);
            }
            5..8 => self.window_becomes(0),
            8..11 => {
                let some = self.rng.below(65_536) as u16;
                let small = 1 + self.rng.below(3_000) as u16;
                let window = self.pick([some, small, 1, 65_535, mss as u16, mss as u16 - 1, (mss / 2) as u16]);
                self.window_becomes(window);
            }
            11..14 => self.ack(),
            14 => {
                // A part is acknowledged, and the window stands where it stood, or not.
                let back = self.rng.below(4_000) as i32;
                let less = self.rng.below(3_000) as u16;
                self.window = self.window.saturating_sub(less);
                let segment = Segment { ack: Ack::Beside(-back), ..self.segment(ACK, 0) };
                self.put(segment);
            }
            15 => {
                // An old segment with another window.
                let window = self.rng.below(65_536) as u16;
                let segment = Segment { window, seq: Seq::At(self.next.wrapping_sub(1)), ..self.segment(ACK, 0) };
                self.put(segment);
            }
            16 => self.in_order(),
            17 => self.idle(200_000, 150_000),
            18 => self.idle(20_000, 100_000),
            _ => self.ask(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::case::{Action, Call};
    use super::*;

    #[test]
    fn windows_close_and_are_filled() {
        assert_eq!(tcp_window(5), tcp_window(5));
        let (mut closed, mut edges, mut options) = (0, 0, 0);
        for seed in 0..200 {
            for step in tcp_window(seed).steps {
                match step.action {
                    Action::Send(segment) => {
                        closed += u32::from(segment.window == 0);
                        edges += u32::from(matches!(segment.seq, Seq::Edge(_)));
                    }
                    Action::Call(Call::Stream(_, TcpCall::Set(..))) => options += 1,
                    _ => {}
                }
            }
        }
        assert!(closed > 100 && edges > 100 && options > 100, "{closed} {edges} {options}");
    }
}
