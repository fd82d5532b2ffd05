//! Signing in and out with a browser, or with curl and a jar of cookies.

use std::sync::Arc;

use hyper::header::{self, HeaderName};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::schema::{Schema, boolean, named, object, quay_time, text, uuid};
use super::{Call, invalid, read};
use crate::http::error::ApiError;
use crate::http::ext::login::start_session;
use crate::http::ext::logout::nothing_to_end;
use crate::http::request::RequestBody;
use crate::http::response::{empty, json_response, value};
use crate::http::time::rfc2822;
use crate::http::{Body, Context};
use crate::identity::access::Refusal;
use crate::identity::accounts::{Account, NotSignedIn, Password, SessionId, SignedIn};

pub(super) const NEXT_CSRF_TOKEN: HeaderName = HeaderName::from_static("x-next-csrf-token");

#[derive(Deserialize)]
struct SigninBody {
    username: String,
    password: String,
}

#[derive(Deserialize)]
struct VerifyBody {
    password: String,
}

/// The token of the cookie that came along, or of a new one. Nothing is stored for a visitor.
pub(super) fn csrf(context: &Context<'_>) -> Response<Body> {
    let accounts = context.registry.accounts();
    let known = context.cookie();
    let is_new = known.is_none();
    let id = known.unwrap_or_else(SessionId::generate);
    let signed_in = context.caller.credential.session().map(|grant| grant.signed_in);
    let mut response = json_response(StatusCode::OK, &json!({ "csrf_token": accounts.csrf_token(&id, signed_in) }));
    if is_new {
        response.headers_mut().append(header::SET_COOKIE, context.cookies().session(&id, false));
    }
    response.headers_mut().insert(header::VARY, value("Cookie"));
    response
}

pub(super) async fn signin(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<Body>, ApiError> {
    let SigninBody { username, password } = read(body).await?;
    let accounts = Arc::clone(context.registry.accounts());
    let origin = context.info.origin(None);
    let signed_in =
        accounts.sign_in(&username, Password::new(&password), context.info.address, || origin.clone()).await;
    let SignedIn { account, .. } = signed_in.map_err(refused)?;

    session_response(context, &account, &json!({ "success": true })).await
}

/// Starts a session and answers with its cookie and CSRF token.
pub(super) async fn session_response(
    context: &Context<'_>,
    account: &Arc<Account>,
    answer: &Value,
) -> Result<Response<Body>, ApiError> {
    let (id, grant) = start_session(context, account).await?;
    let mut response = json_response(StatusCode::OK, answer);
    let headers = response.headers_mut();
    headers.append(header::SET_COOKIE, context.cookies().session(&id, true));
    let token = context.registry.accounts().csrf_token(&id, Some(grant.signed_in));
    headers.insert(NEXT_CSRF_TOKEN, value(token));
    Ok(response)
}

/// The password once more: what needs a fresh login may be done for some minutes.
pub(super) async fn verify(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<Body>, ApiError> {
    let VerifyBody { password } = read(body).await?;
    let (Some(grant), Some(cookie)) = (context.caller.credential.session(), context.cookie()) else {
        return Err(Refusal::Denied.into());
    };
    let accounts = Arc::clone(context.registry.accounts());
    let origin = context.origin();
    let verified =
        accounts.sign_in(&grant.user, Password::new(&password), context.info.address, || origin.clone()).await;
    verified.map_err(refused)?;
    let (hash, refreshing) = (grant.hash, Arc::clone(&accounts));
    let signed_in = context.blocking(move || refreshing.refresh_session(hash, &origin)).await?;
    let mut response = json_response(StatusCode::OK, &json!({ "success": true }));
    response.headers_mut().insert(NEXT_CSRF_TOKEN, value(accounts.csrf_token(&cookie, Some(signed_in))));
    Ok(response)
}

/// Ends this session; with `everywhere=true` every one of the user.
pub(super) async fn signout(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let everywhere = match call.query.one("everywhere")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(invalid("the parameter everywhere is true or false")),
    };
    if let Some(grant) = context.caller.credential.session() {
        let accounts = Arc::clone(context.registry.accounts());
        let (user, this, origin) = (grant.user.clone(), grant.hash, context.origin());
        context
            .blocking(move || accounts.end_sessions(&user, move |hash, _| everywhere || *hash == this, &origin))
            .await?;
    } else {
        nothing_to_end(context)?;
    }
    let mut response = json_response(StatusCode::OK, &json!({ "success": true }));
    response.headers_mut().append(header::SET_COOKIE, context.cookies().no_session());
    Ok(response)
}

pub(super) fn list(context: &Context<'_>) -> Result<Response<Body>, ApiError> {
    let this = context.caller.credential.session().map(|grant| grant.id);
    let sessions = context.registry.accounts().sessions(context.user()?)?;
    let sessions: Vec<Value> = sessions
        .into_iter()
        .map(|session| {
            json!({
                "id": session.id.to_string(),
                "current": this == Some(session.id),
                "created": rfc2822(session.created),
                "last_used": rfc2822(session.last_used.at),
                "ip": session.last_used.address,
                "user_agent": session.last_used.agent,
            })
        })
        .collect();
    Ok(json_response(StatusCode::OK, &json!({ "sessions": sessions })))
}

/// What [`list`] shows of each.
pub(super) fn schema() -> Schema {
    named(
        "Session",
        object([
            ("id", uuid()),
            ("current", boolean()),
            ("created", quay_time()),
            ("last_used", quay_time()),
            ("ip", text().or_null()),
            ("user_agent", text()),
        ]),
    )
}

pub(super) async fn end(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let wanted: uuid::Uuid = call.value().parse().map_err(|_| crate::identity::accounts::Error::SessionUnknown)?;
    let accounts = Arc::clone(context.registry.accounts());
    let (user, origin) = (context.user()?.to_owned(), context.origin());
    let ended = context.blocking(move || accounts.end_sessions(&user, move |_, id| id == wanted, &origin)).await?;
    if ended == 0 {
        Err(crate::identity::accounts::Error::SessionUnknown.into())
    } else {
        Ok(empty(StatusCode::NO_CONTENT))
    }
}

/// Quay answers a wrong password with 403 here, and with these fields.
fn refused(error: NotSignedIn) -> ApiError {
    match error {
        NotSignedIn::Wrong => ApiError::wrong_password(),
        other => other.into(),
    }
}
