//! Pulls from repositories that mirror another registry: fetches what is missing before the ordinary handler answers.

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::blob::{described, range};
use crate::content::repository;
use crate::http::error::ApiError;
use crate::http::request::has_already;
use crate::http::response::{not_modified, value};
use crate::http::route::{Query, Route};
use crate::http::{Body, Context, Operation};
use crate::kit::text::printable;
use crate::mirror::{self, BlobSource, Freshness, Growing, Mirror};
use crate::oci::{ByteRange, Digest, ErrorCode, RangeRequest, Reference, RepositoryName};

/// The response may be outdated (RFC 7234, 5.5.1).
const STALE: HeaderValue = HeaderValue::from_static("110 coracle \"Response is Stale\"");

/// Replaces the repository of a pull by the one that mirrors it. containerd names the registry that it means with `?ns=`.
pub(in crate::http) fn resolve(
    mirror: &Mirror,
    query: Option<&str>,
    operation: &mut Operation,
) -> Result<(), ApiError> {
    let Operation::Registry(route) = operation else { return Ok(()) };
    let Some(name) = route.pulled_repository() else { return Ok(()) };
    let query = Query::parse(query.unwrap_or_default())?;
    let host = query.one("ns")?;
    *name = mirror.local_name(name, host).ok_or_else(|| {
        let host = printable(host.unwrap_or_default());
        ApiError::new(ErrorCode::NameUnknown, format!("{host:?} is not mirrored by this registry"))
    })?;
    Ok(())
}

/// The result of the mirror's work for a request.
pub(in crate::http) enum Prepared {
    /// The ordinary handler answers, with this warning.
    Local(Option<HeaderValue>),
    Answered(Response<Body>),
}

/// Fetches what a pull needs. Does nothing for other requests.
pub(in crate::http) async fn prepare(
    context: &Context<'_>,
    mirror: &Mirror,
    route: &Route,
) -> Result<Prepared, ApiError> {
    match route {
        Route::GetManifest { name, reference } | Route::HeadManifest { name, reference } => {
            let freshness = mirror.manifest(name, reference).await;
            let freshness = freshness.map_err(|error| refused(&error, name, || unknown_manifest(reference)))?;
            Ok(Prepared::Local(match freshness {
                Freshness::Local | Freshness::Current => None,
                Freshness::Stale(error) => {
                    tracing::warn!(%name, %reference, %error, "serving a tag that was not compared with its upstream");
                    Some(STALE)
                }
            }))
        }
        Route::Referrers { name, subject, .. } => {
            mirror.referrers(name, *subject).await.map_err(|error| failed(&error, name))?;
            Ok(Prepared::Local(None))
        }
        Route::GetBlob { name, digest } => {
            let source = mirror.blob(name, *digest).await;
            match source.map_err(|error| refused(&error, name, || unknown_blob(*digest)))? {
                BlobSource::Local => Ok(Prepared::Local(None)),
                BlobSource::Growing(growing) => growing_blob(context, *digest, growing).map(Prepared::Answered),
            }
        }
        Route::HeadBlob { name, digest } => {
            let size = mirror.blob_size(name, *digest).await;
            let size = size.map_err(|error| refused(&error, name, || unknown_blob(*digest)))?;
            Ok(match size {
                None => Prepared::Local(None),
                Some(size) => {
                    let mut response = described(*digest);
                    response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
                    Prepared::Answered(response)
                }
            })
        }
        _ => Ok(Prepared::Local(None)),
    }
}

/// Sends a blob while it arrives.
fn growing_blob(context: &Context<'_>, digest: Digest, growing: Growing) -> Result<Response<Body>, ApiError> {
    let mut response = described(digest);
    if has_already(context.info.headers, digest) {
        return Ok(not_modified(response));
    }
    if growing.size == 0 {
        return Ok(response);
    }
    let size = growing.size;
    let whole = ByteRange { first: 0, last: size - 1 };
    // Several ranges are rare. The whole blob is a valid answer to them (RFC 9110, 14.2).
    let part = match range(context.info.headers, digest, size)? {
        RangeRequest::Parts(parts) if parts.len() == 1 => parts[0],
        _ => whole,
    };
    if part.first != whole.first || part.last != whole.last {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let content_range = format!("bytes {}-{}/{size}", part.first, part.last);
        response.headers_mut().insert(header::CONTENT_RANGE, value(content_range));
    }
    response.body_mut().push_growing(growing, part);
    Ok(response)
}

/// The error of a request that the mirror cannot serve.
fn refused(error: &mirror::Error, name: &RepositoryName, unknown: impl FnOnce() -> repository::Error) -> ApiError {
    match error {
        mirror::Error::NotFound => unknown().into(),
        error => failed(error, name),
    }
}

/// The error of an upstream that does not provide what is requested. The message names the upstream and the reason.
fn failed(error: &mirror::Error, name: &RepositoryName) -> ApiError {
    let status = match error {
        mirror::Error::Upstream(error) if error.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
        mirror::Error::Store(_) | mirror::Error::Task(_) => return ApiError::internal(error),
        mirror::Error::Stopped => return ApiError::unavailable(error),
        mirror::Error::NotFound => StatusCode::NOT_FOUND,
        mirror::Error::Upstream(_) | mirror::Error::Ended { .. } | mirror::Error::TooLong => StatusCode::BAD_GATEWAY,
    };
    tracing::warn!(%name, %error, "cannot mirror");
    ApiError::new(ErrorCode::Unknown, format!("cannot mirror {name}: {error}")).status(status)
}

fn unknown_manifest(reference: &Reference) -> repository::Error {
    repository::Error::ManifestUnknown { reference: reference.clone() }
}

const fn unknown_blob(digest: Digest) -> repository::Error {
    repository::Error::BlobUnknown { digest }
}
