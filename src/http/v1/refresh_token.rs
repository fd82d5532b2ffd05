//! Refresh tokens, which clients such as `docker login` may keep in place of a password. Quay has none.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::answer::NoContent;
use super::endpoint::{Endpoint, delete, future, get, sync};
use super::input::Call;
use super::values::{QuayTime, TokenId};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::identity::access::Requires;
use crate::identity::accounts::Error;

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/user/refreshtoken", Requires::UserAdmin, &sync(list_refresh_tokens))
        .named("listRefreshTokens", "List the clients in which the user is logged in"),
    delete("/api/v1/user/refreshtoken/{token_uuid}", Requires::UserAdmin, &future(end_refresh_token))
        .named("endRefreshToken", "Log the user out of a client"),
];

#[derive(Debug, Serialize, JsonSchema)]
struct RefreshTokens {
    tokens: Vec<RefreshToken>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct RefreshToken {
    uuid: Uuid,
    client: String,
    created: QuayTime,
    last_accessed: QuayTime,
    last_ip: Option<String>,
    last_user_agent: String,
}

fn list_refresh_tokens(context: &Context<'_>, _: Call) -> Result<RefreshTokens, ApiError> {
    let tokens = context.registry.accounts().refresh_tokens(context.user()?)?.into_iter();
    let tokens = tokens.map(|token| RefreshToken {
        uuid: token.id,
        client: token.client,
        created: QuayTime(token.created),
        last_accessed: QuayTime(token.last_used.at),
        last_ip: token.last_used.address,
        last_user_agent: token.last_used.agent,
    });
    Ok(RefreshTokens { tokens: tokens.collect() })
}

async fn end_refresh_token(context: &Context<'_>, call: Call<TokenId>) -> Result<NoContent, ApiError> {
    let TokenId(id) = call.path;
    let accounts = Arc::clone(context.registry.accounts());
    let (user, origin) = (context.user()?.to_owned(), context.origin());
    let ended = context.blocking(move || accounts.end_refresh_tokens(&user, Some(id), &origin)).await?;
    if ended == 0 { Err(Error::KeyUnknown.into()) } else { Ok(NoContent) }
}
