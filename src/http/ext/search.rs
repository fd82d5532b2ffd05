//! `/v2/_zot/ext/search`: zot's search by GraphQL (<https://graphql.github.io/graphql-over-http/draft/>). A request that
//! does not fit the schema gets 422 and errors in GraphQL's form, as in zot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use crate::http::error::{ApiError, RETRY_SECONDS};
use crate::http::request::RequestBody;
use crate::http::response::with_body;
use crate::http::route::Query;
use crate::http::{Body, Context, HandlerResult};
use crate::search::{Phase, REQUEST_BYTES_MAX, Request, Response};

/// Runs the query of the URL.
pub(in crate::http) async fn get(context: &Context<'_>, query: &Query) -> HandlerResult {
    check_offered(context)?;
    let text = |name: &str| query.one(name).map(|value| value.map(str::to_owned));
    let variables = match query.one("variables")?.filter(|text| !text.is_empty()).map(serde_json::from_str) {
        Some(Err(_)) => return Ok(refuse(StatusCode::UNPROCESSABLE_ENTITY, "variables could not be decoded")),
        Some(Ok(variables)) => variables,
        None => None,
    };
    run(context, Request { query: text("query")?, operation_name: text("operationName")?, variables }).await
}

/// Runs the query of the body.
pub(in crate::http) async fn post(context: &Context<'_>, body: &mut RequestBody) -> HandlerResult {
    check_offered(context)?;
    let bytes = match body.read(REQUEST_BYTES_MAX).await {
        Err(error) if error.status_code() == StatusCode::PAYLOAD_TOO_LARGE => {
            return Ok(refuse(StatusCode::PAYLOAD_TOO_LARGE, error.message_text()));
        }
        bytes => bytes?,
    };
    match serde_json::from_slice(&bytes) {
        Ok(request) => run(context, request).await,
        Err(_) => Ok(refuse(StatusCode::BAD_REQUEST, "the body is not {\"query\", \"variables\", \"operationName\"}")),
    }
}

fn check_offered(context: &Context<'_>) -> Result<(), ApiError> {
    if context.registry.has_search() { Ok(()) } else { Err(ApiError::nothing_here()) }
}

fn refuse(status: StatusCode, why: &str) -> hyper::Response<Body> {
    respond(status, Response::refused(Phase::Parse, why))
}

/// Refuses a request because too many others run.
fn busy() -> hyper::Response<Body> {
    let mut response = respond(StatusCode::SERVICE_UNAVAILABLE, Response::busy());
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_SECONDS);
    response
}

/// Sets a flag when the future that has it ends, also because the client has left.
#[derive(Debug, Default)]
struct Departure(Arc<AtomicBool>);

impl Drop for Departure {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn run(context: &Context<'_>, request: Request) -> HandlerResult {
    let (engine, view) = (Arc::clone(context.registry.search()), context.registry.catalog_view(context.caller));
    let Some(slot) = engine.slot().await else { return Ok(busy()) };
    let departure = Departure::default();
    let has_left = Arc::clone(&departure.0);
    let run = move || {
        let _until_the_end = slot;
        match engine.prepare(request) {
            Ok(prepared) => view.gallery(|gallery| {
                gallery.stop_with(has_left);
                engine.run(&prepared, gallery)
            }),
            Err(refused) => Ok(refused),
        }
    };
    let response = context.blocking(run).await?;
    let status = if response.is_valid { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    Ok(respond(status, response))
}

fn respond(status: StatusCode, response: Response) -> hyper::Response<Body> {
    with_body(status, HeaderValue::from_static("application/json"), Body::bytes(response.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_whose_client_has_left_is_flagged() {
        let departure = Departure::default();
        let has_left = Arc::clone(&departure.0);
        let request = tokio::spawn(async move {
            let _until_the_end = departure;
            std::future::pending::<()>().await;
        });
        assert!(!has_left.load(Ordering::Relaxed));
        request.abort();
        assert!(request.await.is_err_and(|error| error.is_cancelled()));
        assert!(has_left.load(Ordering::Relaxed));
    }

    #[test]
    fn a_busy_registry_says_when_to_try_again() {
        let response = busy();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    }
}
