//! The headers of an upstream's responses.

use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderName};

use crate::oci::{Digest, InvalidMediaType, MediaType};

/// The types that say nothing about the content. Web servers send them for files that they do not know.
const GENERAL_TYPES: [&str; 3] = ["application/json", "application/octet-stream", "text/plain"];
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
/// A larger `RateLimit-Reset` is a time of the day, as GitLab sends it. Clocks of edge machines are often wrong.
const RESET_SECONDS_MAX: u64 = 30 * 24 * 60 * 60;

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
    /// The requests of a whole window.
    pub(super) limit: Option<u64>,
    /// The time to which the limit applies.
    pub(super) window: Option<Duration>,
    /// The time until the limit begins again.
    pub(super) reset: Option<Duration>,
}

/// Reads `RateLimit-Remaining` as Docker Hub writes it (`76;w=21600`), with the limit, its window and its end from the
/// other fields, as coracle writes them.
pub(super) fn quota(headers: &HeaderMap) -> Option<Quota> {
    let (left, window) = counted(headers, &RATE_LIMIT_REMAINING)?;
    let (limit, policy) = (counted(headers, &RATE_LIMIT), counted(headers, &RATE_LIMIT_POLICY));
    let window = [Some((left, window)), limit, policy].into_iter().flatten().find_map(|(_, window)| window);
    let reset = counted(headers, &RATE_LIMIT_RESET).map(|(seconds, _)| seconds);
    Some(Quota {
        left,
        limit: limit.or(policy).map(|(limit, _)| limit),
        window: window.map(Duration::from_secs),
        reset: reset.filter(|seconds| *seconds <= RESET_SECONDS_MAX).map(Duration::from_secs),
    })
}

/// Removes what [`quota`] reads.
pub(super) fn forget_quota(headers: &mut HeaderMap) {
    headers.remove(RATE_LIMIT_REMAINING);
}

/// Reads a number with an optional window in seconds: `100;w=21600`.
fn counted(headers: &HeaderMap, name: &HeaderName) -> Option<(u64, Option<u64>)> {
    let mut parts = headers.get(name)?.to_str().ok()?.split(';').map(str::trim);
    let number = parts.next()?.parse().ok()?;
    Some((number, parts.find_map(|part| part.strip_prefix("w=")?.parse().ok())))
}

/// Reads `Retry-After` in seconds. A date is not supported: clocks of edge machines are often wrong.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
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
            let found = quota(&with(RATE_LIMIT_REMAINING, value));
            let found = found.map(|quota| (quota.left, quota.window.map(|window| window.as_secs())));
            assert_eq!(found, expected, "{value}");
        }
        let of = |fields: &[(HeaderName, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            let quota = quota(&fields.collect::<HeaderMap>()).unwrap();
            (quota.limit, quota.window.map(|window| window.as_secs()), quota.reset.map(|reset| reset.as_secs()))
        };
        let left = (RATE_LIMIT_REMAINING, "10");
        // Docker Hub, coracle, GitLab.
        assert_eq!(
            of(&[(RATE_LIMIT_REMAINING, "76;w=21600"), (RATE_LIMIT, "100;w=21600")]),
            (Some(100), Some(21600), None)
        );
        assert_eq!(
            of(&[left.clone(), (RATE_LIMIT, "15"), (RATE_LIMIT_RESET, "2"), (RATE_LIMIT_POLICY, "15;w=5")]),
            (Some(15), Some(5), Some(2))
        );
        assert_eq!(of(&[left, (RATE_LIMIT, "2000"), (RATE_LIMIT_RESET, "1796000000")]), (Some(2000), None, None));
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
