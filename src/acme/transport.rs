//! [`Transport`]: the requests of the ACME client, sent by `kit::outgoing`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::header::{self, HeaderMap};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use parking_lot::Mutex;

use super::Settings;
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::outgoing::{self, Client};

/// Signing with a key in hardware takes an authority long.
const DEADLINE: Duration = Duration::from_secs(30);
const PROBLEM: &str = "application/problem+json";

/// Sends requests to the authority. A clone is the same client.
#[derive(Clone)]
pub(super) struct Transport {
    client: Client,
    clock: Clock,
    /// The last `Retry-After` of a response that refuses, which the ACME client does not pass on.
    retry_after: Arc<Mutex<Option<Duration>>>,
}

/// A response that is not of an ACME authority.
#[derive(Debug, thiserror::Error)]
#[error("{host} answers {status} to {path}")]
struct NotAcme {
    host: String,
    path: String,
    status: u16,
}

impl Transport {
    /// The file of authorities is read again for each attempt.
    pub(super) fn new(settings: &Settings, clock: Clock) -> Self {
        let client =
            outgoing::Settings { ca: settings.ca.clone(), deadline: DEADLINE, ..outgoing::Settings::default() };
        Self { client: Client::new(client), clock, retry_after: Arc::default() }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        *self.retry_after.lock()
    }

    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap_or_else(|never| match never {}).to_bytes();
        let host = head.uri.authority().map(ToString::to_string).unwrap_or_default();
        let path = head.uri.path().to_owned();
        let sent = self.client.send(Request::from_parts(head, body.to_vec())).await;
        let response = sent.map_err(|error| Error::Other(Box::new(error)))?;
        let (status, headers) = (response.status().as_u16(), response.headers());
        if matches!(status, 429 | 503) {
            *self.retry_after.lock() = retry_after(headers, self.clock.now());
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !response.status().is_success() && !kind.starts_with(PROBLEM) {
            return Err(Error::Other(Box::new(NotAcme { host, path, status })));
        }
        Ok(BytesResponse::from(response.map(|body| Full::new(Bytes::from(body)))))
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().send(request))
    }
}

/// Reads seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_microsecond();
    Some(Timestamp::from_micros(u64::try_from(date).ok()?).since(now))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_pause_is_read_in_seconds_and_as_a_date() {
        let now = Timestamp::from_rfc3339("2026-01-01T00:00:00Z").expect("a time");
        for (text, seconds) in [
            ("120", Some(120)),
            ("Thu, 01 Jan 2026 00:01:00 GMT", Some(60)),
            ("Wed, 31 Dec 2025 00:01:00 GMT", Some(0)),
            ("soon", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers, now).map(|pause| pause.as_secs()), seconds, "{text}");
        }
    }
}
