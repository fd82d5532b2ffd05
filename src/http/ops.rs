//! What operators and orchestrators ask: is it alive, is it ready, how is it doing.

use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};

use super::error::ApiError;
use super::response::with_body;
use super::{Body, Context};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// `/livez`: the process answers.
pub(super) fn live() -> Response<Body> {
    with_body(StatusCode::OK, TEXT, Body::bytes("ok"))
}

/// `/startupz`: an open registry has started.
pub(super) fn started() -> Response<Body> {
    live()
}

/// `/readyz`: the database answers too.
pub(super) fn ready(context: &Context<'_>) -> Result<Response<Body>, ApiError> {
    match context.registry.stores().check() {
        Ok(()) => Ok(live()),
        Err(error) => Err(ApiError::unavailable(error)),
    }
}

/// The metrics, in the text format of Prometheus.
pub(super) fn metrics(context: &Context<'_>) -> Response<Body> {
    let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    with_body(StatusCode::OK, content_type, Body::bytes(context.registry.metrics().encode()))
}
