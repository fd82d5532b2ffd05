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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::sendfile::Windows;
use crate::http::Body;

/// Whose turn it is on a connection: the client's, to send a head, or the registry's, to answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn {
    answering: Arc<AtomicBool>,
}

impl Turn {
    /// A head has come. It is the client's turn again when the answer is dropped.
    pub(super) fn answer(&self) -> Answering {
        self.answering.store(true, Ordering::Relaxed);
        Answering { turn: self.clone() }
    }
}

/// See [`Turn::answer`].
#[derive(Debug)]
pub(super) struct Answering {
    turn: Turn,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.turn.answering.store(false, Ordering::Relaxed);
    }
}

/// The body of an answer, during which it is the registry's turn.
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
pub(super) struct Head<S> {
    stream: S,
    patience: Duration,
    turn: Turn,
    /// When the head of which a part has come must be whole.
    deadline: Option<Instant>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Head<S> {
    pub(super) fn new(stream: S, patience: Duration, turn: Turn) -> Self {
        Self { stream, patience, turn, deadline: None, waiting: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Head<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.turn.answering.load(Ordering::Relaxed) {
            (this.deadline, this.waiting) = (None, None);
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.deadline.get_or_insert_with(|| Instant::now() + this.patience);
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Head<S> {
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
        Pin::new(&mut self.stream).poll_flush(context)
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

    fn connection() -> (Head<DuplexStream>, Turn, DuplexStream) {
        let (near, far) = tokio::io::duplex(1024);
        let turn = Turn::default();
        (Head::new(near, PATIENCE, turn.clone()), turn, far)
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
        let (mut head, turn, far) = connection();
        let answering = turn.answer();
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
