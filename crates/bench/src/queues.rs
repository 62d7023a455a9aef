//! Two queues, Cpus and threads against one of each.
//!
//! Each thread does all that happens on its queue: it is the device, the softirq and the application of its connection.
//! The threads of a slice start together, and the slice has ended when the last of them is done. Where the system lets
//! it, each thread stays on a processor of its own.
//!
//! Two processors of a machine need not do twice the work of one: they may share a core, a clock or a host. So the same
//! slices are run on two stacks that have nothing in common. What these reach is the most that two queues of one stack
//! could, then and there; what is between the two is what the queues cost each other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::Options;
use crate::case::Case;
use crate::drive::Runner;
use crate::measure::{Plan, Round, Rounds, Slice, WARM_UP, burst_ns, clock_ns};
use crate::report::{CaseResult, Limit};
use crate::rx::{RxPath, Setup};

/// The case whose segments are sent.
const SEGMENTS: Case = Case::Tcp64;

/// Measures.
pub(crate) fn run(options: &Options) -> CaseResult {
    let mut one = Queues::of(RxPath::queues(&setup(1, options.seed), SEGMENTS.payload()), options.seed);
    let mut two = Queues::of(RxPath::queues(&setup(2, options.seed), SEGMENTS.payload()), options.seed);
    let apart = (0..2).flat_map(|_| RxPath::queues(&setup(1, options.seed), SEGMENTS.payload()));
    let mut apart = Queues::of(apart.collect(), options.seed);
    let slow = burst_ns(&mut one.runners[0]);
    let plan = Plan::for_burst(options, slow, 3.0 * slow);
    let clock_ns = clock_ns();
    for _ in 0..plan.rounds {
        for slice in 0..plan.slices {
            one.slice(plan.bursts, clock_ns);
            // A processor that has just been idle is slower for a while: neither is to have always that.
            let mut both = [&mut two, &mut apart];
            both.rotate_left(slice % 2);
            both.into_iter().for_each(|queues| queues.slice(plan.bursts, clock_ns));
        }
        one.end();
        two.end();
        apart.end();
    }
    let (of_one, packets) = one.done();
    let (of_two, _) = two.done();
    let (of_apart, _) = apart.done();
    let limit = Limit::of("two stacks", &of_apart, &of_one);
    let result = CaseResult::of_sides(Case::TwoQueues, ("two queues", of_two), ("one queue", of_one), packets);
    CaseResult { limit: Some(limit), ..result }
}

fn setup(queues: u16, seed: u64) -> Setup {
    Setup { queues, gro: SEGMENTS.gro(), seed }
}

/// Queues that run at once, a thread for each: those of one stack, or one of each of several.
struct Queues {
    runners: Vec<Runner<RxPath>>,
    round: Round,
}

impl Queues {
    fn of(sides: Vec<RxPath>, seed: u64) -> Queues {
        let runners: Vec<_> = sides.into_iter().map(|side| Runner::connect(side, SEGMENTS.payload(), seed)).collect();
        let round = Round::new(&runners);
        Queues { runners, round }
    }

    /// All queues at once: what the slowest took.
    fn slice(&mut self, bursts: usize, clock_ns: f64) {
        let start = Start::of(self.runners.len());
        let run = &|(index, runner): (usize, &mut Runner<RxPath>)| {
            stay_on(index);
            runner.timed(WARM_UP);
            start.wait();
            Slice::of(runner, bursts)
        };
        let took: Vec<Slice> = thread::scope(|scope| {
            let runners = self.runners.iter_mut().enumerate();
            let threads: Vec<_> = runners.map(|runner| scope.spawn(move || run(runner))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no thread failed")).collect()
        });
        let slowest = took.into_iter().max_by(|a, b| a.whole.total_cmp(&b.whole));
        self.round.push(slowest.expect("at least one queue"), clock_ns, self.runners.len() as f64);
    }

    fn end(&mut self) {
        self.round.end(&mut self.runners);
    }

    fn done(self) -> (Rounds, u64) {
        let Queues { mut runners, round } = self;
        let rounds = round.done(&runners);
        let packets = runners.iter_mut().map(Runner::finish).sum();
        (rounds, packets)
    }
}

/// Threads that start together. They spin: a wake-up would take as long as a slice's first bursts.
struct Start {
    missing: AtomicUsize,
}

impl Start {
    fn of(threads: usize) -> Start {
        Start { missing: AtomicUsize::new(threads) }
    }

    fn wait(&self) {
        self.missing.fetch_sub(1, Ordering::AcqRel);
        let mut spins = 0u32;
        while self.missing.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins.is_multiple_of(10_000) {
                thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }
}

/// Keeps the thread on the `index`-th processor that the program may use, if there are as many.
fn stay_on(index: usize) {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let Ok(allowed) = sched_getaffinity(None) else { return };
        let Some(cpu) = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).nth(index) else { return };
        let mut own = CpuSet::new();
        own.set(cpu);
        // Refused means that the thread may move: slower at times, not wrong.
        let _ = sched_setaffinity(None, &own);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = index;
}
