//! Errors as pages.
//!
//! Invariant: the page of a 404 is the same for a path that does not exist, for a repository that does not exist, and for
//! one that the caller may not see.

use hyper::{Response, StatusCode};

use crate::http::{Body, page};
use crate::web::sentence;

/// The page of an error. `message` is what the API would say.
pub(in crate::http) fn page(status: StatusCode, message: &str, request_id: Option<&str>) -> Response<Body> {
    let logged = request_id.map(|id| format!("The registry's log has the cause under the request {id}."));
    let message = sentence(message);
    let (title, text) = match status {
        StatusCode::NOT_FOUND => (
            "Page not found",
            "This page does not exist, or you may not see it. Links change when tags and repositories are deleted.",
        ),
        StatusCode::FORBIDDEN => ("Not permitted", &*message),
        StatusCode::METHOD_NOT_ALLOWED => ("Not permitted", "This page takes no form."),
        StatusCode::TOO_MANY_REQUESTS => ("Too many attempts", &*message),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE => ("Not possible now", &*message),
        _ if status.is_server_error() => ("The registry failed", "The registry could not show this page."),
        _ => ("This request is invalid", &*message),
    };
    let paragraphs = [text].into_iter().chain(logged.as_deref()).map(str::to_owned).collect();
    page::message(status, title, paragraphs, Some((super::START, "Go to the repositories")))
}
