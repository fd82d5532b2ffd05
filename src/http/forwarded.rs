//! [`ClientInfo`]: the address of the client, and the scheme and host that it used, behind trusted proxies.
//!
//! Invariant: a client cannot take an address of its choice. The registry believes only what trusted proxies
//! (`http.trustedProxies`) wrote, and of a list only the part that trusted proxies appended. Proxies append, so every
//! list is read from its end. Nothing that a client puts at the beginning changes how the end is read.
//!
//! A client can still hide its address behind the proxy's: if the proxy passes on the family of headers that it does not
//! write, the client sends one that contradicts the proxy's. A proxy that removes the other family prevents this.

mod list;

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::HeaderName;
use hyper::http::request::Parts;

use super::Connection;
use super::host::{self, Host, InvalidHost};
use crate::config::Network;
use crate::registry::{Notice, Shared};

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The address of a client, and the scheme and host that it used.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientInfo<'a> {
    /// The other end of the connection: the client or a proxy.
    pub(super) peer: Option<SocketAddr>,
    /// The client's address, as far as trusted proxies report it.
    pub(super) address: Option<IpAddr>,
    /// Whether the client uses TLS, with the registry or, as a trusted proxy reports, with the proxy.
    secure: bool,
    /// Whether the request came over a socket.
    has_socket: bool,
    /// The host that the request itself names.
    asked: Result<Option<Host<'a>>, InvalidHost>,
    /// The host that a trusted proxy forwards.
    forwarded: Result<Option<Host<'a>>, InvalidHost>,
    /// A problem with the proxy, for the operator.
    pub(super) notice: Option<Notice>,
}

/// The values that trusted proxies report in one family of headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ForwardedValues<'a> {
    client: Option<IpAddr>,
    secure: Option<bool>,
    host: Option<&'a [u8]>,
}

impl<'a> ClientInfo<'a> {
    /// A proxy that connects over a unix socket is trusted: the rights to the socket say who may connect.
    pub(super) fn read(trusted: &[Network], connection: &Connection, head: &'a Parts) -> Self {
        let peer = connection.peer;
        let (headers, address) = (&head.headers, peer.map(|peer| peer.ip().to_canonical()));
        let is_trusted = |address: IpAddr| trusted.iter().any(|proxy| proxy.contains(address));
        let mut info = Self {
            peer,
            address,
            secure: connection.is_tls,
            has_socket: connection.own_hosts.is_some(),
            asked: host::asked(head),
            forwarded: Ok(None),
            notice: None,
        };
        if !info.has_socket || !is_forwarded(headers) {
            return info;
        }
        if !connection.is_unix() && !address.is_some_and(is_trusted) {
            info.notice = Some(Notice::UntrustedProxy);
            return info;
        }
        let own = ForwardedValues::of_own_headers(headers, address, &is_trusted);
        let standard = ForwardedValues::of_standard_header(headers, address, &is_trusted);
        // A proxy that writes one of the two families passes on the other one as the client sent it. If both are present
        // and differ, it is unknown which one the proxy wrote, so neither counts.
        let same_host = match (own.host, standard.host) {
            (Some(own), Some(standard)) => own.eq_ignore_ascii_case(standard),
            _ => true,
        };
        let client = agreed(own.client, standard.client);
        let secure = agreed(own.secure, standard.secure);
        if client.is_err() || secure.is_err() || !same_host {
            info.notice = Some(Notice::Contradiction);
        }
        info.address = client.ok().flatten().or(address);
        info.secure |= secure.ok().flatten().unwrap_or(false);
        if let Some(host) = own.host.or(standard.host).filter(|_| same_host) {
            let host = str::from_utf8(host).ok().and_then(Host::parse);
            info.forwarded = host.map(Some).ok_or(InvalidHost::Forwarded);
        }
        info
    }

    /// Refuses a request whose host is missing, invalid or ambiguous.
    /// A request without a socket needs no host.
    pub(super) fn check(&self) -> Result<(), InvalidHost> {
        if !self.has_socket {
            return Ok(());
        }
        self.asked.and(self.forwarded).map(|_| ())
    }

    /// The host that the client asked for, if the request names one.
    pub(super) fn host(&self) -> Option<Host<'a>> {
        self.forwarded.ok().flatten().or(self.asked.ok().flatten())
    }

    /// Every host that the request names: its own, and the one that a proxy forwards.
    pub(super) fn hosts(&self) -> impl Iterator<Item = Host<'a>> {
        [self.asked, self.forwarded].into_iter().filter_map(|host| host.ok().flatten())
    }

    /// Whether the client uses TLS, with the registry itself or with a trusted proxy.
    pub(super) const fn speaks_tls(&self) -> bool {
        self.secure
    }

    /// Whether cookies for the client must be `Secure`.
    pub(super) fn is_secure(&self, registry: &Shared) -> bool {
        self.secure || registry.external_url().is_some_and(|url| url.starts_with("https://"))
    }

    /// The registry's own URL: the configured one, or else the one that the client used.
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

impl<'a> ForwardedValues<'a> {
    /// Reads `X-Forwarded-For`, `-Proto` and `-Host`. `-Port` is ignored because proxies often send the port that they
    /// listen on themselves. `-Prefix` is ignored because registry clients support no path prefix.
    fn of_own_headers(headers: &'a HeaderMap, proxy: Option<IpAddr>, is_trusted: &impl Fn(IpAddr) -> bool) -> Self {
        let mut client = None;
        for hop in headers.get_all(FORWARDED_FOR).iter().rev().flat_map(|value| list::plain(value.as_bytes())) {
            let address = list::address(hop);
            client = address.or(client).or(proxy);
            // Untrusted hosts may have written everything before this entry.
            if !address.is_some_and(is_trusted) {
                break;
            }
        }
        let nearest = |name| headers.get_all(name).iter().rev().flat_map(|value| list::plain(value.as_bytes())).next();
        let secure = nearest(FORWARDED_PROTO).map(|scheme| scheme.eq_ignore_ascii_case(b"https"));
        Self { client, secure, host: nearest(FORWARDED_HOST) }
    }

    /// Reads `Forwarded` (RFC 7239).
    fn of_standard_header(headers: &'a HeaderMap, proxy: Option<IpAddr>, is_trusted: &impl Fn(IpAddr) -> bool) -> Self {
        let mut values = Self::default();
        for element in headers.get_all(FORWARDED).iter().rev().flat_map(|value| list::quoted(value.as_bytes())) {
            let hop = list::Hop::read(element);
            // Among several trusted proxies, the one nearest to the client saw the scheme and host that the client used.
            values.secure = hop.proto.map(|scheme| scheme.eq_ignore_ascii_case(b"https")).or(values.secure);
            values.host = hop.host.or(values.host);
            let address = hop.node.and_then(list::address);
            values.client = address.or(values.client).or(proxy);
            if !address.is_some_and(is_trusted) {
                break;
            }
        }
        values
    }
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    // Most requests have few headers and none of these: reading the names is cheaper than four lookups.
    headers.keys().any(|name| [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, FORWARDED].contains(name))
}

/// Merges two optional values. Fails if both are present and differ.
fn agreed<T: PartialEq>(one: Option<T>, other: Option<T>) -> Result<Option<T>, ()> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(()),
        (one, other) => Ok(one.or(other)),
    }
}

#[cfg(test)]
mod tests;
