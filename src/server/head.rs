//! [`Head`]: a connection whose client must get each request's head across in time.
//!
//! hyper's own timeout runs from the end of the last answer, and is how long a connection may rest.
//! The time of a head begins with its first byte, and no further byte prolongs it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::connections::InFlight;
use super::sendfile::Windows;
use super::unread::UnreadInput;
use crate::http::Body;

/// Whose state it is on a connection: the client's, to send a head, or the registry's, to answer.
#[derive(Debug)]
pub(super) struct ConnectionState<F = InFlight>(Arc<State<F>>);

#[derive(Debug)]
struct State<F> {
    answering: AtomicBool,
    /// Of an answer whose body has ended: it is in flight until hyper has written what it holds of it.
    unsent: Mutex<Option<F>>,
    rest: UnreadInput,
}

impl<F> ConnectionState<F> {
    pub(super) fn new() -> Self {
        Self(Arc::new(State {
            answering: AtomicBool::new(false),
            unsent: Mutex::new(None),
            rest: UnreadInput::default(),
        }))
    }

    /// What the client sends and nothing wants.
    pub(super) fn rest(&self) -> &UnreadInput {
        &self.0.rest
    }

    /// A head has come. It is the client's state again when the answer is dropped.
    pub(super) fn answer(&self, in_flight: F) -> Answering<F> {
        self.0.rest.begin();
        self.0.answering.store(true, Ordering::Relaxed);
        Answering { state: Self(Arc::clone(&self.0)), in_flight: Some(in_flight) }
    }

    fn unsent(&self) -> MutexGuard<'_, Option<F>> {
        self.0.unsent.lock()
    }
}

impl<F> Clone for ConnectionState<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// See [`ConnectionState::answer`].
#[derive(Debug)]
pub(super) struct Answering<F = InFlight> {
    state: ConnectionState<F>,
    /// Some until it is dropped.
    in_flight: Option<F>,
}

impl<F> Answering<F> {
    pub(super) const fn in_flight(&self) -> Option<&F> {
        self.in_flight.as_ref()
    }
}

impl<F> Drop for Answering<F> {
    fn drop(&mut self) {
        *self.state.unsent() = self.in_flight.take();
        self.state.0.answering.store(false, Ordering::Relaxed);
    }
}

/// The body of an answer, during which it is the registry's state.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Body,
    /// On a connection that sends from files by itself.
    pub(super) windows: Option<Windows>,
    pub(super) _answering: Answering,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if let Some(mapped) = this.windows.as_ref().and_then(|windows| windows.next(&mut this.body)) {
            return Poll::Ready(Some(mapped.map(Frame::data)));
        }
        Pin::new(&mut this.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends a connection when a head has begun and does not come to its end.
#[derive(Debug)]
pub(super) struct Head<S, F = InFlight> {
    stream: S,
    patience: Duration,
    state: ConnectionState<F>,
    /// When the head of which a part has come must be whole.
    deadline: Option<Instant>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S, F> Head<S, F> {
    pub(super) fn new(stream: S, patience: Duration, state: ConnectionState<F>) -> Self {
        Self { stream, patience, state, deadline: None, waiting: None }
    }
}

impl<S: AsyncRead + Unpin, F> AsyncRead for Head<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.state.0.answering.load(Ordering::Relaxed) || this.state.rest().is_drained() {
            (this.deadline, this.waiting) = (None, None);
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.deadline.get_or_insert_with(|| Instant::now() + this.patience);
            // Until the head is whole. hyper refuses some heads by itself, with more of them on the way.
            this.state.rest().leave_unread();
        }
        let Some(deadline) = this.deadline else { return read };
        // Bytes that keep coming must not keep the time from running out.
        if read.is_ready() && Instant::now() < deadline {
            return read;
        }
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => read,
        }
    }
}

impl<S: AsyncWrite + Unpin, F> AsyncWrite for Head<S, F> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        // hyper flushes when it has written everything.
        if flushed.is_ready() {
            self.state.unsent().take();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::time::sleep;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn connection() -> (Head<DuplexStream, ()>, ConnectionState<()>, DuplexStream) {
        let (near, far) = tokio::io::duplex(1024);
        let state = ConnectionState::new();
        (Head::new(near, PATIENCE, state.clone()), state, far)
    }

    /// A byte every ten seconds.
    fn drip(mut far: DuplexStream) {
        tokio::spawn(async move {
            while far.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(10)).await;
            }
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_runs_out_of_time() {
        let (mut head, _turn, far) = connection();
        let begun = Instant::now();
        drip(far);
        let error = head.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_does_not() {
        let (mut head, state, far) = connection();
        let answering = state.answer(());
        drip(far);
        head.read_exact(&mut [0; 20]).await.unwrap();
        // Then the next head begins, and has the whole time.
        drop(answering);
        let begun = Instant::now();
        head.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(begun.elapsed().as_secs(), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_before_a_head_does_not_count() {
        let (mut head, _turn, mut far) = connection();
        tokio::spawn(async move {
            sleep(10 * PATIENCE).await;
            far.write_all(b"x").await.unwrap();
            sleep(2 * PATIENCE).await;
        });
        assert_eq!(head.read(&mut [0; 10]).await.unwrap(), 1);
        assert!(head.read(&mut [0; 10]).await.is_err());
    }
}
