//! The headers of an upstream's responses.

use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderName};

use crate::oci::{Digest, InvalidMediaType, MediaType};

/// The types that say nothing about the content. Web servers send them for files that they do not know.
const GENERAL_TYPES: [&str; 3] = ["application/json", "application/octet-stream", "text/plain"];
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");

/// The digest of a manifest, if the upstream announces it.
pub(super) fn announced_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(DOCKER_CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}

/// The type of a manifest. `None` if the headers do not say it, so that only the manifest itself does.
pub(super) fn declared_type(headers: &HeaderMap) -> Result<Option<MediaType>, InvalidMediaType> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    let declared = MediaType::from_content_type(value.to_str().unwrap_or_default())?;
    Ok(Some(declared).filter(|declared| !GENERAL_TYPES.contains(&declared.as_str())))
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads `bytes 5-9/10`: the first offset, and the size if it is known.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, size) = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, size.parse().ok()))
}

/// The requests that an upstream still allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    pub(super) left: u64,
    /// The time to which the limit applies.
    pub(super) window: Option<Duration>,
}

/// Reads `RateLimit-Remaining` as Docker Hub writes it: `76;w=21600`.
pub(super) fn quota(headers: &HeaderMap) -> Option<Quota> {
    let mut parts = headers.get(RATE_LIMIT_REMAINING)?.to_str().ok()?.split(';').map(str::trim);
    let left = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")?.parse().ok()).map(Duration::from_secs);
    Some(Quota { left, window })
}

/// Reads `Retry-After` in seconds. A date is not supported: clocks of edge machines are often wrong.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn values_of_known_registries_are_read() {
        let with =
            |name: HeaderName, value: &'static str| HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        for (value, expected) in [
            ("76;w=21600", Some((76, Some(21600)))),
            ("76; w=x", Some((76, None))),
            ("76", Some((76, None))),
            ("", None),
            ("-1", None),
        ] {
            let expected = expected
                .map(|(left, window): (_, Option<u64>)| Quota { left, window: window.map(Duration::from_secs) });
            assert_eq!(quota(&with(RATE_LIMIT_REMAINING, value)), expected, "{value}");
        }
        for (value, range) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes */10", None),
            ("5-9/10", None),
        ] {
            assert_eq!(content_range(&with(header::CONTENT_RANGE, value)), range, "{value}");
        }
        assert_eq!(retry_after(&with(header::RETRY_AFTER, " 3 ")), Some(Duration::from_secs(3)));
        assert_eq!(retry_after(&with(header::RETRY_AFTER, "Fri, 31 Dec 1999 23:59:59 GMT")), None);
    }
}
