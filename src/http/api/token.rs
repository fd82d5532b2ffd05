//! `/v2/auth`: issues access tokens (Docker token specification, also in the form of `OAuth2`). Quay has the same path. The
//! public keys of access tokens are here as well.
//!
//! Issuing an access token writes nothing, except for a refresh token if the client requests one, and the first key. A request for more
//! rights than the caller has is no error: the token has fewer.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http::caching::NO_STORE;
use crate::http::error::ApiError;
use crate::http::request::RequestBody;
use crate::http::response::json_response;
use crate::http::route::{Query, RouteError};
use crate::http::time::rfc3339;
use crate::http::{Context, HandlerResult, host_of, service};
use crate::identity::access::{Caller, Credential, Credentials, IdToken, Identity, Refusal};
use crate::identity::accounts::{self, Account, Actions, SessionId};
use crate::identity::tokens::{AccessEntry, Issued, IssuedFor, ScopeRequest, Signer};
use crate::oci::ErrorCode;

/// The largest form. It has a user name, a password and some scopes.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// The fields of a form in which zot's clients send a token.
const TOKEN_FIELDS: [&str; 5] = ["password", "id_token", "access_token", "refresh_token", "token"];
/// The grant of a token exchange, and the types of tokens that it accepts and issues (RFC 8693, 2.1 and 3).
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const EXCHANGED: [&str; 2] = ["urn:ietf:params:oauth:token-type:id_token", "urn:ietf:params:oauth:token-type:jwt"];
const ISSUED: &str = "urn:ietf:params:oauth:token-type:access_token";

/// `GET`: issues a token for the credentials of the `Authorization` header.
pub(in crate::http) async fn get(context: &Context<'_>, query: &Query) -> HandlerResult {
    let request = TokenRequest::read(context, query)?;
    let caller = match &context.caller.credential {
        // A session does not count here, because a page of another site could send the request. A token for a certificate
        // would be valid without it.
        Credential::Session(_) | Credential::Certificate => &Caller::ANONYMOUS,
        // A token that gets the next one would never expire.
        Credential::Token(_) => return Err(Refusal::Unauthenticated.into()),
        Credential::None | Credential::Password | Credential::IdToken | Credential::Key(_) => context.caller,
    };
    // The client wants to sign in, but sends no credentials.
    if caller.identity.grantee().is_none() && request.scopes.is_empty() {
        return Err(Refusal::Unauthenticated.into());
    }
    let offline = query.one("offline_token")? == Some("true");
    let refresh = if offline { refresh_token(context, caller, &request.client).await? } else { None };
    let (issued, _) = issue(context, caller, refresh.as_ref().map(|(_, id)| *id), &request.scopes).await?;
    let mut answer = answer(&issued);
    if let Some((refresh, _)) = refresh {
        answer["refresh_token"] = refresh.reveal().into();
    }
    Ok(json_response(StatusCode::OK, &answer))
}

/// `POST`: issues a token for the credentials of a form (RFC 6749, 4.3 and 6).
pub(in crate::http) async fn post(context: &Context<'_>, body: &mut RequestBody) -> HandlerResult {
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
        Some(EXCHANGE) => {
            let text = form.one("subject_token")?.ok_or_else(|| missing("subject_token"))?;
            if !form.one("subject_token_type")?.is_some_and(|kind| EXCHANGED.contains(&kind)) {
                return Err(bad(&format!("the field subject_token_type must be {}", EXCHANGED.join(" or "))));
            }
            // Ignoring one of these would issue another token than the client requests (RFC 8693, 2.1).
            if form.one("requested_token_type")?.is_some_and(|kind| kind != ISSUED) {
                return Err(invalid_request(&format!("the field requested_token_type must be {ISSUED}")));
            }
            if form.one("actor_token")?.is_some() || form.one("actor_token_type")?.is_some() {
                return Err(invalid_request("the field actor_token is not supported: a workload acts for itself"));
            }
            let IdToken { caller, .. } = context.registry.authenticator().id_token(text, &context.info).await?;
            (caller, None)
        }
        Some(_) => return Err(bad("the field grant_type must be password, refresh_token or that of a token exchange")),
        None => return Err(missing("grant_type")),
    };
    let (issued, access) = issue(context, &caller, refresh.as_ref().map(|(_, id)| *id), &request.scopes).await?;
    let mut answer = answer(&issued);
    answer["scope"] = access.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ").into();
    if let Some((refresh, _)) = refresh {
        answer["refresh_token"] = refresh.reveal().into();
    }
    if matches!(caller.credential, Credential::IdToken) {
        answer["issued_token_type"] = ISSUED.into();
        answer["token_type"] = "Bearer".into();
    }
    let mut response = json_response(StatusCode::OK, &answer);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    Ok(response)
}

/// `/zot/auth/token`: exchanges the ID token of a workload. With scopes, the result is an access token of this registry.
/// Without, it is the ID token, as in zot.
pub(in crate::http) async fn exchange(
    context: &Context<'_>,
    query: &Query,
    body: &mut RequestBody,
    is_form: bool,
) -> HandlerResult {
    if !context.registry.authenticator().accepts_workloads() {
        return Err(RouteError::NotFound.into());
    }
    let bytes = if is_form { body.read(FORM_BYTES_MAX).await? } else { Bytes::new() };
    let form = Query::form(str::from_utf8(&bytes).map_err(|_| bad("the form is not UTF-8"))?)?;
    let token = match Credentials::read(context.info.headers, context.info.surface) {
        Ok(Credentials::PasswordOrToken { token, .. }) => token.reveal().to_owned(),
        Ok(Credentials::None) if is_form => {
            let mut sent = TOKEN_FIELDS.into_iter().flat_map(|name| form.all(name));
            sent.find(|text| !text.is_empty()).ok_or(Refusal::Unauthenticated)?.to_owned()
        }
        // Other credentials get an access token, as from the token service.
        _ => return get(context, query).await,
    };
    let IdToken { caller, issued, expires } = context.registry.authenticator().id_token(&token, &context.info).await?;
    let mut request = TokenRequest::read(context, query)?;
    request.scopes.extend(TokenRequest::read(context, &form)?.scopes);
    let answer = if request.scopes.is_empty() {
        let lifetime = expires.since(context.registry.now());
        answer(&Issued { token, at: issued, lifetime })
    } else {
        answer(&issue(context, &caller, None, &request.scopes).await?.0)
    };
    let mut response = json_response(StatusCode::OK, &answer);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    Ok(response)
}

/// `/.well-known/jwks.json` (RFC 7517, 5).
pub(in crate::http) async fn keys(context: &Context<'_>) -> HandlerResult {
    Ok(json_response(StatusCode::OK, &signer(context).await?.public_keys()))
}

/// The key that signs. It is created for the first token, and for the first program that wants to verify tokens.
async fn signer(context: &Context<'_>) -> Result<Signer, ApiError> {
    let tokens = context.registry.tokens();
    if let Some(signer) = tokens.signer() {
        return Ok(signer);
    }
    let tokens = Arc::clone(tokens);
    context.blocking(move || tokens.create_signer().map_err(accounts::Error::from)).await
}

/// The scopes and the name of a client that requests a token.
struct TokenRequest {
    scopes: Vec<ScopeRequest>,
    client: String,
}

impl TokenRequest {
    fn read(context: &Context<'_>, query: &Query) -> Result<Self, ApiError> {
        if let Some(wanted) = query.one("service")?.filter(|wanted| !wanted.is_empty()) {
            let base = context.base_url();
            let is_own =
                wanted == host_of(&base) || context.registry.token_services().iter().any(|name| name == wanted);
            if !is_own {
                return Err(bad(&format!("the service of this registry is {}", service(context.registry, &base))));
            }
        }
        let scopes = ScopeRequest::read(query.all("scope")).map_err(|invalid| bad(&invalid.to_string()))?;
        let client = query.one("client_id")?.unwrap_or("unknown").to_owned();
        Ok(Self { scopes, client })
    }
}

/// Issues a token for the part of the scopes that the caller has a right to. A token ends with its refresh token.
async fn issue(
    context: &Context<'_>,
    caller: &Caller,
    refresh: Option<Uuid>,
    scopes: &[ScopeRequest],
) -> Result<(Issued, Vec<AccessEntry>), ApiError> {
    let base = context.base_url();
    let mut access = Vec::with_capacity(scopes.len());
    for scope in scopes {
        let Some(name) = scope.repository(host_of(&base)) else {
            access.push(if scope.is_catalog() { scope.catalog() } else { scope.granted(None, Actions::NONE) });
            continue;
        };
        // Clients request a token for the name that they use. A pull may be answered from the mirrored repository.
        if let Some(mirrored) = context.registry.mirror().and_then(|mirror| mirror.bare(&name)) {
            let actions = context.registry.actions(caller, &mirrored)?.within(Actions::PULL);
            access.push(scope.granted(Some(&mirrored), actions));
        }
        access.push(scope.granted(Some(&name), context.registry.actions(caller, &name)?));
    }
    let by = match (&caller.identity, &caller.credential) {
        (Identity::Anonymous | Identity::External(_), _) => IssuedFor::Anonymous,
        (Identity::Workload(workload), _) => IssuedFor::Workload(workload.rule.id().to_owned()),
        (Identity::User(_), Credential::Key(key)) => IssuedFor::Key(key.id),
        (Identity::User(account), _) => match refresh {
            Some(id) => IssuedFor::Refresh(id),
            None => IssuedFor::Password(context.registry.accounts().stamp(account)),
        },
    };
    let user = match &caller.identity {
        Identity::Workload(workload) => Some(workload.name.as_str()),
        _ => caller.account().map(|account| account.name.as_str()),
    };
    let signer = signer(context).await?;
    Ok((context.registry.tokens().issue(&signer, user, by, access.clone()), access))
}

/// Creates a refresh token for a user who sends a password. An API key gets none, because the refresh token would outlive
/// it.
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

/// The fields that clients read. Old clients read `token`, and clients of OAuth 2.0 read `access_token`.
fn answer(issued: &Issued) -> Value {
    json!({
        "token": issued.token,
        "access_token": issued.token,
        "expires_in": issued.lifetime.as_secs(),
        "issued_at": rfc3339(issued.at),
    })
}

fn bad(message: &str) -> ApiError {
    ApiError::bad_request(ErrorCode::Unsupported, message)
}

/// The error of a token exchange that cannot be done as requested (RFC 8693, 2.2.2).
fn invalid_request(message: &str) -> ApiError {
    bad(message).detail(json!({ "error": "invalid_request" }))
}

fn wrong() -> ApiError {
    ApiError::new(ErrorCode::Unauthorized, "invalid or expired refresh token")
}
