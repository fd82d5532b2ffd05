//! [`Recorded`]: a connection that records the first bytes from its server. They tell TLS and plain HTTP apart after a
//! failure.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes are recorded: `HTTP/`, or the header of a TLS record.
const FIRST_BYTES: usize = 5;

/// The first bytes from a server.
#[derive(Clone, Debug, Default)]
pub(super) struct FirstBytes(Arc<Mutex<Vec<u8>>>);

impl FirstBytes {
    fn add(&self, bytes: &[u8]) {
        let mut known = self.0.lock();
        let missing = FIRST_BYTES - known.len();
        known.extend_from_slice(&bytes[..bytes.len().min(missing)]);
    }

    fn is(&self, test: impl Fn(&[u8]) -> bool) -> bool {
        test(&self.0.lock())
    }

    pub(super) fn is_http(&self) -> bool {
        self.is(|bytes| bytes == b"HTTP/")
    }

    /// Whether the server sent a TLS alert: type 21, and a version that begins with 3.
    pub(super) fn is_tls(&self) -> bool {
        self.is(|bytes| bytes.starts_with(&[21, 3]))
    }
}

/// A connection whose first bytes are recorded.
#[derive(Debug)]
pub(super) struct Recorded<S> {
    stream: S,
    first_bytes: FirstBytes,
}

impl<S> Recorded<S> {
    pub(super) fn new(stream: S) -> (Self, FirstBytes) {
        let first_bytes = FirstBytes::default();
        (Self { stream, first_bytes: first_bytes.clone() }, first_bytes)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.first_bytes.add(&buffer.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
