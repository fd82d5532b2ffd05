//! The description of API v1 as `OpenAPI` 3, and the meaning of error types.
//!
//! The description is derived from the endpoints. Most refusals follow from an endpoint's definition: a method that
//! changes something needs a CSRF token, a value in a path may name something that does not exist, and so on. The
//! endpoint itself lists the others.

use std::collections::BTreeSet;

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Header};
use super::endpoint::{Endpoint, get, sync};
use super::input::{Call, PathValue};
use crate::http::error::{ApiError, ERROR_TYPES, FRESH_LOGIN_REQUIRED, Problem, error_type_of};
use crate::http::response::with_body;
use crate::http::{Body, Context};
use crate::identity::access::{Action, Requires};
use crate::oci::ErrorCode;

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/error/{error_type}", Requires::Anyone, &sync(get_error_type))
        .named("getErrorDescription", "Explain an error type"),
    get("/api/v1/discovery", Requires::Anyone, &sync(discovery)).named("discovery", "Describe this API"),
];

/// A kind of failure, by its name in a path.
#[derive(Debug, JsonSchema)]
#[schemars(inline)]
struct ErrorType(#[schemars(extend("enum" = titles()))] &'static str);

#[derive(Debug, Serialize, JsonSchema)]
struct ErrorMeaning {
    #[schemars(extend("enum" = titles()))]
    title: &'static str,
    r#type: String,
    description: &'static str,
}

fn titles() -> Vec<&'static str> {
    ERROR_TYPES.iter().map(|(title, _)| *title).collect()
}

fn meaning(title: &str) -> &'static str {
    ERROR_TYPES.iter().find(|(known, _)| *known == title).map_or("", |(_, meaning)| meaning)
}

impl PathValue for ErrorType {
    fn parse(text: &str) -> Result<Self, ApiError> {
        let known = titles().into_iter().find(|title| *title == text);
        known.map(Self).ok_or_else(|| ApiError::missing(ErrorCode::Unsupported, "there is no such error type"))
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the handlers of all endpoints return results")]
fn get_error_type(
    context: &Context<'_>,
    Call { path: ErrorType(title), .. }: Call<ErrorType>,
) -> Result<ErrorMeaning, ApiError> {
    let r#type = format!("{}/api/v1/error/{title}", context.base_url());
    Ok(ErrorMeaning { title, r#type, description: meaning(title) })
}

/// The description itself, with the fields that it cannot lack.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Document {
    openapi: &'static str,
    info: Map<String, Value>,
    servers: Vec<Map<String, Value>>,
    paths: Map<String, Value>,
    components: Map<String, Value>,
}

/// The description as text, with the URL of the registry between two parts that all responses share.
#[derive(Debug)]
pub(super) struct Described {
    parts: [Bytes; 2],
    url: String,
}

impl Answer for Described {
    const STATUS: StatusCode = StatusCode::OK;

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        <Document as Answer>::schema(generator)
    }

    fn into_response(self) -> Response<Body> {
        let [before, after] = self.parts;
        let mut body = Body::reserved(before);
        body.push_bytes(Value::from(self.url).to_string());
        body.push_bytes(after);
        with_body(Self::STATUS, HeaderValue::from_static("application/json"), body)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the handlers of all endpoints return results")]
fn discovery(context: &Context<'_>, _: Call) -> Result<Described, ApiError> {
    // Making the description takes milliseconds, and anonymous clients may request it.
    let parts = context.registry.api_description().get_or_init(parts).clone();
    Ok(Described { parts, url: context.base_url() })
}

fn parts() -> [Bytes; 2] {
    // No URL has this form, so it is found only where the URL belongs.
    const URL: &str = "<url>";
    let text = serde_json::to_value(document(URL)).unwrap_or_default().to_string();
    let (before, after) = text.split_once(&format!("\"{URL}\"")).unwrap_or((&text, ""));
    [before, after].map(|part| Bytes::copy_from_slice(part.as_bytes()))
}

/// The schemas of an endpoint.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) path: Vec<Schema>,
    pub(super) query: Vec<Value>,
    pub(super) body: Option<Schema>,
    pub(super) answer: Option<Schema>,
    pub(super) status: StatusCode,
}

/// Makes the schemas of a description. Requests have theirs in place; answers refer to those that have a name.
#[derive(Debug)]
pub(super) struct Schemas {
    pub(super) input: SchemaGenerator,
    pub(super) output: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::openapi3();
        let input = settings.clone().for_deserialize().with(|settings| settings.inline_subschemas = true);
        let output = settings.for_serialize().with_transform(RecursiveTransform(close));
        Self { input: input.into_generator(), output: output.into_generator() }
    }

    /// The parameters of a query, from a struct with a field for each.
    pub(super) fn parameters<Q: JsonSchema>(&mut self) -> Vec<Value> {
        let mut schema = Q::json_schema(&mut self.input);
        transform(&mut self.input, &mut schema);
        let required = schema.get("required").cloned().unwrap_or_default();
        let is_required = |name: &str| required.as_array().is_some_and(|names| names.iter().any(|known| known == name));
        let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let parameter = |(name, mut schema): (String, Value)| {
            // A parameter may be absent, but has no way to be null.
            schema.as_object_mut().map(|keywords| keywords.remove("nullable"));
            if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) {
                values.retain(|value| !value.is_null());
            }
            json!({ "name": name, "in": "query", "required": is_required(&name), "schema": schema })
        };
        properties.into_iter().map(parameter).collect()
    }
}

/// Says of an object in an answer that it has no other fields. Clients may send more fields than they are asked for.
fn close(schema: &mut Schema) {
    if schema.get("properties").is_some() {
        schema.insert("additionalProperties".to_owned(), false.into());
    }
}

/// Brings a schema into the form of `OpenAPI`.
fn transform(generator: &mut SchemaGenerator, schema: &mut Schema) {
    for step in generator.transforms_mut() {
        step.transform(schema);
    }
}

#[cfg(test)]
impl Document {
    /// The names of the schemas.
    pub(super) fn schemas(&self) -> Vec<&str> {
        self.components["schemas"].as_object().expect("an object").keys().map(String::as_str).collect()
    }
}

pub(super) fn document(url: &str) -> Document {
    let mut schemas = Schemas::new();
    let mut statuses = BTreeSet::new();
    let mut paths = Map::new();
    for endpoint in super::endpoints() {
        let description = endpoint.describe(&mut schemas);
        let refusals = refusals(endpoint, &description);
        let operations = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        operations[endpoint.method.as_str().to_lowercase()] = operation(endpoint, description, &refusals, &mut schemas);
        statuses.extend(refusals);
    }
    let responses: Map<String, Value> =
        statuses.into_iter().map(|status| (name_of(status), refusal(status, &mut schemas))).collect();
    let info = json!({
        "title": "coracle: Quay's API v1",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Sign-in, users, API keys, permissions, repositories, tags and the audit log.",
    });
    let components = json!({
        "securitySchemes": {
            "key": { "type": "http", "scheme": "bearer", "description": "an API key, zak_…" },
            "session": { "type": "apiKey", "in": "cookie", "name": "session" },
            "csrf": {
                "type": "apiKey",
                "in": "header",
                "name": "X-CSRF-Token",
                "description": "the token that belongs to the cookie: GET /csrf_token",
            },
        },
        "schemas": schemas.output.take_definitions(true),
        "responses": responses,
    });
    let object = |value: Value| if let Value::Object(fields) = value { fields } else { Map::new() };
    Document {
        openapi: "3.0.3",
        info: object(info),
        servers: vec![object(json!({ "url": url }))],
        paths,
        components: object(components),
    }
}

fn operation(
    endpoint: &Endpoint,
    description: Description,
    refusals: &BTreeSet<StatusCode>,
    Schemas { input, output }: &mut Schemas,
) -> Value {
    let mut parameters = Vec::new();
    for (name, mut schema) in endpoint.values().zip(description.path) {
        transform(input, &mut schema);
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    parameters.extend(description.query);
    let mut responses: Map<String, Value> = refusals
        .iter()
        .map(|status| {
            (status.as_str().to_owned(), json!({ "$ref": format!("#/components/responses/{}", name_of(*status)) }))
        })
        .collect();
    let answer = description.answer.map(|mut schema| {
        transform(output, &mut schema);
        schema.to_value()
    });
    responses.insert(description.status.as_str().to_owned(), response("Done.", endpoint.headers, answer));
    let mut operation = json!({
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": responses,
        "security": security(endpoint),
    });
    if let Some(mut schema) = description.body {
        transform(input, &mut schema);
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    operation
}

/// The ways to authenticate a request: any entry of the list, with all of its parts.
fn security(endpoint: &Endpoint) -> Value {
    let (key, session) = (json!({ "key": [] }), json!({ "session": [] }));
    let session = if endpoint.method.is_safe() { session } else { json!({ "session": [], "csrf": [] }) };
    match endpoint.requires {
        Requires::Anyone if endpoint.method.is_safe() => json!([]),
        Requires::Session | Requires::FreshLogin | Requires::FreshSuperuser | Requires::FreshSuperuserRead => {
            json!([session])
        }
        // A public repository needs no credentials.
        Requires::Repository(Action::Pull) => json!([{}, key, session]),
        Requires::Anyone
        | Requires::SignedIn
        | Requires::FreshLoginOrKey
        | Requires::Repository(_)
        | Requires::Tag
        | Requires::UserAdmin
        | Requires::OwnKeys
        | Requires::Superuser
        | Requires::SuperuserRead => {
            json!([key, session])
        }
    }
}

/// The statuses of all refusals and failures of an endpoint.
fn refusals(endpoint: &Endpoint, description: &Description) -> BTreeSet<StatusCode> {
    // Any request may have a malformed value, wrong credentials or too many bytes, and may meet a failure.
    let mut statuses = BTreeSet::from([
        StatusCode::BAD_REQUEST,
        StatusCode::UNAUTHORIZED,
        StatusCode::URI_TOO_LONG,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::SERVICE_UNAVAILABLE,
    ]);
    // A change needs a CSRF token, and space on the disk.
    if !endpoint.method.is_safe() {
        statuses.extend([StatusCode::FORBIDDEN, StatusCode::INSUFFICIENT_STORAGE]);
    }
    match endpoint.requires {
        Requires::Anyone | Requires::SignedIn => {}
        Requires::UserAdmin
        | Requires::Repository(_)
        | Requires::Tag
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
    if endpoint.values().next().is_some() {
        statuses.insert(StatusCode::NOT_FOUND);
    }
    if description.body.is_some() {
        statuses.extend([StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE]);
    }
    statuses.extend(endpoint.refusals);
    statuses
}

/// The response with a status that is not a success.
fn refusal(status: StatusCode, Schemas { output, .. }: &mut Schemas) -> Value {
    const REQUEST_ID: Header = Header { name: "X-Request-Id", pattern: None, required: true };
    let title = error_type_of(status);
    let mut titles = vec![title];
    if status == StatusCode::UNAUTHORIZED {
        titles.push(FRESH_LOGIN_REQUIRED);
    }
    let headers: &[Header] = if status.is_server_error() { &[REQUEST_ID] } else { &[] };
    let description = format!("{}. {}", status.canonical_reason().unwrap_or_default(), meaning(title));
    let narrowed = json!({
        "type": "object",
        "properties": {
            "status": { "type": "integer", "minimum": status.as_u16(), "maximum": status.as_u16() },
            "title": { "type": "string", "enum": titles },
        },
        "required": ["status", "title"],
    });
    let problem = output.subschema_for::<Problem>();
    let mut response = response(&description, headers, Some(json!({ "allOf": [problem, narrowed] })));
    if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::INSUFFICIENT_STORAGE]
        .contains(&status)
    {
        response["headers"]["Retry-After"] =
            json!({ "required": true, "schema": { "type": "integer", "minimum": 1, "maximum": 3600 } });
    }
    response
}

fn response(description: &str, headers: &[Header], body: Option<Value>) -> Value {
    let mut response = json!({ "description": description });
    for Header { name, pattern, required } in headers {
        let mut schema = json!({ "type": "string" });
        if let Some(pattern) = pattern {
            schema["pattern"] = (*pattern).into();
        }
        response["headers"][*name] = json!({ "required": required, "schema": schema });
    }
    if let Some(schema) = body {
        response["content"] = json!({ "application/json": { "schema": schema } });
    }
    response
}

/// The name of a refusal among the responses of the description.
fn name_of(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or_default().replace(' ', "")
}
