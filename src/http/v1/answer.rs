//! [`Answer`]: what an endpoint responds with when it succeeds.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use super::values::Always;
use crate::http::Body;
use crate::http::response::{empty, json_response};

/// The answer of an endpoint. A type with a schema is JSON with the status 200.
pub(super) trait Answer: Send {
    const STATUS: StatusCode;

    /// The schema of the body, if there is one.
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema>;
    fn into_response(self) -> Response<Body>;
}

impl<T: Serialize + JsonSchema + Send> Answer for T {
    const STATUS: StatusCode = StatusCode::OK;

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }

    fn into_response(self) -> Response<Body> {
        json(StatusCode::OK, &self)
    }
}

/// An answer of a type with a schema, with the status 201.
#[derive(Debug)]
pub(super) struct Created<T>(pub(super) T);

impl<T: Serialize + JsonSchema + Send> Answer for Created<T> {
    const STATUS: StatusCode = StatusCode::CREATED;

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }

    fn into_response(self) -> Response<Body> {
        json(StatusCode::CREATED, &self.0)
    }
}

/// An answer without a body, with the status 204.
#[derive(Debug)]
pub(super) struct NoContent;

impl Answer for NoContent {
    const STATUS: StatusCode = StatusCode::NO_CONTENT;

    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }

    fn into_response(self) -> Response<Body> {
        empty(StatusCode::NO_CONTENT)
    }
}

/// Another answer, with headers. The endpoint describes them.
#[derive(Debug)]
pub(super) struct WithHeaders<A> {
    answer: A,
    headers: HeaderMap,
}

impl<A: Answer> WithHeaders<A> {
    pub(super) fn new(answer: A) -> Self {
        Self { answer, headers: HeaderMap::new() }
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }
}

impl<A: Answer> Answer for WithHeaders<A> {
    const STATUS: StatusCode = A::STATUS;

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        A::schema(generator)
    }

    fn into_response(self) -> Response<Body> {
        let mut response = self.answer.into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}

/// A header of an answer, for the description.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) name: &'static str,
    pub(super) pattern: Option<&'static str>,
    /// Whether every answer has it.
    pub(super) required: bool,
}

/// Sets or removes the session cookie.
pub(super) const SET_COOKIE: Header = Header { name: "Set-Cookie", pattern: None, required: false };

/// The answer to a change that has nothing to show.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Success {
    success: Always<true>,
}

impl Success {
    pub(super) const DONE: Self = Self { success: Always };
}

/// Writes JSON in which the keys of each object are sorted, so that the order of fields in a struct does not matter.
fn json(status: StatusCode, answer: &impl Serialize) -> Response<Body> {
    let value = serde_json::to_value(answer).expect("answers consist of texts, numbers, lists and maps of texts");
    json_response(status, &value)
}
