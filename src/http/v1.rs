//! Quay's API v1: sign-in, users, API keys, permissions, repositories, tags and the audit log, in Quay's shapes.
//!
//! # Adding an endpoint
//!
//! 1. Write the handler, in the file of its subject or in a new one: a function of the context and a
//!    [`Call`](input::Call), with a type for each value of the path, for the query, for the body, and for the answer.
//! 2. Add its row to `ENDPOINTS` in that file: method, path, required access, handler, name and summary. Name a new file
//!    in [`endpoints`].
//! 3. Add its route to `tests/it/accounts/routes.rs`, and write its row of `routes.txt` with
//!    `UPDATE_SNAPSHOTS=1 cargo test --test it routes`.
//!
//! The router, the access decision and the description at `/api/v1/discovery` follow from the row and the types. The
//! compiler warns of a handler without a row, and a test fails for a route that is not in `routes.txt`.

mod answer;
mod discovery;
mod endpoint;
mod group;
mod input;
mod log;
mod manifest;
mod path;
mod permission;
#[cfg(feature = "openid")]
mod provider;
mod refresh_token;
mod repository;
mod session;
mod signin;
mod superuser;
mod system;
mod tag;
mod token;
mod user;
mod values;

use hyper::header::{self, HeaderValue};
use hyper::{Method, Response};

use super::error::ApiError;
use super::request::RequestBody;
use super::route::{Query, RouteError};
use super::{Body, Context};
use endpoint::Endpoint;
pub(crate) use endpoint::Request;

/// All endpoints. A request belongs to the first path that fits, so the paths under `{repository}` come before the
/// repository's own path.
fn endpoints() -> impl Iterator<Item = &'static Endpoint> {
    let files = [
        session::ENDPOINTS,
        signin::ENDPOINTS,
        #[cfg(feature = "openid")]
        provider::ENDPOINTS,
        user::ENDPOINTS,
        token::ENDPOINTS,
        refresh_token::ENDPOINTS,
        log::ENDPOINTS,
        superuser::ENDPOINTS,
        system::ENDPOINTS,
        tag::ENDPOINTS,
        manifest::ENDPOINTS,
        permission::ENDPOINTS,
        repository::ENDPOINTS,
        group::ENDPOINTS,
        discovery::ENDPOINTS,
    ];
    files.into_iter().flatten()
}

/// Reads a request line.
pub(super) fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Request, RouteError> {
    let query = Query::parse(query.unwrap_or_default())?;
    let (endpoint, values) = path::find(method, path)?;
    endpoint.parse(&values, &query)
}

/// Handles a request of a caller who may make it.
pub(super) async fn handle(
    context: &Context<'_>,
    request: Request,
    body: &mut RequestBody,
) -> Result<Response<Body>, ApiError> {
    let mut response = request.run(context, body).await?;
    // The answer is for this caller, and for now.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

#[cfg(test)]
mod tests;
