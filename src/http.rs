//! One request: bytes in, route, caller, decision, handler, bytes out.
//!
//! Knows the registry's parts by their verbs, and neither files nor rows. What must hold: every
//! request takes the one way through [`answer`]; a handler returns an error and never writes one.

mod api;
mod body;
mod error;
mod observe;
mod ops;
mod receive;
mod request;
mod response;

use std::net::SocketAddr;
use std::time::Instant;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, Version};

pub use body::Body;
use error::ApiError;
pub(crate) use request::{BoxError, RequestBody};

use crate::access::{Credentials, Identity};
use crate::registry::Shared;
use crate::route::{self, Route};
use observe::{Observed, Subject};

/// More than this in headers is refused; what clients send is below 4 KiB, tokens included.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// A longer request line is refused: 46 tags of 128 bytes fit, with a name and a digest.
const URI_BYTES_MAX: usize = 8 * 1024;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a handler works with.
#[derive(Debug)]
struct Context<'a> {
    registry: &'a Shared,
    caller: &'a Identity,
    headers: &'a HeaderMap,
}

/// Answers one request. `peer` is who sent it, where that is known.
pub(crate) async fn answer(
    registry: &Shared,
    peer: Option<SocketAddr>,
    head: hyper::http::request::Parts,
    mut body: RequestBody,
) -> Response<Body> {
    let started = Instant::now();
    let id = registry.next_request_id();
    let mut subject = Subject::default();
    let result = respond(registry, peer, &head, &mut body, &mut subject).await;
    let mut response = match result {
        Ok(response) => response,
        Err(error) => {
            body.drain().await;
            refuse(registry, error, &id)
        }
    };
    if head.uri.path().starts_with("/v2") {
        response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    }
    Observed { registry, peer, head: &head, id, subject, started }.watch(response)
}

/// The whole way of a request.
async fn respond(
    registry: &Shared,
    peer: Option<SocketAddr>,
    head: &hyper::http::request::Parts,
    body: &mut RequestBody,
    subject: &mut Subject,
) -> Result<Response<Body>, ApiError> {
    check_limits(head)?;
    if peer.is_some() {
        check_host(head)?;
    }
    let (path, query) = (head.uri.path(), head.uri.query());
    let route = route::parse(&head.method, path, query, registry.metrics_path())?;
    let caller = authenticate(registry, &head.headers).await?;
    subject.caller = caller.name().map(str::to_owned);
    registry.policy().decide(&caller, &route.access())?;
    dispatch(&Context { registry, caller: &caller, headers: &head.headers }, route, body).await
}

fn check_limits(head: &hyper::http::request::Parts) -> Result<(), ApiError> {
    let uri = head.uri.path_and_query().map_or(0, |uri| uri.as_str().len());
    if uri > URI_BYTES_MAX {
        return Err(ApiError::uri_too_long(format!("a request line has at most {URI_BYTES_MAX} bytes")));
    }
    let headers: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > HEADER_BYTES_MAX { Err(ApiError::headers_too_large()) } else { Ok(()) }
}

/// What comes over a socket says once whom it is for (RFC 9112, 3.2); somebody on the way might
/// understand anything else otherwise. In HTTP/2 the frame says it.
fn check_host(head: &hyper::http::request::Parts) -> Result<(), ApiError> {
    let hosts = head.headers.get_all(header::HOST).iter().count();
    let needed = usize::from(head.version == Version::HTTP_11);
    if (needed..=1).contains(&hosts) { Ok(()) } else { Err(ApiError::host()) }
}

async fn authenticate(registry: &Shared, headers: &HeaderMap) -> Result<Identity, ApiError> {
    // Whoever may do everything need not say who they are, and old credentials do no harm.
    if registry.policy() == crate::AccessPolicy::Open {
        return Ok(Identity::Anonymous);
    }
    let values = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    Ok(registry.authenticator().authenticate(Credentials::read(values)?).await?)
}

/// Makes the answer of a failure, and logs what the client does not get to know.
fn refuse(registry: &Shared, error: ApiError, id: &str) -> Response<Body> {
    let cause = error.cause().map(str::to_owned);
    let challenge = error.wants_challenge();
    let mut response = error.into_response(id);
    if let Some(cause) = cause {
        tracing::error!(id, status = response.status().as_u16(), cause, "a request failed");
        if let Ok(id) = HeaderValue::from_str(id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
    }
    if challenge {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, registry.challenge().clone());
    }
    response
}

async fn dispatch(context: &Context<'_>, route: Route, body: &mut RequestBody) -> Result<Response<Body>, ApiError> {
    use api::{blob, catalog, manifest, ping, referrer, tag, upload};
    match route {
        Route::Ping => Ok(ping::get()),
        Route::Catalog { page } => catalog::list(context, &page),
        Route::Tags { name, page } => tag::list(context, &name, &page),
        Route::Referrers { name, subject, types, after, limit } => {
            referrer::list(context, &name, subject, &types, after, limit)
        }
        Route::GetManifest { name, reference } => manifest::get(context, &name, &reference),
        Route::HeadManifest { name, reference } => manifest::head(context, &name, &reference),
        Route::PutManifest { name, target } => manifest::put(context, &name, target, body).await,
        Route::DeleteManifest { name, reference } => manifest::delete(context, &name, reference).await,
        Route::GetBlob { name, digest } => blob::get(context, &name, digest),
        Route::HeadBlob { name, digest } => blob::head(context, &name, digest),
        Route::DeleteBlob { name, digest } => blob::delete(context, &name, digest).await,
        Route::StartUpload { name, algorithm } => upload::start(context, &name, algorithm).await,
        Route::PushBlob { name, digest } => upload::push(context, &name, digest, body).await,
        Route::MountBlob { name, digest } => upload::mount(context, &name, digest).await,
        Route::UploadStatus { name, id } => upload::status(context, &name, id),
        Route::UploadChunk { name, id } => upload::chunk(context, &name, id, body).await,
        Route::FinishUpload { name, id, digest } => upload::finish(context, &name, id, digest, body).await,
        Route::CancelUpload { name, id } => upload::cancel(context, &name, id).await,
        Route::Live => Ok(ops::live()),
        Route::Ready => ops::ready(context),
        Route::Started => Ok(ops::started()),
        Route::Metrics => Ok(ops::metrics(context)),
    }
}

/// Runs what blocks. It runs to its end even if the client goes away.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, ApiError>
where
    T: Send + 'static,
    E: Send + 'static,
    ApiError: From<E>,
{
    Ok(tokio::task::spawn_blocking(work).await??)
}
