//! [`Socket`]: a connection over TCP or a unix socket, and the first bytes of its client.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::forward::forward;

/// How a client begins that speaks HTTP/2 without TLS (RFC 9113, 3.4). No method of HTTP/1.1 begins so.
const PREFACE: &[u8; 3] = b"PRI";

/// A connection over TCP or a unix socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The first bytes of a client. Those that were read must be replayed, see [`Replay`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    pub(super) first: u8,
    read: [u8; PREFACE.len()],
    count: usize,
}

impl Beginning {
    /// Whether the client speaks HTTP/2 without TLS.
    pub(super) fn is_http2(&self) -> bool {
        self.read[..self.count] == *PREFACE
    }
}

/// Calls a method of the stream that a socket is.
macro_rules! each {
    ($socket:expr, $stream:ident => $value:expr) => {
        match $socket {
            Socket::Tcp($stream) => $value,
            Socket::Unix($stream) => $value,
        }
    };
}

impl Socket {
    /// Sends small responses at once. Otherwise a response in two writes waits 40 ms for the client's acknowledgement.
    pub(super) fn send_at_once(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Unix(_) => Ok(()),
        }
    }

    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_write_ready(context))
    }

    pub(super) fn try_io<T>(&self, interest: Interest, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        each!(self, stream => stream.try_io(interest, work))
    }

    /// Waits for the first byte of a client, and leaves it there. Returns `None` if the client closes the connection.
    async fn first_byte(&self) -> io::Result<Option<u8>> {
        loop {
            each!(self, stream => stream.readable().await)?;
            let mut first = [0];
            match self.try_io(Interest::READABLE, || Ok(recv(self, &mut first, RecvFlags::PEEK)?.1)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Ok((result? > 0).then_some(first[0])),
            }
        }
    }

    /// Waits for the beginning of what a client sends: one byte, or as many as tell HTTP/2 from HTTP/1.1 if the
    /// connection has no TLS. Those may take `patience`. Returns `None` if the client closes the connection.
    pub(super) async fn beginning(&mut self, is_plain: bool, patience: Duration) -> io::Result<Option<Beginning>> {
        let Some(first) = self.first_byte().await? else { return Ok(None) };
        let mut beginning = Beginning { first, read: [0; PREFACE.len()], count: 0 };
        let Beginning { read, count, .. } = &mut beginning;
        let more = async {
            while *count < PREFACE.len() && PREFACE.starts_with(&read[..*count]) {
                match self.read(&mut read[*count..]).await? {
                    0 => break,
                    some => *count += some,
                }
            }
            io::Result::Ok(())
        };
        if is_plain && first == PREFACE[0] {
            timeout(patience, more).await??;
        }
        Ok(Some(beginning))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(self, stream => stream.as_fd())
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(context))
    }
}

/// A stream whose first bytes have been read already.
#[derive(Debug)]
pub(super) struct Replay<S> {
    stream: S,
    beginning: Beginning,
    /// How many of them have been read again.
    taken: usize,
}

impl<S> Replay<S> {
    pub(super) const fn new(stream: S, beginning: Beginning) -> Self {
        Self { stream, beginning, taken: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replay<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { beginning: Beginning { read, count, .. }, taken, .. } = *self;
        if taken == count {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = buffer.remaining().min(count - taken);
        buffer.put_slice(&read[taken..taken + length]);
        self.taken += length;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replay<S> {
    forward!(stream: poll_write, poll_write_vectored, is_write_vectored, poll_flush, poll_shutdown);
}
