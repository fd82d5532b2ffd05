//! The configuration as the rest of coracle sees it: plain values, each with its unit and its default.
//!
//! Knows which key each field is read from. The defaults named here stand in the key table, and
//! nowhere else in code.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::identity::access::AccessControl;

use super::access_control;
use super::network::Network;
use super::openid::{self, OpenId};
use super::settings::{FromSetting, Setting, Settings};
use super::time_window::TimeWindow;

const UNTAGGED_DELAY: &str = "storage.retention.delay";

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How the registry behaves where coracle and zot differ; [`Profile::Coracle`] by default. Own key
    /// `profile`.
    pub profile: Profile,
    /// Where content lives. zot's `storage`.
    pub storage: Storage,
    /// Where the registry listens, and its limits. zot's `http`.
    pub http: Http,
    /// What is logged, and where to. zot's `log`.
    pub log: Log,
    /// What a registry can do beyond the distribution specification. zot's `extensions`.
    pub extensions: Extensions,
    /// Deliberate differences from zot, for the test that checks them; none by default. Own key
    /// `differences`.
    pub differences: Vec<Difference>,
}

/// How the registry behaves where coracle and zot differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// Coracle's own ways: rights are ownership and permissions.
    Coracle,
    /// A drop-in for zot: its Basic challenge, and every signed-in user may do everything.
    Zot,
}

/// Where content lives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Storage {
    /// The data directory, relative to the working directory of the process; without it, the platform's
    /// usual place. zot's `storage.rootDirectory`, which zot wants absolute.
    pub root_directory: Option<PathBuf>,
    /// Whether a push is on the disk before it is answered; true by default. zot's `storage.commit`,
    /// which is false there.
    pub commit: bool,
    /// How long an unfinished upload is kept after its last byte; 24 hours by default. Own key
    /// `storage.uploadExpiry`.
    pub upload_expiry: Duration,
    /// How long it is remembered what a tag pointed at, so that it can be brought back; 14 days by default,
    /// and not at all if it is zero. Own key `storage.tagHistory`.
    pub tag_history: Duration,
    /// When what nothing needs is removed. zot's `storage.gc` and what begins with it, and `storage.retention`.
    pub collection: Collection,
    /// Pushes are refused while fewer bytes are free on the disk; 64 MiB by default, and never if it is zero.
    /// Own key `storage.minFreeSpace`.
    pub min_free_space: u64,
    /// Whether an index is accepted while manifests it names are missing; false by default. Own key
    /// `storage.allowSparseIndexes`.
    pub allow_sparse_indexes: bool,
}

/// When what nothing needs is removed: blobs that no manifest needs, and manifests that no tag and no index names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collection {
    /// Whether it is; true by default. zot's `storage.gc`.
    pub enable: bool,
    /// How long it is kept; 24 hours by default. zot's `storage.gcDelay`, whose default is one hour.
    pub delay: Duration,
    /// How often it is looked for; every hour by default. zot's `storage.gcInterval`.
    pub interval: Duration,
    /// The part of the day in which it may be; any by default. zot's `storage.gcTimeWindow`.
    pub time_window: Option<TimeWindow>,
    /// How long a manifest without a tag is kept; as `delay` by default. zot's `storage.retention.delay`.
    pub untagged_delay: Option<Duration>,
    /// What is kept in which repositories; none by default, and then nothing is. zot's `storage.retention.policies`,
    /// of which the first that fits a repository counts.
    pub policies: Vec<RetentionPolicy>,
}

/// What is kept in some repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetentionPolicy {
    /// Patterns of the repositories' names. zot's `repositories`.
    pub repositories: Vec<String>,
    /// Whether manifests are removed whose subject was deleted; false by default. zot's `deleteReferrers`.
    pub delete_referrers: bool,
    /// Whether manifests are removed that have no tag; true by default. zot's `deleteUntagged`.
    pub delete_untagged: bool,
}

/// Where the registry listens, what it announces, and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Http {
    /// Where to listen; 127.0.0.1 by default. zot's `http.address`.
    pub address: Address,
    /// The TCP port, 0 for any free one; 8080 by default. zot's `http.port`.
    pub port: u16,
    /// The URL under which clients reach the registry, without a slash at its end, when it is not the
    /// address; none by default. zot's `http.externalUrl`.
    pub external_url: Option<String>,
    /// The realm of a challenge, fit to stand between quotes; `Authorization Required` by default, as
    /// for zot. zot's `http.realm`.
    pub realm: String,
    /// Proxies whose headers say where a client is and what it asked for (`X-Forwarded-For`, `-Proto` and
    /// `-Host`, and `Forwarded`); none by default. Own key `http.trustedProxies`.
    pub trusted_proxies: Vec<Network>,
    /// Whether anyone who reaches the port may do everything; false by default. Own key `http.open`.
    pub open: bool,
    /// Who signs in, and how (zot `http.auth`).
    pub auth: Auth,
    /// Who may do what, by repository pattern (zot `http.accessControl`); without it, ownership and
    /// permissions, or what the profile says.
    pub access_control: Option<AccessControl>,
    /// The files that make the port speak TLS; none by default. zot's `http.tls`.
    pub tls: Option<Tls>,
    /// What one server takes upon itself. Own keys under `http.limits`.
    pub limits: Limits,
}

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// Every address of the machine, of IPv4 and IPv6. Written as the empty string, as for Go.
    All,
    /// The addresses that the name `localhost` has.
    Localhost,
    /// This address.
    Ip(IpAddr),
}

/// Who signs in, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Auth {
    /// Users with bcrypt hashes, beside coracle's own (zot `http.auth.htpasswd.path`); none by default.
    pub htpasswd: Option<PathBuf>,
    /// Whether there are API keys (zot `http.auth.apikey`, off there); on by default, and wherever there are
    /// providers, as for zot.
    pub api_keys: bool,
    /// How many keys one user may have (own); 100 by default.
    pub keys_per_user: usize,
    /// How long a key may live (own); for ever by default.
    pub key_lifetime: Option<Duration>,
    /// How long a session lives without being used (own); two hours by default, as zot's.
    pub session_idle_timeout: Duration,
    /// How long a session lives (own); a week by default.
    pub session_lifetime: Duration,
    /// How long a token is good for, a minute at least (own); an hour by default: some clients push with one token.
    pub token_lifetime: Duration,
    /// Who tokens say has made them (own); `coracle` by default.
    pub token_issuer: String,
    /// What clients may call the registry when they want a token, besides the host they asked (own);
    /// tokens are made out to the first; none by default.
    pub token_services: Vec<String>,
    /// A token service elsewhere, whose tokens count here (zot `http.auth.bearer`); none by default.
    pub bearer: Option<Bearer>,
    /// Providers through which people sign in (zot `http.auth.openid`); none by default.
    pub openid: Option<OpenId>,
}

/// A token service elsewhere. Its tokens say what whoever holds them may do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bearer {
    /// Where clients get tokens, fit to stand between quotes. zot's `http.auth.bearer.realm`.
    pub realm: String,
    /// What the service calls this registry, fit to stand between quotes. zot's `http.auth.bearer.service`.
    pub service: String,
    /// The file with what verifies its tokens: a certificate or a public key in PEM, or a JWKS. It could be
    /// read when the configuration was. zot's `http.auth.bearer.cert`.
    pub cert: PathBuf,
}

/// The files that make the port speak TLS. Both could be read when the configuration was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// The certificate chain in PEM. zot's `http.tls.cert`.
    pub cert: PathBuf,
    /// Its private key in PEM. zot's `http.tls.key`.
    pub key: PathBuf,
}

/// What one server takes upon itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections open at a time; 1024 by default. Own key `http.limits.maxConnections`.
    pub max_connections: usize,
    /// The same for one address; 0, the default, stands for three quarters of `max_connections`. Trusted proxies have
    /// no such limit. Own key `http.limits.maxConnectionsPerAddress`.
    pub max_connections_per_address: usize,
    /// How long the head of a request may take; 30 seconds by default. Own key
    /// `http.limits.headerTimeout`.
    pub header_timeout: Duration,
    /// How long a connection is kept between requests; 120 seconds by default. Own key
    /// `http.limits.idleTimeout`.
    pub idle_timeout: Duration,
    /// How long a body, of a request or an answer, may pause; 60 seconds by default. Own key
    /// `http.limits.bodyIdleTimeout`.
    pub body_idle_timeout: Duration,
    /// The largest manifest in bytes, from 4 MiB, which is the default, to 64 MiB. Own key
    /// `http.limits.maxManifestSize`.
    pub max_manifest_size: usize,
    /// How long requests may go on after the registry was told to stop; 30 seconds by default. Own key
    /// `http.limits.shutdownTimeout`.
    pub shutdown_timeout: Duration,
}

/// What is logged, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Log {
    /// The least severe message that is logged; [`LogLevel::Info`] by default. zot's `log.level`, which
    /// is `debug` there, and whose `panic` and `fatal` are [`LogLevel::Error`].
    pub level: LogLevel,
    /// How a message is written; [`LogFormat::Text`] by default. Own key `log.format`.
    pub format: LogFormat,
    /// The file that is appended to; standard error by default. zot's `log.output`, whose default is
    /// standard output.
    pub output: Option<PathBuf>,
    /// The file that gets a line of JSON for every request that changed something, and for everything
    /// done to accounts; none by default. zot's `log.audit`.
    pub audit: Option<PathBuf>,
}

/// How severe a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Something failed that the registry is there for.
    Error,
    /// Something is not as it should be, and the registry went on.
    Warn,
    /// What an operator wants to know of: starting, stopping, requests.
    Info,
    /// What helps to find out why.
    Debug,
    /// Everything.
    Trace,
}

/// How a message of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object on one line.
    Json,
}

/// What a registry can do beyond the distribution specification.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extensions {
    /// Figures for Prometheus. zot's `extensions.metrics`.
    pub metrics: Metrics,
    /// Comparing what is stored with what it should be. zot's `extensions.scrub`.
    pub scrub: Scrub,
}

/// Comparing what is stored with what it should be, from time to time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scrub {
    /// Whether it is done; false by default. zot's `extensions.scrub.enable`, which is true in a block that does
    /// not say.
    pub enable: bool,
    /// How long after one scrub the next begins; 24 hours by default. zot's `extensions.scrub.interval`.
    pub interval: Duration,
    /// Bytes that are read in a second, at most; 32 MiB by default. Own key `extensions.scrub.rate`.
    pub rate: u64,
}

/// Figures for Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Whether they are served; true by default. zot's `extensions.metrics.enable`.
    pub enable: bool,
    /// Where they are served: a path that coracle has no other use for; `/metrics` by default. zot's
    /// `extensions.metrics.prometheus.path`.
    pub path: String,
}

/// One deliberate difference from zot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The method and path it is about.
    pub route: String,
    /// What zot answers.
    pub zot: String,
    /// What coracle answers.
    pub coracle: String,
    /// Why coracle answers otherwise.
    pub why: String,
    /// The name of the test that checks it.
    pub check: String,
}

impl Config {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            profile: settings.get("profile"),
            storage: Storage {
                root_directory: settings.get("storage.rootDirectory"),
                commit: settings.get("storage.commit"),
                upload_expiry: settings.get("storage.uploadExpiry"),
                tag_history: settings.get("storage.tagHistory"),
                collection: Collection {
                    enable: settings.get("storage.gc"),
                    delay: settings.get("storage.gcDelay"),
                    interval: settings.get("storage.gcInterval"),
                    time_window: settings.get::<String>("storage.gcTimeWindow").parse().ok(),
                    untagged_delay: settings.given(UNTAGGED_DELAY).map(|_| settings.get(UNTAGGED_DELAY)),
                    policies: policies(&settings.get::<Vec<Settings>>("storage.retention.policies")),
                },
                min_free_space: settings.get("storage.minFreeSpace"),
                allow_sparse_indexes: settings.get("storage.allowSparseIndexes"),
            },
            http: Http {
                address: settings.get("http.address"),
                port: settings.get("http.port"),
                external_url: settings.get("http.externalUrl"),
                realm: settings.get("http.realm"),
                trusted_proxies: networks(&settings.get::<Vec<String>>("http.trustedProxies")),
                open: settings.get("http.open"),
                auth: Auth {
                    htpasswd: settings.get("http.auth.htpasswd.path"),
                    api_keys: settings.get("http.auth.apikey") || settings.given("http.auth.openid").is_some(),
                    keys_per_user: settings.get("http.auth.keys.maxPerUser"),
                    key_lifetime: Some(settings.get("http.auth.keys.maxLifetime"))
                        .filter(|limit: &Duration| !limit.is_zero()),
                    session_idle_timeout: settings.get("http.auth.session.idleTimeout"),
                    session_lifetime: settings.get("http.auth.session.lifetime"),
                    token_lifetime: settings.get("http.auth.token.lifetime"),
                    token_issuer: settings.get("http.auth.token.issuer"),
                    token_services: settings.get("http.auth.token.services"),
                    bearer: bearer(settings),
                    openid: openid::read(settings),
                },
                access_control: access_control::read(settings),
                tls: Option::zip(settings.get("http.tls.cert"), settings.get("http.tls.key"))
                    .map(|(cert, key)| Tls { cert, key }),
                limits: Limits {
                    max_connections: settings.get("http.limits.maxConnections"),
                    max_connections_per_address: settings.get("http.limits.maxConnectionsPerAddress"),
                    header_timeout: settings.get("http.limits.headerTimeout"),
                    idle_timeout: settings.get("http.limits.idleTimeout"),
                    body_idle_timeout: settings.get("http.limits.bodyIdleTimeout"),
                    max_manifest_size: settings.get("http.limits.maxManifestSize"),
                    shutdown_timeout: settings.get("http.limits.shutdownTimeout"),
                },
            },
            log: Log {
                level: settings.get("log.level"),
                format: settings.get("log.format"),
                output: settings.get("log.output"),
                audit: settings.get("log.audit"),
            },
            extensions: Extensions {
                metrics: Metrics {
                    enable: settings.get("extensions.metrics.enable"),
                    path: settings.get("extensions.metrics.prometheus.path"),
                },
                scrub: Scrub {
                    enable: settings.given("extensions.scrub").is_some_and(|said| *said == Setting::Bool(true)),
                    interval: settings.get("extensions.scrub.interval"),
                    rate: settings.get("extensions.scrub.rate"),
                },
            },
            differences: differences(&settings.get::<Vec<Settings>>("differences")),
        }
    }
}

/// What is no network was reported, and there is no configuration then.
fn networks(texts: &[String]) -> Vec<Network> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn policies(tables: &[Settings]) -> Vec<RetentionPolicy> {
    let one = |table: &Settings| RetentionPolicy {
        repositories: table.get("storage.retention.policies.*.repositories"),
        delete_referrers: table.get("storage.retention.policies.*.deleteReferrers"),
        delete_untagged: table.get("storage.retention.policies.*.deleteUntagged"),
    };
    tables.iter().map(one).collect()
}

/// Of the three keys none is given, or all: else it was reported.
fn bearer(settings: &Settings) -> Option<Bearer> {
    let text = |key| Some(settings.get::<String>(key)).filter(|text| !text.is_empty());
    let (realm, service) = (text("http.auth.bearer.realm")?, text("http.auth.bearer.service")?);
    Some(Bearer { realm, service, cert: settings.get::<Option<PathBuf>>("http.auth.bearer.cert")? })
}

fn differences(tables: &[Settings]) -> Vec<Difference> {
    let one = |table: &Settings| Difference {
        route: table.get("differences.*.route"),
        zot: table.get("differences.*.zot"),
        coracle: table.get("differences.*.coracle"),
        why: table.get("differences.*.why"),
        check: table.get("differences.*.check"),
    };
    tables.iter().map(one).collect()
}

impl FromSetting for Profile {
    fn from_setting(setting: &Setting) -> Option<Self> {
        match String::from_setting(setting)?.as_str() {
            "coracle" => Some(Self::Coracle),
            "zot" => Some(Self::Zot),
            _ => None,
        }
    }
}

impl FromSetting for Address {
    fn from_setting(setting: &Setting) -> Option<Self> {
        match String::from_setting(setting)?.as_str() {
            "" => Some(Self::All),
            "localhost" => Some(Self::Localhost),
            address => address.parse().ok().map(Self::Ip),
        }
    }
}

impl FromSetting for LogLevel {
    fn from_setting(setting: &Setting) -> Option<Self> {
        match String::from_setting(setting)?.as_str() {
            "panic" | "fatal" | "error" => Some(Self::Error),
            "warn" => Some(Self::Warn),
            "info" => Some(Self::Info),
            "debug" => Some(Self::Debug),
            "trace" => Some(Self::Trace),
            _ => None,
        }
    }
}

impl FromSetting for LogFormat {
    fn from_setting(setting: &Setting) -> Option<Self> {
        match String::from_setting(setting)?.as_str() {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}
