//! The configuration: from a file in TOML, JSON or YAML to a [`Config`], or to every problem in it.
//!
//! The keys are zot's, extended by our own, and are the same in any case. A file is read into one tree
//! (`source`), and the tree is walked along one table of keys (`keys`, `walk`); the values become
//! plain structs (`model`). A key that does not exist is an error which names the nearest one that
//! does; a key of zot's that coracle does not follow is a warning where that changes nothing, and an
//! error where it would change who may do what, or what the registry is.
//!
//! It does not know how any of the values are used, starts nothing and opens no store; of the files it
//! is told about it only looks whether they can be read. What must always hold: whatever the input, the
//! outcome is a configuration or problems, never a panic; all problems are reported at once, each with
//! its file and its place; a default stands in the key table only.

mod access_control;
mod check;
mod error;
mod keys;
mod kind;
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
mod unstated;
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

/// The file name that problems of a text without a file carry.
const NO_FILE: &str = "configuration";

/// A configuration that can be used, and what should be known about it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Keys that were accepted although they have no effect, in the order of their names.
    pub warnings: Vec<Finding>,
}

impl Config {
    /// Reads a file, whose name ends in `.toml`, `.json`, `.yaml` or `.yml`.
    pub fn load(path: &Path) -> Result<Loaded, Error> {
        from_tree(&path.display().to_string(), &source::read(path)?)
    }

    /// Reads a text in TOML.
    pub fn from_toml_str(text: &str) -> Result<Loaded, Error> {
        from_tree(NO_FILE, &source::parse(NO_FILE, Format::Toml, text)?)
    }
}

/// The configuration of a registry that has no configuration file.
impl Default for Config {
    fn default() -> Self {
        Self::new(&Settings::default())
    }
}

fn from_tree(file: &str, tree: &Map<String, Value>) -> Result<Loaded, Error> {
    let mut findings = Findings::new(file);
    let settings = walk::settings(tree, &mut findings);
    check::check(&settings, &mut findings);
    unstated::warn(file, &settings, &mut findings);
    if !findings.problems.is_empty() {
        return Err(Error::new(findings.problems));
    }
    findings.warnings.sort();
    Ok(Loaded { config: Config::new(&settings), warnings: findings.warnings })
}
