//! `rxpath twin`.

use rxpath_sim::twin::{self, TwinOptions, TwinReport, kernel_available};
use serde_json::{Value, json};

use crate::args::TwinArgs;
use crate::failure::Failure;
use crate::out::Out;

/// Runs cases against the kernel and a stack, and prints what differs.
///
/// # Errors
/// The kernel's side cannot run here; a case differs; the output is not taken.
pub fn run(out: &mut Out, args: &TwinArgs, json: bool) -> Result<(), Failure> {
    if args.child {
        return Ok(twin::child_main().map_err(anyhow::Error::from)?);
    }
    kernel_available().map_err(|why| anyhow::anyhow!("the kernel cannot be asked here: {why}"))?;
    let defaults = TwinOptions::default();
    let jobs = args.jobs.map_or(defaults.jobs, usize::from);
    let options =
        TwinOptions { seed: args.seed, cases: u64::from(args.cases), kinds: args.kind.to_vec(), jobs, ..defaults };
    let report = twin::run(&options).map_err(anyhow::Error::from)?;
    if json {
        out.json(&as_json(&report))?
    } else {
        out.text(&report)?
    }
    if report.all_agree() && report.unrecorded.is_empty() { Ok(()) } else { Err(Failure::told()) }
}

fn as_json(report: &TwinReport) -> Value {
    let differed = report.differed.iter().map(|diff| {
        let what: Vec<&str> = diff.differences.iter().map(|difference| difference.what.as_str()).collect();
        json!({ "kind": diff.kind.name(), "seed": diff.seed, "differences": what, "text": diff.text, "replay": diff.replay })
    });
    let kinds = report.agreed.iter().map(|(kind, agreed)| (kind.name().to_owned(), json!(agreed)));
    json!({
        "ok": report.all_agree() && report.unrecorded.is_empty(),
        "unrecorded": report.unrecorded.len(),
        "agreed": report.all_agreed(),
        "undecided": report.undecided.len(),
        "kinds": kinds.collect::<serde_json::Map<String, Value>>(),
        "differed": differed.collect::<Vec<_>>(),
        "normalised": report.normalised,
        "uncounted": report.uncounted,
        "disturbed": report.disturbed,
    })
}

#[cfg(test)]
mod tests {
    use rxpath_sim::twin::compare::Difference;
    use rxpath_sim::twin::{Diff, Kind};

    use super::*;

    #[test]
    fn json_tells_what_differs_and_how_to_see_it_again() {
        let differences = vec![Difference { row: None, what: "TcpInSegs: kernel +1".to_owned() }];
        let diff = Diff {
            kind: Kind::Arp,
            seed: 7,
            differences,
            text: "…".to_owned(),
            replay: "rxpath twin --seed 7".to_owned(),
        };
        let json =
            as_json(&TwinReport { agreed: [(Kind::Arp, 3)].into(), differed: vec![diff], ..TwinReport::default() });
        assert_eq!(json["ok"], false);
        assert_eq!((&json["agreed"], &json["kinds"]["arp"]), (&json!(3), &json!(3)));
        assert_eq!(json["differed"][0]["differences"][0], "TcpInSegs: kernel +1");
        assert_eq!(json["differed"][0]["replay"], "rxpath twin --seed 7");
    }
}
