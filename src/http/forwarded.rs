//! [`Reached`]: where a client is and how it reached the registry, through proxies that the operator trusts.
//!
//! What must hold: nothing that a client says of itself counts. Only what a trusted proxy (`http.trustedProxies`) wrote
//! counts, and of a list only the part that trusted proxies appended. Proxies append, so every list is read from its
//! end; nothing that a client puts at the beginning changes how the end is read.

mod list;

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::HeaderName;
use hyper::http::request::Parts;

use super::host::{self, Host, InvalidHost};
use crate::config::Network;
use crate::registry::{Notice, Shared};

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Where a client is, and how it reached the registry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached<'a> {
    /// Who is at the other end of the connection: the client, or a proxy.
    pub(super) peer: Option<SocketAddr>,
    /// The client's address, as far as trusted proxies know it.
    pub(super) address: Option<IpAddr>,
    /// Whether a trusted proxy says that the client speaks TLS with it.
    secure: bool,
    /// The host of the request itself.
    asked: Result<Option<Host<'a>>, InvalidHost>,
    /// The host that a trusted proxy was asked for.
    forwarded: Result<Option<Host<'a>>, InvalidHost>,
    /// What the operator should know of the proxy.
    pub(super) notice: Option<Notice>,
}

/// What trusted proxies say in one family of headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said<'a> {
    client: Option<IpAddr>,
    secure: Option<bool>,
    host: Option<&'a [u8]>,
}

impl<'a> Reached<'a> {
    pub(super) fn read(trusted: &[Network], peer: Option<SocketAddr>, head: &'a Parts) -> Self {
        let (headers, address) = (&head.headers, peer.map(|peer| peer.ip().to_canonical()));
        let is_trusted = |address: IpAddr| trusted.iter().any(|proxy| proxy.contains(address));
        let mut reached =
            Self { peer, address, secure: false, asked: host::asked(head), forwarded: Ok(None), notice: None };
        let Some(proxy) = address.filter(|_| is_forwarded(headers)) else { return reached };
        if !is_trusted(proxy) {
            reached.notice = Some(Notice::UntrustedProxy);
            return reached;
        }
        let own = Said::of_own_headers(headers, proxy, &is_trusted);
        let standard = Said::of_standard_header(headers, proxy, &is_trusted);
        // A proxy that writes one of the two hands on the other as the client sent it. If both are there and say
        // different things, it is unknown which one the proxy wrote, and neither counts.
        let same_host = match (own.host, standard.host) {
            (Some(own), Some(standard)) => own.eq_ignore_ascii_case(standard),
            _ => true,
        };
        let client = agreed(own.client, standard.client);
        let secure = agreed(own.secure, standard.secure);
        if client.is_err() || secure.is_err() || !same_host {
            reached.notice = Some(Notice::Contradiction);
        }
        reached.address = client.ok().flatten().or(address);
        reached.secure = secure.ok().flatten().unwrap_or(false);
        if let Some(host) = own.host.or(standard.host).filter(|_| same_host) {
            let host = str::from_utf8(host).ok().and_then(Host::parse);
            reached.forwarded = host.map(Some).ok_or(InvalidHost::Forwarded);
        }
        reached
    }

    /// Refuses a request of which it is unclear which host it is for.
    pub(super) fn check(&self) -> Result<(), InvalidHost> {
        self.asked.and(self.forwarded).map(|_| ())
    }

    /// The host that the client asked for, if it named one.
    pub(super) fn host(&self) -> Option<Host<'a>> {
        self.forwarded.ok().flatten().or(self.asked.ok().flatten())
    }

    /// Every host that the request names: the client's, and the one that its proxy asked for.
    pub(super) fn hosts(&self) -> impl Iterator<Item = Host<'a>> {
        [self.asked, self.forwarded].into_iter().filter_map(|host| host.ok().flatten())
    }

    /// Whether the client speaks TLS, with the registry itself or with a trusted proxy.
    pub(super) fn speaks_tls(&self, registry: &Shared) -> bool {
        self.secure || registry.config().http.tls.is_some()
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
        match self.host() {
            Some(host) => format!("{scheme}://{host}"),
            None => format!("{scheme}://localhost"),
        }
    }
}

impl<'a> Said<'a> {
    /// Reads `X-Forwarded-For`, `-Proto` and `-Host`. `-Port` and `-Prefix` are not read: proxies often send the port
    /// they listen on themselves, and clients of a registry know no prefix.
    fn of_own_headers(headers: &'a HeaderMap, proxy: IpAddr, is_trusted: &impl Fn(IpAddr) -> bool) -> Self {
        let mut client = None;
        for hop in headers.get_all(FORWARDED_FOR).iter().rev().flat_map(|value| list::plain(value.as_bytes())) {
            let address = list::address(hop);
            client = address.or(client).or(Some(proxy));
            // If the proxy does not say whom it heard from, what stands before that can be anybody's.
            if !address.is_some_and(is_trusted) {
                break;
            }
        }
        let nearest = |name| headers.get_all(name).iter().rev().flat_map(|value| list::plain(value.as_bytes())).next();
        let secure = nearest(FORWARDED_PROTO).map(|scheme| scheme.eq_ignore_ascii_case(b"https"));
        Self { client, secure, host: nearest(FORWARDED_HOST) }
    }

    /// Reads `Forwarded` (RFC 7239).
    fn of_standard_header(headers: &'a HeaderMap, proxy: IpAddr, is_trusted: &impl Fn(IpAddr) -> bool) -> Self {
        let mut said = Self::default();
        for element in headers.get_all(FORWARDED).iter().rev().flat_map(|value| list::quoted(value.as_bytes())) {
            let hop = list::Hop::read(element);
            // Of several trusted proxies the one nearest to the client knows what the client asked for.
            said.secure = hop.proto.map(|scheme| scheme.eq_ignore_ascii_case(b"https")).or(said.secure);
            said.host = hop.host.or(said.host);
            let address = hop.node.and_then(list::address);
            said.client = address.or(said.client).or(Some(proxy));
            if !address.is_some_and(is_trusted) {
                break;
            }
        }
        said
    }
}

/// Whether a proxy, or a client that would like to be one, says anything of the way.
fn is_forwarded(headers: &HeaderMap) -> bool {
    [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, FORWARDED].iter().any(|name| headers.contains_key(name))
}

/// What is said twice, if it is the same, or what is said once.
fn agreed<T: PartialEq>(one: Option<T>, other: Option<T>) -> Result<Option<T>, ()> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(()),
        (one, other) => Ok(one.or(other)),
    }
}

#[cfg(test)]
mod tests;
