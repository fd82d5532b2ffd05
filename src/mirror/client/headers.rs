//! The headers of an upstream's responses.

use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderName};

use crate::oci::Digest;

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");

/// The digest of a manifest, if the upstream announces it.
pub(super) fn announced_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(DOCKER_CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
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

/// Reads `RateLimit-Remaining` as Docker Hub writes it: `76;w=21600`.
pub(super) fn quota(headers: &HeaderMap) -> Option<u64> {
    headers.get(RATE_LIMIT_REMAINING)?.to_str().ok()?.split(';').next()?.trim().parse().ok()
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
        for (value, remaining) in [("76;w=21600", Some(76)), ("76", Some(76)), ("", None), ("-1", None)] {
            assert_eq!(quota(&with(RATE_LIMIT_REMAINING, value)), remaining, "{value}");
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
