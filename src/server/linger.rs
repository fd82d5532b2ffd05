//! [`Linger`]: a socket that closes only after its client has read the last response.
//!
//! The kernel resets a connection that is closed while bytes of the client are unread or still arrive. The reset
//! destroys a response that the client has not read yet. So the socket is closed for writing first. For a limited time,
//! the input that still arrives is read and discarded (RFC 9112, 9.6).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep};

use super::forward::forward;
use super::unread::UnreadInput;
use crate::kit::opaque_debug::opaque_debug;

/// The most connections that linger at once. Others close without lingering.
const LINGERING_MAX: usize = 128;
/// The longest time that a connection lingers.
const LINGER_WAIT: Duration = Duration::from_secs(30);
/// The longest time that the client of a lingering connection may send nothing.
const SILENCE_WAIT: Duration = Duration::from_secs(5);
/// The longest time that a connection lingers after the server begins to stop.
const STOP_WAIT: Duration = Duration::from_millis(500);
/// The most bytes that a lingering connection discards.
const LINGER_BYTES_MAX: u64 = 1 << 30;
/// The most bytes that one read takes.
const BUFFER_BYTES: usize = 32 * 1024;

/// The shared limits of the lingering connections of one server.
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

/// A stream whose shutdown waits until the client closes its side, if the client may still be sending.
#[derive(Debug)]
pub(super) struct Linger<S> {
    stream: S,
    unread: UnreadInput,
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
    pub(super) fn new(stream: S, unread: UnreadInput, lingering: Lingering) -> Self {
        Self { stream, unread, lingering, state: State::Open }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    forward!(stream: poll_read);
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    forward!(stream: poll_write, poll_write_vectored, is_write_vectored, poll_flush);

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Open => {
                    ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                    let begun = this.unread.is_left().then(|| Discarding::begin(&this.lingering)).flatten();
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

/// Discards the input of a socket that is closed for writing.
struct Discarding {
    _permit: OwnedSemaphorePermit,
    buffer: Vec<u8>,
    bytes_left: u64,
    deadline: Pin<Box<Sleep>>,
    silence: Pin<Box<Sleep>>,
    /// Completes when the server stops.
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
                // An error means that the server no longer exists.
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

opaque_debug!(Discarding);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    /// Returns a connection whose client is still sending, the client, and the sender that stops the server.
    fn connection() -> (Linger<DuplexStream>, DuplexStream, watch::Sender<bool>) {
        let (near, far) = tokio::io::duplex(1024);
        let (stop, stopped) = watch::channel(false);
        let unread = UnreadInput::default();
        unread.leave();
        (Linger::new(near, unread, Lingering::new(stopped)), far, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn input_is_discarded_until_the_client_closes_its_side() {
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
    async fn a_connection_does_not_linger_for_a_silent_client() {
        let (mut near, _far, _stop) = connection();
        let begun = Instant::now();
        near.shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), SILENCE_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_stops_sending_is_disconnected() {
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
    async fn a_server_that_stops_waits_only_briefly() {
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
