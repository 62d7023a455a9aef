//! What is wrong with a file, and where.

use std::fmt;
use std::ops::Range;

/// Findings beyond this number are counted, not kept: a large file of nonsense stays cheap.
const MAX_FINDINGS: usize = 100;

/// Something wrong at a place of the text, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub span: Range<usize>,
    pub what: String,
}

/// One thing that is wrong with a configuration file, with what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named.
    pub file: String,
    /// Line and column (in characters), both from 1; nothing if it is about the file as a whole.
    pub place: Option<(usize, usize)>,
    /// What is wrong, and the mend.
    pub what: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

impl std::error::Error for ConfigError {}

/// All that is wrong with a configuration file, in the order of the file; never empty. Displayed one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    /// Further ones that were not kept.
    more: usize,
}

impl ConfigErrors {
    /// The errors in the order of the file; at most 100.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    pub(super) fn of_file(file: &str, what: String) -> ConfigErrors {
        ConfigErrors { errors: vec![ConfigError { file: file.to_owned(), place: None, what }], more: 0 }
    }

    pub(super) fn too_large(file: &str) -> ConfigErrors {
        let what = format!("has more than {} bytes; split what is generated, or write it shorter", super::MAX_BYTES);
        ConfigErrors::of_file(file, what)
    }

    pub(super) fn not_utf8(file: &str, bytes: &[u8], valid: usize) -> ConfigErrors {
        let before = String::from_utf8_lossy(bytes.get(..valid).unwrap_or(bytes));
        let what = "this byte is not UTF-8; save the file as UTF-8".to_owned();
        let place = Some(place(&before, before.len()));
        ConfigErrors { errors: vec![ConfigError { file: file.to_owned(), place, what }], more: 0 }
    }

    pub(super) fn from_findings(file: &str, text: &str, mut findings: Vec<Finding>) -> ConfigErrors {
        findings.sort_by_key(|finding| finding.span.start);
        let more = findings.len().saturating_sub(MAX_FINDINGS);
        let kept = findings.into_iter().take(MAX_FINDINGS).map(|finding| ConfigError {
            file: file.to_owned(),
            place: Some(place(text, finding.span.start)),
            what: finding.what,
        });
        ConfigErrors { errors: kept.collect(), more }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// Line and column of a byte, both from 1.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    let before = text.get(..byte).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before.get(line_start..).unwrap_or_default().chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters_from_one() {
        let text = "a\nbü c\n";
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 8, 99].map(|byte| place(text, byte)), {
            [(1, 1), (1, 2), (2, 1), (2, 2), (2, 2), (2, 3), (2, 4), (3, 1), (3, 1)]
        });
    }

    #[test]
    fn many_findings_are_kept_in_order_and_counted() {
        let finding = |at: usize| Finding { span: at..at, what: "wrong".to_owned() };
        let errors = ConfigErrors::from_findings("f", &"\n".repeat(200), (0..150).rev().map(finding).collect());
        assert_eq!(errors.errors().len(), 100);
        assert!(errors.to_string().starts_with("f:1:1: wrong\nf:2:1: wrong\n"));
        assert!(errors.to_string().ends_with("f:100:1: wrong\nand 50 more"));
    }
}
