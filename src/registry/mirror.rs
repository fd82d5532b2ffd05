//! The mirror of a registry, from its configuration. Sends no request.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::Error;
use crate::config::{Sync, SyncContent, SyncRegistry};
use crate::content::repository::Stores;
use crate::kit::outgoing::Trust;
use crate::mirror::client::{Client, Credentials, Settings, TransportSettings, host_of};
use crate::mirror::{Mirror, NameRule, Upstream, is_hub};

/// The longest pause between two parts of a body.
const IDLE: Duration = Duration::from_secs(30);
/// The address of Docker Hub.
const HUB_URL: &str = "https://registry-1.docker.io";

/// The mirror, if anything is mirrored on demand.
pub(super) fn open(sync: &Sync, stores: &Arc<Stores>) -> Result<Option<Mirror>, Error> {
    if !sync.enable {
        return Ok(None);
    }
    let mut upstreams = Vec::new();
    for host in &sync.mirror {
        let registry = SyncRegistry::of_host(if is_hub(host) { HUB_URL.to_owned() } else { format!("https://{host}") });
        let rule = NameRule::new("**", host, false, is_hub(host)).map_err(|why| invalid("mirror", why))?;
        upstreams.push(upstream(sync, &registry, vec![host.clone()], vec![rule])?);
    }
    for registry in sync.registries.iter().filter(|registry| registry.on_demand) {
        let hosts: Vec<String> =
            registry.urls.iter().filter_map(|url| Url::parse(url).ok()).map(|url| host_of(&url)).collect();
        let is_hub = hosts.iter().any(|host| is_hub(host));
        let rule = |content: &SyncContent| {
            NameRule::new(&content.prefix, &content.destination, content.strip_prefix, is_hub)
                .map_err(|why| invalid("registries.*.content.*.prefix", why))
        };
        let mut rules = registry.content.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
        if rules.is_empty() {
            rules.push(NameRule::new("**", "", false, is_hub).map_err(|why| invalid("registries", why))?);
        }
        upstreams.push(upstream(sync, registry, hosts, rules)?);
    }
    Ok((!upstreams.is_empty()).then(|| Mirror::new(upstreams, sync.bare_names.clone(), Arc::clone(stores))))
}

fn upstream(sync: &Sync, registry: &SyncRegistry, hosts: Vec<String>, rules: Vec<NameRule>) -> Result<Upstream, Error> {
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
            credentials: sync.credentials_file.clone().map_or(Credentials::None, Credentials::File),
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
    Ok(Upstream { hosts, clients, rules, check_interval: registry.check_interval })
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
