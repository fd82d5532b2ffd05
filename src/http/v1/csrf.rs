//! That a request which changes something comes from a page that could read an answer of ours, and
//! not from another site's form.

use hyper::Method;
use hyper::header::HeaderName;

use super::super::Context;
use super::super::error::ApiError;
use crate::http::route::Query;
use crate::identity::access::Credential;

const CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");

/// Refuses an unsafe request without the CSRF token of its cookie. A key or a token needs none:
/// browsers do not send one by themselves.
pub(in crate::http) fn check(context: &Context<'_>, method: &Method, query: &Query) -> Result<(), ApiError> {
    if method.is_safe() || matches!(context.caller.credential, Credential::Key(_) | Credential::Token(_)) {
        return Ok(());
    }
    let header = context.headers.get(CSRF_TOKEN).and_then(|value| value.to_str().ok());
    let token = match header {
        Some(token) => Some(token),
        None => query.one("_csrf_token").ok().flatten(),
    };
    let signed_in = context.caller.credential.session().map(|grant| grant.signed_in);
    match (token, context.cookie()) {
        (Some(token), Some(cookie)) if context.registry.accounts().is_csrf_token(token, &cookie, signed_in) => Ok(()),
        _ => Err(ApiError::csrf()),
    }
}
