//! The credential files of docker and podman.
//!
//! docker reads `config.json`; podman, skopeo and buildah read `auth.json` first. Both have the same format, and can name
//! credential helpers, which are programs that store credentials elsewhere. Invariants: everything in a file but the one
//! entry stays the same, byte for byte; a file that cannot be parsed is not replaced; a file is replaced in one step, and
//! only its owner can read it.

mod document;
mod helper;
mod locations;
mod record;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

pub(super) use document::Document;
use helper::Helper;

use crate::cli::Error;
use crate::kit::file::if_exists;
use crate::kit::opaque_debug::opaque_debug;
pub(super) use locations::{Environment, credential_files};
pub(super) use record::{LoginRecord, LoginRecords, hash};

/// The largest file that is read. Real files have at most some dozens of entries.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The tool that a file belongs to. Only docker's file can name a helper for all registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Docker,
    Podman,
}

/// A credential file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CredentialFile {
    pub(super) tool: Tool,
    pub(super) file: PathBuf,
}

/// Credentials: the user name, and an API key or a password.
pub(super) struct Entry {
    pub(super) user: String,
    pub(super) secret: Zeroizing<String>,
}

opaque_debug!(Entry { user });

impl CredentialFile {
    /// Stores the entry of a registry, and returns the name of the file or helper that has it.
    pub(super) async fn put(&self, host: &str, entry: &Entry) -> Result<String, Error> {
        let mut document = self.read()?;
        let helper = self.helper(&document, host)?;
        let content = if let Some(helper) = &helper {
            helper.store(host, entry).await?;
            if self.tool == Tool::Podman {
                return Ok(helper.to_string());
            }
            // The file may have changed meanwhile.
            document = self.read()?;
            // docker leaves an empty entry for a registry whose credentials a helper has.
            Document::default()
        } else {
            let pair = Zeroizing::new(format!("{}:{}", entry.user, *entry.secret));
            let mut content = Document::default();
            content.set("auth", raw(json!(STANDARD.encode(pair.as_bytes())).to_string()));
            content
        };
        let mut entries = self.entries(&document)?;
        entries.set(host, raw(content.to_text(2)));
        document.set("auths", raw(entries.to_text(1)));
        self.write(&document)?;
        Ok(match helper {
            Some(helper) => helper.to_string(),
            None => self.file.display().to_string(),
        })
    }

    /// Returns the entry of a registry.
    pub(super) async fn get(&self, host: &str) -> Result<Option<Entry>, Error> {
        let document = self.read()?;
        if let Some(helper) = self.helper(&document, host)? {
            return helper.get(host).await;
        }
        let entries = self.entries(&document)?;
        let Some(entry) = entries.get(host) else { return Ok(None) };
        let auth = serde_json::from_str::<serde_json::Value>(entry.get()).ok();
        let auth = auth.as_ref().and_then(|entry| entry["auth"].as_str());
        let pair = auth.and_then(|auth| STANDARD.decode(auth).ok()).and_then(|pair| String::from_utf8(pair).ok());
        let pair = Zeroizing::new(pair.unwrap_or_default());
        Ok(pair
            .split_once(':')
            .map(|(user, secret)| Entry { user: user.to_owned(), secret: Zeroizing::new(secret.to_owned()) }))
    }

    /// Removes the entry of a registry. Returns whether there was one.
    pub(super) async fn remove(&self, host: &str) -> Result<bool, Error> {
        let mut document = self.read()?;
        let erased = match self.helper(&document, host)? {
            Some(helper) => helper.erase(host).await?,
            None => false,
        };
        let mut entries = self.entries(&document)?;
        if !entries.remove(host) {
            return Ok(erased);
        }
        document.set("auths", raw(entries.to_text(1)));
        self.write(&document)?;
        Ok(true)
    }

    /// Fails if an entry cannot be stored, as far as that is known without storing it.
    pub(super) fn check(&self, host: &str) -> Result<(), Error> {
        let document = self.read()?;
        self.helper(&document, host)?;
        self.entries(&document).map(drop)
    }

    fn read(&self) -> Result<Document, Error> {
        let metadata = if_exists(fs::metadata(&self.file)).map_err(Error::at(&self.file))?;
        let Some(metadata) = metadata else { return Ok(Document::default()) };
        if metadata.len() > FILE_BYTES_MAX {
            return Err(self.invalid(format!("it is larger than {FILE_BYTES_MAX} bytes")));
        }
        let text = Zeroizing::new(fs::read_to_string(&self.file).map_err(Error::at(&self.file))?);
        Document::parse(&text).map_err(|error| self.invalid(error))
    }

    fn entries(&self, document: &Document) -> Result<Document, Error> {
        let Some(entries) = document.get("auths") else { return Ok(Document::default()) };
        if entries.get() == "null" {
            return Ok(Document::default());
        }
        Document::parse(entries.get()).map_err(|error| self.invalid(format!("auths: {error}")))
    }

    /// The helper of a registry, if the file names one.
    fn helper(&self, document: &Document, host: &str) -> Result<Option<Helper>, Error> {
        let name = |raw: &RawValue, key: &'static str| {
            let name = serde_json::from_str(raw.get()).map_err(|error| self.invalid(format!("{key}: {error}")))?;
            Ok::<(String, _), Error>((name, key))
        };
        let mut named = None;
        if let Some(helpers) = document.get("credHelpers").filter(|helpers| helpers.get() != "null") {
            let helpers =
                Document::parse(helpers.get()).map_err(|error| self.invalid(format!("credHelpers: {error}")))?;
            named = helpers.get(host).map(|raw| name(raw, "credHelpers")).transpose()?;
        }
        if named.is_none() && self.tool == Tool::Docker {
            named = document.get("credsStore").map(|raw| name(raw, "credsStore")).transpose()?;
        }
        let named = named.filter(|(name, _)| !name.is_empty());
        named.map(|(name, key)| Helper::new(&name, format!("{key} in {}", self.file.display()))).transpose()
    }

    fn write(&self, document: &Document) -> Result<(), Error> {
        replace(&self.file, document.to_text(0).as_bytes()).map_err(Error::at(&self.file))
    }

    /// The file has an unexpected content, and stays as it is.
    fn invalid(&self, why: impl std::fmt::Display) -> Error {
        Error::at(&self.file)(format!("this file is not valid and was not changed: {why}"))
    }
}

/// Creates or replaces a file in one step; only its owner can read it. Follows a symbolic link, as docker does, because
/// users link to configuration that they keep elsewhere.
fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let file = if_exists(fs::canonicalize(file))?.unwrap_or_else(|| file.to_owned());
    let directory = file.parent().unwrap_or(Path::new("."));
    make_private(directory)?;
    // The mode is 0600.
    let mut made = tempfile::Builder::new().prefix(".coracle-").tempfile_in(directory)?;
    made.write_all(content)?;
    made.as_file().sync_all()?;
    made.persist(&file).map_err(|error| error.error)?;
    Ok(())
}

/// Creates a missing directory that only its owner can use.
fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if directory.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).expect("a serialised value is JSON")
}

#[cfg(test)]
mod tests;
