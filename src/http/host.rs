//! [`Host`]: the host that a client asked for (RFC 9110, 7.2; RFC 9112, 3.2; RFC 9113, 8.3.1).
//!
//! Invariant: a request names its host once. A request that names two hosts, or something that is not a host, is
//! refused, because a proxy on the way may have understood the other one.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::Version;
use hyper::header;
use hyper::http::request::Parts;

use super::error::ApiError;
use crate::oci::ErrorCode;

/// The longest host with its port, in bytes.
const HOST_BYTES_MAX: usize = 255;

/// A name or an address, and a port if the client gave one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host<'a> {
    /// The text of the client. An IPv6 address has brackets.
    pub(super) name: &'a str,
    /// The address, if the host is one.
    pub(super) ip: Option<IpAddr>,
    pub(super) port: Option<u16>,
}

/// Why the host of a request is invalid or ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidHost {
    #[error("the request names no host: send a Host header, or :authority in HTTP/2")]
    Missing,
    #[error("the request has more than one Host header: send one")]
    Several,
    #[error("the host is not a name or an address with an optional port")]
    Malformed,
    #[error("the request target has a user name before the host: use the Authorization header")]
    Credentials,
    #[error("the Host header and :authority name different hosts")]
    Contradiction,
    #[error("the scheme of the request target does not fit the connection")]
    Scheme,
    #[error("the proxy forwards a host that is not a name or an address with an optional port")]
    Forwarded,
}

impl From<InvalidHost> for ApiError {
    fn from(invalid: InvalidHost) -> Self {
        Self::bad_request(ErrorCode::Unsupported, invalid.to_string())
    }
}

impl<'a> Host<'a> {
    /// Reads `name`, `name:port`, `address:port` or `[IPv6 address]:port`.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        if text.len() > HOST_BYTES_MAX {
            return None;
        }
        let (name, ip, port) = if let Some(end) = text.find(']') {
            let ip: Ipv6Addr = text[..end].strip_prefix('[')?.parse().ok()?;
            (&text[..=end], Some(IpAddr::V6(ip)), &text[end + 1..])
        } else {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let ip = name.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
            (ip.is_some() || is_name(name)).then_some((name, ip, port))?
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        Some(Self { name, ip, port })
    }

    /// The name in lower case, without the final dot.
    pub(super) fn normal_name(self) -> Cow<'a, str> {
        let name = self.name.strip_suffix('.').unwrap_or(self.name);
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() }
    }

    /// Whether both are the same host and port. `default_port` is the port of a host without one.
    pub(super) fn is_same(self, other: Host<'_>, default_port: u16) -> bool {
        let same_name = match (self.ip, other.ip) {
            (Some(own), Some(other)) => own == other,
            (None, None) => self.normal_name() == other.normal_name(),
            _ => false,
        };
        same_name && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(self.name),
        }
    }
}

/// The port of a URL without a port.
pub(super) const fn default_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

/// Labels of letters, digits, hyphens and underscores. A last label of digits alone would be part of an IPv4 address, as
/// it is for browsers.
fn is_name(name: &str) -> bool {
    let labels = name.strip_suffix('.').unwrap_or(name);
    let plain = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let last = labels.rsplit('.').next().unwrap_or_default();
    labels.split('.').all(plain) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the host of a request: that of its target, or else of its `Host` header. Returns `None` if an old client names
/// no host.
pub(super) fn asked(head: &Parts) -> Result<Option<Host<'_>>, InvalidHost> {
    let mut headers = head.headers.get_all(header::HOST).iter();
    let (header, second) = (headers.next(), headers.next());
    if second.is_some() {
        return Err(InvalidHost::Several);
    }
    if header.is_none() && head.version == Version::HTTP_11 {
        return Err(InvalidHost::Missing);
    }
    let header = match header {
        Some(value) => Some(value.to_str().ok().and_then(Host::parse).ok_or(InvalidHost::Malformed)?),
        None => None,
    };
    let Some(authority) = head.uri.authority() else {
        let is_old = head.version < Version::HTTP_2;
        return if header.is_some() || is_old { Ok(header) } else { Err(InvalidHost::Missing) };
    };
    if authority.as_str().contains('@') {
        return Err(InvalidHost::Credentials);
    }
    let target = Host::parse(authority.as_str()).ok_or(InvalidHost::Malformed)?;
    let is_https = match head.uri.scheme_str() {
        Some("https") => true,
        Some("http") | None => false,
        Some(_) => return Err(InvalidHost::Scheme),
    };
    // In HTTP/1.1 the target counts, and the header is ignored.
    let differs = |header: Host<'_>| !header.is_same(target, default_port(is_https));
    if head.version >= Version::HTTP_2 && header.is_some_and(differs) {
        return Err(InvalidHost::Contradiction);
    }
    Ok(Some(target))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use hyper::Request;

    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for (text, name, port) in [
            ("localhost", "localhost", None),
            ("Registry.Example.:443", "Registry.Example.", Some(443)),
            ("my_registry:5000", "my_registry", Some(5000)),
            ("registry.example:", "registry.example", None),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("[::1]", "[::1]", None),
            ("[2001:db8::7]:8443", "[2001:db8::7]", Some(8443)),
        ] {
            let host = Host::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((host.name, host.port), (name, port));
        }
        for text in [
            "",
            ":80",
            ".",
            "a..b",
            ".a",
            "a:b",
            "a:1:2",
            "a:65536",
            "a:-1",
            "a:+1",
            "::1",
            "[::1",
            "::1]",
            "[::1]80",
            "[::1]:x",
            "[v1.a]",
            "[fe80::1%25eth0]",
            "[127.0.0.1]",
            "a@b",
            "a b",
            "a/b",
            "a,b",
            "a\"b",
            "ä",
            "a%62",
            "127.1",
            "256.1.1.1",
            "2130706433",
            "1.2.3.4.5",
            "1.2.3.4.",
        ] {
            assert!(Host::parse(text).is_none(), "{text}");
        }
        assert!(Host::parse(&"a".repeat(256)).is_none());
    }

    #[test]
    fn hosts_are_compared_by_address_or_normal_name() {
        for (one, other, is_https, same) in [
            ("Registry.Example", "registry.example", true, true),
            ("registry.example", "registry.example.:443", true, true),
            ("registry.example:443", "registry.example", false, false),
            ("[::1]:80", "[0:0::1]", false, true),
            ("a", "a:5000", true, false),
            ("a", "b", true, false),
        ] {
            let [one, other] = [one, other].map(|text| Host::parse(text).unwrap());
            assert_eq!(one.is_same(other, default_port(is_https)), same, "{one} {other}");
        }
    }

    #[test]
    fn a_request_names_its_host_once() {
        use InvalidHost as Invalid;
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        for (version, target, hosts, expected) in [
            (one, "/v2/", &["a:5000"][..], Ok(Some("a:5000"))),
            (one, "/v2/", &[], Err(Invalid::Missing)),
            (one, "/v2/", &["a", "a"], Err(Invalid::Several)),
            (one, "/v2/", &[""], Err(Invalid::Malformed)),
            (one, "/v2/", &["a/b"], Err(Invalid::Malformed)),
            (Version::HTTP_10, "/v2/", &[], Ok(None)),
            (one, "http://good:1/v2/", &["evil"], Ok(Some("good:1"))),
            (one, "http://good/v2/", &[], Err(Invalid::Missing)),
            (one, "http://good/v2/", &["@"], Err(Invalid::Malformed)),
            (one, "http://me@good/v2/", &["good"], Err(Invalid::Credentials)),
            (one, "ftp://good/v2/", &["good"], Err(Invalid::Scheme)),
            (two, "https://good/v2/", &[], Ok(Some("good"))),
            (two, "https://good:5000/v2/", &["Good:5000"], Ok(Some("good:5000"))),
            (two, "https://good/v2/", &["good:443"], Ok(Some("good"))),
            (two, "https://good/v2/", &["evil"], Err(Invalid::Contradiction)),
            (two, "https://good/v2/", &["good:444"], Err(Invalid::Contradiction)),
            (two, "https://me@good/v2/", &[], Err(Invalid::Credentials)),
            (two, "/v2/", &["good"], Ok(Some("good"))),
            (two, "/v2/", &[], Err(Invalid::Missing)),
        ] {
            let mut request = Request::builder().version(version).uri(target);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            let found = asked(&head).map(|host| host.map(|host| host.to_string()));
            assert_eq!(found, expected.map(|host| host.map(str::to_owned)), "{version:?} {target} {hosts:?}");
        }
    }
}
