//! The description of API v1, as `OpenAPI` 3; and what the error types mean.
//!
//! It is made from the rows of `route::v1` and from [`super::shape`]. What an endpoint refuses follows
//! from its row: a method that changes something needs a CSRF token, a value in a path may name what is
//! not there, and so on. Only what follows from nothing else is said with the shape.

use std::collections::BTreeSet;

use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::Call;
use super::schema::{
    Definitions, Schema, always, anything, boolean, integer, list_of, map, named, object, one_of, text,
};
use super::shape::{self, Shape};
use crate::http::error::{ApiError, ERROR_TYPES, FRESH_LOGIN_REQUIRED, error_type_of};
use crate::http::response::json_response;
use crate::http::route::{Endpoint, Row};
use crate::http::{Body, Context};
use crate::identity::access::{Action, Requires};
use crate::oci::ErrorCode;

pub(super) fn error_type(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let name = call.value();
    let (title, description) = ERROR_TYPES
        .iter()
        .find(|(title, _)| *title == name)
        .ok_or_else(|| ApiError::missing(ErrorCode::Unsupported, "there is no such error type"))?;
    let kind = format!("{}/api/v1/error/{title}", context.base_url());
    Ok(json_response(StatusCode::OK, &json!({ "title": title, "type": kind, "description": description })))
}

pub(super) fn document(context: &Context<'_>) -> Response<Body> {
    let mut schemas = Definitions::new();
    let mut statuses = BTreeSet::new();
    let mut paths = Map::new();
    for endpoint in Endpoint::ALL {
        let row = endpoint.row();
        let shape = shape::of(*endpoint);
        let refusals = refusals(&row, &shape);
        let operations = paths.entry(row.path).or_insert_with(|| json!({}));
        operations[row.method.as_str().to_lowercase()] = operation(&row, shape, &refusals, &mut schemas);
        statuses.extend(refusals);
    }
    let responses: Map<String, Value> =
        statuses.into_iter().map(|status| (name_of(status), refusal(status, &mut schemas))).collect();
    let document = json!({
        "openapi": "3.0.3",
        "info": {
            "title": "coracle: Quay's API v1",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Sign-in, users, API keys and what was done to them.",
        },
        "servers": [{ "url": context.base_url() }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": { "type": "http", "scheme": "bearer", "description": "an API key, zak_…" },
                "session": { "type": "apiKey", "in": "cookie", "name": "session" },
                "csrf": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-CSRF-Token",
                    "description": "the token of the cookie: GET /csrf_token",
                },
            },
            "schemas": schemas,
            "responses": responses,
        },
    });
    json_response(StatusCode::OK, &document)
}

fn operation(row: &Row, shape: Shape, refusals: &BTreeSet<StatusCode>, schemas: &mut Definitions) -> Value {
    let mut parameters = Vec::new();
    for name in row.values() {
        let schema = shape::in_path(name).into_json(schemas);
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    for (name, schema) in shape.query {
        let required = !schema.is_optional();
        let schema = schema.into_json(schemas);
        parameters.push(json!({ "name": name, "in": "query", "required": required, "schema": schema }));
    }
    let success = match &shape.answer {
        Some(_) if shape.creates => StatusCode::CREATED,
        Some(_) => StatusCode::OK,
        None => StatusCode::NO_CONTENT,
    };
    let mut responses: Map<String, Value> = refusals
        .iter()
        .map(|status| {
            (status.as_str().to_owned(), json!({ "$ref": format!("#/components/responses/{}", name_of(*status)) }))
        })
        .collect();
    let done = response("Done.", shape.headers, shape.answer.map(Schema::closed), schemas);
    responses.insert(success.as_str().to_owned(), done);
    let mut operation = json!({
        "operationId": row.nickname,
        "summary": row.summary,
        "parameters": parameters,
        "responses": responses,
        "security": security(row),
    });
    if let Some(body) = shape.body {
        let content = json!({ "application/json": { "schema": body.into_json(schemas) } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

/// With what a request may come: any of the list, and all of one of its entries.
fn security(row: &Row) -> Value {
    let (key, session) = (json!({ "key": [] }), json!({ "session": [] }));
    let session = if row.method.is_safe() { session } else { json!({ "session": [], "csrf": [] }) };
    match row.requires {
        Requires::Anyone if row.method.is_safe() => json!([]),
        Requires::Session | Requires::FreshLogin | Requires::FreshSuperuser | Requires::FreshSuperuserRead => {
            json!([session])
        }
        // What is public needs no credentials.
        Requires::Repository(Action::Pull) => json!([{}, key, session]),
        Requires::Anyone
        | Requires::SignedIn
        | Requires::FreshLoginOrKey
        | Requires::Repository(_)
        | Requires::UserAdmin
        | Requires::OwnKeys
        | Requires::Superuser
        | Requires::SuperuserRead => {
            json!([key, session])
        }
    }
}

/// The statuses of everything that an endpoint may refuse, or fail at.
fn refusals(row: &Row, shape: &Shape) -> BTreeSet<StatusCode> {
    // Of any request: something in it is not what it must be, the credentials are wrong, it is too
    // long, or the registry fails.
    let mut statuses = BTreeSet::from([
        StatusCode::BAD_REQUEST,
        StatusCode::UNAUTHORIZED,
        StatusCode::URI_TOO_LONG,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::SERVICE_UNAVAILABLE,
    ]);
    // For want of a CSRF token, and of room on the disk.
    if !row.method.is_safe() {
        statuses.extend([StatusCode::FORBIDDEN, StatusCode::INSUFFICIENT_STORAGE]);
    }
    match row.requires {
        Requires::Anyone | Requires::SignedIn => {}
        Requires::UserAdmin
        | Requires::Repository(_)
        | Requires::Session
        | Requires::FreshLogin
        | Requires::FreshLoginOrKey
        | Requires::OwnKeys
        | Requires::Superuser
        | Requires::SuperuserRead
        | Requires::FreshSuperuser
        | Requires::FreshSuperuserRead => {
            statuses.insert(StatusCode::FORBIDDEN);
        }
    }
    if row.values().next().is_some() {
        statuses.insert(StatusCode::NOT_FOUND);
    }
    if shape.body.is_some() {
        statuses.extend([StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE]);
    }
    statuses.extend(&shape.refusals);
    statuses
}

/// What is said with a status that is not a success.
fn refusal(status: StatusCode, schemas: &mut Definitions) -> Value {
    let title = error_type_of(status);
    let mut titles = vec![title];
    if status == StatusCode::UNAUTHORIZED {
        titles.push(FRESH_LOGIN_REQUIRED);
    }
    let mut headers = Vec::new();
    if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::INSUFFICIENT_STORAGE]
        .contains(&status)
    {
        headers.push(("Retry-After", integer(1, 3600)));
    }
    if status.is_server_error() {
        headers.push(("X-Request-Id", text()));
    }
    let meaning = ERROR_TYPES.iter().find(|(known, _)| *known == title).map_or("", |(_, meaning)| meaning);
    let description = format!("{}. {meaning}", status.canonical_reason().unwrap_or_default());
    let code = usize::from(status.as_u16());
    let this = object([("status", integer(code, code)), ("title", one_of(titles))]);
    response(&description, headers, Some(problem().closed().narrowed(this)), schemas)
}

fn response(
    description: &str,
    headers: Vec<(&'static str, Schema)>,
    body: Option<Schema>,
    schemas: &mut Definitions,
) -> Value {
    let mut response = json!({ "description": description });
    for (name, schema) in headers {
        let required = !schema.is_optional();
        response["headers"][name] = json!({ "required": required, "schema": schema.into_json(schemas) });
    }
    if let Some(body) = body {
        response["content"] = json!({ "application/json": { "schema": body.into_json(schemas) } });
    }
    response
}

/// What a refusal is called among those of the document.
fn name_of(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or_default().replace(' ', "")
}

/// What is always said of a failure, and what is said of some.
fn problem() -> Schema {
    named(
        "Problem",
        object([
            ("status", integer(400, 599)),
            ("title", text()),
            ("error_type", text()),
            ("type", text()),
            ("detail", text()),
            ("error_message", text()),
            ("message", text()),
            ("request_id", text().optional()),
            ("session_required", always(false).optional()),
            ("error", text().optional()),
            ("invalidCredentials", boolean().optional()),
            ("needsEmailVerification", boolean().optional()),
        ]),
    )
}

/// Of this document itself, no more than what it cannot be without.
pub(super) fn schema() -> Schema {
    let any = || map(anything());
    let fields =
        [("openapi", text()), ("info", any()), ("servers", list_of(any())), ("paths", any()), ("components", any())];
    object(fields)
}
