//! The files that pages load.

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use crate::http::error::ApiError;
use crate::http::response::{CACHE_FOR_EVER, accepts_gzip, with_body};
use crate::http::{Body, Context, HandlerResult};
use crate::web::Asset;

/// The name of an asset has the checksum of its content, so that it may be cached for ever.
pub(super) fn get(context: &Context<'_>, name: &str) -> HandlerResult {
    let (asset, content_type) = Asset::find(name).ok_or_else(ApiError::nothing_here)?;
    let is_compressed = accepts_gzip(context);
    let bytes = if is_compressed { asset.gzip } else { asset.plain };
    let body = Body::reserved(bytes::Bytes::from_static(bytes));
    let mut response = with_body(StatusCode::OK, HeaderValue::from_static(content_type), body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, CACHE_FOR_EVER);
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // An opened image is a page of this origin.
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    if is_compressed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
