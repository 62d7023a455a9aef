//! Licences and sources of all dependencies, against the lists of `deny.toml` (which cargo-deny reads too).

use std::path::Path;
use std::process::Command;

use crate::imports;
use crate::tree::Source;

/// What `deny.toml` allows.
pub struct Rules {
    /// SPDX names, with exceptions as `Apache-2.0 WITH LLVM-exception`.
    licences: Vec<String>,
    /// Registries by address, as the lock file names them.
    registries: Vec<String>,
    /// Crates that may not be used, with the reason.
    banned: Vec<(String, String)>,
    /// Whether a dependency must say which versions it takes.
    no_wildcards: bool,
}

/// A dependency as `cargo metadata` tells it.
#[derive(Debug)]
pub struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    /// Nothing for a crate of the tree.
    source: Option<String>,
}

impl Rules {
    pub fn parse(text: &str) -> Result<Rules, String> {
        let table: toml::Table = text.parse().map_err(|error| format!("deny.toml: {error}"))?;
        let list = |section: &str, key: &str| {
            let array = table.get(section).and_then(|section| section.get(key)).and_then(toml::Value::as_array);
            array.ok_or_else(|| format!("deny.toml: no list {key:?} in [{section}]"))
        };
        let texts = |section: &str, key: &str| -> Result<Vec<String>, String> {
            list(section, key)?
                .iter()
                .map(|value| value.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or_else(|| format!("deny.toml: {key:?} in [{section}] holds more than texts"))
        };
        let ban = |value: &toml::Value| {
            let field = |name: &str| value.get(name).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
            (field("crate"), field("reason"))
        };
        Ok(Rules {
            licences: texts("licenses", "allow")?,
            registries: texts("sources", "allow-registry")?,
            banned: list("bans", "deny")?.iter().map(ban).collect(),
            no_wildcards: table.get("bans").and_then(|bans| bans.get("wildcards")?.as_str()) == Some("deny"),
        })
    }

    fn allows(&self, licence: &str) -> bool {
        self.licences.iter().any(|allowed| allowed == licence)
    }
}

/// Dependencies in manifests that take any version; those by path alone are the tree's own.
pub fn wildcards(rules: &Rules, manifests: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for manifest in manifests.iter().filter(|_| rules.no_wildcards) {
        let table: toml::Table = match manifest.text.parse() {
            Ok(table) => table,
            Err(error) => return vec![format!("{}: {error}", manifest.path)],
        };
        let workspace = table.get("workspace").and_then(toml::Value::as_table);
        for (_, name, value) in [Some(&table), workspace].into_iter().flatten().flat_map(imports::dependencies) {
            let version = value.as_str().or_else(|| value.get("version")?.as_str());
            let elsewhere = value.get("path").or_else(|| value.get("workspace")).is_some();
            if version.map_or(!elsewhere, |version| version.contains('*')) {
                findings.push(format!("{}: {name} takes any version; say which", manifest.path));
            }
        }
    }
    findings
}

/// All packages of the lock file that cargo has at hand: for every platform if it has them all, else for this one.
pub fn metadata(root: &Path) -> Vec<Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let ask = |more: &[&str]| {
        let arguments = ["metadata", "--format-version=1", "--offline", "--locked"];
        let output = Command::new(&cargo).args(arguments).args(more).current_dir(root).output();
        let output = output.expect("cargo runs");
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    };
    let host = host_platform();
    let text = ask(&[])
        .or_else(|_| ask(&["--filter-platform", &host]))
        .unwrap_or_else(|error| panic!("cargo metadata --offline --locked (is Cargo.lock up to date?): {error}"));
    let metadata: serde_json::Value = serde_json::from_slice(&text).expect("cargo metadata gives JSON");
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    let field = |package: &serde_json::Value, name: &str| package[name].as_str().map(str::to_owned);
    packages
        .iter()
        .map(|package| Package {
            name: field(package, "name").unwrap_or_default(),
            version: field(package, "version").unwrap_or_default(),
            licence: field(package, "license"),
            source: field(package, "source"),
        })
        .collect()
}

fn host_platform() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

pub fn findings(rules: &Rules, packages: &[Package]) -> Vec<String> {
    assert!(packages.len() > 10, "cargo metadata told of only {} packages", packages.len());
    packages.iter().flat_map(|package| in_package(rules, package)).collect()
}

fn in_package(rules: &Rules, package: &Package) -> Vec<String> {
    let name = format!("{} {}", package.name, package.version);
    let mut findings = Vec::new();
    match &package.licence {
        None => findings.push(format!("{name}: names no licence")),
        Some(licence) => match evaluate(licence, &|licence| rules.allows(licence)) {
            Ok(true) => {}
            Ok(false) => findings.push(format!("{name}: {licence:?} is not within the licences of deny.toml")),
            Err(error) => findings.push(format!("{name}: {licence:?}: {error}")),
        },
    }
    if let Some(source) = &package.source {
        let registry = source.strip_prefix("registry+").unwrap_or(source);
        if !rules.registries.iter().any(|allowed| allowed == registry) {
            findings.push(format!("{name}: comes from {source}, which deny.toml does not allow"));
        }
    }
    findings.extend(
        rules
            .banned
            .iter()
            .filter(|(banned, _)| *banned == package.name)
            .map(|(_, reason)| format!("{name}: is banned: {reason}")),
    );
    findings
}

/// Evaluates an SPDX expression (AND binds closer than OR; `/` is the old way to write OR).
fn evaluate(expression: &str, allows: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let value = any(&mut rest, allows)?;
    match rest.first() {
        None => Ok(value),
        Some(word) => Err(format!("{word:?} is not expected here")),
    }
}

fn any(rest: &mut &[&str], allows: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let mut value = all(rest, allows)?;
    while rest.first() == Some(&"OR") {
        *rest = &rest[1..];
        value |= all(rest, allows)?;
    }
    Ok(value)
}

fn all(rest: &mut &[&str], allows: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let mut value = one(rest, allows)?;
    while rest.first() == Some(&"AND") {
        *rest = &rest[1..];
        value &= one(rest, allows)?;
    }
    Ok(value)
}

fn one(rest: &mut &[&str], allows: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    match **rest {
        [] => Err("it ends where a licence is expected".to_owned()),
        ["(", ref inner @ ..] => {
            *rest = inner;
            let value = any(rest, allows)?;
            match rest.split_first() {
                Some((&")", after)) => {
                    *rest = after;
                    Ok(value)
                }
                _ => Err("a parenthesis is not closed".to_owned()),
            }
        }
        [word @ (")" | "OR" | "AND" | "WITH"), ..] => Err(format!("{word:?} stands where a licence is expected")),
        [licence, "WITH", exception, ref after @ ..] => {
            *rest = after;
            Ok(allows(&format!("{licence} WITH {exception}")))
        }
        [licence, ref after @ ..] => {
            *rest = after;
            Ok(allows(licence))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        licenses.allow = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"]
        sources.allow-registry = ["https://registry"]
        bans.deny = [{ crate = "evil", reason = "it is evil" }]
        bans.wildcards = "deny"
    "#;

    fn package(name: &str, licence: Option<&str>, source: Option<&str>) -> Package {
        let own = |text: &str| text.to_owned();
        Package { name: own(name), version: own("1.0.0"), licence: licence.map(own), source: source.map(own) }
    }

    fn of(name: &str, licence: Option<&str>, source: Option<&str>) -> Vec<String> {
        in_package(&Rules::parse(RULES).expect("rules"), &package(name, licence, source))
    }

    #[test]
    fn expressions_are_read_as_spdx_has_them() {
        let allows = |licence: &str| ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"].contains(&licence);
        for (expression, want) in [
            ("MIT", Ok(true)),
            ("GPL-2.0", Ok(false)),
            ("GPL-2.0 OR MIT", Ok(true)),
            ("GPL-2.0/MIT", Ok(true)),
            ("GPL-2.0 AND MIT", Ok(false)),
            ("MIT OR GPL-2.0 AND GPL-3.0", Ok(true)),
            ("(MIT OR GPL-2.0) AND GPL-3.0", Ok(false)),
            ("(MIT OR GPL-2.0) AND (Zlib)", Ok(true)),
            ("Apache-2.0 WITH LLVM-exception", Ok(true)),
            ("Apache-2.0", Ok(false)),
            ("", Err("it ends where a licence is expected")),
            ("MIT OR", Err("it ends where a licence is expected")),
            ("(MIT", Err("a parenthesis is not closed")),
            ("MIT Zlib", Err("\"Zlib\" is not expected here")),
            ("AND MIT", Err("\"AND\" stands where a licence is expected")),
        ] {
            assert_eq!(evaluate(expression, &allows), want.map_err(str::to_owned), "{expression:?}");
        }
    }

    #[test]
    fn what_is_not_allowed_is_found() {
        let registry = Some("registry+https://registry");
        assert_eq!(of("good", Some("MIT"), registry), [""; 0]);
        assert_eq!(of("ours", Some("MIT"), None), [""; 0]);
        assert_eq!(of("free", Some("GPL-3.0-only"), registry).len(), 1);
        assert_eq!(of("bare", None, registry), ["bare 1.0.0: names no licence"]);
        assert_eq!(of("far", Some("MIT"), Some("git+https://registry")).len(), 1);
        assert_eq!(of("evil", Some("MIT"), registry), ["evil 1.0.0: is banned: it is evil"]);
    }

    #[test]
    fn a_dependency_on_any_version_is_found() {
        let rules = Rules::parse(RULES).expect("rules");
        let of = |text: &str| wildcards(&rules, &[Source::sample("crates/a/Cargo.toml", text)]).len();
        assert_eq!(of("[dependencies]\na = '*'\nb = { version = '1.*' }\nc = { git = 'https://c' }"), 3);
        assert_eq!(of("[workspace.dependencies]\na = '*'"), 1);
        assert_eq!(of("[target.'cfg(unix)'.dev-dependencies]\na = '*'"), 1);
        assert_eq!(of("[dependencies]\na = '1'\nb = { path = '../b' }\nc.workspace = true\nd = { version = '1' }"), 0);
    }

    #[test]
    fn a_deny_file_without_its_lists_is_an_error() {
        let error = |text| Rules::parse(text).err().expect("an error");
        assert_eq!(error(""), "deny.toml: no list \"allow\" in [licenses]");
        assert_eq!(error("licenses.allow = [1]"), "deny.toml: \"allow\" in [licenses] holds more than texts");
        assert!(error("licenses = [").starts_with("deny.toml: "));
    }
}
