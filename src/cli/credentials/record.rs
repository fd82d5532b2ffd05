//! What `coracle login` has made, so that `coracle logout` ends that and nothing else: where the registry is, which
//! key it was, and which files have it. The key itself is not in here, only its hash.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::replace;
use crate::kit::file::if_exists;

/// The sign-ins of a person on this machine, by the registry's name.
#[derive(Debug)]
pub(in crate::cli) struct Logins {
    file: PathBuf,
    registries: BTreeMap<String, Login>,
}

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::cli) struct Login {
    pub(in crate::cli) url: String,
    pub(in crate::cli) user: String,
    /// The key's id, as the list of one's keys has it.
    pub(in crate::cli) key: String,
    /// SHA-256 of the key, in hexadecimal digits.
    pub(in crate::cli) key_sha256: String,
    /// A file with certificates to trust, if one was named.
    pub(in crate::cli) ca: Option<PathBuf>,
    /// A file that was named in place of docker's and podman's.
    pub(in crate::cli) authfile: Option<PathBuf>,
}

impl Login {
    /// Whether this is the key that was made.
    pub(in crate::cli) fn is_of(&self, secret: &str) -> bool {
        self.key_sha256 == hash(secret)
    }
}

/// What is remembered of a key.
pub(in crate::cli) fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret))
}

impl Logins {
    /// Reads what is remembered; nothing, if there is no such file.
    pub(in crate::cli) fn read() -> Result<Self, String> {
        let directory = dirs::config_dir().ok_or("there is no directory for configuration on this platform")?;
        let file = directory.join("coracle").join("logins.json");
        let registries =
            match if_exists(fs::read_to_string(&file)).map_err(|error| format!("{}: {error}", file.display()))? {
                Some(text) => serde_json::from_str(&text)
                    .map_err(|error| format!("{}: it is damaged: {error}", file.display()))?,
                None => BTreeMap::new(),
            };
        Ok(Self { file, registries })
    }

    pub(in crate::cli) fn get(&self, host: &str) -> Option<&Login> {
        self.registries.get(host)
    }

    /// The one registry that somebody has signed in to, if it is one.
    pub(in crate::cli) fn only(&self) -> Option<&str> {
        let mut hosts = self.registries.keys();
        hosts.next().filter(|_| hosts.next().is_none()).map(String::as_str)
    }

    pub(in crate::cli) fn put(&mut self, host: &str, login: Login) -> Result<(), String> {
        self.registries.insert(host.to_owned(), login);
        self.write()
    }

    pub(in crate::cli) fn remove(&mut self, host: &str) -> Result<(), String> {
        if self.registries.remove(host).is_none() {
            return Ok(());
        }
        self.write()
    }

    fn write(&self) -> Result<(), String> {
        let text = serde_json::to_string_pretty(&self.registries).map_err(|error| error.to_string())?;
        replace(&self.file, text.as_bytes()).map_err(|error| format!("{}: {error}", self.file.display()))
    }
}
