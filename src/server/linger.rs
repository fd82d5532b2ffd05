//! [`Linger`]: a socket that is closed only when its client has read the last response.
//!
//! The kernel resets a connection that is closed while bytes of the client are unread or still arrive. The reset
//! destroys a response that the client has not read yet. So the socket is closed for writing first, and what still
//! arrives is read and discarded for a limited time (RFC 9112, 9.6).

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep};

use super::unread::UnreadInput;

/// Connections that linger at once. Others are closed without lingering.
const LINGERING_MAX: usize = 128;
/// How long a connection lingers, how long its client may be silent meanwhile, and how long once the server stops.
const LINGER_WAIT: Duration = Duration::from_secs(30);
const SILENCE_WAIT: Duration = Duration::from_secs(5);
const STOP_WAIT: Duration = Duration::from_millis(500);
/// How many bytes are discarded.
const LINGER_BYTES_MAX: u64 = 1 << 30;
/// How many bytes are read at once.
const BUFFER_BYTES: usize = 32 * 1024;

/// What the lingering connections of one server share.
#[derive(Clone, Debug)]
pub(super) struct Lingering {
    free: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

impl Lingering {
    pub(super) fn new(stopped: watch::Receiver<bool>) -> Self {
        Self { free: Arc::new(Semaphore::new(LINGERING_MAX)), stopped }
    }
}

/// A stream whose shutdown lasts until the client has closed its side too, if the client may still be sending.
#[derive(Debug)]
pub(super) struct Linger<S> {
    stream: S,
    rest: UnreadInput,
    lingering: Lingering,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    Discarding(Box<Discarding>),
    Closed,
}

impl<S> Linger<S> {
    pub(super) fn new(stream: S, rest: UnreadInput, lingering: Lingering) -> Self {
        Self { stream, rest, lingering, state: State::Open }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
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
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Open => {
                    ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                    let begun = this.rest.is_unread().then(|| Discarding::begin(&this.lingering)).flatten();
                    this.state = begun.map_or(State::Closed, |begun| State::Discarding(Box::new(begun)));
                }
                State::Discarding(discarding) => {
                    ready!(discarding.poll(&mut this.stream, context));
                    this.state = State::Closed;
                }
                State::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// What still arrives on a socket that is closed for writing.
struct Discarding {
    _permit: OwnedSemaphorePermit,
    buffer: Vec<u8>,
    bytes_left: u64,
    deadline: Pin<Box<Sleep>>,
    silence: Pin<Box<Sleep>>,
    /// Until the server stops.
    stopped: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Discarding {
    /// Returns `None` if too many connections linger already.
    fn begin(lingering: &Lingering) -> Option<Self> {
        let permit = Arc::clone(&lingering.free).try_acquire_owned().ok()?;
        let mut stopped = lingering.stopped.clone();
        Some(Self {
            _permit: permit,
            buffer: vec![0; BUFFER_BYTES],
            bytes_left: LINGER_BYTES_MAX,
            deadline: Box::pin(sleep(LINGER_WAIT)),
            silence: Box::pin(sleep(SILENCE_WAIT)),
            stopped: Some(Box::pin(async move {
                // A server that is gone has stopped too.
                let _ = stopped.wait_for(|stopped| *stopped).await;
            })),
        })
    }

    fn poll(&mut self, stream: &mut (impl AsyncRead + Unpin), context: &mut Context<'_>) -> Poll<()> {
        if self.stopped.as_mut().is_some_and(|stopped| stopped.as_mut().poll(context).is_ready()) {
            self.stopped = None;
            let deadline = self.deadline.deadline().min(Instant::now() + STOP_WAIT);
            self.deadline.as_mut().reset(deadline);
        }
        loop {
            if self.deadline.as_mut().poll(context).is_ready() || self.silence.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut self.buffer);
            let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer));
            let count = buffer.filled().len() as u64;
            if read.is_err() || count == 0 || count >= self.bytes_left {
                return Poll::Ready(());
            }
            self.bytes_left -= count;
            self.silence.as_mut().reset(Instant::now() + SILENCE_WAIT);
        }
    }
}

impl fmt::Debug for Discarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discarding").field("bytes_left", &self.bytes_left).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    /// A connection whose client still sends, the client, and what stops the server.
    fn connection() -> (Linger<DuplexStream>, DuplexStream, watch::Sender<bool>) {
        let (near, far) = tokio::io::duplex(1024);
        let (stop, stopped) = watch::channel(false);
        let rest = UnreadInput::default();
        rest.leave_unread();
        (Linger::new(near, rest, Lingering::new(stopped)), far, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_still_sends_is_read_until_it_closes_its_side() {
        let (mut near, mut far, _stop) = connection();
        let client = tokio::spawn(async move {
            far.write_all(&vec![7; 100_000]).await.unwrap();
            far.read_to_end(&mut Vec::new()).await.unwrap();
        });
        near.write_all(b"refused").await.unwrap();
        near.shutdown().await.unwrap();
        client.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_not_waited_for_long() {
        let (mut near, _far, _stop) = connection();
        let begun = Instant::now();
        near.shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), SILENCE_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_ends_is_not_read_for_ever() {
        let (mut near, mut far, _stop) = connection();
        tokio::spawn(async move {
            while far.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let begun = Instant::now();
        near.shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), LINGER_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_hardly_waits() {
        let (mut near, _far, stop) = connection();
        let begun = Instant::now();
        tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            stop.send_replace(true);
            sleep(Duration::from_mins(1)).await;
        });
        near.shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_secs(1) + STOP_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_connections_linger_than_allowed() {
        let (mut near, _far, _stop) = connection();
        let _taken =
            Arc::clone(&near.lingering.free).try_acquire_many_owned(u32::try_from(LINGERING_MAX).unwrap()).unwrap();
        let begun = Instant::now();
        near.shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
