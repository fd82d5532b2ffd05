//! Protection against requests that a browser sends for the page of another site (CSRF, DNS rebinding).
//!
//! Invariant: such a request changes nothing by means that the browser adds by itself: cookies, the password of a `Basic`
//! prompt, and access to an open registry in a private network. A page cannot add `Authorization: Bearer` unless the
//! registry allows it in a preflight.

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;

use super::error::ApiError;
use super::host::{Host, default_port};
use super::own_hosts::OwnHosts;
use super::{Context, Operation, cors};
use crate::AccessPolicy;
use crate::http::route::{Query, Route};
use crate::identity::access::{Access, Credential, Identity};
use crate::oci::ErrorCode;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");
const OTHER_CREDENTIALS: &str = "changes in API v1 need an API key or an access token of this registry as Authorization: \
                                 Bearer, or a session with its CSRF token: Basic credentials do not count here, and an ID \
                                 token can be exchanged for an access token at /v2/auth";

/// The origin of the page that sends a request.
#[derive(Clone, Copy, Debug)]
struct Origin<'a> {
    is_https: bool,
    host: Host<'a>,
}

impl<'a> Origin<'a> {
    /// Reads `https://host:port`. Other origins, such as `null`, are never those of the registry.
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, host) = text.split_once("://")?;
        let is_https = match scheme {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        Some(Self { is_https, host: Host::parse(host)? })
    }

    fn is_at(self, host: Host<'_>) -> bool {
        self.host.is_same(host, default_port(self.is_https))
    }
}

/// Refuses a request that the page of another site may have sent. `own_hosts` are those of the socket, if there is one.
pub(super) fn check(
    context: &Context<'_>,
    head: &Parts,
    own_hosts: Option<&OwnHosts>,
    operation: &Operation,
    access: &Access,
) -> Result<(), ApiError> {
    check_host(context, head, own_hosts, operation, access)?;
    check_origin(context, head, operation)?;
    match operation {
        // A form has its token in the body, which is read later.
        Operation::Registry(_) | Operation::Page(_) | Operation::Site(_) => Ok(()),
        Operation::V1(_) => check_token(context, head),
    }
}

/// Refuses an unsafe request to API v1 without the CSRF token of its cookie. An API key or an access token needs none:
/// browsers do not send them by themselves.
fn check_token(context: &Context<'_>, head: &Parts) -> Result<(), ApiError> {
    if head.method.is_safe() || matches!(context.caller.credential, Credential::Key(_) | Credential::Token(_)) {
        return Ok(());
    }
    let header = head.headers.get(CSRF_TOKEN).and_then(|value| value.to_str().ok());
    let query = Query::parse(head.uri.query().unwrap_or_default())?;
    let token = match header {
        Some(token) => Some(token),
        None => query.one("_csrf_token").ok().flatten(),
    };
    let signed_in = context.caller.credential.session().map(|grant| grant.signed_in);
    match (token, context.cookie()) {
        (Some(token), Some(cookie)) if context.registry.accounts().is_csrf_token(token, &cookie, signed_in) => Ok(()),
        // A program that sends credentials of another kind knows nothing of a CSRF token.
        _ if signed_in.is_none() && head.headers.contains_key(header::AUTHORIZATION) => {
            Err(ApiError::new(ErrorCode::Denied, OTHER_CREDENTIALS))
        }
        _ => Err(ApiError::csrf()),
    }
}

/// Refuses an unsafe request from the page of another origin that `http.allowOrigin` does not name.
fn check_origin(context: &Context<'_>, head: &Parts, operation: &Operation) -> Result<(), ApiError> {
    // An open registry ignores credentials, so a token proves nothing there.
    let is_open = context.registry.policy().grants == AccessPolicy::Open;
    if head.method.is_safe() || !is_open && has_bearer(head) {
        return Ok(());
    }
    if matches!(operation, Operation::Registry(_)) && is_named(context, head) {
        return Ok(());
    }
    // A page of another host or port of the same site (`same-site`) has another origin.
    let mut sites = head.headers.get_all(SEC_FETCH_SITE).iter();
    if sites.any(|site| site != "same-origin" && site != "none") {
        return Err(ApiError::csrf());
    }
    let says_same = head.headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "same-origin");
    let mut origins = head.headers.get_all(header::ORIGIN).iter();
    let is_own = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(Origin::parse);
        origin.is_some_and(|origin| is_own(context, origin, says_same))
    };
    if origins.all(is_own) { Ok(()) } else { Err(ApiError::csrf()) }
}

/// Whether the operator allows requests of the page that sends this one.
fn is_named(context: &Context<'_>, head: &Parts) -> bool {
    let allowed = context.registry.allowed_origins();
    let mut origins = head.headers.get_all(header::ORIGIN).iter().peekable();
    origins.peek().is_some() && origins.all(|origin| cors::is_named(allowed, origin))
}

/// Whether an origin is the registry's own. `says_same` tells whether the browser reports the same origin.
fn is_own(Context { client, registry, .. }: &Context<'_>, origin: Origin<'_>, says_same: bool) -> bool {
    // Behind an untrusted proxy only the browser knows that the client uses TLS.
    let is_scheme = origin.is_https == client.speaks_tls() || origin.is_https && says_same;
    let is_requested = is_scheme && client.host().is_some_and(|host| origin.is_at(host));
    let external = registry.external_origin().map(|url| url.origin().ascii_serialization());
    let external = external.as_deref().and_then(Origin::parse);
    is_requested || external.is_some_and(|own| own.is_https == origin.is_https && origin.is_at(own.host))
}

fn has_bearer(head: &Parts) -> bool {
    let scheme = |value: &HeaderValue| value.as_bytes().get(..7).is_some_and(|s| s.eq_ignore_ascii_case(b"bearer "));
    head.headers.get(header::AUTHORIZATION).is_some_and(scheme)
}

/// Refuses a request for a foreign host if the registry permits the operation without credentials. A request that needs
/// credentials gets a challenge instead, because a proxy may pass on a host that the registry does not know.
fn check_host(
    Context { registry, caller, client, .. }: &Context<'_>,
    head: &Parts,
    own_hosts: Option<&OwnHosts>,
    operation: &Operation,
    access: &Access,
) -> Result<(), ApiError> {
    // Without a socket no browser reaches the registry. Probes reveal nothing.
    use Route::{AcmeChallenge, Live, Metrics, Ready, Root, Started};
    let is_probe = match operation {
        Operation::Registry(route) => matches!(route, Root | Live | Ready | Started | Metrics | AcmeChallenge { .. }),
        Operation::V1(_) => false,
        Operation::Page(request) => request.is_asset(),
        Operation::Site(_) => true,
    };
    let Some(own_hosts) = own_hosts.filter(|_| !is_probe) else { return Ok(()) };
    let is_change = !head.method.is_safe() && matches!(access, Access::Repository(..));
    let is_permitted = match registry.policy().grants {
        AccessPolicy::Open => true,
        _ if !is_change || !matches!(caller.identity, Identity::Anonymous) => false,
        _ => registry.decide(caller, access)?.is_ok(),
    };
    if !is_permitted {
        return Ok(());
    }
    match client.hosts().find(|host| !own_hosts.has(*host, registry.external_origin())) {
        Some(host) => Err(ApiError::new(
            ErrorCode::Denied,
            format!(
                "{host} is not a host of this registry, which lets anyone do this: reach it by its address, or set \
                 http.externalUrl"
            ),
        )),
        None => Ok(()),
    }
}
