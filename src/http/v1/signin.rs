//! Signing in from a program, such as `coracle login`: what one can sign in with, through a provider with another
//! device, and with what the browser of the same machine has brought back.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::schema::{Schema, boolean, integer, list_of, named, object, one_of, text};
use super::session::session_response;
use super::{invalid, read};
use crate::http::error::ApiError;
use crate::http::ext::login::{admit_user, why_not_admitted};
use crate::http::request::RequestBody;
use crate::http::response::json_response;
use crate::http::{Body, Context};
use crate::identity::accounts::DerivedFrom;
use crate::identity::providers::{DevicePoll, Error};
use crate::oci::ErrorCode;

/// How long one provider may take to say whether it lets people sign in with another device.
const PROVIDER_WAIT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct DeviceBody {
    provider: String,
}

#[derive(Deserialize)]
struct PollBody {
    handle: String,
}

#[derive(Deserialize)]
struct CodeBody {
    code: String,
    code_verifier: String,
}

/// The ways to sign in, for whoever has not done so yet.
pub(super) async fn providers(context: &Context<'_>) -> Response<Body> {
    let lifetime = context.registry.accounts().key_lifetime_max();
    let mut providers = Vec::new();
    for provider in context.registry.providers().list() {
        let device = tokio::time::timeout(PROVIDER_WAIT, provider.offers_device()).await.unwrap_or(false);
        providers.push(json!({ "name": provider.name, "title": provider.title, "device": device }));
    }
    json_response(
        StatusCode::OK,
        &json!({
            "password": true,
            "key_lifetime_max": lifetime.map(|lifetime| lifetime.as_secs()),
            "providers": providers,
        }),
    )
}

/// Begins a sign-in with another device (RFC 8628, 3.1 and 3.2).
pub(super) async fn device(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<Body>, ApiError> {
    let DeviceBody { provider } = read(body).await?;
    let (providers, now) = (context.registry.providers(), context.registry.now());
    let begun = providers.start_device(&provider, context.info.address, now).await;
    let begun = begun.map_err(|error| refused(context, &error))?;
    Ok(json_response(
        StatusCode::OK,
        &json!({
            "user_code": begun.user_code,
            "verification_uri": begun.verification_uri,
            "verification_uri_complete": begun.verification_uri_complete,
            "handle": begun.handle,
            "interval": begun.interval.as_secs(),
            "expires_in": begun.lifetime.as_secs(),
        }),
    ))
}

/// What has become of it (RFC 8628, 3.4 and 3.5); at its end a session.
pub(super) async fn device_token(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<Body>, ApiError> {
    let PollBody { handle } = read(body).await?;
    let polled = context.registry.providers().poll_device(&handle, context.registry.now()).await;
    let status = |status: &str, interval: Option<Duration>| {
        let interval = interval.map(|interval| interval.as_secs());
        Ok(json_response(StatusCode::OK, &json!({ "status": status, "interval": interval })))
    };
    match polled.map_err(|error| refused(context, &error))? {
        DevicePoll::Pending { interval } => status("pending", Some(interval)),
        DevicePoll::SlowDown { interval } => status("slow_down", Some(interval)),
        DevicePoll::Denied => status("denied", None),
        DevicePoll::Expired => status("expired", None),
        DevicePoll::Done(signed_in) => match admit_user(context, *signed_in).await? {
            Ok(account) => session_response(context, &account, &json!({ "status": "done", "interval": null })).await,
            Err(not_admitted) => {
                let (_, what, next) = why_not_admitted(&not_admitted)?;
                Err(ApiError::new(ErrorCode::Denied, format!("{what} {next}")))
            }
        },
    }
}

/// A session for what the browser has brought back to a program.
pub(super) async fn code(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<Body>, ApiError> {
    let CodeBody { code, code_verifier } = read(body).await?;
    let code = context.registry.providers().sign_in_codes().exchange(&code, &code_verifier, context.registry.now());
    let accounts = Arc::clone(context.registry.accounts());
    let (user, stamp) = code.unzip();
    let account = user.map(|user| accounts.account(&user)).transpose()?.flatten();
    let account = account.filter(|account| account.accepts(DerivedFrom::SignIn(stamp)));
    let account = account.ok_or_else(|| {
        ApiError::new(ErrorCode::Denied, "the code is not right, was used already, or its time is over")
    })?;
    session_response(context, &account, &json!({ "success": true })).await
}

/// What a program hears that could not sign somebody in. What is the operator's to know goes to the log.
fn refused(context: &Context<'_>, error: &Error) -> ApiError {
    let id = context.info.request;
    tracing::warn!(id, %error, "somebody could not sign in through a provider");
    match error {
        Error::UnknownProvider | Error::NoDeviceFlow | Error::InvalidSignIn(_) => invalid(error.to_string()),
        Error::Refused { .. } | Error::MissingClaim { .. } | Error::UnverifiedEmail => {
            ApiError::new(ErrorCode::Denied, error.to_string())
        }
        Error::Invalid { .. } => {
            let why = format!("the provider's answer does not hold; the log says more, under the request {id}");
            ApiError::new(ErrorCode::Denied, why)
        }
        Error::Unavailable { cause } => ApiError::provider_away(cause),
        Error::Busy { seconds } => ApiError::too_many(error.to_string(), *seconds),
    }
}

/// What [`providers`] shows.
pub(super) fn providers_schema() -> Schema {
    object([
        ("password", boolean()),
        // In seconds.
        ("key_lifetime_max", integer(1, usize::MAX).or_null()),
        ("providers", list_of(named("Provider", object([("name", text()), ("title", text()), ("device", boolean())])))),
    ])
}

/// What [`device`] shows.
pub(super) fn device_schema() -> Schema {
    object([
        ("user_code", text()),
        ("verification_uri", text()),
        ("verification_uri_complete", text().or_null()),
        ("handle", text()),
        // In seconds.
        ("interval", integer(1, 60)),
        ("expires_in", integer(0, 1800)),
    ])
}

/// What [`device_token`] shows.
pub(super) fn device_token_schema() -> Schema {
    object([
        ("status", one_of(["pending", "slow_down", "denied", "expired", "done"])),
        // In seconds.
        ("interval", integer(1, 60).or_null()),
    ])
}
