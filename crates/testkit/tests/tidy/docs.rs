//! Links in Markdown files, and the checklist of ARCHITECTURE.md.

use std::collections::HashSet;

use crate::tree::{Source, Tree};

/// Links of Markdown files to files or headings that are not there.
pub fn broken_links(tree: &Tree) -> Vec<String> {
    let markdown = tree.documents.iter().filter(|document| document.path.ends_with(".md"));
    let anchors = |path: &str| {
        let document = tree.documents.iter().find(|document| document.path == path)?;
        Some(anchors(&document.text))
    };
    markdown.flat_map(|document| broken_in(document, &|path| tree.has(path), &anchors)).collect()
}

fn broken_in(
    document: &Source,
    exists: &dyn Fn(&str) -> bool,
    anchors: &dyn Fn(&str) -> Option<HashSet<String>>,
) -> Vec<String> {
    let mut findings = Vec::new();
    for (line, target) in links(&document.text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let place = format!("{}:{line}", document.path);
        let Some(path) = resolve(&document.path, file) else {
            findings.push(format!("{place}: {target} leads out of the tree"));
            continue;
        };
        if !exists(&path) {
            findings.push(format!("{place}: {target}: there is no {path}"));
        } else if !anchor.is_empty() && anchors(&path).is_some_and(|anchors| !anchors.contains(anchor)) {
            findings.push(format!("{place}: {target}: {path} has no heading for #{anchor}"));
        }
    }
    findings
}

/// The targets of `[text](target)` and `[name]: target` outside code, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, text) in prose(text) {
        let mut rest = text.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let target = after.split([')', ' ']).next().unwrap_or_default();
            found.push((line, target.trim_matches(['<', '>']).to_owned()));
            rest = after;
        }
        let definition = text.trim_start().strip_prefix('[').and_then(|text| text.split_once("]: "));
        if let Some((_, target)) = definition {
            found.push((line, target.split(' ').next().unwrap_or_default().to_owned()));
        }
    }
    found
}

/// The lines outside fenced code, code spans blanked, numbered from 1.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut in_fence = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        } else if !in_fence {
            // Every second part stands between backticks.
            let parts = line.split('`').enumerate().map(|(part, text)| if part % 2 == 0 { text } else { "`" });
            lines.push((index + 1, parts.collect()));
        }
    }
    lines
}

/// A link's file relative to the root; nothing if it leads out of the tree.
fn resolve(from: &str, target: &str) -> Option<String> {
    if target.is_empty() {
        return Some(from.to_owned());
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchors that headings get: lower case, spaces to hyphens, other signs dropped.
fn anchors(text: &str) -> HashSet<String> {
    let mut in_fence = false;
    let mut found = HashSet::new();
    for line in text.lines() {
        in_fence ^= line.trim_start().starts_with("```");
        if in_fence || !line.starts_with('#') {
            continue;
        }
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}

/// A row of the checklist.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    pub line: usize,
    pub mechanism: String,
    pub files: Vec<String>,
    pub tests: Vec<String>,
}

impl Row {
    fn is_done(&self) -> bool {
        !self.files.is_empty() && !self.tests.is_empty()
    }
}

/// The rows of the table whose header is `phase | mechanism | file | test`.
pub fn checklist(text: &str) -> Result<Vec<Row>, String> {
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, cells(line)));
    let header = ["phase", "mechanism", "file", "test"];
    lines.find(|(_, cells)| *cells == header).ok_or("no table with the columns phase, mechanism, file, test")?;
    let rows = lines.skip(1).take_while(|(_, cells)| !cells.is_empty());
    rows.map(|(line, cells)| match cells.as_slice() {
        [_, mechanism, files, tests] => {
            Ok(Row { line, mechanism: mechanism.clone(), files: spans(files), tests: spans(tests) })
        }
        _ => Err(format!("ARCHITECTURE.md:{line}: {} columns; the checklist has 4", cells.len())),
    })
    .collect()
}

pub fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    inner.map(|inner| inner.split('|').map(|cell| cell.trim().to_owned()).collect()).unwrap_or_default()
}

/// What stands between backticks.
pub fn spans(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Files and tests of done rows that are not there. A row is done once it names both; until then it is a plan.
pub fn checklist_findings(rows: &[Row], tree: &Tree) -> Vec<String> {
    let tests = test_names(&tree.sources);
    rows.iter()
        .filter(|row| row.is_done())
        .flat_map(|row| {
            let files = row.files.iter().filter(|file| !tree.has(file));
            let tests = row.tests.iter().filter(|test| !tests.contains(last_part(test)));
            let missing = files.map(|file| format!("file {file}")).chain(tests.map(|test| format!("test fn {test}")));
            missing.map(|what| format!("ARCHITECTURE.md:{}: there is no {what}", row.line)).collect::<Vec<_>>()
        })
        .collect()
}

/// The ratchet over rows that lack a file or a test.
pub fn open_rows(rows: &[Row], at_most: usize) -> Vec<String> {
    let open: Vec<&Row> = rows.iter().filter(|row| !row.is_done()).collect();
    match open.len() {
        count if count > at_most => {
            let list = open.iter().map(|row| format!("\n  {}: {}", row.line, row.mechanism)).collect::<String>();
            vec![format!("{count} rows of the checklist lack a file or a test; at most {at_most} may:{list}")]
        }
        count if count < at_most => {
            vec![format!("{count} rows of the checklist are open; lower the ratchet to {count}")]
        }
        _ => Vec::new(),
    }
}

fn last_part(test: &str) -> &str {
    test.rsplit("::").next().unwrap_or(test)
}

/// The names of all functions of the tree; those inside `proptest!` and other macros too.
fn test_names(sources: &[Source]) -> HashSet<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let after_fn = sources.iter().flat_map(|source| source.text.split("fn ").skip(1));
    after_fn.filter_map(|text| text.split(|c| !is_word(c)).next()).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "text\n| phase | mechanism | file | test |\n|---|---|---|---|\n\
        | 1 | ring | `Cargo.toml`, `crates` | `mem::fills` |\n| 1 | irq | `no/such` | |\n| 2 | poll | | |\n\nmore | a |\n";

    fn tree(text: &str) -> Tree {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let sources = vec![Source::sample("a.rs", text)];
        Tree { root, sources, manifests: Vec::new(), documents: Vec::new() }
    }

    #[test]
    fn a_link_to_nothing_is_found() {
        let text = "# A b, c!\n[a](x.md) [b](../y.md#a-b) `[c](none)`\n```\n[d](none)\n```\n[e](https://e) [f](#a-b-c)\n[g]: z.md\n";
        assert_eq!(links(text).len(), 5, "{:?}", links(text));
        let document = Source::sample("docs/d.md", text);
        let anchors = |_: &str| Some(anchors("# A b, c!"));
        assert_eq!(broken_in(&document, &|_| false, &anchors).len(), 4);
        let found = broken_in(&document, &|_| true, &anchors);
        assert_eq!(found, ["docs/d.md:2: ../y.md#a-b: y.md has no heading for #a-b"]);
        let out = Source::sample("d.md", "[a](../../etc)");
        assert_eq!(broken_in(&out, &|_| true, &anchors), ["d.md:1: ../../etc leads out of the tree"]);
    }

    #[test]
    fn the_checklist_is_read_to_its_end() {
        let rows = checklist(TABLE).expect("a table");
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0].files, ["Cargo.toml", "crates"]);
        assert_eq!(rows[0].tests, ["mem::fills"]);
        assert!(checklist("| phase | mechanism |\n").is_err());
        assert!(checklist(&TABLE.replace("| 2 | poll | | |", "| 2 | poll |")).is_err());
    }

    #[test]
    fn a_done_row_whose_file_or_test_is_missing_is_found() {
        let rows = checklist(TABLE).expect("a table");
        assert_eq!(checklist_findings(&rows, &tree("#[test]\nfn fills() {}")), [""; 0]);
        let found = checklist_findings(&rows, &tree("fn fills_not() {}"));
        assert_eq!(found, ["ARCHITECTURE.md:4: there is no test fn mem::fills"]);
        let moved = checklist(&TABLE.replace("`Cargo.toml`", "`Cargo.yaml`")).expect("a table");
        let found = checklist_findings(&moved, &tree("fn fills() {}"));
        assert_eq!(found, ["ARCHITECTURE.md:4: there is no file Cargo.yaml"]);
    }

    #[test]
    fn open_rows_may_only_become_fewer() {
        let rows = checklist(TABLE).expect("a table");
        assert_eq!(open_rows(&rows, 2), [""; 0]);
        assert!(open_rows(&rows, 1)[0].starts_with("2 rows"));
        assert!(open_rows(&rows, 3)[0].ends_with("lower the ratchet to 2"));
    }
}
