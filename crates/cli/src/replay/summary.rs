//! What is printed at the end: fates, drop reasons, what was made up for, counters, the ledger.

use rxpath::capture::Notes;
use rxpath_sim::replay::{Fate, Summary};
use rxpath_trace::DropReason;

use super::words;
use crate::failure::Failure;
use crate::out::{BAD, FAINT, Out, STRONG};
use crate::views::table::{Align, lay_out};
use crate::views::{CounterRow, counter_rows, nstat};

/// Prints the summary; the ledger is its last line.
///
/// # Errors
/// The output is not taken.
pub fn print(out: &mut Out, summary: &Summary) -> Result<(), Failure> {
    let seconds = summary.span as f64 / 1e9;
    let Summary { packets, fed, .. } = summary;
    out.line(format_args!(
        "{STRONG}{packets} packets in {seconds:.6} s{STRONG:#}, of which the host's stack got {fed}"
    ))?;
    out.text(fates(summary))?;
    let drops = drops(summary);
    if !drops.is_empty() {
        out.line(format_args!("\n{STRONG}dropped{STRONG:#}"))?;
        out.text(drops)?;
    }
    remarks(summary).iter().try_for_each(|remark| out.line(format_args!("{FAINT}note:{FAINT:#} {remark}")))?;
    out.line(format_args!("\n{STRONG}counters that moved{STRONG:#}"))?;
    let rows: Vec<CounterRow> = counter_rows(&summary.counters);
    nstat::print(out, &rows, nstat::Wanted { zeros: false, patterns: &[] }, false)?;
    if summary.records_lost > 0 {
        let lost = summary.records_lost;
        out.line(format_args!("{BAD}{lost} records of lives were lost: the fates above may be wrong{BAD:#}"))?;
    }
    out.line(format_args!("\n{}", summary.ledger))
}

/// Packets by fate, the most frequent first; drop reasons have a table of their own.
fn fates(summary: &Summary) -> String {
    let dropped = |fate: &Fate| matches!(fate, Fate::Dropped(_));
    let all: u64 = summary.fates.iter().filter(|(fate, _)| dropped(fate)).map(|(_, n)| n).sum();
    let mut rows: Vec<(u64, [String; 3])> = Vec::new();
    for (fate, n) in summary.fates.iter().filter(|(fate, _)| !dropped(fate)) {
        let reason = words::reason(*fate).unwrap_or_default();
        rows.push((*n, [words::name(*fate).to_owned(), reason, words::describe(*fate)]));
    }
    if all > 0 {
        rows.push((all, ["dropped".to_owned(), String::new(), "for the reasons below".to_owned()]));
    }
    rows.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(n, [fate, reason, what])| vec![n.to_string(), fate, reason, what]).collect();
    lay_out(&[Align::Right, Align::Left, Align::Left, Align::Left], &rows)
}

fn drops(summary: &Summary) -> String {
    let row = |(reason, n): (DropReason, u64)| {
        let counters: Vec<String> = reason.counters().iter().map(ToString::to_string).collect();
        let moved = if counters.is_empty() { String::new() } else { format!(" ({})", counters.join(", ")) };
        let (phase, what) = (reason.phase().name().to_owned(), format!("{}{moved}", reason.describe()));
        vec![n.to_string(), reason.name().to_owned(), phase, what]
    };
    let rows: Vec<Vec<String>> = summary
        .fates
        .iter()
        .filter_map(|(fate, n)| match fate {
            Fate::Dropped(reason) => Some((*reason, *n)),
            _ => None,
        })
        .map(row)
        .collect();
    lay_out(&[Align::Right, Align::Left, Align::Left, Align::Left], &rows)
}

/// What a reader of the numbers should know.
pub fn remarks(summary: &Summary) -> Vec<String> {
    let mut remarks = Vec::new();
    let count = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    for (note, n) in &summary.notes {
        let what = Notes::ALL.iter().find(|(known, _)| known == note).map_or("", |(_, words)| words);
        remarks.push(format!("{}: {what}", count(*n, "packet")));
    }
    if summary.lost > 0 {
        remarks.push(format!("the capture itself lost {}", count(summary.lost, "packet")));
    }
    if let (back @ 1.., most) = summary.back_in_time {
        let (back, most) = (count(back, "packet"), most as f64 / 1e9);
        remarks.push(format!("{back} back in time, by {most:.6} s at the most: arrived with the one before"));
    }
    for (name, mac) in &summary.learnt {
        remarks.push(format!("{name} has no mac in the configuration; the capture's is {mac}"));
    }
    for addr in &summary.followed.unserved {
        let what = "in the capture this host accepts connections on";
        remarks.push(format!("{what} {addr}, where the configuration has no [[service]]"));
    }
    if summary.followed.capped > 0 {
        let capped = count(summary.followed.capped, "acknowledgement");
        remarks.push(format!("{capped} capped at what the stack had sent: the host sent faster"));
    }
    remarks
}
