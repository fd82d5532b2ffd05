//! The configuration of docker's registry (distribution): its keys and `REGISTRY_…` variables, as ours.
//!
//! [`keys`] says for each key of distribution whether it is followed, has no effect here, or is refused. Rights are those of
//! distribution: without `auth` everyone may pull and push, with it every user, and only `storage.delete.enabled` lets them
//! delete.

mod keys;
mod variables;

use serde_json::{Map, Value, json};

use super::units::duration_nanoseconds;
use super::walk::Findings;
use keys::{KEYS, Treatment};

/// The data directory below `storage.filesystem.rootdirectory`, where it is no part of distribution's store.
const DIRECTORY: &str = "coracle";
/// The key that only distribution's configuration has.
const VERSION: &str = "version";
/// The port of distribution's examples.
const PORT: u16 = 5000;

/// Translates a configuration of distribution, with the variables of its environment. Returns any other one as it is.
pub(super) fn translated(
    tree: Map<String, Value>,
    environment: impl IntoIterator<Item = (String, String)>,
    findings: &mut Findings,
) -> Map<String, Value> {
    let is_version = |version: &Value| version.to_string().trim_matches('"').starts_with("0.");
    if !tree.get(VERSION).is_some_and(is_version) {
        return tree;
    }
    let mut tree = lower_case(tree);
    variables::apply(&mut tree, environment, findings);
    examine("", &tree, findings);
    Translation { from: &tree, to: Map::new(), findings }.translate()
}

/// Distribution reads names in any case.
fn lower_case(tree: Map<String, Value>) -> Map<String, Value> {
    let lower = |(name, value): (String, Value)| match value {
        Value::Object(table) => (name.to_lowercase(), Value::Object(lower_case(table))),
        value => (name.to_lowercase(), value),
    };
    tree.into_iter().map(lower).collect()
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Reports each key that is not followed.
fn examine(path: &str, table: &Map<String, Value>, findings: &mut Findings) {
    for (name, value) in table {
        let key = joined(path, name);
        let has_keys = KEYS.iter().any(|(known, _)| is_below(known, &key));
        match value {
            Value::Object(below) if has_keys => {
                examine(&key, below, findings);
                continue;
            }
            Value::Null if has_keys => continue,
            _ => {}
        }
        let exact = KEYS.iter().find(|(known, _)| *known == key);
        // The treatment of a table is that of all keys in it that are not listed.
        match exact.or_else(|| KEYS.iter().find(|(known, _)| is_below(&key, known))) {
            Some((_, Treatment::Followed | Treatment::Needless)) => {}
            Some((_, Treatment::NoEffect(why))) => findings.warning(&key, format!("has no effect: {why}")),
            Some((_, Treatment::Refused(why))) => findings.problem(&key, format!("not supported: {why}")),
            None if has_keys => findings.problem(&key, "expected a table"),
            None => findings.problem(&key, "docker's registry has no such key"),
        }
    }
}

/// Whether a key is in a table.
fn is_below(key: &str, table: &str) -> bool {
    key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'))
}

struct Translation<'a> {
    from: &'a Map<String, Value>,
    to: Map<String, Value>,
    findings: &'a mut Findings,
}

impl Translation<'_> {
    fn translate(mut self) -> Map<String, Value> {
        self.put("profile", json!("coracle"));
        self.storage();
        self.listening();
        self.log();
        self.rights();
        if let Some(remote) = self.text("proxy.remoteurl") {
            self.put("extensions.sync.enable", json!(true));
            self.put("extensions.sync.registries", json!([{ "urls": [remote], "onDemand": true }]));
        }
        self.to
    }

    fn storage(&mut self) {
        match self.text("storage.filesystem.rootdirectory") {
            Some(root) => {
                self.put("storage.rootDirectory", json!(format!("{}/{DIRECTORY}", root.trim_end_matches('/'))));
            }
            None if self.has("storage") => {
                self.findings
                    .problem("storage.filesystem.rootdirectory", "required: it is where coracle keeps its data");
            }
            None => {}
        }
        if let Some(age) = self.text("storage.maintenance.uploadpurging.age") {
            match duration_nanoseconds(&age) {
                Some(_) => self.put("storage.uploadExpiry", json!(age)),
                None => {
                    self.findings.problem("storage.maintenance.uploadpurging.age", "expected a duration such as 168h");
                }
            }
        }
        if self.text("validation.manifests.indexes.platforms").is_some_and(|platforms| platforms != "all") {
            self.put("storage.allowSparseIndexes", json!(true));
        }
    }

    fn listening(&mut self) {
        let address = self.text("http.addr").unwrap_or_else(|| format!(":{PORT}"));
        match address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
            Some((host, port)) => {
                self.put("http.address", json!(host.trim_start_matches('[').trim_end_matches(']')));
                self.put("http.port", json!(port));
            }
            None => {
                self.findings.problem("http.addr", format!("expected an address such as :{PORT} or 127.0.0.1:{PORT}"));
            }
        }
        let has_hosts = self.has("http.tls.letsencrypt.hosts");
        for (theirs, ours) in [
            ("http.host", "http.externalUrl"),
            ("http.tls.certificate", "http.tls.cert"),
            ("http.tls.key", "http.tls.key"),
            ("http.draintimeout", "http.limits.shutdownTimeout"),
        ] {
            match self.text(theirs) {
                // A variable without a value must not leave the registry without TLS.
                Some(text) if text.is_empty() && theirs.starts_with("http.tls.") && !has_hosts => {
                    self.findings.problem(theirs, "is empty: name a file, or remove http.tls");
                }
                Some(text) => self.put(ours, json!(text)),
                None => {}
            }
        }
        self.letsencrypt();
        if self.is_true("http.debug.prometheus.enabled") {
            self.put("extensions.metrics.enable", json!(true));
            if let Some(path) = self.text("http.debug.prometheus.path") {
                self.put("extensions.metrics.prometheus.path", json!(path));
            }
        }
    }

    /// Without hosts, distribution asks for a certificate for every name that a client uses.
    fn letsencrypt(&mut self) {
        const HOSTS: &str = "http.tls.letsencrypt.hosts";
        // Distribution's examples have the block with empty texts.
        let is_used =
            |key: &str| self.text(&format!("http.tls.letsencrypt.{key}")).is_some_and(|text| !text.is_empty());
        let hosts = self.get(HOSTS).filter(|hosts| hosts.as_array().is_some_and(|hosts| !hosts.is_empty())).cloned();
        match hosts {
            Some(hosts) => self.put("http.tls.acme.domains", hosts),
            None if ["cachefile", "email", "directoryurl"].into_iter().any(is_used) => {
                return self.findings.problem(HOSTS, "required: the names of the registry, for its certificate");
            }
            None => return,
        }
        for (theirs, ours) in [("email", "email"), ("directoryurl", "directory")] {
            let text = self.text(&format!("http.tls.letsencrypt.{theirs}"));
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                self.put(&format!("http.tls.acme.{ours}"), json!(text));
            }
        }
    }

    fn log(&mut self) {
        let level = self.text("log.level").or_else(|| self.text("loglevel"));
        match level.as_deref() {
            None => {}
            Some(level @ ("debug" | "info" | "warn" | "error")) => self.put("log.level", json!(level)),
            Some("warning") => self.put("log.level", json!("warn")),
            Some(_) => self.findings.problem("log.level", "expected debug, info, warn or error"),
        }
        match self.text("log.formatter").as_deref() {
            None | Some("text") => {}
            Some("json" | "logstash") => self.put("log.format", json!("json")),
            Some(_) => self.findings.problem("log.formatter", "expected text or json"),
        }
    }

    /// The rights of clients.
    fn rights(&mut self) {
        let mut actions = vec!["read"];
        if !self.is_true("storage.maintenance.readonly.enabled") && !self.has("proxy.remoteurl") {
            actions.extend(["create", "update"]);
            if self.is_true("storage.delete.enabled") {
                actions.push("delete");
            }
        }
        let kinds: Vec<&String> = match self.get("auth") {
            Some(Value::Object(kinds)) => kinds.keys().collect(),
            _ => Vec::new(),
        };
        match kinds.as_slice() {
            [] => {
                self.put(
                    "http.accessControl.repositories",
                    json!({ "**": { "anonymousPolicy": actions, "defaultPolicy": actions } }),
                );
            }
            [kind] if *kind == "htpasswd" => {
                self.put("http.accessControl.repositories", json!({ "**": { "defaultPolicy": actions } }));
                match self.text("auth.htpasswd.path") {
                    Some(path) => self.put("http.auth.htpasswd.path", json!(path)),
                    None => self.findings.problem("auth.htpasswd.path", "required"),
                }
                if let Some(realm) = self.text("auth.htpasswd.realm") {
                    self.put("http.realm", json!(realm));
                }
            }
            [kind] if *kind == "token" => {
                for (theirs, ours) in [("realm", "realm"), ("service", "service"), ("rootcertbundle", "cert")] {
                    match self.text(&format!("auth.token.{theirs}")) {
                        Some(text) => self.put(&format!("http.auth.bearer.{ours}"), json!(text)),
                        None => self.findings.problem(&format!("auth.token.{theirs}"), "required"),
                    }
                }
            }
            // The kind itself is reported.
            [_] => {}
            _ => self.findings.problem("auth", "expected one kind: htpasswd or token"),
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        let mut names = key.split('.');
        let first = self.from.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    }

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !value.is_null())
    }

    /// A text. A number or a truth value is one as well.
    fn text(&self, key: &str) -> Option<String> {
        match self.get(key)? {
            Value::String(text) => Some(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
            _ => None,
        }
    }

    fn is_true(&self, key: &str) -> bool {
        self.text(key).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    /// Sets a key of ours.
    fn put(&mut self, key: &str, value: Value) {
        put(&mut self.to, key, value);
    }
}

/// Sets a key. A text on the way becomes a table, as `auth: htpasswd` means `auth: {htpasswd: {}}`.
fn put(tree: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(tree.insert(key.to_owned(), value)),
        Some((name, rest)) => {
            let below = tree.entry(name).or_insert_with(|| json!({}));
            if let Value::String(kind) = below {
                *below = json!({ kind.to_lowercase(): {} });
            }
            if !below.is_object() {
                *below = json!({});
            }
            if let Value::Object(below) = below {
                put(below, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
