//! Two stacks on one cable, in each of the four ways in which a stack can be run.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rxpath::clock::ManualClock;
use rxpath::device::wire::{self, WireConfig};
use rxpath::rxpath_core::stack::SteeringChoice;
use rxpath::rxpath_trace::DropReason;
use rxpath::{Interface, Mode, Stack};

/// How a stack is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Two Cpus, a softirq thread each.
    Threads,
    /// The threads that are blocked in calls.
    AppThreads,
    /// A loop around `poll`, beside calls that poll themselves.
    Polled,
    /// Virtual time.
    Simulation,
}

/// What a program of a scenario is.
pub type Program<'a> = Box<dyn FnOnce() + Send + 'a>;

/// The longest that a scenario may take in real time, far above what it takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The server is 10.0.0.1, the client 10.0.0.2.
pub struct World {
    pub way: Way,
    pub server: Stack,
    pub client: Stack,
    pub clock: Option<ManualClock>,
}

pub const SERVER: &str = "10.0.0.1";

/// The server's address with a port.
pub fn server(port: u16) -> SocketAddr {
    SocketAddr::new(SERVER.parse().expect("an address"), port)
}

/// What a scenario may want otherwise than by default.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Offloads on both ends.
    pub offload: bool,
    /// Places of the receive rings.
    pub ring: usize,
    /// Whether a full ring holds the sender back, or loses frames.
    pub pause: bool,
    /// Cpus; by default two with softirq threads and one otherwise.
    pub cpus: Option<u16>,
    /// Queues; by default one for each Cpu.
    pub queues: Option<u16>,
    /// Every frame to queue 0, whosever it is.
    pub missteered: bool,
    /// `net.ipv4.tcp_rmem`.
    pub rmem: &'static str,
    pub seed: u64,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            offload: false,
            ring: 256,
            pause: true,
            cpus: None,
            queues: None,
            missteered: false,
            rmem: "4096 131072 6291456",
            seed: 7,
        }
    }
}

impl World {
    pub fn new(way: Way, setup: Setup) -> World {
        let cpus = setup.cpus.unwrap_or(if way == Way::Threads { 2 } else { 1 });
        let queues = setup.queues.unwrap_or(cpus);
        let config = |name| {
            let config = WireConfig::named(name).queues(queues).offload(setup.offload);
            WireConfig { pause: setup.pause, ..config }
        };
        let (left, right) = wire::pair(config("left"), config("right"));
        let clock = (way == Way::Simulation).then(ManualClock::new);
        let mode = match way {
            Way::Threads => Mode::Threads,
            Way::AppThreads => Mode::AppThreads,
            Way::Polled | Way::Simulation => Mode::Polled,
        };
        let stack = |wire, address: &str, seed| {
            let steering = if setup.missteered { SteeringChoice::Fixed(0) } else { SteeringChoice::Owner };
            let interface = Interface::new(wire).ring(setup.ring).steering(steering);
            let interface = interface.address(address).expect("an address");
            let builder = Stack::builder().cpus(cpus).mode(mode).seed(seed).interface(interface);
            let builder = builder.sysctl("net.ipv4.tcp_rmem", setup.rmem).expect("a sysctl");
            match &clock {
                Some(clock) => builder.clock(clock.clone()).build().expect("a stack"),
                None => builder.build().expect("a stack"),
            }
        };
        let server = stack(left, "10.0.0.1/24", setup.seed);
        let client = stack(right, "10.0.0.2/24", setup.seed + 1);
        World { way, server, client, clock }
    }

    pub fn stacks(&self) -> [&Stack; 2] {
        [&self.server, &self.client]
    }

    /// Runs programs side by side and drives the stacks meanwhile. A world that hangs is shut down, so that its
    /// programs fail and say where.
    pub fn run(&self, programs: Vec<Program<'_>>) {
        if let Some(clock) = &self.clock {
            return clock.run(programs);
        }
        let ended = AtomicBool::new(false);
        let (done, all) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            for stack in self.stacks() {
                let ended = &ended;
                match self.way {
                    Way::AppThreads => drop(scope.spawn(move || idle(stack, ended))),
                    Way::Polled => drop(scope.spawn(move || pump(stack, ended))),
                    Way::Threads | Way::Simulation => {}
                }
            }
            let threads: Vec<_> = programs
                .into_iter()
                .map(|program| {
                    let done = done.clone();
                    scope.spawn(move || {
                        let _done = done;
                        program();
                    })
                })
                .collect();
            drop(done);
            if all.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("the scenario hangs:\n{}", self.describe());
                self.server.shutdown();
                self.client.shutdown();
            }
            let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            ended.store(true, Ordering::Release);
            for outcome in outcomes {
                outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        });
    }

    /// Both sides' sockets and ledgers.
    pub fn describe(&self) -> String {
        let side = |stack: &Stack| {
            let (tcp, ledger) = (stack.proc().tcp(), stack.ledger());
            format!("{stack:?}\n{tcp}\n{:#?}\n{ledger}\n{}\n", stack.snapshot(), ledger.details())
        };
        format!("way {:?}\nserver {}client {}", self.way, side(&self.server), side(&self.client))
    }

    /// Lets everything that is under way come to its end.
    pub fn settle(&self) {
        let quiet = |stack: &Stack| {
            let open = stack.sockets().iter().any(|socket| !resting(socket.row.state));
            stack.ledger().held() == 0 && stack.ledger().check().is_ok() && !open
        };
        for _ in 0..2_000 {
            if self.stacks().into_iter().all(quiet) {
                return;
            }
            for stack in self.stacks() {
                lived(stack.run_for(Duration::from_millis(5)));
            }
        }
        panic!("the world does not come to rest:\n{}", self.describe());
    }

    /// What must hold after every scenario: all is quiet, every packet is accounted for, no slot is missing.
    pub fn check(&self) {
        self.settle();
        if let Some(clock) = &self.clock {
            // Mini-sockets go after a minute.
            clock.sleep(Duration::from_secs(125)).expect("time passes");
            for stack in self.stacks() {
                let left: Vec<_> = stack.sockets().into_iter().filter(|socket| !listens(socket.row.state)).collect();
                assert!(left.is_empty(), "sockets are left: {left:?}");
            }
        }
        self.check_books();
    }

    pub fn check_books(&self) {
        for stack in self.stacks() {
            let ledger = stack.ledger();
            ledger.check().unwrap_or_else(|imbalance| panic!("{imbalance}\n{}", self.describe()));
            assert_eq!(ledger.dropped_for(DropReason::NotSpecified), 0, "drops without a reason\n{}", self.describe());
            for pool in stack.pools() {
                assert_eq!(pool.stats.not_specified, 0, "packets went out of scope");
                // What GRO took straight off a ring waits to be posted again, less than a batch of 16.
                let loose = pool.outstanding - pool.posted;
                assert!(loose < 16, "{loose} slots are neither free nor posted\n{}", self.describe());
            }
            assert_eq!(stack.lost_events(), 0);
        }
    }
}

fn resting(state: rxpath::rxpath_trace::TcpState) -> bool {
    listens(state) || state == rxpath::rxpath_trace::TcpState::TimeWait
}

fn listens(state: rxpath::rxpath_trace::TcpState) -> bool {
    state == rxpath::rxpath_trace::TcpState::Listen
}

fn lived(outcome: io::Result<()>) {
    match outcome {
        Ok(()) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::NetworkDown, "{error}"),
    }
}

/// An application's thread that has nothing to do, but is in a call: somebody has to be, on each stack.
fn idle(stack: &Stack, ended: &AtomicBool) {
    while !ended.load(Ordering::Acquire) && !stack.is_down() {
        lived(stack.run_for(Duration::from_millis(5)));
    }
}

/// The loop of a program that polls.
fn pump(stack: &Stack, ended: &AtomicBool) {
    while !ended.load(Ordering::Acquire) && !stack.is_down() {
        let now = stack.now();
        let polled = stack.poll(now);
        let look = now + 1_000_000;
        let next = polled.next.map_or(look, |next| if next < look { next } else { look });
        stack.wait(Some(next)).expect("epoll works");
    }
}
