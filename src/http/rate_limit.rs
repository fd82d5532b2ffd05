//! Counts requests for `http.ratelimit`, and tells clients what is left.
//!
//! A request counts once its caller may make it. A refusal for lack of rights costs no more than one for too many requests,
//! and a client must always get the challenge to sign in.

use std::net::IpAddr;

use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::error::ApiError;
use super::operation::Operation;
use crate::identity::access::Caller;
use crate::oci::ErrorCode;
use crate::registry::{Counted, Exceeded, LimitedClient, Quota, Shared};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Counts a request, if there are limits.
pub(super) fn count(
    registry: &Shared,
    caller: &Caller,
    operation: &Operation,
    method: &Method,
    address: Option<IpAddr>,
) -> Result<Option<Counted>, ApiError> {
    let Some(limits) = registry.rate_limits().filter(|_| !operation.is_unlimited()) else { return Ok(None) };
    let client = caller.name().map_or(LimitedClient::Anonymous(address), LimitedClient::User);
    limits.take(client, method, !operation.is_metrics()).map_err(|exceeded| {
        registry.metrics().rate_limited(exceeded.key);
        refused(&exceeded)
    })
}

fn refused(Exceeded { key, quota, used_up }: &Exceeded) -> ApiError {
    let Quota { requests, window } = quota;
    let message = format!("too many requests: {key} permits {requests} in {} s", window.as_secs());
    let error = ApiError::new(ErrorCode::TooManyRequests, message).header(header::RETRY_AFTER, used_up.retry_in.into());
    with_fields(error, fields(*quota, 0, used_up.full_in))
}

fn with_fields(error: ApiError, fields: [(HeaderName, HeaderValue); 4]) -> ApiError {
    fields.into_iter().fold(error, |error, (name, value)| error.header(name, value))
}

/// Tells a client what is left (draft-ietf-httpapi-ratelimit-headers, in the form that Docker Hub's clients know).
pub(super) fn tell(counted: Option<&Counted>, headers: &mut HeaderMap) {
    if let Some(Counted { quota, left }) = counted {
        headers.extend(fields(*quota, left.requests, left.full_in));
    }
}

/// As [`tell`], for a request that counted and failed.
pub(super) fn tell_refused(counted: Option<&Counted>, error: ApiError) -> ApiError {
    match counted {
        Some(Counted { quota, left }) => with_fields(error, fields(*quota, left.requests, left.full_in)),
        None => error,
    }
}

fn fields(quota: Quota, remaining: u64, reset: u64) -> [(HeaderName, HeaderValue); 4] {
    let policy = format!("{};w={}", quota.requests, quota.window.as_secs());
    [
        (LIMIT, quota.requests.into()),
        (REMAINING, remaining.into()),
        (RESET, reset.into()),
        (POLICY, super::response::value(policy)),
    ]
}
