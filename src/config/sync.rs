//! `extensions.sync`: the registries that are mirrored.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::check::{check_file, names_in};
use super::keys::Row;
use super::kind::Kind::{self, Bool, List, OneOf, Path, Text, Texts};
use super::settings::{Section, Setting, Settings, section};
use super::walk::Findings;
use crate::oci::{RepositoryPattern, TagRule};

const REGISTRIES: &str = "extensions.sync.registries";
const MIRROR: &str = "extensions.sync.mirror";
const POLL_INTERVAL: &str = "extensions.sync.registries.*.pollInterval";
const ON_DEMAND: &str = "extensions.sync.registries.*.onDemand";
const TAGS_REGEX: &str = "extensions.sync.registries.*.content.*.tags.regex";
const TAGS_EXCLUDE: &str = "extensions.sync.registries.*.content.*.tags.excludeRegex";
const CERT_DIR: &str = "extensions.sync.registries.*.certDir";
const PLATFORMS: &str = "extensions.sync.registries.*.platforms";
const URLS: &str = "extensions.sync.registries.*.urls";
const PREFIX: &str = "extensions.sync.registries.*.content.*.prefix";
/// A shorter interval is probably a mistake.
const POLL_INTERVAL_MIN: Duration = Duration::from_mins(1);
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
        /// Most bytes of mirrored content. Beyond it, what was not used for the longest time is removed, down to nine tenths
        /// of it. Pushed content does not count. 0 means no limit.
        size_limit: u64 = "extensions.sync.sizeLimit", Kind::ANY_SIZE, "0";
        /// Registries to mirror under other names, or with other settings.
        registries: Vec<SyncRegistry> = "extensions.sync.registries", List, "[]";
    }
}

section! {
    /// A registry to mirror.
    SyncRegistry {
        /// Name of the registry, such as docker.io, if its addresses are others. Clients name it so, and without content its
        /// repositories appear below this name.
        host: Option<String> = "extensions.sync.registries.*.host", Text, "";
        /// Addresses of the registry. A further one is used if those before it fail or lack the content.
        urls: Vec<String> = "extensions.sync.registries.*.urls", Texts, "required";
        /// Whether missing content is fetched when a client requests it.
        on_demand: bool = "extensions.sync.registries.*.onDemand", Bool, "false";
        /// How often all content that the rules name is fetched, such as 6h. With 0s, only on demand.
        poll_interval: Duration = "extensions.sync.registries.*.pollInterval", Kind::duration("0s", "87600h"), "0s";
        /// Platforms to synchronise, such as linux/amd64. Without it, all. The others are fetched when a client requests
        /// them by digest.
        platforms: Vec<String> = "extensions.sync.registries.*.platforms", Texts, "[]";
        /// Whether images without a signature of cosign or notation are left out. Signatures are not verified.
        only_signed: bool = "extensions.sync.registries.*.onlySigned", Bool, "false";
        /// Whether signatures come along that cosign stores under tags.
        signature_tags: bool = "extensions.sync.registries.*.syncLegacyCosignTags", Bool, "true";
        /// Longest time for one image in a synchronisation.
        sync_timeout: Duration = "extensions.sync.registries.*.syncTimeout", Kind::duration("1s", "168h"), "3h";
        /// Whether its certificate is verified.
        tls_verify: bool = "extensions.sync.registries.*.tlsVerify", Bool, "true";
        /// Directory with certificates: *.crt to trust, and client.cert with client.key.
        cert_dir: Option<PathBuf> = "extensions.sync.registries.*.certDir", Path, "";
        /// The credentials for the registry: our own (credentialHelper or credentialsFile), or those of each client. With the
        /// latter, the registry decides who may pull.
        credentials: WhoseCredentials = "extensions.sync.registries.*.credentials", OneOf(&["own", "client"]), "own";
        /// Program that supplies user name and password: docker-credential-<name>. ecr means ecr-login.
        credential_helper: Option<String> = "extensions.sync.registries.*.credentialHelper", Text, "";
        /// Repositories to mirror, and their local names. Without it, all, below host or under the same names.
        content: Vec<SyncContent> = "extensions.sync.registries.*.content", List, "[]";
        /// How often a failed request is repeated.
        max_retries: u64 = "extensions.sync.registries.*.maxRetries", Kind::COUNT, "2";
        /// Pause before the first repetition.
        retry_delay: Duration = "extensions.sync.registries.*.retryDelay", Kind::duration("0s", "1h"), "500ms";
        /// Longest pause before a repetition.
        max_retry_delay: Duration = "extensions.sync.registries.*.maxRetryDelay", Kind::duration("0s", "1h"), "10s";
        /// How long a tag is used before it is compared with the registry again (zot's default is 0).
        check_interval: Duration = "extensions.sync.registries.*.manifestCheckInterval", Kind::duration("0s", "8760h"), "1m";
        /// Tags that never change, such as v*. They are not compared again once they are stored. * stands for any characters,
        /// ? for one.
        immutable_tags: Vec<String> = "extensions.sync.registries.*.immutableTags", Texts, "[]";
        /// Most bytes of content mirrored from this registry, as extensions.sync.sizeLimit.
        size_limit: u64 = "extensions.sync.registries.*.sizeLimit", Kind::ANY_SIZE, "0";
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
        /// Expression that a tag must match to be mirrored. It matches anywhere in the tag, unless it has ^ and $.
        tags_regex: String = "extensions.sync.registries.*.content.*.tags.regex", Text, "";
        /// Expression for tags that are not mirrored.
        tags_exclude: String = "extensions.sync.registries.*.content.*.tags.excludeRegex", Text, "";
        /// Whether only tags that are versions are mirrored, such as 1.2 or v1.2.3-rc.1.
        tags_semver: bool = "extensions.sync.registries.*.content.*.tags.semver", Bool, "false";
        /// Tags that never change, such as v*, in addition to those of the registry.
        immutable_tags: Vec<String> = "extensions.sync.registries.*.content.*.immutableTags", Texts, "[]";
        /// Platforms to synchronise. Without it, those of the registry.
        platforms: Vec<String> = "extensions.sync.registries.*.content.*.platforms", Texts, "[]";
    }
}

impl SyncRegistry {
    /// A registry with the default settings, whose content is mirrored on demand.
    pub(crate) fn of_host(url: String) -> Self {
        let mut settings = Settings::default();
        settings.insert(URLS, Setting::Texts(vec![url]));
        Self { on_demand: true, ..Self::read(&settings) }
    }
}

/// The credentials that an upstream gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhoseCredentials {
    /// Those of this registry.
    #[default]
    Own,
    /// Those of the client whose request is served.
    Client,
}

/// Reports a name that is not a host.
fn check_host(key: &str, host: &str, findings: &mut Findings) {
    let url = Url::parse(&format!("https://{host}/")).ok();
    let is_host = url.is_some_and(|url| url.path() == "/" && url.username().is_empty() && url.query().is_none());
    if !is_host || host.contains(['/', '*', '@']) {
        findings.problem(key, format!("{host:?} is not a host, such as docker.io"));
    } else if host.contains(':') {
        let why = format!(
            "{host:?} has a port, and clients cannot name images below it: set host, such as \"registry.example\", and urls \
             in {REGISTRIES} instead"
        );
        findings.warning(key, why);
    }
}

/// Reports values that are valid one by one and still unusable.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    check_file("extensions.sync.credentialsFile", settings, findings);
    let hosts: Vec<&String> = settings.given_texts(MIRROR).map(|(_, host)| host).collect();
    for (index, host) in hosts.iter().enumerate() {
        check_host(&format!("{MIRROR}[{index}]"), host, findings);
    }
    let registries = match settings.given(REGISTRIES) {
        Some(Setting::List(registries)) => registries.as_slice(),
        _ => &[],
    };
    let named = |registry: &'_ Settings| match registry.given("extensions.sync.registries.*.host") {
        Some(Setting::Text(host)) if !host.is_empty() => Some(host.clone()),
        _ => None,
    };
    if let Some(Setting::Text(host)) = settings.given(BARE_NAMES)
        && !host.is_empty()
        && !hosts.contains(&host)
        && !registries.iter().any(|registry| named(registry).as_ref() == Some(host))
    {
        findings.problem(BARE_NAMES, format!("{host:?} is neither in {MIRROR} nor a host in {REGISTRIES}"));
    }
    for (index, registry) in registries.iter().enumerate() {
        let at = format!("{REGISTRIES}[{index}]");
        if let Some(host) = named(registry) {
            check_host(&format!("{at}.host"), &host, findings);
            if hosts.contains(&&host) {
                findings.problem(&format!("{at}.host"), format!("{host:?} is in {MIRROR}, too: remove one of them"));
            }
        }
        let whose = registry.given("extensions.sync.registries.*.credentials");
        let passes_logins = whose == Some(&Setting::Text("client".to_owned()));
        let helper = registry.given("extensions.sync.registries.*.credentialHelper");
        if let Some(Setting::Text(name)) = helper
            && !name.is_empty()
        {
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
                let why = format!("{name:?} is not the name of a program: docker-credential-<name> is run");
                findings.problem(&format!("{at}.credentialHelper"), why);
            }
            if passes_logins {
                let why = "is not used: credentials = \"client\" uses those of each client";
                findings.warning(&format!("{at}.credentialHelper"), why.to_owned());
            }
        }
        if passes_logins && named(registry).is_some_and(|host| settings.given(BARE_NAMES) == Some(&Setting::Text(host)))
        {
            let why = "bareNames leads here: a password could be one of this registry or of the other one. Give clients names \
                       with the host, or use credentials of your own";
            findings.problem(&format!("{at}.credentials"), why.to_owned());
        }
        if passes_logins && registry.given(ON_DEMAND) != Some(&Setting::Bool(true)) {
            let why = "\"client\" needs onDemand: content that is synchronised has no client";
            findings.problem(&format!("{at}.credentials"), why.to_owned());
        }
        if matches!(registry.given(URLS), Some(Setting::Texts(urls)) if urls.is_empty()) {
            findings.problem(&format!("{at}.urls"), "is empty: name a URL of the registry");
        }
        for (number, url) in registry.given_texts(URLS) {
            let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            if parsed.is_none_or(|url| !url.username().is_empty() || url.password().is_some()) {
                // A password in it must not be printed.
                let shown = if url.contains('@') { "it".to_owned() } else { format!("{url:?}") };
                let why = format!("{shown} is not a URL with http:// or https:// and without a password");
                findings.problem(&format!("{at}.urls[{number}]"), why);
            }
        }
        check_certificates(registry, &at, findings);
        check_platforms(registry, "extensions.sync.registries.*.platforms", &at, findings);
        check_immutable(registry, "extensions.sync.registries.*.immutableTags", &at, findings);
        let contents = match registry.given("extensions.sync.registries.*.content") {
            Some(Setting::List(contents)) => contents.as_slice(),
            _ => &[],
        };
        check_schedule(registry, contents, &at, findings);
        for (number, content) in contents.iter().enumerate() {
            if let Some(Setting::Text(prefix)) = content.given("extensions.sync.registries.*.content.*.prefix")
                && let Err(why) = prefix.trim_matches('/').parse::<RepositoryPattern>()
            {
                findings.problem(&format!("{at}.content[{number}].prefix"), format!("the pattern {prefix:?} {why}"));
            }
            check_tags(content, &format!("{at}.content[{number}]"), findings);
            check_platforms(
                content,
                "extensions.sync.registries.*.content.*.platforms",
                &format!("{at}.content[{number}]"),
                findings,
            );
        }
    }
}

/// Warns of a directory for certificates without any file that is read. The start reports a directory that cannot be
/// read.
fn check_certificates(registry: &Settings, at: &str, findings: &mut Findings) {
    let Some(Setting::Text(directory)) = registry.given(CERT_DIR) else { return };
    let Some(names) = names_in(directory) else { return };
    let is_read = |name: &PathBuf| name.extension().is_some_and(|kind| kind == "crt") || name == "client.cert";
    if !names.iter().any(is_read) {
        let why = format!(
            "\"{directory}\" has no effect: it contains neither *.crt, which are trusted, nor client.cert with \
             client.key, which this registry sends"
        );
        findings.warning(&format!("{at}.certDir"), why);
    }
}

/// Reports a schedule that cannot work or costs too much.
fn check_schedule(registry: &Settings, contents: &[Settings], at: &str, findings: &mut Findings) {
    let interval = match registry.given(POLL_INTERVAL) {
        Some(Setting::Nanoseconds(interval)) => Duration::from_nanos(u64::try_from(*interval).unwrap_or_default()),
        _ => Duration::ZERO,
    };
    let on_demand = registry.given(ON_DEMAND) == Some(&Setting::Bool(true));
    if interval.is_zero() {
        if !on_demand {
            let why = "without it and without pollInterval, nothing is mirrored";
            findings.warning(&format!("{at}.onDemand"), why.to_owned());
        }
        for key in [PLATFORMS] {
            if registry.given(key).is_some() && on_demand {
                let name = key.rsplit('.').next().unwrap_or(key);
                let why = "applies to synchronisation only, and pollInterval is not set";
                findings.warning(&format!("{at}.{name}"), why.to_owned());
            }
        }
        return;
    }
    if interval < POLL_INTERVAL_MIN {
        let why = "every tag costs a request each time: an hour or more is usual";
        findings.warning(&format!("{at}.pollInterval"), why.to_owned());
    }
    let is_everything = |content: &Settings| match content.given(PREFIX) {
        Some(Setting::Text(prefix)) => prefix.trim_matches('/') == "**",
        _ => true,
    };
    let is_hub = registry.given_texts(URLS).any(|(_, url)| {
        let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
        host.is_some_and(|host| host == "docker.io" || host.ends_with(".docker.io") || host == "ghcr.io")
    });
    let has_wildcard = |content: &Settings| match content.given(PREFIX) {
        Some(Setting::Text(prefix)) => {
            prefix.trim_matches('/').parse::<RepositoryPattern>().is_ok_and(|pattern| pattern.literals().is_none())
        }
        _ => true,
    };
    if is_hub && (contents.is_empty() || contents.iter().any(has_wildcard)) {
        let why = "this registry does not list its repositories: name those to synchronise in content.*.prefix without \
                   wildcards";
        findings.problem(&format!("{at}.content"), why.to_owned());
    } else if contents.is_empty() || contents.iter().any(is_everything) {
        let why = "the whole registry is synchronised: name its repositories in content.*.prefix to limit it";
        findings.warning(&format!("{at}.content"), why.to_owned());
    }
}

/// Reports rules for tags that cannot be used.
fn check_tags(content: &Settings, at: &str, findings: &mut Findings) {
    for key in [TAGS_REGEX, TAGS_EXCLUDE] {
        if let Some(Setting::Text(text)) = content.given(key)
            && let Err(error) = TagRule::new(text, "", false)
        {
            let name = key.rsplit('.').next().unwrap_or(key);
            findings.problem(&format!("{at}.tags.{name}"), format!("the expression {error}"));
        }
    }
    check_immutable(content, "extensions.sync.registries.*.content.*.immutableTags", at, findings);
}

fn check_immutable(settings: &Settings, key: &str, at: &str, findings: &mut Findings) {
    for (number, text) in settings.given_texts(key) {
        if let Err(error) = TagRule::default().with_immutable([text]) {
            findings.problem(&format!("{at}.immutableTags[{number}]"), format!("the pattern {error}"));
        }
    }
}

fn check_platforms(settings: &Settings, key: &str, at: &str, findings: &mut Findings) {
    for (number, text) in settings.given_texts(key) {
        let words: Vec<&str> = text.split('/').collect();
        let is_word = |word: &&str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
        };
        if !matches!(words.len(), 2 | 3) || !words.iter().all(is_word) {
            let why = format!("{text:?} is not a platform, such as linux/amd64 or linux/arm/v7");
            findings.problem(&format!("{at}.platforms[{number}]"), why);
        }
    }
}
