//! `rxpath softnet`.

use super::table::{Align, lay_out};
use super::{CounterRow, SoftnetRow};
use crate::failure::Failure;
use crate::out::{Out, STRONG};

/// Counters of payload bytes that were copied on their way to the reader begin so.
const COPIED: &str = "Copied";

/// Prints a line for each Cpu, and where payload was copied.
///
/// # Errors
/// The output is not taken.
pub fn print(out: &mut Out, cpus: &[SoftnetRow], counters: &[CounterRow]) -> Result<(), Failure> {
    let names = ["CPU", "PROCESSED", "DROPPED", "TIME_SQUEEZE", "RECEIVED_RPS", "BACKLOG"];
    let mut rows = vec![names.map(str::to_owned).to_vec()];
    rows.extend(cpus.iter().map(|row| {
        let SoftnetRow { cpu, processed, dropped, time_squeeze, received_rps, backlog } = *row;
        let values = [u64::from(cpu), processed, dropped, time_squeeze, received_rps, u64::from(backlog)];
        values.map(|value| value.to_string()).to_vec()
    }));
    let table = lay_out(&[Align::Right; 6], &rows);
    let (heading, body) = table.split_once('\n').unwrap_or((&table, ""));
    out.text(format_args!("{STRONG}{heading}{STRONG:#}\n{body}"))?;
    let place = |row: &CounterRow| Some((row.name.strip_prefix(COPIED)?.to_lowercase(), row.value));
    let copied: Vec<String> =
        counters.iter().filter_map(place).map(|(place, bytes)| format!("{place} {bytes}")).collect();
    out.line(format_args!("payload bytes copied: {}", copied.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::tests::printed;

    #[test]
    fn each_cpu_has_a_line() {
        let row = SoftnetRow { cpu: 1, processed: 12_345, dropped: 2, time_squeeze: 3, received_rps: 4, backlog: 5 };
        let counter = |name: &str, value| CounterRow { name: name.to_owned(), value };
        let counters = [counter("IpInReceives", 1), counter("CopiedRecv", 1_448), counter("CopiedGro", 0)];
        let text = printed(|out| print(out, &[SoftnetRow { cpu: 0, ..row }, row], &counters));
        let text = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(
            text,
            "CPU  PROCESSED  DROPPED  TIME_SQUEEZE  RECEIVED_RPS  BACKLOG\n  \
             0      12345        2             3             4        5\n  \
             1      12345        2             3             4        5\n\
             payload bytes copied: recv 1448, gro 0\n"
        );
    }
}
