//! `/v2/<name>/blobs/<digest>` (distribution-spec, "Pulling blobs", "Deleting Blobs"; ranges as in
//! RFC 9110, 14).

use std::ops::ControlFlow;
use std::sync::Arc;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use crate::content::blobs::Blob;
use crate::content::repository::{Error, Opened, Repository};
use crate::http::error::ApiError;
use crate::http::request::{has_already, text};
use crate::http::response::{CACHE_FOR_EVER, content, empty, etag, not_modified, value};
use crate::http::{Body, Context, HandlerResult};
use crate::oci::{ByteRange, Digest, ErrorCode, RANGE_PARTS_MAX, RangeRequest, RepositoryName};

const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

pub(in crate::http) async fn get(context: &Context<'_>, name: &RepositoryName, digest: Digest) -> HandlerResult {
    let blob = open(context, &context.registry.repository(name), digest).await?;
    if has_already(context.info.headers, digest) {
        return Ok(not_modified(described(digest)));
    }
    match range(context.info.headers, digest, blob.size)? {
        RangeRequest::Whole => Ok(whole(digest, blob)),
        RangeRequest::Parts(parts) if parts.len() == 1 => Ok(part(digest, blob, parts[0])),
        RangeRequest::Parts(parts) => Ok(multipart(digest, blob, &parts)),
        RangeRequest::TooMany => {
            let message = format!("the Range header has more than {RANGE_PARTS_MAX} ranges");
            Err(ApiError::new(ErrorCode::SizeInvalid, message))
        }
        RangeRequest::Unsatisfiable => Err(unsatisfiable(blob.size)),
    }
}

/// The error for a range that has no byte of a blob of this size.
pub(super) fn unsatisfiable(size: u64) -> ApiError {
    let message = format!("the Range header is not within the {size} bytes of the blob");
    ApiError::range(ErrorCode::SizeInvalid, message).header(header::CONTENT_RANGE, value(format!("bytes */{size}")))
}

/// Opens a blob. Hashes its file first if the file was modified.
pub(in crate::http) async fn open(
    context: &Context<'_>,
    repository: &Repository,
    digest: Digest,
) -> Result<Blob, ApiError> {
    if let Opened::Whole(blob) = repository.open_blob(digest)? {
        return Ok(blob);
    }
    let stores = Arc::clone(context.registry.stores());
    context.blocking(move || stores.check_blob(digest, |_| ControlFlow::Continue(()))).await?;
    match repository.open_blob(digest)? {
        Opened::Whole(blob) => Ok(blob),
        Opened::Doubtful => Err(Error::Corrupt { what: "the file keeps changing", digest }.into()),
    }
}

pub(in crate::http) fn head(context: &Context<'_>, name: &RepositoryName, digest: Digest) -> HandlerResult {
    let size = context.registry.repository(name).blob_size(digest)?;
    let mut response = described(digest);
    if has_already(context.info.headers, digest) {
        return Ok(not_modified(response));
    }
    response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
    Ok(response)
}

pub(in crate::http) async fn delete(context: &Context<'_>, name: &RepositoryName, digest: Digest) -> HandlerResult {
    let repository = context.registry.repository(name);
    context.blocking(move || repository.delete_blob(digest)).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// Reads the requested range. `If-Range` limits it to the content that the client knows.
pub(super) fn range(headers: &HeaderMap, digest: Digest, size: u64) -> Result<RangeRequest, ApiError> {
    let Some(wanted) = text(headers, &header::RANGE, ErrorCode::SizeInvalid)? else { return Ok(RangeRequest::Whole) };
    match headers.get(header::IF_RANGE) {
        Some(known) if *known != etag(digest) => Ok(RangeRequest::Whole),
        _ => Ok(RangeRequest::parse(wanted, size)),
    }
}

/// The response to a request for a blob, without the body.
pub(super) fn described(digest: Digest) -> Response<Body> {
    let mut response = content(OCTET_STREAM, digest, CACHE_FOR_EVER);
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response
}

fn whole(digest: Digest, blob: Blob) -> Response<Body> {
    let mut response = described(digest);
    if blob.size > 0 {
        let range = ByteRange { first: 0, last: blob.size - 1 };
        response.body_mut().push_file(&Arc::new(blob.file), range);
    }
    response
}

fn part(digest: Digest, blob: Blob, range: ByteRange) -> Response<Body> {
    let mut response = described(digest);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    response.headers_mut().insert(header::CONTENT_RANGE, value(content_range(range, blob.size)));
    response.body_mut().push_file(&Arc::new(blob.file), range);
    response
}

fn multipart(digest: Digest, blob: Blob, parts: &[ByteRange]) -> Response<Body> {
    let boundary = hex::encode(rand::random::<[u8; 16]>());
    let file = Arc::new(blob.file);
    let mut response = described(digest);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let content_type = value(format!("multipart/byteranges; boundary={boundary}"));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    let body = response.body_mut();
    for (index, range) in parts.iter().enumerate() {
        let before = if index == 0 { "" } else { "\r\n" };
        let of = content_range(*range, blob.size);
        body.push_bytes(format!(
            "{before}--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {of}\r\n\r\n"
        ));
        body.push_file(&file, *range);
    }
    body.push_bytes(format!("\r\n--{boundary}--\r\n"));
    response
}

fn content_range(range: ByteRange, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.first, range.last)
}
