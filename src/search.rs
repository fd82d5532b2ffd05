//! zot's search: GraphQL over the facts of repositories and images.
//!
//! [`Engine`] reads a request, checks its limits, and resolves its fields from a [`Gallery`]. The schema is
//! `search/schema.graphql`. A field is resolved only if the query selects it, so a list costs what it shows. Nothing reads
//! the config of an image.
//!
//! Knows no HTTP, no rights and no database. The gallery shows only what its viewer may see.

mod arguments;
mod bounds;
#[cfg(any(fuzzing, test))]
mod fuzzing;
mod image;
mod lenient;
mod query;
mod record;
mod repository;
mod scene;

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use apollo_compiler::executable::{Operation, Selection, SelectionSet};
use apollo_compiler::parser::Parser;
use apollo_compiler::request::RequestError;
use apollo_compiler::resolvers::{Execution, FieldError};
use apollo_compiler::response::{GraphQLError, JsonMap, JsonValue};
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Schema, introspection};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::content::repository::Error;
use crate::content::repository::browse::Gallery;
use bounds::Lengths;
#[cfg(any(fuzzing, test))]
pub(crate) use fuzzing::request as fuzz_request;
use lenient::without_empty_parentheses;
use query::Query;
use scene::{Counted, Scene};

/// The most requests that run at once. Each may hold [`RESPONSE_BYTES_MAX`].
const AT_ONCE_MAX: usize = 4;
/// How long a request waits for others.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The largest request, in bytes.
pub(crate) const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// The most tokens of a query, as in zot.
const TOKENS_MAX: usize = 2_000;
/// The deepest nesting of a query.
const DEPTH_MAX: usize = 40;
/// The most queries in one request. zot's clients send one.
const QUERIES_MAX: usize = 8;
/// The most objects in one response: repositories, images, layers and so on.
const OBJECTS_MAX: usize = 100_000;
/// The most bytes of one response in memory, and of its text.
const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The bytes that a value, or an object, costs beyond its name and its text.
const VALUE_BYTES: usize = 64;
/// The most errors in one response.
const ERRORS_MAX: usize = 20;
/// The prefix that the library adds to the messages of resolvers.
const RESOLVER: &str = "resolver error: ";

/// A request as clients send it. Unknown fields are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Request {
    pub(crate) query: Option<String>,
    pub(crate) operation_name: Option<String>,
    pub(crate) variables: Option<JsonMap>,
}

/// The response to a request, as JSON.
#[derive(Debug)]
pub(crate) struct Response {
    /// Whether the request was run. Otherwise it is invalid, and the body has only errors.
    pub(crate) is_valid: bool,
    pub(crate) body: Vec<u8>,
}

/// The phase in which a request is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    /// The request is no GraphQL.
    Parse,
    /// The query does not fit the schema, or is beyond a limit.
    Validation,
    /// The request waits for others.
    Wait,
}

impl Phase {
    const fn code(self) -> &'static str {
        match self {
            Self::Parse => "GRAPHQL_PARSE_FAILED",
            Self::Validation => "GRAPHQL_VALIDATION_FAILED",
            Self::Wait => "TOO_BUSY",
        }
    }
}

/// A body with errors only, in the form of zot's library.
#[derive(Serialize)]
struct Refused {
    errors: Vec<GraphQLError>,
    data: (),
}

impl Response {
    /// Refuses a request.
    pub(crate) fn refused(phase: Phase, message: &str) -> Self {
        Self::with_errors(phase, vec![error(message)])
    }

    /// Refuses a request because too many others run.
    pub(crate) fn busy() -> Self {
        Self::refused(Phase::Wait, "too many searches run: try again in a few seconds")
    }

    fn with_errors(phase: Phase, mut errors: Vec<GraphQLError>) -> Self {
        errors.truncate(ERRORS_MAX);
        for error in &mut errors {
            error.extensions.insert("code", phase.code().into());
        }
        let body = serde_json::to_vec(&Refused { errors, data: () }).expect("errors are plain JSON");
        Self { is_valid: false, body }
    }
}

/// An error without a place in the query.
fn error(message: &str) -> GraphQLError {
    GraphQLError { message: message.to_owned(), locations: Vec::new(), path: Vec::new(), extensions: JsonMap::new() }
}

/// A request that fits the schema and the limits.
#[derive(Debug)]
pub(crate) struct Prepared {
    document: Valid<ExecutableDocument>,
    operation: Option<String>,
    variables: JsonMap,
}

/// Runs requests. Reads the schema when it is first needed.
#[derive(Debug)]
pub(crate) struct Engine {
    schema: OnceLock<Valid<Schema>>,
    lengths: OnceLock<Lengths>,
    slots: Arc<Semaphore>,
}

impl Default for Engine {
    fn default() -> Self {
        Self { schema: OnceLock::new(), lengths: OnceLock::new(), slots: Arc::new(Semaphore::new(AT_ONCE_MAX)) }
    }
}

impl Engine {
    /// A slot to run a request in until the result is dropped. Waits a while for one, and then returns `None`.
    pub(crate) async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        timeout(WAIT_MAX, Arc::clone(&self.slots).acquire_owned()).await.ok()?.ok()
    }

    fn schema(&self) -> &Valid<Schema> {
        self.schema.get_or_init(|| {
            let text = include_str!("search/schema.graphql");
            Schema::parse_and_validate(text, "schema.graphql").expect("a test reads the schema")
        })
    }

    fn lengths(&self) -> &Lengths {
        self.lengths.get_or_init(|| Lengths::of(self.schema()))
    }

    /// Parses and checks a request.
    pub(crate) fn prepare(&self, request: Request) -> Result<Prepared, Response> {
        let text = request.query.unwrap_or_default();
        if text.trim().is_empty() {
            return Err(Response::refused(Phase::Validation, "no query provided"));
        }
        if text.len() > REQUEST_BYTES_MAX {
            let why = format!("the query has more than {REQUEST_BYTES_MAX} bytes");
            return Err(Response::refused(Phase::Parse, &why));
        }
        let text = without_empty_parentheses(&text);
        let ast = match parser().parse_ast(text, "query") {
            Ok(ast) => ast,
            Err(invalid) => {
                let errors = invalid.errors.iter().map(|one| one.to_json()).collect();
                return Err(Response::with_errors(Phase::Parse, errors));
            }
        };
        let document = match ast.to_executable_validate(self.schema()) {
            Ok(document) => document,
            Err(invalid) => {
                let errors = invalid.errors.iter().map(|one| one.to_json()).collect();
                return Err(Response::with_errors(Phase::Validation, errors));
            }
        };
        let operation = request.operation_name.filter(|name| !name.is_empty());
        let checked = document.operations.get(operation.as_deref()).and_then(|operation| {
            introspection::check_max_depth(&document, operation)?;
            Ok((operation, queries_in(&document, operation)))
        });
        let checked = match checked {
            Err(refused) => return Err(request_error(&document, &refused)),
            Ok((_, queries)) if queries > QUERIES_MAX => Err(format!("a request has at most {QUERIES_MAX} queries")),
            Ok((operation, _)) => bounds::check(&document, operation, self.lengths()),
        };
        match checked {
            Err(why) => Err(Response::refused(Phase::Validation, &why)),
            Ok(()) => Ok(Prepared { document, operation, variables: request.variables.unwrap_or_default() }),
        }
    }
}

/// A parser that stops at the limits of a query.
fn parser() -> Parser {
    Parser::new().recursion_limit(DEPTH_MAX).token_limit(TOKENS_MAX)
}

fn request_error(document: &ExecutableDocument, refused: &RequestError) -> Response {
    Response::with_errors(Phase::Validation, vec![refused.to_graphql_error(&document.sources)])
}

/// The number of queries that an operation runs. Stops counting soon after the limit.
fn queries_in(document: &ExecutableDocument, operation: &Operation) -> usize {
    fn count(document: &ExecutableDocument, set: &SelectionSet, so_far: usize) -> usize {
        set.selections.iter().fold(so_far, |so_far, selection| match selection {
            _ if so_far > QUERIES_MAX => so_far,
            Selection::Field(_) => so_far + 1,
            Selection::InlineFragment(inline) => count(document, &inline.selection_set, so_far),
            Selection::FragmentSpread(spread) => match document.fragments.get(&spread.fragment_name) {
                Some(fragment) => count(document, &fragment.selection_set, so_far + 1),
                None => so_far,
            },
        })
    }
    count(document, &operation.selection_set, 0)
}

impl Engine {
    /// Runs a request. Fails only by a fault of the registry.
    pub(crate) fn run(&self, request: &Prepared, gallery: &Gallery<'_>) -> Result<Response, Error> {
        let scene = Scene::new(gallery, bounds::type_name_bytes(&request.document));
        let response = Execution::new(self.schema(), &request.document)
            .operation_name(request.operation.as_deref())
            .and_then(|execution| {
                let execution = execution.raw_variable_values(&request.variables).enable_schema_introspection(true);
                execution.execute_sync(&Counted::new(&scene, Query { scene: &scene }))
            });
        if let Some(fault) = scene.take_fault() {
            return Err(fault);
        }
        let mut response = match response {
            Ok(response) => response,
            Err(refused) => return Ok(request_error(&request.document, &refused)),
        };
        if let Some(why) = scene.limit() {
            return Ok(too_much(&why));
        }
        response.errors.truncate(ERRORS_MAX);
        for error in &mut response.errors {
            if let Some(message) = error.message.strip_prefix(RESOLVER) {
                error.message = message.to_owned();
            }
        }
        response.errors.extend(scene.take_remarks().iter().map(|remark| error(remark)));
        let mut body = Bounded(Vec::new());
        Ok(match serde_json::to_writer(&mut body, &response) {
            Ok(()) => Response { is_valid: true, body: body.0 },
            // The values of a response are plain JSON, so only the limit can fail.
            Err(_) => too_much("the response is too long"),
        })
    }
}

/// Refuses a request because of its response.
fn too_much(why: &str) -> Response {
    Response::refused(Phase::Validation, &format!("{why}: request less with requestedPage"))
}

/// A text that ends at [`RESPONSE_BYTES_MAX`].
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > RESPONSE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The error of a field, in the words of zot where it has some.
fn refused(message: impl Into<String>) -> FieldError {
    FieldError { message: message.into() }
}

/// A number of the schema, which has 32 bits.
fn int(number: u64) -> JsonValue {
    i32::try_from(number).unwrap_or(i32::MAX).into()
}

#[cfg(test)]
mod tests;
