//! `extensions.sync`: the registries that are mirrored.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::check::check_file;
use super::keys::Row;
use super::kind::Kind::{self, Bool, List, Path, Text, Texts};
use super::settings::{Section, Setting, Settings, section};
use super::walk::Findings;
use crate::oci::RepositoryPattern;

const REGISTRIES: &str = "extensions.sync.registries";
const MIRROR: &str = "extensions.sync.mirror";
const BARE_NAMES: &str = "extensions.sync.bareNames";

section! {
    /// Mirrors of other registries.
    Sync {
        /// Whether other registries are mirrored. The default is true if extensions.sync is present.
        enable: bool = "extensions.sync.enable", Bool, "false";
        /// Hosts of registries to mirror on demand, such as docker.io. Their repositories appear below the host, such as
        /// docker.io/library/busybox.
        mirror: Vec<String> = "extensions.sync.mirror", Texts, "[]";
        /// Host in mirror that a name belongs to which this registry does not have. Docker's daemon sends names without a
        /// host.
        bare_names: Option<String> = "extensions.sync.bareNames", Text, "";
        /// File with user names and passwords for other registries, by host, in the format of zot or of docker.
        credentials_file: Option<PathBuf> = "extensions.sync.credentialsFile", Path, "";
        /// Token services on other domains that may get these credentials: their hosts.
        token_hosts: Vec<String> = "extensions.sync.tokenHosts", Texts, "[]";
        /// Registries to mirror under other names, or with other settings.
        registries: Vec<SyncRegistry> = "extensions.sync.registries", List, "[]";
    }
}

section! {
    /// A registry to mirror.
    SyncRegistry {
        /// Addresses of the registry. A further one is used if those before it fail or lack the content.
        urls: Vec<String> = "extensions.sync.registries.*.urls", Texts, "required";
        /// Whether missing content is fetched when a client requests it.
        on_demand: bool = "extensions.sync.registries.*.onDemand", Bool, "false";
        /// Whether its certificate is verified.
        tls_verify: bool = "extensions.sync.registries.*.tlsVerify", Bool, "true";
        /// Directory with certificates: *.crt to trust, and client.cert with client.key.
        cert_dir: Option<PathBuf> = "extensions.sync.registries.*.certDir", Path, "";
        /// Repositories to mirror, and their local names. Without it, all, under the same names.
        content: Vec<SyncContent> = "extensions.sync.registries.*.content", List, "[]";
        /// How often a failed request is repeated.
        max_retries: u64 = "extensions.sync.registries.*.maxRetries", Kind::COUNT, "2";
        /// Pause before the first repetition.
        retry_delay: Duration = "extensions.sync.registries.*.retryDelay", Kind::duration("0s", "1h"), "500ms";
        /// Longest pause before a repetition.
        max_retry_delay: Duration = "extensions.sync.registries.*.maxRetryDelay", Kind::duration("0s", "1h"), "10s";
        /// How long a tag is used before it is compared with the registry again (zot's default is 0).
        check_interval: Duration = "extensions.sync.registries.*.manifestCheckInterval", Kind::duration("0s", "8760h"), "1m";
        /// Requests at a time (zot's default is 3).
        concurrency: u64 = "extensions.sync.registries.*.reqConcurrent", Kind::COUNT, "16";
        /// Whether only HTTP/1.1 is used.
        disable_http2: bool = "extensions.sync.registries.*.disableHTTP2", Bool, "false";
        /// Idle connections that stay open.
        idle_connections: u64 = "extensions.sync.registries.*.maxIdleConnsPerHost", Kind::COUNT, "8";
    }
}

section! {
    /// Repositories of a registry that is mirrored, and their local names.
    SyncContent {
        /// Pattern of repositories of the other registry.
        prefix: String = "extensions.sync.registries.*.content.*.prefix", Text, "**";
        /// Beginning of the local names.
        destination: String = "extensions.sync.registries.*.content.*.destination", Text, "/";
        /// Whether the prefix is removed from the local names.
        strip_prefix: bool = "extensions.sync.registries.*.content.*.stripPrefix", Bool, "false";
    }
}

impl SyncRegistry {
    /// A registry with the default settings, whose content is mirrored on demand.
    pub(crate) fn of_host(url: String) -> Self {
        Self { urls: vec![url], on_demand: true, ..Self::read(&Settings::default()) }
    }
}

/// Reports values that are valid one by one and still unusable.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    check_file("extensions.sync.credentialsFile", settings, findings);
    let hosts: Vec<&String> = settings.given_texts(MIRROR).map(|(_, host)| host).collect();
    for (index, host) in hosts.iter().enumerate() {
        let url = Url::parse(&format!("https://{host}/")).ok();
        let is_host = url.is_some_and(|url| url.path() == "/" && url.username().is_empty() && url.query().is_none());
        if !is_host || host.contains(['/', '*', '@']) {
            findings.problem(&format!("{MIRROR}[{index}]"), format!("{host:?} is not a host, such as docker.io"));
        }
    }
    if let Some(Setting::Text(host)) = settings.given(BARE_NAMES)
        && !host.is_empty()
        && !hosts.contains(&host)
    {
        findings.problem(BARE_NAMES, format!("{host:?} is not in {MIRROR}"));
    }
    let registries = match settings.given(REGISTRIES) {
        Some(Setting::List(registries)) => registries.as_slice(),
        _ => &[],
    };
    for (index, registry) in registries.iter().enumerate() {
        let at = format!("{REGISTRIES}[{index}]");
        for (number, url) in registry.given_texts("extensions.sync.registries.*.urls") {
            let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            if parsed.is_none_or(|url| !url.username().is_empty() || url.password().is_some()) {
                let why = format!("{url:?} is not a URL with http:// or https:// and without a password");
                findings.problem(&format!("{at}.urls[{number}]"), why);
            }
        }
        if registry.given("extensions.sync.registries.*.onDemand") != Some(&Setting::Bool(true)) {
            findings.warning(&format!("{at}.onDemand"), "without it, nothing is mirrored".to_owned());
        }
        let contents = match registry.given("extensions.sync.registries.*.content") {
            Some(Setting::List(contents)) => contents.as_slice(),
            _ => &[],
        };
        for (number, content) in contents.iter().enumerate() {
            if let Some(Setting::Text(prefix)) = content.given("extensions.sync.registries.*.content.*.prefix")
                && let Err(why) = prefix.trim_matches('/').parse::<RepositoryPattern>()
            {
                findings.problem(&format!("{at}.content[{number}].prefix"), format!("the pattern {prefix:?} {why}"));
            }
        }
    }
}
