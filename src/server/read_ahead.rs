//! [`ReadAhead`]: reads much of a fast client at once, for a TLS library that reads little at a time.
//!
//! rustls reads at most 4 KiB at once, and one record of 16 KiB at most. That costs a system call each. While a client
//! sends faster than that, larger reads serve several of its calls.
//!
//! Invariant: an idle connection has no buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::forward::forward;

/// The most bytes that one read takes: four records.
const BUFFER_BYTES: usize = 64 * 1024;

/// A stream whose small reads are served from larger ones.
#[derive(Debug)]
pub(super) struct ReadAhead<S> {
    stream: S,
    /// Bytes that have been read. The first `taken` have been handed out.
    buffer: Vec<u8>,
    taken: usize,
    /// Whether the last read found as many bytes as it could take, so that more may have arrived.
    is_fast: bool,
}

impl<S> ReadAhead<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), taken: 0, is_fast: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.taken == this.buffer.len() {
            if !this.is_fast || buffer.remaining() >= BUFFER_BYTES {
                this.buffer = Vec::new();
                this.taken = 0;
                let before = buffer.filled().len();
                ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
                this.is_fast = buffer.remaining() == 0 && buffer.filled().len() > before;
                return Poll::Ready(Ok(()));
            }
            this.buffer.resize(BUFFER_BYTES, 0);
            let mut read = ReadBuf::new(&mut this.buffer);
            let result = Pin::new(&mut this.stream).poll_read(context, &mut read);
            let count = read.filled().len();
            this.buffer.truncate(count);
            this.taken = 0;
            if count == 0 {
                // The client is slower now, or has ended or failed.
                this.buffer = Vec::new();
                this.is_fast = false;
                return result;
            }
            this.is_fast = count == BUFFER_BYTES;
        }
        let left = &this.buffer[this.taken..];
        let count = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..count]);
        this.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    forward!(stream: poll_write, poll_write_vectored, is_write_vectored, poll_flush, poll_shutdown);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn bytes_arrive_in_order_in_reads_of_any_size_and_leave_no_buffer() {
        let (near, mut far) = tokio::io::duplex(256 * 1024);
        let mut near = ReadAhead::new(near);
        let sent: Vec<u8> = (0..1_000_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let content = sent.clone();
        let client = tokio::spawn(async move {
            far.write_all(&content).await.unwrap();
            far
        });
        let mut received = Vec::new();
        for size in [1, 4096, 16_000, 5, 100_000].into_iter().cycle() {
            let mut piece = vec![0; size.min(sent.len() - received.len())];
            near.read_exact(&mut piece).await.unwrap();
            received.extend(piece);
            if received.len() == sent.len() {
                break;
            }
        }
        assert!(received == sent);
        // Nothing more comes for now.
        let mut far = client.await.unwrap();
        let mut byte = [0; 100];
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), near.read(&mut byte)).await.is_err());
        assert_eq!(near.buffer.capacity(), 0);
        far.write_all(b"more").await.unwrap();
        drop(far);
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"more");
    }
}
