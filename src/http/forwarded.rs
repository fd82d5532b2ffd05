//! [`Reached`]: where a client is and which way it came, as far as the proxies between can be believed.
//!
//! What must hold: nothing that a client says of itself counts, unless a proxy that the operator has named
//! (`http.trustedProxies`) hands it on.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{self, HeaderName};

use crate::config::Network;
use crate::registry::Shared;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The longest name of a host, in bytes.
const HOST_MAX: usize = 255;

/// Where a client is, and which way it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached<'a> {
    pub(super) address: Option<IpAddr>,
    /// Whether the client speaks TLS with somebody who hands on what it says.
    secure: bool,
    host: Option<&'a str>,
}

impl<'a> Reached<'a> {
    pub(super) fn read(trusted: &[Network], peer: Option<SocketAddr>, headers: &'a HeaderMap) -> Self {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let address = peer.map(|peer| peer.ip());
        let is_trusted = |address: IpAddr| trusted.iter().any(|proxy| proxy.contains(address));
        if !address.is_some_and(is_trusted) {
            return Self { address, secure: false, host };
        }
        // Each proxy adds whom it heard it from: the last that none of ours has added is the client.
        let mut client = address;
        let hops = headers.get_all(FORWARDED_FOR).iter().rev().filter_map(|value| value.to_str().ok());
        for hop in hops.flat_map(|value| value.rsplit(',')) {
            let Ok(hop) = hop.trim().parse() else { break };
            client = Some(hop);
            if !is_trusted(hop) {
                break;
            }
        }
        let secure = last(headers, &FORWARDED_PROTO).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        Self { address: client, secure, host: last(headers, &FORWARDED_HOST).or(host) }
    }

    /// Whether the client's cookies are to go by TLS alone.
    pub(super) fn is_secure(&self, registry: &Shared) -> bool {
        self.secure || registry.is_https()
    }

    /// The registry's own URL, as the client knows it: the configured one, or the one that the client used.
    pub(super) fn base_url(&self, registry: &Shared) -> String {
        if let Some(url) = registry.external_url() {
            return url.trim_end_matches('/').to_owned();
        }
        self.url(self.is_secure(registry))
    }

    /// The URL that the client used.
    pub(super) fn url(&self, is_secure: bool) -> String {
        let scheme = if is_secure || self.secure { "https" } else { "http" };
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]_".contains(c);
        let host = self.host.filter(|host| (1..=HOST_MAX).contains(&host.len()) && host.chars().all(plain));
        format!("{scheme}://{}", host.unwrap_or("localhost"))
    }
}

/// What the nearest proxy says.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim).filter(|value| !value.is_empty())
}
