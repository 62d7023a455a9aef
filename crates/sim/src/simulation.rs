//! Stacks in virtual time.
//!
//! A [`Simulation`] owns a clock and some stacks. Nothing happens between the moments at which something is due, so the
//! clock jumps from one to the next: a minute of retransmissions takes milliseconds. Given the same seeds and the same
//! calls, a run is the same in every detail.
//!
//! Applications live in the closure given to [`Simulation::run_until`]: it is called whenever something happened, makes
//! its non-blocking calls at [`Simulation::now`], and says how long it can wait.

use std::io;
use std::time::Duration;

use rxpath::device::wire::{self, WireConfig};
use rxpath_core::cx::Rng;
use rxpath_core::netns::IfAddr;
use rxpath_core::nic::Features;
use rxpath_core::stack::{InterfaceConfig, Stack, StackConfig};
use rxpath_core::sysctl::Sysctls;
use rxpath_mem::PoolConfig;
use rxpath_trace::{LedgerSnapshot, Selector, Time};
use rxpath_wire::{Addr, MacAddr};

use crate::faults::{FaultStats, Faults, Faulty};

/// Softirq rounds at one moment, at most; after that the clock moves on by a microsecond.
const ROUNDS: usize = 1_000;

/// What the applications want next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing more: the run is over.
    Done,
    /// To be called when something happened.
    Wait,
    /// To be called when something happened, and at this time at the latest.
    At(Time),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The applications were done.
    Done,
    /// The time was up.
    TimeUp,
    /// Nothing is due any more, and the applications are not done.
    Stalled,
}

/// Two stacks on a cable.
#[derive(Clone, Debug)]
pub struct PairConfig {
    /// Seed of both stacks and of the faults.
    pub seed: u64,
    /// What the cable does to frames, in each direction.
    pub faults: Faults,
    /// Cpus of each stack.
    pub cpus: u16,
    /// Offloads of both ends.
    pub features: Features,
    /// Whether GRO merges.
    pub gro: bool,
    /// Largest IP packet of the cable.
    pub mtu: u16,
    /// Tunables of both stacks.
    pub sysctl: Sysctls,
    /// Pool of each Cpu.
    pub pool: PoolConfig,
    /// Lives that are recorded.
    pub lives: Selector,
}

impl PairConfig {
    /// One Cpu each, no faults, no offloads, GRO on, every life recorded.
    pub fn new(seed: u64) -> PairConfig {
        PairConfig {
            seed,
            faults: Faults::NONE,
            cpus: 1,
            features: Features::default(),
            gro: true,
            mtu: 1_500,
            sysctl: Sysctls::default(),
            pool: PoolConfig::default(),
            lives: Selector::All,
        }
    }
}

/// Addresses of the two stacks of a pair, both in 10.0.0.0/24.
pub const PAIR_ADDRESSES: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 2]];

/// A clock and the stacks that live by it.
pub struct Simulation {
    now: Time,
    stacks: Vec<Stack>,
    faults: Vec<FaultStats>,
}

impl Simulation {
    /// Stacks that were made elsewhere, from the time `start` on.
    pub fn new(start: Time, stacks: Vec<Stack>) -> Simulation {
        Simulation { now: start, stacks, faults: Vec::new() }
    }

    /// Two stacks joined by a cable with faults, one end of which (the first stack's) makes them for both directions.
    ///
    /// # Errors
    /// The pools could not be mapped, or the configuration does not fit ([`rxpath_core::stack::BuildError`]).
    pub fn pair(config: &PairConfig) -> io::Result<Simulation> {
        let mut rng = Rng::new(config.seed);
        let end = |index: u8| WireConfig {
            features: config.features,
            queues: config.cpus,
            mtu: config.mtu,
            ..WireConfig::named(&format!("wire{index}")).mac(MacAddr([2, 0x72, 0x78, 0, 0, index + 1]))
        };
        let (a, b) = wire::pair(end(0), end(1));
        let faulty = Faulty::new(Box::new(a), config.faults.clone(), rng.next_u64());
        let stats = faulty.stats();
        let stacks = [stack(config, &mut rng, Box::new(faulty), 0)?, stack(config, &mut rng, Box::new(b), 1)?];
        Ok(Simulation { now: Time::from_millis(1), stacks: stacks.into(), faults: vec![stats] })
    }

    /// The clock.
    pub fn now(&self) -> Time {
        self.now
    }

    /// One of the stacks.
    ///
    /// # Panics
    /// If there is none with this index.
    pub fn stack(&self, index: usize) -> &Stack {
        &self.stacks[index]
    }

    /// All stacks.
    pub fn stacks(&self) -> &[Stack] {
        &self.stacks
    }

    /// What was done to frames on the cable of a pair.
    pub fn fault_stats(&self) -> &[FaultStats] {
        &self.faults
    }

    /// Runs the stacks, without letting time pass, until none of them has anything to do.
    pub fn settle(&mut self) {
        let mut quiet_rounds = 0;
        for _ in 0..ROUNDS {
            let mut quiet = true;
            for stack in &self.stacks {
                let polled = stack.poll(self.now);
                quiet &= polled.work == 0 && polled.next.is_none_or(|at| at > self.now);
            }
            // What a timer sent in this round may have reached a stack that had been polled before.
            quiet_rounds = if quiet { quiet_rounds + 1 } else { 0 };
            if quiet_rounds == 2 {
                return;
            }
        }
        self.now += 1_000;
    }

    /// When something is due by itself.
    pub fn next_deadline(&self) -> Option<Time> {
        self.stacks.iter().filter_map(Stack::next_deadline).min()
    }

    /// Jumps to the next moment at which something is due, but not beyond `limit`, and lets the stacks settle. False if
    /// nothing is due by then; the clock then stands at `limit` (or, if that is [`Time::MAX`], where it stood).
    pub fn advance(&mut self, limit: Time) -> bool {
        let next = self.next_deadline().filter(|&at| at <= limit);
        match next {
            Some(at) => self.now = self.now.max(at),
            None if limit < Time::MAX => self.now = self.now.max(limit),
            None => {}
        }
        self.settle();
        next.is_some()
    }

    /// Lets a span of time pass.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now + span.as_nanos() as u64;
        self.settle();
        while self.now < end {
            self.advance(end);
        }
    }

    /// Runs the stacks and the applications until these are done, but not beyond `limit`.
    pub fn run_until(&mut self, limit: Time, mut applications: impl FnMut(&Simulation) -> Next) -> Outcome {
        loop {
            self.settle();
            let wanted = match applications(self) {
                Next::Done => {
                    self.settle();
                    return Outcome::Done;
                }
                Next::Wait => Time::MAX,
                Next::At(at) => at.max(self.now),
            };
            if self.now >= limit {
                return Outcome::TimeUp;
            }
            // The calls may have given the stacks work at this very moment.
            self.settle();
            if !self.advance(wanted.min(limit)) && wanted == Time::MAX && limit == Time::MAX {
                return Outcome::Stalled;
            }
        }
    }

    /// The ledger of all stacks together.
    pub fn ledger(&self) -> LedgerSnapshot {
        self.stacks.iter().map(Stack::ledger).sum()
    }

    /// Checks that the ledger of every stack balances.
    ///
    /// # Errors
    /// Names the stack and both sides of its ledger.
    pub fn check(&self) -> Result<(), String> {
        for (index, stack) in self.stacks.iter().enumerate() {
            stack.ledger().check().map_err(|fault| format!("stack {index} at {}: {fault}", self.now))?;
        }
        Ok(())
    }
}

fn stack(
    config: &PairConfig,
    rng: &mut Rng,
    device: Box<dyn rxpath_core::nic::Device>,
    index: usize,
) -> io::Result<Stack> {
    let mut interface = InterfaceConfig::new(device);
    interface.addresses = vec![IfAddr { addr: Addr::from_v4(PAIR_ADDRESSES[index]), prefix: 24 }];
    interface.gro = config.gro;
    let stack = Stack::new(StackConfig {
        cpus: config.cpus,
        seed: rng.next_u64(),
        sysctl: config.sysctl.clone(),
        interfaces: vec![interface],
        pool: config.pool,
        lives: config.lives.clone(),
        ..StackConfig::default()
    })?;
    Ok(stack)
}
