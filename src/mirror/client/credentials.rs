//! [`Credentials`]: what the registry presents to upstreams, from a file.
//!
//! Two formats are read: zot's (`{"host": {"username": …, "password": …}}`) and that of docker and podman
//! (`{"auths": {"host": {"auth": …}}}`). The file is read again for each token, so that a change takes effect at once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::Error;

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The names of Docker Hub in credential files.
const HUB: [&str; 4] = ["registry-1.docker.io", "docker.io", "index.docker.io", "https://index.docker.io/v1/"];

/// Where credentials come from.
#[derive(Clone, Debug, Default)]
pub(crate) enum Credentials {
    /// Requests are anonymous.
    #[default]
    None,
    /// A file with the credentials of several hosts. A host that is not in it gets anonymous requests.
    File(PathBuf),
}

/// The credentials for one host.
pub(super) enum Login {
    Password {
        user: String,
        password: Zeroizing<String>,
    },
    /// A refresh token of the host's token service.
    IdentityToken(Zeroizing<String>),
}

crate::kit::opaque_debug::opaque_debug!(Login);

impl Login {
    /// The `Authorization` of the password.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let Self::Password { user, password } = self else { return None };
        let pair = Zeroizing::new(format!("{user}:{}", password.as_str()));
        let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair.as_bytes()))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Credentials {
    /// The credentials for a host, with its port if it has one.
    pub(super) async fn of(&self, host: &str) -> Result<Option<Login>, Error> {
        let Self::File(file) = self else { return Ok(None) };
        let (file, host) = (file.clone(), host.to_owned());
        let read = tokio::task::spawn_blocking(move || find(&file, &host)).await;
        read.unwrap_or_else(|error| Err(Error::Credentials(error.to_string())))
    }
}

#[derive(Deserialize)]
struct DockerFile {
    auths: HashMap<String, DockerEntry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerEntry {
    auth: String,
    identitytoken: String,
}

#[derive(Deserialize)]
struct ZotEntry {
    username: String,
    password: String,
}

/// Finds the credentials of a host in a file.
fn find(file: &Path, host: &str) -> Result<Option<Login>, Error> {
    let unusable = |why: &dyn std::fmt::Display| Error::Credentials(format!("{}: {why}", file.display()));
    let length = std::fs::metadata(file).map_err(|error| unusable(&error))?.len();
    if length > FILE_BYTES_MAX {
        return Err(unusable(&"the file is too large for a file of credentials"));
    }
    let text = Zeroizing::new(std::fs::read_to_string(file).map_err(|error| unusable(&error))?);
    let names: &[&str] = if HUB.contains(&host) { &HUB } else { &[host] };
    let same = |key: &str| {
        let key_host = key.trim_start_matches("https://").trim_end_matches('/');
        names.iter().any(|name| key.eq_ignore_ascii_case(name) || key_host.eq_ignore_ascii_case(name))
    };
    // Messages of serde_json name a position, and never quote a value of a text field.
    if let Ok(DockerFile { auths }) = serde_json::from_str(&text) {
        let Some((_, entry)) = auths.into_iter().find(|(key, _)| same(key)) else { return Ok(None) };
        if !entry.identitytoken.is_empty() {
            return Ok(Some(Login::IdentityToken(entry.identitytoken.into())));
        }
        let pair = STANDARD.decode(entry.auth.as_bytes()).ok().and_then(|pair| String::from_utf8(pair).ok());
        let pair = Zeroizing::new(pair.unwrap_or_default());
        let (user, password) =
            pair.split_once(':').ok_or_else(|| unusable(&format_args!("the entry of {host} has no valid auth")))?;
        return Ok(Some(Login::Password { user: user.to_owned(), password: password.to_owned().into() }));
    }
    let entries: HashMap<String, ZotEntry> = serde_json::from_str(&text).map_err(|error| {
        unusable(&format_args!("it is not a file of credentials (line {}, column {})", error.line(), error.column()))
    })?;
    let entry = entries.into_iter().find(|(key, _)| same(key)).map(|(_, entry)| entry);
    Ok(entry.map(|ZotEntry { username, password }| Login::Password { user: username, password: password.into() }))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn basic(text: &str, host: &str) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials.json");
        std::fs::write(&file, text).unwrap();
        let found = find(&file, host).unwrap()?;
        let value = found.basic()?.to_str().unwrap().to_owned();
        let pair = STANDARD.decode(value.strip_prefix("Basic ").unwrap()).unwrap();
        Some(String::from_utf8(pair).unwrap())
    }

    #[test]
    fn files_of_zot_docker_and_podman_are_read() {
        let zot = r#"{"a.example": {"username": "u", "password": "p:q"}}"#;
        assert_eq!(basic(zot, "a.example").as_deref(), Some("u:p:q"));
        assert_eq!(basic(zot, "b.example"), None);
        let docker = r#"{"auths": {"a.example:5000": {"auth": "dTpw"}, "https://index.docker.io/v1/": {"auth": "aHVi"},
                        "https://c.example/": {"auth": "dTpw", "email": "x"}}, "credsStore": "x"}"#;
        assert_eq!(basic(docker, "a.example:5000").as_deref(), Some("u:p"));
        assert_eq!(basic(docker, "c.example").as_deref(), Some("u:p"));
        assert_eq!(basic(docker, "a.example"), None);
        let hub = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}"#;
        assert_eq!(basic(hub, "registry-1.docker.io").as_deref(), Some("u:p"));
    }

    #[test]
    fn an_unreadable_file_is_an_error_without_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials.json");
        assert!(find(&file, "a").is_err(), "a missing file is not an anonymous login");
        for text in ["", "secret", r#"{"a": {"username": "secret"}}"#, r#"{"auths": {"a": {"auth": "secret"}}}"#] {
            std::fs::write(&file, text).unwrap();
            let Err(error) = find(&file, "a") else { panic!("{text} was read") };
            assert!(!error.to_string().contains("secret") && error.to_string().contains("credentials.json"), "{error}");
        }
    }
}
