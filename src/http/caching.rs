//! Which caches may store a response (RFC 9111).
//!
//! Invariant: a shared cache stores only responses that an anonymous client could get. A handler states how long its
//! response may be stored. Without such a statement it is not stored.

use hyper::Response;
use hyper::header::{self, HeaderValue};

use super::Body;
use super::error::ApiError;
use crate::identity::access::{Access, Caller, Identity};
use crate::identity::accounts::Action;
use crate::registry::Shared;

pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// The request headers that a stored response depends on.
const CREDENTIALS: HeaderValue = HeaderValue::from_static("Authorization, Cookie");

/// Limits a response about a repository to the client's own cache, unless anonymous clients may read the repository.
pub(super) fn limit(
    registry: &Shared,
    caller: &Caller,
    access: &Access,
    response: &mut Response<Body>,
) -> Result<(), ApiError> {
    let Access::Repository(name, _) = access else { return Ok(()) };
    if !response.headers().contains_key(header::CACHE_CONTROL) {
        return Ok(());
    }
    // An anonymous caller has just read it.
    let is_public =
        matches!(caller.identity, Identity::Anonymous) || registry.actions(&Caller::ANONYMOUS, name)?.has(Action::Pull);
    if is_public { Ok(()) } else { make_private(response) }
}

/// Limits a response to the client's own cache.
pub(super) fn make_private(response: &mut Response<Body>) -> Result<(), ApiError> {
    let lifetime = response.headers().get(header::CACHE_CONTROL);
    let Some(lifetime) = lifetime.filter(|value| *value != NO_STORE && !value.as_bytes().starts_with(b"private"))
    else {
        return Ok(());
    };
    let private = [b"private, ", lifetime.as_bytes()].concat();
    let private = HeaderValue::from_bytes(&private).map_err(ApiError::internal)?;
    response.headers_mut().insert(header::CACHE_CONTROL, private);
    response.headers_mut().append(header::VARY, CREDENTIALS);
    Ok(())
}

/// Keeps caches from guessing how long they may store a response.
pub(super) fn finish(is_read: bool, response: &mut Response<Body>) {
    if is_read {
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(NO_STORE);
    }
}
