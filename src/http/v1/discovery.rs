//! The description of API v1, made from the rows of `route::v1`, as `OpenAPI` 3; and what the error
//! types mean.

use hyper::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::Call;
use crate::access::Requires;
use crate::http::error::{ApiError, ERROR_TYPES};
use crate::http::response::json_response;
use crate::http::{Body, Context};
use crate::oci::ErrorCode;
use crate::route::Endpoint;

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
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in Endpoint::ALL {
        let row = endpoint.row();
        let operations = paths.entry(row.path).or_insert_with(|| json!({}));
        operations[row.method.as_str().to_lowercase()] = operation(*endpoint);
    }
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
                "csrf": { "type": "apiKey", "in": "header", "name": "X-CSRF-Token" },
            },
            "schemas": { "Problem": problem() },
        },
    });
    json_response(StatusCode::OK, &document)
}

fn operation(endpoint: Endpoint) -> Value {
    let row = endpoint.row();
    let shape = shape(endpoint);
    let mut responses = json!({
        "default": {
            "description": "It was refused, or failed.",
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
        },
    });
    let mut success = json!({ "description": "Done." });
    if let Some(schema) = shape.answer {
        success["content"] = json!({ "application/json": { "schema": schema } });
    }
    responses[if shape.no_content { "204" } else { "200" }] = success;
    let mut parameters: Vec<Value> = Vec::new();
    for segment in row.path.split('/') {
        if let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            parameters.push(
                json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }),
            );
        }
    }
    for (name, schema) in shape.query {
        parameters.push(json!({ "name": name, "in": "query", "schema": schema }));
    }
    let mut operation = json!({
        "operationId": row.nickname,
        "summary": row.summary,
        "parameters": parameters,
        "responses": responses,
        "security": security(row.requires, &row.method),
    });
    if let Some(schema) = shape.body {
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    operation
}

fn security(requires: Requires, method: &Method) -> Value {
    let session = if method.is_safe() { json!({ "session": [] }) } else { json!({ "session": [], "csrf": [] }) };
    match requires {
        Requires::Anyone => json!([{}]),
        Requires::FreshLogin => json!([session]),
        Requires::SignedIn
        | Requires::Repository(_)
        | Requires::UserAdmin
        | Requires::Superuser
        | Requires::SuperuserRead => {
            json!([{ "key": [] }, session])
        }
    }
}

/// What an endpoint takes and gives.
#[derive(Default)]
struct Shape {
    query: Vec<(&'static str, Value)>,
    body: Option<Value>,
    answer: Option<Value>,
    no_content: bool,
}

fn shape(endpoint: Endpoint) -> Shape {
    let text = || json!({ "type": "string" });
    let flag = || json!({ "type": "string", "enum": ["true", "false"] });
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    let optional_list = || json!({ "type": "array", "nullable": true, "items": { "type": "string" } });
    let success = || object(&["success"], json!({ "success": { "type": "boolean" } }));
    let token = || {
        object(
            &["uuid", "title", "created"],
            json!({
                "uuid": text(), "title": text(), "created": text(), "scopes": optional_list(),
                "last_accessed": { "type": "string", "nullable": true },
                "expiration": { "type": "string", "nullable": true },
            }),
        )
    };
    let tokens = || object(&["tokens"], json!({ "tokens": { "type": "array", "items": token() } }));
    let user = || object(&["username"], json!({ "username": text(), "email": { "type": "string", "nullable": true } }));
    let days = || vec![("starttime", text()), ("endtime", text()), ("next_page", text())];
    let logs = || object(&["logs"], json!({ "logs": { "type": "array", "items": { "type": "object" } } }));
    let gives = |answer: Value| Shape { answer: Some(answer), ..Shape::default() };
    let nothing = || Shape { no_content: true, ..Shape::default() };
    match endpoint {
        Endpoint::Csrf => gives(object(&["csrf_token"], json!({ "csrf_token": text() }))),
        Endpoint::Signin => Shape {
            body: Some(object(&["username", "password"], json!({ "username": text(), "password": text() }))),
            ..gives(success())
        },
        Endpoint::Verify => {
            Shape { body: Some(object(&["password"], json!({ "password": text() }))), ..gives(success()) }
        }
        Endpoint::Signout => Shape { query: vec![("everywhere", flag())], ..gives(success()) },
        Endpoint::GetUser | Endpoint::GetAnyUser | Endpoint::PublicUser => gives(user()),
        Endpoint::ChangeUser => {
            Shape { body: Some(object(&[], json!({ "password": text(), "email": text() }))), ..gives(user()) }
        }
        Endpoint::ListSessions => {
            gives(object(&["sessions"], json!({ "sessions": { "type": "array", "items": { "type": "object" } } })))
        }
        Endpoint::EndSession
        | Endpoint::DeleteUser
        | Endpoint::DeleteAnyUser
        | Endpoint::RevokeToken
        | Endpoint::RevokeAnyToken => nothing(),
        Endpoint::ListTokens => Shape { query: vec![("expiring", flag())], ..gives(tokens()) },
        Endpoint::ListAllTokens => gives(tokens()),
        Endpoint::CreateToken => Shape {
            body: Some(object(
                &["title"],
                json!({ "title": text(), "scopes": optional_list(), "expiration": { "type": "string", "nullable": true } }),
            )),
            ..gives(object(&["token"], json!({ "token": token() })))
        },
        Endpoint::GetToken => gives(object(&["token"], json!({ "token": token() }))),
        Endpoint::UserLogs | Endpoint::AllLogs => Shape { query: days(), ..gives(logs()) },
        Endpoint::ListUsers => Shape {
            query: vec![
                ("limit", json!({ "type": "integer", "minimum": 1, "maximum": 100 })),
                ("disabled", flag()),
                ("next_page", text()),
            ],
            ..gives(object(&["users"], json!({ "users": { "type": "array", "items": user() } })))
        },
        Endpoint::CreateUser => Shape {
            body: Some(object(
                &["username"],
                json!({ "username": text(), "email": { "type": "string", "nullable": true } }),
            )),
            ..gives(object(&["username", "password"], json!({ "username": text(), "password": text() })))
        },
        Endpoint::ChangeAnyUser => Shape {
            body: Some(object(
                &[],
                json!({
                    "password": text(), "email": text(), "enabled": { "type": "boolean" },
                    "groups": { "type": "array", "items": { "type": "string" } },
                }),
            )),
            ..gives(user())
        },
        Endpoint::ErrorType => gives(object(
            &["title", "type", "description"],
            json!({ "title": text(), "type": text(), "description": text() }),
        )),
        Endpoint::Discovery => gives(json!({ "type": "object" })),
    }
}

fn problem() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "required": ["detail", "error_message", "error_type", "title", "type", "status", "message"],
        "properties": {
            "detail": text, "error_message": text, "error_type": text, "title": text, "type": text, "message": text,
            "status": { "type": "integer" },
        },
    })
}
