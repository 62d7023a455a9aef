//! Segments that are taken straight from the ring have the same outcome, to the last counter and to the last frame sent,
//! as segments that go the whole way. Who records lives sees every packet, so that recording switches the streak off.

use std::sync::Arc;

use rxpath_trace::{Counter, LedgerSnapshot, Selector, Snapshot};

use super::lab::{ACK, Lab, PSH_ACK, Peer, Sent};
use crate::cx::Rng;
use crate::socket::Sock;

/// What the peers do in one step.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// A segment of this flow and length.
    Data { flow: usize, len: usize, pushed: bool },
    /// The same with something wrong or unusual.
    Odd { flow: usize, len: usize, odd: Odd },
    /// What was written is processed.
    Run,
    /// The application reads at most so many bytes.
    Read { flow: usize, want: usize },
    /// Milliseconds pass.
    Wait(u64),
    /// The peer's timestamps move on.
    Tick(usize),
}

#[derive(Clone, Copy, Debug)]
enum Odd {
    IpChecksum,
    TcpChecksum,
    Tos,
    Window,
    Repeated,
    Gap,
    Padded,
}

fn acts(rng: &mut Rng) -> Vec<Act> {
    let sizes = [1usize, 10, 64, 100, 256, 257, 536, 1_448];
    let favourite = sizes[rng.below(8) as usize];
    let odds = [Odd::IpChecksum, Odd::TcpChecksum, Odd::Tos, Odd::Window, Odd::Repeated, Odd::Gap, Odd::Padded];
    let mut flow = 0;
    (0..150)
        .map(|_| {
            if rng.below(12) == 0 {
                flow = 1 - flow;
            }
            let len = if rng.below(15) == 0 { sizes[rng.below(8) as usize] } else { favourite };
            match rng.below(60) {
                0 => Act::Odd { flow, len, odd: odds[rng.below(7) as usize] },
                1..=3 => Act::Run,
                4 => Act::Read { flow, want: 1 + rng.below(20_000) as usize },
                5 => Act::Wait(u64::from(rng.below(60))),
                6 => Act::Tick(flow),
                n => Act::Data { flow, len, pushed: n == 7 },
            }
        })
        .collect()
}

/// Everything that can be seen of a run.
#[derive(Debug, PartialEq)]
struct Seen {
    read: Vec<Vec<u8>>,
    sent: Vec<Sent>,
    counters: Snapshot,
    ledger: LedgerSnapshot,
}

struct World {
    lab: Lab,
    peers: Vec<Peer>,
    socks: Vec<Arc<Sock>>,
    read: Vec<Vec<u8>>,
    sent: Vec<Sent>,
    written: usize,
}

impl World {
    fn new(lives: Selector, stamped: bool) -> World {
        let mut lab = Lab::with(|config| {
            config.interfaces[0].gro = false;
            config.lives = lives;
        });
        let listener = lab.listen(80, 8);
        let mut peers: Vec<Peer> = (0..2).map(|n| Peer::new(40_000 + n, 80)).collect();
        for peer in &mut peers {
            peer.stamps = stamped.then_some((1_000, 0));
        }
        let socks = peers.iter_mut().map(|peer| peer.connect(&mut lab, &listener)).collect();
        World { lab, peers, socks, read: vec![Vec::new(); 2], sent: Vec::new(), written: 0 }
    }

    fn frame(&mut self, flow: usize, len: usize, pushed: bool) -> Vec<u8> {
        self.written += 1;
        let payload: Vec<u8> = (0..len).map(|at| (self.written * 31 + at) as u8).collect();
        let repr = self.peers[flow].repr(if pushed { PSH_ACK } else { ACK });
        let frame = self.lab.frame(repr, &payload);
        self.peers[flow].seq += len as u32;
        frame
    }

    fn put(&mut self, frame: &[u8]) {
        // A ring of 256 with room for what one act writes.
        if self.written.is_multiple_of(100) {
            self.run();
        }
        self.lab.put(frame);
    }

    fn run(&mut self) {
        self.lab.run();
        while let Some(sent) = self.lab.sent() {
            self.peers[usize::from(sent.dport - 40_000)].note(&sent);
            self.sent.push(sent);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Data { flow, len, pushed } => {
                let frame = self.frame(flow, len, pushed);
                self.put(&frame);
            }
            Act::Odd { flow, len, odd } => self.odd(flow, len, odd),
            Act::Run => self.run(),
            Act::Read { flow, want } => {
                self.run();
                if let Ok(data) = self.lab.recv(&self.socks[flow], want) {
                    self.read[flow].extend(data);
                }
                self.run();
            }
            Act::Wait(ms) => {
                self.lab.wait(ms);
                self.run();
            }
            Act::Tick(flow) => {
                if let Some((tsval, _)) = &mut self.peers[flow].stamps {
                    *tsval += 1;
                }
            }
        }
    }

    fn odd(&mut self, flow: usize, len: usize, odd: Odd) {
        let before = self.peers[flow].seq;
        let mut frame = self.frame(flow, len, false);
        match odd {
            Odd::IpChecksum => frame[24] ^= 1,
            Odd::TcpChecksum => frame[50] ^= 1,
            Odd::Tos => {
                // ECT(0), with the header's checksum right.
                frame[15] = 2;
                let sum = u16::from_be_bytes([frame[24], frame[25]]);
                frame[24..26].copy_from_slice(&rxpath_arch::csum::update(sum, 0x4500, 0x4502).to_be_bytes());
            }
            Odd::Window => {
                self.peers[flow].seq = before;
                self.peers[flow].window -= 1;
                frame = self.frame(flow, len, false);
            }
            Odd::Repeated => self.put(&frame.clone()),
            Odd::Gap => {
                let next = self.frame(flow, len, false);
                self.put(&next);
            }
            Odd::Padded => frame.extend([0; 4]),
        }
        self.put(&frame);
        if matches!(odd, Odd::IpChecksum | Odd::TcpChecksum) {
            self.peers[flow].seq = before;
        }
    }

    fn finish(mut self) -> Seen {
        self.run();
        for flow in 0..2 {
            while let Ok(data) = self.lab.recv(&self.socks[flow], 10_000) {
                self.read[flow].extend(data);
            }
        }
        self.lab.wait(1_000);
        self.run();
        let (counters, ledger) = (self.lab.stack.snapshot(), self.lab.stack.ledger());
        Seen { read: self.read, sent: self.sent, counters, ledger }
    }
}

fn run(lives: Selector, stamped: bool, acts: &[Act]) -> Seen {
    let mut world = World::new(lives, stamped);
    for act in acts {
        world.act(*act);
    }
    world.finish()
}

#[test]
fn a_streak_has_the_outcome_of_packets_that_go_the_whole_way() {
    let mut copied = 0;
    for seed in 0..300 {
        let acts = acts(&mut Rng::new(seed));
        let stamped = seed % 2 == 1;
        let (streak, whole) = (run(Selector::Off, stamped, &acts), run(Selector::All, stamped, &acts));
        assert!(streak.read == whole.read, "seed {seed}: other bytes were read");
        assert_eq!(streak.sent, whole.sent, "seed {seed}");
        // The one thing in which they differ: a streak copies short payloads behind each other.
        let seen = |counters: &Snapshot| -> Vec<(Counter, u64)> {
            counters.nonzero().filter(|&(counter, _)| counter != Counter::CopiedCoalesce).collect()
        };
        assert_eq!(seen(&streak.counters), seen(&whole.counters), "seed {seed}");
        assert_eq!(streak.ledger, whole.ledger, "seed {seed}");
        copied += streak.counters[Counter::CopiedCoalesce];
    }
    assert!(copied > 300_000, "only {copied} bytes came by a streak of short segments");
}
