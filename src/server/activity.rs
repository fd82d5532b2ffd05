//! [`Activity`]: whether something goes on on an HTTP/2 connection.
//!
//! A client that answers pings shows that it is there, and nothing else. Of a body, nothing is taken until the client
//! has opened its window: one that never does would hold the connection, and what is ready for it, for ever. So a
//! connection is given up when no part of any answer was taken for as long as a body may pause, or when nothing was
//! asked for as long as a connection may rest. As long as one answer moves, the others may wait.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::http::Body;

/// A body is handed out in pieces of this many bytes, so that each of them shows that a slow client goes on.
const PIECE_BYTES: usize = 16 * 1024;

/// What goes on on one connection.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    now: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Requests that are being answered; how long that takes is the registry's business.
    requests: usize,
    /// Bodies of answers that have begun and not ended.
    bodies: usize,
    /// When something was asked or taken last.
    last: Instant,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { now: Arc::new(Mutex::new(State { requests: 0, bodies: 0, last: Instant::now() })) }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.now.lock();
        change(&mut state);
        state.last = Instant::now();
    }

    /// A request has come.
    pub(super) fn request<F>(&self, in_flight: F) -> Request<F> {
        self.change(|state| state.requests += 1);
        Request { in_flight, asked: ActiveRequest(self.clone()) }
    }

    /// Returns when nothing goes on any more: nothing of an answer is taken for `pause`, or nothing is asked for
    /// `rest`.
    pub(super) async fn ended(&self, pause: Duration, rest: Duration) {
        loop {
            let now = Instant::now();
            let until = {
                let state = self.now.lock();
                match (state.requests, state.bodies) {
                    (0, 0) => state.last + rest,
                    (0, _) => state.last + pause,
                    _ => now + pause,
                }
            };
            if until <= now {
                return;
            }
            // What begins meanwhile is to end sooner than a rest does.
            sleep_until(until.min(now + pause)).await;
        }
    }
}

/// A request that is being answered. Until the end of the answer it keeps what shows that it is in flight.
#[derive(Debug)]
pub(super) struct Request<F> {
    in_flight: F,
    asked: ActiveRequest,
}

#[derive(Debug)]
struct ActiveRequest(Activity);

impl<F> Request<F> {
    pub(super) const fn in_flight(&self) -> &F {
        &self.in_flight
    }

    /// The answer begins; it ends when its body does.
    pub(super) fn answer(self, body: Body) -> TrackedBody<F> {
        self.asked.0.change(|state| state.bodies += 1);
        TrackedBody { body, ready: Bytes::new(), activity: self.asked.0.clone(), _in_flight: self.in_flight }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.change(|state| state.requests -= 1);
    }
}

/// A body of which it is seen when something is taken.
#[derive(Debug)]
pub(super) struct TrackedBody<F> {
    body: Body,
    /// The rest of what the body has handed out.
    ready: Bytes,
    activity: Activity,
    _in_flight: F,
}

impl<F> TrackedBody<F> {
    fn hand_out(&mut self) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.activity.change(|_| {});
        let piece = self.ready.split_to(self.ready.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl<F> Drop for TrackedBody<F> {
    fn drop(&mut self) {
        self.activity.change(|state| state.bodies -= 1);
    }
}

impl<F: Unpin> http_body::Body for TrackedBody<F> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
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
    const REST: Duration = Duration::from_mins(2);

    fn answer(activity: &Activity) -> TrackedBody<()> {
        activity.request(()).answer(Body::bytes(vec![7; 10 * PIECE_BYTES]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_which_nothing_is_taken_ends_the_connection() {
        let activity = Activity::new();
        let _body = answer(&activity);
        let begun = Instant::now();
        activity.ended(PAUSE, REST).await;
        assert_eq!(begun.elapsed(), PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn so_does_one_that_begins_while_the_connection_rests() {
        let activity = Activity::new();
        let begun = Instant::now();
        let asked = async {
            tokio::time::sleep(PAUSE / 2).await;
            answer(&activity)
        };
        let ((), _body) = tokio::join!(activity.ended(PAUSE, 100 * PAUSE), asked);
        assert!(begun.elapsed() <= 3 * PAUSE, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_taken_slowly_does_not_and_is_whole() {
        let activity = Activity::new();
        let (mut slow, _stalled) = (answer(&activity), answer(&activity));
        let begun = Instant::now();
        let reader = async {
            let mut count = 0;
            while let Some(Ok(frame)) = slow.frame().await {
                count += frame.into_data().map_or(0, |bytes| bytes.len());
                tokio::time::sleep(PAUSE * 5 / 6).await;
            }
            count
        };
        let ((), count) = tokio::join!(activity.ended(PAUSE, REST), reader);
        assert_eq!(count, 10 * PIECE_BYTES);
        assert!(begun.elapsed() > 8 * PAUSE, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_its_time_is_waited_for_and_then_the_connection_rests() {
        let activity = Activity::new();
        let begun = Instant::now();
        let request = activity.request(());
        let asked = async {
            tokio::time::sleep(10 * REST).await;
            drop(request);
        };
        tokio::join!(activity.ended(PAUSE, REST), asked);
        assert_eq!(begun.elapsed(), 11 * REST);
    }
}
