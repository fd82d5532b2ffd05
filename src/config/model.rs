//! The configuration as the rest of coracle sees it, with the keys that it is read from.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::access_control;
use super::acme::{self, Acme};
use super::bearer::{Bearer, WorkloadIssuer};
use super::client_certificate::{self, ClientCertificates, Tls};
use super::events::{Events, SinkKind};
use super::immutable::ImmutableTags;
use super::keys::Row;
use super::kind::Kind::{self, Bool, HeaderText, List, OneOf, Path, Port, Size, Text, Texts, Url, UrlPath};
use super::ldap::{self, Ldap};
use super::listen::{Listen, Speaks};
use super::network::Network;
use super::openid::{self, OpenId};
use super::origins::AllowedOrigins;
use super::quota::Quota;
use super::rate_limit::RateLimit;
use super::retention::RetentionPolicy;
use super::settings::{FromSetting, Section, Setting, Settings, from_setting, section};
use super::sync::{Sync, WhoseCredentials};
use super::time_window::TimeWindow;
use super::traces::Traces;
use crate::identity::access::AccessControl;

section! {
    /// Everything that can be configured.
    Config {
        /// How the registry behaves where coracle and zot differ. "zot" is a drop-in for zot: it has zot's Basic challenge,
        /// and without http.accessControl every signed-in user has all rights.
        profile: Profile = "profile", OneOf(&["coracle", "zot"]), "coracle";
        /// Deliberate differences from zot. A test checks them; the registry ignores them.
        differences: Vec<Difference> = "differences", List, "[]";
        nested {
            /// Where content is stored, and when it is removed.
            storage: Storage = Section::read;
            /// Where the registry listens, who may use it, and its limits.
            http: Http = Section::read;
            /// The log.
            log: Log = Section::read;
            /// Features beyond the distribution specification.
            extensions: Extensions = Section::read;
        }
    }
}

/// How the registry behaves where coracle and zot differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// Coracle's own behaviour: users own repositories and grant permissions.
    Coracle,
    /// A drop-in for zot: its Basic challenge, and every signed-in user has all rights.
    Zot,
}

section! {
    /// Where content is stored, and when it is removed.
    Storage {
        /// Data directory, relative to the working directory. Without it, the usual place of the platform.
        root_directory: Option<PathBuf> = "storage.rootDirectory", Path, "";
        /// Whether content is durable before a push is answered. Otherwise it is durable about a second later (zot's
        /// default is false).
        commit: bool = "storage.commit", Bool, "true";
        /// How long an unfinished upload is kept after its last byte.
        upload_expiry: Duration = "storage.uploadExpiry", Kind::duration("1s", "8760h"), "24h";
        /// How long a moved or deleted tag can be restored. 0 keeps no history.
        tag_history: Duration = "storage.tagHistory", Kind::duration("0s", "87600h"), "336h";
        /// Free disk space below which pushes are refused. 0 never refuses.
        min_free_space: u64 = "storage.minFreeSpace", Kind::ANY_SIZE, "64MiB";
        /// Whether an index is accepted while manifests that it names are missing.
        allow_sparse_indexes: bool = "storage.allowSparseIndexes", Bool, "false";
        /// Rules for tags that can be neither moved nor removed.
        immutable_tags: Vec<ImmutableTags> = "storage.immutableTags", List, "[]";
        /// Quotas of repositories and namespaces. The first one of each kind that matches applies.
        quotas: Vec<Quota> = "storage.quotas", List, "[]";
        /// Most repositories. A push that would create another one gets 429. 0 for no limit.
        max_repositories: u64 = "storage.maxRepos", Kind::COUNT, "0";
        nested {
            /// Garbage collection.
            collection: Collection = Section::read;
        }
    }
}

section! {
    /// Garbage collection: removes blobs that no manifest references, and manifests that no tag and no index names.
    Collection {
        /// Whether untagged manifests and unreferenced blobs are removed.
        enable: bool = "storage.gc", Bool, "true";
        /// How long unreferenced content is kept. Must exceed the time from the first blob of a push to its last manifest
        /// (zot's default is 1h).
        delay: Duration = "storage.gcDelay", Kind::duration("0s", "87600h"), "24h";
        /// How often garbage collection runs.
        interval: Duration = "storage.gcInterval", Kind::duration("1s", "8760h"), "1h";
        /// Hours of the day, in UTC, in which garbage collection may start, such as 22:00-06:00. Without it, any time.
        time_window: Option<TimeWindow> = "storage.gcTimeWindow", Kind::TimeWindow, "";
        /// How long an untagged manifest is kept. Without it, storage.gcDelay.
        untagged_delay: Option<Duration> = "storage.retention.delay", Kind::duration("0s", "87600h");
        /// Whether retention removes nothing: no tags, no untagged manifests and no referrers. `coracle retention plan` shows
        /// the tags that it would remove.
        dry_run: bool = "storage.retention.dryRun", Bool, "false";
        /// Retention policies. The first one that matches a repository applies.
        policies: Vec<RetentionPolicy> = "storage.retention.policies", List, "[]";
    }
}

section! {
    /// Where the registry listens, who may use it, and its limits.
    Http {
        /// IP address to listen on, "localhost", or "" for all addresses.
        address: Address = "http.address", Kind::Address, "127.0.0.1";
        /// Port to listen on. 0 for any free port.
        port: u16 = "http.port", Port, "8080";
        /// Places to listen instead of http.address and http.port: `0.0.0.0:443`, `[::1]:8080`, `:8080` for all
        /// addresses, `http://127.0.0.1:8080` for plain HTTP also with http.tls, `acme://:80` only for http.tls.acme,
        /// `unix:/run/coracle/http.sock` for a unix socket.
        listen: Vec<Listen> = "http.listen", Texts, "[]";
        /// URL at which clients reach the registry, if that is not its address, as behind a proxy.
        external_url: Option<String> = "http.externalUrl", Url, "";
        /// Realm of the challenge that asks for a password.
        realm: String = "http.realm", HeaderText, "Authorization Required";
        /// Origins whose pages may call the registry, separated by commas, or "*" for all. Pages of all origins get no
        /// cookies.
        allow_origin: AllowedOrigins = "http.allowOrigin", Kind::Origins, "";
        /// Addresses and networks of proxies. The registry believes their X-Forwarded-For, -Proto, -Host and Forwarded headers.
        trusted_proxies: Vec<Network> = "http.trustedProxies", Texts, "[]";
        /// Whether everyone who reaches the port has all rights, without signing in.
        open: bool = "http.open", Bool, "false";
        /// Whether browsers get pages at /ui/, and are sent there from /.
        ui: bool = "http.ui", Bool, "true";
        nested {
            /// How users sign in.
            auth: Auth = Section::read;
            /// Rights by repository pattern. Without it, ownership and permissions, or what the profile says.
            access_control: Option<AccessControl> = access_control::read;
            /// Certificate and key. With them, the port speaks TLS.
            tls: Option<Tls> = Section::read_if_complete;
            /// A certificate from an ACME authority, in place of `tls`. With it, the port speaks TLS.
            acme: Option<Acme> = acme::read;
            /// Users who sign in with a client certificate.
            client_certificates: Option<ClientCertificates> = client_certificate::read;
            /// Limits of the server.
            limits: Limits = Section::read;
            /// Rights to the unix sockets of http.listen.
            unix_socket: UnixSocket = Section::read;
            /// How many requests are answered.
            rate_limit: RateLimit = Section::read;
        }
    }
}

impl Http {
    /// Where the registry listens.
    pub fn listens(&self) -> Vec<Listen> {
        if self.listen.is_empty() {
            return vec![Listen::Port { address: self.address, port: self.port, speaks: Speaks::TlsOrPlain }];
        }
        self.listen.clone()
    }

    /// The key that says where the registry listens.
    pub(crate) const fn listen_key(&self) -> &'static str {
        if self.listen.is_empty() { "http.port" } else { "http.listen" }
    }

    /// Whether ports speak TLS.
    pub(crate) const fn has_tls(&self) -> bool {
        self.tls.is_some() || self.acme.is_some()
    }

    /// The URL by which this machine reaches the registry: the first port that it listens on. `None` if there is only a unix
    /// socket, or if the port is not known before the start.
    pub(crate) fn local_url(&self) -> Option<String> {
        let port = self.listens().into_iter().find_map(|place| match place {
            Listen::Port { speaks: Speaks::Challenges, .. } | Listen::Unix(_) => None,
            Listen::Port { address, port, speaks } => Some((address, port, speaks)),
        });
        let (address, port, speaks) = port.filter(|(_, port, _)| *port > 0)?;
        let host = match address {
            Address::Ip(ip) if ip.is_unspecified() && ip.is_ipv6() => "[::1]".to_owned(),
            Address::Ip(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
            Address::Ip(ip) if ip.is_ipv6() => format!("[{ip}]"),
            Address::Ip(ip) => ip.to_string(),
            Address::All | Address::Localhost => "localhost".to_owned(),
        };
        let scheme = if self.has_tls() && speaks == Speaks::TlsOrPlain { "https" } else { "http" };
        Some(format!("{scheme}://{host}:{port}"))
    }
}

section! {
    /// Rights to the unix sockets that the registry listens on.
    UnixSocket {
        /// Rights to unix sockets of http.listen: 0600 lets the owner connect, 0660 also the group, 0666 everyone.
        mode: SocketMode = "http.unixSocket.mode", OneOf(&["0600", "0660", "0666"]), "0660";
        /// Group of unix sockets of http.listen, by its name or number. Without it, that of the process.
        group: Option<String> = "http.unixSocket.group", Text, "";
    }
}

/// The users of this machine that may connect to a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketMode {
    /// The owner of the socket.
    Owner,
    /// The owner and the group.
    Group,
    /// Everyone on this machine.
    Everyone,
}

impl SocketMode {
    /// The rights as the file system has them.
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
            Self::Everyone => 0o666,
        }
    }
}

/// The addresses that the registry listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// Every address of the machine, IPv4 and IPv6. Written as the empty string, as in Go.
    All,
    /// The addresses of the name `localhost`.
    Localhost,
    /// This address.
    Ip(IpAddr),
}

impl Address {
    /// Whether only this machine can connect.
    pub(crate) const fn is_loopback(self) -> bool {
        match self {
            Self::All => false,
            Self::Localhost => true,
            Self::Ip(ip) => ip.is_loopback(),
        }
    }
}

section! {
    /// How users sign in.
    Auth {
        /// Htpasswd file with users and bcrypt passwords, in addition to coracle's own users. Read again when it changes.
        htpasswd: Option<PathBuf> = "http.auth.htpasswd.path", Path, "";
        /// Whether users can create API keys. Always true with identity providers.
        api_keys: bool = "http.auth.apikey", Bool, "true";
        /// How many API keys one user may have.
        keys_per_user: usize = "http.auth.keys.maxPerUser", Kind::AT_LEAST_ONE, "100";
        /// Longest lifetime of an API key. 0 for no limit.
        key_lifetime: Option<Duration> = "http.auth.keys.maxLifetime", Kind::duration("0s", "87600h"), "0s";
        /// How long an unused session stays valid.
        session_idle_timeout: Duration = "http.auth.session.idleTimeout", Kind::LIMIT, "2h";
        /// How long a session stays valid.
        session_lifetime: Duration = "http.auth.session.lifetime", Kind::LIMIT, "168h";
        /// How long an access token of /v2/auth is valid. Some clients use one token for a whole push.
        token_lifetime: Duration = "http.auth.token.lifetime", Kind::duration("60s", "24h"), "1h";
        /// Issuer named in access tokens.
        token_issuer: String = "http.auth.token.issuer", Text, "coracle";
        /// Names of this registry that clients may ask access tokens for, in addition to its host. The first one is the
        /// audience of the tokens.
        token_services: Vec<String> = "http.auth.token.services", Texts, "[]";
        /// Issuers of ID tokens for workloads, which are accepted as bearer token and as password.
        workload_issuers: Vec<WorkloadIssuer> = "http.auth.bearer.oidc", List, "[]";
        nested {
            /// An external token issuer, whose tokens are accepted.
            bearer: Option<Bearer> = Section::read_if_complete;
            /// Identity providers.
            openid: Option<OpenId> = openid::read;
            /// The directory whose users may sign in.
            ldap: Option<Ldap> = ldap::read;
        }
    }
}

section! {
    /// Limits of one server.
    Limits {
        /// Open connections, and requests in flight. For a connection beyond the limit, the one that is idle longest is
        /// closed. A request beyond the limit waits, and gets 503 after 10 seconds.
        max_connections: usize = "http.limits.maxConnections", Kind::Int { least: 1, most: 1_000_000 }, "1024";
        /// The same for one address (IPv6: /56), except a trusted proxy. 0 for three quarters of maxConnections.
        max_connections_per_address: usize = "http.limits.maxConnectionsPerAddress", Kind::Int { least: 0, most: 1_000_000 }, "0";
        /// How long the head of a request may take.
        header_timeout: Duration = "http.limits.headerTimeout", Kind::duration("1ms", "1h"), "30s";
        /// How long a connection is kept open between requests.
        idle_timeout: Duration = "http.limits.idleTimeout", Kind::duration("1ms", "24h"), "120s";
        /// How long the body of a request or response may pause.
        body_idle_timeout: Duration = "http.limits.bodyIdleTimeout", Kind::duration("1ms", "24h"), "60s";
        /// Largest manifest that is accepted, in bytes or as a size such as 8MiB.
        max_manifest_size: usize = "http.limits.maxManifestSize", Size { least: 4 << 20, most: 64 << 20 }, "4MiB";
        /// How long requests may continue after the registry was told to stop.
        shutdown_timeout: Duration = "http.limits.shutdownTimeout", Kind::duration("1ms", "1h"), "30s";
    }
}

section! {
    /// The log.
    Log {
        /// Least severe message that is logged. "panic" and "fatal" count as "error".
        level: LogLevel = "log.level", OneOf(&["panic", "fatal", "error", "warn", "info", "debug", "trace"]), "info";
        /// Format of a message: one line of text, or one JSON object.
        format: LogFormat = "log.format", OneOf(&["text", "json"]), "text";
        /// File to append the log to. Without it, standard error.
        output: Option<PathBuf> = "log.output", Path, "";
        /// File to append every change to, as a line of JSON. Readable only for its owner; created again after rotation.
        audit: Option<PathBuf> = "log.audit", Path, "";
    }
}

/// How severe a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// A request or a background task failed.
    Error,
    /// Something is wrong, and the registry continued.
    Warn,
    /// Starting, stopping, requests.
    Info,
    /// Details for finding a fault.
    Debug,
    /// Everything.
    Trace,
}

/// How a message of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// One line of text.
    Text,
    /// One JSON object on one line.
    Json,
}

section! {
    /// Features beyond the distribution specification.
    Extensions {
        nested {
            /// Metrics for Prometheus.
            metrics: Metrics = Section::read;
            /// Checking stored data.
            scrub: Scrub = Section::read;
            /// Mirrors of other registries.
            sync: Sync = Section::read;
            /// Events about changes, sent to other servers.
            events: Events = Section::read;
            /// Annotations that images must have.
            lint: Lint = Section::read;
            /// Search for zot's web page and command line.
            search: Search = Section::read;
            /// zot's web page.
            ui: Ui = Section::read;
            /// Traces of requests, sent to a collector of OpenTelemetry.
            traces: Traces = Section::read;
        }
    }
}

section! {
    /// Annotations that images must have.
    Lint {
        /// Whether a push of an image without them gets 400. Indexes, signatures and other referrers need none.
        enable: bool = "extensions.lint.enable", Bool, "false";
        /// Annotations that an image must have in its manifest, or as labels in its config.
        mandatory_annotations: Vec<String> = "extensions.lint.mandatoryAnnotations", Texts, "[]";
    }
}

section! {
    /// Search for zot's web page and command line.
    Search {
        /// Whether zot's search is offered, with the route that describes the ways to sign in. The default is true if
        /// extensions.search is present.
        enable: bool = "extensions.search.enable", Bool, "false";
    }
}

section! {
    /// zot's web page.
    Ui {
        /// Whether users can star and bookmark repositories, and the page of extensions.ui.directory is served. The
        /// default is true if extensions.ui is present.
        enable: bool = "extensions.ui.enable", Bool, "false";
        /// Directory of zot's web page as it is built. It is served at /, and read once at the start. Without it, only
        /// the pages at /ui/ are served.
        directory: Option<PathBuf> = "extensions.ui.directory", Path, "";
    }
}

section! {
    /// Metrics for Prometheus.
    Metrics {
        /// Whether metrics are served for Prometheus.
        enable: bool = "extensions.metrics.enable", Bool, "true";
        /// Path of the metrics.
        path: String = "extensions.metrics.prometheus.path", UrlPath, "/metrics";
    }
}

section! {
    /// Checking stored data from time to time: blobs against their digests, and rows against each other.
    Scrub {
        /// Whether stored data is checked. The default is true if extensions.scrub is present.
        enable: bool = "extensions.scrub.enable", Bool, "false";
        /// How long after one scrub the next one starts. Blobs that were checked within this time are skipped.
        interval: Duration = "extensions.scrub.interval", Kind::duration("1m", "87600h"), "24h";
        /// How many bytes a scrub reads per second.
        rate: u64 = "extensions.scrub.rate", Size { least: 1024, most: 1 << 40 }, "32MiB";
    }
}

section! {
    /// One deliberate difference from zot.
    Difference {
        /// Method and path of the request.
        route: String = "differences.*.route", Text, "required";
        /// Response of zot.
        zot: String = "differences.*.zot", Text, "required";
        /// Response of coracle.
        coracle: String = "differences.*.coracle", Text, "required";
        /// Why coracle responds differently.
        why: String = "differences.*.why", Text, "required";
        /// Name of the test that checks the difference.
        check: String = "differences.*.check", Text, "required";
    }
}

impl Config {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut config = Self::read(settings);
        config.http.auth.key_lifetime.take_if(|limit| limit.is_zero());
        // A federated user has no password, and needs API keys on the command line.
        config.http.auth.api_keys |= config.http.auth.openid.is_some();
        config.extensions.sync.enable = settings.given("extensions.sync") == Some(&Setting::Bool(true));
        config.extensions.events.enable = settings.given("extensions.events") == Some(&Setting::Bool(true));
        config.extensions.scrub.enable = settings.given("extensions.scrub") == Some(&Setting::Bool(true));
        config.extensions.search.enable = settings.given("extensions.search") == Some(&Setting::Bool(true));
        config.extensions.ui.enable = settings.given("extensions.ui") == Some(&Setting::Bool(true));
        config
    }
}

from_setting! {
    SinkKind: Setting::Text(word) => match word.as_str() {
        "http" => Some(Self::Http),
        "nats" => Some(Self::Nats),
        _ => None,
    };
    WhoseCredentials: Setting::Text(word) => match word.as_str() {
        "own" => Some(Self::Own),
        "client" => Some(Self::Client),
        _ => None,
    };
    Profile: Setting::Text(word) => match word.as_str() {
        "coracle" => Some(Self::Coracle),
        "zot" => Some(Self::Zot),
        _ => None,
    };
    Address: Setting::Text(address) => match address.as_str() {
        "" => Some(Self::All),
        "localhost" => Some(Self::Localhost),
        address => address.parse().ok().map(Self::Ip),
    };
    SocketMode: Setting::Text(word) => match word.as_str() {
        "0600" => Some(Self::Owner),
        "0660" => Some(Self::Group),
        "0666" => Some(Self::Everyone),
        _ => None,
    };
    LogLevel: Setting::Text(word) => match word.as_str() {
        "panic" | "fatal" | "error" => Some(Self::Error),
        "warn" => Some(Self::Warn),
        "info" => Some(Self::Info),
        "debug" => Some(Self::Debug),
        "trace" => Some(Self::Trace),
        _ => None,
    };
    LogFormat: Setting::Text(word) => match word.as_str() {
        "text" => Some(Self::Text),
        "json" => Some(Self::Json),
        _ => None,
    };
    Option<TimeWindow>: Setting::Text(text) => Some(text.parse().ok());
    AllowedOrigins: Setting::Text(text) => text.parse().ok();
    // An invalid place has been reported, and there is no configuration then.
    Vec<Listen>: Setting::Texts(texts) => Some(texts.iter().filter_map(|text| text.parse().ok()).collect());
    // An invalid network has been reported, and there is no configuration then.
    Vec<Network>: Setting::Texts(texts) => Some(texts.iter().filter_map(|text| text.parse().ok()).collect());
}
