//! The settings of HTTP/2, and [`Activity`]: detects that nothing moves on an HTTP/2 connection.
//!
//! A client that answers pings shows only that it is running. hyper takes only the first pieces of a body until the
//! client opens its window. A client that never does would hold the connection, and the data ready for it, for ever. So
//! the connection is closed when there are responses and the client takes no part of any for the longest pause of a
//! body. Further requests with small responses do not change that. While one large response moves, the others may wait.
//! A response that waits for the registry, for example for a blob of an upstream, does not count. A connection without
//! requests and responses is closed after the idle timeout.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::server::conn::http2::Builder;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::streams::NewStreams;
use crate::http::{Body, PolledFrame};
use crate::kit::byte_budget::ByteBudget;

/// Bodies are handed out in pieces of this many bytes, so that a slow client shows progress with each of them. A piece
/// fills one TLS record together with the header of its frame, which has nine bytes. The rest would need another record.
const PIECE_BYTES: usize = 16 * 1024 - 9;
/// The pieces of a body that the library takes before the client has taken the first one whole. hyper asks for a piece
/// before it looks at the window of the client, and h2 buffers a piece of which the window permits one byte.
const PIECES_AHEAD: u8 = 2;

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

/// The most bytes of a response that needs no place while the client takes it, and the most of all such responses.
const SMALL_BYTES_MAX: u64 = 16 * 1024;
const SMALL_BYTES_TOTAL: u32 = 16 * 1024 * 1024;

/// Returns the limit on the bytes of responses without a place.
pub(super) fn small_bytes() -> ByteBudget {
    ByteBudget::new(SMALL_BYTES_TOTAL)
}

/// Whether a response costs so little that a client that does not take it need not keep others out. Counts its bytes until
/// they are sent. If too many others are unsent, each has a place, and these are limited.
pub(super) fn needs_no_place(body: &mut Body, small: &ByteBudget) -> bool {
    let bytes = body.length();
    let is_small = !body.has_files() && bytes <= SMALL_BYTES_MAX;
    is_small && small.try_reserve(bytes).map(|reserved| body.hold(reserved)).is_some()
}

/// Returns a builder of connections, which run at most `requests` at once, by `executor`. One without requests for `idle`
/// is asked whether its client is still there.
pub(super) fn builder(executor: NewStreams, idle: Duration, requests: usize) -> Builder<NewStreams> {
    let mut builder = Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        // A client that is still connected answers the pings.
        .keep_alive_interval(idle)
        .keep_alive_timeout(idle)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(STREAMS_MAX.min(u32::try_from(requests).unwrap_or(STREAMS_MAX)))
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
    /// Those of the responses whose next part the registry does not have yet.
    waiting: usize,
    /// The last time that a request or a response began or ended.
    last: Instant,
    /// The last time that a part of a response was taken, or that one began while none waited for the client.
    taken: Instant,
}

impl Activity {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(State { requests: 0, bodies: 0, waiting: 0, last: now, taken: now })))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock();
        change(&mut state);
        state.last = Instant::now();
    }

    fn begin_body(&self) {
        self.change(|state| {
            if state.bodies == state.waiting {
                state.taken = Instant::now();
            }
            state.bodies += 1;
        });
    }

    fn note_taken(&self) {
        self.0.lock().taken = Instant::now();
    }

    /// Notes that the registry has the next part of a response that waited for it.
    fn end_wait(&self) {
        let mut state = self.0.lock();
        if state.bodies == state.waiting {
            state.taken = Instant::now();
        }
        state.waiting -= 1;
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
                    (_, bodies) if bodies == state.waiting => now + pause,
                    _ => state.taken + pause,
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
        activity.begin_body();
        Http2Body { body, ready: Bytes::new(), handed_out: 0, is_waiting: false, activity, _in_flight: self.in_flight }
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
    /// The pieces that were handed out, up to [`PIECES_AHEAD`].
    handed_out: u8,
    /// Whether the registry does not have the next part yet.
    is_waiting: bool,
    activity: Activity,
    _in_flight: F,
}

impl<F> Http2Body<F> {
    fn hand_out(&mut self) -> PolledFrame {
        if std::mem::take(&mut self.is_waiting) {
            self.activity.end_wait();
        }
        self.handed_out = PIECES_AHEAD.min(self.handed_out + 1);
        let piece = self.ready.split_to(self.ready.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    /// Notes that the registry does not have the next part yet.
    fn wait(&mut self) {
        if !std::mem::replace(&mut self.is_waiting, true) {
            self.activity.0.lock().waiting += 1;
        }
    }
}

impl<F> Drop for Http2Body<F> {
    fn drop(&mut self) {
        if let Some(ended) = self.body.end() {
            match self.ready.len() as u64 {
                0 if ended.is_whole() => ended.log_sent(),
                unsent => ended.log_aborted(unsent),
            }
        }
        self.activity.change(|state| {
            state.bodies -= 1;
            state.waiting -= usize::from(self.is_waiting);
        });
    }
}

impl<F: Unpin> http_body::Body for Http2Body<F> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> PolledFrame {
        if self.handed_out == PIECES_AHEAD {
            self.activity.note_taken();
        }
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
            Poll::Pending => {
                self.wait();
                Poll::Pending
            }
            other @ Poll::Ready(_) => other,
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

    #[tokio::test]
    async fn small_responses_need_no_place_until_their_bytes_are_many() {
        let small = ByteBudget::new(40_000);
        let body = |bytes: usize| Body::bytes(vec![7; bytes]);
        assert!(!needs_no_place(&mut body(16_385), &small), "it is large");
        let mut bodies = [body(16_384), body(16_384)];
        assert!(bodies.iter_mut().all(|body| needs_no_place(body, &small)));
        assert!(!needs_no_place(&mut body(16_384), &small), "others are not sent");
        assert!(needs_no_place(&mut Body::empty(), &small));
        let [first, _second] = bodies;
        assert_eq!(first.collect().await.expect("it is in memory").to_bytes().len(), 16_384);
        assert!(needs_no_place(&mut body(16_384), &small), "the first is sent");
    }

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
            let (mut count, mut pieces) = (0, 0);
            while let Some(Ok(frame)) = slow.frame().await {
                count += frame.into_data().map_or(0, |bytes| bytes.len());
                pieces += 1;
                if pieces > PIECES_AHEAD {
                    tokio::time::sleep(PAUSE * 5 / 6).await;
                }
            }
            count
        };
        let ((), count) = tokio::join!(activity.ended(PAUSE, IDLE), reader);
        assert_eq!(count, 10 * PIECE_BYTES);
        assert!(begun.elapsed() > 6 * PAUSE, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_waits_for_the_registry_does_not_end_the_connection() {
        let activity = Activity::new();
        let mut body = response(&activity);
        body.wait();
        let begun = Instant::now();
        let client = async {
            tokio::time::sleep(10 * PAUSE).await;
            body.frame().await;
            tokio::time::sleep(10 * PAUSE).await;
        };
        tokio::select! {
            () = activity.ended(PAUSE, IDLE) => assert_eq!(begun.elapsed(), 11 * PAUSE),
            () = client => panic!("the connection is held"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_do_not_excuse_a_client_that_takes_no_response() {
        let activity = Activity::new();
        let _held = [response(&activity), response(&activity)];
        let begun = Instant::now();
        let requests = async {
            for _ in 0..100 {
                let request = activity.request(());
                tokio::time::sleep(PAUSE / 10).await;
                request.respond(Body::bytes("{}")).frame().await;
            }
        };
        tokio::select! {
            () = activity.ended(PAUSE, IDLE) => assert_eq!(begun.elapsed(), PAUSE),
            () = requests => panic!("the connection is held"),
        }
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
