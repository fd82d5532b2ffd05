//! `/zot/auth/apikey` and `/v2/_zot/ext/apikey`: the caller's own API keys, in zot's form.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header;
use serde::{Deserialize, Serialize};

use crate::http::caching::NO_STORE;
use crate::http::error::ApiError;
use crate::http::request::{RequestBody, why_unreadable};
use crate::http::response::{empty, json_response, warning_value};
use crate::http::time::{NEVER, parse_rfc3339, rfc3339};
use crate::http::{Context, HandlerResult};
use crate::identity::accounts::{Error, Key, NewKey};
use crate::oci::{AnyCaseObject, ErrorCode};

/// The largest body, as in zot.
const BODY_BYTES_MAX: usize = 8 * 1024;

/// Field names may be in upper or lower case, as in zot. zot ignores unknown fields. The registry refuses them, so that a
/// misspelt limit does not make a key without limits.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKeyBody {
    label: Option<String>,
    scopes: Option<Vec<String>>,
    #[serde(rename = "expirationdate")]
    expiration_date: Option<String>,
}

/// An API key in zot's form, with the fields in zot's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyBody {
    created_at: String,
    expiration_date: String,
    is_expired: bool,
    creator_ua: String,
    generated_by: &'static str,
    last_used: String,
    label: String,
    scopes: Option<Vec<String>>,
    uuid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeysBody {
    api_keys: Vec<KeyBody>,
}

impl From<Key> for KeyBody {
    fn from(key: Key) -> Self {
        Self {
            created_at: rfc3339(key.created),
            expiration_date: key.expires.map_or_else(|| NEVER.to_owned(), rfc3339),
            is_expired: key.expired,
            creator_ua: key.creator_agent,
            generated_by: "manual",
            last_used: key.last_used.map_or_else(|| NEVER.to_owned(), |used| rfc3339(used.at)),
            label: key.label,
            scopes: key.scopes,
            uuid: key.id.to_string(),
            api_key: None,
        }
    }
}

pub(in crate::http) async fn create(context: &Context<'_>, body: &mut RequestBody) -> HandlerResult {
    let owner = context.user()?;
    let bytes = body.read(BODY_BYTES_MAX).await?;
    let invalid = |why: String| ApiError::bad_request(ErrorCode::Unsupported, why);
    let AnyCaseObject::<NewKeyBody>(wanted) = serde_json::from_slice(&bytes).map_err(|error| {
        let why = why_unreadable(&error);
        invalid(format!("the body is not {{\"label\", \"scopes\", \"expirationDate\"}}: {why}"))
    })?;
    let expires =
        match wanted.expiration_date.as_deref() {
            None | Some("") => None,
            Some(text) => Some(parse_rfc3339(text).ok_or_else(|| {
                invalid("expirationDate must have the form 2026-12-31T23:59:59Z (RFC 3339)".to_owned())
            })?),
        };

    let (owner, origin) = (owner.to_owned(), context.origin());
    let maker = context.caller.credential.key().cloned();
    let new = NewKey { label: wanted.label.unwrap_or_default(), scopes: wanted.scopes, expires, maker };
    let check = context.registry.key_check();
    let (plain, key, warning) = context.blocking(move || check.create_key(&owner, new, &origin)).await?;

    let shown = KeyBody { api_key: Some(plain.reveal().to_owned()), ..key.into() };
    let mut response = json_response(StatusCode::CREATED, &shown);
    response.headers_mut().extend(warning.map(|text| (header::WARNING, warning_value(&text))));
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    Ok(response)
}

pub(in crate::http) fn list(context: &Context<'_>) -> HandlerResult {
    let keys = context.registry.accounts().keys(Some(context.user()?))?;
    let shown = KeysBody { api_keys: keys.into_iter().map(KeyBody::from).collect() };
    Ok(json_response(StatusCode::OK, &shown))
}

/// Revokes a key. As in zot, this succeeds for a key that does not exist, and for a key of another user.
pub(in crate::http) async fn revoke(context: &Context<'_>, id: String) -> HandlerResult {
    let accounts = Arc::clone(context.registry.accounts());
    let (owner, origin) = (context.user()?.to_owned(), context.origin());
    let Ok(id) = id.parse() else { return Ok(empty(StatusCode::OK)) };
    let revoked = context.blocking(move || match accounts.revoke_key(Some(&owner), id, &origin) {
        Err(Error::KeyUnknown) => Ok(()),
        result => result,
    });
    revoked.await?;
    Ok(empty(StatusCode::OK))
}
