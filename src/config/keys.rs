//! The one table of every key: what it holds, what it is by default, and what coracle makes of it.
//!
//! Each of zot's keys has a row, whether it does something here or not, so that a configuration written
//! for zot is either followed or answered in words. A key that gets implemented changes its status here
//! and is read in `model`; nothing else knows which keys exist. What must always hold: a row's default
//! is of the row's kind and is what coracle does when the key is absent.

mod auth;
mod extensions;
mod general;
mod http;
mod storage;

use std::fmt::Write as _;

use serde_json::Value;

use super::kind::Kind;
use super::settings::Setting;

/// The default of a key without which its table means nothing.
const REQUIRED: &str = "required";

/// The path element that stands for each element of a list and each name of a map.
pub(super) const EACH: &str = "*";

/// One key.
#[derive(Debug)]
pub(super) struct Row {
    /// The full path, with [`EACH`] where a list or map is passed.
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    /// What holds without the key, as in TOML but without quotes; for a key without effect, the value
    /// that describes what coracle does, and which is therefore accepted in silence.
    default: &'static str,
    pub(super) status: Status,
    /// What the key does, in one sentence.
    doc: &'static str,
}

/// What coracle makes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// It is followed.
    Implemented,
    /// It is accepted with a warning that says why nothing needs to be done.
    NoEffect(&'static str),
    /// It is an error that says what to do instead: ignoring it would change who may do what, or what
    /// the registry is.
    Refused(&'static str),
    /// As the table it stands in.
    Within,
}

/// What stands at a name in a table.
#[derive(Debug)]
pub(super) enum Child {
    Row(&'static Row),
    /// A table without a row of its own, by its full path.
    Group(&'static str),
}

const fn row(key: &'static str, kind: Kind, default: &'static str, status: Status, doc: &'static str) -> Row {
    Row { key, kind, default, status, doc }
}

/// Every row.
pub(super) fn all() -> impl Iterator<Item = &'static Row> {
    [general::KEYS, storage::KEYS, http::KEYS, auth::KEYS, extensions::KEYS].into_iter().flatten()
}

/// The row of a key as the table spells it.
pub(super) fn find(key: &str) -> Option<&'static Row> {
    all().find(|row| row.key == key)
}

/// What the table has at `name`, in any case, directly under the key `parent` ("" at the top).
pub(super) fn child(parent: &str, name: &str) -> Option<Child> {
    let fits = |row: &&Row| {
        below(parent, row.key).is_some_and(|rest| {
            let first = first_element(rest);
            first != EACH && first.eq_ignore_ascii_case(name)
        })
    };
    let row = all().filter(fits).min_by_key(|row| row.key.len())?;
    let end = row.key.len() - below(parent, row.key)?.len() + name.len();
    if end == row.key.len() { Some(Child::Row(row)) } else { Some(Child::Group(&row.key[..end])) }
}

/// The rows of keys directly under `parent` without which it means nothing.
pub(super) fn required_in(parent: &str) -> impl Iterator<Item = &'static Row> {
    all().filter(move |row| row.default == REQUIRED && below(parent, row.key).is_some_and(|rest| !rest.contains('.')))
}

/// The part of `key` under `parent`.
pub(super) fn below<'k>(parent: &str, key: &'k str) -> Option<&'k str> {
    if parent.is_empty() { Some(key) } else { key.strip_prefix(parent)?.strip_prefix('.') }
}

/// The first element of a path.
pub(super) fn first_element(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

impl Row {
    /// The default as a setting, if there is one.
    pub(super) fn default_setting(&self) -> Option<Setting> {
        let text = || Value::String(self.default.to_owned());
        let value = serde_json::from_str(self.default).unwrap_or_else(|_| text());
        let list = Value::Array(Vec::new());
        match self.kind {
            _ if self.default == REQUIRED => None,
            Kind::List => (value == list).then(|| Setting::List(Vec::new())),
            kind => kind.read(&value).ok(),
        }
    }
}

/// The table as text for people: key, default, status and what it does. What stands within a table that
/// is refused as a whole is left out.
pub fn key_table() -> String {
    let mut lines = vec![["key", "default", "status", "what it does"].map(str::to_owned)];
    let mut refused: Option<&str> = None;
    for row in all() {
        if refused.is_some_and(|table| below(table, row.key).is_some()) {
            continue;
        }
        let (status, says) = match row.status {
            Status::Implemented | Status::Within => ("followed", row.doc.to_owned()),
            Status::NoEffect(reason) => ("no effect", format!("{reason} (zot: {})", row.doc)),
            Status::Refused(reason) => ("refused", format!("{reason} (zot: {})", row.doc)),
        };
        if matches!(row.status, Status::Refused(_)) {
            refused = Some(row.key);
        }
        let default = if row.default.is_empty() { "-" } else { row.default };
        lines.push([row.key.to_owned(), default.to_owned(), status.to_owned(), says]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let (key, default, status) = (width(0), width(1), width(2));
    let mut text = String::new();
    for [a, b, c, d] in &lines {
        writeln!(text, "{a:key$}  {b:default$}  {c:status$}  {d}").expect("a String takes all text");
    }
    text
}
