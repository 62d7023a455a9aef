//! `rxpath softnet`.

use super::SoftnetRow;
use super::table::{Align, lay_out};
use crate::failure::Failure;
use crate::out::{Out, STRONG};

/// Prints a line for each Cpu.
///
/// # Errors
/// The output is not taken.
pub fn print(out: &mut Out, cpus: &[SoftnetRow]) -> Result<(), Failure> {
    let names = ["CPU", "PROCESSED", "DROPPED", "TIME_SQUEEZE", "RECEIVED_RPS", "BACKLOG"];
    let mut rows = vec![names.map(str::to_owned).to_vec()];
    rows.extend(cpus.iter().map(|row| {
        let SoftnetRow { cpu, processed, dropped, time_squeeze, received_rps, backlog } = *row;
        let values = [u64::from(cpu), processed, dropped, time_squeeze, received_rps, u64::from(backlog)];
        values.map(|value| value.to_string()).to_vec()
    }));
    let table = lay_out(&[Align::Right; 6], &rows);
    let (heading, body) = table.split_once('\n').unwrap_or((&table, ""));
    out.text(format_args!("{STRONG}{heading}{STRONG:#}\n{body}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::tests::printed;

    #[test]
    fn each_cpu_has_a_line() {
        let row = SoftnetRow { cpu: 1, processed: 12_345, dropped: 2, time_squeeze: 3, received_rps: 4, backlog: 5 };
        let text = printed(|out| print(out, &[SoftnetRow { cpu: 0, ..row }, row]));
        let text = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(
            text,
            "CPU  PROCESSED  DROPPED  TIME_SQUEEZE  RECEIVED_RPS  BACKLOG\n  \
             0      12345        2             3             4        5\n  \
             1      12345        2             3             4        5\n"
        );
    }
}
