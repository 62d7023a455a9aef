//! How the host opens connections: every answer to its SYN, right and wrong, with options that lie in any order, crossed
//! SYNs, errors that routers tell of, silence; and what its application does meanwhile.

use super::super::super::case::{Ack, Action, Case, Echo, Layout, Report, Segment, Seq};
use super::super::super::stream::{Direction, TcpCall};
use super::{ACK, FAR, FIN, Life, PSH, RST, SOCKET, SYN, Stage};

/// The case of a seed.
pub fn tcp_open(seed: u64) -> Case {
    let mut life = Life::new("tcp-open", seed);
    match life.rng.below(16) {
        0 => life.set("net.ipv4.tcp_timestamps", 0),
        1 => life.set("net.ipv4.tcp_window_scaling", 0),
        2 => life.set("net.ipv4.tcp_sack", 0),
        3 => life.set("net.ipv4.tcp_ecn", 1),
        4 => life.set("net.ipv4.tcp_ecn", 0),
        _ => {}
    }
    let patient = life.chance(6);
    if patient {
        life.set("net.ipv4.tcp_syn_linear_timeouts", 0);
        life.set("net.ipv4.tcp_syn_retries", 1);
    }
    life.may_wait(10);
    life.may_retry();
    life.reach(Stage::SynSent);
    // A round trip of some microseconds is as long as it takes to send, and whether more is worth waiting for hangs on that.
    life.pass(1_000);
    if patient {
        let wait_us = life.pick([1_100_000, 2_900_000, 3_200_000]);
        life.pass(wait_us);
        life.look_well();
    }
    for _ in 0..1 + life.rng.below(4) {
        life.pause();
        match life.rng.below(12) {
            0..7 => life.answer(),
            7 => life.crossing(),
            8 => life.refused(),
            9 => life.reported(),
            10 => life.impatient(),
            _ => life.look(),
        }
    }
    if life.chance(70) {
        life.pause();
        life.right_answer();
    }
    for _ in 0..life.rng.below(6) {
        life.pause();
        match life.rng.below(8) {
            0..2 => life.look(),
            2 => life.answer(),
            3 => life.say(ACK, 0),
            4 => life.say(ACK | PSH, 100),
            5 => life.app(TcpCall::Write(3_000)),
            6 => life.reported(),
            _ => life.say(FIN | ACK, 0),
        }
    }
    life.look_well();
    let quiet = if life.chance(6) { 1_150_000 } else { life.quiet() };
    life.case(quiet)
}

impl Life {
    /// The SYN-ACK that is hoped for.
    fn right_answer(&mut self) {
        let mut synack = self.syn(ACK);
        synack.layout = self.layout();
        self.put(synack);
        self.next = 1;
    }

    fn layout(&mut self) -> Layout {
        self.pick([
            Layout::Usual,
            Layout::Usual,
            Layout::Usual,
            Layout::Reversed,
            Layout::Unknown,
            Layout::BehindEnd,
            Layout::Doubled,
        ])
    }

    /// An answer with something about it.
    fn answer(&mut self) {
        let far = self.rng.next_u64() as u32;
        let near = 1 + self.rng.below(2_000) as i32;
        let mut answer = self.syn(ACK);
        answer.layout = self.layout();
        match self.rng.below(16) {
            0 => answer.ack = Ack::Beside(self.pick([-1, 1, near, -near])),
            1 => answer.ack = Ack::Beside(self.pick([FAR, -FAR])),
            2 => answer.len = self.pick([1, 100, 536]),
            3 => answer.flags |= FIN,
            4 => answer.flags |= self.pick([PSH, RST, FIN | PSH, PSH]),
            5 => answer.window = self.pick([0, 3_000, 1_000, 500, 100]),
            6 => answer.mss = self.pick([Some(0), Some(1), Some(64), Some(88), Some(65_535)]),
            7 => answer.wscale = self.pick([Some(14), Some(15), Some(255), None]),
            8 => answer.flags = self.pick([ACK, 0, FIN | ACK, PSH | ACK, FIN]),
            9 => answer.seq = Seq::At(self.pick([far, 5, 1])),
            _ => {}
        }
        if let Some(stamp) = &mut answer.stamp {
            match self.rng.below(10) {
                0 => stamp.echo = Echo::Number(0),
                1 => stamp.echo = Echo::Beside(self.pick([-1, -near, 1_000_000])),
                2 => stamp.echo = Echo::Beside(self.pick([FAR, -FAR])),
                3 => answer.stamp = None,
                _ => {}
            }
        }
        let (begins, fin) = (answer.flags & SYN != 0, answer.flags & FIN != 0);
        if begins && answer.ack == Ack::Latest && answer.seq == Seq::At(0) {
            self.next = 1 + if self.chance(50) { u32::from(answer.len) + u32::from(fin) } else { 0 };
        }
        self.put(answer);
    }

    /// The client opens, too.
    fn crossing(&mut self) {
        self.unscaled();
        let mut syn = self.syn(0);
        syn.layout = self.layout();
        syn.len = self.pick([0, 0, 0, 20]);
        if self.chance(20) {
            syn.flags |= self.pick([FIN, PSH, FIN | PSH]);
        }
        self.put(syn);
        self.next = 1;
        self.pause();
        match self.rng.below(6) {
            0 => self.say(ACK, 0),
            1 => self.say(ACK | PSH, 10),
            2 => {
                let again = self.syn(0);
                self.put(again);
            }
            3 => self.say(FIN | ACK, 0),
            4 => {}
            _ => {
                let synack = self.syn(ACK);
                self.put(synack);
            }
        }
    }

    fn refused(&mut self) {
        let by = self.pick([0, 0, 0, -1, 1, 1_000]);
        let flags = self.pick([RST | ACK, RST | ACK, RST, RST | ACK | SYN, RST | ACK | FIN]);
        let seq = self.pick([Seq::At(0), Seq::At(0x8000_0000), Seq::At(1)]);
        let segment = Segment { seq, ack: Ack::Beside(by), ..self.segment(flags, 0) };
        self.put(segment);
    }

    /// A router, or the client itself, tells of something.
    pub(super) fn reported(&mut self) {
        let (kind, code, rest) = match self.rng.below(12) {
            0..6 => (3, self.pick([0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]), 0),
            6 => (3, 4, self.pick([552, 700, 1_000, 1_400, 1_500])),
            7 => (11, self.rng.below(2) as u8, 0),
            8 => (12, 0, 0x0100_0000),
            9 => (4, 0, 0),
            10 => (5, 1, 0x0a09_0009),
            _ => (3, 3, 0),
        };
        let seq = match self.rng.below(8) {
            0 => Ack::Beside(self.pick([-2, -1, 0, 1_000])),
            1 => Ack::Beside(self.pick([FAR, -FAR])),
            _ => Ack::Beside(-1),
        };
        let (sport, dport) = self.ports;
        let quoted = self.pick([8, 8, 8, 20, 7, 4]);
        self.step(Action::Report(Report { kind, code, rest, sport, dport, seq, quoted }));
    }

    /// The application does not wait.
    fn impatient(&mut self) {
        let call = match self.rng.below(8) {
            0 => TcpCall::Close,
            1 => TcpCall::Shutdown(Direction::Write),
            2 => TcpCall::Shutdown(Direction::Read),
            3 => TcpCall::Write(100),
            4 => TcpCall::Read(100),
            5 => TcpCall::Nodelay(true),
            _ => TcpCall::Poll,
        };
        self.on(SOCKET, call);
    }
}
