//! Short ways have the same outcome, to the last counter and to the last frame sent, as the whole way: segments that are
//! taken straight from the ring, merged packets whose flow is known, acknowledgements that are as the one before. Who
//! records lives sees every packet, so that recording switches all of them off.

use std::sync::Arc;

use rxpath_trace::{Counter, LedgerSnapshot, Selector, Snapshot};

use super::lab::{ACK, Lab, PSH_ACK, Peer};
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
    /// The application writes so many bytes.
    Write { flow: usize, len: usize },
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
                7 => Act::Write { flow, len: 1 + rng.below(3_000) as usize },
                n => Act::Data { flow, len, pushed: n == 8 },
            }
        })
        .collect()
}

/// Everything that can be seen of a run.
#[derive(Debug, PartialEq)]
struct Seen {
    read: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    counters: Snapshot,
    ledger: LedgerSnapshot,
}

struct World {
    lab: Lab,
    peers: Vec<Peer>,
    socks: Vec<Arc<Sock>>,
    read: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    written: usize,
}

impl World {
    fn new(lives: Selector, way: Way) -> World {
        let mut lab = Lab::with(|config| {
            config.interfaces[0].gro = way.gro;
            config.lives = lives;
        });
        let listener = lab.listen(80, 8);
        let mut peers: Vec<Peer> = (0..2).map(|n| Peer::new(40_000 + n, 80)).collect();
        for peer in &mut peers {
            peer.stamps = way.stamped.then_some((1_000, 0));
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
        while let Some((sent, frame)) = self.lab.sent_as_frame() {
            let peer = &mut self.peers[usize::from(sent.dport - 40_000)];
            peer.note(&sent);
            if sent.seq == peer.ack {
                peer.ack += sent.payload.len() as u32;
            }
            self.sent.push(frame);
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
            Act::Write { flow, len } => {
                self.lab.send(&self.socks[flow], &vec![flow as u8; len]);
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

/// How segments come.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// They are merged.
    gro: bool,
    /// They have timestamps.
    stamped: bool,
}

fn run(lives: Selector, way: Way, acts: &[Act]) -> Seen {
    let mut world = World::new(lives, way);
    for act in acts {
        world.act(*act);
    }
    world.finish()
}

#[test]
fn short_ways_have_the_outcome_of_the_whole_way() {
    let mut copied = [0; 2];
    for seed in 0..600 {
        let acts = acts(&mut Rng::new(seed));
        let way = Way { stamped: seed % 2 == 1, gro: seed % 4 >= 2 };
        let (short, whole) = (run(Selector::Off, way, &acts), run(Selector::All, way, &acts));
        assert!(short.read == whole.read, "seed {seed}: other bytes were read");
        assert_eq!(short.sent, whole.sent, "seed {seed}");
        // The one thing in which they differ: a streak copies short payloads behind each other.
        let seen = |counters: &Snapshot| -> Vec<(Counter, u64)> {
            counters.nonzero().filter(|&(counter, _)| counter != Counter::CopiedCoalesce).collect()
        };
        assert_eq!(seen(&short.counters), seen(&whole.counters), "seed {seed}");
        assert_eq!(short.ledger, whole.ledger, "seed {seed}");
        let place = if way.gro { Counter::CopiedGro } else { Counter::CopiedCoalesce };
        copied[usize::from(way.gro)] += short.counters[place];
    }
    assert!(copied.iter().all(|bytes| *bytes > 300_000), "only {copied:?} bytes came by streaks of short segments");
}
