//! [`WriteTimeout`]: a connection whose client must read the responses.
//!
//! Without it, a client that requests a blob and does not read would hold its connection, and the pieces of the blob
//! that are ready for it, for ever. The time begins again with every write that takes bytes. There is no minimum rate,
//! because a client on a slow link must be able to pull, and the buffers of the system hide how fast it reads. So a
//! client that reads a little before each deadline holds its connection for longer, with at most two pieces of a blob.
//!
//! A write also waits while [`FileSocket`](super::sendfile::FileSocket) loads a part of a blob from the disk. That time
//! counts too, so a disk that takes longer than the limit for one part ends the connection, although the client reads.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use super::forward::forward;

/// Ends a connection if nothing can be written to it for too long.
#[derive(Debug)]
pub(super) struct WriteTimeout<S> {
    stream: S,
    patience: Duration,
    /// The deadline of a write that waits for the client.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteTimeout<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, waiting: None }
    }

    /// Turns a write that waits too long into an error.
    fn limit<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.waiting = None;
            return result;
        }
        let deadline = Instant::now() + self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    forward!(stream: poll_read);
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    forward!(stream: is_write_vectored);

    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limit(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.limit(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.limit(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.limit(context, result)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_disconnected() {
        let (near, _far) = tokio::io::duplex(16);
        let mut near = WriteTimeout::new(near, Duration::from_mins(1));
        let begun = Instant::now();
        let error = near.write_all(&[0; 1024]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_stays_connected() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut near = WriteTimeout::new(near, Duration::from_mins(1));
        let reader = tokio::spawn(async move {
            let mut read = 0;
            while read < 160 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                read += far.read(&mut [0; 16]).await.unwrap();
            }
        });
        near.write_all(&[0; 160]).await.unwrap();
        reader.await.unwrap();
    }
}
