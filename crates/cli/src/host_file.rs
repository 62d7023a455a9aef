//! `rxpath config`.

use std::path::Path;

use rxpath::config::{ConfigErrors, HostConfig, reference};
use serde_json::json;

use crate::args::ConfigVerb;
use crate::failure::Failure;
use crate::out::{GOOD, Out};

/// `rxpath config check` and `rxpath config reference`.
///
/// # Errors
/// The file is wrong, or the output is not taken.
pub fn run(out: &mut Out, verb: &ConfigVerb, json: bool) -> Result<(), Failure> {
    match verb {
        ConfigVerb::Check { file } => check(out, file, json),
        ConfigVerb::Reference if json => out.json(&json!({ "markdown": reference() })),
        ConfigVerb::Reference => out.text(reference()),
    }
}

fn check(out: &mut Out, file: &Path, json: bool) -> Result<(), Failure> {
    let config = match HostConfig::load(file) {
        Ok(config) => config,
        Err(errors) if json => {
            out.json(&json!({ "ok": false, "errors": findings(&errors) }))?;
            return Err(Failure::Told(2));
        }
        Err(errors) => return Err(errors.into()),
    };
    let (interfaces, services) = (config.interfaces.len(), config.services.len());
    if json {
        return out.json(&json!({ "ok": true, "interfaces": interfaces, "services": services }));
    }
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (interfaces, services) = (count(interfaces, "interface"), count(services, "service"));
    out.line(format_args!("{}: {GOOD}sound{GOOD:#} ({interfaces}, {services})", file.display()))
}

fn findings(errors: &ConfigErrors) -> Vec<serde_json::Value> {
    let finding = |error: &rxpath::config::ConfigError| {
        let (line, column) = error.place.unzip();
        json!({ "file": error.file, "line": line, "column": column, "what": error.what })
    };
    errors.errors().iter().map(finding).collect()
}
