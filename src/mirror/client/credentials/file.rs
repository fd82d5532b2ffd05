//! Files with credentials. Two formats are read: zot's (`{"host": {"username": …, "password": …}}`), and that of docker and
//! podman (`config.json` and `auth.json`), with the programs that it names.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Helper, Login};

/// The largest file that is read.
const BYTES_MAX: u64 = 1024 * 1024;

/// The entries of a file for a host.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The program to ask first.
    pub(super) helper: Option<Helper>,
    pub(super) login: Option<Login>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerFile {
    auths: Option<HashMap<String, DockerEntry>>,
    /// The program for all hosts.
    creds_store: Option<String>,
    /// Programs by host.
    cred_helpers: Option<HashMap<String, String>>,
}

/// The credentials of a host. It is empty if a program has them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerEntry {
    /// User name and password with a colon between them, in base64.
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Deserialize)]
struct ZotEntry {
    username: String,
    password: String,
}

/// Finds the credentials of a host, which may have several names.
pub(super) fn find(file: &Path, names: &[String]) -> Result<Found, String> {
    let unusable = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let length = std::fs::metadata(file).map_err(|error| unusable(&error))?.len();
    if length > BYTES_MAX {
        return Err(unusable(&"the file is too large for a file of credentials"));
    }
    let text = Zeroizing::new(std::fs::read_to_string(file).map_err(|error| unusable(&error))?);
    if let Ok(DockerFile { auths, creds_store, cred_helpers }) = serde_json::from_str(&text)
        && (auths.is_some() || creds_store.is_some() || cred_helpers.is_some())
    {
        let of_host = cred_helpers.as_ref().and_then(|helpers| one_of(helpers, names)).cloned();
        let program = of_host.or(creds_store).filter(|name| !name.is_empty());
        let helper = program.map(|name| Helper::new(&name)).transpose().map_err(|why| unusable(&why))?;
        let entry = auths.as_ref().and_then(|entries| one_of(entries, names));
        let login = entry.map(DockerEntry::login).transpose();
        let login = login.map_err(|why| unusable(&format_args!("the entry of {} {why}", names[names.len() - 1])))?;
        return Ok(Found { helper, login: login.flatten() });
    }
    // The messages of serde_json may quote a value, so only the position is used.
    let entries: HashMap<String, ZotEntry> = serde_json::from_str(&text).map_err(|error| {
        unusable(&format_args!("it is not a file of credentials (line {}, column {})", error.line(), error.column()))
    })?;
    let login = one_of(&entries, names).map(|ZotEntry { username, password }| Login::Password {
        user: username.clone(),
        password: password.clone().into(),
    });
    Ok(Found { helper: None, login })
}

/// The value under the first of the names.
fn one_of<'a, T>(entries: &'a HashMap<String, T>, names: &[String]) -> Option<&'a T> {
    let value_of = |name: &String| {
        let mut fitting = entries.iter().filter(|(key, _)| without_scheme(key).eq_ignore_ascii_case(name));
        fitting.next().map(|(_, value)| value)
    };
    names.iter().find_map(value_of)
}

/// A key without scheme and slash at its end. Old docker wrote `https://host/v1/`.
fn without_scheme(key: &str) -> &str {
    match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(rest) => {
            let rest = rest.trim_end_matches('/');
            rest.strip_suffix("/v1").or_else(|| rest.strip_suffix("/v2")).unwrap_or(rest)
        }
        None => key.trim_end_matches('/'),
    }
}

impl DockerEntry {
    /// The credentials, or `None` if the entry is empty.
    fn login(&self) -> Result<Option<Login>, &'static str> {
        let Self { auth, username, password, identitytoken, registrytoken } = self;
        if !registrytoken.is_empty() {
            return Ok(Some(Login::AccessToken(registrytoken.clone().into())));
        }
        if !identitytoken.is_empty() {
            return Ok(Some(Login::IdentityToken(identitytoken.clone().into())));
        }
        if auth.is_empty() {
            let login = Login::Password { user: username.clone(), password: password.clone().into() };
            return Ok(Some(login).filter(|_| !username.is_empty()));
        }
        let pair = STANDARD.decode(auth.as_bytes()).ok().and_then(|pair| String::from_utf8(pair).ok());
        let pair = Zeroizing::new(pair.unwrap_or_default());
        let (user, password) = pair.split_once(':').ok_or("has no valid auth")?;
        // docker may pad the password.
        let password = password.trim_end_matches('\0').to_owned().into();
        Ok(Some(Login::Password { user: user.to_owned(), password }))
    }
}
