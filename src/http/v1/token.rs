//! Quay's view of API keys: application tokens.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::schema::{Schema, always, list_of, named, object, quay_time, text, uuid};
use super::{Call, invalid, read};
use crate::http::error::ApiError;
use crate::http::request::RequestBody;
use crate::http::response::{empty, json_response, warning_value};
use crate::http::time::{parse_rfc3339, rfc2822};
use crate::http::{Body, Context};
use crate::identity::access::{Credential, Refusal};
use crate::identity::accounts::{Error, Key, NewKey};

/// The longest lifetime that can be asked for, in seconds: a thousand years, so that its end is a time.
pub(super) const LIFETIME_MAX: usize = 1000 * 366 * 86_400;

/// A misspelt limit must not make a key without it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTokenBody {
    title: String,
    /// Ours: what the key is limited to.
    scopes: Option<Vec<String>>,
    /// Ours: until when it is accepted, as RFC 3339.
    expiration: Option<String>,
    /// Ours: for how many seconds it is accepted, where the client does not know what time it is here.
    lifetime: Option<u64>,
}

pub(super) async fn create(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<Body>, ApiError> {
    if !context.registry.has_api_keys() {
        return Err(ApiError::no_api_keys());
    }
    let NewTokenBody { title, scopes, expiration, lifetime } = read(body).await?;
    let form = || invalid("expiration must have the form 2026-12-31T23:59:59Z (RFC 3339)");
    let expires = match (expiration, lifetime) {
        (Some(_), Some(_)) => return Err(invalid("give expiration or lifetime, and not both")),
        (Some(text), None) => Some(parse_rfc3339(&text).ok_or_else(form)?),
        (None, Some(seconds)) if seconds == 0 || seconds > LIFETIME_MAX as u64 => {
            return Err(invalid(format!("lifetime is in seconds, from 1 to {LIFETIME_MAX}")));
        }
        (None, Some(seconds)) => Some(context.registry.accounts().now().after(Duration::from_secs(seconds))),
        (None, None) => None,
    };
    let (owner, origin) = (context.user()?.to_owned(), context.origin());
    let new = NewKey { label: title, scopes, expires, maker: context.caller.credential.key().cloned() };
    let check = context.registry.key_check();
    let (plain, key, warning) = context.blocking(move || check.create_key(&owner, new, &origin)).await?;
    let mut token = view(&key);
    token["token_code"] = plain.reveal().into();
    let mut response = json_response(StatusCode::OK, &json!({ "token": token }));
    response.headers_mut().extend(warning.map(|text| (header::WARNING, warning_value(&text))));
    Ok(response)
}

pub(super) fn list(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let expiring = match call.query.one("expiring")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(invalid("the parameter expiring is true or false")),
    };
    let now = context.registry.accounts().now();
    let keys = context.registry.accounts().keys(Some(context.user()?))?;
    // As in Quay: in the last tenth of their life.
    let is_expiring =
        |key: &Key| key.expires.is_some_and(|expires| expires.since(now) <= expires.since(key.created) / 10);
    let tokens: Vec<Value> = keys.iter().filter(|key| !expiring || is_expiring(key)).map(view).collect();
    let only_expiring = if expiring { Value::Bool(true) } else { Value::Null };
    Ok(json_response(StatusCode::OK, &json!({ "tokens": tokens, "only_expiring": only_expiring })))
}

pub(super) fn get(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let id = id(call)?;
    let keys = context.registry.accounts().keys(Some(context.user()?))?;
    let key = keys.iter().find(|key| key.id == id).ok_or(Error::KeyUnknown)?;
    Ok(json_response(StatusCode::OK, &json!({ "token": view(key) })))
}

pub(super) async fn revoke(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let (owner, id) = (context.user()?.to_owned(), id(call)?);
    // A key may end itself, which is how one signs out of where it is kept: whoever has it could do worse with it.
    match &context.caller.credential {
        Credential::Key(key) if key.id != id => return Err(Refusal::Denied.into()),
        Credential::Key(_) | Credential::Session(_) => {}
        Credential::None | Credential::Password | Credential::Token(_) => return Err(Refusal::Denied.into()),
    }
    revoke_of(context, Some(owner), id).await
}

pub(super) fn list_all(context: &Context<'_>) -> Result<Response<Body>, ApiError> {
    let keys = context.registry.accounts().keys(None)?;
    let tokens: Vec<Value> = keys
        .iter()
        .map(|key| {
            let mut token = view(key);
            token["owner"] = key.owner.clone().into();
            token
        })
        .collect();
    Ok(json_response(StatusCode::OK, &json!({ "tokens": tokens, "only_expiring": null })))
}

pub(super) async fn revoke_any(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    revoke_of(context, None, id(call)?).await
}

async fn revoke_of(context: &Context<'_>, owner: Option<String>, id: Uuid) -> Result<Response<Body>, ApiError> {
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    context.blocking(move || accounts.revoke_key(owner.as_deref(), id, &origin)).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Where one has signed in with `docker login`: ours, Quay has no refresh tokens.
pub(super) fn list_refresh(context: &Context<'_>) -> Result<Response<Body>, ApiError> {
    let tokens = context.registry.accounts().refresh_tokens(context.user()?)?;
    let tokens: Vec<Value> = tokens
        .iter()
        .map(|token| {
            json!({
                "uuid": token.id.to_string(),
                "client": token.client,
                "created": rfc2822(token.created),
                "last_accessed": rfc2822(token.last_used.at),
                "last_ip": token.last_used.address,
                "last_user_agent": token.last_used.agent,
            })
        })
        .collect();
    Ok(json_response(StatusCode::OK, &json!({ "tokens": tokens })))
}

pub(super) async fn end_refresh(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let (accounts, user, origin) =
        (Arc::clone(context.registry.accounts()), context.user()?.to_owned(), context.origin());
    let id = id(call)?;
    let ended = context.blocking(move || accounts.end_refresh_tokens(&user, Some(id), &origin)).await?;
    if ended == 0 { Err(Error::KeyUnknown.into()) } else { Ok(empty(StatusCode::NO_CONTENT)) }
}

/// What [`list_refresh`] shows of one.
pub(super) fn refresh_schema() -> Schema {
    object([
        ("uuid", uuid()),
        ("client", text()),
        ("created", quay_time()),
        ("last_accessed", quay_time()),
        ("last_ip", text().or_null()),
        ("last_user_agent", text()),
    ])
}

fn id(call: &Call<'_>) -> Result<Uuid, Error> {
    call.value().parse().map_err(|_| Error::KeyUnknown)
}

/// A key as Quay shows it, without its secret.
fn view(key: &Key) -> Value {
    json!({
        "uuid": key.id.to_string(),
        "title": key.label,
        "last_accessed": key.last_used.as_ref().map(|used| rfc2822(used.at)),
        "created": rfc2822(key.created),
        "expiration": key.expires.map(rfc2822),
        "scopes": key.scopes,
        "last_ip": key.last_used.as_ref().and_then(|used| used.address.clone()),
        "last_user_agent": key.last_used.as_ref().map(|used| used.agent.clone()),
    })
}

/// What [`view`] makes.
pub(super) fn schema() -> Schema {
    named("Token", view_schema())
}

/// The same with the secret, which is shown once.
pub(super) fn secret_schema() -> Schema {
    named("NewToken", view_schema().and("token_code", text().pattern("^zak_[0-9a-f]{32}$")))
}

/// The same with its owner, for those who see everybody's.
pub(super) fn owned_schema() -> Schema {
    named("OwnedToken", view_schema().and("owner", text()))
}

/// A list of them.
pub(super) fn list_schema(token: Schema) -> Schema {
    object([("tokens", list_of(token)), ("only_expiring", always(true).or_null())])
}

fn view_schema() -> Schema {
    object([
        ("uuid", uuid()),
        ("title", text()),
        ("last_accessed", quay_time().or_null()),
        ("created", quay_time()),
        ("expiration", quay_time().or_null()),
        ("scopes", list_of(text()).or_null()),
        ("last_ip", text().or_null()),
        ("last_user_agent", text().or_null()),
    ])
}
