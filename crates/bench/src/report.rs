//! What was measured, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use crate::case::Case;
use crate::machine::Machine;
use crate::measure::{Rounds, Spread, over_rounds, ratios};

/// One side of a case.
#[derive(Clone, Debug, Serialize)]
pub struct SideResult {
    /// Name and version.
    pub name: String,
    /// Nanoseconds per segment, the peer's work subtracted.
    pub ns_per_packet: Spread,
    /// Millions of segments per second, from the median.
    pub mpps: f64,
    /// Nanoseconds of the peer's work per segment: what was subtracted.
    pub generator_ns: Spread,
    /// ACKs that the stack sent per segment received.
    pub acks_per_packet: f64,
    /// Times that the peer had to wait for the window.
    pub window_stalls: u64,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// The case, by its name.
    pub case: &'static str,
    /// What it measures.
    pub what: &'static str,
    /// How much better the first side is: the other's time by its own, slice by slice; the median of each round.
    pub ratio: Spread,
    /// The ratio that the project set itself.
    pub goal: f64,
    /// Both sides, rxpath first.
    pub sides: [SideResult; 2],
    /// Of a case on several processors: what the machine itself allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Segments that each side took.
    pub packets: u64,
}

/// The most that a case on several processors can reach: stacks that share nothing, between the same slices.
#[derive(Clone, Debug, Serialize)]
pub struct Limit {
    /// The ratio of these stacks to the case's second side, as [`CaseResult::ratio`].
    pub ratio: Spread,
    /// What they took.
    pub side: SideResult,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it was measured, and with what program.
    pub machine: Machine,
    /// Rounds of each case.
    pub rounds: u32,
    /// The seed.
    pub seed: u64,
    /// The cases.
    pub results: Vec<CaseResult>,
}

impl SideResult {
    /// A side from its rounds.
    pub(crate) fn of(name: &str, rounds: &Rounds) -> SideResult {
        let ns_per_packet = over_rounds(&rounds.stack);
        SideResult {
            name: name.to_owned(),
            ns_per_packet,
            mpps: 1_000.0 / ns_per_packet.median,
            generator_ns: over_rounds(&rounds.generator),
            acks_per_packet: rounds.acks,
            window_stalls: rounds.stalls,
        }
    }
}

impl Limit {
    /// What stacks that share nothing took, against the side that the ratio refers to.
    pub(crate) fn of(name: &str, apart: &Rounds, other: &Rounds) -> Limit {
        Limit { ratio: ratios(apart, other), side: SideResult::of(name, apart) }
    }
}

impl CaseResult {
    /// A case from the rounds of its sides, whose slices go in pairs.
    pub(crate) fn of_sides(case: Case, own: (&str, Rounds), other: (&str, Rounds), packets: u64) -> CaseResult {
        CaseResult {
            case: case.name(),
            what: case.describe(),
            ratio: ratios(&own.1, &other.1),
            goal: case.goal(),
            sides: [SideResult::of(own.0, &own.1), SideResult::of(other.0, &other.1)],
            limit: None,
            packets,
        }
    }

    /// Whether the median ratio reaches the goal.
    pub fn reaches_goal(&self) -> bool {
        self.ratio.median >= self.goal
    }
}

impl Report {
    /// The report as JSON: the fields as they are named here.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        writeln!(f, "{} rounds, seed {}; ns per segment: median [lowest, highest]", self.rounds, self.seed)?;
        writeln!(f)?;
        writeln!(
            f,
            "{:<13} {:<13} {:>24} {:>7} {:>15} {:>9}  {:>20} {:>5}",
            "case", "side", "ns per segment", "Mpps", "generator ns", "ACKs", "ratio", "goal"
        )?;
        for result in &self.results {
            write!(f, "{result}")?;
        }
        Ok(())
    }
}

impl fmt::Display for CaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [own, other] = &self.sides;
        let verdict = if self.reaches_goal() { "reached" } else { "missed" };
        let ratio = format!("  {:>20} {:>5.1} {verdict}", spread(self.ratio, 2), self.goal);
        writeln!(f, "{:<13} {own}{ratio}{}", self.case, own.stalls())?;
        writeln!(f, "{:<13} {other}{}", "", other.stalls())?;
        if let Some(Limit { ratio, side }) = &self.limit {
            let ratio = format!("  {:>20} the most here", spread(*ratio, 2));
            writeln!(f, "{:<13} {side}{ratio}{}", "", side.stalls())?;
        }
        Ok(())
    }
}

impl SideResult {
    fn stalls(&self) -> String {
        match self.window_stalls {
            0 => String::new(),
            stalls => format!("  ({stalls} waits for the window)"),
        }
    }
}

impl fmt::Display for SideResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = spread(self.ns_per_packet, 1);
        let (mpps, generator, acks) = (self.mpps, self.generator_ns.median, self.acks_per_packet);
        write!(f, "{:<13} {ns:>24} {mpps:>7.2} {generator:>15.1} {acks:>9.4}", self.name)
    }
}

fn spread(of: Spread, digits: usize) -> String {
    format!("{:.digits$} [{:.digits$}, {:.digits$}]", of.median, of.min, of.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(stack: f64) -> Rounds {
        Rounds { stack: vec![vec![stack; 3]; 15], generator: vec![vec![5.0; 3]; 15], acks: 0.03, stalls: 0 }
    }

    #[test]
    fn a_case_says_whether_it_reached_its_goal() {
        let result = CaseResult::of_sides(Case::Tcp1448, ("rxpath", rounds(20.0)), ("other", rounds(60.0)), 96);
        assert_eq!((result.ratio.median, result.sides[0].mpps), (3.0, 50.0));
        assert!(result.reaches_goal());
    }

    #[test]
    fn a_case_on_several_processors_shows_what_the_machine_allowed() {
        let result = CaseResult::of_sides(Case::TwoQueues, ("two", rounds(20.0)), ("one", rounds(30.0)), 96);
        let limit = Limit::of("apart", &rounds(18.75), &rounds(30.0));
        let result = CaseResult { limit: Some(limit), ..result };
        let table = result.to_string();
        assert!(table.contains("1.50 [1.50, 1.50]   1.7 missed"), "{table}");
        assert!(table.contains("1.60 [1.60, 1.60] the most here"), "{table}");
        let json = serde_json::to_value(&result).expect("JSON");
        assert_eq!(
            (json["limit"]["ratio"]["median"].as_f64(), &json["limit"]["side"]["name"]),
            (Some(1.6), &"apart".into())
        );
    }

    #[test]
    fn json_has_what_the_table_has() {
        let result = CaseResult::of_sides(Case::Tcp64, ("rxpath", rounds(10.0)), ("other", rounds(30.0)), 96);
        let report = Report { machine: Machine::here(), rounds: 15, seed: 1, results: vec![result] };
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(json["results"][0]["case"], "tcp-64");
        assert_eq!(json["results"][0]["ratio"]["median"], 3.0);
        assert_eq!(json["results"][0]["sides"][1]["ns_per_packet"]["median"], 30.0);
        assert_eq!(json["machine"]["profile"], report.machine.profile);
        assert!(json["results"][0].get("limit").is_none(), "one processor has no limit to show");
        let table = report.to_string();
        assert!(table.contains("tcp-64") && table.contains("3.00 [3.00, 3.00]") && table.contains("missed"), "{table}");
    }
}
