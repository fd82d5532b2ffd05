//! [`ClientBody`]: the body of a request, and what happens to the part of it that nothing reads.
//!
//! A request can be refused by its head while the client sends the body. The response goes out at once. If what is
//! left of the body is short, it is read in the background, so that the connection can serve the next request.
//! Otherwise the connection is closed after the response, and [`Linger`](super::linger::Linger) sees to it that the
//! client can read that. HTTP/2 resets the one stream instead (RFC 9113, 8.1), which h2 does by itself. It does so a
//! moment later, because curl 7.88 loses a response that is followed by a reset at once.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Request, Version};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::http::BoxError;

/// An unwanted body is read in the background if no more than this is left of it.
const SHORT_BYTES_MAX: u64 = 256 * 1024;
/// How much of an unwanted body is read before its stream of HTTP/2 is reset.
const STREAM_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long an unwanted body is read.
const DRAIN_WAIT: Duration = Duration::from_secs(1);

/// What the client of a connection sends although nothing wants it.
#[derive(Clone, Debug, Default)]
pub(super) struct UnreadInput(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Bodies that are read in the background.
    drained: AtomicUsize,
    /// Whether the client may be sending what nothing will read.
    unread: AtomicBool,
}

impl UnreadInput {
    /// A request has begun, and its body may be wanted.
    pub(super) fn begin(&self) {
        self.0.unread.store(false, Ordering::Relaxed);
    }

    /// Nothing will read what the client still sends: the connection ends with the response.
    pub(super) fn leave_unread(&self) {
        self.0.unread.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_unread(&self) -> bool {
        self.0.unread.load(Ordering::Relaxed)
    }

    /// Whether a body is read in the background, so that what arrives is not the head of a request.
    pub(super) fn is_drained(&self) -> bool {
        self.0.drained.load(Ordering::Relaxed) > 0
    }
}

/// A body that is read in the background, until this is dropped.
#[derive(Debug)]
struct Draining(UnreadInput);

impl Draining {
    fn begin(rest: &UnreadInput) -> Self {
        rest.0.drained.fetch_add(1, Ordering::Relaxed);
        Self(rest.clone())
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        self.0.0.drained.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body as it arrives on a connection.
#[derive(Debug)]
pub(super) struct ClientBody {
    /// `None` if its end was read, or if it broke off.
    body: Option<Incoming>,
    rest: UnreadInput,
    /// Whether the client waits for `100 Continue`, which hyper sends when the body is first polled.
    waits: bool,
    /// Whether the body is all of a stream of HTTP/2, so that the connection does not depend on it.
    is_stream: bool,
}

impl ClientBody {
    /// Wraps the body of a request.
    pub(super) fn wrap(request: Request<Incoming>, rest: &UnreadInput) -> Request<Self> {
        let (is_stream, rest) = (request.version() == Version::HTTP_2, rest.clone());
        if http_body::Body::is_end_stream(request.body()) {
            return request.map(|_| Self { body: None, rest, waits: false, is_stream });
        }
        let waits = request.version() == Version::HTTP_11 && expects_continue(request.headers());
        request.map(|body| Self { body: Some(body), rest, waits, is_stream })
    }
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get_all(header::EXPECT).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

impl http_body::Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        this.waits = false;
        let polled = Pin::new(&mut *body).poll_frame(context);
        match &polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(_))) if !body.is_end_stream() => {}
            Poll::Ready(Some(Err(_))) => {
                this.rest.leave_unread();
                this.body = None;
            }
            Poll::Ready(_) => this.body = None,
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        let is_short = http_body::Body::size_hint(&body).upper().is_some_and(|rest| rest <= SHORT_BYTES_MAX);
        match Handle::try_current() {
            Ok(runtime) if !self.waits && (is_short || self.is_stream) => {
                runtime.spawn(drain(body, Draining::begin(&self.rest)));
            }
            // A chunked body may be endless. A client that waits may send its body or the next request.
            _ => self.rest.leave_unread(),
        }
    }
}

/// Reads what is left of a body. Until its end, what arrives is no head of a request.
async fn drain(mut body: Incoming, draining: Draining) {
    let whole = timeout(DRAIN_WAIT, async {
        let mut bytes_left = STREAM_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            let Some(left) = bytes_left.checked_sub(length) else { return false };
            bytes_left = left;
        }
        http_body::Body::is_end_stream(&body)
    });
    if !matches!(whole.await, Ok(true)) {
        draining.0.leave_unread();
    }
}
