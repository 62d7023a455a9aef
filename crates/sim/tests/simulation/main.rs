//! Two stacks in virtual time through a bad cable: every byte arrives, the ledgers balance, nothing leaks.
//!
//! Runs 200 seeds. `RXPATH_SEEDS=5000` runs more, `RXPATH_SEEDS=5000..9000` those, `RXPATH_SEED=17` only that one; in a
//! release build 100,000 take some minutes:
//!
//!     RXPATH_SEEDS=0..100000 cargo test --release -p rxpath-sim --test simulation every_byte -- --nocapture

mod side;
mod stream;
mod world;

use std::io::Write;
use std::ops::Range;
use std::time::Duration;

use rxpath_core::cx::Rng;
use rxpath_sim::simulation::{PairConfig, Simulation};
use rxpath_sim::{FaultCounts, Faults};
use rxpath_trace::Event;
use rxpath_trace::lives::{self, Status};

use self::world::{World, config, millis};

/// Seeds that are run unless more are asked for.
const SEEDS: u64 = 200;
/// A sign of life after so many.
const PROGRESS: u64 = 1_000;

fn seeds() -> Range<u64> {
    let text = |name: &str| std::env::var(name).ok();
    if let Some(seed) = text("RXPATH_SEED") {
        let seed = seed.parse().expect("RXPATH_SEED is a number");
        return seed..seed + 1;
    }
    let Some(seeds) = text("RXPATH_SEEDS") else { return 0..SEEDS };
    let (first, last) = seeds.split_once("..").unwrap_or(("0", &seeds));
    let number = |text: &str| text.parse().expect("RXPATH_SEEDS is a number, or two with `..` between them");
    number(first)..number(last)
}

/// Past the harness, which would keep it until the end.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs `body` for each seed; a panic names the seeds that failed and the command that replays the first of them.
fn for_each_seed(test: &str, body: impl Fn(u64)) {
    let mut failed = Vec::new();
    let seeds = seeds();
    for seed in seeds.clone() {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(seed))).is_err() {
            tell(&format!("seed {seed} failed: RXPATH_SEED={seed} cargo test -p rxpath-sim --test simulation {test}"));
            failed.push(seed);
        }
        let ran = seed + 1 - seeds.start;
        if ran.is_multiple_of(PROGRESS) {
            tell(&format!("{ran} seeds, {} failed", failed.len()));
        }
    }
    let replay =
        failed.first().map(|seed| format!("RXPATH_SEED={seed} cargo test -p rxpath-sim --test simulation {test}"));
    assert!(failed.is_empty(), "seeds {failed:?}; {}", replay.unwrap_or_default());
}

#[test]
fn every_byte_arrives_through_a_bad_cable() {
    for_each_seed("every_byte_arrives_through_a_bad_cable", |seed| {
        let mut rng = Rng::new(seed);
        let config = config(seed, &mut rng);
        if std::env::var_os("RXPATH_SEED").is_some() {
            tell(&format!("{config:?}"));
        }
        let mut sim = Simulation::pair(&config).expect("two stacks");
        let mut world = World::new(&sim, rng);
        world.run(&mut sim);
        world.check(&sim);
    });
}

#[test]
fn a_run_is_the_same_every_time() {
    let run = |seed| {
        let mut rng = Rng::new(seed);
        let mut sim = Simulation::pair(&config(seed, &mut rng)).expect("two stacks");
        World::new(&sim, rng).run(&mut sim);
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
    world.run_with(&mut sim, |sim| {
        for (events, stack) in events.iter_mut().zip(sim.stacks()) {
            events.extend(stack.take_events());
        }
    });
    sim.pass(Duration::from_secs(1));
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
