//! [`ClientBody`]: the body of a request. It handles the part that nothing reads.
//!
//! A request can be refused by its head while the client sends the body. The response goes out at once. If the rest of
//! the body is short, it is read in the background, so that the connection can serve the next request. Otherwise the
//! connection closes after the response, and [`Linger`](super::linger::Linger) makes sure that the client can read the
//! response. HTTP/2 resets only the stream (RFC 9113, 8.1), which h2 does by itself. The body is read for a moment
//! before that, because curl 7.88 loses a response that is followed by a reset at once.

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

/// An unwanted body is read in the background if at most this many bytes of it are left.
const SHORT_BYTES_MAX: u64 = 256 * 1024;
/// The most bytes that are read of an unwanted body before its HTTP/2 stream is reset.
const STREAM_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The longest time that an unwanted body is read.
const DRAIN_WAIT: Duration = Duration::from_secs(1);

/// The input of a connection that no handler reads.
#[derive(Clone, Debug, Default)]
pub(super) struct UnreadInput(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The number of bodies that are read in the background.
    draining: AtomicUsize,
    /// Whether the client may be sending input that nothing will read.
    is_left: AtomicBool,
}

impl UnreadInput {
    /// Begins a request, whose body a handler may read.
    pub(super) fn begin_request(&self) {
        self.0.is_left.store(false, Ordering::Relaxed);
    }

    /// Leaves the rest of the input unread: the connection ends with the response.
    pub(super) fn leave(&self) {
        self.0.is_left.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_left(&self) -> bool {
        self.0.is_left.load(Ordering::Relaxed)
    }

    /// Whether a body is read in the background, so that arriving bytes do not begin a request.
    pub(super) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed) > 0
    }
}

/// Counts a body that is read in the background, until this is dropped.
#[derive(Debug)]
struct Draining(UnreadInput);

impl Draining {
    fn begin(unread: &UnreadInput) -> Self {
        unread.0.draining.fetch_add(1, Ordering::Relaxed);
        Self(unread.clone())
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        self.0.0.draining.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a request.
#[derive(Debug)]
pub(super) struct ClientBody {
    /// `None` after the end of the body, or after an error.
    body: Option<Incoming>,
    unread: UnreadInput,
    /// Whether the client waits for `100 Continue`, which hyper sends when the body is first polled.
    waits: bool,
    /// Whether the body has an HTTP/2 stream of its own, so that the connection does not depend on it.
    is_stream: bool,
}

impl ClientBody {
    /// Wraps the body of a request.
    pub(super) fn wrap(request: Request<Incoming>, unread: &UnreadInput) -> Request<Self> {
        let (is_stream, unread) = (request.version() == Version::HTTP_2, unread.clone());
        if http_body::Body::is_end_stream(request.body()) {
            return request.map(|_| Self { body: None, unread, waits: false, is_stream });
        }
        let waits = request.version() == Version::HTTP_11 && expects_continue(request.headers());
        request.map(|body| Self { body: Some(body), unread, waits, is_stream })
    }

    /// Notes that the rest of the body stays unread. h2 resets such a stream, and its connection goes on.
    fn leave_rest(&self) {
        if !self.is_stream {
            self.unread.leave();
        }
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
                this.leave_rest();
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
                runtime.spawn(drain(body, Draining::begin(&self.unread), self.is_stream));
            }
            // A chunked body may be endless. A client that waits for `100 Continue` may send its body or the next request.
            _ => self.leave_rest(),
        }
    }
}

/// Reads the rest of a body.
async fn drain(mut body: Incoming, draining: Draining, is_stream: bool) {
    let whole = timeout(DRAIN_WAIT, async {
        let mut bytes_left = STREAM_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            let Some(left) = bytes_left.checked_sub(length) else { return false };
            bytes_left = left;
        }
        http_body::Body::is_end_stream(&body)
    });
    let is_whole = matches!(whole.await, Ok(true));
    if !is_whole && !is_stream {
        draining.0.leave();
    }
}
