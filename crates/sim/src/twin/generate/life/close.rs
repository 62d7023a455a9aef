//! How connections end: `close` and `shutdown` on one side, FINs from the other, in every order, with data on its way in
//! both directions, data that nobody reads, and half-closed ones that go on.

use super::super::super::case::{Ack, Case, Segment, Seq};
use super::super::super::stream::{Direction, TcpCall};
use super::{ACK, FIN, Life, PSH, RST, Stage};

/// The case of a seed.
pub fn tcp_close(seed: u64) -> Case {
    let mut life = Life::new("tcp-close", seed);
    if life.chance(15) {
        let seconds = life.pick([0, 1, 1, 61, 90]);
        life.set("net.ipv4.tcp_fin_timeout", seconds);
    }
    if life.chance(5) {
        life.set("net.ipv4.tcp_max_tw_buckets", 0);
    }
    let stage = match life.rng.below(20) {
        0 => life.pick([Stage::SynSent, Stage::SynRecv, Stage::Listen]),
        1..4 => life.pick(Stage::OPEN),
        _ => Stage::Established,
    };
    life.may_wait(12);
    life.reach(stage);
    for _ in 0..3 + life.rng.below(9) {
        life.pause();
        life.may_wait_otherwise();
        match life.rng.below(20) {
            0..7 => life.application_ends(),
            7..9 => life.look(),
            _ => life.client_ends(),
        }
    }
    if life.chance(50) {
        life.look_well();
    }
    let quiet = life.quiet();
    life.case(quiet)
}

impl Life {
    /// The application goes towards the end.
    fn application_ends(&mut self) {
        let read = self.pick([1, 100, 65_536]);
        let written = self.pick([1, 100, 1_000, 4_000]);
        let call = match self.rng.below(16) {
            0..3 => TcpCall::Close,
            3..6 => TcpCall::Shutdown(Direction::Write),
            6 => TcpCall::Shutdown(Direction::Read),
            7 => TcpCall::Shutdown(Direction::Both),
            8 => TcpCall::LingerZero(true),
            9 => TcpCall::LingerZero(false),
            10..12 => TcpCall::Write(written),
            12..14 => TcpCall::Read(read),
            14 => TcpCall::Nodelay(true),
            _ => TcpCall::Poll,
        };
        self.app(call);
    }

    /// The client goes towards the end.
    fn client_ends(&mut self) {
        let len = self.data_len();
        match self.rng.below(24) {
            0..4 => self.say(FIN | ACK, 0),
            4..6 => self.say(FIN | ACK | PSH, len),
            6..11 => {
                self.unacked = 0;
                self.say(ACK, 0);
            }
            11..14 => self.say(ACK | PSH, len),
            14 => {
                // Without an acknowledgement of what came last, which may be a FIN.
                let segment = Segment { ack: Ack::Beside(-1), ..self.segment(FIN | ACK, 0) };
                self.put(segment);
                self.next += 1;
            }
            15 => {
                let segment = Segment { ack: Ack::Beside(-1), ..self.segment(ACK, len) };
                self.put(segment);
                self.next += u32::from(len);
            }
            16 => {
                // The FIN once more, or once too early.
                let by = self.pick([-1, 1, 1_000]);
                let seq = Seq::At(self.next.wrapping_add_signed(by));
                let segment = Segment { seq, ..self.segment(FIN | ACK, 0) };
                self.put(segment);
            }
            17 => {
                // Data behind a hole, with the end of the stream.
                let seq = Seq::At(self.next + 100);
                let segment = Segment { seq, ..self.segment(FIN | ACK, len) };
                self.put(segment);
            }
            18 => {
                // Old data again, and more.
                let seq = Seq::At(self.next.saturating_sub(u32::from(len) / 2).max(1));
                let segment = Segment { seq, ..self.segment(FIN | ACK, len) };
                self.put(segment);
            }
            19 => {
                self.window = self.pick([0, 0, 500, 65_535]);
                self.say(ACK, 0);
            }
            20 => self.say(RST, 0),
            21 => self.say(FIN, 0),
            22 => {
                let segment = Segment { ack: Ack::Beside(1), ..self.segment(FIN | ACK, 0) };
                self.put(segment);
            }
            _ => {
                let again = Segment { seq: Seq::At(self.next.saturating_sub(1)), ..self.segment(ACK, 0) };
                self.put(again);
            }
        }
    }
}
