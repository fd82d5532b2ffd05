//! `/v2/<name>/blobs/uploads/…` (distribution-spec, "Pushing blobs", "Pushing a blob in chunks",
//! "Cancel a blob upload", "Mounting a blob from another repository").

use hyper::header;
use hyper::{Response, StatusCode};

use crate::content::repository::{self, Upload};
use crate::http::error::ApiError;
use crate::http::receive::{receive, receive_last};
use crate::http::request::{RequestBody, content_range};
use crate::http::response::{DOCKER_CONTENT_DIGEST, DOCKER_UPLOAD_UUID, empty, value};
use crate::http::{Body, Context, HandlerResult};
use crate::oci::{Algorithm, ChunkRange, Digest, RepositoryName, UploadId};

pub(in crate::http) async fn start(
    context: &Context<'_>,
    name: &RepositoryName,
    algorithm: Algorithm,
) -> HandlerResult {
    let repository = context.registry.repository(name);
    let start = move || {
        repository.check_may_exist()?;
        repository.start_upload(algorithm)
    };
    let id = context.blocking(start).await?;
    Ok(in_progress(StatusCode::ACCEPTED, name, id, 0))
}

/// `POST ?digest=`: pushes a whole blob in one request.
pub(in crate::http) async fn push(
    context: &Context<'_>,
    name: &RepositoryName,
    digest: Digest,
    body: &mut RequestBody,
) -> HandlerResult {
    let range = content_range(context.info.headers)?;
    if range.is_some_and(|range| range.first() != 0) {
        return Err(repository::Error::UploadOutOfOrder { reached: 0 }.into());
    }
    let repository = context.registry.repository(name);
    let open = move || {
        repository.check_may_exist()?;
        repository.open_brief_upload(digest.algorithm())
    };
    let mut upload = context.blocking(open).await?;
    check_quota(context, &mut upload, Some(digest))?;
    receive_last(context.registry.work(), upload, body.take(), range, digest).await?;
    Ok(created(name, digest))
}

/// `POST ?mount=`: mounts the blob of another repository, or starts an upload if no repository has the blob.
pub(in crate::http) async fn mount(context: &Context<'_>, name: &RepositoryName, digest: Digest) -> HandlerResult {
    let repository = context.registry.repository(name);
    let view = context.registry.catalog_view(context.caller);
    // If this cannot be decided, the client pushes the blob itself.
    let readable = move |source: &RepositoryName| view.may_mount_from(source);
    if context.blocking(move || repository.mount(digest, readable)).await? {
        return Ok(created(name, digest));
    }
    start(context, name, digest.algorithm()).await
}

pub(in crate::http) fn status(context: &Context<'_>, name: &RepositoryName, id: UploadId) -> HandlerResult {
    let offset = context.registry.repository(name).upload_offset(id)?;
    Ok(in_progress(StatusCode::NO_CONTENT, name, id, offset))
}

/// `PATCH`: receives the next bytes.
pub(in crate::http) async fn chunk(
    context: &Context<'_>,
    name: &RepositoryName,
    id: UploadId,
    body: &mut RequestBody,
) -> HandlerResult {
    let range = content_range(context.info.headers)?;
    let mut upload = resume(context, name, id, range).await?;
    check_quota(context, &mut upload, None)?;
    let received = receive(context.registry.work(), upload, body.take(), range).await?;
    Ok(in_progress(StatusCode::ACCEPTED, name, id, received))
}

/// `PUT ?digest=`: receives the last bytes, if there are any, and finishes the upload.
pub(in crate::http) async fn finish(
    context: &Context<'_>,
    name: &RepositoryName,
    id: UploadId,
    digest: Digest,
    body: &mut RequestBody,
) -> HandlerResult {
    let range = content_range(context.info.headers)?;
    let mut upload = resume(context, name, id, range).await?;
    check_quota(context, &mut upload, Some(digest))?;
    receive_last(context.registry.work(), upload, body.take(), range, digest).await?;
    Ok(created(name, digest))
}

pub(in crate::http) async fn cancel(context: &Context<'_>, name: &RepositoryName, id: UploadId) -> HandlerResult {
    let upload = context.registry.repository(name).upload(id).await?;
    context.blocking(move || upload.cancel()).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Refuses a body before its first byte if its length exceeds a quota.
fn check_quota(context: &Context<'_>, upload: &mut Upload, digest: Option<Digest>) -> Result<(), ApiError> {
    let length = context.info.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(upload.check_quota(length.unwrap_or_default(), digest)?)
}

/// Opens an upload for a chunk, which must begin at the end of the received bytes. The error of another chunk has that
/// offset.
async fn resume(
    context: &Context<'_>,
    name: &RepositoryName,
    id: UploadId,
    range: Option<ChunkRange>,
) -> Result<Upload, ApiError> {
    let upload = context.registry.repository(name).upload(id).await?;
    match range.map_or(Ok(()), |range| upload.expect(range)) {
        Ok(()) => Ok(upload),
        Err(error @ repository::Error::UploadOutOfOrder { reached }) => Err(ApiError::from(error)
            .header(header::LOCATION, value(location(name, id)))
            .header(header::RANGE, value(received_range(reached)))),
        Err(error) => Err(error.into()),
    }
}

/// The response after a blob was pushed or mounted.
fn created(name: &RepositoryName, digest: Digest) -> Response<Body> {
    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, value(format!("/v2/{name}/blobs/{digest}")));
    headers.insert(DOCKER_CONTENT_DIGEST, value(digest.to_string()));
    response
}

/// The response of an unfinished upload.
fn in_progress(status: StatusCode, name: &RepositoryName, id: UploadId, offset: u64) -> Response<Body> {
    let mut response = empty(status);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, value(location(name, id)));
    headers.insert(header::RANGE, value(received_range(offset)));
    headers.insert(DOCKER_UPLOAD_UUID, value(id.to_string()));
    response
}

fn location(name: &RepositoryName, id: UploadId) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// Formats `0-<last byte>`. An empty upload has `0-0`, as in every registry, because the format cannot express an empty
/// range.
fn received_range(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}
