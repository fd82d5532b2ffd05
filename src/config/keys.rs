//! The table of every key: the kind of its value, its default, its documentation, and whether coracle supports it.
//!
//! The keys that coracle supports are defined with the fields they fill, in `model`. The other modules have the keys of
//! `http.accessControl` and `http.auth.openid`, and those keys of zot that coracle ignores or refuses. A default is of
//! the kind of its row, and is what coracle does without the key.

mod access;
mod document;
mod extensions;
mod zot;

use std::fmt::Write as _;

pub use document::key_document;
use serde_json::Value;

use super::acme::Acme;
use super::bearer::{Bearer, WorkloadIssuer, WorkloadRule};
use super::client_certificate::{ClientCertificates, Tls};
use super::events::{EventSink, Events};
use super::immutable::ImmutableTags;
use super::kind::Kind;
use super::ldap::Ldap;
use super::model::{
    Auth, Collection, Config, Difference, Http, Limits, Lint, Log, Metrics, Scrub, Search, Storage, Ui, UnixSocket,
};
use super::quota::Quota;
use super::rate_limit::{MethodRate, RateLimit};
use super::retention::{KeepTags, KeepUntagged, RetentionPolicy};
use super::settings::{Section as _, Setting};
use super::sync::{Sync, SyncContent, SyncRegistry};
use super::traces::Traces;

/// The default of a key that its table requires.
const REQUIRED: &str = "required";

/// The path element that stands for each element of a list and each name of a map.
pub(super) const EACH: &str = "*";

/// One key.
#[derive(Debug)]
pub(super) struct Row {
    /// The full path, with [`EACH`] in a list or map.
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    /// The value without the key, as in TOML but without quotes. For a key that coracle ignores: the value that describes
    /// what coracle does, and causes no warning.
    default: &'static str,
    pub(super) status: Status,
    /// The documentation, in lines.
    doc: &'static [&'static str],
}

/// How coracle treats a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Supported,
    /// Accepted with a warning. The text says why the key is not needed.
    NoEffect(&'static str),
    /// Reported as an error, because ignoring the key would change rights or what the registry is. The text says what to do
    /// instead.
    Refused(&'static str),
    /// The status of the table that the key is in.
    Within,
}

/// The meaning of a name in a table.
#[derive(Debug)]
pub(super) enum Child {
    Row(&'static Row),
    /// A table without a row of its own, by its full path.
    Group(&'static str),
}

const fn row(
    key: &'static str,
    kind: Kind,
    default: &'static str,
    status: Status,
    doc: &'static [&'static str],
) -> Row {
    Row { key, kind, default, status, doc }
}

/// Every row, in no order.
pub(super) fn all() -> impl Iterator<Item = &'static Row> {
    let supported = [
        Config::ROWS,
        Storage::ROWS,
        Collection::ROWS,
        RetentionPolicy::ROWS,
        KeepTags::ROWS,
        KeepUntagged::ROWS,
        ImmutableTags::ROWS,
        Quota::ROWS,
        Http::ROWS,
        Auth::ROWS,
        Bearer::ROWS,
        WorkloadIssuer::ROWS,
        WorkloadRule::ROWS,
        Tls::ROWS,
        Acme::ROWS,
        Limits::ROWS,
        ClientCertificates::ROWS,
        UnixSocket::ROWS,
        RateLimit::ROWS,
        MethodRate::ROWS,
        Log::ROWS,
        Metrics::ROWS,
        Scrub::ROWS,
        Events::ROWS,
        Ldap::ROWS,
        EventSink::ROWS,
        Sync::ROWS,
        SyncRegistry::ROWS,
        SyncContent::ROWS,
        Lint::ROWS,
        Search::ROWS,
        Ui::ROWS,
        Traces::ROWS,
        Difference::ROWS,
    ];
    supported.into_iter().chain([access::KEYS, extensions::KEYS, zot::KEYS]).flatten()
}

/// The row of a key, in the spelling of the table.
pub(super) fn find(key: &str) -> Option<&'static Row> {
    all().find(|row| row.key == key)
}

/// Looks up a name, in any case, directly under the key `parent` ("" at the top).
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

/// The keys directly under `parent` that it requires.
pub(super) fn required_in(parent: &str) -> impl Iterator<Item = &'static Row> {
    all().filter(move |row| row.is_required() && below(parent, row.key).is_some_and(|rest| !rest.contains('.')))
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
    /// A key that fills a field. An empty default is no default, or an empty text.
    pub(super) const fn supported(
        key: &'static str,
        kind: Kind,
        default: &'static str,
        doc: &'static [&'static str],
    ) -> Self {
        Self { key, kind, default, status: Status::Supported, doc }
    }

    pub(super) fn is_required(&self) -> bool {
        self.default == REQUIRED
    }

    /// The default as a setting, if there is one.
    pub(super) fn default_setting(&self) -> Option<Setting> {
        let text = || Value::String(self.default.to_owned());
        let value = serde_json::from_str(self.default).unwrap_or_else(|_| text());
        match self.kind {
            _ if self.is_required() => None,
            Kind::List => (value == Value::Array(Vec::new())).then(|| Setting::List(Vec::new())),
            kind => kind.read(&value).ok(),
        }
    }

    /// The documentation as a phrase: one line, without a full stop.
    pub(super) fn doc(&self) -> String {
        let lines: Vec<&str> = self.doc.iter().map(|line| line.trim()).collect();
        lines.join(" ").trim_end_matches('.').to_owned()
    }
}

/// The keys as a table for people: key, default, status and documentation, ordered by key. Keys within a table that is
/// refused are left out.
pub fn key_table() -> String {
    let mut rows: Vec<&Row> = all().collect();
    rows.sort_unstable_by_key(|row| row.key);
    let mut lines = vec![["key", "default", "status", "what it does"].map(str::to_owned)];
    let mut refused: Option<&str> = None;
    for row in rows {
        if refused.is_some_and(|table| below(table, row.key).is_some()) {
            continue;
        }
        let (status, says) = match row.status {
            Status::Supported | Status::Within => ("supported", row.doc()),
            Status::NoEffect(reason) => ("no effect", format!("{reason} (zot: {})", row.doc())),
            Status::Refused(reason) => ("refused", format!("{reason} (zot: {})", row.doc())),
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
