//! From text to typed entries: each key by itself. All findings are gathered, not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rxpath_core::sysctl::{SysctlError, Sysctls, canonical, nearest};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Finding;
use super::keys::{Absent, Form, SECTIONS, SYSCTL, Section};
use super::values::{self, Value};

/// The file with every key read, nothing yet seen together.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// The entries of each section, by its name.
    entries: BTreeMap<&'static str, Vec<Entry>>,
    pub sysctls: Sysctls,
    /// The interfaces that tunables are set for by their names, with the places of those.
    pub tuned: Vec<(String, Range<usize>)>,
}

impl Document {
    /// The entries of a section in the order of the file.
    pub(super) fn all(&self, section: &Section) -> &[Entry] {
        self.entries.get(section.name).map(Vec::as_slice).unwrap_or_default()
    }
}

/// One entry of a section: the value of each key that was given or has a default.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where the entry begins in the file.
    pub span: Range<usize>,
    values: BTreeMap<&'static str, (Value, Range<usize>)>,
    tables: BTreeMap<&'static str, Entry>,
}

impl Entry {
    /// Where a key's value stands; where the entry begins if the key was not given.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.values.get(key).map_or(&self.span, |(_, span)| span).clone()
    }

    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).map(|(value, _)| value)
    }

    pub(super) fn table(&self, key: &str) -> Option<&Entry> {
        self.tables.get(key)
    }
}

/// Reads the text of a file.
pub(super) fn document(text: &str) -> Result<Document, Vec<Finding>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors.iter().map(|error| syntax(error, text)).collect());
    }
    let mut reader = Reader { text, findings: Vec::new() };
    let mut document = Document::default();
    for (name, value) in table.get_ref() {
        match SECTIONS.iter().find(|section| section.name == name.get_ref().as_ref()) {
            Some(section) if section.name == SYSCTL.name => reader.sysctls(value, &mut document),
            Some(section) => {
                let entries = reader.section(section, name, value);
                document.entries.insert(section.name, entries);
            }
            None => reader.find(name.span(), unknown_section(name.get_ref())),
        }
    }
    // Sections that are given at most once have their defaults where they are not given.
    for section in SECTIONS.iter().filter(|section| !section.is_many() && section.name != SYSCTL.name) {
        let entry = || vec![reader.entry(section, &DeTable::new(), 0..0)];
        document.entries.entry(section.name).or_insert_with(entry);
    }
    if reader.findings.is_empty() { Ok(document) } else { Err(reader.findings) }
}

fn syntax(error: &toml::de::Error, text: &str) -> Finding {
    let mut what = error.message().lines().map(str::trim).collect::<Vec<_>>().join("; ");
    if what == "duplicate key" {
        what.push_str("; remove one of the two");
    }
    Finding { span: error.span().unwrap_or(text.len()..text.len()), what }
}

fn unknown_section(name: &str) -> String {
    let near = nearest(name, SECTIONS.iter().map(|section| section.name));
    let header = |name: &str| SECTIONS.iter().find(|section| section.name == name).map(|section| section.header);
    match near.and_then(header) {
        Some(header) => format!("unknown section {name:?}; did you mean {header}?"),
        None => {
            let headers: Vec<_> = SECTIONS.iter().map(|section| section.header).collect();
            format!("unknown section {name:?}; the sections are {}", headers.join(", "))
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn find(&mut self, span: Range<usize>, what: String) {
        self.findings.push(Finding { span, what });
    }

    /// The entries of a section: a table, or an array of tables where it may be given several times.
    fn section(
        &mut self,
        section: &'static Section,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Vec<Entry> {
        match value.get_ref() {
            DeValue::Table(table) if !section.is_many() => vec![self.entry(section, table, value.span())],
            DeValue::Array(items) if section.is_many() => {
                let mut entries = Vec::new();
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => entries.push(self.entry(section, table, item.span())),
                        _ => self.find(
                            item.span(),
                            format!("{} is a section; write {} on a line", section.name, section.header),
                        ),
                    }
                }
                entries
            }
            DeValue::Table(_) => {
                self.find(
                    name.span(),
                    format!("{0} may be given several times; write {1}", section.name, section.header),
                );
                Vec::new()
            }
            DeValue::Array(_) => {
                self.find(name.span(), format!("{0} is given once; write {1}", section.name, section.header));
                Vec::new()
            }
            _ => {
                self.find(name.span(), format!("{} is a section; write {} on a line", section.name, section.header));
                Vec::new()
            }
        }
    }

    /// Reads the keys of one table; adds the defaults of those that are not given.
    fn entry(&mut self, section: &'static Section, table: &DeTable<'_>, span: Range<usize>) -> Entry {
        let mut entry = Entry { span, values: BTreeMap::new(), tables: BTreeMap::new() };
        for (name, _) in table.iter().filter(|(name, _)| section.key(name.get_ref()).is_none()) {
            self.find(name.span(), unknown_key(section, name.get_ref()));
        }
        for key in section.keys {
            let given = table.iter().find(|(name, _)| name.get_ref() == key.name).map(|(_, value)| value);
            let default;
            let (given, text) = match (given, key.absent) {
                (Some(given), _) => (given, self.text),
                (None, Absent::Is(toml)) => {
                    default = DeValue::parse(toml);
                    // The table's tests read every default.
                    let Ok(default) = &default else { continue };
                    (default, toml)
                }
                (None, Absent::Means(_)) => continue,
                (None, Absent::Required) => {
                    let what = format!(
                        "this {} has no {}; add a line such as {1} = {2}",
                        section.header, key.name, key.example
                    );
                    self.find(entry.span.clone(), what);
                    continue;
                }
            };
            match (key.form, given.get_ref()) {
                (Form::Table(section), DeValue::Table(table)) => {
                    let inner = self.entry(section, table, given.span());
                    entry.tables.insert(key.name, inner);
                }
                _ => match values::value(key.form, given, text) {
                    Ok(value) => drop(entry.values.insert(key.name, (value, given.span()))),
                    Err(misfit) => {
                        let what = values::sentence(key, &misfit, text);
                        self.find(misfit.span, what);
                    }
                },
            }
        }
        entry
    }

    fn sysctls(&mut self, value: &Spanned<DeValue<'_>>, document: &mut Document) {
        let DeValue::Table(table) = value.get_ref() else {
            return self.find(value.span(), format!("sysctl is given once; write {}", SYSCTL.header));
        };
        let mut given = Vec::new();
        self.flatten("", table, &mut given);
        let mut seen: BTreeSet<String> = BTreeSet::new();
        given.sort_by_key(|(_, span, _)| span.start);
        for (name, span, value) in given {
            if let Some((canonical, interface)) = canonical(&name) {
                if !seen.insert(canonical.clone()) {
                    self.find(span, format!("{canonical} is set a second time; keep one of the two"));
                    continue;
                }
                document.tuned.extend(interface.map(|interface| (interface, span.clone())));
            }
            let Some(text) = sysctl_text(value) else {
                let what = format!("{name} takes a text such as \"4096 131072 6291456\", a number, or true or false");
                self.find(value.span(), what);
                continue;
            };
            match document.sysctls.set(&name, &text) {
                Ok(()) => {}
                Err(error @ SysctlError::UnknownName { .. }) => self.find(span, error.to_string()),
                Err(error) => self.find(value.span(), error.to_string()),
            }
        }
    }

    /// Names with dots that are not quoted are tables within tables to TOML; here they are names again.
    fn flatten<'v, 't>(
        &mut self,
        prefix: &str,
        table: &'v DeTable<'t>,
        names: &mut Vec<(String, Range<usize>, &'v Spanned<DeValue<'t>>)>,
    ) {
        for (key, value) in table {
            let name = match prefix {
                "" => key.get_ref().to_string(),
                _ => format!("{prefix}.{}", key.get_ref()),
            };
            match value.get_ref() {
                DeValue::Table(inner) => self.flatten(&name, inner, names),
                _ => names.push((name, key.span(), value)),
            }
        }
    }
}

fn sysctl_text(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(switch) => Some(u8::from(*switch).to_string()),
        _ => None,
    }
}

fn unknown_key(section: &Section, name: &str) -> String {
    let what = format!("unknown key {name:?} in {}", section.header);
    match nearest(name, section.key_names()) {
        Some(near) => format!("{what}; did you mean {near:?}?"),
        None => format!("{what}; its keys are {}", section.key_names().join(", ")),
    }
}
