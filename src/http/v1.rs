//! Quay's API v1: sign-in, users, keys and what was done to them, and tags, in Quay's shapes.
//!
//! Which endpoints there are, and what they ask of the caller, is in `route::v1`. A handler finds
//! the decision made and the CSRF token checked.

mod csrf;
mod discovery;
mod group;
mod log;
mod permission;
mod repository;
mod schema;
mod session;
mod shape;
mod signin;
mod superuser;
mod tag;
mod token;
mod user;

use hyper::Response;
use hyper::header::{self, HeaderValue};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::request::{RequestBody, why_unreadable};
use super::{Body, Context};
use crate::content::rows::Grantee;
use crate::http::route::{Endpoint, Query};
use crate::oci::{ErrorCode, JsonObject, RepositoryName};

pub(super) use csrf::check as check_csrf;

/// What users send is a handful of fields.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A request to API v1: what is on its line, besides its endpoint.
#[derive(Debug)]
pub(super) struct Call<'a> {
    repository: Option<&'a RepositoryName>,
    values: &'a [String],
    query: &'a Query,
}

impl Call<'_> {
    /// The value of the path's last segment in braces.
    fn value(&self) -> &str {
        self.values.last().map_or("", String::as_str)
    }

    /// The repository that the path names.
    fn repository(&self) -> Result<&RepositoryName, ApiError> {
        self.repository.ok_or_else(|| ApiError::internal("an endpoint without a repository in its path asks for it"))
    }
}

pub(super) async fn dispatch(
    context: &Context<'_>,
    endpoint: Endpoint,
    repository: Option<&RepositoryName>,
    values: &[String],
    query: &Query,
    body: &mut RequestBody,
) -> Result<Response<Body>, ApiError> {
    let call = Call { repository, values, query };
    let mut response = match endpoint {
        Endpoint::Csrf => Ok(session::csrf(context)),
        Endpoint::Signin => session::signin(context, body).await,
        Endpoint::Verify => session::verify(context, body).await,
        Endpoint::Signout => session::signout(context, &call).await,
        Endpoint::ListProviders => Ok(signin::providers(context).await),
        Endpoint::BeginDevice => signin::device(context, body).await,
        Endpoint::PollDevice => signin::device_token(context, body).await,
        Endpoint::ExchangeCode => signin::code(context, body).await,
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
        Endpoint::ListRepositories => repository::list(context, &call),
        Endpoint::CreateRepository => repository::create(context, body).await,
        Endpoint::GetRepository => repository::get(context, &call),
        Endpoint::ChangeRepository => repository::describe(context, &call, body).await,
        Endpoint::ChangeVisibility => repository::change_visibility(context, &call, body).await,
        Endpoint::DeleteRepository => repository::delete(context, &call).await,
        Endpoint::ListUserRoles => permission::list(context, &call, Grantee::User),
        Endpoint::ListGroupRoles => permission::list(context, &call, Grantee::Group),
        Endpoint::GetUserRole => permission::get(context, &call, Grantee::User),
        Endpoint::GetGroupRole => permission::get(context, &call, Grantee::Group),
        Endpoint::SetUserRole => permission::set(context, &call, Grantee::User, body).await,
        Endpoint::SetGroupRole => permission::set(context, &call, Grantee::Group, body).await,
        Endpoint::RemoveUserRole => permission::remove(context, &call, Grantee::User).await,
        Endpoint::RemoveGroupRole => permission::remove(context, &call, Grantee::Group).await,
        Endpoint::GetAllRoles => permission::transitive(context, &call),
        Endpoint::ExplainAccess => permission::explain(context, &call),
        Endpoint::ListGroups => group::list(context),
        Endpoint::SetGroup => group::set(context, &call, body).await,
        Endpoint::RemoveGroup => group::remove(context, &call).await,
        Endpoint::ListMembers => group::members(context, &call),
        Endpoint::AddMember => group::set_member(context, &call, true).await,
        Endpoint::RemoveMember => group::set_member(context, &call, false).await,
        Endpoint::GroupRoles => group::permissions(context, &call),
        Endpoint::ListRefreshTokens => token::list_refresh(context),
        Endpoint::EndRefreshToken => token::end_refresh(context, &call).await,
        Endpoint::ListTags => tag::list(context, &call).await,
        Endpoint::ChangeTag => tag::change(context, &call, body).await,
        Endpoint::DeleteTag => tag::delete(context, &call).await,
        Endpoint::RestoreTag => tag::restore(context, &call, body).await,
        Endpoint::ExpireTag => tag::expire(context, &call, body).await,
        Endpoint::ErrorType => discovery::error_type(context, &call),
        Endpoint::Discovery => Ok(discovery::document(context)),
    }?;
    // What is said of accounts is for whoever asked, and for now.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// Reads a body, a JSON object.
async fn read<T: DeserializeOwned>(body: &mut RequestBody) -> Result<T, ApiError> {
    let bytes = body.read(BODY_BYTES_MAX).await?;
    let JsonObject(value) = serde_json::from_slice(&bytes)
        .map_err(|error| invalid(format!("the body cannot be read: {}", why_unreadable(&error))))?;
    Ok(value)
}

/// A mistake of the client.
fn invalid(why: impl Into<String>) -> ApiError {
    ApiError::bad_request(ErrorCode::Unsupported, why)
}
