//! Cases from seeds: plausible connections with implausible moments.
//!
//! The client never permits selective acknowledgements. It speaks mostly in order; now and then it leaves a gap and fills
//! it later, repeats itself, acknowledges what was never sent, changes its window, sends what is broken, resets or ends.
//! The application accepts, reads some, all or nothing, writes, shuts down and closes. Which of all that comes, and when,
//! follows from the seed.

use rxpath_core::cx::Rng;
use rxpath_wire::TcpFlags;

use super::super::case::{
    Ack, Action, CLIENT_PORT, CLOSED_PORT, Call, Case, Defect, Echo, Host, Layout, Link, Peer, SERVER_PORT, Sack,
    Segment, Seq, Stamp, Step,
};
use super::super::frames::{CLIENT, CLIENT_MAC, SERVER};

const SYN: u8 = TcpFlags::SYN.0;
const ACK: u8 = TcpFlags::ACK.0;
const PSH: u8 = TcpFlags::PSH.0;
const FIN: u8 = TcpFlags::FIN.0;
const RST: u8 = TcpFlags::RST.0;

/// The case of a seed: one connection, or only knocks at the door.
pub fn tcp_basic(seed: u64) -> Case {
    let mut script = Script::new(seed);
    match script.rng.below(100) {
        0..8 => script.knocks(),
        8..16 => script.bulk(),
        _ => script.connection(),
    }
    let quiet_us = 60_000 + script.rng.below(70_000);
    Case { seed, host: host(), steps: script.steps, quiet_us, watched: false }
}

/// One interface, and the client on its link.
fn host() -> Host {
    let client = Peer { addr: CLIENT, mac: CLIENT_MAC.0 };
    let link = Link { addresses: vec![(SERVER, 24)], mtu: 1_500, peers: vec![client] };
    Host { links: vec![link], serves: true, ..Host::default() }
}

/// A script that is being written.
struct Script {
    rng: Rng,
    steps: Vec<Step>,
    /// Microseconds since the beginning, as far as the script decides them.
    elapsed: u64,
    /// The client's clock at the beginning, if it sends timestamps.
    clock: Option<u32>,
    mss: Option<u16>,
    wscale: Option<u8>,
    /// Window that the client advertises.
    window: u16,
    /// Next sequence number that the client has not used, relative to its first.
    next: u32,
    /// What the client left out so far.
    gaps: Vec<(u32, u32)>,
    fin_sent: bool,
    /// Port that the next stray segment comes from.
    stray_port: u16,
    accepted: bool,
    over: bool,
}

impl Script {
    fn new(seed: u64) -> Script {
        let mut rng = Rng::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x7477_696e);
        let clock = (rng.below(10) < 6).then(|| rng.next_u64() as u32);
        let mss = [Some(1_460), Some(1_460), Some(1_460), Some(1_400), Some(1_200), Some(536), Some(300), None];
        let mss = mss[rng.below(8) as usize];
        let wscale = [None, None, None, Some(0), Some(2), Some(7), Some(7), Some(10), Some(14), Some(15)];
        let wscale = wscale[rng.below(10) as usize];
        let window = [65_535, 65_535, 64_240, 29_200, 8_192, 5_000][rng.below(6) as usize];
        Script {
            rng,
            steps: Vec::new(),
            elapsed: 0,
            clock,
            mss,
            wscale,
            window,
            next: 0,
            gaps: Vec::new(),
            fin_sent: false,
            stray_port: 50_000,
            accepted: false,
            over: false,
        }
    }

    // ---- the parts of a script ----

    /// A step after a random time, often none.
    fn step(&mut self, action: Action) {
        let wait_us = match self.rng.below(20) {
            0..8 => 0,
            8..14 => 1_000 + self.rng.below(5_000),
            14..18 => 5_000 + self.rng.below(25_000),
            _ => 30_000 + self.rng.below(30_000),
        };
        self.step_after(wait_us, action);
    }

    fn step_after(&mut self, wait_us: u32, action: Action) {
        self.elapsed += u64::from(wait_us);
        self.steps.push(Step { wait_us, action });
    }

    fn call(&mut self, call: Call) {
        self.step(Action::Call(call));
    }

    fn send(&mut self, segment: Segment) {
        self.step(Action::Send(segment));
    }

    /// A segment of the connection.
    fn segment(&self, flags: u8, seq: u32, len: u16) -> Segment {
        let echo = if flags & ACK == 0 { Echo::Number(0) } else { Echo::Latest };
        let stamp = self.clock.map(|clock| Stamp { tsval: clock.wrapping_add((self.elapsed / 1_000) as u32), echo });
        Segment {
            sport: CLIENT_PORT,
            dport: SERVER_PORT,
            flags,
            seq: Seq::At(seq),
            ack: Ack::Latest,
            window: self.window,
            mss: None,
            wscale: None,
            stamp,
            sack_permitted: false,
            sack: Sack::None,
            urgent: 0,
            fast_open: None,
            layout: Layout::Usual,
            len,
            tos: 0,
            defect: Defect::None,
        }
    }

    fn syn(&self) -> Segment {
        Segment { mss: self.mss, wscale: self.wscale, ack: Ack::Number(0), ..self.segment(SYN, 0, 0) }
    }

    /// Largest payload that the client sends.
    fn full(&self) -> u16 {
        if self.clock.is_some() { 1_448 } else { 1_460 }
    }

    fn data_len(&mut self) -> u16 {
        match self.rng.below(10) {
            0 => 1,
            1..4 => 1 + self.rng.below(100) as u16,
            4..6 => 100 + self.rng.below(500) as u16,
            6 => 536,
            7 => 600 + self.rng.below(800) as u16,
            _ => self.full(),
        }
    }

    // ---- whole scripts ----

    /// No connection comes of it.
    fn knocks(&mut self) {
        for _ in 0..4 + self.rng.below(10) {
            self.stray();
        }
    }

    /// A connection from its handshake to some end.
    fn connection(&mut self) {
        if self.rng.below(8) == 0 {
            self.stray();
        }
        self.handshake();
        for _ in 0..8 + self.rng.below(28) {
            if self.rng.below(3) == 0 {
                self.application();
            } else {
                self.client();
            }
            if self.over && self.rng.below(3) == 0 {
                break;
            }
        }
        self.ending();
    }

    /// Much data, and a reader that is slow or absent.
    fn bulk(&mut self) {
        self.handshake();
        if !self.accepted {
            self.accept();
        }
        let reads = [0, 0, 1, 3, 10][self.rng.below(5) as usize];
        let len = [self.full(), self.full(), 1_000, 536, 200, 60][self.rng.below(6) as usize];
        for _ in 0..20 + self.rng.below(90) {
            let pushed = if self.rng.below(4) == 0 { PSH } else { 0 };
            let segment = self.segment(ACK | pushed, self.next, len);
            let wait_us = if self.rng.below(5) == 0 { self.rng.below(4_000) } else { 0 };
            self.step_after(wait_us, Action::Send(segment));
            self.next += u32::from(len);
            if self.rng.below(10) < reads {
                let size = if self.rng.below(2) == 0 { 65_536 } else { 1 + self.rng.below(4_000) };
                self.step_after(0, Action::Call(Call::Read(size)));
            }
        }
        self.call(Call::Read(300_000));
        self.ending();
    }

    fn handshake(&mut self) {
        if self.rng.below(25) == 0 {
            let segment = Segment { defect: Defect::Checksum, ..self.syn() };
            self.send(segment);
        }
        let syn = self.syn();
        self.send(syn);
        self.next = 1;
        match self.rng.below(24) {
            0 => {
                let again = Segment { stamp: self.segment(SYN, 0, 0).stamp, ..self.syn() };
                self.send(again);
            }
            1 => {
                let ahead = self.rng.below(3_000) as i32 - 1_500;
                let wrong = Segment { ack: Ack::Beside(ahead), ..self.segment(ACK, 1, 0) };
                self.send(wrong);
            }
            2 => {
                let outside = self.segment(ACK, 200_000 + self.rng.clone().below(1_000_000), 0);
                self.send(outside);
            }
            3 => {
                let reset = self.segment(RST, 1 + self.rng.clone().below(2), 0);
                self.send(reset);
            }
            4 => {
                let other = Segment { mss: self.mss, ..self.segment(SYN, 1 + self.rng.clone().below(5_000), 0) };
                self.send(other);
            }
            5 => {
                let bare = Segment { ack: Ack::Number(0), ..self.segment(0, 1, 10) };
                self.send(bare);
            }
            _ => {}
        }
        let mut third = self.segment(ACK, 1, 0);
        if self.rng.below(8) == 0 {
            third.len = self.data_len();
            self.next += u32::from(third.len);
        }
        self.send(third);
        if self.rng.below(5) > 0 {
            self.accept();
        }
    }

    fn accept(&mut self) {
        self.call(Call::Accept);
        self.accepted = true;
    }

    // ---- the application ----

    fn application(&mut self) {
        if !self.accepted && self.rng.below(2) == 0 {
            return self.accept();
        }
        match self.rng.below(30) {
            0..8 => self.call(Call::Read(65_536)),
            8..14 => {
                let size = 1 + self.rng.below(2_000);
                self.call(Call::Read(size));
            }
            14..17 => self.call(Call::Read(1)),
            17..22 => {
                let size = 1 + self.rng.below(200);
                self.call(Call::Write(size));
            }
            22..25 => {
                let size = 500 + self.rng.below(2_500);
                self.call(Call::Write(size));
            }
            25 => {
                let size = 3_000 + self.rng.below(6_000);
                self.call(Call::Write(size));
            }
            26..28 => self.call(Call::ShutdownWrite),
            _ => {
                self.call(Call::Close);
                self.over = true;
            }
        }
    }

    // ---- the client ----

    fn client(&mut self) {
        match self.rng.below(100) {
            0..34 => self.in_order(),
            34..40 => self.burst(),
            40..47 => self.leave_gap(),
            47..54 => self.fill_gap(),
            54..61 => self.repeat(),
            61..68 => {
                let ack = self.segment(ACK, self.next, 0);
                self.send(ack);
            }
            68..74 => self.change_window(),
            74..79 => self.odd_ack(),
            79..85 => self.broken(),
            85..90 => self.beyond_window(),
            90..94 => self.odd_flags(),
            94..96 => self.old_stamp(),
            96..98 => self.stray(),
            _ => self.fin(),
        }
    }

    fn in_order(&mut self) {
        let len = self.data_len();
        let pushed = if self.rng.below(5) < 2 { PSH } else { 0 };
        let segment = self.segment(ACK | pushed, self.next, len);
        self.next += u32::from(len);
        self.send(segment);
    }

    /// Several full segments back to back.
    fn burst(&mut self) {
        for _ in 0..2 + self.rng.below(7) {
            let len = self.full();
            let segment = self.segment(ACK, self.next, len);
            self.next += u32::from(len);
            self.step_after(0, Action::Send(segment));
        }
    }

    fn leave_gap(&mut self) {
        let len = u32::from(self.data_len());
        self.gaps.push((self.next, self.next + len));
        self.next += len;
        self.in_order();
    }

    fn fill_gap(&mut self) {
        if self.gaps.is_empty() {
            return self.in_order();
        }
        let index = self.rng.below(self.gaps.len() as u32) as usize;
        let (from, to) = self.gaps.swap_remove(index);
        let segment = self.segment(ACK, from, (to - from) as u16);
        self.send(segment);
    }

    /// Old data, or old and new.
    fn repeat(&mut self) {
        let back = (1 + self.rng.below(2_000)).min(self.next.saturating_sub(1));
        let len = (1 + self.rng.below(1_400)) as u16;
        let from = self.next - back;
        let segment = self.segment(ACK, from, len);
        let end = from + u32::from(len);
        // What reaches into a gap only covers it: the gap is filled later all the same.
        self.next = self.next.max(end);
        self.send(segment);
    }

    fn change_window(&mut self) {
        self.window = match self.rng.below(5) {
            0 => 0,
            1 => 1 + self.rng.below(3_000) as u16,
            _ => self.rng.below(65_536) as u16,
        };
        let update = self.segment(ACK, self.next, 0);
        self.send(update);
    }

    /// Duplicates of the last acknowledgement, old ones, and such for what was never sent.
    fn odd_ack(&mut self) {
        match self.rng.below(4) {
            0..2 => {
                for _ in 0..1 + self.rng.below(4) {
                    let again = self.segment(ACK, self.next, 0);
                    self.step_after(0, Action::Send(again));
                }
            }
            2 => {
                let back = -(1 + self.rng.below(3_000) as i32);
                let old = Segment { ack: Ack::Beside(back), ..self.segment(ACK, self.next, 0) };
                self.send(old);
            }
            _ => {
                let ahead = 1 + self.rng.below(3_000) as i32;
                let len = if self.rng.below(2) == 0 { 0 } else { self.data_len() };
                let early = Segment { ack: Ack::Beside(ahead), ..self.segment(ACK, self.next, len) };
                self.send(early);
            }
        }
    }

    /// What does not get past validation.
    fn broken(&mut self) {
        let len = self.data_len();
        let mut segment = self.segment(ACK | PSH, self.next, len);
        segment.defect = match self.rng.below(4) {
            0..2 => Defect::Checksum,
            2 => Defect::Offset([0, 1, 4, 15][self.rng.below(4) as usize]),
            _ => Defect::Cut(self.rng.below(if self.clock.is_some() { 32 } else { 20 }) as u8),
        };
        self.send(segment);
    }

    fn beyond_window(&mut self) {
        let len = self.data_len();
        let offset = match self.rng.below(4) {
            0 => 0,
            1 => -(self.rng.below(u32::from(len) + 1) as i32),
            2 => 1 + self.rng.below(5_000) as i32,
            _ => 1_000_000 + self.rng.below(1_000_000) as i32,
        };
        let len = if self.rng.below(4) == 0 { 0 } else { len };
        let segment = Segment { seq: Seq::Edge(offset), ..self.segment(ACK, 0, len) };
        self.send(segment);
    }

    fn odd_flags(&mut self) {
        let inside = self.next + 1 + self.rng.below(3_000);
        let segment = match self.rng.below(8) {
            0 => self.segment(0, self.next, 20),
            1 => self.segment(SYN, inside, 0),
            2 => self.segment(SYN | ACK, self.next, 0),
            3 => self.segment(RST, inside, 0),
            4 => self.segment(RST | ACK, self.next.wrapping_sub(2_000), 0),
            5 => Segment { seq: Seq::Edge(10 + self.rng.below(1_000) as i32), ..self.segment(RST, 0, 0) },
            6 => self.segment(FIN | ACK, inside, 0),
            _ => {
                self.over = true;
                self.segment(RST, self.next, 0)
            }
        };
        self.send(segment);
    }

    /// A timestamp from the past, or an echo of what was never sent.
    fn old_stamp(&mut self) {
        let len = if self.rng.below(2) == 0 { 0 } else { self.data_len() };
        let mut segment = self.segment(ACK, self.next, len);
        if let Some(stamp) = &mut segment.stamp {
            if self.rng.below(2) == 0 {
                stamp.tsval = stamp.tsval.wrapping_sub(1 + self.rng.below(100_000));
            } else {
                stamp.echo = Echo::Beside(self.rng.below(2_000) as i32 - 1_000);
                self.next += u32::from(len);
            }
        }
        self.send(segment);
    }

    fn fin(&mut self) {
        let len = if self.rng.below(2) == 0 { 0 } else { self.data_len() };
        let segment = self.segment(FIN | ACK, self.next, len);
        self.next += u32::from(len);
        if !self.fin_sent {
            self.next += 1;
        }
        self.fin_sent = true;
        self.send(segment);
    }

    /// A segment that belongs to no connection.
    fn stray(&mut self) {
        self.stray_port += 1;
        let number = self.rng.next_u64() as u32;
        let (flags, len) = match self.rng.below(12) {
            0..3 => (SYN, 0),
            3..5 => (ACK, 0),
            5 => (ACK | PSH, self.data_len()),
            6 => (FIN | ACK, 0),
            7 => (RST, 0),
            8 => (RST | ACK, 0),
            9 => (0, self.data_len()),
            10 => (SYN | FIN, 0),
            _ => (SYN | ACK, 0),
        };
        let closed = self.rng.below(2) == 0;
        let bare_syn = flags == SYN && !closed;
        let defect = match self.rng.below(10) {
            0 => Defect::Checksum,
            1 => Defect::Cut(self.rng.below(24) as u8),
            // A request that nobody completes would be answered again after a second.
            _ if bare_syn => Defect::Checksum,
            _ => Defect::None,
        };
        let segment = Segment {
            sport: self.stray_port,
            dport: if closed { CLOSED_PORT } else { SERVER_PORT },
            seq: Seq::At(self.rng.next_u64() as u32),
            ack: Ack::Number(number),
            stamp: None,
            defect,
            ..self.segment(flags, 0, len)
        };
        self.send(segment);
    }

    // ---- endings ----

    fn ending(&mut self) {
        match self.rng.below(6) {
            0 => {}
            1 => {
                let reset = self.segment(RST | ACK, self.next, 0);
                self.send(reset);
                self.call(Call::Read(65_536));
                self.call(Call::Read(65_536));
                self.call(Call::Write(100));
            }
            2 => {
                self.call(Call::Close);
                let ack = self.segment(ACK, self.next, 0);
                self.send(ack);
                self.fin();
                let ack = self.segment(ACK, self.next, 0);
                self.send(ack);
            }
            3 => {
                self.fin();
                self.call(Call::Read(65_536));
                self.call(Call::Read(65_536));
                self.call(Call::Close);
                let ack = self.segment(ACK, self.next, 0);
                self.send(ack);
            }
            4 => {
                self.call(Call::ShutdownWrite);
                self.fin();
                let ack = self.segment(ACK, self.next, 0);
                self.send(ack);
                self.call(Call::Read(65_536));
                self.call(Call::Close);
            }
            _ => {
                self.call(Call::Close);
                self.in_order();
                self.fin();
            }
        }
        for _ in 0..self.rng.below(4) {
            self.client();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_case() {
        assert_eq!(tcp_basic(3), tcp_basic(3));
        assert_ne!(tcp_basic(3).steps, tcp_basic(4).steps);
    }

    #[test]
    fn cases_are_short_and_varied() {
        let (mut sends, mut calls, mut broken, mut ends) = (0, 0, 0, 0);
        for seed in 0..500 {
            let case = tcp_basic(seed);
            let us: u64 = case.steps.iter().map(|step| u64::from(step.wait_us)).sum();
            assert!(us < 3_000_000, "seed {seed} lasts {us} us");
            for step in &case.steps {
                match &step.action {
                    Action::Send(segment) => {
                        sends += 1;
                        broken += u32::from(segment.defect != Defect::None);
                        ends += u32::from(segment.flags & (FIN | RST) != 0);
                        assert!(segment.mss.is_none() || segment.flags & SYN != 0);
                    }
                    Action::Call(_) => calls += 1,
                    Action::Frame { .. } | Action::Report(_) => panic!("seed {seed}: no segment"),
                }
            }
        }
        assert!(sends > 5_000 && calls > 2_000 && broken > 200 && ends > 400, "{sends} {calls} {broken} {ends}");
    }
}
