//! The mirror of a registry, from its configuration. Sends no request.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use url::Url;

use super::{Error, Shared};
use crate::config::{Sync, SyncContent, SyncRegistry, WhoseCredentials};
use crate::content::repository::Stores;
use crate::kit::metrics::Metrics;
use crate::kit::outgoing::Trust;
use crate::mirror::client::{Client, Credentials, Helper, Login, Settings, TransportSettings, host_of};
use crate::mirror::{
    Advice, HUB_URL, Limit, Mirror, NameRule, Ownership, Platforms, RemoteImages, SyncRules, Upstream, is_hub,
    is_same_host,
};
use crate::oci::TagRule;

/// The longest pause between two parts of a body.
const IDLE: Duration = Duration::from_secs(30);

/// The upstreams of the configuration and of a takeover.
pub(super) fn upstreams(
    sync: &Sync,
    takeover: Option<&RemoteImages>,
    metrics: &Metrics,
) -> Result<Vec<Upstream>, Error> {
    let mut upstreams = if sync.enable { configured(sync, metrics)? } else { Vec::new() };
    if let Some(images) = takeover {
        let rule = images.rule(None, None).map_err(|why| Error::setting("--takeover-from", why))?;
        let mut upstream = upstream(sync, &foreign(sync, images), hosts_of(images), vec![rule], metrics)?;
        upstream.sync_rules.ownership = Ownership::Own { overwrite: false };
        upstreams.push(upstream);
    }
    Ok(upstreams)
}

/// The mirror, if anything is mirrored. A stop of the registry waits for `work`.
pub(super) fn open(sync: &Sync, upstreams: Vec<Upstream>, stores: &Arc<Stores>, work: &TaskTracker) -> Option<Mirror> {
    if upstreams.is_empty() {
        return None;
    }
    let limit = Limit::new(sync.size_limit);
    Some(Mirror::new(upstreams, sync.bare_names.clone(), limit, Arc::clone(stores), work.clone()))
}

/// The upstreams of the configuration.
fn configured(sync: &Sync, metrics: &Metrics) -> Result<Vec<Upstream>, Error> {
    let mut upstreams = Vec::new();
    for host in &sync.mirror {
        let registry = SyncRegistry::of_host(if is_hub(host) { HUB_URL.to_owned() } else { format!("https://{host}") });
        let rule = NameRule::new("**", host, false, is_hub(host)).map_err(|why| invalid("mirror", why))?;
        upstreams.push(upstream(sync, &registry, vec![host.clone()], vec![rule], metrics)?);
    }
    let is_used = |registry: &&SyncRegistry| registry.on_demand || !registry.poll_interval.is_zero();
    for registry in sync.registries.iter().filter(is_used) {
        let hosts: Vec<String> = hosts(registry).collect();
        let is_hub = hosts.iter().any(|host| is_hub(host));
        let rule = |content: &SyncContent| {
            let platforms = if content.platforms.is_empty() { &registry.platforms } else { &content.platforms };
            let platforms = Platforms::parse(platforms).map_err(|why| invalid("registries.*.platforms", why))?;
            let tags = TagRule::new(&content.tags_regex, &content.tags_exclude, content.tags_semver)
                .and_then(|rule| rule.with_immutable(registry.immutable_tags.iter().chain(&content.immutable_tags)))
                .map_err(|why| invalid("registries.*.content.*.tags", why))?;
            NameRule::new(&content.prefix, &content.destination, content.strip_prefix, is_hub)
                .map(|rule| rule.with_platforms(platforms).with_tags(tags))
                .map_err(|why| invalid("registries.*.content.*.prefix", why))
        };
        let mut rules = registry.content.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
        if rules.is_empty() {
            let platforms =
                Platforms::parse(&registry.platforms).map_err(|why| invalid("registries.*.platforms", why))?;
            let destination = registry.host.as_deref().unwrap_or_default();
            let rule = NameRule::new("**", destination, false, is_hub).map_err(|why| invalid("registries", why))?;
            let tags = TagRule::default().with_immutable(&registry.immutable_tags);
            let tags = tags.map_err(|why| invalid("registries.*.immutableTags", why))?;
            rules.push(rule.with_platforms(platforms).with_tags(tags));
        }
        upstreams.push(upstream(sync, registry, hosts, rules, metrics)?);
    }
    Ok(upstreams)
}

/// The hosts by which a registry of the configuration is named: its own one, and those of its URLs.
fn hosts(registry: &SyncRegistry) -> impl Iterator<Item = String> {
    registry.host.iter().cloned().chain(hosts_of_urls(registry))
}

fn hosts_of_urls(registry: &SyncRegistry) -> impl Iterator<Item = String> {
    registry.urls.iter().filter_map(|url| Url::parse(url).ok()).map(|url| host_of(&url))
}

impl Shared {
    /// Another registry whose images become content of this one. If the configuration mirrors that registry, its settings
    /// for the connection apply. `searched` are the files in which the command looked for `login`. It was in the last
    /// one.
    pub(crate) fn source(
        &self,
        images: &RemoteImages,
        rule: NameRule,
        overwrite: bool,
        login: Option<Login>,
        mut searched: Vec<String>,
    ) -> Result<Mirror, Error> {
        let sync = &self.config().extensions.sync;
        let (registry, rules) = (foreign(sync, images), vec![rule.with_tags(TagRule::default())]);
        let mut upstream = upstream(sync, &registry, hosts_of(images), rules, &Metrics::new())?;
        upstream.sync_rules.ownership = Ownership::Own { overwrite };
        let host = images.host();
        if let Some(login) = login {
            upstream.clients = upstream.clients.iter().map(|client| client.with_login(login.clone())).collect();
            upstream.advice.other_credentials = format!(
                "check the credentials for {host} in {}: `podman login {host}` or `docker login {host}` replaces \
                 them, and --authfile names another file",
                searched.last().map_or("the file", String::as_str)
            );
        }
        searched.extend(match (&registry.credential_helper, &sync.credentials_file) {
            (Some(helper), _) => Some(format!("credentialHelper {helper}")),
            (None, file) => file.as_ref().map(|file| file.display().to_string()),
        });
        let places = if searched.is_empty() { String::new() } else { format!(" in {}", searched.join(", ")) };
        upstream.advice.no_credentials = format!(
            "no credentials for {host} were found{places}: run `podman login {host}` or `docker login {host}`, or \
             name a file with --authfile"
        );
        let limit = Limit::new(0);
        Ok(Mirror::new(vec![upstream], None, limit, Arc::clone(self.stores()), self.work().clone()))
    }
}

/// The settings for a registry that the command line names. If an upstream of the configuration has a URL at the same host,
/// its settings for the connection apply. Requests go to the named URL only, because the credentials are for its host.
/// Images without a signature come along, and so do signatures under tags.
fn foreign(sync: &Sync, images: &RemoteImages) -> SyncRegistry {
    let host = Url::parse(&images.url).map(|url| host_of(&url)).unwrap_or_default();
    let is_at = |registry: &&SyncRegistry| hosts_of_urls(registry).any(|known| is_same_host(&known, &host));
    let configured = sync.registries.iter().find(is_at).cloned();
    SyncRegistry {
        urls: vec![images.url.clone()],
        credentials: WhoseCredentials::Own,
        on_demand: true,
        only_signed: false,
        signature_tags: true,
        poll_interval: Duration::ZERO,
        ..configured.unwrap_or_else(|| SyncRegistry::of_host(images.url.clone()))
    }
}

fn hosts_of(images: &RemoteImages) -> Vec<String> {
    vec![images.host().to_owned()]
}

fn upstream(
    sync: &Sync,
    registry: &SyncRegistry,
    hosts: Vec<String>,
    rules: Vec<NameRule>,
    metrics: &Metrics,
) -> Result<Upstream, Error> {
    let trust = Trust { accepts_any: !registry.tls_verify, ..trust(registry.cert_dir.as_deref())? };
    let client = |url: &String| {
        let settings = Settings {
            url: Url::parse(url).map_err(|error| invalid("registries.*.urls", error))?,
            transport: TransportSettings {
                trust: trust.clone(),
                http2: !registry.disable_http2,
                idle_connections: usize::try_from(registry.idle_connections).unwrap_or(usize::MAX),
                ..TransportSettings::default()
            },
            credentials: credentials(sync, registry)?,
            token_hosts: sync.token_hosts.clone(),
            concurrency: usize::try_from(registry.concurrency).unwrap_or(usize::MAX),
            idle: IDLE,
            retries: u32::try_from(registry.max_retries).unwrap_or(u32::MAX),
            retry_delay: registry.retry_delay,
            retry_delay_max: registry.max_retry_delay,
        };
        Client::new(settings).map_err(|error| invalid("registries", error))
    };
    let clients = registry.urls.iter().map(client).collect::<Result<_, _>>()?;
    let sync_rules = SyncRules {
        interval: Some(registry.poll_interval).filter(|interval| !interval.is_zero()),
        only_signed: registry.only_signed,
        signature_tags: registry.signature_tags,
        timeout: registry.sync_timeout,
        ownership: Ownership::Mirrored,
    };
    let counters = metrics.upstream_counters(hosts.first().map_or("", String::as_str));
    Ok(Upstream {
        hosts,
        clients,
        rules,
        check_interval: registry.check_interval,
        on_demand: registry.on_demand,
        sync_rules,
        sync: Arc::default(),
        limit: Arc::new(Limit::new(registry.size_limit)),
        passes_logins: registry.credentials == WhoseCredentials::Client,
        counters,
        advice: advice(sync, registry),
    })
}

/// The next steps for an upstream of the configuration.
fn advice(sync: &Sync, registry: &SyncRegistry) -> Advice {
    let url = registry.urls.iter().find_map(|url| Url::parse(url).ok());
    let host = url.map(|url| host_of(&url)).unwrap_or_default();
    let (no_credentials, other_credentials) = match (&registry.credential_helper, &sync.credentials_file) {
        _ if registry.credentials == WhoseCredentials::Client => {
            let text =
                format!("credentials = \"client\" uses those of each client, and no credentials for {host} are here");
            (text.clone(), text)
        }
        (Some(helper), _) => (
            format!("credentialHelper {helper} has no credentials for {host}: store them with it"),
            format!("check the credentials for {host} of credentialHelper {helper}"),
        ),
        (None, Some(file)) => (
            format!("add credentials for {host} to {} (extensions.sync.credentialsFile)", file.display()),
            format!("check the credentials for {host} in {} (extensions.sync.credentialsFile)", file.display()),
        ),
        (None, None) => {
            let text = format!("name a file with credentials for {host} in extensions.sync.credentialsFile");
            (text.clone(), text)
        }
    };
    let directory = match &registry.cert_dir {
        Some(directory) => format!("put its file as NAME.crt into {}", directory.display()),
        None => "name a directory with its file NAME.crt".to_owned(),
    };
    let certificate = format!(
        "to trust a self-signed certificate, or an authority of your own, {directory} \
         (extensions.sync.registries.*.certDir for {host}), or add it to the certificates that the system trusts"
    );
    Advice { no_credentials, other_credentials, certificate }
}

/// The credentials of this registry for an upstream. It has no own ones if those of each client are used.
fn credentials(sync: &Sync, registry: &SyncRegistry) -> Result<Credentials, Error> {
    if registry.credentials == WhoseCredentials::Client {
        return Ok(Credentials::default());
    }
    if let Some(name) = &registry.credential_helper {
        let helper = Helper::new(name).map_err(|why| invalid("registries.*.credentialHelper", why))?;
        return Ok(Credentials::helper(helper));
    }
    Ok(sync.credentials_file.clone().map(Credentials::file).unwrap_or_default())
}

/// The certificates in a directory, as docker and podman read them: `*.crt` are trusted, and `client.cert` with
/// `client.key` is the identity of the registry.
fn trust(directory: Option<&Path>) -> Result<Trust, Error> {
    let Some(directory) = directory else { return Ok(Trust::default()) };
    let unreadable = |error| invalid("registries.*.certDir", format!("cannot read {}: {error}", directory.display()));
    let mut trust = Trust::default();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "crt") {
            trust.authorities.push(path);
        }
    }
    trust.authorities.sort_unstable();
    let identity = (directory.join("client.cert"), directory.join("client.key"));
    trust.identity = identity.0.exists().then_some(identity);
    Ok(trust)
}

fn invalid(key: &str, why: impl std::fmt::Display) -> Error {
    Error::setting("extensions.sync", format!("{key}: {why}"))
}
