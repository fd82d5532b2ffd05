//! `/v2/auth`: a token for credentials (Docker token specification, also in the form of `OAuth2`);
//! Quay's path for it. And what tokens are verified with.
//!
//! Nothing is made while a token is: neither a repository nor a row, but the refresh token that was asked
//! for. Who asks for more than they may gets less, and no error.

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http::error::ApiError;
use crate::http::request::RequestBody;
use crate::http::response::json_response;
use crate::http::route::Query;
use crate::http::time::rfc3339;
use crate::http::{Body, Context, service};
use crate::identity::access::{Caller, Credential, Identity, Refusal};
use crate::identity::accounts::{Account, Actions, SessionId};
use crate::identity::tokens::{AccessEntry, Issued, IssuedFor, ScopeRequest};
use crate::oci::ErrorCode;

/// A form has a user's name, a password and some scopes.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// `GET`: with what the `Authorization` header says.
pub(in crate::http) async fn get(context: &Context<'_>, query: &Query) -> Result<Response<Body>, ApiError> {
    let request = TokenRequest::read(context, query)?;
    let caller = match &context.caller.credential {
        // A browser's session is no credential here: another site's page could ask.
        Credential::Session(_) => &Caller::ANONYMOUS,
        // One that got another would be good for ever.
        Credential::Token(_) => return Err(Refusal::Unauthenticated.into()),
        Credential::None | Credential::Password | Credential::Key(_) => context.caller,
    };
    // "Sign me in" without saying as whom.
    if caller.account().is_none() && request.scopes.is_empty() {
        return Err(Refusal::Unauthenticated.into());
    }
    let offline = query.one("offline_token")? == Some("true");
    let refresh = if offline { refresh_token(context, caller, &request.client).await? } else { None };
    let (issued, _) = issue(context, caller, refresh.as_ref().map(|(_, id)| *id), &request.scopes)?;
    let mut answer = answer(&issued);
    if let Some((refresh, _)) = refresh {
        answer["refresh_token"] = refresh.reveal().into();
    }
    Ok(no_store(json_response(StatusCode::OK, &answer)))
}

/// `POST`: with what a form says (RFC 6749, 4.3 and 6).
pub(in crate::http) async fn post(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<Body>, ApiError> {
    let bytes = body.read(FORM_BYTES_MAX).await?;
    let text = str::from_utf8(&bytes).map_err(|_| bad("the form is not UTF-8"))?;
    let form = Query::form(text)?;
    let request = TokenRequest::read(context, &form)?;
    let missing = |name: &str| bad(&format!("the field {name} is missing"));
    let (caller, refresh) = match form.one("grant_type")? {
        Some("password") => {
            let user = form.one("username")?.ok_or_else(|| missing("username"))?;
            let password = form.one("password")?.ok_or_else(|| missing("password"))?;
            let caller = context.registry.authenticator().sign_in(user, password, &context.info).await?;
            let offline = form.one("access_type")? == Some("offline");
            let refresh = if offline { refresh_token(context, &caller, &request.client).await? } else { None };
            (caller, refresh)
        }
        Some("refresh_token") => {
            let text = form.one("refresh_token")?.ok_or_else(|| missing("refresh_token"))?;
            let secret = SessionId::read(text).ok_or_else(wrong)?;
            let (accounts, origin, used) = (Arc::clone(context.registry.accounts()), context.origin(), secret.clone());
            let refreshed = context.blocking(move || accounts.refresh(&used, &origin)).await?;
            let (account, id) = refreshed.ok_or_else(wrong)?;
            (Caller { identity: Identity::User(account), credential: Credential::Password }, Some((secret, id)))
        }
        Some(_) => return Err(bad("the field grant_type is password or refresh_token")),
        None => return Err(missing("grant_type")),
    };
    let (issued, access) = issue(context, &caller, refresh.as_ref().map(|(_, id)| *id), &request.scopes)?;
    let mut answer = answer(&issued);
    answer["scope"] = access.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ").into();
    if let Some((refresh, _)) = refresh {
        answer["refresh_token"] = refresh.reveal().into();
    }
    Ok(no_store(json_response(StatusCode::OK, &answer)))
}

/// `/.well-known/jwks.json` (RFC 7517, 5).
pub(in crate::http) fn keys(context: &Context<'_>) -> Response<Body> {
    json_response(StatusCode::OK, &context.registry.tokens().public_keys())
}

/// What is asked for, in either form.
struct TokenRequest {
    scopes: Vec<ScopeRequest>,
    client: String,
}

impl TokenRequest {
    fn read(context: &Context<'_>, query: &Query) -> Result<Self, ApiError> {
        let base = context.base_url();
        let host = base.split_once("://").map_or(base.as_str(), |(_, host)| host);
        if let Some(asked) = query.one("service")?.filter(|asked| !asked.is_empty()) {
            let known = asked == host || context.registry.token_services().iter().any(|name| name == asked);
            if !known {
                return Err(bad(&format!("the service here is {}", service(context.registry, &base))));
            }
        }
        let scopes = ScopeRequest::read(query.all("scope")).map_err(|invalid| bad(&invalid.to_string()))?;
        let client = query.one("client_id")?.unwrap_or("unknown").to_owned();
        Ok(Self { scopes, client })
    }
}

/// Makes a token for what of the scopes the caller may do now. It ends with the refresh token that it comes with.
fn issue(
    context: &Context<'_>,
    caller: &Caller,
    refresh: Option<Uuid>,
    scopes: &[ScopeRequest],
) -> Result<(Issued, Vec<AccessEntry>), ApiError> {
    let base = context.base_url();
    let host = base.split_once("://").map_or(base.as_str(), |(_, host)| host);
    let mut access = Vec::with_capacity(scopes.len());
    for scope in scopes {
        access.push(match scope.repository(host) {
            Some(name) => scope.granted(Some(&name), context.registry.actions(caller, &name)?),
            None if scope.is_catalog() => scope.catalog(),
            None => scope.granted(None, Actions::NONE),
        });
    }
    let by = match (&caller.identity, &caller.credential) {
        (Identity::Anonymous | Identity::External(_), _) => IssuedFor::Anonymous,
        (Identity::User(_), Credential::Key(key)) => IssuedFor::Key(key.id),
        (Identity::User(account), _) => match refresh {
            Some(id) => IssuedFor::Refresh(id),
            None => IssuedFor::Password(context.registry.accounts().stamp(account)),
        },
    };
    let user = caller.account().map(|account| account.name.as_str());
    Ok((context.registry.tokens().issue(user, by, access.clone()), access))
}

/// A refresh token, for a user who has given a password. A key is stored as it is: what it gets must not
/// outlive it.
async fn refresh_token(
    context: &Context<'_>,
    caller: &Caller,
    client: &str,
) -> Result<Option<(SessionId, Uuid)>, ApiError> {
    let (Some(account), Credential::Password) = (caller.account(), &caller.credential) else { return Ok(None) };
    let (accounts, account) = (Arc::clone(context.registry.accounts()), Arc::<Account>::clone(account));
    let (client, origin) = (client.to_owned(), context.info.origin(Some(&account.name)));
    Ok(Some(context.blocking(move || accounts.create_refresh_token(&account, &client, &origin)).await?))
}

/// Every field that one of the clients reads: old ones `token`, those of OAuth 2.0 `access_token`.
fn answer(issued: &Issued) -> Value {
    json!({
        "token": issued.token,
        "access_token": issued.token,
        "expires_in": issued.lifetime.as_secs(),
        "issued_at": rfc3339(issued.at),
    })
}

fn no_store(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn bad(message: &str) -> ApiError {
    ApiError::bad_request(ErrorCode::Unsupported, message)
}

fn wrong() -> ApiError {
    ApiError::new(ErrorCode::Unauthorized, "the refresh token is wrong, or not valid any more")
}
