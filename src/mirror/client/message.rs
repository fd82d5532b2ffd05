//! The message of an error response.

use std::time::Duration;

use hyper::Response;
use hyper::body::Incoming;
use hyper::header;

use super::transport;

/// How much of the body is read.
const BYTES_MAX: usize = 8 * 1024;
/// How long its parts may take.
const WAIT: Duration = Duration::from_secs(1);

/// The message of an error response: that of its first error, or the beginning of its text.
pub(super) async fn error_message(response: Response<Incoming>) -> String {
    #[derive(serde::Deserialize)]
    struct Document {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().ends_with(b"json"));
    let body = transport::collect("", response.into_body(), BYTES_MAX, WAIT).await.unwrap_or_default();
    let text = match serde_json::from_slice::<Document>(&body) {
        Ok(document) => document.errors.first().map(|one| format!("{} {}", one.code, one.message)).unwrap_or_default(),
        Err(_) if is_json => String::new(),
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    crate::kit::text::printable(text.trim())
}
