//! The configuration: reads a file in TOML, JSON or YAML into a [`Config`], or reports every problem in it.
//!
//! The keys are zot's, with additions, and are not case-sensitive. `source` reads a file into a tree of values. `walk`
//! reads the tree along the key table (`keys`) into settings. `check` finds problems of several keys together. `model`
//! has the structs, and the keys, defaults and documentation of their fields.
//!
//! An unknown key is an error that names the nearest known key. A key of zot that coracle does not support is a warning,
//! or an error if ignoring it would change rights or what the registry is.
//!
//! Every input gives a configuration or problems, never a panic. All problems are reported at once, with file and place.

mod access_control;
mod check;
mod error;
mod in_force;
mod keys;
mod kind;
mod missing_profile;
mod model;
mod nearest;
mod network;
mod openid;
mod settings;
mod source;
mod sync;
#[cfg(test)]
mod tests;
mod time_window;
mod units;
mod walk;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub use crate::identity::access::{AccessControl, PolicyRule, RepositoryRules};
pub use error::{Error, Finding, Place};
pub use keys::key_table;
pub use model::{
    Address, Auth, Bearer, Collection, Config, Difference, Extensions, Http, Limits, Log, LogFormat, LogLevel, Metrics,
    Profile, RetentionPolicy, Scrub, Storage, Tls,
};
pub use network::{InvalidNetwork, Network};
pub use openid::{OpenId, Protocol, Provider, Secret};
pub use sync::{Sync, SyncContent, SyncRegistry};
pub use time_window::{InvalidTimeWindow, TimeWindow};

pub(crate) use in_force::duration as duration_text;
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
}

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
        from_tree(&path.display().to_string(), source::read(path)?)
    }

    /// Reads a text in TOML.
    pub fn from_toml_str(text: &str) -> Result<Loaded, Error> {
        from_tree(NO_FILE, source::parse(NO_FILE, Format::Toml, text)?)
    }

    /// Reads a file for `coracle check-config`, which also checks the files that it names.
    pub(crate) fn examine(path: &Path) -> Result<Examined, Error> {
        let (settings, findings) = examine(&path.display().to_string(), &source::read(path)?);
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

/// The configuration without a file.
impl Default for Config {
    fn default() -> Self {
        Self::new(&Settings::default())
    }
}

fn from_tree(file: &str, tree: Map<String, Value>) -> Result<Loaded, Error> {
    let (settings, findings) = examine(file, &tree);
    if !findings.problems.is_empty() {
        return Err(Error::new(findings.problems));
    }
    Ok(Loaded { config: Config::new(&settings), warnings: findings.warnings, tree: Tree(tree) })
}

fn examine(file: &str, tree: &Map<String, Value>) -> (Settings, Findings) {
    let mut findings = Findings::new(file);
    let settings = walk::settings(tree, &mut findings);
    check::check(&settings, &mut findings);
    missing_profile::warn(file, &settings, &mut findings);
    findings.warnings.sort();
    (settings, findings)
}
