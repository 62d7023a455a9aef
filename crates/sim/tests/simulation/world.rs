//! What a seed stands for: a cable, two stacks, and the connections between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rxpath_core::cx::Rng;
use rxpath_core::nic::Features;
use rxpath_core::socket::{Listener, Sock};
use rxpath_core::sysctl::{CongestionControl, Sysctls, Triple};
use rxpath_core::tcp::SockError;
use rxpath_mem::PoolConfig;
use rxpath_sim::Faults;
use rxpath_sim::simulation::{PAIR_ADDRESSES, PairConfig, Simulation};
use rxpath_trace::{Counter, Time};

use super::side::{Ending, Plan, Side};
use super::stream::Stream;

/// Here the second stack listens.
const PORT: u16 = 7_000;
/// Here nobody does.
const CLOSED_PORT: u16 = 7_001;
/// No run takes longer than this: 15 retransmissions, the longest of which are two minutes apart, and slow readers.
const PATIENCE: Time = Time::from_secs(40_000);

pub fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}

fn chance(rng: &mut Rng, most_percent: u32) -> f64 {
    if rng.below(3) == 0 { 0.0 } else { f64::from(rng.below(most_percent * 100 + 1)) / 10_000.0 }
}

fn one_of<T: Copy, const N: usize>(rng: &mut Rng, choices: [T; N]) -> T {
    choices[rng.below(N as u32) as usize]
}

/// A cable and two stacks as the seed has it.
pub fn config(seed: u64, rng: &mut Rng) -> PairConfig {
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
    let word = CongestionControl::WORDS[rng.below(CongestionControl::WORDS.len() as u32) as usize];
    let usual = Sysctls::default();
    let tiny = rng.below(3) == 0;
    let rmem = if tiny { one_of(rng, [2_304, 4_096, 8_192, 20_000]) } else { usual.tcp_rmem.default };
    let wmem = if tiny { one_of(rng, [4_608, 8_192, 16_384]) } else { usual.tcp_wmem.default };
    // Half of the tiny ones may grow.
    let most = |usual: Triple, size: u32, fixed: bool| if fixed { size } else { usual.max.max(size) };
    let fixed = tiny && rng.below(2) == 0;
    let sysctl = Sysctls {
        tcp_sack: rng.below(4) > 0,
        tcp_dsack: rng.below(4) > 0,
        tcp_timestamps: one_of(rng, [0, 1, 1, 2]),
        tcp_ecn: one_of(rng, [0, 1, 2]),
        tcp_window_scaling: rng.below(4) > 0,
        tcp_congestion_control: CongestionControl::from_name(word).expect("one of the words"),
        tcp_rmem: Triple { min: usual.tcp_rmem.min.min(rmem), default: rmem, max: most(usual.tcp_rmem, rmem, fixed) },
        tcp_wmem: Triple { min: usual.tcp_wmem.min.min(wmem), default: wmem, max: most(usual.tcp_wmem, wmem, fixed) },
        tcp_max_tw_buckets: if rng.below(8) == 0 { 0 } else { usual.tcp_max_tw_buckets },
        // A listener with hardly any room drops; cookies would let a peer think it is connected that nobody knows.
        tcp_syncookies: 0,
        ..usual
    };
    PairConfig {
        faults,
        cpus: 1 + rng.below(2) as u16,
        features: Features { rx_csum: offload, tx_csum: offload, tso: offload },
        gro: rng.below(4) > 0,
        mtu: one_of(rng, [1_500, 1_500, 1_500, 576, 1_280]),
        pool: match rng.below(4) {
            0 => PoolConfig { slots: 1_024, head_slots: 1_024, large_slots: 64, reserve: 64 },
            _ => PoolConfig::default(),
        },
        sysctl,
        ..PairConfig::new(seed)
    }
}

/// Who opens a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// The first stack, to a listener.
    Active,
    /// Both at once.
    Crossed,
    /// The first stack, where nobody listens.
    Refused,
}

/// One connection: what each side writes and does.
struct Connection {
    opening: Opening,
    plans: [Plan; 2],
    streams: [Stream; 2],
}

impl Connection {
    fn of(rng: &mut Rng, id: u64) -> Connection {
        let opening = match rng.below(12) {
            0 => Opening::Refused,
            1 => Opening::Crossed,
            _ => Opening::Active,
        };
        let mut sizes = [rng.below(60_000) as usize, rng.below(60_000) as usize];
        let mut endings = [Ending::Orderly; 2];
        match rng.below(8) {
            0 => endings[rng.below(2) as usize] = Ending::Answer,
            1 => {
                let early = rng.below(2) as usize;
                endings[early] = Ending::Early;
                sizes[1 - early] = 0;
            }
            2 => {
                let after = rng.below((sizes[0] + sizes[1]) as u32 + 1) as usize;
                endings[rng.below(2) as usize] = Ending::Abort(after);
            }
            _ => {}
        }
        let aborts = endings.iter().any(|ending| matches!(ending, Ending::Abort(_)));
        let mut stream = |side: u64| {
            let len = sizes[side as usize];
            let urgent = if rng.below(6) == 0 && len > 0 { 1 + rng.below(4) } else { 0 };
            let places = (0..urgent).map(|_| rng.below(len as u32) as usize).collect();
            Stream::new(2 * id + side, len, places)
        };
        let streams = [stream(0), stream(1)];
        let mut plans = endings.map(|ending| {
            // Half of the readers are slow.
            let slow = rng.below(2) == 0;
            let (gulp, pause) = if slow { (1 + rng.below(3_000), rng.below(20)) } else { (65_536, 0) };
            Plan {
                ending,
                may_fail: aborts || opening == Opening::Refused,
                gulp: gulp as usize,
                pause: millis(pause),
                inline: rng.below(2) == 0,
                flags: rng.below(3) == 0,
                lends: gulp.is_multiple_of(2),
            }
        });
        // Who is accepted says so too late: an urgent byte that came before may have gone with a newer mark.
        plans[1].inline &= opening != Opening::Active;
        Connection { opening, plans, streams }
    }

    fn streams_of(&self, side: usize) -> [Stream; 2] {
        [self.streams[side].clone(), self.streams[1 - side].clone()]
    }
}

/// The world of one seed.
pub struct World {
    sides: Vec<Side>,
    listener: Option<Arc<Listener>>,
    /// Connections by the client's address, as long as the server's side has not been accepted.
    coming: BTreeMap<SocketAddr, Connection>,
    /// Pause between two accepts.
    pause: Duration,
    next_accept: Time,
    rng: Rng,
}

impl World {
    pub fn new(sim: &Simulation, mut rng: Rng) -> World {
        let any = SocketAddr::from(([0, 0, 0, 0], PORT));
        let backlog = if rng.below(4) == 0 { rng.below(2) } else { 64 };
        let listener = Some(sim.stack(1).listen(any, backlog).expect("the port is free"));
        let pause = millis(if rng.below(4) == 0 { rng.below(300) } else { 0 });
        let coming = BTreeMap::new();
        let mut world = World { sides: Vec::new(), listener, coming, pause, next_accept: Time::ZERO, rng };
        for id in 0..1 + u64::from(world.rng.below(3)) {
            let connection = Connection::of(&mut world.rng, id);
            world.open(sim, id as u16, connection);
        }
        world
    }

    fn open(&mut self, sim: &Simulation, id: u16, connection: Connection) {
        let [us, them] = PAIR_ADDRESSES;
        let (ours, theirs) = (6_000 + id, 6_500 + id);
        let (local, port) = match connection.opening {
            Opening::Active => (None, PORT),
            Opening::Refused => (None, CLOSED_PORT),
            Opening::Crossed => (Some(ours), theirs),
        };
        let remote = SocketAddr::from((them, port));
        let sock = sim.stack(0).connect_from(local, remote, sim.now()).expect("a way to the other stack");
        let client = sock.tuple.local_socket();
        self.side(sim, 0, sock, &connection);
        match connection.opening {
            Opening::Active => {
                self.coming.insert(client, connection);
            }
            Opening::Crossed => {
                let remote = SocketAddr::from((us, ours));
                let sock = sim.stack(1).connect_from(Some(theirs), remote, sim.now()).expect("a way back");
                self.side(sim, 1, sock, &connection);
            }
            Opening::Refused => {}
        }
    }

    fn side(&mut self, sim: &Simulation, stack: usize, sock: Arc<Sock>, connection: &Connection) {
        let rng = Rng::new(self.rng.next_u64());
        let (plan, streams) = (connection.plans[stack].clone(), connection.streams_of(stack));
        self.sides.push(Side::new(sim, stack, sock, plan, streams, rng));
    }

    /// Makes all the calls that are due; gives when the next one is.
    fn act(&mut self, sim: &Simulation) -> Option<Time> {
        sim.check().expect("the ledgers balance");
        self.accept(sim);
        let mut next = Some(self.next_accept).filter(|&at| at > sim.now() && !self.coming.is_empty());
        for side in &mut self.sides {
            next = [next, side.act(sim)].into_iter().flatten().min();
        }
        next
    }

    fn accept(&mut self, sim: &Simulation) {
        while self.next_accept <= sim.now()
            && let Some(listener) = &self.listener
            && let Some(sock) = sim.stack(1).accept(listener)
        {
            self.next_accept = sim.now() + self.pause.as_nanos() as u64;
            let client = sock.tuple.remote_socket();
            let connection = self.coming.remove(&client).expect("a connection that was opened, and once");
            self.side(sim, 1, sock, &connection);
        }
    }

    /// Everybody has done what he was to do, as far as he could.
    fn is_over(&self) -> bool {
        let missing = self.coming.values().any(|connection| !connection.plans[1].may_fail);
        !missing && self.sides.iter().all(|side| side.closed)
    }

    /// Runs until nothing is left to happen: the applications have done their part, and what remains of the connections
    /// (TIME-WAIT, orphans whose last segments were lost) has faded.
    pub fn run(&mut self, sim: &mut Simulation) {
        self.run_with(sim, |_| ());
    }

    /// As [`World::run`]; `look` sees every moment at which something happened.
    pub fn run_with(&mut self, sim: &mut Simulation, mut look: impl FnMut(&Simulation)) {
        loop {
            sim.settle();
            look(sim);
            let wanted = self.act(sim);
            // The calls may have given the stacks work at this very moment.
            sim.settle();
            if self.is_over()
                && let Some(listener) = self.listener.take()
            {
                sim.stack(1).close_listener(&listener, sim.now());
                sim.settle();
            }
            if wanted.is_none() && sim.next_deadline().is_none() {
                break;
            }
            assert!(sim.now() < PATIENCE, "it does not end:\n{}", self.tell(sim));
            sim.advance(wanted.unwrap_or(PATIENCE));
        }
        assert!(self.is_over(), "nothing is left to happen, but not all is done:\n{}", self.tell(sim));
    }

    fn tell(&self, sim: &Simulation) -> String {
        let mut lines: Vec<String> = self.sides.iter().map(Side::tell).collect();
        for (index, stack) in sim.stacks().iter().enumerate() {
            let sockets = stack.sockets(sim.now());
            lines.extend(sockets.iter().map(|view| format!("stack {index}: {:?} {:?}", view.row, view.mem)));
        }
        lines.push(format!("{} connections that were not accepted, at {}", self.coming.len(), sim.now()));
        lines.join("\n")
    }

    /// Nothing is left of all that: no packet, slot, timer, socket or port.
    pub fn check(self, sim: &Simulation) {
        sim.check().expect("the ledgers balance");
        assert_eq!(sim.ledger().held(), 0, "nothing is held any more: {:?}", sim.ledger());
        for (index, stack) in sim.stacks().iter().enumerate() {
            let sockets = stack.sockets(sim.now());
            assert!(sockets.is_empty(), "stack {index} has a socket: {sockets:?}");
            assert_eq!(stack.bound_connections(), 0, "stack {index} keeps a port");
            assert_eq!(stack.snapshot()[Counter::TcpCurrEstab], 0, "stack {index} counts a connection");
            for pool in stack.pools() {
                assert_eq!(pool.outstanding, pool.posted, "stack {index}: slots that never came back: {pool:?}");
                assert_eq!(pool.stats.not_specified, 0, "stack {index}: packets that nobody ended");
            }
        }
        for mut side in self.sides {
            side.read_notices(sim.stack(side.stack), sim.now());
            assert_eq!(side.untold(), 0, "calls that nobody was told of: {}", side.tell());
            assert_eq!(Arc::strong_count(&side.sock), 1, "a socket that somebody keeps: {}", side.tell());
            let refused = matches!(side.error, Some(SockError::Refused));
            assert!(!refused || side.stack == 0, "nobody refuses the first stack: {}", side.tell());
        }
    }
}
