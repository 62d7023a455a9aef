//! Counters: those that are printed are those that something counts, and each is named by a test or a recipe.

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

/// The page of recipes, each of which is a test, up to what it says of others.
const RECIPES: &str = "docs/counters.md";
const END_OF_RECIPES: &str = "## What is not counted";

/// Counters of the list that neither a test nor a recipe names.
///
/// # Errors
/// There is no list, or no page of recipes.
pub fn unnamed(sources: &[Source], documents: &[Source]) -> Result<Vec<String>, String> {
    let list = sources.iter().find(|source| source.path == LIST).ok_or("no list of what is counted")?;
    let page = documents.iter().find(|document| document.path == RECIPES).ok_or("no page of recipes")?;
    let is_test = |path: &str| ["/test", "tests.rs", "/proved.rs"].iter().any(|part| path.contains(part));
    let tests = sources.iter().map(|source| match is_test(&source.path) {
        true => source.text.as_str(),
        false => source.text.split_once(TEST_MODULE).map_or("", |(_, tests)| tests),
    });
    let recipes = page.text.split(END_OF_RECIPES).take(1);
    let words: BTreeSet<&str> =
        tests.chain(recipes).flat_map(|text| text.split(|letter: char| !letter.is_ascii_alphanumeric())).collect();
    let is_named = |name: &&str| {
        let printed = ["TcpExt", "IpExt"].iter().find_map(|group| name.strip_prefix(group));
        words.contains(*name) || printed.is_some_and(|printed| words.contains(printed))
    };
    let listed: BTreeSet<&str> = named(&list.text).collect();
    let left = listed.iter().filter(|name| !is_named(name));
    Ok(left.map(|name| format!("{LIST}: no test and no recipe names {name}")).collect())
}

const TEST_MODULE: &str = "#[cfg(test)]\nmod tests {";

fn before_tests(text: &str) -> &str {
    text.split(TEST_MODULE).next().unwrap_or_default()
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

    #[test]
    fn counters_that_no_test_names_are_found() {
        let left = |path: &str, text: &str, page: &str| {
            let list = Source::sample(LIST, "&[Counter::TcpExtTCPHPHits];");
            let code = Source::sample(path, text);
            unnamed(&[list, code], &[Source::sample(RECIPES, page)]).expect("a list and a page").len()
        };
        assert_eq!(left("crates/core/src/ip.rs", "Counter::TcpExtTCPHPHits", ""), 1);
        assert_eq!(left("crates/core/src/ip.rs", "#[cfg(test)]\nmod tests {\nCounter::TcpExtTCPHPHits", ""), 0);
        assert_eq!(left("crates/core/src/tcp/tests/ip.rs", "TCPHPHits", ""), 0);
        assert_eq!(left("crates/core/src/tcp/tests/ip.rs", "TCPHPHitsX", ""), 1);
        assert_eq!(left("crates/core/src/ip.rs", "", "| moves | `TcpExtTCPHPHits` |"), 0);
        assert_eq!(left("crates/core/src/ip.rs", "", "## What is not counted\n`TcpExtTCPHPHits`"), 1);
        assert!(unnamed(&[], &[]).is_err());
    }
}
