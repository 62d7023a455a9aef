//! Counters: those that are printed are those that something counts.

use std::collections::BTreeSet;

use crate::tree::Source;

/// The list of those that are printed.
const LIST: &str = "crates/trace/src/counters/counted.rs";
/// Where counters are counted.
const COUNTING: [&str; 2] = ["crates/core/src/", "crates/rxpath/src/"];

/// Counters that are counted and not in the list, and those in it that nothing counts.
///
/// # Errors
/// There is no list.
pub fn findings(sources: &[Source]) -> Result<Vec<String>, String> {
    let list = sources.iter().find(|source| source.path == LIST).ok_or("no list of what is counted")?;
    let listed: BTreeSet<&str> = named(&list.text).collect();
    let counting = sources.iter().filter(|source| COUNTING.iter().any(|place| source.path.starts_with(place)));
    let counting = counting.filter(|source| !source.path.contains("/test") && !source.path.ends_with("tests.rs"));
    let counted: BTreeSet<&str> = counting.flat_map(|source| named(before_tests(&source.text))).collect();
    let hidden =
        counted.difference(&listed).map(|name| format!("{LIST}: {name} is counted; list it, or nobody sees it"));
    let idle = listed.difference(&counted).map(|name| format!("{LIST}: nothing counts {name}; leave it out"));
    Ok(hidden.chain(idle).collect())
}

fn before_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// The counters that a text names.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.split("Counter::").skip(1).filter_map(|rest| {
        let name = rest.split(|letter: char| !letter.is_ascii_alphanumeric()).next()?;
        name.starts_with(|letter: char| letter.is_ascii_uppercase()).then_some(name).filter(|name| *name != "ALL")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_and_idle_counters_are_found() {
        let found = |counted: &str| {
            let list = Source::sample(LIST, "&[Counter::IpIn, Counter::TcpIn];");
            let code = Source::sample("crates/core/src/ip.rs", counted);
            findings(&[list, code]).expect("a list").len()
        };
        assert_eq!(found("cx.count(Counter::IpIn); match Counter::TcpIn {}"), 0);
        assert_eq!(found("cx.count(Counter::IpIn)"), 1);
        assert_eq!(found("Counter::IpIn, Counter::TcpIn, Counter::icmp_in(3), Counter::TcpOut"), 1);
        assert_eq!(found("Counter::IpIn\n#[cfg(test)]\nmod tests {\nCounter::TcpIn"), 1);
        assert!(findings(&[]).is_err());
    }
}
