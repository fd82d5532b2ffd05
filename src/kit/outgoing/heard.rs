//! [`Heard`]: a connection that remembers how its other side began, to tell TLS and plain HTTP apart after a failure.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is remembered: `HTTP/`, or the header of a TLS record.
const BEGINNING_BYTES: usize = 5;

/// The first bytes that came.
#[derive(Clone, Debug, Default)]
pub(super) struct Beginning(Arc<Mutex<Vec<u8>>>);

impl Beginning {
    fn add(&self, bytes: &[u8]) {
        let mut known = self.0.lock();
        let missing = BEGINNING_BYTES - known.len();
        known.extend_from_slice(&bytes[..bytes.len().min(missing)]);
    }

    fn is(&self, test: impl Fn(&[u8]) -> bool) -> bool {
        test(&self.0.lock())
    }

    pub(super) fn is_http(&self) -> bool {
        self.is(|begun| begun == b"HTTP/")
    }

    /// A server that expects TLS answers anything else with an alert: type 21, and a version that begins with 3.
    pub(super) fn is_tls(&self) -> bool {
        self.is(|begun| begun.starts_with(&[21, 3]))
    }
}

/// A connection whose beginning is remembered.
#[derive(Debug)]
pub(super) struct Heard<S> {
    stream: S,
    beginning: Beginning,
}

impl<S> Heard<S> {
    pub(super) fn new(stream: S) -> (Self, Beginning) {
        let beginning = Beginning::default();
        (Self { stream, beginning: beginning.clone() }, beginning)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.beginning.add(&buffer.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
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
