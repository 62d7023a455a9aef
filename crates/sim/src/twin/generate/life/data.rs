//! Data in both directions: reads and writes of every size and flag, acknowledgements that are delayed or not, and of every
//! relation to what was sent, timestamps, and what the host sends again.

use rxpath_core::cx::Rng;

use super::super::super::case::{Ack, Action, Arrival, Case, Defect, Echo, Report, Segment};
use super::super::super::stream::{Fact, Knob, TcpCall};
use super::flow::Flow;
use super::{ACK, FIN, PSH};

/// The case of a seed.
pub fn tcp_data(seed: u64) -> Case {
    let mut flow = Flow::new("tcp-data", seed);
    if flow.chance(10) {
        let lowat = flow.pick([1, 1_000, 20_000]);
        flow.set("net.ipv4.tcp_notsent_lowat", lowat);
    }
    if flow.chance(10) {
        flow.set("net.ipv4.tcp_slow_start_after_idle", 0);
    }
    let options = flow.data_options();
    flow.open(&options);
    if flow.chance(30) {
        flow.app(TcpCall::Nodelay(true));
    }
    flow.has_corks();
    let rounds = 10 + flow.rng.below(24);
    let mut silences = Rng::new(seed.rotate_left(17));
    // Once at the most: a peer that has said nothing for five seconds is asked for by ARP.
    let silent_in = if silences.below(3) == 0 { silences.below(rounds) } else { rounds };
    for round in 0..rounds {
        flow.cork();
        match flow.rng.below(10) {
            0..3 => flow.data_comes(),
            3..5 => flow.data_read(),
            5..7 => flow.data_written(),
            7..9 => flow.data_acked(),
            _ => flow.data_option(),
        }
        if round == silent_in {
            flow.silence(&mut silences);
        }
        flow.pause();
    }
    flow.ending();
    let quiet_us = flow.quiet();
    flow.case(quiet_us)
}

impl Flow {
    fn data_options(&mut self) -> Vec<(Knob, u32)> {
        let some = self.rng.below(100_000);
        let size = self.pick([536, 1_000, 88, 1_400]);
        match self.rng.below(12) {
            0 => vec![(Knob::SendBuffer, some)],
            1 if self.mss.is_some() => vec![(Knob::MaxSegment, size)],
            2 => vec![(Knob::RecvLowat, some / 10)],
            3 => vec![(Knob::NotsentLowat, some)],
            _ => vec![],
        }
    }

    fn data_comes(&mut self) {
        match self.rng.below(12) {
            0..5 => self.in_order(),
            5..7 => {
                let (count, len) = (1 + self.rng.below(6), self.size());
                self.burst(count, len);
            }
            7 => self.leave_gap(),
            8 => self.fill_gap(),
            9 => self.repeat(2_000),
            10 => self.old_stamp(),
            _ if self.chance(20) => self.fin(),
            _ => self.in_order(),
        }
    }

    fn old_stamp(&mut self) {
        let len = if self.chance(50) { 0 } else { self.size() };
        let mut segment = self.segment(ACK, len);
        if let Some(stamp) = &mut segment.stamp {
            match self.rng.below(4) {
                0 => stamp.tsval = stamp.tsval.wrapping_sub(1 + self.rng.below(100_000)),
                1 => stamp.tsval = stamp.tsval.wrapping_sub(1),
                2 => {
                    stamp.echo = Echo::Beside(self.rng.below(2_000) as i32 - 1_000);
                    self.next += u32::from(len);
                }
                _ => {
                    stamp.echo = Echo::Number(0);
                    self.next += u32::from(len);
                }
            }
        }
        self.put(segment);
    }

    fn data_read(&mut self) {
        if self.chance(25) {
            return self.ask();
        }
        self.some_read();
    }

    fn data_written(&mut self) {
        let mss = self.smss();
        let some = 1 + self.rng.below(8_000);
        let small = 1 + self.rng.below(300);
        let size = self.pick([1, small, small, mss, mss - 1, mss + 1, 2 * mss, some, some, 4 * mss, 6 * mss, 8_000]);
        self.write(size);
    }

    fn data_acked(&mut self) {
        match self.rng.below(14) {
            0..5 => self.ack(),
            5..8 => {
                let come = 1 + self.rng.below(3) as u8;
                self.ack_arrived(Arrival { come, ..Arrival::default() });
            }
            8 => {
                for _ in 0..1 + self.rng.below(4) {
                    self.ack_arrived(Arrival::default());
                }
            }
            9 => {
                let offset = self.pick([-1, -1_000, -5_000, -100_000, 1, 1_000, 100_000]);
                let len = if self.chance(50) { 0 } else { self.size() };
                let flags = self.pick([ACK, ACK | PSH, ACK | FIN]);
                let odd = Segment { ack: Ack::Beside(offset), ..self.segment(flags, len) };
                self.put(odd);
            }
            10 => {
                let window = self.pick([0, 100, 5_000, 65_535]);
                self.window_becomes(window);
            }
            11 => self.idle(200_000, 150_000),
            12 => {
                self.ack_arrived(Arrival { lost: 1, come: 1, late: 0 });
                for _ in 0..self.rng.below(5) {
                    self.ack_arrived(Arrival { come: 1, ..Arrival::default() });
                }
            }
            _ => {
                let broken = Segment { defect: Defect::Checksum, ..self.segment(ACK, 100) };
                self.put(broken);
            }
        }
    }

    /// The client says nothing to some data, and routers say why.
    fn silence(&mut self, draws: &mut Rng) {
        self.write(1 + draws.below(2_000));
        for _ in 0..1 + draws.below(3) {
            self.pass(100_000 + draws.below(800_000));
            let (kind, code) =
                [(3, 0), (3, 1), (3, 1), (3, 0), (3, 1), (3, 5), (3, 13), (11, 0)][draws.below(8) as usize];
            let seq = match draws.below(5) {
                0 => Ack::Beside(-1),
                1 => Ack::Beside(0),
                _ => Ack::Arrived(Arrival::default()),
            };
            let (sport, dport) = self.ports;
            self.step(Action::Report(Report { kind, code, rest: 0, sport, dport, seq, quoted: 8 }));
            self.app(TcpCall::Ask(Fact::Info));
        }
    }

    fn data_option(&mut self) {
        let some = self.rng.below(60_000);
        let on = u32::from(self.chance(50));
        let call = match self.rng.below(9) {
            0 => TcpCall::Set(Knob::SendBuffer, some),
            1 => TcpCall::Set(Knob::Quickack, on),
            2 => TcpCall::Set(Knob::RecvLowat, some / 10),
            3 => TcpCall::Set(Knob::NotsentLowat, some),
            4 => TcpCall::Nodelay(on != 0),
            5 => TcpCall::Ask(Fact::Option(Knob::SendBuffer)),
            6 => TcpCall::Ask(Fact::Option(Knob::MaxSegment)),
            7 => TcpCall::Ask(Fact::Option(Knob::Quickack)),
            _ => TcpCall::Ask(Fact::Unsent),
        };
        self.app(call);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::case::Call;
    use super::*;

    #[test]
    fn data_goes_both_ways() {
        assert_eq!(tcp_data(5), tcp_data(5));
        let (mut came, mut written, mut read, mut corked, mut reported) = (0, 0, 0, 0, 0);
        for seed in 0..200 {
            for step in &tcp_data(seed).steps {
                match &step.action {
                    Action::Send(segment) => came += u32::from(segment.len > 0),
                    Action::Report(_) => reported += 1,
                    Action::Call(Call::Stream(_, TcpCall::Write(_) | TcpCall::Send(..))) => written += 1,
                    Action::Call(Call::Stream(_, TcpCall::Cork(_))) => corked += 1,
                    Action::Call(Call::Stream(_, TcpCall::Read(_) | TcpCall::Recv(..))) => read += 1,
                    _ => {}
                }
            }
        }
        assert!(came > 800 && written > 400 && read > 400, "{came} {written} {read}");
        assert!(corked > 200 && reported > 100, "{corked} {reported}");
    }
}
