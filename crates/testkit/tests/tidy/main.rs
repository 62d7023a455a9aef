//! The tidy tests: the house rules of CONTRIBUTING.md that a machine can hold.
//!
//! Each module checks one kind of rule over the whole tree and gives the findings as lines of `place: what is wrong;
//! what mends it`. Each is also shown bad samples, so that no check is one that cannot fail.

mod circles;
mod counters;
mod decided;
mod docs;
mod imports;
mod length;
mod licences;
mod paths;
mod rooms;
mod tokens;
mod tree;
mod unsafety;
mod words;

use tree::Tree;

/// The ratchet: numbers that may only fall. A change that lowers one by much fails until the number here follows.
mod ratchet {
    /// Lines of a function that 99 of 100 functions do not exceed.
    pub const P99_FUNCTION_LINES: usize = 50;
    /// How far the tree may be better than the number above before the number must follow.
    pub const SLACK: usize = 20;
    /// Rows of ARCHITECTURE.md's checklist that lack a file or a test.
    pub const OPEN_CHECKLIST_ROWS: usize = 1;
}

/// Fails with all findings, one a line.
#[track_caller]
fn assert_tidy(findings: &[String]) {
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn files_and_functions_are_short() {
    let tree = Tree::load();
    let mut findings = length::long_files(&tree.sources);
    let functions = length::functions_of(&tree.sources).expect("every source file parses");
    findings.extend(length::long_functions(&functions));
    findings.extend(length::ratchet(&functions, ratchet::P99_FUNCTION_LINES, ratchet::SLACK));
    assert_tidy(&findings);
}

#[test]
fn crates_import_one_way() {
    assert_tidy(&imports::findings(&Tree::load().manifests));
}

#[test]
fn rooms_of_the_core_import_no_circle_and_reach_no_system() {
    let tree = Tree::load();
    let core: Vec<_> = tree.sources.iter().filter(|source| source.path.starts_with("crates/core/src/")).collect();
    let mut findings = rooms::findings(&core);
    findings.extend(rooms::system_use(&core));
    findings.extend(circles::findings(&core));
    assert_tidy(&findings);
}

#[test]
fn unsafe_code_is_where_it_may_be_and_says_why() {
    let tree = Tree::load();
    let mut findings = unsafety::findings(&tree.sources);
    findings.extend(unsafety::missing_denials(&tree.sources));
    assert_tidy(&findings);
}

#[test]
fn nothing_is_unfinished_or_named_for_nothing() {
    assert_tidy(&words::findings(&Tree::load().sources));
}

#[test]
fn links_in_documents_lead_somewhere() {
    assert_tidy(&docs::broken_links(&Tree::load()));
}

#[test]
fn the_checklist_names_files_and_tests_that_exist() {
    let tree = Tree::load();
    let text = tree.document("ARCHITECTURE.md");
    let rows = docs::checklist(text).expect("ARCHITECTURE.md has the checklist");
    let mut findings = docs::checklist_findings(&rows, &tree);
    findings.extend(docs::open_rows(&rows, ratchet::OPEN_CHECKLIST_ROWS));
    assert_tidy(&findings);
}

#[test]
fn what_is_decided_is_decided_where_the_table_says() {
    let tree = Tree::load();
    assert_tidy(
        &decided::findings(tree.document("ARCHITECTURE.md"), &tree.sources).expect("ARCHITECTURE.md has the table"),
    );
}

#[test]
fn what_is_counted_is_printed() {
    assert_tidy(&counters::findings(&Tree::load().sources).expect("there is a list"));
}

#[test]
fn each_counter_is_named_by_a_test_or_a_recipe() {
    let tree = Tree::load();
    assert_tidy(&counters::unnamed(&tree.sources, &tree.documents).expect("there are a list and recipes"));
}

#[test]
fn licences_and_sources_of_all_dependencies_are_allowed() {
    let tree = Tree::load();
    let rules = licences::Rules::parse(tree.document("deny.toml")).expect("deny.toml is as the test reads it");
    let mut findings = licences::findings(&rules, &licences::metadata(&tree.root));
    findings.extend(licences::wildcards(&rules, &tree.manifests));
    assert_tidy(&findings);
}
