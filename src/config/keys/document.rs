//! The keys as a document for people: `docs/keys.md`, which a test compares.

use std::fmt::Write as _;

use super::{Row, Status, all, below, find};

/// The keys, and tables of keys, that zot does not have.
#[rustfmt::skip] // one table a line
const OWN: &[&str] = &[
    "profile", "differences",
    "extensions.events.outboxLimit", "extensions.events.sinks.*.maxRetries", "extensions.events.sinks.*.maxRetryDelay",
    "extensions.events.sinks.*.name", "extensions.events.sinks.*.retryDelay", "extensions.events.sinks.*.secretFile",
    "extensions.scrub.rate",
    "extensions.sync.bareNames", "extensions.sync.mirror", "extensions.sync.registries.*.content.*.immutableTags",
    "extensions.sync.registries.*.credentials", "extensions.sync.registries.*.host",
    "extensions.sync.registries.*.immutableTags", "extensions.sync.registries.*.sizeLimit", "extensions.sync.sizeLimit",
    "extensions.sync.tokenHosts",
    "extensions.traces", "extensions.ui.directory",
    "http.auth.bearer.oidc.*.keysFile", "http.auth.bearer.oidc.*.keysRefresh", "http.auth.bearer.oidc.*.maxLifetime",
    "http.auth.bearer.oidc.*.rules",
    "http.auth.keys", "http.auth.ldap.outageMemory", "http.auth.ldap.recheck", "http.auth.session", "http.auth.token",
    "http.auth.openid.cacert", "http.auth.openid.providers.*.apiurl", "http.auth.openid.recheck",
    "http.limits", "http.listen", "http.tls.acme", "http.open", "http.trustedProxies", "http.ui", "http.unixSocket",
    "http.ratelimit.anonymousRate", "http.ratelimit.userRate", "http.ratelimit.window",
    "log.format",
    "storage.allowSparseIndexes", "storage.immutableTags", "storage.minFreeSpace", "storage.quotas",
    "storage.retention.policies.*.keepTags.*.highestVersionCount", "storage.retention.policies.*.keepTags.*.requireAll",
    "storage.tagHistory", "storage.uploadExpiry",
];

const HEAD: &str = "# Keys of the configuration

`coracle check-config --keys --markdown` prints this page, and a test compares it. [Configuration](configuration.md) explains how the
keys work together. `*` stands for each element of a list and each name of a map. Keys that hold others have no default.

## Keys of zot

Every key in the documentation of zot 2.1.20. \"Followed\": as in zot, with the differences in [zot-compat.toml](../zot-compat.toml).
\"No effect\": accepted, with a warning if the value asks for something else. \"Refused\": an error that says what to do instead.

| key | coracle | default | |
| --- | --- | --- | --- |
";

const OWN_HEAD: &str = "
## Keys of coracle

zot does not have these keys.

| key | default | |
| --- | --- | --- |
";

impl Row {
    /// Whether zot has the key.
    pub(in crate::config) fn is_of_zot(&self) -> bool {
        !OWN.iter().any(|own| *own == self.key || below(own, self.key).is_some())
    }

    /// The status of the key, or of the table that it is in, with the key that has the status.
    pub(in crate::config) fn decided(&self) -> (&'static str, Status) {
        let mut row = self;
        while row.status == Status::Within {
            let mut enclosing = row.key.rmatch_indices('.').filter_map(|(at, _)| find(&row.key[..at]));
            let Some(table) = enclosing.next() else { break };
            row = table;
        }
        (row.key, row.status)
    }
}

/// The keys as a document in Markdown.
pub fn key_document() -> String {
    let mut rows: Vec<&Row> = all().collect();
    rows.sort_unstable_by_key(|row| row.key);
    let mut text = HEAD.to_owned();
    for row in rows.iter().filter(|row| row.is_of_zot()) {
        let (key, status) = row.decided();
        let (status, says) = match status {
            Status::Supported | Status::Within => ("followed", row.doc()),
            Status::NoEffect(reason) => ("no effect", says(row, key, reason)),
            Status::Refused(reason) => ("refused", says(row, key, reason)),
        };
        let default = if status == "refused" { "" } else { row.default };
        line(&mut text, &[&code(row.key), status, &code(default), &marked(&says)]);
    }
    text.push_str(OWN_HEAD);
    for row in rows.iter().filter(|row| !row.is_of_zot()) {
        line(&mut text, &[&code(row.key), &code(row.default), &marked(&row.doc())]);
    }
    text
}

/// Says the effect of a key in zot, and why coracle does not have it. The reason is given at the table that has the status.
fn says(row: &Row, decided: &str, reason: &str) -> String {
    if row.key == decided { format!("{}. Here: {reason}", row.doc()) } else { format!("{}. See {decided}", row.doc()) }
}

fn line(text: &mut String, cells: &[&str]) {
    writeln!(text, "| {} |", cells.join(" | ")).expect("a String takes all text");
}

/// A text in a cell that is shown as it is.
fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{}`", text.replace('|', "\\|")) }
}

/// A sentence in a cell, with the keys in it marked.
fn marked(text: &str) -> String {
    let mark = |word: &str| {
        let bare = word.trim_end_matches([',', '.', ';', ':']);
        let is_code = bare.contains('*') || (bare.contains('.') && find(bare).is_some());
        let ending = &word[bare.len()..];
        if is_code { format!("{}{ending}", code(bare)) } else { word.replace('|', "\\|").replace('<', "\\<") }
    };
    text.split(' ').map(mark).collect::<Vec<_>>().join(" ")
}
