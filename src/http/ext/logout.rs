//! `POST /zot/auth/logout`: ends a session of zot's web page.

use std::sync::Arc;

use hyper::{StatusCode, header};
use serde_json::json;

use crate::http::error::ApiError;
use crate::http::response::json_response;
use crate::http::{Context, HandlerResult};
use crate::identity::accounts::Account;
use crate::oci::ErrorCode;

/// The URL at which the browser ends its session at the user's identity provider, if the provider has one. The provider
/// then sends the browser to the registry's sign-in page.
pub(in crate::http) async fn end_session_url(context: &Context<'_>, account: &Account) -> Option<String> {
    let federated = account.federated.as_ref()?;
    let provider = context.registry.providers().get(&federated.provider);
    let provider = provider.filter(|provider| provider.issuer() == federated.issuer)?;
    provider.openid()?.end_session_url(&format!("{}/login", context.base_url())).await
}

/// Refuses to sign out a caller who sends a password, an API key or an access token, because these stay valid. A caller
/// without credentials is signed out already.
pub(in crate::http) fn nothing_to_end(context: &Context<'_>) -> Result<(), ApiError> {
    if !context.info.headers.contains_key(header::AUTHORIZATION) {
        return Ok(());
    }
    let why = "signing out ends sessions, and this request has no session: revoke the API key or change the password; an \
               access token ends with the credentials that it was issued for";
    Err(ApiError::new(ErrorCode::Denied, why))
}

/// Ends the session of the cookie, if there is one, and removes both cookies. A form of another site cannot do this,
/// because browsers do not send the session cookie with it.
pub(in crate::http) async fn logout(context: &Context<'_>) -> HandlerResult {
    let mut provider_url = None;
    let accounts = Arc::clone(context.registry.accounts());
    let session = context.cookie().map(|id| accounts.session(&id)).transpose()?.flatten();
    if let Some((account, grant)) = session {
        let origin = context.info.origin(Some(&account.name));
        let (name, ended) = (account.name.clone(), grant.hash);
        context.blocking(move || accounts.end_sessions(&name, move |hash, _| *hash == ended, &origin)).await?;
        // The session has ended by now, even if the provider is slow and the browser disconnects.
        provider_url = end_session_url(context, &account).await;
    } else {
        nothing_to_end(context)?;
    }
    let mut body = json!({});
    if let Some(url) = provider_url {
        body["endSessionUrl"] = url.into();
    }
    let mut response = json_response(StatusCode::OK, &body);
    response.headers_mut().append(header::SET_COOKIE, context.cookies().no_session());
    response.headers_mut().append(header::SET_COOKIE, context.cookies().no_user());
    Ok(response)
}
