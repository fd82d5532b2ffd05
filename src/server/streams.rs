//! [`WithStreams`]: an HTTP/2 connection that runs its requests in its own task.
//!
//! hyper has a future for each request, which sends the whole response. As tasks of the runtime, they would run on other
//! threads than their connection. Each piece of a response would then wake a thread, and the two would wait for one lock.
//! Small requests took twice the processor time for that. As a part of the connection, they also end with it. What takes
//! long, hashing and writing a pushed blob, has threads of its own in any case.
//!
//! A request that panics ends alone: h2 resets its stream.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use futures_util::task::AtomicWaker;
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

/// The most times that a connection is polled before other tasks have their turn.
const TURNS_MAX: usize = 16;

/// Wakes the task of a connection, unless the task is running: a stream and its connection wake each other with each
/// piece, and the runtime would give such a task to another thread.
#[derive(Default)]
struct Relay {
    task: AtomicWaker,
    is_running: AtomicBool,
    is_woken: AtomicBool,
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        if !self.is_running.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

/// A connection and its requests.
pub(super) struct WithStreams<C> {
    relay: Arc<Relay>,
    /// Wakes through the relay.
    waker: Waker,
    connection: Pin<Box<C>>,
    new: NewStreams,
    streams: FuturesUnordered<Stream>,
}

impl<C> WithStreams<C> {
    /// `new` is the executor of the connection.
    pub(super) fn new(connection: C, new: NewStreams) -> Self {
        let relay = Arc::<Relay>::default();
        let waker = Waker::from(Arc::clone(&relay));
        Self { relay, waker, connection: Box::pin(connection), new, streams: FuturesUnordered::new() }
    }

    pub(super) fn connection(self: Pin<&mut Self>) -> Pin<&mut C> {
        self.get_mut().connection.as_mut()
    }
}

impl<C: Future> Future for WithStreams<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.get_mut();
        this.relay.task.register(context.waker());
        this.relay.is_running.store(true, Ordering::SeqCst);
        let mut inner = Context::from_waker(&this.waker);
        for _ in 0..TURNS_MAX {
            this.relay.is_woken.store(false, Ordering::SeqCst);
            let ended = this.connection.as_mut().poll(&mut inner);
            if ended.is_ready() {
                return ended;
            }
            this.streams.extend(this.new.0.lock().drain(..));
            while let Poll::Ready(Some(_)) = this.streams.poll_next_unpin(&mut inner) {}
            if !this.relay.is_woken.load(Ordering::SeqCst) {
                break;
            }
        }
        this.relay.is_running.store(false, Ordering::SeqCst);
        // It may have been woken since, without a word to the task.
        if this.relay.is_woken.load(Ordering::SeqCst) {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    const WAIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_request_that_panics_leaves_the_others() {
        let (new, (sent, received)) = (NewStreams::default(), oneshot::channel());
        new.execute(async { panic!("a test of panics") });
        new.execute(async { sent.send(()).unwrap() });
        timeout(WAIT, WithStreams::new(received, new)).await.unwrap().unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_from_another_thread_is_lost() {
        for _ in 0..10_000 {
            let (new, (sent, received), (start, started)) =
                (NewStreams::default(), oneshot::channel(), oneshot::channel::<()>());
            tokio::spawn(async { start.send(()) });
            new.execute(async {
                started.await.unwrap();
                sent.send(()).unwrap();
            });
            timeout(WAIT, WithStreams::new(received, new)).await.unwrap().unwrap();
        }
    }
}
