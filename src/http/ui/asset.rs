//! The files that pages load.

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use crate::http::error::ApiError;
use crate::http::response::{CACHE_FOR_EVER, with_body};
use crate::http::{Body, Context, HandlerResult};
use crate::web::Asset;

/// The name of an asset has the checksum of its content, so that it may be cached for ever.
pub(super) fn get(context: &Context<'_>, name: &str) -> HandlerResult {
    let (asset, content_type) = Asset::find(name).ok_or_else(ApiError::nothing_here)?;
    let is_compressed = accepts_gzip(context);
    let bytes = if is_compressed { asset.gzip } else { asset.plain };
    let body = Body::bytes(bytes::Bytes::from_static(bytes));
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

/// Whether the client takes gzip. A weight other than zero is as good as any.
pub(in crate::http) fn accepts_gzip(context: &Context<'_>) -> bool {
    let values = context.info.headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_none_or(|weight| weight > 0.0)
    })
}
