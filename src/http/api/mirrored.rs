//! Pulls from repositories that mirror another registry: fetches what is missing before the ordinary handler answers.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::blob::{described, range, unsatisfiable};
use super::list;
use crate::AccessPolicy;
use crate::content::repository;
use crate::http::error::ApiError;
use crate::http::request::has_already;
use crate::http::response::{json_response, not_modified, value};
use crate::http::route::{Page, Query, Route};
use crate::http::{Body, Context, HandlerResult, Operation};
use crate::identity::access::{Access, Caller, Credentials, Surface};
use crate::identity::accounts::Actions;
use crate::identity::tokens::ScopeRequest;
use crate::kit::text::printable;
use crate::mirror::client::Login;
use crate::mirror::{self, BlobSource, Freshness, Growing, Listed, Mirror, Pulled, Resolved};
use crate::oci::{ByteRange, Digest, ErrorCode, RangeRequest, Reference, RepositoryName};
use crate::registry::Shared;

/// The response may be outdated (RFC 7234, 5.5.1).
const STALE: HeaderValue = HeaderValue::from_static("110 coracle \"Response is Stale\"");

/// Replaces the repository of a pull by the one that mirrors it. containerd names the registry that it means with `?ns=`.
/// Returns the name as the client wrote it, if the caller's rights decide between the two (see [`choose`]).
pub(in crate::http) fn resolve(
    mirror: &Mirror,
    query: Option<&str>,
    operation: &mut Operation,
) -> Result<Option<RepositoryName>, ApiError> {
    let Some(name) = operation.pulled_repository() else { return Ok(None) };
    let query = query.map(Query::parse).transpose()?;
    let host = query.as_ref().map_or(Ok(None), |query| query.one("ns"))?;
    let Some(Resolved { name: mirrored, bare }) = mirror.resolve(name, host) else {
        let host = printable(host.unwrap_or_default());
        return Err(ApiError::new(ErrorCode::NameUnknown, format!("{host:?} is not mirrored by this registry")));
    };
    *name = mirrored;
    Ok(bare)
}

/// Makes a pull by a bare name one of this registry's own repository, if there is one that the caller may use. A caller who
/// may not gets the response of the mirrored repository, and cannot see whether there is another.
pub(in crate::http) fn choose(
    registry: &Shared,
    caller: &Caller,
    bare: &RepositoryName,
    operation: &mut Operation,
) -> Result<(), ApiError> {
    let may = |actions| registry.decide(caller, &Access::Repository(bare.clone(), actions));
    // A client that pushes asks for blobs and parts of an index first, also if the repository does not exist yet.
    let asks_first = matches!(
        operation,
        Operation::Registry(Route::HeadBlob { .. } | Route::HeadManifest { reference: Reference::Digest(_), .. })
    );
    let pushes = asks_first && may(Actions::PUSH)?.is_ok();
    let is_own = pushes || may(Actions::PULL)?.is_ok() && registry.repository(bare).is_known()?;
    if let (true, Some(name)) = (is_own, operation.pulled_repository()) {
        name.clone_from(bare);
    }
    Ok(())
}

/// The repository of a pull for which an upstream may decide.
pub(in crate::http) const fn pulled(route: &Route) -> Option<&RepositoryName> {
    match route {
        Route::Referrers { name, .. }
        | Route::GetManifest { name, .. }
        | Route::HeadManifest { name, .. }
        | Route::GetBlob { name, .. }
        | Route::HeadBlob { name, .. } => Some(name),
        _ => None,
    }
}

/// Whether an upstream decides if content may be pulled. A request for a token that also names other repositories, or is for
/// more than pulls, is one of our own users.
pub(in crate::http) fn is_private(mirror: &Mirror, route: &Route) -> bool {
    match route {
        Route::GetToken { query } => {
            let scopes = ScopeRequest::read(query.all("scope")).unwrap_or_default();
            let is_pull = |scope: &ScopeRequest| {
                scope.is_pull() && scope.repository("").is_some_and(|name| mirror.passes_logins(&name))
            };
            !scopes.is_empty() && scopes.iter().all(is_pull)
        }
        route => pulled(route).is_some_and(|name| mirror.passes_logins(name)),
    }
}

/// The repositories that a request for a token names.
fn scoped(query: &Query) -> Vec<RepositoryName> {
    let scopes = ScopeRequest::read(query.all("scope")).unwrap_or_default();
    scopes.iter().filter_map(|scope| scope.repository("")).collect()
}

/// The challenge for the credentials of an upstream. Clients send them with the request itself.
pub(in crate::http) fn challenge(registry: &Shared) -> (HeaderName, HeaderValue) {
    (header::WWW_AUTHENTICATE, value(format!("Basic realm=\"{}\"", registry.realm())))
}

/// The credentials of a request that are for an upstream, because it decides who may pull. They are never compared with
/// those of our users. API keys and tokens of this registry are for this registry.
pub(in crate::http) fn passed_login(mirror: &Mirror, headers: &HeaderMap, route: &Route) -> Option<Login> {
    if !is_private(mirror, route) {
        return None;
    }
    match Credentials::read(headers, Surface::Registry).ok()? {
        Credentials::Basic { user, password } => {
            Some(Login::Password { user, password: password.reveal().to_owned().into() })
        }
        Credentials::Token(token) => mirror.ticket_login(pulled(route)?, token.reveal()),
        _ => None,
    }
}

/// The error of a request with a ticket that is not, or no longer, for this repository.
pub(in crate::http) fn useless_ticket(
    registry: &Shared,
    mirror: &Mirror,
    headers: &HeaderMap,
    route: &Route,
) -> Option<ApiError> {
    let Ok(Credentials::Token(token)) = Credentials::read(headers, Surface::Registry) else { return None };
    if !mirror::is_ticket(token.reveal()) {
        return None;
    }
    let upstream = pulled(route).filter(|name| mirror.passes_logins(name)).and_then(|name| mirror.upstream_label(name));
    Some(match upstream {
        Some(upstream) => {
            let message = format!(
                "the token for {upstream} has expired, or is for another registry: send the user name and the password for \
                 {upstream} again"
            );
            let (header, challenge) = challenge(registry);
            ApiError::new(ErrorCode::Unauthorized, message).header(header, challenge)
        }
        // An open registry ignores credentials.
        None if registry.policy().grants == AccessPolicy::Open => return None,
        None => {
            let message = "this token is for pulls from another registry only: request one for this registry";
            ApiError::new(ErrorCode::Unauthorized, message).of_token("invalid_token")
        }
    })
}

/// The user of an upstream, for the log.
pub(in crate::http) fn passed_user(mirror: &Mirror, route: &Route, login: &Login) -> String {
    let name = match route {
        Route::GetToken { query } => scoped(query).into_iter().next(),
        route => pulled(route).cloned(),
    };
    let upstream = name.as_ref().and_then(|name| mirror.upstream_label(name)).unwrap_or_default();
    format!("{upstream}/{}", login.user().unwrap_or_default())
}

/// The repository and the digest of a pull by digest.
pub(in crate::http) fn pulled_digest(route: &Route) -> Option<(RepositoryName, Digest)> {
    match route {
        Route::GetManifest { name, reference: Reference::Digest(digest) }
        | Route::HeadManifest { name, reference: Reference::Digest(digest) }
        | Route::GetBlob { name, digest }
        | Route::HeadBlob { name, digest } => Some((name.clone(), *digest)),
        _ => None,
    }
}

/// Issues a ticket for credentials that the upstream of the repositories accepts.
async fn issue_ticket(context: &Context<'_>, mirror: &Mirror, query: &Query, login: Login) -> HandlerResult {
    let names = scoped(query);
    let upstream = |name: &RepositoryName| mirror.upstream_label(name);
    let Some(name) = names.first().filter(|first| names.iter().all(|name| upstream(name) == upstream(first))) else {
        let message = "one token is for the repositories of one other registry: request one for each registry";
        return Err(ApiError::bad_request(ErrorCode::Unsupported, message));
    };
    let ticket = mirror.ticket(name, login, context.info.address).await;
    let ticket = ticket.map_err(|error| not_permitted(context, mirror, &error, name))?;
    let answer = json!({ "token": ticket, "access_token": ticket, "expires_in": mirror::TICKET.as_secs() });
    Ok(json_response(StatusCode::OK, &answer))
}

/// Fails unless the upstream permits the pull, if that is for it to decide.
async fn permit(context: &Context<'_>, mirror: &Mirror, route: &Route, login: Option<&Login>) -> Result<(), ApiError> {
    let subject;
    let (name, pulled) = match route {
        Route::GetManifest { name, reference } | Route::HeadManifest { name, reference } => {
            (name, Pulled::Manifest(reference))
        }
        Route::Referrers { name, subject: digest, .. } => {
            subject = Reference::Digest(*digest);
            (name, Pulled::Manifest(&subject))
        }
        Route::GetBlob { name, digest } | Route::HeadBlob { name, digest } => (name, Pulled::Blob(*digest)),
        _ => return Ok(()),
    };
    let Err(error) = mirror.permit(name, login, context.info.address, pulled).await else { return Ok(()) };
    if matches!(error, mirror::Error::NotFound) {
        return Err(match pulled {
            Pulled::Manifest(reference) => unknown_manifest(reference),
            Pulled::Blob(digest) => unknown_blob(digest),
        }
        .into());
    }
    Err(not_permitted(context, mirror, &error, name))
}

/// The error of credentials that an upstream refuses, or of an upstream that does not decide.
fn not_permitted(context: &Context<'_>, mirror: &Mirror, error: &mirror::Error, name: &RepositoryName) -> ApiError {
    if !error.is_refusal() {
        return failed(mirror, error, name);
    }
    let (header, challenge) = challenge(context.registry);
    let message = format!("{name} needs credentials of its upstream: {error}");
    ApiError::new(ErrorCode::Unauthorized, message).header(header, challenge)
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
    let login = context.passed;
    permit(context, mirror, route, login).await?;
    match route {
        Route::GetManifest { name, reference } | Route::HeadManifest { name, reference } => {
            let freshness = mirror.manifest(name, reference, login).await;
            let freshness = freshness.map_err(|error| refused(mirror, &error, name, || unknown_manifest(reference)))?;
            Ok(stored(mirror, freshness, name, "a tag that was not compared with its upstream"))
        }
        Route::Tags { name, page } => tags(context, mirror, name, page).await.map(Prepared::Answered),
        Route::Catalog { page } => catalog(context, mirror, page).await,
        Route::Referrers { name, subject, .. } => {
            let freshness = mirror.referrers(name, *subject, login).await;
            let freshness = freshness.map_err(|error| failed(mirror, &error, name))?;
            Ok(stored(mirror, freshness, name, "a list of referrers without all of the upstream"))
        }
        Route::GetBlob { name, digest } => {
            let source = mirror.blob(name, *digest, login).await;
            match source.map_err(|error| refused(mirror, &error, name, || unknown_blob(*digest)))? {
                BlobSource::Local => Ok(Prepared::Local(None)),
                BlobSource::Growing(growing) => growing_blob(context, *digest, growing).map(Prepared::Answered),
            }
        }
        Route::HeadBlob { name, digest } => {
            let size = mirror.blob_size(name, *digest, login).await;
            let size = size.map_err(|error| refused(mirror, &error, name, || unknown_blob(*digest)))?;
            Ok(match size {
                None => Prepared::Local(None),
                Some(size) => {
                    let mut response = described(*digest);
                    response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
                    Prepared::Answered(response)
                }
            })
        }
        Route::GetToken { query } => match login {
            None => Ok(Prepared::Local(None)),
            Some(login) => issue_ticket(context, mirror, query, login.clone()).await.map(Prepared::Answered),
        },
        _ => Ok(Prepared::Local(None)),
    }
}

/// The ordinary handler answers from what is stored, with a warning if it may be outdated.
fn stored(mirror: &Mirror, freshness: Freshness, name: &RepositoryName, what: &str) -> Prepared {
    Prepared::Local(match freshness {
        Freshness::Local | Freshness::Current => None,
        Freshness::Stale(error) => {
            if let Some(count) = mirror.stale_responses.pass() {
                tracing::warn!(%name, %error, count, "serving {what}");
            }
            Some(STALE)
        }
    })
}

/// `/v2/<name>/tags/list` of a mirrored repository: its own tags, and those that the upstream lists.
async fn tags(context: &Context<'_>, mirror: &Mirror, name: &RepositoryName, page: &Page) -> HandlerResult {
    let Some(Listed { names: tags, failure }) = mirror.upstream_tags(name).await else {
        return list::tags(context, name, page);
    };
    if tags.is_empty() && failure.is_none() {
        return list::tags(context, name, page);
    }
    let answer = list::merged_tags(context, name, page, &tags);
    match (answer, failure) {
        (Ok(response), Some(error)) => {
            if let Some(count) = mirror.stale_responses.pass() {
                tracing::warn!(%name, %error, count, "listing tags without those of the upstream");
            }
            Ok(stale(response))
        }
        (Err(unknown), Some(error)) if unknown.status_code() == StatusCode::NOT_FOUND => {
            Err(failed(mirror, &error, name))
        }
        (answer, _) => answer,
    }
}

/// `/v2/_catalog` during a takeover: the repositories that the caller sees, here and in the other registry.
async fn catalog(context: &Context<'_>, mirror: &Mirror, page: &Page) -> Result<Prepared, ApiError> {
    let Some(Listed { names, failure }) = mirror.repositories_to_take_over().await else {
        return Ok(Prepared::Local(None));
    };
    let response = list::catalog(context, page.clone(), names).await?;
    Ok(Prepared::Answered(match failure {
        None => response,
        Some(error) => {
            if let Some(count) = mirror.stale_responses.pass() {
                tracing::warn!(%error, count, "listing repositories without those of the registry that is taken over");
            }
            stale(response)
        }
    }))
}

fn stale(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::WARNING, STALE);
    response
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
        RangeRequest::Unsatisfiable => return Err(unsatisfiable(size)),
        RangeRequest::Whole | RangeRequest::Parts(_) | RangeRequest::TooMany => whole,
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
fn refused(
    mirror: &Mirror,
    error: &mirror::Error,
    name: &RepositoryName,
    unknown: impl FnOnce() -> repository::Error,
) -> ApiError {
    match error {
        mirror::Error::NotFound => unknown().into(),
        mirror::Error::Excluded { .. } => ApiError::new(ErrorCode::ManifestUnknown, error.to_string()),
        mirror::Error::Unsigned { .. } => ApiError::new(ErrorCode::Denied, error.to_string()),
        mirror::Error::Unlisted { .. } => ApiError::new(ErrorCode::BlobUnknown, error.to_string()),
        error => failed(mirror, error, name),
    }
}

/// The error of an upstream that does not provide what is requested. The message names the upstream and the reason.
pub(super) fn failed(mirror: &Mirror, error: &mirror::Error, name: &RepositoryName) -> ApiError {
    let status = match error {
        mirror::Error::Upstream(error) if error.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
        mirror::Error::Store(error) if error.is_no_space() => return ApiError::no_space(error),
        mirror::Error::Upstream(error) if error.is_busy() => return ApiError::busy(error.to_string()),
        mirror::Error::Store(_) | mirror::Error::Task(_) => return ApiError::internal(error),
        mirror::Error::Stopped => return ApiError::unavailable(error),
        mirror::Error::Throttled { seconds } => return ApiError::too_many(error.to_string(), *seconds),
        mirror::Error::NotFound | mirror::Error::Excluded { .. } | mirror::Error::Unlisted { .. } => {
            StatusCode::NOT_FOUND
        }
        mirror::Error::Unsigned { .. } => StatusCode::FORBIDDEN,
        mirror::Error::SlowList => StatusCode::GATEWAY_TIMEOUT,
        mirror::Error::Upstream(_) | mirror::Error::Ended { .. } => StatusCode::BAD_GATEWAY,
    };
    if let Some(count) = mirror.failed_pulls.pass() {
        tracing::warn!(%name, %error, count, "cannot mirror");
    }
    ApiError::new(ErrorCode::Unknown, format!("cannot mirror {name}: {error}")).status(status)
}

fn unknown_manifest(reference: &Reference) -> repository::Error {
    repository::Error::ManifestUnknown { reference: reference.clone() }
}

const fn unknown_blob(digest: Digest) -> repository::Error {
    repository::Error::BlobUnknown { digest }
}
