//! Handshakes without a request: cookies because the queue is full, or always, or never; third segments that carry the
//! right one, a spoilt one, or one where none was sent; what comes of the options that the timestamp remembers.

use super::super::super::case::{Ack, CLIENT_PORT, Case, Echo, Segment, Seq};
use super::super::super::stream::TcpCall;
use super::{ACK, FAR, FIN, LISTENER, Life, PSH, RST};

/// Clients of a case.
const CLIENTS: usize = 5;

/// The case of a seed.
pub fn tcp_cookies(seed: u64) -> Case {
    let mut life = Life::new("tcp-cookies", seed);
    let mode = life.pick([2, 2, 2, 1, 1, 0]);
    life.set("net.ipv4.tcp_syncookies", mode);
    let kind = life.rng.below(10);
    // Where nothing is echoed the kernel forgets the offset of its timestamps, which nobody can follow unless there is none.
    let plain = kind == 1 || kind == 2;
    match kind {
        0 => life.set("net.ipv4.tcp_timestamps", 0),
        1 | 2 => life.set("net.ipv4.tcp_timestamps", 2),
        3 => life.set("net.ipv4.tcp_ecn", 1),
        4 => life.set("net.ipv4.tcp_window_scaling", 0),
        5 => life.set("net.ipv4.tcp_sack", 0),
        _ => {}
    }
    if life.chance(20) {
        life.set("net.ipv4.tcp_abort_on_overflow", 1);
    }
    let backlog = life.pick([0, 0, 1, 1, 3, 128]);
    life.listen(backlog);
    let (mut next, mut accepted) = ([0u32; CLIENTS], 0u8);
    for _ in 0..6 + life.rng.below(16) {
        life.pause();
        let which = life.rng.below(CLIENTS as u32) as usize;
        life.ports.0 = CLIENT_PORT + which as u16;
        life.next = next[which];
        match life.rng.below(20) {
            0..3 => {
                accepted = accepted % 8 + 1;
                life.on(accepted, TcpCall::Accept(LISTENER));
            }
            3 | 4 => {
                let socket = 1 + life.rng.below(4) as u8;
                let call = life.pick([TcpCall::Read(1_000), TcpCall::Poll, TcpCall::Poll, TcpCall::Close]);
                life.on(socket, call);
            }
            5 => life.spoilt_cookie(plain),
            _ if life.next == 0 => life.asks(),
            6 => life.asks(),
            7..10 => life.spoilt_cookie(plain),
            10 => {
                let reset = life.segment(RST | ACK, 0);
                life.put(reset);
            }
            11 => life.say(FIN | ACK, 0),
            12..15 => life.say(ACK | PSH, 100),
            _ => life.say(ACK, 0),
        }
        next[which] = life.next;
    }
    // A cookie's timestamp tells the round trip only roughly, by what the clock says at the time: nothing is sent again.
    for socket in 1..4 {
        life.on(socket, TcpCall::Write(400));
    }
    life.look_well();
    life.case(100_000)
}

impl Life {
    /// A SYN with options of its own.
    fn asks(&mut self) {
        let mut syn = self.syn(0);
        syn.mss =
            self.pick([None, Some(100), Some(536), Some(1_299), Some(1_300), Some(1_439), Some(1_440), Some(9_000)]);
        syn.wscale = self.pick([None, Some(0), Some(7), Some(14)]);
        if self.chance(10) {
            syn.stamp = None;
        }
        self.put(syn);
        self.next = 1;
    }

    /// A third segment whose cookie, sequence number or timestamp is not what was sent.
    fn spoilt_cookie(&mut self, plain: bool) {
        let near = 1 + self.rng.below(2_000) as i32;
        let len = self.pick([0, 0, 10]);
        let mut third = self.segment(ACK, len);
        match self.rng.below(6) {
            0 => third.ack = Ack::Beside(self.pick([0x0100_0000, -0x0100_0000, 0x0200_0000, near, -near, 8, -8])),
            1 => third.ack = Ack::Beside(self.pick([FAR, -FAR])),
            2 => third.seq = Seq::At(self.next.wrapping_add_signed(near)),
            3 => third.flags |= self.pick([PSH, FIN, RST]),
            _ => {}
        }
        if let Some(stamp) = &mut third.stamp {
            match self.rng.below(5) {
                0 if plain => stamp.echo = Echo::Number(0),
                1 => stamp.tsval = stamp.tsval.wrapping_sub(5_000),
                2 => third.stamp = None,
                _ => {}
            }
        }
        self.put(Segment { window: self.window, ..third });
    }
}
