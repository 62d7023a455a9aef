//! Rounds of two sides in turn, and what becomes of their figures.

use std::slice::from_mut;
use std::time::Instant;

use serde::Serialize;

use crate::Options;
use crate::case::BURST;
use crate::drive::{Runner, Side};

/// Nanoseconds that a slice of the slower side is to take: short, so that most slices are not interrupted.
const SLICE_NS: f64 = 1_000_000.0;
/// Bursts before a timed slice, so that the slice finds the caches as it leaves them: twice around a ring of 256.
pub(crate) const WARM_UP: usize = 16;
/// Bursts behind each slice in which the peer's work is timed.
const GENERATOR: usize = 33;
/// Bursts of a round in which every byte is compared.
const CHECKED: usize = 37;

/// Median, lowest and highest of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// Of some values; NaN without any.
    pub fn of(values: &[f64]) -> Spread {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { at(middle) } else { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 };
        Spread { median, min: at(0), max: at(sorted.len().wrapping_sub(1)) }
    }
}

/// What a side took, in nanoseconds per segment.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    /// The stack's work in each slice of each round: the peer's is subtracted.
    pub stack: Vec<Vec<f64>>,
    /// The peer's work, likewise.
    pub generator: Vec<Vec<f64>>,
    /// ACKs per segment over all rounds.
    pub acks: f64,
    /// Times that the window had no room for a burst.
    pub stalls: u64,
}

/// The median of each round, and of these the median with the lowest and the highest.
pub(crate) fn over_rounds(rounds: &[Vec<f64>]) -> Spread {
    let medians: Vec<f64> = rounds.iter().map(|slices| Spread::of(slices).median).collect();
    Spread::of(&medians)
}

/// How often `own` fits into `other`, slice by slice: a machine changes its speed, but seldom between two slices.
pub(crate) fn ratios(own: &Rounds, other: &Rounds) -> Spread {
    let of_slices =
        |(own, other): (&Vec<f64>, &Vec<f64>)| own.iter().zip(other).map(|(own, other)| other / own).collect();
    let rounds: Vec<Vec<f64>> = own.stack.iter().zip(&other.stack).map(of_slices).collect();
    over_rounds(&rounds)
}

/// How much is run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds.
    pub rounds: usize,
    /// Slices of each side in a round.
    pub slices: usize,
    /// Bursts in a slice.
    pub bursts: usize,
}

impl Plan {
    /// A plan that keeps to the time of the options. Warms both sides up.
    pub fn of<A: Side, B: Side>(options: &Options, a: &mut Runner<A>, b: &mut Runner<B>) -> Plan {
        let (a, b) = (burst_ns(a), burst_ns(b));
        Plan::for_burst(options, a.max(b), a + b)
    }

    /// The slower side takes `slow` nanoseconds for a burst, both together take `both`.
    pub(crate) fn for_burst(options: &Options, slow: f64, both: f64) -> Plan {
        let bursts = (SLICE_NS / slow).ceil() as usize;
        let rounds = options.rounds as usize;
        let slices = options.seconds * 1e9 / rounds as f64 / (both * (bursts + WARM_UP + GENERATOR) as f64);
        Plan { rounds, slices: (slices as usize).max(3), bursts }
    }
}

/// What a burst takes, roughly: the fastest of some slices.
pub(crate) fn burst_ns<S: Side>(runner: &mut Runner<S>) -> f64 {
    const BURSTS: usize = 500;
    (0..20).map(|_| runner.timed(BURSTS) / BURSTS as f64).fold(f64::INFINITY, f64::min)
}

/// Runs the rounds: the sides in turn, slice by slice.
pub fn rounds<A: Side, B: Side>(plan: &Plan, a: &mut Runner<A>, b: &mut Runner<B>) -> (Rounds, Rounds) {
    let clock_ns = clock_ns();
    let (a, b) = (from_mut(a), from_mut(b));
    let mut of_a = Round::new(a);
    let mut of_b = Round::new(b);
    for _ in 0..plan.rounds {
        for _ in 0..plan.slices {
            a[0].timed(WARM_UP);
            of_a.push(Slice::of(&mut a[0], plan.bursts), clock_ns, 1.0);
            b[0].timed(WARM_UP);
            of_b.push(Slice::of(&mut b[0], plan.bursts), clock_ns, 1.0);
        }
        of_a.end(a);
        of_b.end(b);
    }
    (of_a.done(a), of_b.done(b))
}

/// What a slice took, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    /// Per segment, the peer's work included.
    pub whole: f64,
    /// The peer's work, per burst, with the clock's.
    pub generator: f64,
}

impl Slice {
    /// Runs a slice.
    pub(crate) fn of<S: Side>(runner: &mut Runner<S>, bursts: usize) -> Slice {
        let whole = runner.timed(bursts) / (bursts * BURST) as f64;
        let mut took = Vec::with_capacity(GENERATOR);
        runner.generator(GENERATOR, &mut took);
        Slice { whole, generator: Spread::of(&took).median }
    }
}

/// The rounds of one side, one of them under way.
pub(crate) struct Round {
    rounds: Rounds,
    stack: Vec<f64>,
    generator: Vec<f64>,
    before: Counts,
}

/// What runners counted: segments, ACKs, stalls.
struct Counts(u64, u64, u64);

impl Counts {
    fn of<S: Side>(runners: &[Runner<S>]) -> Counts {
        runners.iter().fold(Counts(0, 0, 0), |sum, runner| {
            Counts(sum.0 + runner.segments(), sum.1 + runner.acks(), sum.2 + runner.stalls())
        })
    }
}

impl Round {
    pub(crate) fn new<S: Side>(runners: &[Runner<S>]) -> Round {
        Round { rounds: Rounds::default(), stack: Vec::new(), generator: Vec::new(), before: Counts::of(runners) }
    }

    /// A slice of one runner, of which `share` run at once. An empty interval of the clock reads `clock_ns`.
    pub(crate) fn push(&mut self, slice: Slice, clock_ns: f64, share: f64) {
        let generator = (slice.generator - clock_ns).max(0.0) / BURST as f64;
        self.stack.push((slice.whole - generator) / share);
        self.generator.push(generator);
    }

    /// The round's last part: the comparison.
    pub(crate) fn end<S: Side>(&mut self, runners: &mut [Runner<S>]) {
        for runner in runners {
            runner.checked(CHECKED);
        }
        self.rounds.stack.push(std::mem::take(&mut self.stack));
        self.rounds.generator.push(std::mem::take(&mut self.generator));
    }

    pub(crate) fn done<S: Side>(mut self, runners: &[Runner<S>]) -> Rounds {
        let Counts(segments, acks, stalls) = Counts::of(runners);
        self.rounds.acks = (acks - self.before.1) as f64 / (segments - self.before.0) as f64;
        self.rounds.stalls = stalls - self.before.2;
        self.rounds
    }
}

/// What an interval reads in which nothing happens.
pub(crate) fn clock_ns() -> f64 {
    let empty: Vec<f64> = (0..10_001)
        .map(|_| {
            let start = Instant::now();
            start.elapsed().as_nanos() as f64
        })
        .collect();
    Spread::of(&empty).median
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_few_and_of_many() {
        assert_eq!(Spread::of(&[3.0]), Spread { median: 3.0, min: 3.0, max: 3.0 });
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 9.0]), Spread { median: 3.0, min: 1.0, max: 9.0 });
        assert_eq!(Spread::of(&[5.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 5.0 });
        assert!(Spread::of(&[]).median.is_nan());
    }

    #[test]
    fn the_ratio_is_that_of_the_slices_and_not_of_the_medians() {
        let rounds =
            |stack: &[&[f64]]| Rounds { stack: stack.iter().map(|s| s.to_vec()).collect(), ..Rounds::default() };
        let own = rounds(&[&[10.0, 20.0, 20.0], &[10.0]]);
        let other = rounds(&[&[30.0, 80.0, 80.0], &[25.0]]);
        assert_eq!(ratios(&own, &other), Spread { median: 3.25, min: 2.5, max: 4.0 });
        assert_eq!(over_rounds(&own.stack), Spread { median: 15.0, min: 10.0, max: 20.0 });
    }
}
