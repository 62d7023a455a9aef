//! The timer wheel of a Cpu: six-bit levels on the stack's clock.
//!
//! A wheel's entry is only a promise to look: the deadline itself lives in the socket, and whoever fires an entry looks
//! there again (`mod_timer` on the hot path would cost more than the work it guards). So an entry is inserted only when
//! a deadline becomes earlier than the one already promised, and nothing is ever removed.
//!
//! Resolution: one tick of a millisecond; an entry never fires early and at most one tick late. Deadlines that lie on the
//! ticks of the kernel's clock, as most of TCP's do, are met exactly.

use rxpath_trace::Time;

/// Nanoseconds per tick.
const TICK: u64 = 1_000_000;
/// Slots per level, as a shift.
const LEVEL_SHIFT: u32 = 6;
/// Levels: 42 bits of ticks, 139 years.
const LEVELS: usize = 7;
const SLOTS: usize = 1 << LEVEL_SHIFT;

/// What a wheel gives back when a deadline has come.
pub type Token = u64;

/// The wheel.
#[derive(Debug)]
pub struct Wheel {
    /// The tick up to which everything has fired.
    elapsed: u64,
    levels: Vec<Level>,
    /// Entries in the wheel.
    len: usize,
}

#[derive(Debug, Default)]
struct Level {
    occupied: u64,
    slots: Vec<Vec<(u64, Token)>>,
}

impl Default for Wheel {
    fn default() -> Wheel {
        Wheel::new()
    }
}

impl Wheel {
    /// An empty wheel at time zero.
    pub fn new() -> Wheel {
        let level = || Level { occupied: 0, slots: (0..SLOTS).map(|_| Vec::new()).collect() };
        Wheel { elapsed: 0, levels: (0..LEVELS).map(|_| level()).collect(), len: 0 }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Promises to give `token` at `at` or within one tick after it.
    pub fn insert(&mut self, at: Time, token: Token) {
        let tick = at.0.div_ceil(TICK).max(self.elapsed + 1);
        self.len += 1;
        self.place(tick, token);
    }

    fn place(&mut self, tick: u64, token: Token) {
        let differing = (tick ^ self.elapsed) | (SLOTS as u64 - 1);
        let level = ((63 - differing.leading_zeros()) / LEVEL_SHIFT) as usize;
        let level = level.min(LEVELS - 1);
        let slot = (tick >> (level as u32 * LEVEL_SHIFT)) as usize & (SLOTS - 1);
        let level = &mut self.levels[level];
        level.occupied |= 1 << slot;
        level.slots[slot].push((tick, token));
    }

    /// The earliest time at which [`Wheel::expire`] has something to do, if any.
    pub fn next_deadline(&self) -> Option<Time> {
        self.next_slot().map(|(_, _, tick)| Time(tick * TICK))
    }

    /// Level, slot and starting tick of the earliest occupied slot.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        self.levels.iter().enumerate().find(|(_, level)| level.occupied != 0).map(|(index, level)| {
            let shift = index as u32 * LEVEL_SHIFT;
            let here = (self.elapsed >> shift) as u32 & (SLOTS as u32 - 1);
            let ahead = level.occupied.rotate_right(here).trailing_zeros();
            let slot = (here + ahead) as usize & (SLOTS - 1);
            let round = (self.elapsed >> shift) & !(SLOTS as u64 - 1);
            let wrapped = if here + ahead >= SLOTS as u32 { SLOTS as u64 } else { 0 };
            (index, slot, (round + slot as u64 + wrapped) << shift)
        })
    }

    /// Moves every token whose time has come to `due`, in the order of their ticks.
    pub fn expire(&mut self, now: Time, due: &mut Vec<Token>) {
        let now = now.0 / TICK;
        if now <= self.elapsed {
            // Within the tick that was looked at last: whatever was inserted since is later.
            return;
        }
        while let Some((level, slot, tick)) = self.next_slot() {
            if tick > now {
                break;
            }
            self.elapsed = self.elapsed.max(tick);
            let entries = std::mem::take(&mut self.levels[level].slots[slot]);
            self.levels[level].occupied &= !(1 << slot);
            if level == 0 {
                self.len -= entries.len();
                due.extend(entries.iter().map(|&(_, token)| token));
                self.give_back(level, slot, entries);
            } else {
                self.cascade(entries, level, slot, due);
            }
        }
        self.elapsed = self.elapsed.max(now);
    }

    /// Spreads the entries of a coarse slot over the finer levels; those whose tick is exactly now are due.
    fn cascade(&mut self, mut entries: Vec<(u64, Token)>, level: usize, slot: usize, due: &mut Vec<Token>) {
        for (tick, token) in entries.drain(..) {
            if tick <= self.elapsed {
                self.len -= 1;
                due.push(token);
            } else {
                self.place(tick, token);
            }
        }
        self.give_back(level, slot, entries);
    }

    /// Keeps a slot's allocation, so that a wheel in its steady state allocates nothing.
    fn give_back(&mut self, level: usize, slot: usize, mut entries: Vec<(u64, Token)>) {
        entries.clear();
        let place = &mut self.levels[level].slots[slot];
        if place.is_empty() {
            *place = entries;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(wheel: &mut Wheel, now: Time) -> Vec<Token> {
        let mut due = Vec::new();
        wheel.expire(now, &mut due);
        due
    }

    #[test]
    fn fires_never_early_and_at_most_a_tick_late() {
        let mut wheel = Wheel::new();
        wheel.insert(Time(5 * TICK - 1), 7);
        assert_eq!(wheel.next_deadline(), Some(Time(5 * TICK)));
        assert!(expired(&mut wheel, Time(5 * TICK - 1)).is_empty());
        assert_eq!(expired(&mut wheel, Time(5 * TICK)), [7]);
        assert!(wheel.is_empty());
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn agrees_with_a_sorted_list_over_random_runs() {
        let mut rng = crate::cx::Rng::new(42);
        let mut wheel = Wheel::new();
        let mut model: Vec<(u64, Token)> = Vec::new();
        let mut now = 0u64;
        for token in 0..20_000u64 {
            let ahead = match rng.below(4) {
                0 => u64::from(rng.below(5)) * TICK,
                1 => u64::from(rng.below(200)) * TICK + 17,
                2 => u64::from(rng.below(100_000)) * TICK / 3,
                _ => u64::from(rng.below(1_000_000)) * TICK * 50,
            };
            wheel.insert(Time(now + ahead), token);
            model.push(((now + ahead).div_ceil(TICK).max(now / TICK + 1), token));
            if rng.below(3) == 0 {
                now += u64::from(rng.below(300)) * TICK / 2;
                let mut due = expired(&mut wheel, Time(now));
                let mut expected: Vec<Token> =
                    model.iter().filter(|&&(tick, _)| tick <= now / TICK).map(|&(_, token)| token).collect();
                model.retain(|&(tick, _)| tick > now / TICK);
                due.sort_unstable();
                expected.sort_unstable();
                assert_eq!(due, expected, "at {now}");
            }
            assert_eq!(wheel.len(), model.len());
        }
        assert_eq!(expired(&mut wheel, Time(u64::MAX >> 2)).len(), model.len());
    }

    #[test]
    fn the_next_deadline_is_never_later_than_the_earliest_entry() {
        let mut rng = crate::cx::Rng::new(7);
        let mut wheel = Wheel::new();
        let mut earliest = u64::MAX;
        for token in 0..500 {
            let at = u64::from(rng.below(u32::MAX)) << 12;
            earliest = earliest.min(at);
            wheel.insert(Time(at), token);
            let next = wheel.next_deadline().map_or(u64::MAX, |at| at.0);
            assert!(next <= earliest.div_ceil(TICK).max(1) * TICK, "{next} > {earliest}");
        }
    }
}
