//! zot's web page, from the directory of `extensions.ui.directory`.
//!
//! The paths of the registry come first. The page has its own routes in the browser: each of them is answered with its first
//! page.

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use crate::http::error::ApiError;
use crate::http::response::{CACHE_AND_ASK, CACHE_FOR_EVER, accepts_gzip, value, with_body};
use crate::http::route::Path;
use crate::http::{Body, Context, HandlerResult};
use crate::identity::access::Surface;
use crate::kit::site::Site;
use crate::registry::Shared;

/// The routes that the page handles in the browser.
const ROUTES: [&str; 5] = ["/login", "/home", "/explore", "/image", "/user"];
/// The directory of files whose names have a checksum of their content.
const HASHED: &str = "/assets/";
/// The page has styles, and a script, within its HTML, as zot permits.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; font-src 'self'; \
     connect-src 'self'; img-src 'self' data:; manifest-src 'self'; base-uri 'self'; form-action 'self'; \
     frame-ancestors 'none'",
);

/// The file for a path that the registry does not use itself.
pub(in crate::http) fn find(registry: &Shared, head: &Parts, path: &Path<'_>) -> Option<String> {
    let site = registry.site()?;
    if !matches!(head.method, Method::GET | Method::HEAD) || path.surface() != Surface::Registry {
        return None;
    }
    let path = path.as_str()?;
    let is_route = |route: &str| path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if path == "/" || ROUTES.iter().any(|route| is_route(route)) {
        return Some(Site::index().to_owned());
    }
    site.file(path).map(|_| path.to_owned())
}

/// Sends a file.
pub(in crate::http) fn get(context: &Context<'_>, path: &str) -> HandlerResult {
    let file = context.registry.site().and_then(|site| site.file(path)).ok_or_else(ApiError::nothing_here)?;
    let tag = value(&file.tag);
    let known = context.info.headers.get_all(header::IF_NONE_MATCH).iter();
    let is_known = known.filter_map(|value| value.to_str().ok()).any(|value| value.contains(file.tag.as_str()));
    let packed = file.gzip().filter(|_| accepts_gzip(context));
    let body = if is_known { Body::empty() } else { Body::bytes(packed.unwrap_or(&file.bytes).clone()) };
    let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut response = with_body(status, HeaderValue::from_static(file.content_type), body);
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(header::CACHE_CONTROL, if path.starts_with(HASHED) { CACHE_FOR_EVER } else { CACHE_AND_ASK });
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    if packed.is_some() && !is_known {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
