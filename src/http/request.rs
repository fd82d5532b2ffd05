//! Typed reading of headers and bodies, with their limits.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::HeaderMap;
use hyper::header::{self, HeaderName};
use tokio::time::timeout;

use super::error::ApiError;
use super::response::etag;
use crate::content::repository::Expected;
use crate::oci::{ChunkRange, Digest, ErrorCode, MediaType};

/// What goes wrong while a body arrives.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A refusal waits for the rest of a body of at most this length, and no longer than this.
const SHORT_BYTES_MAX: u64 = 64 * 1024;
const SHORT_WAIT: Duration = Duration::from_millis(250);

/// A request's body, until somebody takes it.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Option<UnsyncBoxBody<Bytes, BoxError>>,
    /// How long to wait for the next bytes.
    idle: Duration,
}

impl RequestBody {
    pub(crate) fn new(body: UnsyncBoxBody<Bytes, BoxError>, idle: Duration) -> Self {
        Self { body: Some(body), idle }
    }

    /// The body, to be read piece by piece. Nothing is left for others.
    pub(super) fn take(&mut self) -> Incoming {
        Incoming {
            body: self
                .body
                .take()
                .unwrap_or_else(|| UnsyncBoxBody::new(http_body_util::Empty::new().map_err(|never| match never {}))),
            idle: self.idle,
        }
    }

    /// Reads what is left of a body before a refusal is sent, if it is short and the client does not wait for
    /// `100 Continue`. ctr 1.6 hangs if the refusal of a manifest reaches it before it has sent the manifest.
    pub(super) async fn finish_short(&mut self, headers: &HeaderMap) {
        let left = self.body.as_ref().and_then(|body| http_body::Body::size_hint(body).upper()).unwrap_or(u64::MAX);
        if left == 0 || left > SHORT_BYTES_MAX || headers.contains_key(header::EXPECT) {
            return;
        }
        if let Some(body) = &mut self.body {
            let _ = timeout(SHORT_WAIT, async { while let Some(Ok(_)) = body.frame().await {} }).await;
        }
    }

    /// The whole body, if it has at most `limit` bytes.
    pub(super) async fn read(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        let too_large = || ApiError::too_large(format!("the body has more than {limit} bytes"));
        let announced = self.body.as_ref().map_or(0, |body| http_body::Body::size_hint(body).lower());
        if announced > limit as u64 {
            return Err(too_large());
        }
        let mut incoming = self.take();
        let mut whole = BytesMut::new();
        while let Some(bytes) = incoming.next().await? {
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
}

impl Incoming {
    /// The next bytes; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            match timeout(self.idle, self.body.frame()).await {
                Err(_) => return Err(ApiError::timeout()),
                Ok(frame) => match Self::bytes(frame)? {
                    Some(bytes) if bytes.is_empty() => {}
                    bytes => return Ok(bytes),
                },
            }
        }
    }

    /// The next bytes, if they are there already.
    pub(super) async fn next_now(&mut self) -> Option<Result<Option<Bytes>, ApiError>> {
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(http_body::Body::poll_frame(Pin::new(&mut self.body), context))
        });
        match polled.await {
            std::task::Poll::Ready(frame) => Some(Self::bytes(frame)),
            std::task::Poll::Pending => None,
        }
    }

    /// The bytes of a frame; trailers have none.
    fn bytes(frame: Option<Result<http_body::Frame<Bytes>, BoxError>>) -> Result<Option<Bytes>, ApiError> {
        match frame {
            None => Ok(None),
            Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
            Some(Err(error)) => Err(ApiError::new(ErrorCode::SizeInvalid, format!("the body broke off: {error}"))),
        }
    }
}

/// Why JSON cannot be read: what was expected, and where. Nothing of what was there instead, as it may be a password
/// in the wrong place.
pub(crate) fn why_unreadable(error: &serde_json::Error) -> String {
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

/// The one value of a header, as text; none if the header is missing.
pub(super) fn text<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    code: ErrorCode,
) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::new(code, format!("the header {name} is given more than once")));
    }
    value.to_str().map(Some).map_err(|_| ApiError::new(code, format!("the header {name} is not text")))
}

/// The `Content-Type` of a pushed manifest.
pub(super) fn content_type(headers: &HeaderMap) -> Result<Option<MediaType>, ApiError> {
    text(headers, &header::CONTENT_TYPE, ErrorCode::ManifestInvalid)?
        .filter(|value| !value.trim().is_empty())
        .map(MediaType::from_content_type)
        .transpose()
        .map_err(|invalid| ApiError::new(ErrorCode::ManifestInvalid, invalid.to_string()))
}

/// Which part of its blob a chunk is, if the client says so. It must be as long as the body.
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

/// The body of a chunk is not as long as its `Content-Range`.
pub(super) fn length_differs(range: ChunkRange) -> ApiError {
    let message = format!("the Content-Range has {} bytes, the body has not", range.length());
    ApiError::new(ErrorCode::SizeInvalid, message)
}

/// Whether the client says that it has this content already (RFC 9110, 13.1.2).
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

/// What the client believes of the tag it pushes to (RFC 9110, 13.1.1 and 13.1.2).
pub(super) fn expected(headers: &HeaderMap) -> Result<Option<Expected>, ApiError> {
    if let Some(value) = text(headers, &header::IF_NONE_MATCH, ErrorCode::ManifestInvalid)? {
        if value.trim() == "*" {
            return Ok(Some(Expected::Absent));
        }
        return Err(ApiError::new(ErrorCode::ManifestInvalid, "If-None-Match goes with a push only as *"));
    }
    let Some(value) = text(headers, &header::IF_MATCH, ErrorCode::ManifestInvalid)? else { return Ok(None) };
    if value.trim() == "*" {
        return Ok(Some(Expected::Present));
    }
    // A weak tag matches nothing that is to be replaced (RFC 9110, 13.1.1).
    let tags = value.split(',').map(str::trim).filter(|tag| !tag.starts_with("W/"));
    let digests = tags.map(|tag| tag.trim_matches('"').parse()).collect::<Result<_, _>>().map_err(|_| {
        ApiError::new(ErrorCode::ManifestInvalid, "If-Match has the digests that the tag may have, in quotes")
    })?;
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
    fn what_is_wrong_with_json_is_said_without_quoting_it() {
        for (json, expected) in [
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
