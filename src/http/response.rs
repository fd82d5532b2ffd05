//! Functions that build responses.

use std::fmt::Write as _;

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use super::caching::NO_STORE;
use super::error::ApiError;
use super::{Body, Context};
use crate::oci::Digest;

pub(super) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(super) const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(super) const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(super) const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
pub(super) const REFERRER_POLICY: HeaderName = HeaderName::from_static("referrer-policy");
pub(super) const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// The length of a quoted SHA-256 digest, so that one allocation is enough.
const QUOTED_DIGEST_BYTES: usize = "\"sha256:\"".len() + 64;

/// The content of a digest never changes.
pub(super) const CACHE_FOR_EVER: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");
/// The content of a tag may change at any time.
pub(super) const CACHE_AND_ASK: HeaderValue = HeaderValue::from_static("no-cache");

/// Makes a response without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Makes a response with a body of a media type.
pub(super) fn with_body(status: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// Makes a JSON response.
pub(super) fn json_response(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(value).expect("responses have no maps with other keys than text");
    with_body(status, HeaderValue::from_static("application/json"), Body::bytes(bytes))
}

/// Makes the response to a request for pushed content, without the body.
pub(super) fn content(media_type: HeaderValue, digest: Digest, cache: HeaderValue) -> Response<Body> {
    let mut response = with_body(StatusCode::OK, media_type, Body::empty());
    let headers = response.headers_mut();
    identify(headers, digest);
    headers.insert(header::CACHE_CONTROL, cache);
    // Browsers must not take pushed data for a page.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    response
}

/// Tells a client that it has the content already.
pub(super) fn not_modified(mut response: Response<Body>) -> Response<Body> {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

/// Makes a header value of checked text, such as digests, names, tags, numbers and paths of them.
pub(super) fn value(text: impl AsRef<str>) -> HeaderValue {
    HeaderValue::from_str(text.as_ref()).expect("checked values are visible ASCII")
}

/// Makes a warning: `299 - "<text>"` (distribution-spec, "Warnings").
pub(super) fn warning_value(text: &str) -> HeaderValue {
    let fit = |c: char| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\') { c } else { '?' };
    value(format!("299 - \"{}\"", text.chars().map(fit).collect::<String>()))
}

/// Sets the digest and the entity tag of the content.
pub(super) fn identify(headers: &mut HeaderMap, digest: Digest) {
    let quoted = quoted(digest);
    let shared = |text: Bytes| HeaderValue::from_maybe_shared(text).expect("a digest is visible ASCII");
    headers.insert(DOCKER_CONTENT_DIGEST, shared(quoted.slice(1..quoted.len() - 1)));
    headers.insert(header::ETAG, shared(quoted));
}

/// The entity tag of content: its quoted digest.
pub(super) fn etag(digest: Digest) -> HeaderValue {
    HeaderValue::from_maybe_shared(quoted(digest)).expect("a digest is visible ASCII")
}

fn quoted(digest: Digest) -> Bytes {
    let mut text = String::with_capacity(QUOTED_DIGEST_BYTES);
    let _ = write!(text, "\"{digest}\"");
    text.into()
}

/// Makes the value of `Link: <path>; rel="next"` (RFC 8288).
pub(super) fn next_link(path: &str) -> HeaderValue {
    value(format!("<{path}>; rel=\"next\""))
}

/// Keeps a response out of caches, and its address out of other requests, unless the response sets its own policy.
pub(super) fn quiet(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.entry(REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
}

/// Sends a browser to a URL.
pub(super) fn redirect(status: StatusCode, url: &str) -> Result<Response<Body>, ApiError> {
    let mut response = empty(status);
    let location = HeaderValue::from_str(url).map_err(ApiError::internal)?;
    response.headers_mut().insert(header::LOCATION, location);
    quiet(response.headers_mut());
    Ok(response)
}

/// Whether the client takes gzip. A weight other than zero is as good as any.
pub(super) fn accepts_gzip(context: &Context<'_>) -> bool {
    let values = context.info.headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_none_or(|weight| weight > 0.0)
    })
}
