//! Reads headers and bodies into types, within limits.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::HeaderMap;
use hyper::header::{self, HeaderName};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::ApiError;
use super::response::etag;
use crate::content::repository::Expected;
use crate::oci::{ChunkRange, Digest, ErrorCode, MediaType};

/// An error while a body arrives.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The part of a whole body that must arrive within `window`.
const WINDOW_BYTES: usize = 64 * 1024;
/// The longest rest of a body that is read before a request is refused.
const SHORT_BYTES_MAX: u64 = 64 * 1024;
/// The longest time to read that rest.
const SHORT_WAIT: Duration = Duration::from_millis(250);

/// A connection that is told while the body of a request arrives, because a client that has not authenticated must not
/// keep others out with it.
pub(crate) trait Arriving: std::fmt::Debug + Send + Sync {
    /// The registry waits for the body.
    fn begin(&self);
    /// The body has arrived, or is not read further.
    fn end(&self);
}

/// A body that is arriving, until this is dropped.
#[derive(Debug)]
struct ArrivingBody(Arc<dyn Arriving>);

impl ArrivingBody {
    fn begin(connection: &Arc<dyn Arriving>) -> Self {
        connection.begin();
        Self(Arc::clone(connection))
    }
}

impl Drop for ArrivingBody {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The body of a request, until a handler takes it.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Option<UnsyncBoxBody<Bytes, BoxError>>,
    /// The longest time to wait for the next bytes.
    idle: Duration,
    /// The longest time in which [`WINDOW_BYTES`] of a whole body must arrive.
    window: Duration,
    /// The connection, if there is one.
    connection: Option<Arc<dyn Arriving>>,
    /// Whether the client has not authenticated.
    is_anonymous: bool,
}

impl RequestBody {
    pub(crate) fn new(body: UnsyncBoxBody<Bytes, BoxError>, idle: Duration, window: Duration) -> Self {
        Self { body: Some(body), idle, window, connection: None, is_anonymous: false }
    }

    /// Sets the connection that is told while the body of an anonymous client arrives.
    pub(crate) fn on(mut self, connection: Option<Arc<dyn Arriving>>) -> Self {
        self.connection = connection;
        self
    }

    /// Says that the client has not authenticated.
    pub(super) const fn is_from_anonymous(&mut self) {
        self.is_anonymous = true;
    }

    /// Takes the body, to read it piece by piece. A later call gets an empty body.
    pub(super) fn take(&mut self) -> Incoming {
        Incoming {
            body: self
                .body
                .take()
                .unwrap_or_else(|| UnsyncBoxBody::new(http_body_util::Empty::new().map_err(|never| match never {}))),
            idle: self.idle,
            code: ErrorCode::BlobUploadInvalid,
        }
    }

    /// Reads the rest of the body before an error is sent, if the rest is short and the client does not wait for
    /// `100 Continue`. ctr 1.6 hangs if the error of a manifest push reaches it before it has sent the manifest.
    pub(super) async fn finish_short(&mut self, headers: &HeaderMap) {
        let left = self.body.as_ref().and_then(|body| http_body::Body::size_hint(body).upper()).unwrap_or(u64::MAX);
        if left == 0 || left > SHORT_BYTES_MAX || headers.contains_key(header::EXPECT) {
            return;
        }
        if let Some(body) = &mut self.body {
            let _ = timeout(SHORT_WAIT, async { while let Some(Ok(_)) = body.frame().await {} }).await;
        }
    }

    /// Reads the whole body. Fails if it has more than `limit` bytes. Fails as well if it arrives too slowly, because the
    /// request takes one of `maxConnections` until then.
    pub(super) async fn read(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        self.read_as(limit, ErrorCode::Unsupported).await
    }

    /// Reads the whole body of a pushed manifest.
    pub(super) async fn read_manifest(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        self.read_as(limit, ErrorCode::ManifestInvalid).await
    }

    /// Reads the whole body. A body that is too large or too slow has this error code.
    async fn read_as(&mut self, limit: usize, code: ErrorCode) -> Result<Bytes, ApiError> {
        let too_large = || ApiError::too_large(code, format!("the body has more than {limit} bytes"));
        let announced = self.body.as_ref().map_or(0, |body| http_body::Body::size_hint(body).lower());
        if announced > limit as u64 {
            return Err(too_large());
        }
        let _arriving = self.connection.as_ref().filter(|_| self.is_anonymous).map(ArrivingBody::begin);
        let mut incoming = Incoming { code, ..self.take() };
        let mut whole = BytesMut::new();
        let (mut deadline, mut window_end) = (Instant::now() + self.window, WINDOW_BYTES);
        while let Some(bytes) = timeout_at(deadline, incoming.next()).await.map_err(|_| ApiError::timeout(code))?? {
            if whole.len() + bytes.len() >= window_end {
                (deadline, window_end) = (Instant::now() + self.window, whole.len() + bytes.len() + WINDOW_BYTES);
            }
            if whole.len() + bytes.len() > limit {
                return Err(too_large());
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }
}

/// A body that is being read.
#[derive(Debug)]
pub(super) struct Incoming {
    body: UnsyncBoxBody<Bytes, BoxError>,
    idle: Duration,
    /// The error code if the body arrives too slowly.
    code: ErrorCode,
}

impl Incoming {
    /// Waits for the next bytes. Returns `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            match timeout(self.idle, self.body.frame()).await {
                Err(_) => return Err(ApiError::timeout(self.code)),
                Ok(frame) => match Self::bytes(frame)? {
                    Some(bytes) if bytes.is_empty() => {}
                    bytes => return Ok(bytes),
                },
            }
        }
    }

    /// Returns the next bytes if they have arrived already.
    pub(super) async fn next_now(&mut self) -> Option<Result<Option<Bytes>, ApiError>> {
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(http_body::Body::poll_frame(Pin::new(&mut self.body), context))
        });
        match polled.await {
            std::task::Poll::Ready(frame) => Some(Self::bytes(frame)),
            std::task::Poll::Pending => None,
        }
    }

    /// The bytes of a frame. Trailers have no bytes.
    fn bytes(frame: Option<Result<http_body::Frame<Bytes>, BoxError>>) -> Result<Option<Bytes>, ApiError> {
        match frame {
            None => Ok(None),
            Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
            Some(Err(error)) => Err(ApiError::new(ErrorCode::SizeInvalid, format!("the body ended early: {error}"))),
        }
    }
}

/// Explains why JSON cannot be read: what was expected, and where. It never quotes the input, which may be a misplaced
/// password.
pub(crate) fn why_unreadable(error: &serde_json::Error) -> String {
    // Only an empty text ends before its first character.
    if error.classify() == serde_json::error::Category::Eof && error.column() == 0 {
        return "it is empty".to_owned();
    }
    let message = error.to_string();
    let quotes_nothing = error.classify() != serde_json::error::Category::Data
        || ["missing field ", "duplicate field "].iter().any(|beginning| message.starts_with(beginning));
    if quotes_nothing {
        return message;
    }
    match message.rsplit_once(", expected ") {
        Some((beginning, expected)) if beginning.starts_with("unknown field ") => {
            format!("there is an unknown field; expected {expected}")
        }
        Some((_, expected)) if expected.starts_with("struct ") => {
            format!("expected an object at line {} column {}", error.line(), error.column())
        }
        Some((_, expected)) => format!("expected {expected}"),
        None => format!("unexpected value at line {} column {}", error.line(), error.column()),
    }
}

/// The scheme of the `Authorization` header, such as `Basic`.
pub(super) fn scheme(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_whitespace().next()
}

/// Reads the value of a header as text. Returns `None` if the header is missing, and an error if it is repeated.
pub(super) fn text<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    code: ErrorCode,
) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::new(code, format!("the request has more than one {name} header")));
    }
    value.to_str().map(Some).map_err(|_| ApiError::new(code, format!("the header {name} is not text")))
}

/// Reads the `Content-Type` of a pushed manifest.
pub(super) fn content_type(headers: &HeaderMap) -> Result<Option<MediaType>, ApiError> {
    text(headers, &header::CONTENT_TYPE, ErrorCode::ManifestInvalid)?
        .filter(|value| !value.trim().is_empty())
        .map(MediaType::from_content_type)
        .transpose()
        .map_err(|invalid| ApiError::new(ErrorCode::ManifestInvalid, invalid.to_string()))
}

/// Reads the `Content-Range` of a chunk, if there is one. Its length must be that of the body.
pub(super) fn content_range(headers: &HeaderMap) -> Result<Option<ChunkRange>, ApiError> {
    let Some(value) = text(headers, &header::CONTENT_RANGE, ErrorCode::BlobUploadInvalid)? else { return Ok(None) };
    let range = ChunkRange::parse(value)
        .map_err(|invalid| ApiError::new(ErrorCode::BlobUploadInvalid, format!("Content-Range: {invalid}")))?;
    let length = text(headers, &header::CONTENT_LENGTH, ErrorCode::SizeInvalid)?;
    if length.is_some_and(|length| length.parse() != Ok(range.length())) {
        return Err(length_differs(range));
    }
    Ok(Some(range))
}

/// The error of a chunk whose length differs from its `Content-Range`.
pub(super) fn length_differs(range: ChunkRange) -> ApiError {
    let message = format!("the Content-Range has {} bytes, but the body has another length", range.length());
    ApiError::new(ErrorCode::SizeInvalid, message)
}

/// Whether `If-None-Match` names this content, so the client has it already (RFC 9110, 13.1.2).
pub(super) fn has_already(headers: &HeaderMap, digest: Digest) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        let etag = etag(digest);
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
            .any(|candidate| candidate == b"*" || candidate.strip_prefix(b"W/").unwrap_or(candidate) == etag.as_bytes())
    })
}

/// Reads the condition of a push to a tag (RFC 9110, 13.1.1 and 13.1.2).
pub(super) fn expected(headers: &HeaderMap) -> Result<Option<Expected>, ApiError> {
    if let Some(value) = text(headers, &header::IF_NONE_MATCH, ErrorCode::ManifestInvalid)? {
        if value.trim() == "*" {
            return Ok(Some(Expected::Absent));
        }
        return Err(ApiError::new(ErrorCode::ManifestInvalid, "a push supports If-None-Match only with *"));
    }
    let Some(value) = text(headers, &header::IF_MATCH, ErrorCode::ManifestInvalid)? else { return Ok(None) };
    if value.trim() == "*" {
        return Ok(Some(Expected::Present));
    }
    // A weak entity tag never matches here (RFC 9110, 13.1.1).
    let tags = value.split(',').map(str::trim).filter(|tag| !tag.starts_with("W/"));
    let digests = tags
        .map(|tag| tag.trim_matches('"').parse())
        .collect::<Result<_, _>>()
        .map_err(|_| ApiError::new(ErrorCode::ManifestInvalid, "If-Match must be * or a list of digests in quotes"))?;
    Ok(Some(Expected::OneOf(digests)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[expect(dead_code, reason = "it is never read successfully")]
    struct Body {
        name: String,
        count: Option<u8>,
        list: Option<Vec<String>>,
        id: Option<uuid::Uuid>,
    }

    #[test]
    fn errors_in_json_do_not_quote_it() {
        for (json, expected) in [
            ("", "it is empty"),
            ("{", "EOF while parsing an object at line 1 column 1"),
            ("{\"name\": hunter2}", "expected value at line 1 column 10"),
            ("{}", "missing field `name` at line 1 column 2"),
            ("{\"name\": \"hunter2\", \"name\": \"\"}", "duplicate field `name` at line 1 column 26"),
            ("{\"name\": 1234}", "expected a string at line 1 column 13"),
            ("{\"name\": \"\", \"list\": \"hunter2, expected hunter2\"}", "expected a sequence at line 1 column 48"),
            ("{\"name\": \"\", \"count\": 1234}", "expected u8 at line 1 column 26"),
            ("\"hunter2\"", "expected an object at line 1 column 9"),
            ("{\"name\": \"\", \"id\": \"hunter2\"}", "unexpected value at line 1 column 28"),
        ] {
            assert_eq!(why_unreadable(&serde_json::from_str::<Body>(json).unwrap_err()), expected, "{json}");
        }
    }
}
