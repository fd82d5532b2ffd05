//! [`OwnHosts`]: the host names that an open registry answers to.
//!
//! A web page can give its own name the address of this machine (DNS rebinding). To the browser the registry is then
//! part of that page's site. No credentials protect an open registry, so it answers only to names that a page on the web
//! cannot have.

use std::net::SocketAddr;

use url::Url;

use super::host::Host;
use crate::kit::opaque_debug::opaque_debug;

/// Suffixes that no public name has (RFC 6762, RFC 8375; ICANN reserves `internal`).
const PRIVATE_ENDINGS: [&str; 3] = [".local", ".internal", ".home.arpa"];

/// Tells whether the registry's certificate is for a name.
type IsCertified = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The hosts of one listening socket.
pub(crate) struct OwnHosts {
    /// Whether only this machine can reach the socket.
    is_loopback: bool,
    /// The name of the machine.
    machine: String,
    is_certified: Option<IsCertified>,
}

impl OwnHosts {
    /// The hosts of a socket that listens at an address, or of a unix socket.
    pub(crate) fn new(listener: Option<SocketAddr>, is_certified: Option<IsCertified>) -> Self {
        let machine = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        let is_loopback = listener.is_none_or(|listener| listener.ip().to_canonical().is_loopback());
        Self { is_loopback, machine, is_certified }
    }

    /// Whether a host is one of the registry's own.
    pub(super) fn has(&self, host: Host<'_>, external: Option<&Url>) -> bool {
        // DNS rebinding needs a name, so addresses are safe.
        if let Some(ip) = host.ip {
            return ip.to_canonical().is_loopback() || !self.is_loopback || is_external(host, external);
        }
        let name = host.normal_name();
        name == "localhost"
            || name.ends_with(".localhost")
            || is_external(host, external)
            || self.is_certified.as_ref().is_some_and(|is_certified| is_certified(&name))
            || !self.is_loopback && self.is_private(&name)
    }

    /// Whether no page on the web can have a name, because it is the name of this machine or not public.
    fn is_private(&self, name: &str) -> bool {
        name == self.machine || !name.contains('.') || PRIVATE_ENDINGS.iter().any(|ending| name.ends_with(ending))
    }
}

opaque_debug!(OwnHosts);

/// Whether a host is the one of `http.externalUrl`.
fn is_external(host: Host<'_>, external: Option<&Url>) -> bool {
    let external = external.and_then(|url| Host::parse(url.host_str()?));
    external.is_some_and(|external| {
        let without_port = Host { port: None, ..host };
        without_port.is_same(external, 0)
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const EXTERNAL: &str = "https://registry.example:8443/";

    fn has(own: &OwnHosts, host: &str) -> bool {
        own.has(Host::parse(host).unwrap(), Url::parse(EXTERNAL).ok().as_ref())
    }

    #[test]
    fn on_loopback_only_loopback_and_configured_hosts_count() {
        let own = OwnHosts::new("127.0.0.1:8080".parse().ok(), Some(Box::new(|name| name == "certified.example")));
        for host in [
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "a.localhost:80",
            "127.0.0.1:8080",
            "127.9.8.7",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
            "registry.example",
            "Registry.Example:1",
            "certified.example:5000",
        ] {
            assert!(has(&own, host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "notlocalhost",
            "registry.example.evil.example",
            "192.168.1.5",
            "[2001:db8::1]",
            "registry",
            "a.local",
            "0.0.0.0",
        ] {
            assert!(!has(&own, host), "{host}");
        }
    }

    #[test]
    fn on_a_network_addresses_and_names_that_are_not_public_count_too() {
        for listener in ["0.0.0.0:80", "[::]:80", "192.168.1.5:80"] {
            let own = OwnHosts { machine: "box.example.org".into(), ..OwnHosts::new(listener.parse().ok(), None) };
            for host in [
                "localhost",
                "127.0.0.1",
                "192.168.1.5",
                "[2001:db8::1]:80",
                "registry:5000",
                "kind-registry",
                "nas.local",
                "host.docker.internal",
                "a.home.arpa",
                "box.example.org",
                "registry.example",
            ] {
                assert!(has(&own, host), "{host}");
            }
            for host in ["evil.example", "local.evil.example", "xlocal.example", "192.168.1.5.nip.io", "org"] {
                assert_eq!(has(&own, host), host == "org", "{host}");
            }
        }
    }
}
