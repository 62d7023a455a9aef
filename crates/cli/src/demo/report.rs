//! What the demonstration shows.

use rxpath_trace::{EventKind, LedgerSnapshot, Life, Names, Snapshot};
use serde_json::{Value, json};

use super::ONE_IN;
use super::acts::Act;
use super::books::Books;
use super::stage::Stage;
use crate::failure::Failure;
use crate::out::{BAD, FAINT, GOOD, Out, STRONG};
use crate::views::lives::coloured;
use crate::views::{LedgerRow, counter_rows};

/// Stories of dropped packets that are told; further ones are counted.
const MAX_STORIES: usize = 12;

/// Says where it takes place.
///
/// # Errors
/// The output is not taken; so for all functions here.
pub fn introduce(out: &mut Out, stage: &Stage) -> Result<(), Failure> {
    out.line(format_args!("{STRONG}rxpath demo{STRONG:#}: a stack {}", stage.setting))?;
    if let Some(why) = &stage.why_no_tap {
        out.line(format_args!("({why})"))?;
    }
    out.line(format_args!("\n{STRONG}what happened{STRONG:#}"))?;
    out.flush()
}

/// Tells an act.
pub fn tell(out: &mut Out, act: &Act) -> Result<(), Failure> {
    let style = if act.ok { GOOD } else { BAD };
    let failed = if act.ok { "" } else { "FAILED: " };
    out.line(format_args!("  {style}{:<8}{style:#}{failed}{}", act.name, act.what))?;
    out.flush()
}

/// The outcome.
pub struct Report {
    kind: &'static str,
    why_no_tap: Option<String>,
    acts: Vec<Act>,
    names: Names,
    delivered: Option<Life>,
    dropped: Vec<Life>,
    counters: Snapshot,
    recorded: usize,
    sampled: usize,
    lost: u64,
    disagreements: Vec<String>,
    ledger: LedgerSnapshot,
    /// The ledger of the clients' stack, if that is one of ours.
    far: Option<LedgerSnapshot>,
}

impl Report {
    /// The outcome of these acts, after the stack was shut down.
    pub fn new(stage: &Stage, acts: Vec<Act>, books: &Books, names: Names, far: Option<LedgerSnapshot>) -> Report {
        let lives = books.whole_lives();
        let ended = |life: &Life, kind: EventKind| life.end().is_some_and(|end| end.kind == kind);
        // The first bytes that anybody sent: the request for the page.
        let is_read = |life: &&Life| ended(life, EventKind::Recv) && life.end().is_some_and(|end| end.a > 0);
        let delivered = lives.iter().find(is_read).cloned();
        let dropped = lives.iter().filter(|life| ended(life, EventKind::Dropped)).cloned().collect();
        Report {
            kind: stage.kind,
            why_no_tap: stage.why_no_tap.clone(),
            acts,
            names,
            delivered,
            dropped,
            counters: stage.stack.snapshot(),
            recorded: lives.len(),
            sampled: books.sampled_lives(),
            lost: books.lost(),
            disagreements: books.disagreements(),
            ledger: stage.stack.ledger(),
            far,
        }
    }

    /// Whether everything went as it should.
    fn ok(&self) -> bool {
        self.faults().is_empty()
    }

    /// All that did not.
    fn faults(&self) -> Vec<String> {
        let failed = self.acts.iter().filter(|act| !act.ok);
        let mut faults: Vec<String> = failed.map(|act| format!("{}: {}", act.name, act.what)).collect();
        faults.extend(self.disagreements.iter().cloned());
        faults.extend(self.ledger.check().err());
        faults.extend(self.far.iter().filter_map(|far| far.check().err()).map(|text| format!("the clients' {text}")));
        if self.delivered.is_none() {
            faults.push("no life of a delivered packet was recorded".to_owned());
        }
        faults
    }

    /// Tells the outcome.
    ///
    /// # Errors
    /// A client failed; the books do not balance or disagree; no life of a delivered packet is there to be shown.
    pub fn conclude(&self, out: &mut Out, json: bool) -> Result<(), Failure> {
        if json {
            out.json(&self.json())?;
        } else {
            self.print(out)?;
        }
        if self.ok() { Ok(()) } else { Err(Failure::told()) }
    }

    /// Prints lives, counters, and the ledger as the last line.
    fn print(&self, out: &mut Out) -> Result<(), Failure> {
        if let Some(life) = &self.delivered {
            out.line(format_args!("\n{STRONG}the life of a packet that was delivered{STRONG:#}\n"))?;
            out.text(coloured(&life.story_with(&self.names)))?;
        }
        if !self.dropped.is_empty() {
            out.line(format_args!("\n{STRONG}the lives of those that were dropped{STRONG:#}"))?;
        }
        for life in self.dropped.iter().take(MAX_STORIES) {
            out.line("")?;
            out.text(coloured(&life.story_with(&self.names)))?;
        }
        if let Some(more @ 1..) = self.dropped.len().checked_sub(MAX_STORIES) {
            out.line(format_args!("\n(and {more} more)"))?;
        }
        out.line(format_args!("\n{STRONG}counters that moved{STRONG:#}"))?;
        let rows = counter_rows(&self.counters);
        let moved: Vec<String> =
            rows.iter().filter(|row| row.value != 0).map(|row| format!("{:<28}{:>10}", row.name, row.value)).collect();
        for pair in moved.chunks(2) {
            out.line(format_args!("  {}", pair.join("    ")))?;
        }
        self.print_books(out)
    }

    fn print_books(&self, out: &mut Out) -> Result<(), Failure> {
        let Report { recorded, sampled, lost, .. } = self;
        out.line(format_args!(
            "\n{STRONG}the books{STRONG:#}\n  lives: {recorded} of all packets but the bulk data's, {sampled} of those, one in \
             {ONE_IN}; {lost} records lost"
        ))?;
        let drops = self.ledger.drops().into_iter().map(|(reason, n)| format!("{n} {reason}"));
        let drops = drops.collect::<Vec<_>>();
        out.line(format_args!("  drops: {}", if drops.is_empty() { "none".to_owned() } else { drops.join(", ") }))?;
        if let Some(far) = &self.far {
            out.line(format_args!("  {FAINT}the clients' {far}{FAINT:#}"))?;
        }
        let faults = self.faults();
        if faults.is_empty() {
            out.line(format_args!("  {GOOD}lives, ledger and counters agree{GOOD:#}"))?;
        }
        for fault in faults {
            out.line(format_args!("  {BAD}WRONG{BAD:#} {fault}"))?;
        }
        out.line(&self.ledger)
    }

    /// The same as one JSON object.
    fn json(&self) -> Value {
        let parsed = |life: &Life| serde_json::from_str::<Value>(&life.json_line()).unwrap_or_default();
        let moved = counter_rows(&self.counters).into_iter().filter(|row| row.value != 0);
        let counters: serde_json::Map<String, Value> = moved.map(|row| (row.name, row.value.into())).collect();
        json!({
            "ok": self.ok(),
            "setting": self.kind,
            "why_no_tap": self.why_no_tap,
            "acts": self.acts,
            "delivered": self.delivered.as_ref().map(parsed),
            "dropped": self.dropped.iter().map(parsed).collect::<Vec<_>>(),
            "counters": counters,
            "lives": { "whole": self.recorded, "sampled": self.sampled, "records_lost": self.lost },
            "faults": self.faults(),
            "ledger": LedgerRow::from(&self.ledger),
            "clients_ledger": self.far.as_ref().map(LedgerRow::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use rxpath_trace::{DropReason, Event, Ledger, PacketId, Time, lives};

    use super::*;
    use crate::out::tests::Memory;

    fn sound() -> Report {
        let event = |kind, a| {
            let (id, other) = (PacketId::of_ring(0, 1), PacketId::NONE);
            Event { id, at: Time::ZERO, other, a, b: 0, kind, cpu: 0 }
        };
        let ledger = Ledger::new();
        ledger.offered(1);
        ledger.delivered(1);
        Report {
            kind: "wire",
            why_no_tap: None,
            acts: vec![Act { name: "page", what: "it came".to_owned(), ok: true, took_us: 1 }],
            names: Names::new(),
            delivered: lives::group([event(EventKind::Offered, 60), event(EventKind::Recv, 6)]).pop(),
            dropped: Vec::new(),
            counters: Snapshot::new(),
            recorded: 1,
            sampled: 0,
            lost: 0,
            disagreements: Vec::new(),
            ledger: ledger.snapshot(),
            far: None,
        }
    }

    /// What is printed, and the exit code.
    fn concluded(report: &Report, json: bool) -> (String, u8) {
        let memory = Memory::default();
        let mut out = Out::to(Box::new(memory.clone()));
        let outcome = report.conclude(&mut out, json);
        out.flush().expect("memory takes everything");
        (memory.text(), outcome.map_or_else(|failure| failure.code(), |()| 0))
    }

    #[test]
    fn what_went_well_ends_with_the_ledger_and_zero() {
        let (text, code) = concluded(&sound(), false);
        assert_eq!((code, text.contains("WRONG")), (0, false), "{text}");
        assert!(text.contains("lives, ledger and counters agree"), "{text}");
        let ledger = "ledger: offered 1 + output 0 + clones 0 + made 0 = delivered 1 + transmitted 0 + consumed 0 \
                      + dropped 0 + held 0 (balanced)";
        assert_eq!(text.lines().next_back(), Some(ledger));
    }

    #[test]
    fn whatever_went_wrong_is_told_and_ends_with_one() {
        type Plant = (&'static str, fn(&mut Report));
        let plants: [Plant; 5] = [
            ("page: nobody answered", |report| {
                report.acts.push(Act { name: "page", what: "nobody answered".to_owned(), ok: false, took_us: 1 });
            }),
            ("packets delivered: the lives show 1, the ledger 2", |report| {
                report.disagreements.push("packets delivered: the lives show 1, the ledger 2".to_owned());
            }),
            ("no life of a delivered packet was recorded", |report| report.delivered = None),
            ("offered 1", |report| {
                let ledger = Ledger::new();
                ledger.offered(1);
                report.ledger = ledger.snapshot();
            }),
            ("the clients' ", |report| {
                let ledger = Ledger::new();
                ledger.dropped(DropReason::NoSocket, 1);
                report.far = Some(ledger.snapshot());
            }),
        ];
        for (told, plant) in plants {
            let mut report = sound();
            plant(&mut report);
            let (text, code) = concluded(&report, false);
            assert!(code == 1 && text.contains("WRONG") && text.contains(told), "{told}: {code}\n{text}");
            assert!(text.lines().next_back().is_some_and(|line| line.starts_with("ledger: ")), "{text}");
            let (text, code) = concluded(&report, true);
            let value: Value = serde_json::from_str(&text).expect("one JSON object");
            assert_eq!((code, &value["ok"]), (1, &false.into()), "{told}: {text}");
            assert!(value["faults"][0].as_str().is_some_and(|fault| fault.contains(told)), "{told}: {text}");
        }
    }
}
