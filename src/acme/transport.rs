//! [`Transport`]: the requests of the ACME client, sent by `kit::outgoing`.
//!
//! The ACME client panics at some responses. They are changed or refused here.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, Uri};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use parking_lot::Mutex;

use super::Settings;
use super::failure::RETRY_AFTER_MAX;
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::outgoing::{self, Client};
use crate::kit::text::printable;

/// Signing with a key in hardware takes an authority long.
const DEADLINE: Duration = Duration::from_secs(30);
const PROBLEM: &str = "application/problem+json";

/// Sends requests to the authority. A clone is the same client.
#[derive(Clone)]
pub(super) struct Transport {
    client: Client,
    clock: Clock,
    directory: Option<Uri>,
    /// The last `Retry-After` of a response that refuses, which the ACME client does not pass on.
    retry_after: Arc<Mutex<Option<Duration>>>,
}

/// A response that is not of an ACME authority.
#[derive(Debug, thiserror::Error)]
#[error("{} answers {status} to {}", printable(host), printable(path))]
pub(super) struct NotAcme {
    host: String,
    path: String,
    status: u16,
}

/// A directory that the ACME client cannot use.
#[derive(Debug, thiserror::Error)]
#[error("the directory has no URL at {key:?}: check http.tls.acme.directory")]
pub(super) struct BadDirectory {
    key: &'static str,
}

impl Transport {
    /// The file of authorities is read again for each attempt.
    pub(super) fn new(settings: &Settings, clock: Clock) -> Self {
        let client =
            outgoing::Settings { ca: settings.ca.clone(), deadline: DEADLINE, ..outgoing::Settings::default() };
        let directory = settings.directory.parse().ok();
        Self { client: Client::new(client), clock, directory, retry_after: Arc::default() }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        *self.retry_after.lock()
    }

    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap_or_else(|never| match never {}).to_bytes();
        let uri = head.uri.clone();
        let sent = self.client.send(Request::from_parts(head, body.to_vec())).await;
        self.check(&uri, sent.map_err(|error| Error::Other(Box::new(error)))?)
    }

    /// Checks a response, and makes it one that the ACME client can take.
    fn check(&self, uri: &Uri, mut response: Response<Vec<u8>>) -> Result<BytesResponse, Error> {
        let (status, headers) = (response.status(), response.headers_mut());
        let pause = retry_after(headers, self.clock.now());
        if matches!(status.as_u16(), 429 | 503) {
            *self.retry_after.lock() = pause;
        }
        // The ACME client adds any number of seconds to the time now.
        if pause.is_some_and(|pause| pause > RETRY_AFTER_MAX) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_MAX.as_secs()));
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !status.is_success() && !kind.starts_with(PROBLEM) {
            let host = uri.authority().map(ToString::to_string).unwrap_or_default();
            let not_acme = NotAcme { host, path: uri.path().to_owned(), status: status.as_u16() };
            return Err(Error::Other(Box::new(not_acme)));
        }
        if self.directory.as_ref() == Some(uri) && status.is_success() {
            check_directory(response.body()).map_err(|error| Error::Other(Box::new(error)))?;
        }
        Ok(BytesResponse::from(response.map(|body| Full::new(Bytes::from(body)))))
    }
}

/// Checks the URLs of a directory that the ACME client requests. Leaves everything else to the ACME client.
fn check_directory(body: &[u8]) -> Result<(), BadDirectory> {
    let Ok(directory) = serde_json::from_slice::<serde_json::Value>(body) else { return Ok(()) };
    for key in ["newNonce", "newAccount", "newOrder", "renewalInfo"] {
        let Some(url) = directory.get(key).and_then(serde_json::Value::as_str) else { continue };
        let url = url.parse::<Uri>().ok();
        if url.is_none_or(|url| url.scheme().is_none() || url.host().is_none_or(str::is_empty)) {
            return Err(BadDirectory { key });
        }
    }
    Ok(())
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
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::acme::tests::settings;

    fn transport(directory: &str) -> Transport {
        Transport::new(&Settings { directory: directory.to_owned(), ..settings() }, Clock::default())
    }

    #[test]
    fn a_response_cannot_name_a_pause_that_overflows_a_time() {
        let transport = transport("https://acme.example/dir");
        let uri = Uri::from_static("https://acme.example/order/1");
        for (text, passed) in [("18446744073709551615", "604800"), ("600", "600"), ("soon", "soon")] {
            let response = Response::builder().header(header::RETRY_AFTER, text).body(Vec::new()).unwrap();
            let checked = transport.check(&uri, response).unwrap();
            assert_eq!(checked.parts.headers[header::RETRY_AFTER], passed);
            assert_eq!(transport.retry_after(), None, "the response does not refuse");
        }
        let refused = Response::builder().status(503).header(header::CONTENT_TYPE, PROBLEM);
        let refused = refused.header(header::RETRY_AFTER, "120").body(Vec::new()).unwrap();
        transport.check(&uri, refused).unwrap();
        assert_eq!(transport.retry_after(), Some(Duration::from_mins(2)));
    }

    #[test]
    fn a_directory_has_absolute_urls() {
        let transport = transport("https://acme.example/dir");
        let uri = Uri::from_static("https://acme.example/dir");
        let check = |text: &str| transport.check(&uri, Response::new(text.as_bytes().to_vec())).map(drop);
        check(r#"{"newNonce": "https://acme.example/nonce", "renewalInfo": null}"#).unwrap();
        for url in ["", "nonce", "/nonce", "https://", "https:///nonce", "https://acme.example/a b"] {
            let error = check(&format!(r#"{{"newNonce": {url:?}}}"#)).unwrap_err();
            assert!(error.to_string().contains("no URL at \"newNonce\""), "{url:?}: {error}");
        }
    }

    #[test]
    fn text_of_the_authority_is_shown_without_control_characters() {
        let path = format!("/{}", "a".repeat(5000));
        let error = NotAcme { host: "acme.example\x1b[2J".to_owned(), path, status: 502 };
        let text = error.to_string();
        assert!(text.len() < 1100 && !text.contains('\x1b'), "{text}");
    }

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
