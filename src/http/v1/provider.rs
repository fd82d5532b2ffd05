//! Sign-in from a program through an identity provider: with another device, and with the code that a browser on the same
//! machine received.

use std::time::Duration;

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{SET_COOKIE, Success, WithHeaders};
use super::endpoint::{Endpoint, future, post};
use super::input::{Call, NoQuery, invalid};
use super::session::{NEXT_TOKEN_IF_STARTED, with_session};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::ext::login::{admit_user, why_not_admitted};
use crate::identity::access::Requires;
use crate::identity::accounts::DerivedFrom;
use crate::identity::providers::{DevicePoll, Error};
use crate::oci::ErrorCode;

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    post("/api/v1/signin/device", Requires::Anyone, &future(start_device_sign_in))
        .named("beginDeviceSignin", "Start a sign-in at a provider with another device")
        .refuses(&[StatusCode::TOO_MANY_REQUESTS]),
    post("/api/v1/signin/device/token", Requires::Anyone, &future(poll_device_sign_in))
        .named("pollDeviceSignin", "Ask how far a sign-in with another device is")
        .headers(&[NEXT_TOKEN_IF_STARTED, SET_COOKIE])
        .refuses(&[StatusCode::TOO_MANY_REQUESTS]),
    post("/api/v1/signin/code", Requires::Anyone, &future(exchange_code))
        .named("exchangeSigninCode", "Start a session with the code that a browser gave to a program")
        .headers(&[NEXT_TOKEN_IF_STARTED, SET_COOKIE]),
];

#[derive(Debug, Deserialize, JsonSchema)]
struct DeviceBody {
    provider: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct DeviceSignIn {
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    handle: String,
    /// In seconds.
    #[schemars(range(min = 1, max = 60))]
    interval: u64,
    /// In seconds.
    #[schemars(range(min = 0, max = 1800))]
    expires_in: u64,
}

/// RFC 8628, 3.1 and 3.2.
async fn start_device_sign_in(
    context: &Context<'_>,
    call: Call<(), NoQuery, DeviceBody>,
) -> Result<DeviceSignIn, ApiError> {
    let (providers, now) = (context.registry.providers(), context.registry.now());
    let started = providers.start_device(&call.body.provider, context.info.address, now).await;
    let started = started.map_err(|error| refused(context, &error))?;
    Ok(DeviceSignIn {
        user_code: started.user_code,
        verification_uri: started.verification_uri,
        verification_uri_complete: started.verification_uri_complete,
        handle: started.handle,
        interval: started.interval.as_secs(),
        expires_in: started.lifetime.as_secs(),
    })
}

#[derive(Debug, Deserialize, JsonSchema)]
struct PollBody {
    handle: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct DeviceProgress {
    status: DeviceStatus,
    /// The time to wait before the next request, in seconds.
    #[schemars(range(min = 1, max = 60))]
    interval: Option<u64>,
}

#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum DeviceStatus {
    Pending,
    SlowDown,
    Denied,
    Expired,
    Done,
}

/// Starts a session once the user has signed in (RFC 8628, 3.4 and 3.5).
async fn poll_device_sign_in(
    context: &Context<'_>,
    call: Call<(), NoQuery, PollBody>,
) -> Result<WithHeaders<DeviceProgress>, ApiError> {
    let polled = context.registry.providers().poll_device(&call.body.handle, context.registry.now()).await;
    let progress = |status, interval: Option<Duration>| DeviceProgress {
        status,
        interval: interval.map(|interval| interval.as_secs()),
    };
    let progress = match polled.map_err(|error| refused(context, &error))? {
        DevicePoll::Pending { interval } => progress(DeviceStatus::Pending, Some(interval)),
        DevicePoll::SlowDown { interval } => progress(DeviceStatus::SlowDown, Some(interval)),
        DevicePoll::Denied => progress(DeviceStatus::Denied, None),
        DevicePoll::Expired => progress(DeviceStatus::Expired, None),
        DevicePoll::Done(signed_in) => match admit_user(context, *signed_in).await? {
            Ok(account) => return with_session(context, &account, progress(DeviceStatus::Done, None)).await,
            Err(not_admitted) => {
                let (_, what, next) = why_not_admitted(&not_admitted)?;
                return Err(ApiError::new(ErrorCode::Denied, format!("{what} {next}")));
            }
        },
    };
    Ok(WithHeaders::new(progress))
}

#[derive(Debug, Deserialize, JsonSchema)]
struct CodeBody {
    code: String,
    code_verifier: String,
}

async fn exchange_code(
    context: &Context<'_>,
    call: Call<(), NoQuery, CodeBody>,
) -> Result<WithHeaders<Success>, ApiError> {
    let CodeBody { code, code_verifier } = call.body;
    let codes = context.registry.providers().sign_in_codes();
    let (user, stamp) = codes.exchange(&code, &code_verifier, context.registry.now()).unzip();
    let account = user.map(|user| context.registry.accounts().account(&user)).transpose()?.flatten();
    let account = account.filter(|account| account.accepts(DerivedFrom::SignIn(stamp)));
    let account = account.ok_or_else(|| {
        ApiError::new(ErrorCode::Denied, "the code is not right, was used already, or its time is over")
    })?;
    with_session(context, &account, Success::DONE).await
}

/// The refusal of a sign-in at a provider. Details for the operator go to the log.
fn refused(context: &Context<'_>, error: &Error) -> ApiError {
    let id = context.info.request;
    context.registry.providers().log_failure(id, None, error);
    match error {
        Error::UnknownProvider | Error::NoDeviceFlow | Error::InvalidSignIn(_) => invalid(error.to_string()),
        Error::Refused { .. } | Error::MissingClaim { .. } | Error::UnverifiedEmail => {
            ApiError::new(ErrorCode::Denied, error.to_string())
        }
        Error::Invalid { .. } => {
            let why = "the provider's response could not be verified; the log has details under the request id";
            ApiError::new(ErrorCode::Denied, format!("{why} {id}"))
        }
        Error::Unavailable { cause } => ApiError::provider_away(cause),
        Error::Busy { seconds } => ApiError::too_many(error.to_string(), *seconds),
    }
}
