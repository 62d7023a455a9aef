//! How a listener takes connections: several clients at once, queues of every length that fill and empty, third segments
//! right and wrong, resets and SYNs to requests, SYN-ACKs that are sent again, a listener that goes. Some listeners wait for
//! data, some share their port, some take the data of SYNs.

use super::super::super::case::{Ack, CLIENT_PORT, Case, Cookie, Echo, FastOpening, Segment, Seq};
use super::super::super::stream::{Knob, TcpCall};
use super::{ACK, FAR, FIN, LISTENER, Life, PSH, RST, SYN};

/// Clients of a case.
const CLIENTS: usize = 7;
/// Clients of a case whose listeners share a port: few, as which listener has them is chosen anew for each comparison.
const SHARED: usize = 3;
/// Numbers of the sockets that listen where there are several.
const GROUP: [u8; 3] = [LISTENER, 14, 15];
/// The key of Fast Open cookies.
const KEY: &str = "01234567-89abcdef-fedcba98-76543210";

/// What a listener has beyond the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trait {
    None,
    /// It gives connections once there is data.
    Defers,
    /// It says how often its SYN-ACKs are sent again.
    Counts,
    /// Its connections inherit how long they wait.
    Waits,
    /// It shares its port with one or two others.
    Shares(u8),
    /// It takes the data of SYNs.
    OpensFast,
}

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
    let of = life.listener_trait(cookies);
    life.listen_as(of, backlog);
    let mut clients = Clients { next: [0; CLIENTS], accepted: 0, cookies, of };
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
    life.late_turns(&mut clients);
    for _ in 0..life.rng.below(4) {
        clients.accept(&mut life);
    }
    life.look_well();
    let quiet = match (patient, cookies) {
        (true, _) => 1_200_000,
        (false, true) => 100_000,
        (false, false) => life.quiet(),
    };
    let more = if of == Trait::None || cookies { 0 } else { life.later_pick([0, 0, 1_200_000, 3_300_000]) };
    life.case(quiet + more)
}

/// What became of the clients.
struct Clients {
    /// Next sequence number of each.
    next: [u32; CLIENTS],
    accepted: u8,
    /// Some of them may have been sent cookies.
    cookies: bool,
    of: Trait,
}

impl Clients {
    fn accept(&mut self, life: &mut Life) {
        self.accepted = self.accepted % 10 + 1;
        let listener = life.one_of(self.of);
        life.on(self.accepted, TcpCall::Accept(listener));
    }
}

impl Life {
    fn listener_trait(&mut self, cookies: bool) -> Trait {
        let shared = 1 + self.later.below(2) as u8;
        match self.later.below(100) {
            0..8 => Trait::Defers,
            8..13 if !cookies => Trait::Counts,
            13..18 if !cookies => Trait::Waits,
            18..30 => Trait::Shares(shared),
            30..45 => Trait::OpensFast,
            _ => Trait::None,
        }
    }

    fn listen_as(&mut self, of: Trait, backlog: u32) {
        if let Trait::Shares(others) = of {
            if self.later_chance(30) {
                self.set("net.ipv4.tcp_migrate_req", 1);
            }
            let port = self.ports.1;
            for &number in &GROUP[..1 + usize::from(others)] {
                self.on(number, TcpCall::ListenShared(port, backlog));
            }
            return;
        }
        self.listen(backlog);
        match of {
            Trait::Defers => {
                let seconds = self.later_pick([1, 2, 4, 10]);
                self.on(LISTENER, TcpCall::Set(Knob::DeferAccept, seconds));
            }
            Trait::Counts => {
                let retries = self.later_pick([1, 2, 3]);
                self.on(LISTENER, TcpCall::Set(Knob::SynCount, retries));
            }
            Trait::Waits => {
                self.will_wait(true);
                self.wait_from(LISTENER);
            }
            Trait::OpensFast => {
                // Bits for clients and servers, for data without a cookie, for all listeners.
                let bits = self.later_pick([2, 2, 2, 3, 1, 0x202, 0x402, 0x602]);
                self.set("net.ipv4.tcp_fastopen", bits);
                self.host.sysctls.push(("net.ipv4.tcp_fastopen_key".to_owned(), KEY.to_owned()));
                let most = self.later_pick([0, 1, 2, 5, 5]);
                self.on(LISTENER, TcpCall::Set(Knob::FastOpen, most));
            }
            Trait::None | Trait::Shares(_) => {}
        }
    }

    /// The listener, or one of those that share its port.
    fn one_of(&mut self, of: Trait) -> u8 {
        match of {
            Trait::Shares(others) => GROUP[self.later.below(1 + u32::from(others)) as usize],
            _ => LISTENER,
        }
    }

    /// One of those that share a port goes, or comes anew.
    fn member_goes(&mut self, of: Trait) {
        let (member, port) = (self.one_of(of), self.ports.1);
        let call = self.later_pick([TcpCall::Close, TcpCall::Close, TcpCall::ListenShared(port, 1)]);
        self.on(member, call);
    }

    /// Where more than the usual matters, seconds later: data that was waited for, another member of a group that goes.
    fn late_turns(&mut self, clients: &mut Clients) {
        if clients.of == Trait::None || clients.cookies || !self.later_chance(40) {
            return;
        }
        if clients.of != Trait::OpensFast {
            let wait_us = self.later_pick([0, 1_100_000, 3_200_000]);
            self.pass(wait_us);
        }
        for _ in 0..1 + self.later.below(4) {
            let which = self.later.below(CLIENTS as u32) as usize;
            self.turn(clients, which);
        }
    }

    /// What a SYN says of Fast Open, and what it carries then.
    fn opens_fast(&mut self, syn: &mut Segment) {
        let cookie = match self.later.below(16) {
            0..3 => Cookie::Request,
            3..5 => Cookie::Spoilt,
            5 => Cookie::Cut(self.later_pick([4, 6, 7, 16, 18])),
            6 | 7 => return,
            _ => Cookie::Latest,
        };
        syn.fast_open = Some(FastOpening { cookie, experimental: self.later_chance(20) });
        if self.later_chance(65) {
            syn.len = self.later_pick([1, 20, 100, 1_000]);
        }
    }

    /// One of the clients does something, or the application.
    fn turn(&mut self, clients: &mut Clients, which: usize) {
        let which = if matches!(clients.of, Trait::Shares(_)) { which % SHARED } else { which };
        self.fast = clients.of == Trait::OpensFast;
        if matches!(clients.of, Trait::Shares(_)) && self.later_chance(7) {
            self.member_goes(clients.of);
        }
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
                match clients.of {
                    Trait::Shares(_) => self.member_goes(clients.of),
                    _ => self.on(LISTENER, call),
                }
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
        if self.fast {
            self.opens_fast(&mut syn);
        }
        let taken = if self.fast && self.later_chance(70) { u32::from(syn.len) } else { 0 };
        self.put(syn);
        self.next = self.next.max(1 + taken);
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
