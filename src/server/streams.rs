//! [`WithStreams`]: an HTTP/2 connection that runs its requests in its own task.
//!
//! hyper has a future for each request, which sends the whole response. As tasks of the runtime, they would run on other
//! threads than their connection. Each piece of a response would then wake a thread, and the two would wait for one lock:
//! that is a quarter of the processor time of a large pull. As a part of the connection, they also end with it. What takes
//! long, hashing and writing a pushed blob, has threads of its own in any case.
//!
//! A request that panics ends alone: h2 resets its stream.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hyper::rt::Executor;
use parking_lot::Mutex;

/// The future of one request. Its result is `Err` if it panicked, which the panic hook has logged.
type Stream = Pin<Box<dyn Future<Output = std::thread::Result<()>> + Send>>;

/// Takes the futures of new requests from hyper.
#[derive(Clone, Default)]
pub(super) struct NewStreams(Arc<Mutex<Vec<Stream>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for NewStreams {
    fn execute(&self, stream: F) {
        self.0.lock().push(AssertUnwindSafe(stream).catch_unwind().boxed());
    }
}

/// A connection and its requests.
pub(super) struct WithStreams<C> {
    connection: Pin<Box<C>>,
    new: NewStreams,
    streams: FuturesUnordered<Stream>,
}

impl<C> WithStreams<C> {
    /// `new` is the executor of the connection.
    pub(super) fn new(connection: C, new: NewStreams) -> Self {
        Self { connection: Box::pin(connection), new, streams: FuturesUnordered::new() }
    }

    pub(super) fn connection(self: Pin<&mut Self>) -> Pin<&mut C> {
        self.get_mut().connection.as_mut()
    }
}

impl<C: Future> Future for WithStreams<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.get_mut();
        let ended = this.connection.as_mut().poll(context);
        if ended.is_ready() {
            return ended;
        }
        this.streams.extend(this.new.0.lock().drain(..));
        // A stream that has something to send wakes the connection.
        while let Poll::Ready(Some(_)) = this.streams.poll_next_unpin(context) {}
        Poll::Pending
    }
}
