//! `POST /zot/auth/logout`: the end of a session of zot's web page.

use std::sync::Arc;

use hyper::{Response, StatusCode, header};
use serde_json::json;

use crate::http::error::ApiError;
use crate::http::response::json_response;
use crate::http::{Body, Context};
use crate::identity::accounts::Account;
use crate::oci::ErrorCode;

/// Where the browser ends its session at the provider that its user comes from, if that has such a place; it comes
/// back to the sign-in page here.
async fn end_session_url(context: &Context<'_>, account: &Account) -> Option<String> {
    let federated = account.federated.as_ref()?;
    let provider = context.registry.providers().get(&federated.provider);
    let provider = provider.filter(|provider| provider.issuer() == federated.issuer)?;
    provider.openid()?.end_session_url(&format!("{}/login", context.base_url())).await
}

/// Refuses to sign out a caller who has sent a password, a key or a token and no session: that goes on to count. One
/// who has sent nothing is signed out already.
pub(in crate::http) fn nothing_to_end(context: &Context<'_>) -> Result<(), ApiError> {
    if !context.headers.contains_key(header::AUTHORIZATION) {
        return Ok(());
    }
    let why = "signing out ends sessions, and there is none in this request: an API key ends when it is revoked, an \
               access token with what it was got with, and a password when there is another";
    Err(ApiError::new(ErrorCode::Denied, why))
}

/// Ends the session whose cookie came along, if there is one, and takes both cookies away. Another
/// site's form cannot: the session's cookie does not come along with it.
pub(in crate::http) async fn logout(context: &Context<'_>) -> Result<Response<Body>, ApiError> {
    let (mut elsewhere, mut has_ended) = (None, false);
    if let Some(id) = context.cookie() {
        let known = context.registry.accounts().session(&id)?;
        if let Some((account, grant)) = known {
            let accounts = Arc::clone(context.registry.accounts());
            let origin = context.info.origin(Some(&account.name));
            let ended = grant.hash;
            has_ended = true;
            let name = account.name.clone();
            context.blocking(move || accounts.end_sessions(&name, move |hash, _| *hash == ended, &origin)).await?;
            // Afterwards: a provider may be slow, and a browser impatient.
            elsewhere = end_session_url(context, &account).await;
        }
    }
    if !has_ended {
        nothing_to_end(context)?;
    }
    let mut body = json!({});
    if let Some(url) = elsewhere {
        body["endSessionUrl"] = url.into();
    }
    let mut response = json_response(StatusCode::OK, &body);
    response.headers_mut().append(header::SET_COOKIE, context.cookies().no_session());
    response.headers_mut().append(header::SET_COOKIE, context.cookies().no_user());
    Ok(response)
}
