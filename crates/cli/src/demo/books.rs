//! The books of the demonstration: lives on one side, ledger and counters on the other. Both must tell the same.
//!
//! A [`Sheet`] covers a stretch that began and ended in silence: no packet on its way, nothing counted meanwhile. With all
//! lives recorded its events must be exactly the ledger's entries; with one in so many they can only be fewer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rxpath::Stack;
use rxpath_trace::lives::{self, Census, Status};
use rxpath_trace::{Consumed, Counter, DropReason, Event, EventKind, LedgerSnapshot, Life, Selector, Snapshot};

/// How long nothing may happen before it counts as silence: longer than a delayed ACK waits at first.
const SILENCE: Duration = Duration::from_millis(60);
/// Longest wait for silence.
const PATIENCE: Duration = Duration::from_secs(5);
/// The ring by which the clients' frames come.
const CLIENTS_RING: u16 = 0;

/// What was recorded and counted between two silences.
pub struct Sheet {
    /// Which lives were recorded.
    pub selector: Selector,
    /// All events.
    pub events: Vec<Event>,
    /// The ledger's entries.
    pub ledger: LedgerSnapshot,
    /// The ledger before.
    before: LedgerSnapshot,
    /// What was counted.
    pub counters: Snapshot,
    /// Records that were lost.
    pub lost: u64,
}

/// Sheets of a stack, one after the other.
pub struct Books {
    stack: Stack,
    /// All sheets but the one that is being written.
    pub sheets: Vec<Sheet>,
    selector: Selector,
    events: Vec<Event>,
    ledger: LedgerSnapshot,
    counters: Snapshot,
    lost: u64,
}

impl Books {
    /// Opens the books of a stack that records all lives from its beginning.
    pub fn open(stack: &Stack) -> Books {
        Books {
            stack: stack.clone(),
            sheets: Vec::new(),
            selector: Selector::All,
            events: Vec::new(),
            ledger: LedgerSnapshot::new(),
            counters: Snapshot::new(),
            lost: 0,
        }
    }

    /// Waits for silence, ends the sheet, and begins one for which `next` says which lives are recorded.
    ///
    /// # Errors
    /// There is no silence.
    pub fn turn_over(&mut self, next: Selector) -> anyhow::Result<()> {
        let now = self.wait_for_silence()?;
        self.end_sheet(now);
        self.stack.select_lives(&next);
        self.selector = next;
        Ok(())
    }

    /// Ends the last sheet, the stack having been shut down.
    pub fn close(&mut self) {
        self.collect();
        self.end_sheet(self.stack.ledger());
    }

    fn end_sheet(&mut self, now: LedgerSnapshot) {
        let (counters, lost) = (self.stack.snapshot(), self.stack.lost_events());
        self.sheets.push(Sheet {
            selector: self.selector.clone(),
            events: std::mem::take(&mut self.events),
            ledger: now.diff(&self.ledger),
            before: self.ledger.clone(),
            counters: counters.diff(&self.counters),
            lost: lost - self.lost,
        });
        (self.ledger, self.counters, self.lost) = (now, counters, lost);
    }

    fn collect(&mut self) {
        self.events.extend(self.stack.take_events());
    }

    /// Waits until nothing is recorded or entered for a while; gives the ledger of that while.
    fn wait_for_silence(&mut self) -> anyhow::Result<LedgerSnapshot> {
        let begun = Instant::now();
        loop {
            self.collect();
            let before = self.stack.ledger();
            std::thread::sleep(SILENCE);
            let (events, after) = (self.events.len(), self.stack.ledger());
            self.collect();
            if self.events.len() == events && after == before && after.balanced() && after.held() == 0 {
                return Ok(after);
            }
            ensure!(begun.elapsed() < PATIENCE, "packets are still on their way after {PATIENCE:?}: {after}");
        }
    }

    /// The sequence number behind the last segment with data that a life tells of: what the stack expects next, while one
    /// client alone talks to it.
    pub fn rcv_nxt(&mut self) -> Option<u32> {
        self.collect();
        let with_data = self.events.iter().rev().find(|event| event.kind == EventKind::TcpV4Rcv && event.b > 0);
        with_data.map(|event| event.a.wrapping_add(event.b))
    }

    /// Everything in which lives, ledger and counters disagree; empty if they agree.
    pub fn disagreements(&self) -> Vec<String> {
        self.sheets.iter().flat_map(Sheet::disagreements).collect()
    }

    /// All lives of sheets on which all were recorded.
    pub fn whole_lives(&self) -> Vec<Life> {
        let whole = self.sheets.iter().filter(|sheet| sheet.selector == Selector::All);
        lives::group(whole.flat_map(|sheet| sheet.events.iter().copied()))
    }

    /// Lives of the other sheets.
    pub fn sampled_lives(&self) -> usize {
        let sampled = self.sheets.iter().filter(|sheet| sheet.selector != Selector::All);
        lives::group(sampled.flat_map(|sheet| sheet.events.iter().copied())).len()
    }

    /// Records that were lost.
    pub fn lost(&self) -> u64 {
        self.sheets.iter().map(|sheet| sheet.lost).sum()
    }
}

/// An entry of the ledger, as lives show it.
struct Entry {
    what: String,
    lives: u64,
    ledger: u64,
}

impl Sheet {
    fn disagreements(&self) -> Vec<String> {
        let whole = self.selector == Selector::All && self.lost == 0;
        let mut found = Vec::new();
        for Entry { what, lives, ledger } in self.entries() {
            if lives > ledger || whole && lives != ledger {
                found.push(format!("{what}: the lives show {lives}, the ledger {ledger}"));
            }
        }
        found.extend(self.census(whole));
        found.extend(self.counters());
        found.extend(self.sample());
        found
    }

    fn entries(&self) -> Vec<Entry> {
        let count = |wanted: &dyn Fn(&Event) -> bool| self.events.iter().filter(|event| wanted(event)).count() as u64;
        let of = |kinds: &[EventKind]| count(&|event| kinds.contains(&event.kind));
        let consumed = |how: Consumed| match how.event_kind() {
            EventKind::Consumed => count(&|event| event.kind == EventKind::Consumed && event.a == how as u32),
            kind => of(&[kind]),
        };
        let dropped =
            |reason: DropReason| count(&|event| event.kind == EventKind::Dropped && event.a == u32::from(reason as u8));
        let entry = |what: &str, lives: u64, ledger: u64| Entry { what: what.to_owned(), lives, ledger };
        let mut entries = vec![
            entry("packets offered", of(&[EventKind::Offered, EventKind::Missed]), self.ledger.offered()),
            entry("packets made to be sent", of(&[EventKind::OutputMade]), self.ledger.output()),
            entry("clones", of(&[EventKind::Cloned]), self.ledger.clones()),
            entry("packets made out of others", of(&[EventKind::Made]), self.ledger.made()),
            entry(
                "packets delivered",
                of(&[EventKind::Recv, EventKind::DatagramRecv, EventKind::TapRead]),
                self.ledger.delivered(),
            ),
            entry("packets transmitted", of(&[EventKind::Transmitted]), self.ledger.transmitted()),
        ];
        let consumptions = Consumed::ALL.into_iter();
        entries.extend(
            consumptions
                .map(|how| entry(&format!("packets consumed ({how})"), consumed(how), self.ledger.consumed_by(how))),
        );
        let reasons = DropReason::ALL.iter().copied();
        entries.extend(reasons.map(|reason| {
            entry(&format!("packets dropped as {reason}"), dropped(reason), self.ledger.dropped_for(reason))
        }));
        entries
    }

    /// Each life has one birth and one end, silence having been at both ends of the sheet.
    fn census(&self, whole: bool) -> Vec<String> {
        let lives = lives::group(self.events.iter().copied());
        let census = Census::of(&lives);
        let sound = |life: &Life| life.status() == Status::Finished;
        match lives.iter().find(|life| !sound(life)) {
            Some(life) if census.broken > 0 || self.lost == 0 && whole => {
                vec![format!("{census}; for one, {}", life.story().trim_end())]
            }
            _ => Vec::new(),
        }
    }

    /// What always moves with a drop moved as often as there were such drops, at least.
    fn counters(&self) -> Vec<String> {
        let mut due: HashMap<Counter, u64> = HashMap::new();
        for (reason, packets) in self.ledger.drops() {
            for counter in reason.counters() {
                *due.entry(*counter).or_default() += packets;
            }
        }
        let short = due.into_iter().filter(|&(counter, packets)| self.counters[counter] < packets);
        let tell = |(counter, packets): (Counter, u64)| {
            format!("{counter}: {} counted, and {packets} packets dropped that move it", self.counters[counter])
        };
        short.map(tell).collect()
    }

    /// Of one in so many, as many frames were recorded as there were.
    fn sample(&self) -> Vec<String> {
        let Selector::OneIn(n) = self.selector else { return Vec::new() };
        let ring = |event: &&Event| !event.id.is_made() && event.id.source() == u32::from(CLIENTS_RING);
        let births = self.events.iter().filter(ring).filter(|event| event.kind.birth()).count() as u64;
        let (first, last) = (self.before.offered(), self.before.offered() + self.ledger.offered());
        let due = last / n - first / n;
        match self.lost {
            0 if births != due => vec![format!("frames recorded, one in {n}: {births}, where {due} are due")],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rxpath_trace::{Ledger, PacketId, Time};

    use super::*;

    fn event(id: PacketId, kind: EventKind, a: u32, b: u32) -> Event {
        Event { id, at: Time::ZERO, other: PacketId::NONE, a, b, kind, cpu: 0 }
    }

    fn sheet(events: Vec<Event>, enter: impl FnOnce(&Ledger), counters: Snapshot) -> Sheet {
        let ledger = Ledger::new();
        enter(&ledger);
        Sheet {
            selector: Selector::All,
            events,
            ledger: ledger.snapshot(),
            before: LedgerSnapshot::new(),
            counters,
            lost: 0,
        }
    }

    fn one_drop() -> Vec<Event> {
        let id = PacketId::of_ring(0, 1);
        let reason = u32::from(DropReason::TcpCsum as u8);
        vec![event(id, EventKind::Offered, 60, 0), event(id, EventKind::Dropped, reason, 0)]
    }

    fn counted() -> Snapshot {
        Snapshot::of(&[(Counter::TcpInErrs, 1), (Counter::TcpInCsumErrors, 1)])
    }

    fn entered(ledger: &Ledger) {
        ledger.offered(1);
        ledger.dropped(DropReason::TcpCsum, 1);
    }

    #[test]
    fn lives_and_ledger_that_tell_the_same_agree() {
        assert_eq!(sheet(one_drop(), entered, counted()).disagreements(), [""; 0]);
    }

    #[test]
    fn a_drop_that_only_one_side_knows_is_found() {
        let unseen = sheet(Vec::new(), entered, counted()).disagreements();
        assert!(
            unseen.contains(
                &"packets dropped as TCP_CSUM: the lives show 1, the ledger 0"
                    .replace("1, the ledger 0", "0, the ledger 1")
            )
        );
        let unentered = sheet(one_drop(), |ledger| ledger.offered(1), counted()).disagreements();
        assert_eq!(unentered, ["packets dropped as TCP_CSUM: the lives show 1, the ledger 0"]);
    }

    #[test]
    fn a_drop_that_moved_no_counter_is_found() {
        let found = sheet(one_drop(), entered, Snapshot::of(&[(Counter::TcpInErrs, 1)])).disagreements();
        assert_eq!(found, ["TcpInCsumErrors: 0 counted, and 1 packets dropped that move it"]);
    }

    #[test]
    fn a_life_without_an_end_is_found() {
        let events = vec![event(PacketId::of_ring(0, 1), EventKind::Offered, 60, 0)];
        let found = sheet(events, |ledger| ledger.offered(1), Snapshot::new()).disagreements();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("1 lives: 0 finished, 1 unfinished"), "{found:?}");
    }

    #[test]
    fn of_a_sample_each_is_due_and_fewer_entries_are_no_fault() {
        let id = PacketId::of_ring(0, 10);
        let events = vec![event(id, EventKind::Offered, 60, 0), event(id, EventKind::Recv, 6, 0)];
        let entered = |ledger: &Ledger| {
            ledger.offered(19);
            ledger.delivered(19);
        };
        let mut sheet = sheet(events, entered, Snapshot::new());
        sheet.selector = Selector::OneIn(10);
        assert_eq!(sheet.disagreements(), [""; 0]);
        sheet.events.clear();
        assert_eq!(sheet.disagreements(), ["frames recorded, one in 10: 0, where 1 are due"]);
        sheet.lost = 2;
        assert_eq!(sheet.disagreements(), [""; 0]);
    }
}
