//! `http.auth.openid`: reads and checks the identity providers, and the files with their secrets.
//!
//! A secret is never printed, and no message contains one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::check::check_authorities;
use super::settings::Settings;
use super::walk::Findings;
use crate::kit::file::read_text;
use crate::kit::network::is_loopback;
use crate::kit::opaque_debug::opaque_debug;
use crate::oci::JsonObject;

const OPENID: &str = "http.auth.openid";
const PROVIDERS: &str = "http.auth.openid.providers";
const ORIGINS: &str = "http.auth.openid.callbackAllowOrigins";
const CA: &str = "http.auth.openid.cacert";
const RECHECK: &str = "http.auth.openid.recheck";

/// The names of providers, as in zot. The path of the callback ends in the name.
const NAMES: [&str; 4] = ["github", "gitlab", "google", "oidc"];
/// The provider that does not support OpenID.
const GITHUB: &str = "github";
/// The URLs of github.com.
const GITHUB_API: &str = "https://api.github.com";
const GITHUB_AUTH: &str = "https://github.com/login/oauth/authorize";
const GITHUB_TOKEN: &str = "https://github.com/login/oauth/access_token";

/// The largest file with a secret or a key, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A secret of the configuration, which is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret in clear text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

opaque_debug!(Secret);

/// Sign-in through identity providers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenId {
    /// The providers by name: `github`, `gitlab`, `google` and `oidc`. Key `http.auth.openid.providers`.
    pub providers: BTreeMap<String, Provider>,
    /// Origins that browsers may return to, in addition to the registry's own. Key
    /// `http.auth.openid.callbackAllowOrigins`.
    pub callback_allow_origins: Vec<String>,
    /// A file with certificate authorities to trust at providers, in addition to those of the platform. It was readable
    /// when the configuration was read. Key `http.auth.openid.cacert`.
    pub ca_cert: Option<PathBuf>,
    /// How often a provider is asked whether a user still exists; `None` for never. Key `http.auth.openid.recheck`,
    /// default 24 hours.
    pub recheck: Option<Duration>,
}

/// One identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provider {
    /// The text of its button. Key `name`, default the name of the provider.
    pub title: String,
    /// The client id of the registry. Key `clientid`, or in `credentialsFile`.
    pub client_id: String,
    /// The client secret of the registry. Key `clientsecret`, or in `credentialsFile`.
    pub client_secret: Option<Secret>,
    /// The private key that authenticates the registry instead of a secret (RFC 7523): the text of a file in PEM, or in
    /// the JSON of zitadel. Key `keypath`.
    pub client_key: Option<Secret>,
    /// The protocol and the URLs.
    pub protocol: Protocol,
    /// The requested scopes. Key `scopes`.
    pub scopes: Vec<String>,
}

/// The protocol of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// OpenID Connect.
    OpenId {
        /// The URL of the provider, exactly as in its tokens. Key `issuer`.
        issuer: String,
        /// The claim with the user name. Key `claimMapping.username`, default `email`.
        username_claim: String,
        /// The claim with the user's groups. Key `claimMapping.groups`, default `groups`.
        groups_claim: String,
    },
    /// OAuth, and then the API of GitHub.
    GitHub {
        /// The sign-in URL. Key `authurl`, default that of github.com.
        auth_url: String,
        /// The token URL. Key `tokenurl`, default that of github.com.
        token_url: String,
        /// The URL of the API. Key `apiurl`, default `https://api.github.com`, or `/api/v3` on the host of `authurl`.
        api_url: String,
    },
}

/// The content of `credentialsFile`, as in zot.
#[derive(Deserialize)]
struct Credentials {
    #[serde(default, alias = "clientId", alias = "ClientID")]
    clientid: String,
    #[serde(default, alias = "clientSecret", alias = "ClientSecret")]
    clientsecret: String,
}

/// Reads the providers. Leaves out invalid ones, which have been reported.
pub(super) fn read(settings: &Settings) -> Option<OpenId> {
    settings.given(OPENID)?;
    let providers = settings.tables(PROVIDERS).filter_map(|(name, table)| Some((name.clone(), provider(name, table)?)));
    Some(OpenId {
        providers: providers.collect(),
        callback_allow_origins: settings.get(ORIGINS),
        ca_cert: settings.get(CA),
        recheck: Some(settings.get(RECHECK)).filter(|every: &Duration| !every.is_zero()),
    })
}

/// The full path of a key of a provider.
fn of_each(key: &str) -> String {
    format!("{PROVIDERS}.*.{key}")
}

fn text(table: &Settings, key: &str) -> Option<String> {
    table.get::<Option<String>>(&of_each(key))
}

fn provider(name: &str, table: &Settings) -> Option<Provider> {
    let (client_id, client_secret) = client(table).ok()?;
    let client_key = text(table, "keypath").map(|path| read_file(Path::new(&path))).transpose().ok()?;
    let protocol = if name == GITHUB {
        let auth_url = text(table, "authurl").unwrap_or_else(|| GITHUB_AUTH.to_owned());
        let api_url = text(table, "apiurl").unwrap_or_else(|| github_api(&auth_url));
        Protocol::GitHub {
            token_url: text(table, "tokenurl").unwrap_or_else(|| GITHUB_TOKEN.to_owned()),
            api_url: api_url.trim_end_matches('/').to_owned(),
            auth_url,
        }
    } else {
        Protocol::OpenId {
            issuer: text(table, "issuer")?,
            username_claim: table.get(&of_each("claimMapping.username")),
            groups_claim: table.get(&of_each("claimMapping.groups")),
        }
    };
    Some(Provider {
        title: text(table, "name").unwrap_or_else(|| name.to_owned()),
        client_id,
        client_secret,
        client_key: client_key.map(Secret),
        protocol,
        scopes: table.get(&of_each("scopes")),
    })
}

/// The API URL that belongs to a sign-in URL.
fn github_api(auth_url: &str) -> String {
    match Url::parse(auth_url) {
        Ok(url) if url.host_str() != Some("github.com") => format!("{}/api/v3", url.origin().ascii_serialization()),
        _ => GITHUB_API.to_owned(),
    }
}

/// Reads id and secret of the client from the file or the table. An error has the key that it is about.
fn client(table: &Settings) -> Result<(String, Option<Secret>), (&'static str, String)> {
    let (mut id, mut secret) = (text(table, "clientid"), text(table, "clientsecret"));
    if let Some(path) = text(table, "credentialsFile") {
        let wrong = |why: String| ("credentialsFile", why);
        let content = read_file(Path::new(&path)).map_err(|error| wrong(format!("cannot read {path:?}: {error}")))?;
        // The error of the parser is left out, because it may show the secret.
        let JsonObject(read): JsonObject<Credentials> = serde_json::from_str(&content)
            .map_err(|_| wrong(format!("{path:?} is not a JSON object with clientid and clientsecret")))?;
        id = Some(read.clientid).filter(|text| !text.is_empty()).or(id);
        secret = Some(read.clientsecret).filter(|text| !text.is_empty()).or(secret);
    }
    match id {
        Some(id) => Ok((id, secret.map(Secret))),
        None => Err(("clientid", "is missing: it is the id of the registry at the provider".to_owned())),
    }
}

/// Reads a small file.
pub(super) fn read_file(path: &Path) -> io::Result<String> {
    read_text(path, FILE_BYTES_MAX)
}

/// Reports the problems of the providers.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    if settings.given(OPENID).is_none() || findings.has_problem_under(OPENID) {
        return;
    }
    if settings.tables(PROVIDERS).next().is_none() {
        findings.problem(PROVIDERS, "is missing: name at least one provider, or remove http.auth.openid");
    }
    for (name, table) in settings.tables(PROVIDERS) {
        check_provider(name, table, findings);
    }
    for (index, origin) in settings.given_texts(ORIGINS) {
        if !is_origin(origin) {
            let why = "expected an origin such as \"https://ui.example\", without a path";
            findings.problem(&format!("{ORIGINS}[{index}]"), why);
        }
    }
    check_authorities(CA, settings, findings);
    if !settings.get::<bool>("http.auth.apikey") {
        let why = "has no effect: federated users have no password, and need API keys for docker";
        findings.warning("http.auth.apikey", why);
    }
}

fn check_provider(name: &str, table: &Settings, findings: &mut Findings) {
    let key = |key: &str| format!("{PROVIDERS}.{name}.{key}");
    if !NAMES.contains(&name) {
        let why = format!("expected one of {}; use oidc for any other provider", NAMES.join(", "));
        return findings.problem(&format!("{PROVIDERS}.{:?}", name.chars().take(40).collect::<String>()), why);
    }
    let client = client(table);
    if let Err((at, why)) = &client {
        findings.problem(&key(at), why.clone());
    }
    let key_path = text(table, "keypath");
    if let Some(path) = &key_path
        && let Err(error) = read_file(Path::new(path))
    {
        findings.problem(&key("keypath"), format!("cannot read {path:?}: {error}"));
    }
    if key_path.is_some() && client.is_ok_and(|(_, secret)| secret.is_some()) {
        findings.problem(&key("keypath"), "cannot be used together with a client secret: remove one of them");
    }
    let is_github = name == GITHUB;
    let urls: &[&str] = if is_github { &["authurl", "tokenurl", "apiurl"] } else { &["issuer"] };
    for url in urls {
        if let Some(why) = text(table, url).and_then(|text| url_problem(&text)) {
            findings.problem(&key(url), why);
        }
    }
    // Keys of the other protocol. If they were ignored, users might be sent to another place than the file says.
    let foreign: &[&str] = if is_github { &["issuer"] } else { &["authurl", "tokenurl", "apiurl"] };
    for other in foreign.iter().filter(|other| text(table, other).is_some()) {
        let why =
            if is_github { "GitHub has no issuer: remove the key" } else { "the issuer provides it: remove the key" };
        findings.problem(&key(other), why);
    }
    if is_github {
        let given = ["authurl", "tokenurl"].map(|key| text(table, key).is_some());
        if given[0] != given[1] {
            let (missing, other) = if given[0] { ("tokenurl", "authurl") } else { ("authurl", "tokenurl") };
            findings.problem(&key(missing), format!("is missing: a self-hosted GitHub needs it together with {other}"));
        }
    } else if text(table, "issuer").is_none() {
        findings.problem(&key("issuer"), "is missing: it is the URL of the provider");
    }
    let scope_fits = |scope: &String| scope.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
    for (index, scope) in table.get::<Vec<String>>(&of_each("scopes")).iter().enumerate() {
        if scope.is_empty() || !scope_fits(scope) {
            findings.problem(&key(&format!("scopes[{index}]")), "expected one scope, without spaces");
        }
    }
}

/// Why a URL is not a URL of a provider.
pub(super) fn url_problem(text: &str) -> Option<&'static str> {
    let Ok(url) = Url::parse(text) else { return Some("expected a URL such as \"https://provider.example\"") };
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() || url.query().is_some() {
        return Some("expected a URL without a user, a query and a fragment");
    }
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => None,
        ("http", Some(host)) if is_loopback(host) => None,
        ("http", Some(_)) => Some("expected https: with http, an attacker on the network could sign in as any user"),
        _ => Some("expected a URL such as \"https://provider.example\""),
    }
}

fn is_origin(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    ["http", "https"].contains(&url.scheme())
        && url.path() == "/"
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && !text.contains(['\\', '\t', '\r', '\n'])
}
