//! Two stacks in virtual time through a bad cable: every byte arrives, the ledgers balance, nothing leaks.
//!
//! Runs 200 seeds; `RXPATH_SEEDS=5000` runs more, `RXPATH_SEED=17` only that one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rxpath_core::cx::Rng;
use rxpath_core::nic::Features;
use rxpath_core::socket::{Listener, Sock, WriteStep};
use rxpath_core::stack::RecvError;
use rxpath_core::sysctl::{CongestionControl, Sysctls};
use rxpath_sim::simulation::{Next, Outcome, PAIR_ADDRESSES, PairConfig, Simulation};
use rxpath_sim::{FaultCounts, Faults};
use rxpath_trace::lives::{self, Status};
use rxpath_trace::{Event, Time};

const PORT: u16 = 7_000;

/// The byte at `offset` of the stream of connection `id` in one direction.
fn pattern(id: u64, offset: usize) -> u8 {
    let word = (offset as u64 / 8).wrapping_add(id << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word >> ((offset % 8) * 8)) as u8
}

/// One side of a connection: writes a stream, reads the other's in its own time, closes.
struct Side {
    stack: usize,
    sock: Arc<Sock>,
    outgoing: u64,
    incoming: u64,
    to_write: usize,
    written: usize,
    read: usize,
    shut: bool,
    eof: bool,
    closed: bool,
    /// Bytes of a read, at most.
    gulp: usize,
    /// Pause between reads.
    pause: Duration,
    next_read: Time,
}

impl Side {
    /// Makes all the calls that are due; gives when the next read is.
    fn act(&mut self, sim: &Simulation) -> Option<Time> {
        let (stack, now) = (sim.stack(self.stack), sim.now());
        while self.written < self.to_write {
            let chunk: Vec<u8> =
                (self.written..self.to_write.min(self.written + 8_192)).map(|i| pattern(self.outgoing, i)).collect();
            match stack.send(&self.sock, &chunk, false, now) {
                WriteStep::Taken(0) | WriteStep::Full(_) => break,
                WriteStep::Taken(n) => self.written += n,
                WriteStep::Error(error) => panic!("write after {} bytes: {error:?}", self.written),
                WriteStep::Closed => panic!("write after {} bytes: closed", self.written),
            }
        }
        if self.written == self.to_write && !self.shut {
            stack.shutdown_write(&self.sock, now);
            self.shut = true;
        }
        while !self.eof && self.next_read <= now {
            let mut buf = vec![0; self.gulp];
            match stack.recv(&self.sock, &mut buf, false, now) {
                Ok(0) => self.eof = true,
                Ok(n) => {
                    for (i, &byte) in buf[..n].iter().enumerate() {
                        assert_eq!(byte, pattern(self.incoming, self.read + i), "byte {}", self.read + i);
                    }
                    self.read += n;
                    self.next_read = now + self.pause.as_nanos() as u64;
                }
                Err(RecvError::Empty(_)) => return None,
                Err(error) => panic!("read after {} bytes: {error:?}", self.read),
            }
        }
        if self.shut && self.eof && !self.closed {
            stack.close(&self.sock, now);
            self.closed = true;
        }
        (!self.eof).then_some(self.next_read)
    }
}

fn seeds() -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number("RXPATH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RXPATH_SEEDS").unwrap_or(200),
    }
}

/// Runs `body` for each seed; a panic names the seed and the command that replays it.
fn for_each_seed(test: &str, body: impl Fn(u64)) {
    for seed in seeds() {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(seed)));
        if outcome.is_err() {
            panic!("seed {seed}; RXPATH_SEED={seed} cargo test -p rxpath-sim --test simulation {test}");
        }
    }
}

fn chance(rng: &mut Rng, most_percent: u32) -> f64 {
    if rng.below(3) == 0 { 0.0 } else { f64::from(rng.below(most_percent * 100 + 1)) / 10_000.0 }
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}

/// A cable and two stacks as the seed has it.
fn config(seed: u64, rng: &mut Rng) -> PairConfig {
    let least = rng.below(20);
    let faults = Faults {
        loss: chance(rng, 5),
        duplicate: chance(rng, 3),
        reorder: chance(rng, 5),
        corrupt: chance(rng, 2),
        delay: millis(least)..=millis(least + rng.below(15)),
        rate: (rng.below(3) == 0).then(|| 1_000_000 + u64::from(rng.below(100_000_000))),
    };
    let offload = rng.below(3) == 0;
    let reno = rng.below(2) == 0;
    let sysctl = Sysctls {
        tcp_sack: rng.below(4) > 0,
        tcp_dsack: rng.below(4) > 0,
        tcp_timestamps: u8::from(rng.below(3) > 0),
        tcp_congestion_control: if reno { CongestionControl::Reno } else { CongestionControl::Cubic },
        ..Sysctls::default()
    };
    PairConfig {
        faults,
        cpus: 1 + rng.below(2) as u16,
        features: Features { rx_csum: offload, tx_csum: offload, tso: offload },
        gro: rng.below(4) > 0,
        sysctl,
        ..PairConfig::new(seed)
    }
}

/// The world of one seed.
struct World {
    sides: Vec<Side>,
    listener: Arc<Listener>,
    /// Bytes that each connection carries from the client and from the server, by the client's address.
    streams: BTreeMap<SocketAddr, (u64, usize, usize)>,
    rng: Rng,
}

impl World {
    fn new(sim: &Simulation, mut rng: Rng) -> World {
        let any = SocketAddr::from(([0, 0, 0, 0], PORT));
        let listener = sim.stack(1).listen(any, 64).expect("the port is free");
        let mut world = World { sides: Vec::new(), listener, streams: BTreeMap::new(), rng: rng.clone() };
        for id in 0..1 + u64::from(rng.below(3)) {
            let remote = SocketAddr::from((PAIR_ADDRESSES[1], PORT));
            let sock = sim.stack(0).connect(remote, sim.now()).expect("a way to the other stack");
            let sizes = [rng.below(60_000) as usize, rng.below(60_000) as usize];
            world.streams.insert(sock.tuple.local_socket(), (id, sizes[0], sizes[1]));
            world.side(0, sock, 2 * id, 2 * id + 1, sizes[0]);
        }
        world
    }

    fn side(&mut self, stack: usize, sock: Arc<Sock>, outgoing: u64, incoming: u64, to_write: usize) {
        let slow = self.rng.below(3) == 0;
        let (gulp, pause) = if slow { (1 + self.rng.below(3_000), self.rng.below(20)) } else { (65_536, 0) };
        self.sides.push(Side {
            stack,
            sock,
            outgoing,
            incoming,
            to_write,
            written: 0,
            read: 0,
            shut: false,
            eof: false,
            closed: false,
            gulp: gulp as usize,
            pause: millis(pause),
            next_read: Time::ZERO,
        });
    }

    fn act(&mut self, sim: &Simulation) -> Next {
        sim.check().expect("the ledgers balance");
        while let Some(sock) = sim.stack(1).accept(&self.listener) {
            let (id, _, size) = self.streams[&sock.tuple.remote_socket()];
            self.side(1, sock, 2 * id + 1, 2 * id, size);
        }
        let mut next = Next::Wait;
        for side in &mut self.sides {
            if let Some(at) = side.act(sim) {
                next = match next {
                    Next::At(earlier) => Next::At(earlier.min(at)),
                    _ => Next::At(at),
                };
            }
        }
        let over = self.sides.len() == 2 * self.streams.len() && self.sides.iter().all(|side| side.closed);
        if over { Next::Done } else { next }
    }

    /// Every stream was read to its end, and to no more than that.
    fn check(&self) {
        for side in &self.sides {
            let (_, from_client, from_server) = match side.stack {
                0 => self.streams[&side.sock.tuple.local_socket()],
                _ => self.streams[&side.sock.tuple.remote_socket()],
            };
            assert_eq!(side.read, if side.stack == 0 { from_server } else { from_client });
        }
    }
}

#[test]
fn every_byte_arrives_through_a_bad_cable() {
    for_each_seed("every_byte_arrives_through_a_bad_cable", |seed| {
        let mut rng = Rng::new(seed);
        let config = config(seed, &mut rng);
        let mut sim = Simulation::pair(&config).expect("two stacks");
        let mut world = World::new(&sim, rng);
        let outcome = sim.run_until(Time::from_secs(3_000), |sim| world.act(sim));
        assert_eq!(outcome, Outcome::Done, "at {}: {config:?}", sim.now());
        world.check();
        // What is left of the connections fades: TIME-WAIT, and orphans whose last segments were lost.
        sim.pass(Duration::from_secs(600));
        sim.check().expect("the ledgers balance");
        assert_eq!(sim.next_deadline(), None, "no timer is left");
        assert_eq!(sim.ledger().held(), 0, "nothing is held any more: {:?}", sim.ledger());
    });
}

#[test]
fn a_run_is_the_same_every_time() {
    let run = |seed| {
        let mut rng = Rng::new(seed);
        let mut sim = Simulation::pair(&config(seed, &mut rng)).expect("two stacks");
        let mut world = World::new(&sim, rng);
        sim.run_until(Time::from_secs(3_000), |sim| world.act(sim));
        let stats = &sim.fault_stats()[0];
        (sim.now(), sim.ledger(), sim.stack(0).snapshot(), sim.stack(1).snapshot(), stats.rx(), stats.tx())
    };
    assert_eq!(run(4), run(4));
    assert_ne!(run(4).0, run(5).0);
}

#[test]
fn lives_of_a_run_are_whole() {
    let mut config = PairConfig::new(11);
    config.faults = Faults { corrupt: 0.1, reorder: 0.2, loss: 0.05, delay: millis(1)..=millis(3), ..Faults::ROUGH };
    let mut sim = Simulation::pair(&config).expect("two stacks");
    let mut world = World::new(&sim, Rng::new(11));
    let mut events: [Vec<Event>; 2] = Default::default();
    let outcome = sim.run_until(Time::from_secs(3_000), |sim| {
        for (events, stack) in events.iter_mut().zip(sim.stacks()) {
            events.extend(stack.take_events());
        }
        world.act(sim)
    });
    assert_eq!(outcome, Outcome::Done);
    sim.pass(Duration::from_secs(600));
    for (events, stack) in events.iter_mut().zip(sim.stacks()) {
        events.extend(stack.take_events());
        assert_eq!(stack.lost_events(), 0);
        let ledger = stack.ledger();
        let lives = lives::group(std::mem::take(events));
        for life in &lives {
            assert_eq!(life.status(), Status::Finished, "{}", life.story());
        }
        assert_eq!(lives.len() as u64, ledger.births(), "one life for each packet");
    }
    let stats = &sim.fault_stats()[0];
    let bad = |count: fn(FaultCounts) -> u64| count(stats.rx()) + count(stats.tx()) > 0;
    assert!(bad(|n| n.lost) && bad(|n| n.corrupted) && bad(|n| n.reordered), "the cable was bad: {stats:?}");
}
