//! Where unsafe code may be, and that each use says why it is sound.

use crate::tokens::{self, Next};
use crate::tree::Source;

/// Files that may hold unsafe code, by the start of their path: instructions, memory, system calls of devices.
const ALLOWED: [&str; 4] =
    ["crates/arch/", "crates/mem/", "crates/rxpath/src/device/tap", "crates/rxpath/src/device/netns"];

/// Crates whose root cannot forbid unsafe code, with what it must say instead (nothing where unsafe is the crate's work).
const NOT_FORBIDDING: [(&str, Option<&str>); 3] = [
    ("crates/arch/src/lib.rs", None),
    ("crates/mem/src/lib.rs", None),
    ("crates/rxpath/src/lib.rs", Some("#![deny(unsafe_code)]")),
];

pub fn findings(sources: &[Source]) -> Vec<String> {
    sources.iter().flat_map(in_file).collect()
}

fn in_file(source: &Source) -> Vec<String> {
    let path = &source.path;
    let stream = match tokens::of(source) {
        Ok(stream) => stream,
        Err(error) => return vec![error],
    };
    let allowed = ALLOWED.iter().any(|start| path.starts_with(start));
    let lines: Vec<&str> = source.text.lines().collect();
    let mut findings = Vec::new();
    tokens::words(stream, &mut |_, word, after, line| {
        if word != "unsafe" {
            return;
        }
        if !allowed {
            findings.push(format!("{path}:{line}: unsafe code may be only in {}", ALLOWED.join(", ")));
        } else if matches!(after, Next::Brace | Next::Word("impl")) && !says_why(&lines, line) {
            findings.push(format!("{path}:{line}: no `// SAFETY:` comment above; say why this is sound"));
        }
    });
    findings
}

/// Whether the comment above the statement that the line belongs to has `SAFETY:` in it (or the line itself).
fn says_why(lines: &[&str], line: usize) -> bool {
    let above = lines.get(..line).unwrap_or_default().iter().rev().map(|line| line.trim());
    for (distance, text) in above.enumerate() {
        let is_comment = text.starts_with("//");
        if text.contains("// SAFETY:") {
            return true;
        }
        // The statement may begin some lines above the word; another statement ends the search.
        let ends_other = distance > 0 && (text.is_empty() || text.ends_with([';', '{', '}']));
        if ends_other && !is_comment {
            return false;
        }
    }
    false
}

/// Crate roots that do not forbid unsafe code.
pub fn missing_denials(sources: &[Source]) -> Vec<String> {
    sources.iter().filter(|source| is_crate_root(&source.path)).filter_map(missing_denial).collect()
}

fn missing_denial(source: &Source) -> Option<String> {
    let path = source.path.as_str();
    let line = match NOT_FORBIDDING.iter().find(|(root, _)| *root == path) {
        Some((_, None)) => return None,
        Some((_, Some(line))) => line,
        None => "#![forbid(unsafe_code)]",
    };
    let found = source.text.lines().any(|text| text.trim() == line);
    (!found).then(|| format!("{path}: has no `{line}`"))
}

fn is_crate_root(path: &str) -> bool {
    let inside = path.strip_prefix("crates/").and_then(|path| path.split_once('/'));
    inside.is_some_and(|(_, file)| file == "src/lib.rs" || file == "src/main.rs" || file.starts_with("src/bin/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, text: &str) -> Vec<String> {
        findings(&[Source::sample(path, text)])
    }

    #[test]
    fn unsafe_code_elsewhere_is_found() {
        let text = "fn a() {\n    // SAFETY: none\n    unsafe { b() }\n}";
        assert_eq!(of("crates/core/src/a.rs", text).len(), 1);
        assert_eq!(of("crates/rxpath/src/net/a.rs", text).len(), 1);
        assert_eq!(of("crates/rxpath/src/device/tap.rs", text), [""; 0]);
        assert_eq!(of("crates/core/src/a.rs", "// unsafe\nconst A: &str = \"unsafe { }\";"), [""; 0]);
        assert_eq!(of("crates/core/src/a.rs", "m! { unsafe { b() } }").len(), 1);
    }

    #[test]
    fn unsafe_code_without_reason_is_found() {
        let path = "crates/mem/src/a.rs";
        assert_eq!(of(path, "fn a() {\n    unsafe { b() }\n}").len(), 1);
        assert_eq!(of(path, "// SAFETY: for another\nfn c() {}\n\nfn a() {\n    unsafe { b() }\n}").len(), 1);
        assert_eq!(of(path, "// SAFETY: for the first\nunsafe impl Send for A {}\nunsafe impl Sync for A {}").len(), 1);
        assert_eq!(
            of(path, "fn a() {\n    // SAFETY: long\n    // reason\n    let x =\n        unsafe { b() };\n}"),
            [""; 0]
        );
        assert_eq!(of(path, "/// # Safety\n/// so\nunsafe fn a() {}"), [""; 0], "the caller gives the reason");
    }

    #[test]
    fn a_crate_that_forbids_nothing_is_found() {
        let of = |path: &str, text: &str| missing_denials(&[Source::sample(path, text)]);
        assert_eq!(of("crates/core/src/lib.rs", "//! x"), ["crates/core/src/lib.rs: has no `#![forbid(unsafe_code)]`"]);
        assert_eq!(of("crates/new/src/main.rs", "// #![forbid(unsafe_code)]").len(), 1);
        assert_eq!(of("crates/rxpath/src/lib.rs", "").len(), 1);
        assert_eq!(of("crates/rxpath/src/lib.rs", "#![deny(unsafe_code)]"), [""; 0]);
        assert_eq!(of("crates/mem/src/lib.rs", ""), [""; 0]);
        assert_eq!(of("crates/core/src/gro/mod.rs", ""), [""; 0]);
    }
}
