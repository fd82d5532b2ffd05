//! `/v2/<name>/referrers/<digest>` (distribution-spec, "Listing Referrers").

use std::fmt::Write as _;

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use percent_encoding::utf8_percent_encode;

use super::PARAMETER;
use crate::content::repository::ReferrerCursor;
use crate::http::error::ApiError;
use crate::http::response::{OCI_FILTERS_APPLIED, next_link, with_body};
use crate::http::{Body, Context};
use crate::oci::{Digest, MediaType, RepositoryName};

pub(in crate::http) fn list(
    context: &Context<'_>,
    name: &RepositoryName,
    subject: Digest,
    types: &[String],
    after: ReferrerCursor,
    limit: Option<usize>,
) -> Result<Response<Body>, ApiError> {
    let page = context.registry.repository(name).referrers(subject, types, after, limit)?;
    // Descriptors are stored as JSON; parsing them to write them again would be work for nothing.
    let mut body = Body::bytes(format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":["#, MediaType::OCI_INDEX));
    body.push_bytes(page.descriptors);
    body.push_bytes("]}");
    let mut response = with_body(StatusCode::OK, HeaderValue::from_static(MediaType::OCI_INDEX), body);
    if !types.is_empty() {
        response.headers_mut().insert(OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(ReferrerCursor { artifact_type, digest: Some(digest) }) = page.next {
        let mut path = format!("/v2/{name}/referrers/{subject}?");
        if let Some(limit) = limit {
            write!(path, "n={limit}&").expect("writing to a text does not fail");
        }
        for kind in types {
            write!(path, "artifactType={}&", utf8_percent_encode(kind, PARAMETER))
                .expect("writing to a text does not fail");
        }
        let cursor = format!("{artifact_type}@{digest}");
        write!(path, "last={}", utf8_percent_encode(&cursor, PARAMETER)).expect("writing to a text does not fail");
        response.headers_mut().insert(header::LINK, next_link(&path));
    }
    Ok(response)
}
