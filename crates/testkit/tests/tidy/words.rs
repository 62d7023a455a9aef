//! Words that say that something is unfinished, and names that say nothing.

use crate::tokens::{self, Next};
use crate::tree::Source;

/// Names of files, folders and types that could hold anything.
const EMPTY_NAMES: [&str; 7] = ["utils", "util", "helper", "helpers", "manager", "misc", "common"];

pub fn findings(sources: &[Source]) -> Vec<String> {
    sources.iter().flat_map(in_file).collect()
}

fn in_file(source: &Source) -> Vec<String> {
    let path = &source.path;
    let mut findings = Vec::new();
    let stems = path.split('/').map(|part| part.trim_end_matches(".rs"));
    for stem in stems.filter(|stem| EMPTY_NAMES.contains(stem)) {
        findings.push(format!("{path}: {stem:?} could hold anything; name it for what it does"));
    }
    let stream = match tokens::of(source) {
        Ok(stream) => stream,
        Err(error) => return vec![error],
    };
    tokens::words(stream, &mut |before, word, after, line| {
        let wrong = match (word, after) {
            ("todo" | "unimplemented", Next::Sign('!')) => "is unfinished; finish it or leave the feature out",
            ("ignore", Next::Nothing | Next::Sign('='))
                if before == Next::Nothing && is_attribute(&source.text, line) =>
            {
                "is a test that never runs; let it ask for what it needs with rxpath_testkit::need_*"
            }
            // `get_mut` is std's own name for borrowing what a lock or cell holds.
            (name, _) if before == Next::Word("fn") && name.starts_with("get_") && name != "get_mut" => {
                "names its verb and not its thing; drop the get_"
            }
            (name, _) if is_type(before) && name.to_lowercase().ends_with("manager") => {
                "could do anything; name it for what it does"
            }
            _ => return,
        };
        findings.push(format!("{path}:{line}: {word} {wrong}"));
    });
    findings
}

fn is_type(before: Next<'_>) -> bool {
    matches!(before, Next::Word("struct" | "enum" | "trait" | "type"))
}

/// Whether the line holds the attribute that leaves a test out (the word alone may stand in any group).
fn is_attribute(text: &str, line: usize) -> bool {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let squeezed: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    squeezed.contains("#[ignore")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, text: &str) -> Vec<String> {
        findings(&[Source::sample(path, text)])
    }

    #[test]
    fn unfinished_code_is_found_even_in_macros() {
        assert_eq!(of("a.rs", "fn a() { todo!() }").len(), 1);
        assert_eq!(of("a.rs", "fn a() { vec![unimplemented!(\"x\")] }").len(), 1);
        assert_eq!(of("a.rs", "fn a() { \"todo!()\"; /* todo!() */ todo() }"), [""; 0]);
    }

    #[test]
    fn tests_that_never_run_are_found() {
        assert_eq!(of("a.rs", "#[test]\n#[ignore]\nfn a() {}").len(), 1);
        assert_eq!(of("a.rs", "#[test]\n#[ ignore = \"slow\" ]\nfn a() {}").len(), 1);
        assert_eq!(of("a.rs", "fn a(ignore: bool) { b(ignore) }"), [""; 0]);
    }

    #[test]
    fn empty_names_are_found() {
        assert_eq!(of("crates/x/src/utils.rs", "").len(), 1);
        assert_eq!(of("crates/x/src/helpers/a.rs", "").len(), 1);
        assert_eq!(of("a.rs", "struct SocketManager;").len(), 1);
        assert_eq!(of("a.rs", "impl A { fn get_a(&self) {} }").len(), 1);
        assert_eq!(of("a.rs", "fn getsockopt() { x.get_mut(0) }"), [""; 0]);
    }
}
