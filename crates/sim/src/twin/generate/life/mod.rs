//! The life of connections: how they begin, in what states they are met by what, and how they end.
//!
//! A case brings one connection, or a few, into a state by one of the ways that lead there, and then sends what the kind
//! is about. The application looks at what it is told: events, errors, the end of the stream.
//!
//! | file | cases |
//! |---|---|
//! | `open` | connections that the host opens, and every answer to its SYN |
//! | `listen` | listeners, their queues, and requests |
//! | `cookies` | handshakes of which nothing is remembered |
//! | `timewait` | TIME-WAIT, and what comes to it |
//! | `close` | both sides end, in every order, with and without data |
//! | `reset` | resets in every state, true, blind and by the application |
//! | `flags` | every combination of control bits in every state |
//! | `data` | reads, writes and acknowledgements of every size and relation |
//! | `memory` | receive buffers that run out |
//! | `window` | windows of both sides: buffers, readers, edges, probes |
//! | `sack` | what comes out of order, and a way that loses what the host sends |
//! | `urgent` | urgent pointers, and the calls for urgent bytes |
//!
//! `flow` is what the kinds about data have in common, `patience` what applications say about how long they wait.

mod close;
mod cookies;
mod data;
mod flags;
mod flow;
mod listen;
mod memory;
mod open;
mod patience;
mod reset;
mod sack;
mod timewait;
mod urgent;
mod window;

pub use self::close::tcp_close;
pub use self::cookies::tcp_cookies;
pub use self::data::tcp_data;
pub use self::flags::tcp_flags;
pub use self::listen::tcp_listen;
pub use self::memory::tcp_memory;
pub use self::open::tcp_open;
pub use self::reset::tcp_reset;
pub use self::sack::tcp_sack;
pub use self::timewait::tcp_timewait;
pub use self::urgent::tcp_urgent;
pub use self::window::tcp_window;

use std::net::SocketAddrV4;
use std::ops::{Deref, DerefMut};

use rxpath_core::cx::Rng;
use rxpath_wire::TcpFlags;

use self::patience::Waits;
use super::super::case::{
    Ack, Action, CLIENT_PORT, Call, Case, Defect, Echo, Host, Layout, Link, Peer, SERVER_PORT, Sack, Segment, Seq,
    Stamp, Step,
};
use super::super::frames::{CLIENT, CLIENT_MAC, SERVER};
use super::super::stream::{Direction, TcpCall};
use super::Script;

const SYN: u8 = TcpFlags::SYN.0;
const ACK: u8 = TcpFlags::ACK.0;
const PSH: u8 = TcpFlags::PSH.0;
const FIN: u8 = TcpFlags::FIN.0;
const RST: u8 = TcpFlags::RST.0;

/// So far away that it matters only on which side. Numbers are as far from the server's on both sides of a comparison, or
/// what lies ahead of one would lie behind the other.
const FAR: i32 = 0x4000_0000;

/// Number of the socket that listens.
const LISTENER: u8 = 0;
/// Number of the socket of the connection.
const SOCKET: u8 = 1;

/// A state that a connection is brought into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody listens.
    Closed,
    Listen,
    SynSent,
    SynRecv,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

impl Stage {
    const ALL: [Stage; 11] = [
        Stage::Closed,
        Stage::Listen,
        Stage::SynSent,
        Stage::SynRecv,
        Stage::Established,
        Stage::FinWait1,
        Stage::FinWait2,
        Stage::CloseWait,
        Stage::Closing,
        Stage::LastAck,
        Stage::TimeWait,
    ];
    /// Both sides have heard of each other.
    const OPEN: [Stage; 7] = [
        Stage::Established,
        Stage::FinWait1,
        Stage::FinWait2,
        Stage::CloseWait,
        Stage::Closing,
        Stage::LastAck,
        Stage::TimeWait,
    ];
}

/// A script about a connection.
struct Life {
    script: Script,
    seed: u64,
    /// Microseconds since the beginning, as far as the script decides them.
    elapsed: u64,
    /// The client's clock at the beginning, if it sends timestamps.
    clock: Option<u32>,
    mss: Option<u16>,
    wscale: Option<u8>,
    /// Window that the client advertises.
    window: u16,
    /// Ports of the connection: the client's and the server's.
    ports: (u16, u16),
    /// Next sequence number that the client has not used, relative to its first.
    next: u32,
    /// What the server has sent that the client does not acknowledge: its FIN.
    unacked: u32,
    /// A FIN was urgent, of which the kernel tells in `poll` where there is no byte to be urgent: that is not asked for.
    urgent_fin: bool,
    /// Draws of what the kinds did not have at first: apart, so that other cases stay what they were.
    later: Rng,
    /// What the application says about how long it waits.
    waits: Option<Waits>,
    /// The client opens fast.
    fast: bool,
}

impl Deref for Life {
    type Target = Script;

    fn deref(&self) -> &Script {
        &self.script
    }
}

impl DerefMut for Life {
    fn deref_mut(&mut self) -> &mut Script {
        &mut self.script
    }
}

impl Life {
    fn new(kind: &str, seed: u64) -> Life {
        let client = Peer { addr: CLIENT, mac: CLIENT_MAC.0 };
        let link = Link { addresses: vec![(SERVER, 24)], mtu: 1_500, peers: vec![client] };
        let mut script = Script::new(kind, seed, Host { links: vec![link], streams: true, ..Host::default() });
        // Nothing is remembered of a peer from one connection to the next.
        script.set("net.ipv4.tcp_no_metrics_save", 1);
        let clock = script.chance(60).then(|| script.rng.next_u64() as u32);
        let mss = script.pick([Some(1_460), Some(1_460), Some(1_200), Some(536), None]);
        let wscale = script.pick([None, Some(0), Some(7), Some(7), Some(10)]);
        let window = script.pick([65_535, 64_240, 29_200, 8_192, 5_000]);
        let later = Rng::new(seed ^ script.rng.clone().next_u64().rotate_left(32));
        Life {
            script,
            seed,
            elapsed: 0,
            clock,
            mss,
            wscale,
            window,
            ports: (CLIENT_PORT, SERVER_PORT),
            next: 0,
            unacked: 0,
            urgent_fin: false,
            later,
            waits: None,
            fast: false,
        }
    }

    fn case(self, quiet_us: u32) -> Case {
        self.script.case(self.seed, quiet_us)
    }

    // ---- steps ----

    /// Lets some time pass, often none.
    fn pause(&mut self) {
        let wait_us = match self.rng.below(20) {
            0..11 => 0,
            11..16 => 1_000 + self.rng.below(5_000),
            16..19 => 5_000 + self.rng.below(20_000),
            _ => 40_000 + self.rng.below(30_000),
        };
        let more_us = self.wait_more();
        self.pass(wait_us + more_us);
    }

    fn pass(&mut self, wait_us: u32) {
        self.elapsed += u64::from(wait_us);
        self.wait_us(wait_us);
    }

    fn step(&mut self, action: Action) {
        let wait_us = std::mem::take(&mut self.wait_us);
        self.steps.push(Step { wait_us, action });
    }

    fn put(&mut self, segment: Segment) {
        self.step(Action::Send(segment));
    }

    fn on(&mut self, socket: u8, call: TcpCall) {
        self.step(Action::Call(Call::Stream(socket, call)));
    }

    /// The application calls on the socket of the connection.
    fn app(&mut self, call: TcpCall) {
        self.on(SOCKET, call);
    }

    // ---- segments ----

    /// A segment of the connection, with the client's next sequence number, that acknowledges what the client has taken.
    fn segment(&self, flags: u8, len: u16) -> Segment {
        let echo = if flags & ACK == 0 { Echo::Number(0) } else { Echo::Latest };
        let stamp = self.clock.map(|clock| Stamp { tsval: clock.wrapping_add((self.elapsed / 1_000) as u32), echo });
        let (sport, dport) = self.ports;
        Segment {
            sport,
            dport,
            flags,
            seq: Seq::At(self.next),
            ack: if self.unacked == 0 { Ack::Latest } else { Ack::Beside(-(self.unacked as i32)) },
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

    /// The client's SYN, or its SYN-ACK.
    fn syn(&self, flags: u8) -> Segment {
        let ack = if flags & ACK == 0 { Ack::Number(0) } else { Ack::Latest };
        Segment { mss: self.mss, wscale: self.wscale, ack, seq: Seq::At(0), ..self.segment(SYN | flags, 0) }
    }

    /// Sends a segment in order.
    fn say(&mut self, flags: u8, len: u16) {
        let segment = self.segment(flags, len);
        self.put(segment);
        self.next += u32::from(len) + u32::from(flags & FIN != 0);
    }

    fn data_len(&mut self) -> u16 {
        let some = self.rng.below(1_400) as u16;
        self.pick([1, 10, 100, 536, 1 + some, 1_000])
    }

    // ---- the way into a state ----

    fn listen(&mut self, backlog: u32) {
        let port = self.ports.1;
        self.on(LISTENER, TcpCall::Listen(port, backlog));
    }

    fn connect(&mut self) {
        let (client, server) = self.ports;
        let to = SocketAddrV4::new(CLIENT, client);
        match self.waits {
            None => self.app(TcpCall::Connect(server, to)),
            Some(waits) => {
                self.app(TcpCall::ConnectWith(server, to, waits.patience));
                self.linger2(SOCKET);
            }
        }
    }

    /// The connection is established, from either side, and accepted.
    fn establish(&mut self) {
        if self.chance(30) {
            self.connect();
            self.pause();
            let synack = self.syn(ACK);
            self.put(synack);
            self.next = 1;
        } else {
            self.listen(5);
            self.wait_from(LISTENER);
            self.pause();
            let syn = self.syn(0);
            self.put(syn);
            self.next = 1;
            self.pause();
            self.say(ACK, 0);
            self.on(SOCKET, TcpCall::Accept(LISTENER));
            self.wait_from(SOCKET);
        }
    }

    /// The host ends its stream: what was written is followed by its FIN.
    fn host_ends(&mut self) {
        let call = if self.chance(50) { TcpCall::Shutdown(Direction::Write) } else { TcpCall::Close };
        self.app(call);
    }

    /// Brings the connection into a state; gives what the client has not acknowledged of the server's.
    fn reach(&mut self, stage: Stage) {
        match stage {
            Stage::Closed => {}
            Stage::Listen => self.listen(5),
            Stage::SynSent => self.connect(),
            Stage::SynRecv => {
                self.listen(5);
                let syn = self.syn(0);
                self.put(syn);
                self.next = 1;
            }
            _ => {
                self.establish();
                self.pause();
                self.talk();
                self.go_on(stage);
            }
        }
    }

    /// Some data in either direction, often none.
    fn talk(&mut self) {
        if self.chance(25) {
            let len = self.data_len();
            self.say(ACK | PSH, len);
            if self.chance(80) {
                self.app(TcpCall::Read(65_536));
            }
        }
        if self.chance(25) {
            let len = 1 + self.rng.below(2_000);
            self.app(TcpCall::Write(len));
            if self.chance(80) {
                self.pause();
                self.say(ACK, 0);
            }
        }
    }

    /// From ESTABLISHED on.
    fn go_on(&mut self, stage: Stage) {
        match stage {
            Stage::FinWait1 => {
                self.host_ends();
                self.unacked = 1;
            }
            Stage::FinWait2 => {
                self.host_ends();
                self.pause();
                self.say(ACK, 0);
            }
            Stage::CloseWait => self.say(FIN | ACK, 0),
            Stage::Closing => {
                self.host_ends();
                self.unacked = 1;
                self.pause();
                self.say(FIN | ACK, 0);
            }
            Stage::LastAck => {
                self.say(FIN | ACK, 0);
                self.pause();
                self.host_ends();
                self.unacked = 1;
            }
            Stage::TimeWait => {
                self.host_ends();
                self.pause();
                if self.chance(70) {
                    self.say(ACK, 0);
                    self.pause();
                }
                self.say(FIN | ACK, 0);
            }
            _ => {}
        }
    }

    /// The application looks at the socket.
    fn look(&mut self) {
        match self.rng.below(7) {
            0 | 1 if !self.urgent_fin => self.app(TcpCall::Poll),
            2 => self.app(TcpCall::TakeError),
            3 => {
                let size = self.pick([1, 100, 65_536]);
                self.app(TcpCall::Read(size));
            }
            4 => {
                let size = self.pick([1, 100, 3_000]);
                self.app(TcpCall::Write(size));
            }
            _ => {}
        }
    }

    /// The application looks at all that there is to see.
    fn look_well(&mut self) {
        for call in
            [TcpCall::Poll, TcpCall::Read(65_536), TcpCall::Read(65_536), TcpCall::Write(10), TcpCall::TakeError]
        {
            if self.chance(70) && !(self.urgent_fin && call == TcpCall::Poll) {
                self.app(call);
            }
        }
    }

    /// The client does not scale its windows: of a SYN-ACK that ends a crossed open the kernel does.
    fn unscaled(&mut self) {
        self.wscale = self.wscale.and(Some(0));
    }

    /// Long enough for timers of this many milliseconds, seldom.
    fn quiet(&mut self) -> u32 {
        let short = 20_000 + self.rng.below(80_000);
        let quiet_us = match self.rng.below(12) {
            0 => 700_000 + self.rng.below(300_000),
            1..4 => 250_000 + short,
            _ => short,
        };
        quiet_us + self.stay()
    }
}
