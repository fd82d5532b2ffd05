//! Quay's API v1: sign-in, users, keys and what was done to them, in Quay's shapes.
//!
//! Which endpoints there are, and what they ask of the caller, is in `route::v1`. A handler finds
//! the decision made and the CSRF token checked.

mod csrf;
mod discovery;
mod log;
mod session;
mod superuser;
mod token;
mod user;

use hyper::Response;
use hyper::header::{self, HeaderValue};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::request::{RequestBody, why_unreadable};
use super::{Body, Context};
use crate::oci::ErrorCode;
use crate::route::{Endpoint, Query};

pub(super) use csrf::check as check_csrf;

/// What users send is a handful of fields.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A request to API v1: what is on its line, besides its endpoint.
#[derive(Debug)]
pub(super) struct Call<'a> {
    values: &'a [String],
    query: &'a Query,
}

impl Call<'_> {
    /// The value of the path's only segment in braces.
    fn value(&self) -> &str {
        self.values.first().map_or("", String::as_str)
    }
}

pub(super) async fn dispatch(
    context: &Context<'_>,
    endpoint: Endpoint,
    values: &[String],
    query: &Query,
    body: &mut RequestBody,
) -> Result<Response<Body>, ApiError> {
    let call = Call { values, query };
    let mut response = match endpoint {
        Endpoint::Csrf => Ok(session::csrf(context)),
        Endpoint::Signin => session::signin(context, body).await,
        Endpoint::Verify => session::verify(context, body).await,
        Endpoint::Signout => session::signout(context, &call).await,
        Endpoint::ListSessions => session::list(context),
        Endpoint::EndSession => session::end(context, &call).await,
        Endpoint::GetUser => user::get(context),
        Endpoint::ChangeUser => user::change(context, body).await,
        Endpoint::DeleteUser => user::delete(context).await,
        Endpoint::PublicUser => user::public(context, &call),
        Endpoint::ListTokens => token::list(context, &call),
        Endpoint::CreateToken => token::create(context, body).await,
        Endpoint::GetToken => token::get(context, &call),
        Endpoint::RevokeToken => token::revoke(context, &call).await,
        Endpoint::UserLogs => log::of_user(context, &call),
        Endpoint::AllLogs => log::of_all(context, &call),
        Endpoint::ListUsers => superuser::list(context, &call),
        Endpoint::CreateUser => superuser::create(context, body).await,
        Endpoint::GetAnyUser => superuser::get(context, &call),
        Endpoint::ChangeAnyUser => superuser::change(context, &call, body).await,
        Endpoint::DeleteAnyUser => superuser::delete(context, &call).await,
        Endpoint::ListAllTokens => token::list_all(context),
        Endpoint::RevokeAnyToken => token::revoke_any(context, &call).await,
        Endpoint::ErrorType => discovery::error_type(context, &call),
        Endpoint::Discovery => Ok(discovery::document(context)),
    }?;
    // What is said of accounts is for whoever asked, and for now.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// Reads a body of JSON.
async fn read<T: DeserializeOwned>(body: &mut RequestBody) -> Result<T, ApiError> {
    let bytes = body.read(BODY_BYTES_MAX).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| invalid(format!("the body cannot be read: {}", why_unreadable(&error))))
}

/// A mistake of the client.
fn invalid(why: impl Into<String>) -> ApiError {
    ApiError::bad_request(ErrorCode::Unsupported, why)
}
