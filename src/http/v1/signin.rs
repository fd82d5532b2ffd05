//! Signing in from the command line: what one can sign in with.

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::schema::{Schema, boolean, integer, list_of, named, object, text};
use crate::http::response::json_response;
use crate::http::{Body, Context};

/// The ways to sign in, for whoever has not done so yet.
pub(super) fn providers(context: &Context<'_>) -> Response<Body> {
    let lifetime = context.registry.accounts().key_lifetime_max();
    let providers: Vec<Value> = Vec::new();
    json_response(
        StatusCode::OK,
        &json!({
            "password": true,
            "key_lifetime_max": lifetime.map(|lifetime| lifetime.as_secs()),
            "providers": providers,
        }),
    )
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
