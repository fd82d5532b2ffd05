//! The settings of clients that pull through the mirror, as files to copy.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Shared;
use crate::config::{Address, Listen};
use crate::mirror::{Upstream, is_hub};

/// A client that can pull through a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub(crate) enum MirrorClient {
    Containerd,
    Docker,
    Podman,
    K3s,
}

/// A file of a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ClientSettings {
    /// Where the client looks for it.
    pub(crate) path: String,
    pub(crate) content: String,
    /// The next steps, and the limits.
    pub(crate) notes: Vec<String>,
}

/// The address of the registry for clients.
struct Reached {
    host: String,
    is_https: bool,
}

impl Reached {
    fn url(&self) -> String {
        format!("{}://{}", if self.is_https { "https" } else { "http" }, self.host)
    }
}

impl Shared {
    /// The settings of a client. `address` is the host and port under which the client reaches this registry. Fails if the
    /// client cannot use the mirror.
    pub(crate) fn client_settings(
        &self,
        client: MirrorClient,
        address: Option<String>,
    ) -> Result<ClientSettings, String> {
        let Some(mirror) = self.mirror() else {
            return Err("this registry mirrors nothing: extensions.sync names the registries to mirror".to_owned());
        };
        let address = Reached { host: address.unwrap_or_else(|| self.usual_address()), is_https: self.is_https() };
        let upstreams = mirror.upstreams();
        let mut settings = match client {
            MirrorClient::Containerd => containerd(&address),
            MirrorClient::Docker => docker(&address, upstreams, self.config().extensions.sync.bare_names.as_deref())?,
            MirrorClient::Podman => podman(&address, upstreams),
            MirrorClient::K3s => k3s(&address, upstreams),
        };
        let is_loopback = ["localhost", "127.", "[::1]"].iter().any(|start| address.host.starts_with(start));
        if is_loopback {
            settings.notes.push(format!("{} is this machine: name another address with --address", address.host));
        }
        if address.is_https {
            settings.notes.push("The client must trust the certificate of this registry.".to_owned());
        }
        Ok(settings)
    }

    /// The address that the configuration names.
    fn usual_address(&self) -> String {
        if let Some(url) = self.external_origin() {
            let host = url.host_str().unwrap_or("localhost");
            return url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        }
        let listens = self.config().http.listens();
        let ports = listens.iter().filter_map(|place| match place {
            Listen::Port { address, port, .. } => Some((*address, *port)),
            Listen::Unix(_) => None,
        });
        // Other machines cannot use a loopback address.
        let (address, port) =
            ports.min_by_key(|(address, _)| address.is_loopback()).unwrap_or((Address::Localhost, 80));
        let host = match address {
            Address::Ip(ip) if !ip.is_unspecified() && !ip.is_loopback() => match ip {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            },
            _ => "localhost".to_owned(),
        };
        format!("{host}:{port}")
    }
}

fn containerd(address: &Reached) -> ClientSettings {
    let url = address.url();
    ClientSettings {
        path: "/etc/containerd/certs.d/_default/hosts.toml".to_owned(),
        content: format!("[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"),
        notes: vec![
            "containerd reads the directory if config_path of its registry settings is /etc/containerd/certs.d."
                .to_owned(),
            "It asks a registry that is not mirrored here itself.".to_owned(),
        ],
    }
}

fn docker(address: &Reached, upstreams: &[Upstream], bare_names: Option<&str>) -> Result<ClientSettings, String> {
    let hub = upstreams.iter().find(|upstream| upstream.hosts.iter().any(|host| is_hub(host)));
    if hub.is_none() {
        return Err(
            "docker mirrors only Docker Hub, which is not mirrored here: add docker.io to extensions.sync.mirror"
                .to_owned(),
        );
    }
    let mut notes = vec!["Restart docker. It uses the mirror for images of Docker Hub only.".to_owned()];
    let has_bare_names = bare_names.is_some_and(is_hub)
        || hub.is_some_and(|hub| hub.rules.iter().any(|rule| rule.beginnings() == ("", String::new())));
    if !has_bare_names {
        notes.push(
            "Docker sends names without a host: set extensions.sync.bareNames to \"docker.io\" in the configuration of \
             this registry."
                .to_owned(),
        );
    }
    if !address.is_https && !address.host.starts_with("localhost") {
        notes.push("Docker also needs the address in insecure-registries, because it has no TLS.".to_owned());
    }
    let document = serde_json::json!({ "registry-mirrors": [address.url()] });
    let content = serde_json::to_string_pretty(&document).unwrap_or_default() + "\n";
    Ok(ClientSettings { path: "/etc/docker/daemon.json".to_owned(), content, notes })
}

fn podman(address: &Reached, upstreams: &[Upstream]) -> ClientSettings {
    let mut content = String::new();
    let mut seen = Vec::new();
    let mut notes = vec!["podman, skopeo and buildah read this file.".to_owned()];
    for upstream in upstreams {
        let (host, note) = name_for_clients(upstream, address);
        notes.extend(note);
        let Some(host) = host else { continue };
        for rule in &upstream.rules {
            let (remote, local) = rule.beginnings();
            let prefix = joined(host, remote);
            if seen.contains(&prefix) {
                continue;
            }
            let _ = write!(
                content,
                "{}[[registry]]\nprefix = \"{prefix}\"\nlocation = \"{prefix}\"\n\n[[registry.mirror]]\nlocation = \"{}\"\n",
                if content.is_empty() { "" } else { "\n" },
                joined(&address.host, &local),
            );
            if !address.is_https {
                content.push_str("insecure = true\n");
            }
            seen.push(prefix);
        }
    }
    ClientSettings { path: "/etc/containers/registries.conf.d/coracle.conf".to_owned(), content, notes }
}

fn k3s(address: &Reached, upstreams: &[Upstream]) -> ClientSettings {
    let mut content = "mirrors:\n".to_owned();
    let mut seen = Vec::new();
    let mut notes = vec!["Restart k3s on each node.".to_owned()];
    for upstream in upstreams {
        let (host, note) = name_for_clients(upstream, address);
        notes.extend(note);
        if let Some(host) = host
            && !seen.contains(&host)
        {
            let _ = write!(content, "  \"{host}\":\n    endpoint:\n      - \"{}\"\n", address.url());
            seen.push(host);
        }
    }
    ClientSettings { path: "/etc/rancher/k3s/registries.yaml".to_owned(), content, notes }
}

/// The host by which clients name an upstream, and a note if that is not its usual name. Without a dot or a port, clients
/// take a host for the first part of a name of Docker Hub.
fn name_for_clients<'a>(upstream: &'a Upstream, address: &Reached) -> (Option<&'a str>, Option<String>) {
    let label = upstream.label();
    if is_hub(label) {
        return (Some("docker.io"), None);
    }
    let is_registry = |host: &&str| host.contains(['.', ':']) || *host == "localhost";
    let host = upstream.hosts.iter().map(String::as_str).find(is_registry);
    let note = match host {
        Some(host) if host == label => None,
        Some(host) => Some(format!(
            "The file names {host}, because clients take {label}, which has no dot, for no registry. They can also pull \
             {}/{label}/….",
            address.host
        )),
        None => Some(format!(
            "{label} is left out, because clients take a name without a dot for no registry: set its host in \
             extensions.sync.registries to a name with a dot."
        )),
    };
    (host, note)
}

fn joined(host: &str, path: &str) -> String {
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}
