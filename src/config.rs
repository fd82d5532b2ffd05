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
mod keys;
mod kind;
mod missing_profile;
mod model;
mod nearest;
mod network;
mod openid;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod time_window;
mod units;
mod walk;

use std::path::Path;

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
pub use time_window::{InvalidTimeWindow, TimeWindow};

pub(crate) use units::size_bytes as size;

use settings::Settings;
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
}

impl Config {
    /// Reads a file. Its name must end in `.toml`, `.json`, `.yaml` or `.yml`.
    pub fn load(path: &Path) -> Result<Loaded, Error> {
        from_tree(&path.display().to_string(), &source::read(path)?)
    }

    /// Reads a text in TOML.
    pub fn from_toml_str(text: &str) -> Result<Loaded, Error> {
        from_tree(NO_FILE, &source::parse(NO_FILE, Format::Toml, text)?)
    }
}

/// The configuration without a file.
impl Default for Config {
    fn default() -> Self {
        Self::new(&Settings::default())
    }
}

fn from_tree(file: &str, tree: &Map<String, Value>) -> Result<Loaded, Error> {
    let mut findings = Findings::new(file);
    let settings = walk::settings(tree, &mut findings);
    check::check(&settings, &mut findings);
    missing_profile::warn(file, &settings, &mut findings);
    if !findings.problems.is_empty() {
        return Err(Error::new(findings.problems));
    }
    findings.warnings.sort();
    Ok(Loaded { config: Config::new(&settings), warnings: findings.warnings })
}
