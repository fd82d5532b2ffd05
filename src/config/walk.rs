//! Reads the settings from a tree of values, along the key table, and collects problems and warnings.
//!
//! Knows no single key. Reading continues after a problem, and every unknown key is reported.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::error::{Finding, Place};
use super::keys::{self, Child, Row, Status};
use super::kind::{Kind, shorten};
use super::nearest;
use super::settings::{Setting, Settings};

/// Problems after which no more suggestions are made. They are slow, and the file is hardly a misspelt configuration.
const SUGGESTIONS_MAX: usize = 100;

/// A smaller number of nanoseconds is probably meant in another unit.
const NANOSECONDS_MEANT: i64 = 1_000_000_000;

/// The problems and warnings of one file.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) file: String,
    pub(super) problems: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
}

/// A place in the tree.
#[derive(Debug, Clone)]
struct At {
    /// The key as the key table spells it.
    key: String,
    /// The path as a message shows it.
    path: String,
    /// Whether an enclosing table is refused, ignored or switched off. Then only spelling and kinds are checked.
    muted: bool,
}

impl Findings {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), problems: Vec::new(), warnings: Vec::new() }
    }

    /// Whether a problem has been reported in a table.
    pub(super) fn has_problem_under(&self, table: &str) -> bool {
        self.problems.iter().any(|problem| problem.is_under(table))
    }

    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        let finding = self.finding(key, message.into());
        self.problems.push(finding);
    }

    pub(super) fn warning(&mut self, key: &str, message: impl Into<String>) {
        let finding = self.finding(key, message.into());
        self.warnings.push(finding);
    }

    fn finding(&self, key: &str, message: String) -> Finding {
        Finding { file: self.file.clone(), place: Place::Key(key.to_owned()), message }
    }
}

/// Reads a whole tree.
pub(super) fn settings(tree: &Map<String, Value>, findings: &mut Findings) -> Settings {
    let mut settings = Settings::default();
    let top = At { key: String::new(), path: String::new(), muted: false };
    table(tree, &top, &mut settings, findings);
    settings
}

fn table(table: &Map<String, Value>, at: &At, settings: &mut Settings, findings: &mut Findings) {
    for (name, value) in distinct(table, at, findings) {
        match keys::child(&at.key, name) {
            Some(Child::Row(row)) => {
                let path = join(&at.path, keys::below(&at.key, row.key).unwrap_or(row.key));
                let here = At { key: row.key.to_owned(), path, muted: at.muted };
                if !row.kind.is_unset(value) {
                    read_key(row, value, &here, settings, findings);
                }
            }
            Some(Child::Group(key)) => {
                let path = join(&at.path, keys::below(&at.key, key).unwrap_or(key));
                let here = At { key: key.to_owned(), path, muted: at.muted };
                group(value, &here, settings, findings);
            }
            None => {
                let message = if findings.problems.len() < SUGGESTIONS_MAX {
                    nearest::unknown_key(&at.key, &at.path, name)
                } else {
                    "unknown key".to_owned()
                };
                findings.problem(&join(&at.path, &segment(name)), message);
            }
        }
    }
    for row in keys::required_in(&at.key) {
        let name = keys::below(&at.key, row.key).unwrap_or(row.key);
        let is_it = |(given, value): (&String, &Value)| given.eq_ignore_ascii_case(name) && !value.is_null();
        if !table.iter().any(is_it) {
            let message = "is missing: the table requires it";
            findings.problem(&join(&at.path, name), message);
        }
    }
}

/// The entries of a table, ordered by name. Names that differ only in case are one key: reports all but the first.
fn distinct<'t>(table: &'t Map<String, Value>, at: &At, findings: &mut Findings) -> Vec<(&'t String, &'t Value)> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    let mut entries = Vec::new();
    let mut sorted: Vec<_> = table.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    for (name, value) in sorted {
        if let Some(first) = seen.insert(name.to_ascii_lowercase(), name) {
            let message = format!("is given twice, also as {}", segment(first));
            findings.problem(&join(&at.path, &segment(name)), message);
        } else {
            entries.push((name, value));
        }
    }
    entries
}

fn group(value: &Value, at: &At, settings: &mut Settings, findings: &mut Findings) {
    match value {
        Value::Null => {}
        Value::Object(inner) => table(inner, at, settings, findings),
        _ => {
            let found = Kind::Table.found(value);
            findings.problem(&at.path, format!("expected a table of keys, found {found}"));
        }
    }
}

/// Reads the value of one key.
fn read_key(row: &'static Row, value: &Value, at: &At, settings: &mut Settings, findings: &mut Findings) {
    let setting = match (row.kind, value) {
        (Kind::Table | Kind::Switch { .. } | Kind::Map, Value::Object(_))
        | (Kind::List, Value::Array(_))
        | (Kind::Free, _) => return read_container(row, value, at, settings, findings),
        (kind, value) => kind.read(value),
    };
    if let (Ok(Setting::Nanoseconds(count)), Value::Number(_)) = (&setting, value)
        && (1..NANOSECONDS_MEANT).contains(count)
        && !at.muted
    {
        let why = format!("counts nanoseconds without a unit: write {count}ns, or another unit such as 24h");
        findings.warning(&at.path, why);
    }
    let is_refused = matches!(row.status, Status::Refused(_));
    match &setting {
        Err(message) if at.muted || !is_refused => match (row.kind.element(), value) {
            (Some(kind), Value::Array(list)) => elements(kind, list, at, findings),
            _ => findings.problem(&at.path, message),
        },
        Ok(given) if row.default_setting().as_ref() == Some(given) => {}
        _ => report_status(row, at, findings),
    }
    settings.insert(row.key, setting.unwrap_or(Setting::Invalid));
}

/// Reports the invalid elements of a list.
fn elements(kind: Kind, list: &[Value], at: &At, findings: &mut Findings) {
    for (index, element) in list.iter().enumerate() {
        if let Err(message) = kind.read(element) {
            findings.problem(&format!("{}[{index}]", at.path), message);
        }
    }
}

/// Reports a key that is refused or has no effect.
fn report_status(row: &Row, at: &At, findings: &mut Findings) {
    match row.status {
        _ if at.muted => {}
        Status::Refused(reason) => findings.problem(&at.path, reason),
        Status::NoEffect(reason) => {
            findings.warning(&at.path, format!("has no effect: {reason}"));
        }
        Status::Supported | Status::Within => {}
    }
}

/// Reads a key that holds tables. Its status applies to everything within.
fn read_container(row: &'static Row, value: &Value, at: &At, settings: &mut Settings, findings: &mut Findings) {
    let off = matches!(row.kind, Kind::Switch { default } if !is_on(value, default));
    if !off {
        report_status(row, at, findings);
    }
    let ignored = off || matches!(row.status, Status::Refused(_) | Status::NoEffect(_));
    let here = At { muted: at.muted || ignored, ..at.clone() };
    match (row.kind, value) {
        (Kind::Map, Value::Object(entries)) => {
            let mut tables = BTreeMap::new();
            for (name, entry) in distinct(entries, &here, findings) {
                let path = join(&here.path, &segment(name));
                tables.insert(name.clone(), entry_settings(entry, &here.each(path), findings));
            }
            settings.insert(row.key, Setting::Map(tables));
        }
        (Kind::List, Value::Array(elements)) => {
            let mut tables = Vec::new();
            for (index, element) in elements.iter().enumerate() {
                let path = format!("{}[{index}]", here.path);
                tables.push(entry_settings(element, &here.each(path), findings));
            }
            settings.insert(row.key, Setting::List(tables));
        }
        (Kind::Switch { .. }, Value::Object(inner)) => {
            table(inner, &here, settings, findings);
            settings.insert(row.key, Setting::Bool(!off));
        }
        (Kind::Table, Value::Object(inner)) => {
            table(inner, &here, settings, findings);
            settings.insert(row.key, Setting::Bool(true));
        }
        _ => {}
    }
}

/// Reads one table in a list or map.
fn entry_settings(entry: &Value, at: &At, findings: &mut Findings) -> Settings {
    let mut settings = Settings::default();
    match entry {
        Value::Null => table(&Map::new(), at, &mut settings, findings),
        entry => group(entry, at, &mut settings, findings),
    }
    settings
}

impl At {
    /// A table in this list or map.
    fn each(&self, path: String) -> Self {
        let key = format!("{}.{}", self.key, keys::EACH);
        Self { key, path, muted: self.muted }
    }
}

/// Whether a table with a key `enable` is switched on.
fn is_on(table: &Value, default: bool) -> bool {
    let entries = table.as_object().into_iter().flatten();
    entries
        .filter(|(name, _)| name.eq_ignore_ascii_case("enable"))
        .find_map(|(_, value)| value.as_bool())
        .unwrap_or(default)
}

fn join(path: &str, rest: &str) -> String {
    if path.is_empty() { rest.to_owned() } else { format!("{path}.{rest}") }
}

/// A name as a part of a path, in quotes unless it is a bare word.
fn segment(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(is_bare) { shorten(name) } else { format!("{:?}", shorten(name)) }
}
