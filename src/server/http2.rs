//! The settings of HTTP/2, and [`Activity`]: detects that nothing moves on an HTTP/2 connection.
//!
//! A client that answers pings shows only that it is running. hyper takes nothing of a body until the client opens its
//! window. A client that never does would hold the connection, and the data ready for it, for ever. So the connection
//! is closed when the client takes no part of any response for the longest pause of a body, or makes no request for the
//! idle timeout. While one response moves, the others may wait.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::http::{Body, PolledFrame};

/// Bodies are handed out in pieces of this many bytes, so that a slow client shows progress with each of them. A piece
/// fills one TLS record together with the header of its frame, which has nine bytes. The rest would need another record.
const PIECE_BYTES: usize = 16 * 1024 - 9;

/// The flow control windows of one stream and of a connection.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// The most bytes of a response that wait in the library for the client. A response counts as ended when the library has
/// taken it, so this must be small. With hyper's default of 400 KiB, an idle timeout cut off whole small blobs.
const SEND_BUFFER_BYTES: usize = 2 * PIECE_BYTES;
/// The most concurrent requests on one connection.
const STREAMS_MAX: u32 = 100;
/// The most header bytes that clients may send. It is our own limit of 32 KiB, and the 32 bytes that RFC 9113, 6.5.2, adds
/// for each field. The 16 KiB of hyper's default are too few for podman, which requests 1024 ranges at once.
const HEADER_LIST_BYTES_MAX: u32 = 36 * 1024;

/// Returns a builder of connections. One without requests for `idle` is asked whether its client is still there.
pub(super) fn builder(idle: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        // A client that is still connected answers the pings.
        .keep_alive_interval(idle)
        .keep_alive_timeout(idle)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX);
    builder
}

/// The requests and responses of one connection.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Requests whose response has not begun. The registry may take its time for them.
    requests: usize,
    /// Responses that have begun and not ended.
    bodies: usize,
    /// The last time that a request came or a part of a response was taken.
    last: Instant,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { requests: 0, bodies: 0, last: Instant::now() })))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock();
        change(&mut state);
        state.last = Instant::now();
    }

    /// Begins a request.
    pub(super) fn request<F>(&self, in_flight: F) -> ActiveRequest<F> {
        self.change(|state| state.requests += 1);
        ActiveRequest { in_flight, counted: CountedRequest(self.clone()) }
    }

    /// Returns when the client takes nothing of any response for `pause`, or makes no request for `idle`.
    pub(super) async fn ended(&self, pause: Duration, idle: Duration) {
        loop {
            let now = Instant::now();
            let until = {
                let state = self.0.lock();
                match (state.requests, state.bodies) {
                    (0, 0) => state.last + idle,
                    (0, _) => state.last + pause,
                    _ => now + pause,
                }
            };
            if until <= now {
                return;
            }
            // A response that begins meanwhile has an earlier deadline than an idle connection.
            sleep_until(until.min(now + pause)).await;
        }
    }
}

/// A request whose response has not begun. `in_flight` is kept until the response ends.
#[derive(Debug)]
pub(super) struct ActiveRequest<F> {
    in_flight: F,
    counted: CountedRequest,
}

/// Counts as a request until it is dropped.
#[derive(Debug)]
struct CountedRequest(Activity);

impl<F> ActiveRequest<F> {
    pub(super) const fn in_flight(&self) -> &F {
        &self.in_flight
    }

    /// Begins the response, which ends when its body is dropped.
    pub(super) fn respond(self, body: Body) -> Http2Body<F> {
        let activity = self.counted.0.clone();
        activity.change(|state| state.bodies += 1);
        Http2Body { body, ready: Bytes::new(), activity, _in_flight: self.in_flight }
    }
}

impl Drop for CountedRequest {
    fn drop(&mut self) {
        self.0.change(|state| state.requests -= 1);
    }
}

/// The body of an HTTP/2 response. It records when the client takes a part of it.
#[derive(Debug)]
pub(super) struct Http2Body<F> {
    body: Body,
    /// Bytes that `body` handed out and the client has not taken.
    ready: Bytes,
    activity: Activity,
    _in_flight: F,
}

impl<F> Http2Body<F> {
    fn hand_out(&mut self) -> PolledFrame {
        self.activity.change(|_| {});
        let piece = self.ready.split_to(self.ready.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl<F> Drop for Http2Body<F> {
    fn drop(&mut self) {
        self.activity.change(|state| state.bodies -= 1);
    }
}

impl<F: Unpin> http_body::Body for Http2Body<F> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> PolledFrame {
        if !self.ready.is_empty() {
            return self.hand_out();
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) => {
                    self.ready = bytes;
                    self.hand_out()
                }
                Err(frame) => Poll::Ready(Some(Ok(frame))),
            },
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.ready.len() as u64 + self.body.length())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    const PAUSE: Duration = Duration::from_mins(1);
    const IDLE: Duration = Duration::from_mins(2);

    fn response(activity: &Activity) -> Http2Body<()> {
        activity.request(()).respond(Body::bytes(vec![7; 10 * PIECE_BYTES]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_the_client_does_not_take_ends_the_connection() {
        let activity = Activity::new();
        let _body = response(&activity);
        let begun = Instant::now();
        activity.ended(PAUSE, IDLE).await;
        assert_eq!(begun.elapsed(), PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_begins_on_an_idle_connection_ends_it_as_well() {
        let activity = Activity::new();
        let begun = Instant::now();
        let later = async {
            tokio::time::sleep(PAUSE / 2).await;
            response(&activity)
        };
        let ((), _body) = tokio::join!(activity.ended(PAUSE, 100 * PAUSE), later);
        assert!(begun.elapsed() <= 3 * PAUSE, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_the_client_takes_slowly_is_sent_whole() {
        let activity = Activity::new();
        let (mut slow, _stalled) = (response(&activity), response(&activity));
        let begun = Instant::now();
        let reader = async {
            let mut count = 0;
            while let Some(Ok(frame)) = slow.frame().await {
                count += frame.into_data().map_or(0, |bytes| bytes.len());
                tokio::time::sleep(PAUSE * 5 / 6).await;
            }
            count
        };
        let ((), count) = tokio::join!(activity.ended(PAUSE, IDLE), reader);
        assert_eq!(count, 10 * PIECE_BYTES);
        assert!(begun.elapsed() > 8 * PAUSE, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_handler_does_not_end_the_connection() {
        let activity = Activity::new();
        let begun = Instant::now();
        let request = activity.request(());
        let handler = async {
            tokio::time::sleep(10 * IDLE).await;
            drop(request);
        };
        tokio::join!(activity.ended(PAUSE, IDLE), handler);
        assert_eq!(begun.elapsed(), 11 * IDLE);
    }
}
