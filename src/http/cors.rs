//! Requests of pages of other origins (CORS): preflights, and the headers that let such a page read a response
//! (`http.allowOrigin`).
//!
//! Invariant: a page of an origin that the operator does not name reads no response. The routes of API keys and of
//! signing out always answer preflights, as in zot. That reveals nothing.

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::response::empty;
use super::route::Path;
use super::{Body, Context};
use crate::config::AllowedOrigins;
use crate::identity::access::Surface;
use crate::registry::Shared;

const ANY: HeaderValue = HeaderValue::from_static("*");
/// The methods that the routes of zot's web page have.
const PAGE_METHODS: HeaderValue = HeaderValue::from_static("GET,POST,DELETE,OPTIONS");
/// The methods of all routes.
const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS");
/// The headers that zot's web page sends.
const HEADERS: HeaderValue = HeaderValue::from_static("Authorization,content-type,X-ZOT-API-CLIENT");
/// The headers of responses that clients in a browser need.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Docker-Content-Digest,Link,Location,OCI-Subject,WWW-Authenticate");
/// How long a browser remembers the answer to a preflight, in seconds.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

/// Whether a request is a preflight for a route that pages of other origins may call.
pub(super) fn is_preflight(registry: &Shared, head: &Parts, path: &Path<'_>) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        && is_covered(path)
        && *registry.allowed_origins() != AllowedOrigins::None
}

/// Whether `http.allowOrigin` is about a path: those of the distribution specification and of zot.
fn is_covered(path: &Path<'_>) -> bool {
    path.surface() == Surface::Registry
}

/// Answers a browser that checks whether a page of another origin may send a request. [`finish`] adds the origin.
pub(super) fn preflight(context: &Context<'_>) -> Response<Body> {
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    if *context.registry.allowed_origins() == AllowedOrigins::None {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, PAGE_METHODS);
    } else {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    }
    response
}

/// Lets pages of the origins of `http.allowOrigin` read a response. Only named origins get responses to requests with
/// cookies.
pub(super) fn finish(registry: &Shared, head: &Parts, path: &Path<'_>, response: &mut Response<Body>) {
    let allowed = registry.allowed_origins();
    if *allowed == AllowedOrigins::None || !is_covered(path) {
        return;
    }
    let origin = head.headers.get(header::ORIGIN).filter(|origin| is_named(allowed, origin));
    let headers = response.headers_mut();
    if *allowed == AllowedOrigins::All {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    } else {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

/// Whether the operator names the origin of a header.
pub(super) fn is_named(allowed: &AllowedOrigins, origin: &HeaderValue) -> bool {
    origin.to_str().is_ok_and(|origin| allowed.names(origin))
}
