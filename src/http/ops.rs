//! What operators and orchestrators ask: is it alive, is it ready, how is it doing.

use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};

use super::error::ApiError;
use super::response::with_body;
use super::{Body, Context};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// `/`: this is a registry. Load balancers take any 2xx for a sign of life.
pub(super) fn root() -> Response<Body> {
    with_body(StatusCode::OK, TEXT, Body::bytes("coracle, an OCI registry. Its API is at /v2/.\n"))
}

/// `/livez`: the process answers.
pub(super) fn live() -> Response<Body> {
    with_body(StatusCode::OK, TEXT, Body::bytes("ok"))
}

/// `/startupz`: an open registry has started.
pub(super) fn started() -> Response<Body> {
    live()
}

/// `/readyz`: the database answers too. A registry that takes no pushes is ready: it can serve what it has, and
/// would not be asked for it if it said that it is not. But it says so.
pub(super) fn ready(context: &Context<'_>) -> Result<Response<Body>, ApiError> {
    let health = context.registry.stores().check().map_err(ApiError::unavailable)?;
    let text = match (health.read_only, health.pushes) {
        (true, _) => "ok, for reading alone: the database cannot be changed\n".to_owned(),
        (false, Err(why)) => format!("ok, without pushes: {why}\n"),
        (false, Ok(())) => return Ok(live()),
    };
    Ok(with_body(StatusCode::OK, TEXT, Body::bytes(text)))
}

/// The metrics, in the text format of Prometheus.
pub(super) fn metrics(context: &Context<'_>) -> Response<Body> {
    let stores = context.registry.stores();
    context.registry.metrics().storage(stores.space().ok(), stores.is_read_only());
    let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    with_body(StatusCode::OK, content_type, Body::bytes(context.registry.metrics().encode()))
}
