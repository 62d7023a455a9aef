//! The table of ARCHITECTURE.md that says where something is decided: its functions exist, in those files.

use super::docs::{cells, spans};
use crate::tree::Source;

const HEADER: [&str; 3] = ["question", "function", "file"];
/// What the files of the table are below.
const BELOW: &str = "crates/core/src/";

/// Functions and files that are not there.
///
/// # Errors
/// There is no such table.
pub fn findings(text: &str, sources: &[Source]) -> Result<Vec<String>, String> {
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, cells(line)));
    lines.find(|(_, cells)| *cells == HEADER).ok_or("no table with the columns question, function, file")?;
    let rows = lines.skip(1).take_while(|(_, cells)| cells.len() == HEADER.len());
    let missing = rows.flat_map(|(line, cells)| missing(line, &spans(&cells[1]), &spans(&cells[2]), sources));
    Ok(missing.collect())
}

fn missing(line: usize, functions: &[String], files: &[String], sources: &[Source]) -> Vec<String> {
    let place = format!("ARCHITECTURE.md:{line}");
    let text = |file: &String| sources.iter().find(|source| source.path == format!("{BELOW}{file}"));
    let texts: Vec<&Source> = files.iter().filter_map(text).collect();
    let mut findings = Vec::new();
    if texts.len() < files.len() || functions.is_empty() {
        findings.push(format!("{place}: {functions:?} in {files:?}: name functions, and files that exist"));
    }
    for function in functions {
        let begins = |text: &str| ["(", "<"].iter().any(|end| text.contains(&format!("fn {function}{end}")));
        if !texts.iter().any(|source| begins(&source.text)) {
            findings.push(format!("{place}: there is no fn {function} in {files:?}; name where it is"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_are_not_there_are_found() {
        let source = Source { path: format!("{BELOW}tcp/here.rs"), text: "fn decides(seg: u32) {}".to_owned() };
        let table = |row: &str| format!("| question | function | file |\n|---|---|---|\n{row}\n\n");
        let found = |row: &str| findings(&table(row), std::slice::from_ref(&source)).expect("a table").len();
        assert_eq!(found("| what | `decides` | `tcp/here.rs` |"), 0);
        assert_eq!(found("| what | `decide` | `tcp/here.rs` |"), 1);
        assert_eq!(found("| what | `decides` | `tcp/there.rs` |"), 2);
        assert_eq!(found("| what | nowhere | `tcp/here.rs` |"), 1);
        assert!(findings("no table", &[]).is_err());
    }
}
