//! `http.auth.openid`: settings → the providers through which people sign in.
//!
//! Knows the keys and the files that hold secrets of clients, and nothing of OpenID. What must always hold: a secret
//! is in no message, and does not print.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::settings::{Setting, Settings};
use super::walk::Findings;
use crate::oci::JsonObject;

const OPENID: &str = "http.auth.openid";
const PROVIDERS: &str = "http.auth.openid.providers";
const ORIGINS: &str = "http.auth.openid.callbackAllowOrigins";
const CA: &str = "http.auth.openid.cacert";
const RECHECK: &str = "http.auth.openid.recheck";

/// The names that a provider may have, as in zot: the callback's path ends in it.
const NAMES: [&str; 4] = ["github", "gitlab", "google", "oidc"];
/// The one that does not speak OpenID.
const GITHUB: &str = "github";
/// Where the API of github.com is.
const GITHUB_API: &str = "https://api.github.com";
const GITHUB_AUTH: &str = "https://github.com/login/oauth/authorize";
const GITHUB_TOKEN: &str = "https://github.com/login/oauth/access_token";

/// No file with a secret or a key is as large, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A secret of the configuration. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret. Only to use it for what it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Sign-in through providers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenId {
    /// The providers by their names, which are `github`, `gitlab`, `google` and `oidc`. zot's
    /// `http.auth.openid.providers`.
    pub providers: BTreeMap<String, Provider>,
    /// Origins besides the registry's own to which browsers may return. zot's
    /// `http.auth.openid.callbackAllowOrigins`.
    pub callback_allow_origins: Vec<String>,
    /// A file with certificates to trust at providers, besides those that the platform trusts; none by default. It
    /// could be read when the configuration was. Own key `http.auth.openid.cacert`.
    pub ca_cert: Option<PathBuf>,
    /// How often a provider is asked whether it still knows somebody; without it, never. 24 hours by default. Own
    /// key `http.auth.openid.recheck`, of which zero is never.
    pub recheck: Option<Duration>,
}

/// One provider.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provider {
    /// What people read on its button. zot's `name`; the key's own name without it.
    pub title: String,
    /// What the provider calls the registry. zot's `clientid`, or what `credentialsFile` says.
    pub client_id: String,
    /// By what the provider knows the registry. zot's `clientsecret`, or what `credentialsFile` says.
    pub client_secret: Option<Secret>,
    /// The key by which the registry shows who it is (RFC 7523), in place of a secret: the text of a file in PEM,
    /// or in JSON as zitadel makes it. zot's `keypath`.
    pub client_key: Option<Secret>,
    /// Where it is, and how it is spoken to.
    pub protocol: Protocol,
    /// What is asked for. zot's `scopes`.
    pub scopes: Vec<String>,
}

/// How a provider is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// OpenID Connect.
    OpenId {
        /// The provider's URL, exactly as its tokens have it. zot's `issuer`.
        issuer: String,
        /// The claim with the user's name; `email` by default. zot's `claimMapping.username`.
        username_claim: String,
        /// The claim with the user's groups; `groups` by default. zot's `claimMapping.groups`.
        groups_claim: String,
    },
    /// GitHub's API after OAuth.
    GitHub {
        /// Where people sign in; github.com's by default. zot's `authurl`.
        auth_url: String,
        /// Where tokens are fetched; github.com's by default. zot's `tokenurl`.
        token_url: String,
        /// Where the API is; `https://api.github.com`, or `/api/v3` on the host of `authurl`. Own key `apiurl`.
        api_url: String,
    },
}

/// What `credentialsFile` has, as for zot.
#[derive(Deserialize)]
struct Credentials {
    #[serde(default, alias = "clientId", alias = "ClientID")]
    clientid: String,
    #[serde(default, alias = "clientSecret", alias = "ClientSecret")]
    clientsecret: String,
}

/// The providers, if the file has any. What is wrong with them was reported, and is left out here.
pub(super) fn read(settings: &Settings) -> Option<OpenId> {
    settings.given(OPENID)?;
    let providers = tables(settings).filter_map(|(name, table)| Some((name.clone(), provider(name, table)?)));
    Some(OpenId {
        providers: providers.collect(),
        callback_allow_origins: settings.get(ORIGINS),
        ca_cert: settings.get(CA),
        recheck: Some(settings.get(RECHECK)).filter(|every: &Duration| !every.is_zero()),
    })
}

fn tables(settings: &Settings) -> impl Iterator<Item = (&String, &Settings)> {
    let tables = match settings.given(PROVIDERS) {
        Some(Setting::Map(tables)) => Some(tables),
        _ => None,
    };
    tables.into_iter().flatten()
}

/// The full key of one of a provider's.
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

/// Where the API is of the GitHub at which people sign in.
fn github_api(auth_url: &str) -> String {
    match Url::parse(auth_url) {
        Ok(url) if url.host_str() != Some("github.com") => format!("{}/api/v3", url.origin().ascii_serialization()),
        _ => GITHUB_API.to_owned(),
    }
}

/// The client's id and secret: of the file, or of the table. Says what is wrong by the key it is wrong with.
fn client(table: &Settings) -> Result<(String, Option<Secret>), (&'static str, String)> {
    let (mut id, mut secret) = (text(table, "clientid"), text(table, "clientsecret"));
    if let Some(path) = text(table, "credentialsFile") {
        let wrong = |why: String| ("credentialsFile", why);
        let content = read_file(Path::new(&path)).map_err(|error| wrong(format!("cannot read {path:?}: {error}")))?;
        // What is wrong with the text is not said: it would be shown.
        let JsonObject(read): JsonObject<Credentials> = serde_json::from_str(&content)
            .map_err(|_| wrong(format!("{path:?} is not an object with clientid and clientsecret in JSON")))?;
        id = Some(read.clientid).filter(|text| !text.is_empty()).or(id);
        secret = Some(read.clientsecret).filter(|text| !text.is_empty()).or(secret);
    }
    match id {
        Some(id) => Ok((id, secret.map(Secret))),
        None => Err(("clientid", "is missing; it is what the provider calls the registry".to_owned())),
    }
}

/// A small file of the operator's. A pipe or a device is not opened, since that may wait for ever.
fn read_file(path: &Path) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut content = String::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut content)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(content)
}

/// Says what is wrong with the providers, each by its own key.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    if settings.given(OPENID).is_none() || findings.problems.iter().any(|problem| problem.is_under(OPENID)) {
        return;
    }
    if tables(settings).next().is_none() {
        findings.problem(PROVIDERS, "is missing; the table means nothing without a provider");
    }
    for (name, table) in tables(settings) {
        check_provider(name, table, findings);
    }
    if let Some(Setting::Texts(origins)) = settings.given(ORIGINS) {
        for (index, origin) in origins.iter().enumerate() {
            if !is_origin(origin) {
                let why = "expected an origin such as \"https://ui.example\", without a path";
                findings.problem(&format!("{ORIGINS}[{index}]"), why);
            }
        }
    }
    if let Some(path) = settings.get::<Option<PathBuf>>(CA)
        && let Err(error) = read_ca(&path)
    {
        findings.problem(CA, format!("cannot read \"{}\": {error}", path.display()));
    }
    if settings.given("http.auth.apikey") == Some(&Setting::Bool(false)) {
        let why = "has no effect: whoever comes from a provider has no password, and needs API keys for docker";
        findings.warning("http.auth.apikey", why);
    }
}

fn read_ca(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_file() {
        fs::File::open(path).map(drop)
    } else {
        Err(io::Error::other("it is not a file"))
    }
}

fn check_provider(name: &str, table: &Settings, findings: &mut Findings) {
    let key = |key: &str| format!("{PROVIDERS}.{name}.{key}");
    if !NAMES.contains(&name) {
        // The name itself may be anything.
        let why = format!("a provider is called one of {}: GitHub is github, and oidc is any other", NAMES.join(", "));
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
        findings.problem(&key("keypath"), "a client has a secret or a key, and not both: leave one of them out");
    }
    let is_github = name == GITHUB;
    let urls: &[&str] = if is_github { &["authurl", "tokenurl", "apiurl"] } else { &["issuer"] };
    for url in urls {
        if let Some(why) = text(table, url).and_then(|text| url_problem(&text)) {
            findings.problem(&key(url), why);
        }
    }
    // What the other kind of provider has: ignoring it might send people elsewhere than is written.
    let foreign: &[&str] = if is_github { &["issuer"] } else { &["authurl", "tokenurl", "apiurl"] };
    for other in foreign.iter().filter(|other| text(table, other).is_some()) {
        let why = if is_github { "GitHub has none; leave it out" } else { "the issuer says it; leave it out" };
        findings.problem(&key(other), why);
    }
    if is_github {
        let given = ["authurl", "tokenurl"].map(|key| text(table, key).is_some());
        if given[0] != given[1] {
            let (missing, beside) = if given[0] { ("tokenurl", "authurl") } else { ("authurl", "tokenurl") };
            findings.problem(&key(missing), format!("is missing; a GitHub of one's own needs it beside {beside}"));
        }
    } else if text(table, "issuer").is_none() {
        findings.problem(&key("issuer"), "is missing; it is the provider's URL");
    }
    let scope_fits = |scope: &String| scope.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
    for (index, scope) in table.get::<Vec<String>>(&of_each("scopes")).iter().enumerate() {
        if scope.is_empty() || !scope_fits(scope) {
            findings.problem(&key(&format!("scopes[{index}]")), "expected one scope, without blanks");
        }
    }
}

/// What keeps a URL from being one of a provider.
fn url_problem(text: &str) -> Option<&'static str> {
    let Ok(url) = Url::parse(text) else { return Some("expected a URL such as \"https://provider.example\"") };
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() || url.query().is_some() {
        return Some("expected a URL without a user, a query and a fragment");
    }
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => None,
        ("http", Some(host)) if is_loopback(host) => None,
        ("http", Some(_)) => Some("expected https: whoever is on the way of http could sign in as anybody"),
        _ => Some("expected a URL such as \"https://provider.example\""),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
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
