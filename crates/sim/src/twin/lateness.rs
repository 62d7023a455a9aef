//! When the stack's timers fire in a replay: not when they are due, but when the kernel's did.
//!
//! The kernel's timers are late: by its tick and the machine's business, and those that are set for longer by as much as
//! the wheel that they turn on is coarse (8 ticks from 64 ticks on, 64 ticks from 512 on). A timer that sets itself again
//! hands its lateness on. The stack's are exact. So they are held ([`rxpath_core::stack::Stack::hold_timers`]) while the
//! recording's time goes on, until a frame in the recording tells that the kernel's has fired, within what may be.
//!
//! Where no frame tells (the timer said nothing, a step came before it and made it needless, or the run ended), it may
//! have fired or not as long as it may be late, and when it has fired on a coarse wheel it may have been late: choices. Each
//! choice is as good as another, and the runs agree if they do for some of them.

use std::collections::{BTreeMap, VecDeque};

use rxpath_core::cx::Rng;
use rxpath_trace::Time;

use super::record::{Recording, What};
use super::tick::{MS, TICK};

/// The kernel's timers fire this much late at the most where they are not coarse: its tick, and the machine's.
pub const LATE_MAX: u64 = 16 * MS;
/// Where no server keeps timers of its own, none is set for longer: requests of ARP's and reassembly have a second.
const LONGEST: u64 = 1_000 * MS;

/// Nanoseconds by which a timer may be late that was set for so long.
pub fn allowance(ahead: u64) -> u64 {
    let coarse = match ahead / TICK {
        0..63 => 0,
        63..504 => 8 * TICK,
        504..4_032 => 64 * TICK,
        _ => 512 * TICK,
    };
    LATE_MAX + coarse
}

/// What a timer that is due is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It fires then.
    Fire(Time),
    /// It is held beyond the next step.
    Held,
}

/// Follows a recording.
#[derive(Debug)]
pub struct Lateness {
    /// Position and time of each frame that a timer of the kernel's sent; of several at one time only the first.
    frames: VecDeque<(usize, Time)>,
    exact: bool,
    /// When each timer that is set is due, and since when it has been set for that.
    timers: BTreeMap<Time, Time>,
    /// Draws choices; without it they are the likely ones.
    choices: Option<Rng>,
    /// Steps at which timers were held.
    pub held: u64,
    /// Choices made.
    pub chosen: u64,
}

impl Lateness {
    /// Of this recording, which begins at `base` on the stack's clock.
    pub fn of(kernel: &Recording, base: Time, choices: Option<u64>) -> Lateness {
        let mut frames: VecDeque<(usize, Time)> = VecDeque::new();
        for (index, event) in kernel.events.iter().enumerate() {
            let at = base + event.at;
            let late = matches!(event.what, What::Emitted { prompt: false, .. });
            if late && frames.back().is_none_or(|&(_, before)| before < at) {
                frames.push_back((index, at));
            }
        }
        let choices = choices.map(Rng::new);
        Lateness { frames, exact: kernel.host.is_exact(), timers: BTreeMap::new(), choices, held: 0, chosen: 0 }
    }

    /// These are the stack's timers at `now`.
    pub fn timers(&mut self, deadlines: &[Time], now: Time) {
        let set = deadlines.iter().map(|&due| (due, self.timers.get(&due).copied().unwrap_or(now))).collect();
        self.timers = set;
    }

    /// What timers that are due at `due` do before the event `index` of the recording, at `to`; of the end of the run there
    /// is no index. Where there are none, the stack only looks whether there are.
    pub fn turn(&mut self, due: Time, to: Time, index: Option<usize>) -> Turn {
        let Some((&first, &set)) = self.timers.range(..=due).next() else { return Turn::Fire(due) };
        let ahead = first.0.saturating_sub(set.0);
        let latest = due + allowance(if self.exact { ahead } else { ahead.min(LONGEST) });
        if let Some(&(position, at)) = self.frames.front().filter(|&&(_, at)| at <= latest) {
            let before = index.is_none_or(|index| position < index);
            return if before { Turn::Fire(at.max(due).min(to)) } else { self.hold() };
        }
        if to > latest {
            // How late it was may be why it sent nothing: what it waited for had been waited for long enough.
            let coarse = latest > due + LATE_MAX;
            self.chosen += u64::from(coarse);
            let late = coarse && self.choices.as_mut().is_some_and(|rng| rng.below(2) == 0);
            return Turn::Fire(if late { latest } else { due });
        }
        self.chosen += 1;
        let held = match &mut self.choices {
            None => to <= due + LATE_MAX,
            Some(rng) => rng.below(2) == 0,
        };
        if held { self.hold() } else { Turn::Fire(due) }
    }

    fn hold(&mut self) -> Turn {
        self.held += 1;
        Turn::Held
    }

    /// A timer of the stack's sent something.
    pub fn sent(&mut self) {
        self.frames.pop_front();
    }

    /// The event `index` comes: frames before it have no timer of the stack's any more.
    pub fn step(&mut self, index: usize) {
        while self.frames.front().is_some_and(|&(position, _)| position < index) {
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::Host;
    use super::super::record::Event;
    use super::*;

    const BASE: Time = Time(1_000_000_000);

    fn recording(serves: bool, frames: &[(u64, bool)]) -> Recording {
        let event =
            |&(at, prompt): &(u64, bool)| Event::new(at * MS, What::Emitted { link: 0, frame: Vec::new(), prompt });
        let events = frames.iter().map(event).collect();
        Recording { host: Host { serves, ..Host::default() }, events, ..Recording::default() }
    }

    fn at(ms: u64) -> Time {
        BASE + ms * MS
    }

    #[test]
    fn a_timer_fires_with_the_kernels_frame() {
        let kernel = recording(true, &[(5, true), (50, false)]);
        let mut late = Lateness::of(&kernel, BASE, None);
        late.step(1);
        late.timers(&[at(45)], at(5));
        assert_eq!(late.turn(at(45), at(60), Some(2)), Turn::Fire(at(50)));
        assert_eq!(late.turn(at(45), at(48), Some(1)), Turn::Held, "its frame comes after the step");
        assert_eq!(late.turn(at(44), at(60), Some(2)), Turn::Fire(at(44)), "none is due");
        late.timers(&[at(20), at(45)], at(5));
        assert_eq!(late.turn(at(20), at(60), Some(2)), Turn::Fire(at(20)), "so late none is");
        assert_eq!((late.held, late.chosen), (1, 0));
        late.sent();
        late.timers(&[at(45)], at(20));
        assert_eq!(late.turn(at(45), at(90), Some(2)), Turn::Fire(at(45)), "and nothing was seen of it");
    }

    #[test]
    fn what_nobody_saw_is_a_choice_within_what_may_be() {
        let kernel = recording(false, &[]);
        let mut late = Lateness::of(&kernel, BASE, None);
        late.timers(&[at(1_000)], BASE);
        assert_eq!(late.turn(at(1_000), at(1_010), None), Turn::Held);
        assert_eq!(late.turn(at(1_000), at(1_040), None), Turn::Fire(at(1_000)));
        assert_eq!(late.turn(at(1_000), at(1_100), None), Turn::Fire(at(1_000)));
        assert_eq!(late.chosen, 3, "the last had fired in any case, but when?");
        let mut drawn = Lateness::of(&kernel, BASE, Some(1));
        drawn.timers(&[at(1_000)], BASE);
        let turns: Vec<Turn> = (0..32).map(|_| drawn.turn(at(1_000), at(1_040), None)).collect();
        assert!(turns.contains(&Turn::Held) && turns.contains(&Turn::Fire(at(1_000))));
        let turns: Vec<Turn> = (0..32).map(|_| drawn.turn(at(1_000), at(1_100), None)).collect();
        assert!(turns.contains(&Turn::Fire(at(1_048))) && turns.contains(&Turn::Fire(at(1_000))), "{turns:?}");
    }

    #[test]
    fn how_late_a_timer_may_be_is_said_by_when_it_was_set() {
        let kernel = recording(true, &[(440, false)]);
        let mut late = Lateness::of(&kernel, BASE, None);
        late.timers(&[at(408)], at(4));
        // Steps do not set it anew.
        late.timers(&[at(408)], at(390));
        assert_eq!(late.turn(at(408), at(500), None), Turn::Fire(at(440)));
        late.timers(&[], at(395));
        late.timers(&[at(408)], at(396));
        assert_eq!(late.turn(at(408), at(500), None), Turn::Fire(at(408)), "a timer for 12 ms is not so late");
    }
}
