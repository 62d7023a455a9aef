//! How a listener takes connections: several clients at once, queues of every length that fill and empty, third segments
//! right and wrong, resets and SYNs to requests, SYN-ACKs that are sent again, a listener that goes.

use super::super::super::case::{Ack, CLIENT_PORT, Case, Echo, Segment, Seq};
use super::super::super::stream::TcpCall;
use super::{ACK, FAR, FIN, LISTENER, Life, PSH, RST, SYN};

/// Clients of a case.
const CLIENTS: usize = 7;

/// The case of a seed.
pub fn tcp_listen(seed: u64) -> Case {
    let mut life = Life::new("tcp-listen", seed);
    if life.chance(30) {
        life.set("net.ipv4.tcp_abort_on_overflow", 1);
    }
    let cookies = !life.chance(40);
    if !cookies {
        life.set("net.ipv4.tcp_syncookies", 0);
        if life.chance(50) {
            let most = life.pick([1, 2, 4, 8]);
            life.set("net.ipv4.tcp_max_syn_backlog", most);
        }
    } else {
        life.set("net.ipv4.tcp_syncookies", 1);
    }
    // The round trip that a cookie's timestamp tells hangs on the clock: with cookies nothing is sent again.
    let patient = !cookies && life.chance(14);
    if patient {
        let retries = life.pick([0, 1, 2]);
        life.set("net.ipv4.tcp_synack_retries", retries);
    }
    let backlog = life.pick([0, 0, 1, 1, 2, 3, 5, 128]);
    life.listen(backlog);
    let mut clients = Clients { next: [0; CLIENTS], accepted: 0, cookies };
    for _ in 0..5 + life.rng.below(20) {
        life.pause();
        let which = life.rng.below(CLIENTS as u32) as usize;
        life.turn(&mut clients, which);
    }
    if patient {
        life.pass(1_150_000);
        let which = life.rng.below(CLIENTS as u32) as usize;
        life.turn(&mut clients, which);
    }
    for _ in 0..life.rng.below(4) {
        clients.accept(&mut life);
    }
    life.look_well();
    let quiet = match (patient, cookies) {
        (true, _) => 1_200_000,
        (false, true) => 100_000,
        (false, false) => life.quiet(),
    };
    life.case(quiet)
}

/// What became of the clients.
struct Clients {
    /// Next sequence number of each.
    next: [u32; CLIENTS],
    accepted: u8,
    /// Some of them may have been sent cookies.
    cookies: bool,
}

impl Clients {
    fn accept(&mut self, life: &mut Life) {
        self.accepted = self.accepted % 10 + 1;
        life.on(self.accepted, TcpCall::Accept(LISTENER));
    }
}

impl Life {
    /// One of the clients does something, or the application.
    fn turn(&mut self, clients: &mut Clients, which: usize) {
        self.ports.0 = CLIENT_PORT + which as u16;
        self.next = clients.next[which];
        match self.rng.below(24) {
            0..3 => clients.accept(self),
            3 => {
                let socket = 1 + self.rng.below(4) as u8;
                let write = if clients.cookies { TcpCall::TakeError } else { TcpCall::Write(100) };
                let call = self.pick([TcpCall::Read(1_000), TcpCall::Poll, write, TcpCall::Close]);
                self.on(socket, call);
            }
            4 if self.chance(15) => {
                let port = self.ports.1;
                let call = self.pick([TcpCall::Close, TcpCall::Close, TcpCall::Listen(port, 1)]);
                self.on(LISTENER, call);
            }
            _ if self.next == 0 => self.knock(),
            5..7 => self.knock(),
            7..9 => self.odd_third(),
            9 => self.resets_request(),
            10 => self.reported(),
            11 => self.say(FIN | ACK, 0),
            12..15 => self.say(ACK | PSH, 10),
            _ => self.say(ACK, 0),
        }
        clients.next[which] = self.next;
    }

    /// A SYN, for the first time or again.
    fn knock(&mut self) {
        let mut syn = self.syn(0);
        match self.rng.below(12) {
            0 => syn.flags |= self.pick([PSH, FIN, ACK, RST]),
            1 => syn.len = 20,
            2 => syn.seq = Seq::At(self.pick([1, 1_000, 0x8000_0000])),
            3 => syn.stamp = None,
            4 => syn.window = 0,
            _ => {}
        }
        self.put(syn);
        self.next = self.next.max(1);
    }

    /// A third segment that is not quite right.
    fn odd_third(&mut self) {
        let near = 1 + self.rng.below(2_000) as i32;
        let far = self.rng.next_u64() as u32;
        let mut third = self.segment(ACK, 0);
        match self.rng.below(8) {
            0 => third.ack = Ack::Beside(self.pick([-1, 1, near, -near])),
            1 => third.ack = Ack::Beside(self.pick([FAR, -FAR])),
            2 => third.seq = Seq::At(self.next.wrapping_add_signed(self.pick([-1, 1, near]))),
            3 => third.seq = Seq::At(far),
            4 => third.flags = self.pick([0, SYN | ACK, PSH, FIN]),
            5 => third.len = 100,
            _ => {}
        }
        if let Some(stamp) = &mut third.stamp {
            match self.rng.below(6) {
                0 => stamp.tsval = stamp.tsval.wrapping_sub(1_000),
                1 => stamp.echo = Echo::Beside(self.pick([-1, 1, near, -near])),
                2 => third.stamp = None,
                _ => {}
            }
        }
        self.put(third);
    }

    fn resets_request(&mut self) {
        let by = self.pick([0, 0, 0, -1, 1, 1_000]);
        let flags = self.pick([RST, RST | ACK]);
        let segment = Segment { seq: Seq::At(self.next.wrapping_add_signed(by)), ..self.segment(flags, 0) };
        self.put(segment);
    }
}
