//! The record of what `coracle login` created, so that `coracle logout` revokes exactly that: the registry, the ID of the
//! key, and its file. The record has the hash of the key, not the key.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::replace;
use crate::cli::Error;
use crate::kit::file::if_exists;

/// The sign-ins of a user on this machine, by the name of the registry.
#[derive(Debug)]
pub(in crate::cli) struct LoginRecords {
    file: PathBuf,
    registries: BTreeMap<String, LoginRecord>,
}

/// One sign-in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::cli) struct LoginRecord {
    pub(in crate::cli) url: String,
    pub(in crate::cli) user: String,
    /// The ID of the key.
    pub(in crate::cli) key: String,
    /// The SHA-256 of the key in hexadecimal digits.
    pub(in crate::cli) key_sha256: String,
    /// The file of --ca.
    pub(in crate::cli) ca: Option<PathBuf>,
    /// The file of --authfile.
    pub(in crate::cli) authfile: Option<PathBuf>,
}

impl LoginRecord {
    /// Whether this is the created key.
    pub(in crate::cli) fn has_key(&self, secret: &str) -> bool {
        self.key_sha256 == hash(secret)
    }
}

/// The hash of a key in the record.
pub(in crate::cli) fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret))
}

impl LoginRecords {
    /// Reads the record. A missing file is an empty record.
    pub(in crate::cli) fn read() -> Result<Self, Error> {
        let directory =
            dirs::config_dir().ok_or_else(|| Error::failed("this platform has no configuration directory"))?;
        let file = directory.join("coracle").join("logins.json");
        let registries = match if_exists(fs::read_to_string(&file)).map_err(Error::at(&file))? {
            Some(text) => serde_json::from_str(&text).map_err(Error::at(&file))?,
            None => BTreeMap::new(),
        };
        Ok(Self { file, registries })
    }

    pub(in crate::cli) fn get(&self, host: &str) -> Option<&LoginRecord> {
        self.registries.get(host)
    }

    /// The registries that the user is logged in to.
    pub(in crate::cli) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.registries.keys().map(String::as_str)
    }

    pub(in crate::cli) fn put(&mut self, host: &str, login: LoginRecord) -> Result<(), Error> {
        self.registries.insert(host.to_owned(), login);
        self.write()
    }

    pub(in crate::cli) fn remove(&mut self, host: &str) -> Result<(), Error> {
        if self.registries.remove(host).is_none() {
            return Ok(());
        }
        self.write()
    }

    fn write(&self) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(&self.registries)?;
        replace(&self.file, text.as_bytes()).map_err(Error::at(&self.file))
    }
}
