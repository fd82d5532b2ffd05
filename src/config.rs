//! The configuration: reads a file in TOML, JSON or YAML into a [`Config`], or reports every problem in it.
//!
//! The keys are zot's, with additions, and are not case-sensitive. `source` reads a file into a tree of values. `walk`
//! reads the tree along the key table (`keys`) into settings. `environment` sets keys from environment variables. `check` finds problems of several keys together. `model`
//! has the structs, and the keys, defaults and documentation of their fields.
//!
//! An unknown key is an error that names a known key if one is almost the same. A key of zot that coracle does not support is a warning,
//! or an error if ignoring it would change rights or what the registry is.
//!
//! Every input gives a configuration or problems, never a panic. All problems are reported at once, with file and place.

mod access_control;
mod acme;
mod bearer;
mod check;
mod client_certificate;
mod distribution;
mod environment;
mod error;
mod events;
mod immutable;
mod in_force;
mod keys;
mod kind;
mod ldap;
mod listen;
mod missing_profile;
mod model;
mod nearest;
mod network;
mod openid;
mod origins;
mod parts;
mod quota;
mod rate_limit;
mod retention;
mod settings;
mod source;
mod sync;
#[cfg(test)]
mod tests;
mod time_window;
mod traces;
mod units;
mod walk;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub use crate::identity::access::{AccessControl, PolicyRule, RepositoryRules};
pub use acme::{Acme, AcmeChallenge};
pub use bearer::{Bearer, WorkloadIssuer, WorkloadRule};
pub(crate) use client_certificate::uri_pattern;
pub use client_certificate::{CertificateAttribute, ClientCertificates, Tls};
pub use error::{Error, Finding, Place};
pub use events::{EventSink, Events, SinkKind};
pub use immutable::ImmutableTags;
pub use keys::{key_document, key_table};
pub use ldap::Ldap;
pub use listen::{InvalidListen, Listen, Speaks};
pub use model::{
    Address, Auth, Collection, Config, Difference, Extensions, Http, Limits, Lint, Log, LogFormat, LogLevel, Metrics,
    Profile, Scrub, Search, SocketMode, Storage, Ui, UnixSocket,
};
pub use network::{InvalidNetwork, Network};
pub use openid::{OpenId, Protocol, Provider, Secret};
pub use origins::{AllowedOrigins, InvalidOrigin};
pub use quota::Quota;
pub use rate_limit::{MethodRate, RateLimit};
pub use retention::{KeepTags, KeepUntagged, RetentionPolicy};
pub use sync::{Sync, SyncContent, SyncRegistry, WhoseCredentials};
pub use time_window::{InvalidTimeWindow, TimeWindow};
pub use traces::{Ratio, Traces};

pub(crate) use acme::decoded_key;
#[cfg(feature = "tls")]
pub(crate) use check::PEM_BYTES_MAX;
pub(crate) use environment::Environment;
pub(crate) use events::{address as sink_address, headers as sink_headers};
pub(crate) use ldap::ldap_credentials;
pub(crate) use parts::missing_part;
pub(crate) use units::size_bytes as size;

use crate::kit::opaque_debug::opaque_debug;
use settings::{Setting, Settings};
use source::Format;
use walk::Findings;

/// The file name in problems of a text without a file.
const NO_FILE: &str = "configuration";

/// A valid configuration, with warnings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Keys that have no effect, and doubtful values, ordered by key.
    pub warnings: Vec<Finding>,
    pub(crate) tree: Tree,
    sources: Vec<(&'static str, Source)>,
}

/// Where the value of a key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    File,
    /// The environment variable with this name.
    Variable(String),
}

impl Loaded {
    /// Where the value of a key comes from.
    pub(crate) fn source(&self, key: &str) -> Source {
        let found = self.sources.iter().find(|(known, _)| *known == key);
        found.map_or(Source::Default, |(_, source)| source.clone())
    }
}

/// Little space is free if it is less than this many times `storage.minFreeSpace`.
const LOW_SPACE_FACTOR: u64 = 4;

/// The findings of a file, and the files that it names.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    pub(crate) problems: Vec<Finding>,
    pub(crate) warnings: Vec<Finding>,
    pub(crate) htpasswd: Option<PathBuf>,
    pub(crate) tls: Option<Tls>,
}

/// The content of a configuration file as it was written.
#[derive(Clone)]
pub(crate) struct Tree(Map<String, Value>);

// The values may be secrets.
opaque_debug!(Tree);

impl Tree {
    /// The keys whose values differ between two files.
    pub(crate) fn changed_keys(&self, other: &Self) -> Vec<String> {
        let mut keys = Vec::new();
        changed(&self.0, &other.0, "", &mut keys);
        keys
    }
}

fn changed(old: &Map<String, Value>, new: &Map<String, Value>, path: &str, keys: &mut Vec<String>) {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for name in names {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (old.get(name), new.get(name)) {
            (old, new) if old == new => {}
            (Some(Value::Object(old)), Some(Value::Object(new))) => changed(old, new, &key, keys),
            (Some(Value::Object(old)), None) => changed(old, &Map::new(), &key, keys),
            (None, Some(Value::Object(new))) => changed(&Map::new(), new, &key, keys),
            _ => keys.push(key),
        }
    }
}

impl Config {
    /// Reads a file. Its name must end in `.toml`, `.json`, `.yaml` or `.yml`.
    pub fn load(path: &Path) -> Result<Loaded, Error> {
        Self::load_from(Some(path), &Environment::default())
    }

    /// Reads a file, if there is one, and the variables of the environment, which take precedence.
    pub(crate) fn load_from(path: Option<&Path>, environment: &Environment) -> Result<Loaded, Error> {
        let (tree, findings) = read(path)?;
        finish(tree, findings, environment)
    }

    /// Reads a text in TOML.
    pub fn from_toml_str(text: &str) -> Result<Loaded, Error> {
        from_tree(NO_FILE, source::parse(NO_FILE, Format::Toml, text)?, &Environment::default())
    }

    /// Reads a configuration for `coracle check-config`, which also checks the files that it names.
    pub(crate) fn examine(path: Option<&Path>, environment: &Environment) -> Result<Examined, Error> {
        let (mut tree, findings) = read(path)?;
        let (settings, findings) = examine(&mut tree, findings, environment);
        let file = |key: &str| match settings.given(key) {
            Some(Setting::Text(path)) if !path.is_empty() && !findings.has_problem_under(key) => Some(path.into()),
            _ => None,
        };
        Ok(Examined {
            htpasswd: file("http.auth.htpasswd.path"),
            tls: Option::zip(file("http.tls.cert"), file("http.tls.key")).map(|(cert, key)| Tls { cert, key }),
            problems: findings.problems,
            warnings: findings.warnings,
        })
    }
}

impl Storage {
    /// Whether little more is free than `minFreeSpace`, so that pushes may soon be refused.
    pub(crate) const fn is_space_low(&self, free: u64) -> bool {
        free < self.min_free_space.saturating_mul(LOW_SPACE_FACTOR)
    }
}

/// The configuration without a file.
impl Default for Config {
    fn default() -> Self {
        Self::new(&Settings::default())
    }
}

/// The content of a file, and what is said of it. The keys of docker's registry become ours. Without a file, there are no
/// keys.
fn read(path: Option<&Path>) -> Result<(Map<String, Value>, Findings), Error> {
    let Some(path) = path else { return Ok((Map::new(), Findings::new(NO_FILE))) };
    let mut findings = Findings::new(&path.display().to_string());
    let texts = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let variables = std::env::vars_os().filter_map(texts);
    let tree = distribution::translated(source::read(path)?, variables, &mut findings);
    Ok((tree, findings))
}

fn from_tree(file: &str, tree: Map<String, Value>, environment: &Environment) -> Result<Loaded, Error> {
    finish(tree, Findings::new(file), environment)
}

fn finish(mut tree: Map<String, Value>, findings: Findings, environment: &Environment) -> Result<Loaded, Error> {
    let written = tree.clone();
    let (settings, findings) = examine(&mut tree, findings, environment);
    if !findings.problems.is_empty() {
        return Err(Error::new(findings.problems));
    }
    let source = |row: &'static keys::Row| {
        if let Some(variable) = environment.setting(row.key) {
            return Some((row.key, Source::Variable(variable.to_owned())));
        }
        environment::has(&written, row.key).then_some((row.key, Source::File))
    };
    let sources = keys::all().filter_map(source).collect();
    Ok(Loaded { config: Config::new(&settings), warnings: findings.warnings, tree: Tree(tree), sources })
}

/// Sets the keys of the environment in the tree, and reads it. A problem names the file or the variable.
fn examine(tree: &mut Map<String, Value>, mut findings: Findings, environment: &Environment) -> (Settings, Findings) {
    environment.apply(tree);
    let file = findings.file.clone();
    let settings = walk::settings(tree, &mut findings);
    check::check(&settings, &mut findings);
    check::check_empty_table(tree, &mut findings);
    missing_profile::warn(&file, &settings, &mut findings);
    for finding in findings.problems.iter_mut().chain(&mut findings.warnings) {
        if let Place::Key(key) = &finding.place
            && let Some(variable) = environment.setting(key)
        {
            variable.clone_into(&mut finding.file);
        }
    }
    findings.warnings.sort();
    (settings, findings)
}
