//! `rxpath drops`.

use super::Drops;
use super::table::{Align, lay_out};
use crate::failure::Failure;
use crate::out::{Out, STRONG};

/// Prints reasons and the ledger.
///
/// # Errors
/// The output is not taken.
pub fn print(out: &mut Out, drops: &Drops) -> Result<(), Failure> {
    out.text(text(drops))
}

/// The same as text.
pub fn text(drops: &Drops) -> String {
    if drops.reasons.is_empty() {
        return format!("nothing was dropped\n{}\n", drops.ledger.text);
    }
    let mut rows = vec![["PACKETS", "REASON", "PHASE", "WHY"].map(str::to_owned).to_vec()];
    rows.extend(drops.reasons.iter().map(|row| {
        let counters = if row.counters.is_empty() { String::new() } else { format!(" ({})", row.counters.join(", ")) };
        let why = format!("{}{counters}", row.describe);
        vec![row.packets.to_string(), row.reason.clone(), row.phase.clone(), why]
    }));
    let table = lay_out(&[Align::Right, Align::Left, Align::Left, Align::Left], &rows);
    let (heading, body) = table.split_once('\n').unwrap_or((&table, ""));
    format!("{STRONG}{heading}{STRONG:#}\n{body}{}\n", drops.ledger.text)
}

#[cfg(test)]
mod tests {
    use rxpath_trace::{DropReason, Ledger};

    use super::*;

    #[test]
    fn reasons_stand_above_the_ledger() {
        let ledger = Ledger::new();
        ledger.offered(12);
        ledger.dropped(DropReason::TcpCsum, 1);
        ledger.dropped(DropReason::NoSocket, 11);
        let text = anstream::adapter::strip_str(&text(&Drops::of(&ledger.snapshot()))).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "PACKETS  REASON     PHASE  WHY");
        assert!(lines[1].starts_with("     11  NO_SOCKET  TCP    no socket listens"), "{text}");
        assert!(lines[2].ends_with("does not verify (TcpInErrs, TcpInCsumErrors)"), "{text}");
        assert!(lines[3].starts_with("ledger: offered 12") && lines.len() == 4, "{text}");
    }

    #[test]
    fn no_drop_is_said() {
        let text = text(&Drops::of(&Ledger::new().snapshot()));
        assert!(text.starts_with("nothing was dropped\nledger: "), "{text}");
    }
}
