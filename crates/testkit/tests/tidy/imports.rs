//! Which crate may import which: one way, from the wire up to the command.

use crate::tree::Source;

/// Each crate by its folder, with those of ours that it may import. A crate is not in its own list nor in that of one
/// above it, so no circle can be.
const MAY_IMPORT: [(&str, &[&str]); 10] = [
    ("arch", &[]),
    ("wire", &["arch"]),
    ("trace", &[]),
    ("mem", &["arch", "wire", "trace"]),
    ("core", &["arch", "wire", "trace", "mem"]),
    ("rxpath", &["arch", "wire", "trace", "mem", "core"]),
    ("sim", &["arch", "wire", "trace", "mem", "core", "rxpath"]),
    ("bench", &["arch", "wire", "trace", "mem", "core", "rxpath", "sim"]),
    ("cli", &["arch", "wire", "trace", "mem", "core", "rxpath", "sim", "bench"]),
    ("testkit", &[]),
];

/// What any crate's tests may import besides.
const FOR_TESTS: &str = "testkit";

pub fn findings(manifests: &[Source]) -> Vec<String> {
    manifests.iter().filter(|manifest| manifest.path.starts_with("crates/")).flat_map(in_manifest).collect()
}

fn in_manifest(manifest: &Source) -> Vec<String> {
    let path = &manifest.path;
    let folder = path.split('/').nth(1).unwrap_or_default();
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == folder) else {
        return vec![format!("{path}: a new crate; give it a line in {}, and in ARCHITECTURE.md", file!())];
    };
    let table: toml::Table = match manifest.text.parse() {
        Ok(table) => table,
        Err(error) => return vec![format!("{path}: {error}")],
    };
    let mut findings = Vec::new();
    for (section, name, _) in dependencies(&table) {
        let Some(imported) = folder_of(name) else { continue };
        let for_tests = section == "dev-dependencies" && imported == FOR_TESTS && folder != FOR_TESTS;
        if !allowed.contains(&imported) && !for_tests {
            findings.push(format!("{path}: {folder} imports {imported} in [{section}]; imports run one way"));
        }
    }
    findings
}

/// Section, package and value of each dependency, those for certain targets included.
pub fn dependencies(manifest: &toml::Table) -> Vec<(&'static str, &str, &toml::Value)> {
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let targets = targets.into_iter().flat_map(|targets| targets.values()).filter_map(toml::Value::as_table);
    let mut found = Vec::new();
    for table in targets.chain([manifest]) {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let entries = table.get(section).and_then(toml::Value::as_table);
            for (key, value) in entries.into_iter().flatten() {
                let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(key);
                found.push((section, package, value));
            }
        }
    }
    found
}

/// The folder of a package of ours.
fn folder_of(package: &str) -> Option<&str> {
    match package.strip_prefix("rxpath") {
        Some("") => Some("rxpath"),
        Some(rest) => rest.strip_prefix('-'),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, text: &str) -> Vec<String> {
        findings(&[Source::sample(path, text)])
    }

    #[test]
    fn the_table_runs_one_way() {
        for (index, (name, allowed)) in MAY_IMPORT.iter().enumerate() {
            let below: Vec<&str> = MAY_IMPORT[..index].iter().map(|(name, _)| *name).collect();
            assert!(allowed.iter().all(|import| below.contains(import)), "{name} imports what is not below it");
        }
    }

    #[test]
    fn an_import_upwards_is_found_in_every_section() {
        let want = ["crates/mem/Cargo.toml: mem imports core in [dependencies]; imports run one way"];
        assert_eq!(of("crates/mem/Cargo.toml", "[dependencies]\nrxpath-core.workspace = true"), want);
        assert_eq!(of("crates/mem/Cargo.toml", "[target.'cfg(unix)'.dependencies]\nrxpath-core = { path = '' }"), want);
        assert_eq!(of("crates/mem/Cargo.toml", "[dependencies]\ninnocent = { package = 'rxpath-core' }"), want);
        assert_eq!(of("crates/core/Cargo.toml", "[dev-dependencies]\nrxpath = '1'").len(), 1);
        assert_eq!(of("crates/trace/Cargo.toml", "[build-dependencies]\nrxpath-wire = '1'").len(), 1);
    }

    #[test]
    fn tests_of_all_crates_may_import_the_testkit_and_nothing_else_may() {
        assert_eq!(
            of("crates/mem/Cargo.toml", "[dev-dependencies]\nrxpath-testkit = { path = '../testkit' }"),
            [""; 0]
        );
        assert_eq!(of("crates/mem/Cargo.toml", "[dependencies]\nrxpath-testkit = { path = '../testkit' }").len(), 1);
    }

    #[test]
    fn a_crate_that_no_rule_knows_is_found() {
        assert!(of("crates/new/Cargo.toml", "")[0].starts_with("crates/new/Cargo.toml: a new crate"));
        assert_eq!(of("crates/mem/Cargo.toml", "[dependencies]\nrustix = '1'\nrxpath-wire = '1'"), [""; 0]);
        assert_eq!(of("crates/mem/Cargo.toml", "[dependencies").len(), 1);
    }
}
