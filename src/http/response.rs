//! Building answers.

use std::fmt::Write as _;

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use super::Body;
use crate::oci::Digest;

pub(super) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(super) const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(super) const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(super) const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
pub(super) const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// What a digest of the usual algorithm takes with its quotes: memory is asked for once.
const QUOTED_DIGEST_BYTES: usize = "\"sha256:\"".len() + 64;

/// Content that a digest names never changes.
pub(super) const CACHE_FOR_EVER: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");
/// What a tag names may change at any time.
pub(super) const CACHE_AND_ASK: HeaderValue = HeaderValue::from_static("no-cache");

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// An answer of bytes of some media type.
pub(super) fn with_body(status: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// An answer in JSON.
pub(super) fn json_response(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(value).expect("answers are made of texts, numbers, lists and maps of texts");
    with_body(status, HeaderValue::from_static("application/json"), Body::bytes(bytes))
}

/// A header value of text that was checked: digests, names, tags, numbers and paths made of them.
pub(super) fn value(text: impl AsRef<str>) -> HeaderValue {
    HeaderValue::from_str(text.as_ref()).expect("checked values are visible ASCII")
}

/// A warning for people: `299 - "<text>"` (distribution-spec, "Warnings").
pub(super) fn warning_value(text: &str) -> HeaderValue {
    let fit = |c: char| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\') { c } else { '?' };
    value(format!("299 - \"{}\"", text.chars().map(fit).collect::<String>()))
}

/// Says what the content of an answer is: its digest, and its entity tag.
pub(super) fn identify(headers: &mut HeaderMap, digest: Digest) {
    let quoted = quoted(digest);
    let shared = |text: Bytes| HeaderValue::from_maybe_shared(text).expect("a digest is visible ASCII");
    headers.insert(DOCKER_CONTENT_DIGEST, shared(quoted.slice(1..quoted.len() - 1)));
    headers.insert(header::ETAG, shared(quoted));
}

/// The entity tag of content: its digest.
pub(super) fn etag(digest: Digest) -> HeaderValue {
    HeaderValue::from_maybe_shared(quoted(digest)).expect("a digest is visible ASCII")
}

fn quoted(digest: Digest) -> Bytes {
    let mut text = String::with_capacity(QUOTED_DIGEST_BYTES);
    let _ = write!(text, "\"{digest}\"");
    text.into()
}

/// `Link: <path>; rel="next"` (RFC 8288).
pub(super) fn next_link(path: &str) -> HeaderValue {
    value(format!("<{path}>; rel=\"next\""))
}
