//! One request: route, caller, access decision, handler, response.
//!
//! Knows the operations of the registry, and neither files nor rows. Invariant: every request goes through
//! [`answer`]. A handler returns an error and never builds an error response.

mod access_log;
/// The endpoints of the distribution specification. A handler is three paragraphs: read typed input, make one call, build
/// the response.
mod api {
    pub(super) mod blob;
    pub(super) mod list;
    pub(super) mod manifest;
    pub(super) mod mirrored;
    pub(super) mod token;
    pub(super) mod upload;
}
mod audit;
mod body;
mod caching;
mod cookie;
mod cors;
mod cross_site;
mod error;
/// zot's routes beyond the distribution specification.
mod ext {
    pub(super) mod apikey;
    #[cfg_attr(not(feature = "openid"), path = "confirm/absent.rs")]
    pub(super) mod confirm;
    pub(super) mod discover;
    #[cfg_attr(not(feature = "openid"), path = "login/absent.rs")]
    pub(super) mod login;
    pub(super) mod logout;
    pub(super) mod mgmt;
    #[cfg_attr(not(feature = "search"), path = "search/absent.rs")]
    pub(super) mod search;
    pub(super) mod site;
    pub(super) mod userprefs;
}
mod forwarded;
#[cfg(any(fuzzing, test))]
mod fuzzing;
mod head;
mod host;
mod maintenance;
mod operation;
mod ops;
mod own_hosts;
#[cfg(feature = "ui")]
mod page;
mod rate_limit;
mod receive;
mod request;
mod response;
pub(crate) mod route;
mod time;
#[cfg_attr(not(feature = "ui"), path = "http/ui/absent.rs")]
mod ui;
mod v1;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response, StatusCode, Uri};

use crate::config::Bearer;
use crate::identity::access::{
    Access, Authenticated, Caller, ClientCertificate, CredentialCache, Credentials, Identity, Refusal, RequestInfo,
    Surface,
};
use crate::identity::accounts::{Account, HashCaller, HashedPassword, Origin, Password, SessionGrant, SessionId};
use crate::kit::{blocking, traces};
use crate::mirror::client::Login;
use crate::registry::Shared;
pub(crate) use access_log::EndedBody;
use access_log::{LoggedCaller, Unanswered};
use audit::AuditedRequest;
pub use body::Body;
#[cfg(target_os = "linux")]
pub(crate) use body::FilePart;
pub(crate) use body::PolledFrame;
use cookie::Cookies;
use error::ApiError;
use forwarded::ClientInfo;
#[cfg(any(fuzzing, test))]
pub(crate) use fuzzing::headers;
use head::ReadHead;
pub(crate) use operation::Operation;
pub(crate) use own_hosts::OwnHosts;
pub(crate) use request::{Arriving, BoxError, RequestBody, why_unreadable};
use route::Path;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Smaller responses do not count as unsent bytes: buffers of the system take as much.
const UNSENT_BYTES_MIN: u64 = 64 * 1024;
/// The most bytes of a `User-Agent` that are stored.
const AGENT_BYTES_MAX: usize = 256;

/// The response of a handler, or its error.
type HandlerResult = Result<Response<Body>, ApiError>;

/// The input of a handler, besides the values of its route and the body.
#[derive(Debug)]
struct Context<'a> {
    registry: &'a Shared,
    caller: &'a Caller,
    info: RequestInfo<'a>,
    client: ClientInfo<'a>,
    /// The credentials of the request, if they are for an upstream, which decides about the pull.
    passed: Option<&'a Login>,
}

impl Context<'_> {
    /// Runs blocking work. It runs to its end even if the client disconnects, and the registry waits for it when it stops.
    async fn blocking<T, E>(&self, f: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Send + 'static,
        ApiError: From<E>,
    {
        Ok(blocking::run(self.registry.work(), f).await??)
    }

    /// Hashes a new password. Waits while too many others are being hashed.
    async fn hash(&self, password: Password) -> Result<HashedPassword, ApiError> {
        let caller = HashCaller::User(self.user()?.to_owned());
        Ok(self.registry.accounts().hash(password, caller).await?)
    }

    /// The user. The access of the route has made sure that there is one.
    fn account(&self) -> Result<&Arc<Account>, ApiError> {
        self.caller.account().ok_or_else(|| Refusal::Unauthenticated.into())
    }

    /// The user's name.
    fn user(&self) -> Result<&str, ApiError> {
        Ok(&self.account()?.name)
    }

    /// The user and the address of the request, for the audit log.
    fn origin(&self) -> Origin {
        self.info.origin(self.caller.name())
    }

    /// Starts a session of a user, and ends the one that the client had before.
    async fn start_session(&self, account: &Arc<Account>) -> Result<(SessionId, SessionGrant), ApiError> {
        let (accounts, account, replaced) = (Arc::clone(self.registry.accounts()), Arc::clone(account), self.cookie());
        let origin = self.info.origin(Some(&account.name));
        self.blocking(move || accounts.start_session(&account, replaced.as_ref(), &origin)).await
    }

    /// The value of the session cookie, whether or not there is such a session.
    fn cookie(&self) -> Option<SessionId> {
        Credentials::cookie(self.info.headers)
    }

    fn cookies(&self) -> Cookies<'_> {
        Cookies { registry: self.registry, client: self.client }
    }

    /// The registry's own URL: the configured one, or else the one that the client used.
    fn base_url(&self) -> String {
        self.client.base_url(self.registry)
    }
}

/// The connection that requests arrive on.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// The other end on the network, if there is one.
    peer: Option<SocketAddr>,
    /// Whether the registry itself speaks TLS on it.
    is_tls: bool,
    /// Whether the port is only for the challenges of an ACME authority.
    only_challenges: bool,
    certificate: ClientCertificate,
    /// The registry's own hosts, if there is a socket.
    own_hosts: Option<Arc<OwnHosts>>,
    credential_cache: CredentialCache,
}

impl Connection {
    /// A connection with a socket. A unix socket has no peer.
    pub(crate) fn from(peer: Option<SocketAddr>, is_tls: bool, own_hosts: Arc<OwnHosts>) -> Self {
        Self { peer, is_tls, own_hosts: Some(own_hosts), ..Self::default() }
    }

    /// The same connection with the certificate that its client has shown.
    pub(crate) fn with_certificate(self, certificate: ClientCertificate) -> Self {
        Self { certificate, ..self }
    }

    /// The same connection, to a port that is only for the challenges of an ACME authority.
    pub(crate) fn only_for_challenges(self) -> Self {
        Self { only_challenges: true, ..self }
    }

    /// Whether the client uses a unix socket.
    const fn is_unix(&self) -> bool {
        self.peer.is_none() && self.own_hosts.is_some()
    }
}

/// Whether a request is a health probe. Probes are answered however many other requests are in flight.
pub(crate) fn is_probe(method: &Method, uri: &Uri) -> bool {
    // Requests for metrics are no probes, so their configurable path does not matter here.
    let operation = Operation::parse(method, &Path::decode(uri.path()), uri.query(), None);
    operation.is_ok_and(|operation| operation.is_probe())
}

/// Answers one request. Refuses it if `place` is false, because too many others are in flight. It may wait for others, and
/// counts as a part of the request.
pub(crate) async fn answer(
    registry: &Shared,
    connection: &Connection,
    place: impl Future<Output = bool>,
    head: Parts,
    mut body: RequestBody,
) -> Response<Body> {
    let started = Instant::now();
    let id = registry.next_request_id();
    let peer = connection.peer;
    let path = Path::decode(head.uri.path()).with_pages(registry.has_pages());
    let client = ClientInfo::read(registry.trusted_proxies(), connection, &head);
    if let (Some(notice), Some(peer)) = (client.notice, peer) {
        registry.notice(notice, peer.ip().to_canonical());
    }
    let agent = agent(&head.headers);
    // Health probes would fill the traces.
    let span = if path.is_probe() { None } else { registry.traces().begin(&head, agent) };
    let unanswered = Unanswered { registry, head: &head, client, agent, id, span, started, is_answered: false };
    let id = unanswered.id.as_str();
    let info = RequestInfo {
        method: &head.method,
        headers: &head.headers,
        surface: path.surface(),
        address: client.address,
        peer,
        certificate: &connection.certificate,
        credential_cache: &connection.credential_cache,
        agent,
        request: id,
    };
    let has_place = place.await;
    let Outcome { result, caller, cookies } = if has_place {
        traces::in_span(
            unanswered.span.as_ref(),
            respond(registry, connection, (&head, &path), info, client, &mut body),
        )
        .await
    } else {
        Outcome::refused(ApiError::busy("too many requests are in flight"))
    };
    let mut response = match result.and_then(|response| limit_unsent(registry, response)) {
        Ok(response) => response,
        Err(error) => {
            // Without a place it uses the reserve, which must soon be free again.
            if has_place {
                Box::pin(body.finish_short(&head.headers)).await;
            }
            error_response(registry, error.of_request(&head.method, head.uri.path()), info, client)
        }
    };
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    cors::finish(registry, &head, &path, &mut response);
    caching::finish(head.method.is_safe(), &mut response);
    if path.is_in_v2() {
        response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    }
    if head.method == Method::HEAD {
        remove_body(&mut response);
    }
    let entry = unanswered.answered(caller, response.status());
    response.body_mut().log_at_end(entry);
    response
}

/// Removes the body of a response to `HEAD`, and states its length. hyper does so only in HTTP/1. Over HTTP/2 it would send
/// the body, which is a protocol error.
fn remove_body(response: &mut Response<Body>) {
    let length = std::mem::take(response.body_mut()).length();
    let status = response.status();
    // These have no length (RFC 9110, 8.6). An empty body may stand for a body that was not built.
    let has_length = !status.is_informational() && !matches!(status.as_u16(), 204 | 304);
    if has_length && length > 0 {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
}

/// The result of a request.
struct Outcome {
    result: HandlerResult,
    caller: LoggedCaller,
    /// Cookies to set, also with an error.
    cookies: Vec<HeaderValue>,
}

impl Outcome {
    /// A request that is refused before its caller is known.
    const fn refused(error: ApiError) -> Self {
        Self { result: Err(error), caller: LoggedCaller::Unknown, cookies: Vec::new() }
    }
}

/// Finds the operation and the caller of a request, and handles the request.
async fn respond(
    registry: &Shared,
    connection: &Connection,
    (head, path): (&Parts, &Path<'_>),
    info: RequestInfo<'_>,
    client: ClientInfo<'_>,
    body: &mut RequestBody,
) -> Outcome {
    if connection.only_challenges && !path.is_acme_challenge() {
        let result = ops::use_https(registry, head);
        return Outcome { result, caller: LoggedCaller::Unknown, cookies: Vec::new() };
    }
    let read = match ReadHead::of(registry, head, path, &client) {
        Ok(read) => read,
        Err(error) => return Outcome::refused(error),
    };
    traces::name_current(&head.method, read.operation.template());
    let Authenticated { caller, started, ended } = match authenticate(registry, &info, &read).await {
        Ok(authenticated) => authenticated,
        Err(error) => return Outcome::refused(error),
    };
    let (passed, passed_user) = read.passed.clone().unzip();
    let context = Context { registry, caller: &caller, info, client, passed: passed.as_ref() };
    let cookies = page_cookies(context.cookies(), &caller, started.as_ref(), ended);
    let result = handle(&context, connection, head, read, body).await;
    let logged = passed_user.map_or(LoggedCaller::Known(caller.identity), LoggedCaller::OfUpstream);
    Outcome { result, caller: logged, cookies }
}

/// Decides whether the caller may do what the request asks for, and does it.
async fn handle(
    context: &Context<'_>,
    connection: &Connection,
    head: &Parts,
    mut read: ReadHead,
    body: &mut RequestBody,
) -> HandlerResult {
    let Context { registry, caller, info, client, .. } = context;
    if let Some(bare) = &read.bare {
        api::mirrored::choose(registry, caller, bare, &mut read.operation)?;
        read.access = read.operation.access();
    }
    let ReadHead { operation, access, .. } = &read;
    cross_site::check(context, head, connection.own_hosts.as_deref(), operation, access)?;
    let mut decided = registry.decide(caller, access)?;
    if let Access::Repository(name, _) = access
        && !operation.asks_upstream()
        && registry.withholds(caller, name)
    {
        decided = Err(if caller.identity.grantee().is_some() { Refusal::Denied } else { Refusal::Unauthenticated });
    }
    if let Err(refusal) = decided {
        if let Operation::Page(request) = operation {
            return ui::refused(context, request, refusal, access);
        }
        let place = (info.surface, request::scheme(&head.headers));
        let error = ApiError::refused(refusal, caller, access, place, || read.scope(registry));
        return Err(match (registry.mirror(), operation) {
            (Some(mirror), Operation::Registry(route))
                if error.wants_challenge() && api::mirrored::is_private(mirror, route) =>
            {
                let (header, challenge) = api::mirrored::challenge(registry);
                error.header(header, challenge)
            }
            _ => error,
        });
    }
    let counted = rate_limit::count(registry, caller, operation, &head.method, client.address)?;
    if operation.brings_content() {
        registry.stores().check_space()?;
    }
    if matches!(caller.identity, Identity::Anonymous) {
        body.is_from_anonymous();
    }
    let audited = AuditedRequest::begin(registry, head, client, info.request, caller.name());
    let ReadHead { operation, access, .. } = read;
    let result = operation.handle(context, body).await;
    if let Some(audited) = audited {
        Box::pin(audited.end(result.as_ref().map_or_else(ApiError::status_code, Response::status))).await;
    }
    let mut response = result.map_err(|error| rate_limit::tell_refused(counted.as_ref(), error))?;
    caching::limit(registry, caller, &access, &mut response)?;
    rate_limit::tell(counted.as_ref(), response.headers_mut());
    Ok(response)
}

/// Counts the bytes of a large response until they are sent. Refuses the response if too many other bytes are unsent.
fn limit_unsent(registry: &Shared, mut response: Response<Body>) -> Result<Response<Body>, ApiError> {
    let bytes = response.body().unreserved();
    if bytes > UNSENT_BYTES_MIN {
        let reserved = registry.unsent().try_reserve(bytes).ok_or_else(ApiError::unread)?;
        response.body_mut().hold(reserved);
    }
    response.body_mut().limit_pieces(registry.pieces());
    Ok(response)
}

/// Finds the caller of a request.
async fn authenticate(registry: &Shared, info: &RequestInfo<'_>, read: &ReadHead) -> Result<Authenticated, ApiError> {
    // An open registry, probes and signing out ignore credentials, so that stale ones do not cause a 401.
    let is_open = registry.policy().grants == crate::AccessPolicy::Open && info.surface == Surface::Registry;
    if is_open || read.access == Access::Anyone {
        return Ok(Caller::ANONYMOUS.into());
    }
    let authenticated = registry.authenticator().authenticate(info).await;
    authenticated.map_err(|error| ApiError::from(error).for_scope(|| read.scope(registry)))
}

/// Sets or removes the cookies of zot's web page, if the request began or ended its session.
fn page_cookies(cookies: Cookies<'_>, caller: &Caller, started: Option<&SessionId>, ended: bool) -> Vec<HeaderValue> {
    match (started, caller.name()) {
        (Some(id), Some(name)) => vec![cookies.session(id, true), cookies.user(name)],
        _ if ended => vec![cookies.no_session(), cookies.no_user()],
        _ => Vec::new(),
    }
}

/// Builds the response of an error, and logs its cause, which the client does not see.
fn error_response(registry: &Shared, error: ApiError, info: RequestInfo<'_>, client: ClientInfo<'_>) -> Response<Body> {
    let id = info.request;
    let cause = error.cause().map(str::to_owned);
    // The web pages of zot and Quay ask for the password themselves. With a challenge, browsers would show their own
    // dialog.
    let challenged =
        error.wants_challenge() && info.surface == Surface::Registry && !Credentials::from_page(info.headers);
    let base = client.base_url(registry);
    let (scope, token_error) = (error.scope().map(str::to_owned), error.token_error());
    let mut response = error.into_response(info.surface, id, &base);
    if let Some(cause) = cause {
        tracing::error!(id, status = response.status().as_u16(), cause, "a request failed");
        if let Ok(id) = HeaderValue::from_str(id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
    }
    if challenged && !response.headers().contains_key(header::WWW_AUTHENTICATE) {
        let challenge = challenge(registry, &base, scope.as_deref(), token_error);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, response::value(challenge));
    }
    response
}

/// The challenge that tells clients how to sign in (RFC 7617, RFC 6750 and the Docker token specification). It has one
/// scheme only, because clients differ in the one that they choose among several.
fn challenge(registry: &Shared, base: &str, scope: Option<&str>, token_error: Option<&str>) -> String {
    let mut challenge = match registry.external_issuer() {
        Some(Bearer { realm, service, .. }) => format!("Bearer realm=\"{realm}\",service=\"{service}\""),
        None if !registry.wants_tokens() => return format!("Basic realm=\"{}\"", registry.realm()),
        None => format!("Bearer realm=\"{base}/v2/auth\",service=\"{}\"", service(registry, base)),
    };
    for (name, value) in [("scope", scope), ("error", token_error)] {
        if let Some(value) = value {
            challenge.extend([",", name, "=\"", value, "\""]);
        }
    }
    challenge
}

/// The service name of the registry in access tokens: a configured name, or else the host that the client used.
fn service<'a>(registry: &'a Shared, base: &'a str) -> &'a str {
    registry.token_services().first().map_or_else(|| host_of(base), String::as_str)
}

/// The host and port of the registry's own URL.
fn host_of(base: &str) -> &str {
    base.split_once("://").map_or(base, |(_, host)| host)
}

/// The `User-Agent`, shortened. Empty if it is not text.
fn agent(headers: &HeaderMap) -> &str {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    &agent[..agent.len().min(AGENT_BYTES_MAX)]
}
