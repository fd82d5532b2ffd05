//! `POST /zot/auth/logout`: the end of a session of zot's web page.

use std::sync::Arc;

use hyper::{Response, StatusCode, header};
use serde_json::json;

use crate::accounts::Account;
use crate::http::error::ApiError;
use crate::http::response::json_response;
use crate::http::{Body, Context, cookie};

/// Where the browser ends its session at the provider that its user comes from, if that has such a place; it comes
/// back to the sign-in page here.
async fn end_session_url(context: &Context<'_>, account: &Account) -> Option<String> {
    let outside = account.outside.as_ref()?;
    let provider = context.registry.providers().get(&outside.provider);
    let provider = provider.filter(|provider| provider.issuer() == outside.issuer)?;
    provider.openid()?.end_session_url(&format!("{}/login", context.base_url())).await
}

/// Ends the session whose cookie came along, if there is one, and takes both cookies away. Another
/// site's form cannot: the session's cookie does not come along with it.
pub(in crate::http) async fn logout(context: &Context<'_>) -> Result<Response<Body>, ApiError> {
    let mut elsewhere = None;
    if let Some(id) = context.cookie() {
        let known = context.registry.authenticator().session(&id)?;
        if let Some((account, grant)) = known {
            let accounts = Arc::clone(context.registry.accounts());
            let origin = context.visit.origin(Some(&account.name));
            let ended = grant.hash;
            let name = account.name.clone();
            context.blocking(move || accounts.end_sessions(&name, move |hash, _| *hash == ended, &origin)).await?;
            // Afterwards: a provider may be slow, and a browser impatient.
            elsewhere = end_session_url(context, &account).await;
        }
    }
    let mut body = json!({});
    if let Some(url) = elsewhere {
        body["endSessionUrl"] = url.into();
    }
    let mut response = json_response(StatusCode::OK, &body);
    response.headers_mut().append(header::SET_COOKIE, cookie::no_session(context.way()));
    response.headers_mut().append(header::SET_COOKIE, cookie::no_user(context.way()));
    Ok(response)
}
