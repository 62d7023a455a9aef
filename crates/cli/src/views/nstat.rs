//! `rxpath nstat`: counters, laid out as nstat of iproute2 does.

use serde_json::{Map, Value};

use super::CounterRow;
use crate::failure::Failure;
use crate::out::Out;

/// What nstat leaves out: it is no count.
const NO_COUNT: &str = "TcpCurrEstab";
/// Not of the files that nstat reads; `rxpath softnet` shows them.
const ELSEWHERE: &str = "Softnet";
/// Of no file of the kernel: shown if asked for by a pattern, and by `rxpath softnet`.
const OURS: &str = "Copied";

/// Which counters are shown.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Those that are 0, too.
    pub zeros: bool,
    /// Those whose name fits one of these, with `*` and `?`; all if there is none.
    pub patterns: &'a [String],
}

impl Wanted<'_> {
    fn wants(&self, row: &CounterRow) -> bool {
        let named = self.patterns.is_empty() || self.patterns.iter().any(|pattern| fits(pattern, &row.name));
        let ours = row.name.starts_with(OURS) && self.patterns.is_empty();
        named && !ours && (self.zeros || row.value != 0) && row.name != NO_COUNT && !row.name.starts_with(ELSEWHERE)
    }
}

/// Prints counters: as a table, or as nstat's JSON.
///
/// # Errors
/// The output is not taken.
pub fn print(out: &mut Out, rows: &[CounterRow], wanted: Wanted<'_>, json: bool) -> Result<(), Failure> {
    let shown = rows.iter().filter(|row| wanted.wants(row));
    if json {
        let values: Map<String, Value> = shown.map(|row| (row.name.clone(), row.value.into())).collect();
        return out.json(&Map::from_iter([("kernel".to_owned(), Value::from(values))]));
    }
    out.line("#kernel")?;
    for CounterRow { name, value } in shown {
        out.line(format_args!("{name:<32}{value:<16}{:6.1}", 0.0))?;
    }
    Ok(())
}

/// Whether a name fits a pattern of the shell: `*` stands for any characters, `?` for one. Letters in either case.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // The last `*` seen, and how much of the name it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some('?') => (p, n) = (p + 1, n + 1),
            Some(c) if c.eq_ignore_ascii_case(&name[n]) => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::tests::printed;

    fn rows() -> Vec<CounterRow> {
        let row = |(name, value): (&str, i64)| CounterRow { name: name.to_owned(), value };
        let rows = [("IpInReceives", 5), ("TcpCurrEstab", 3), ("TcpExtTCPHPHits", 0), ("SoftnetProcessed", 9)];
        rows.into_iter().chain([("CopiedRecv", 7)]).map(row).collect()
    }

    fn shown(zeros: bool, patterns: &[&str], json: bool) -> String {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        printed(|out| print(out, &rows(), Wanted { zeros, patterns: &patterns }, json))
    }

    #[test]
    fn the_table_is_nstats() {
        assert_eq!(shown(false, &[], false), "#kernel\nIpInReceives                    5                  0.0\n");
        assert_eq!(shown(true, &["tcp*"], false), "#kernel\nTcpExtTCPHPHits                 0                  0.0\n");
    }

    #[test]
    fn what_the_kernel_does_not_count_is_shown_if_it_is_asked_for() {
        assert_eq!(
            shown(false, &["copied*"], false),
            "#kernel\nCopiedRecv                      7                  0.0\n"
        );
    }

    #[test]
    fn json_is_nstats() {
        assert_eq!(shown(true, &[], true), "{\"kernel\":{\"IpInReceives\":5,\"TcpExtTCPHPHits\":0}}\n");
    }

    #[test]
    fn patterns_are_the_shells() {
        for (pattern, name, want) in [
            ("TcpExt*", "TcpExtTCPHPHits", true),
            ("*Hits", "TcpExtTCPHPHits", true),
            ("T*P*s", "TcpExtTCPHPHits", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*ab", "aab", true),
            ("a*b", "ac", false),
            ("IPINRECEIVES", "IpInReceives", true),
        ] {
            assert_eq!(fits(pattern, name), want, "{pattern} {name}");
        }
    }
}
