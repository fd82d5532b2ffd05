//! Properties of every header: reading it never panics, and no value is taken for another one.

use std::net::SocketAddr;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;

use super::forwarded::ClientInfo;
use super::request::{content_range, content_type, expected, has_already};
use super::{Connection, OwnHosts};
use crate::config::Network;
use crate::content::repository::Expected;
use crate::identity::access::{Credentials, Surface};
use crate::oci::{Algorithm, Digest, RangeRequest};

/// The server refuses requests with more headers.
const HEADERS_MAX: usize = 100;

/// Checks the lines of headers, as they arrive on a connection.
pub(crate) fn headers(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(HEADERS_MAX) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii())) else {
            continue;
        };
        headers.append(name, value);
    }
    ranges(&headers);
    conditions(&headers);
    client(&headers);
    appended(&headers);
    credentials(&headers);
}

fn ranges(headers: &HeaderMap) {
    for size in [0, 1, 10, 1 << 40, u64::MAX] {
        for value in headers.get_all(header::RANGE).iter().filter_map(|value| value.to_str().ok()) {
            let RangeRequest::Parts(parts) = RangeRequest::parse(value, size) else { continue };
            assert!(matches!(parts.len(), 1..=16) && value.contains('='), "{value}");
            assert!(parts.iter().all(|part| part.first <= part.last && part.last < size), "{value} of {size}");
            let total: u128 = parts.iter().map(|part| u128::from(part.length())).sum();
            assert!(total <= u128::from(size), "{value} of {size}");
        }
    }
    if let Ok(Some(range)) = content_range(headers) {
        let end = range.first().checked_add(range.length()).expect("the offset after the last byte is a number");
        assert!(range.length() > 0 && end > 0);
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        assert!(length.is_none_or(|length| length == range.length()), "the length differs from that of the body");
    }
}

fn conditions(headers: &HeaderMap) {
    let ours = Digest::of(Algorithm::Sha256, b"");
    let none_match: Vec<&[u8]> = headers.get_all(header::IF_NONE_MATCH).iter().map(HeaderValue::as_bytes).collect();
    let quoted = format!("\"{ours}\"");
    let named =
        |value: &&[u8]| value.contains(&b'*') || value.windows(quoted.len()).any(|window| window == quoted.as_bytes());
    assert!(!has_already(headers, ours) || none_match.iter().any(named), "the header does not name it");
    match expected(headers) {
        Ok(None) => assert!(none_match.is_empty() && !headers.contains_key(header::IF_MATCH)),
        Ok(Some(Expected::Absent)) => assert!(none_match.len() == 1),
        Ok(Some(Expected::Present)) => assert!(headers[header::IF_MATCH].as_bytes().contains(&b'*')),
        Ok(Some(Expected::OneOf(digests))) => {
            let value = headers[header::IF_MATCH].to_str().expect("text");
            assert!(digests.iter().all(|digest| value.contains(&digest.to_string())), "{value}");
        }
        Err(_) => {}
    }
    if let Ok(Some(media_type)) = content_type(headers) {
        assert!(!media_type.as_str().is_empty() && !media_type.as_str().contains(char::is_control));
    }
}

/// A connection of a peer to a plain port.
pub(super) fn connection(peer: SocketAddr) -> Connection {
    let own_hosts = OwnHosts::new(Some(([127, 0, 0, 1], 80).into()), None);
    Connection::from(Some(peer), false, std::sync::Arc::new(own_hosts))
}

fn client(headers: &HeaderMap) {
    let trusted: [Network; 1] = ["10.0.0.0/8".parse().expect("a network")];
    for peer in ["192.0.2.1:1", "10.0.0.1:1"].map(|peer| peer.parse::<SocketAddr>().expect("an address")) {
        let head = head_of(headers);
        let connection = connection(peer);
        let client = ClientInfo::read(&trusted, &connection, &head);
        let believed = trusted[0].contains(peer.ip());
        assert!(believed || client.address == Some(peer.ip()), "an untrusted peer was believed");
        let url = client.url(false);
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).expect("a URL");
        assert!(believed || url.starts_with("http://"), "{url}");
        assert!(!rest.is_empty() && rest.len() <= 255, "{url}");
        assert!(rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte)), "{url}");
    }
}

/// Checks that the address appended by a trusted proxy counts, whichever headers the client sent.
fn appended(headers: &HeaderMap) {
    let trusted: [Network; 1] = ["10.0.0.0/8".parse().expect("a network")];
    for (name, other, entry) in [
        ("x-forwarded-for", "forwarded", "203.0.113.7:4711"),
        ("forwarded", "x-forwarded-for", "for=\"203.0.113.7:4711\";proto=http"),
    ] {
        let mut headers = headers.clone();
        headers.remove(other);
        let mut lines: Vec<HeaderValue> = headers.get_all(name).iter().cloned().collect();
        let last = lines.pop().map(|line| [line.as_bytes(), b", ", entry.as_bytes()].concat());
        let last = last.unwrap_or_else(|| entry.as_bytes().to_owned());
        headers.remove(name);
        for line in lines.into_iter().chain(HeaderValue::from_bytes(&last)) {
            headers.append(HeaderName::from_static(name), line);
        }
        let head = head_of(&headers);
        let connection = connection(([10, 0, 0, 1], 1).into());
        let client = ClientInfo::read(&trusted, &connection, &head);
        assert_eq!(client.address, Some([203, 0, 113, 7].into()), "{name}: {last:?}");
    }
}

fn head_of(headers: &HeaderMap) -> Parts {
    let (mut head, ()) = hyper::Request::new(()).into_parts();
    head.headers = headers.clone();
    head
}

fn credentials(headers: &HeaderMap) {
    for surface in [Surface::Registry, Surface::ApiV1] {
        let Ok(credentials) = Credentials::read(headers, surface) else { continue };
        let count = headers.get_all(header::AUTHORIZATION).iter().count();
        assert!(count <= 1, "the request has two Authorization headers");
        match credentials {
            Credentials::Basic { ref user, ref password } => {
                assert!(count == 1 && surface == Surface::Registry);
                assert!(!user.is_empty() && user.len() <= 255 && !user.contains(char::is_control));
                let shown = format!("{credentials:?}");
                let secret = password.reveal();
                assert!(
                    secret.len() < 16 || user.contains(secret) || !shown.contains(secret),
                    "Debug shows the password"
                );
            }
            Credentials::Key { .. } | Credentials::Token(_) | Credentials::PasswordOrToken { .. } => {
                assert_eq!(count, 1);
            }
            Credentials::Session(_) => {
                assert!(surface == Surface::ApiV1 || Credentials::from_page(headers));
            }
            Credentials::None => {}
        }
    }
}
