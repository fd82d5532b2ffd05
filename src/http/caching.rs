//! Who may keep an answer (RFC 9111).
//!
//! Invariant: a cache that several people use keeps nothing that an anonymous client could not get. How long an
//! answer may be kept is for its handler to say; an answer about which none says anything is not kept.

use hyper::Response;
use hyper::header::{self, HeaderValue};

use super::Body;
use super::error::ApiError;
use crate::identity::access::{Access, Caller, Identity};
use crate::identity::accounts::Action;
use crate::registry::Shared;

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// What changes who may read an answer.
const CREDENTIALS: HeaderValue = HeaderValue::from_static("Authorization, Cookie");

/// Limits an answer about a repository to the client's own cache, unless the repository is for everybody to read.
pub(super) fn limit(
    registry: &Shared,
    caller: &Caller,
    access: &Access,
    response: &mut Response<Body>,
) -> Result<(), ApiError> {
    let Access::Repository(name, _) = access else { return Ok(()) };
    let Some(said) = response.headers().get(header::CACHE_CONTROL).filter(|said| *said != NO_STORE) else {
        return Ok(());
    };
    // A caller without a name has just read it.
    let is_public =
        matches!(caller.identity, Identity::Anonymous) || registry.actions(&Caller::ANONYMOUS, name)?.has(Action::Pull);
    if !is_public {
        let private = [b"private, ", said.as_bytes()].concat();
        let private = HeaderValue::from_bytes(&private).map_err(ApiError::internal)?;
        response.headers_mut().insert(header::CACHE_CONTROL, private);
        response.headers_mut().append(header::VARY, CREDENTIALS);
    }
    Ok(())
}

/// Keeps caches from guessing how long they may keep an answer.
pub(super) fn finish(is_read: bool, response: &mut Response<Body>) {
    if is_read {
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(NO_STORE);
    }
}
