//! The ledger at one moment, and its law.

use std::fmt::{self, Write as _};
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use super::{Consumed, Holder, place};
use crate::reason::DropReason;

/// The ledger at one moment: a copy of one shard, or with `+` the sum of several.
#[derive(Clone, PartialEq, Eq)]
pub struct LedgerSnapshot {
    entries: Box<[u64]>,
}

impl LedgerSnapshot {
    /// An empty ledger.
    pub fn new() -> LedgerSnapshot {
        LedgerSnapshot::from_entries(vec![0; place::COUNT].into_boxed_slice())
    }

    pub(super) fn from_entries(entries: Box<[u64]>) -> LedgerSnapshot {
        LedgerSnapshot { entries }
    }

    /// Packets offered by devices.
    pub fn offered(&self) -> u64 {
        self.entries[place::OFFERED]
    }

    /// Packets created here to be sent.
    pub fn output(&self) -> u64 {
        self.entries[place::OUTPUT]
    }

    /// Clones made.
    pub fn clones(&self) -> u64 {
        self.entries[place::CLONES]
    }

    /// Packets made out of others.
    pub fn made(&self) -> u64 {
        self.entries[place::MADE]
    }

    /// Packets read to their end.
    pub fn delivered(&self) -> u64 {
        self.entries[place::DELIVERED]
    }

    /// Packets taken by devices.
    pub fn transmitted(&self) -> u64 {
        self.entries[place::TRANSMITTED]
    }

    /// Packets consumed, in whatever way.
    pub fn consumed(&self) -> u64 {
        wrapping_sum(&self.entries[place::CONSUMED..][..Consumed::COUNT])
    }

    /// Packets consumed by `how`.
    pub fn consumed_by(&self, how: Consumed) -> u64 {
        self.entries[place::CONSUMED + how as usize]
    }

    /// Packets dropped, for whatever reason.
    pub fn dropped(&self) -> u64 {
        wrapping_sum(&self.entries[place::DROPPED..])
    }

    /// Packets dropped for `reason`.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.entries[place::DROPPED + reason as usize]
    }

    /// Packets that somebody holds. Of a shard alone the number can wrap below 0, as one Cpu may take out what another
    /// put in; of the sum of all shards it is the truth.
    pub fn held(&self) -> u64 {
        let ins = wrapping_sum(&self.entries[place::HELD_IN..][..Holder::COUNT]);
        ins.wrapping_sub(wrapping_sum(&self.entries[place::HELD_OUT..][..Holder::COUNT]))
    }

    /// Packets that `holder` holds; negative if more were taken out than put in, which over all shards is a fault.
    pub fn held_by(&self, holder: Holder) -> i64 {
        let ins = self.entries[place::HELD_IN + holder as usize];
        ins.wrapping_sub(self.entries[place::HELD_OUT + holder as usize]).cast_signed()
    }

    /// All births: offered + output + clones + made.
    pub fn births(&self) -> u64 {
        wrapping_sum(&[self.offered(), self.output(), self.clones(), self.made()])
    }

    /// All ends: delivered + transmitted + consumed + dropped.
    pub fn ends(&self) -> u64 {
        wrapping_sum(&[self.delivered(), self.transmitted(), self.consumed(), self.dropped()])
    }

    /// True if births equal ends and held together.
    pub fn balanced(&self) -> bool {
        self.out_by() == 0
    }

    /// Births less ends less held: how many packets have no named end and no holder; negative if some ended twice.
    pub fn out_by(&self) -> i64 {
        self.births().wrapping_sub(self.ends()).wrapping_sub(self.held()).cast_signed()
    }

    /// Checks the law, and that nobody gave out more than was taken in.
    ///
    /// # Errors
    /// Text that names both sides and what does not fit. For the sum of all shards when all Cpus are quiet; of a shard
    /// alone a holder may be negative.
    pub fn check(&self) -> Result<(), String> {
        let mut faults = String::new();
        if !self.balanced() {
            let (births, ends, held) = (self.births(), self.ends(), self.held().cast_signed());
            let verdict = match self.out_by() {
                by @ 1.. => format!("{by} ended unnamed or are held by nobody"),
                by => format!("{} ended twice or were never born", by.unsigned_abs()),
            };
            let _ = write!(
                faults,
                "{self}\n  born: {births} = offered {} + output {} + clones {} + made {}\n  accounted for: {} = \
                 delivered {} + transmitted {} + consumed {} + dropped {} + held {held}\n  {verdict}",
                self.offered(),
                self.output(),
                self.clones(),
                self.made(),
                ends.wrapping_add(held.cast_unsigned()),
                self.delivered(),
                self.transmitted(),
                self.consumed(),
                self.dropped(),
            );
        }
        for holder in Holder::ALL.into_iter().filter(|&holder| self.held_by(holder) < 0) {
            let by = self.held_by(holder).unsigned_abs();
            let _ = write!(faults, "\n  {holder}: gave out {by} more than it took in");
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.trim_start().to_string()) }
    }

    /// What was entered since `before`. What is held can come out negative.
    #[must_use]
    pub fn diff(&self, before: &LedgerSnapshot) -> LedgerSnapshot {
        let pairs = self.entries.iter().zip(&before.entries);
        LedgerSnapshot::from_entries(pairs.map(|(now, then)| now.wrapping_sub(*then)).collect())
    }

    /// The reasons for which packets were dropped, with how many, the most first.
    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        let all = DropReason::ALL.iter().map(|&reason| (reason, self.dropped_for(reason)));
        let mut drops: Vec<_> = all.filter(|&(_, n)| n != 0).collect();
        drops.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        drops
    }

    /// The ledger with one line for each way to be consumed, each drop reason and each holder that is not 0.
    pub fn details(&self) -> String {
        let mut text = format!("{self}\n");
        for how in Consumed::ALL.into_iter().filter(|&how| self.consumed_by(how) != 0) {
            let _ = writeln!(text, "  consumed {:>10}  {how}", self.consumed_by(how));
        }
        for (reason, n) in self.drops() {
            let _ = writeln!(text, "  dropped  {n:>10}  {reason}: {}", reason.describe());
        }
        for holder in Holder::ALL.into_iter().filter(|&holder| self.held_by(holder) != 0) {
            let _ = writeln!(text, "  held     {:>10}  {holder}", self.held_by(holder));
        }
        text
    }
}

fn wrapping_sum(values: &[u64]) -> u64 {
    values.iter().fold(0, |sum, value| sum.wrapping_add(*value))
}

impl Default for LedgerSnapshot {
    fn default() -> LedgerSnapshot {
        LedgerSnapshot::new()
    }
}

impl AddAssign<&LedgerSnapshot> for LedgerSnapshot {
    fn add_assign(&mut self, other: &LedgerSnapshot) {
        for (entry, more) in self.entries.iter_mut().zip(&other.entries) {
            *entry = entry.wrapping_add(*more);
        }
    }
}

impl Add for LedgerSnapshot {
    type Output = LedgerSnapshot;

    fn add(mut self, other: LedgerSnapshot) -> LedgerSnapshot {
        self += &other;
        self
    }
}

impl Sum for LedgerSnapshot {
    fn sum<I: Iterator<Item = LedgerSnapshot>>(shards: I) -> LedgerSnapshot {
        shards.fold(LedgerSnapshot::new(), Add::add)
    }
}

impl fmt::Display for LedgerSnapshot {
    /// `ledger: offered 3 + output 1 + clones 0 + made 0 = delivered 1 + transmitted 1 + consumed 1 + dropped 1 + held 0
    /// (balanced)`, in one line; else `(OUT OF BALANCE by 2)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ledger: offered {} + output {} + clones {} + made {} = delivered {} + transmitted {} + consumed {} + \
             dropped {} + held {} ",
            self.offered(),
            self.output(),
            self.clones(),
            self.made(),
            self.delivered(),
            self.transmitted(),
            self.consumed(),
            self.dropped(),
            self.held().cast_signed(),
        )?;
        match self.out_by() {
            0 => f.write_str("(balanced)"),
            by => write!(f, "(OUT OF BALANCE by {})", by),
        }
    }
}

impl fmt::Debug for LedgerSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.details().trim_end())
    }
}
