//! API keys, which Quay calls application tokens.

use std::sync::Arc;
use std::time::Duration;

use hyper::header;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer::{Header, NoContent, WithHeaders};
use super::endpoint::{Endpoint, delete, future, get, post, sync};
use super::input::{Call, NoQuery, invalid};
use super::values::{Always, LINE, QuayTime, Switch, TokenId};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::response::warning_value;
use crate::http::time::parse_rfc3339;
use crate::identity::access::{Credential, Refusal, Requires};
use crate::identity::accounts::{Error, Key, LABEL_MAX, NewKey, SCOPE_LENGTH_MAX, SCOPES_MAX};

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/user/apptoken", Requires::OwnKeys, &sync(list_tokens))
        .named("listAppTokens", "List the user's API keys"),
    post("/api/v1/user/apptoken", Requires::FreshLogin, &future(create_token))
        .named("createAppToken", "Create an API key, and show its secret once")
        .headers(&[WARNING]),
    get("/api/v1/user/apptoken/{token_uuid}", Requires::FreshLogin, &sync(get_token))
        .named("getAppToken", "Get one of the user's API keys, without its secret"),
    delete("/api/v1/user/apptoken/{token_uuid}", Requires::FreshLoginOrKey, &future(revoke_token))
        .named("revokeAppToken", "Revoke an API key of the user. A key may revoke itself"),
    get("/api/v1/superuser/apptokens", Requires::FreshSuperuserRead, &sync(list_all_tokens))
        .named("listAllAppTokens", "List the API keys of all users"),
    delete("/api/v1/superuser/apptokens/{token_uuid}", Requires::Superuser, &future(revoke_any_token))
        .named("revokeAnyAppToken", "Revoke an API key of any user"),
];

/// The longest lifetime of a key, in seconds: a thousand years, so that its end is a time.
const LIFETIME_MAX: u64 = 1000 * 366 * 86_400;

/// A limit of a key: a pattern of repository names, and actions.
const SCOPE: &str = r"^[a-z0-9/._*?{},!^\[\]-]+(:(pull|push|delete|\*)(,(pull|push|delete|\*))*)?$";

/// Tells the client that the key is of no use, or of less use than it seems.
const WARNING: Header = Header { name: "Warning", pattern: Some("^299 - \"[^\"]*\"$"), required: false };

/// An API key without its secret.
#[derive(Debug, Serialize, JsonSchema)]
struct Token {
    uuid: Uuid,
    title: String,
    last_accessed: Option<QuayTime>,
    created: QuayTime,
    expiration: Option<QuayTime>,
    scopes: Option<Vec<String>>,
    last_ip: Option<String>,
    last_user_agent: Option<String>,
}

impl From<&Key> for Token {
    fn from(key: &Key) -> Self {
        let used = key.last_used.as_ref();
        Self {
            uuid: key.id,
            title: key.label.clone(),
            last_accessed: used.map(|used| QuayTime(used.at)),
            created: QuayTime(key.created),
            expiration: key.expires.map(QuayTime),
            scopes: key.scopes.clone(),
            last_ip: used.and_then(|used| used.address.clone()),
            last_user_agent: used.map(|used| used.agent.clone()),
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct OneToken<T> {
    token: T,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct Tokens<T> {
    tokens: Vec<T>,
    only_expiring: Option<Always<true>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ListTokensQuery {
    /// Whether to list only keys in the last tenth of their life.
    expiring: Option<Switch>,
}

fn list_tokens(
    context: &Context<'_>,
    Call { query, .. }: Call<(), ListTokensQuery>,
) -> Result<Tokens<Token>, ApiError> {
    let only_expiring = (query.expiring == Some(Switch(true))).then_some(Always);
    let now = context.registry.accounts().now();
    let is_expiring =
        |key: &Key| key.expires.is_some_and(|expires| expires.since(now) <= expires.since(key.created) / 10);
    let keys = context.registry.accounts().keys(Some(context.user()?))?;
    let shown = keys.iter().filter(|key| only_expiring.is_none() || is_expiring(key));
    Ok(Tokens { tokens: shown.map(Token::from).collect(), only_expiring })
}

/// Unknown fields are refused: a misspelt limit must not create a key without it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CreateTokenBody {
    #[schemars(length(max = LABEL_MAX), regex(pattern = LINE))]
    title: String,
    /// The limits of the key. Quay does not have this field.
    #[schemars(length(max = SCOPES_MAX), inner(length(min = 1, max = SCOPE_LENGTH_MAX), regex(pattern = SCOPE)))]
    scopes: Option<Vec<String>>,
    /// The time when the key expires (RFC 3339). Quay does not have this field.
    #[schemars(extend("format" = "date-time"))]
    expiration: Option<String>,
    /// The seconds after which the key expires, for clients whose clock may differ. Quay does not have this field.
    #[schemars(range(min = 1, max = LIFETIME_MAX))]
    lifetime: Option<u64>,
}

/// An API key with its secret, which is shown once.
#[derive(Debug, Serialize, JsonSchema)]
struct NewToken {
    #[serde(flatten)]
    token: Token,
    #[schemars(regex(pattern = "^zak_[0-9a-f]{32}$"))]
    token_code: String,
}

async fn create_token(
    context: &Context<'_>,
    call: Call<(), NoQuery, CreateTokenBody>,
) -> Result<WithHeaders<OneToken<NewToken>>, ApiError> {
    if !context.registry.has_api_keys() {
        return Err(ApiError::no_api_keys());
    }
    let CreateTokenBody { title, scopes, expiration, lifetime } = call.body;
    let form = || invalid("expiration must have the form 2026-12-31T23:59:59Z (RFC 3339)");
    let expires = match (expiration, lifetime) {
        (Some(_), Some(_)) => return Err(invalid("give expiration or lifetime, and not both")),
        (Some(text), None) => Some(parse_rfc3339(&text).ok_or_else(form)?),
        (None, Some(seconds)) if seconds == 0 || seconds > LIFETIME_MAX => {
            return Err(invalid(format!("lifetime is in seconds, from 1 to {LIFETIME_MAX}")));
        }
        (None, Some(seconds)) => Some(context.registry.accounts().now().after(Duration::from_secs(seconds))),
        (None, None) => None,
    };
    let (owner, origin, check) = (context.user()?.to_owned(), context.origin(), context.registry.key_check());
    let new = NewKey { label: title, scopes, expires, maker: context.caller.credential.key().cloned() };
    let (plain, key, warning) = context.blocking(move || check.create_key(&owner, new, &origin)).await?;
    let token = NewToken { token: Token::from(&key), token_code: plain.reveal().to_owned() };
    let answer = WithHeaders::new(OneToken { token });
    Ok(match warning {
        Some(text) => answer.with(header::WARNING, warning_value(&text)),
        None => answer,
    })
}

fn get_token(
    context: &Context<'_>,
    Call { path: TokenId(id), .. }: Call<TokenId>,
) -> Result<OneToken<Token>, ApiError> {
    let keys = context.registry.accounts().keys(Some(context.user()?))?;
    let key = keys.iter().find(|key| key.id == id).ok_or(Error::KeyUnknown)?;
    Ok(OneToken { token: Token::from(key) })
}

/// A key may revoke itself, which signs a program out.
async fn revoke_token(context: &Context<'_>, call: Call<TokenId>) -> Result<NoContent, ApiError> {
    let TokenId(id) = call.path;
    match &context.caller.credential {
        Credential::Key(key) if key.id != id => return Err(Refusal::Denied.into()),
        Credential::Key(_) | Credential::Session(_) => {}
        Credential::None
        | Credential::Password
        | Credential::IdToken
        | Credential::Certificate
        | Credential::Token(_) => {
            return Err(Refusal::Denied.into());
        }
    }
    revoke(context, Some(context.user()?.to_owned()), id).await
}

/// An API key with its owner, for superusers.
#[derive(Debug, Serialize, JsonSchema)]
struct OwnedToken {
    #[serde(flatten)]
    token: Token,
    owner: String,
}

fn list_all_tokens(context: &Context<'_>, _: Call) -> Result<Tokens<OwnedToken>, ApiError> {
    let keys = context.registry.accounts().keys(None)?;
    let owned = |key: &Key| OwnedToken { token: Token::from(key), owner: key.owner.clone() };
    Ok(Tokens { tokens: keys.iter().map(owned).collect(), only_expiring: None })
}

async fn revoke_any_token(context: &Context<'_>, call: Call<TokenId>) -> Result<NoContent, ApiError> {
    revoke(context, None, call.path.0).await
}

async fn revoke(context: &Context<'_>, owner: Option<String>, id: Uuid) -> Result<NoContent, ApiError> {
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    context.blocking(move || accounts.revoke_key(owner.as_deref(), id, &origin)).await?;
    Ok(NoContent)
}
