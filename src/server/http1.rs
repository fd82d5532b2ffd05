//! [`HeadTimeout`]: a connection whose client must send the head of each request in time.
//!
//! hyper's own timeout runs from the end of the last response, so it limits how long a connection may be idle. The time
//! for a head begins with its first byte, and further bytes do not extend it.
//!
//! It also sees how much of a response hyper has written, for the access log. hyper takes up to 8 MiB of a blob at
//! once, long before the client takes them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::connections::InFlight;
use super::forward::forward;
use super::sendfile::Windows;
use super::unread::UnreadInput;
use crate::http::{Body, EndedBody, PolledFrame};

/// The most bytes of a response that a socket takes at once if its client reads what it is sent.
const SMALL_BYTES_MAX: u64 = 16 * 1024;

/// Whether an HTTP/1.1 connection waits for a request or responds to one.
#[derive(Debug)]
pub(super) struct ConnectionState<F = InFlight>(Arc<State<F>>);

#[derive(Debug)]
struct State<F> {
    responding: AtomicBool,
    /// The bytes that have been read of the next head.
    head_bytes: AtomicUsize,
    /// The request whose response body has ended. It is in flight until hyper has written the response.
    unsent: Mutex<Option<Unsent<F>>>,
    /// The bytes that hyper has and has not written. They may include the head of the response.
    unwritten: AtomicUsize,
    unread: UnreadInput,
}

/// A request whose response body has ended.
#[derive(Debug)]
struct Unsent<F> {
    /// `None` if the next request has begun.
    in_flight: Option<F>,
    /// The body, if its log entry is not written.
    body: Option<EndedBody>,
}

impl<F> Unsent<F> {
    /// Ends the request, because hyper has written the whole response.
    fn end(self) {
        if let Some(body) = self.body {
            body.log_sent();
        }
    }
}

impl<F> State<F> {
    fn unwritten(&self) -> u64 {
        self.unwritten.load(Ordering::Relaxed) as u64
    }
}

impl<F> Drop for State<F> {
    fn drop(&mut self) {
        // The connection has ended before hyper had written the response.
        let unsent = self.unsent.get_mut().take();
        if let Some(body) = unsent.and_then(|unsent| unsent.body) {
            body.log_aborted(self.unwritten());
        }
    }
}

impl<F> ConnectionState<F> {
    pub(super) fn new() -> Self {
        Self(Arc::new(State {
            responding: AtomicBool::new(false),
            head_bytes: AtomicUsize::new(0),
            unsent: Mutex::new(None),
            unwritten: AtomicUsize::new(0),
            unread: UnreadInput::default(),
        }))
    }

    /// The input that nothing reads.
    pub(super) fn unread(&self) -> &UnreadInput {
        &self.0.unread
    }

    /// Begins the response to a request whose head has arrived. It ends when the returned value is dropped. `begin` runs
    /// after the earlier request has ended, so that a connection never has two in flight. Some of the response to a
    /// pipelined one may still have to be written.
    pub(super) fn respond(&self, begin: impl FnOnce() -> F) -> Responding<F> {
        let earlier = self.unsent().as_mut().and_then(|unsent| unsent.in_flight.take());
        drop(earlier);
        let in_flight = begin();
        self.0.unread.begin_request();
        self.0.responding.store(true, Ordering::Relaxed);
        self.0.head_bytes.store(0, Ordering::Relaxed);
        Responding { state: Self(Arc::clone(&self.0)), in_flight: Some(in_flight), ended: None }
    }

    fn unsent(&self) -> MutexGuard<'_, Option<Unsent<F>>> {
        self.0.unsent.lock()
    }

    /// Counts bytes of a body that hyper takes.
    fn hand_out(&self, count: usize) {
        self.0.unwritten.fetch_add(count, Ordering::Relaxed);
    }

    /// Notes how much of all the bytes that hyper has was written.
    fn note_write(&self, all: usize, written: &Poll<io::Result<usize>>) {
        let written = if let Poll::Ready(Ok(count)) = written { *count } else { 0 };
        self.0.unwritten.store(all.saturating_sub(written), Ordering::Relaxed);
    }
}

impl<F> Clone for ConnectionState<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A response that has not ended. See [`ConnectionState::respond`].
#[derive(Debug)]
pub(super) struct Responding<F = InFlight> {
    state: ConnectionState<F>,
    /// `Some` until it is dropped.
    in_flight: Option<F>,
    /// The body, if it has ended and its log entry is not written.
    ended: Option<EndedBody>,
}

impl<F> Responding<F> {
    pub(super) const fn in_flight(&self) -> &F {
        self.in_flight.as_ref().expect("it is taken when this is dropped")
    }

    /// Ends the body of the response. Its log entry is written at once if the body has not handed out all its bytes, and if
    /// it is small: so its line comes before those of requests that the response leads to. A client that requests more
    /// and reads nothing may have small responses that are logged as sent, and are not.
    fn end_body(&mut self, body: EndedBody) {
        match () {
            () if !body.is_whole() => body.log_aborted(self.state.0.unwritten()),
            () if body.handed_out() <= SMALL_BYTES_MAX => body.log_sent(),
            () => self.ended = Some(body),
        }
    }
}

impl<F> Drop for Responding<F> {
    fn drop(&mut self) {
        let body = self.ended.take();
        // hyper has queued the head of this response, so it has written the earlier one.
        let earlier = self.state.unsent().replace(Unsent { in_flight: self.in_flight.take(), body });
        if let Some(earlier) = earlier {
            earlier.end();
        }
        self.state.0.responding.store(false, Ordering::Relaxed);
    }
}

/// The body of an HTTP/1.1 response.
#[derive(Debug)]
pub(super) struct Http1Body {
    pub(super) body: Body,
    /// Present if the connection can send from files.
    pub(super) windows: Option<Windows>,
    pub(super) responding: Responding,
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        if let Some(ended) = self.body.end() {
            self.responding.end_body(ended);
        }
    }
}

impl http_body::Body for Http1Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> PolledFrame {
        let this = &mut *self;
        let polled = match this.windows.as_ref().and_then(|windows| windows.next(&mut this.body)) {
            Some(mapped) => Poll::Ready(Some(Ok(Frame::data(mapped)))),
            None => Pin::new(&mut this.body).poll_frame(context),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.responding.state.hand_out(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The most bytes of a head, with its request line and the separators. hyper itself reads as much of a head as of a body.
const HEAD_BYTES_MAX: usize = 48 * 1024;
/// The responses to a longer head, and to one whose first line is as long.
const TOO_LONG: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const LINE_TOO_LONG: &[u8] = b"HTTP/1.1 414 URI Too Long\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Ends a connection if the head of a request begins and does not arrive in time, or is too long.
#[derive(Debug)]
pub(super) struct HeadTimeout<S, F = InFlight> {
    stream: S,
    patience: Duration,
    state: ConnectionState<F>,
    /// When the head that has begun must be complete.
    deadline: Option<Instant>,
    waiting: Option<Pin<Box<Sleep>>>,
    /// Whether the first line of the head has arrived.
    has_line: bool,
    /// The bytes of the refusal that are written.
    refused: usize,
}

impl<S, F> HeadTimeout<S, F> {
    pub(super) fn new(stream: S, patience: Duration, state: ConnectionState<F>) -> Self {
        Self { stream, patience, state, deadline: None, waiting: None, has_line: false, refused: 0 }
    }
}

impl<S: AsyncWrite + Unpin, F> HeadTimeout<S, F> {
    /// Refuses a head that is too long.
    fn poll_refuse(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let refusal = if self.has_line { TOO_LONG } else { LINE_TOO_LONG };
        while self.refused < refusal.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &refusal[self.refused..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.refused += written;
        }
        // hyper closes the connection at once after an incomplete head. Until the client has read the refusal, it must stay.
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, F> AsyncRead for HeadTimeout<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.state.0.responding.load(Ordering::Relaxed) || this.state.unread().is_draining() {
            (this.deadline, this.waiting) = (None, None);
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        let left = HEAD_BYTES_MAX - this.state.0.head_bytes.load(Ordering::Relaxed);
        if left == 0 {
            // Nothing more is read, which hyper takes for the end of the connection.
            return this.poll_refuse(context);
        }
        if left == HEAD_BYTES_MAX {
            // hyper may have read the earlier head without a read between the two.
            (this.deadline, this.waiting) = (None, None);
        }
        let before = buffer.filled().len();
        let read = if buffer.remaining() > left {
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(left));
            let read = Pin::new(&mut this.stream).poll_read(context, &mut part);
            let count = part.filled().len();
            buffer.advance(count);
            read
        } else {
            Pin::new(&mut this.stream).poll_read(context, buffer)
        };
        let count = buffer.filled().len() - before;
        if count > 0 {
            this.has_line = this.has_line && left < HEAD_BYTES_MAX || buffer.filled()[before..].contains(&b'\n');
            this.state.0.head_bytes.fetch_add(count, Ordering::Relaxed);
            this.deadline.get_or_insert_with(|| Instant::now() + this.patience);
            // hyper refuses some heads by itself, while the rest of the head still arrives.
            this.state.unread().leave();
        }
        let Some(deadline) = this.deadline else { return read };
        // A client that keeps sending bytes must not extend its time.
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

/// hyper offers all bytes that it has in each write.
impl<S: AsyncWrite + Unpin, F> AsyncWrite for HeadTimeout<S, F> {
    forward!(stream: is_write_vectored, poll_shutdown);

    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.state.note_write(bytes.len(), &written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.state.note_write(parts.iter().map(|part| part.len()).sum(), &written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        // hyper flushes when it has written the whole response.
        if let Poll::Ready(Ok(())) = flushed {
            let sent = self.state.unsent().take();
            if let Some(sent) = sent {
                sent.end();
            }
        }
        flushed
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::time::sleep;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn connection() -> (HeadTimeout<DuplexStream, ()>, ConnectionState<()>, DuplexStream) {
        let (near, far) = tokio::io::duplex(1024);
        let state = ConnectionState::new();
        (HeadTimeout::new(near, PATIENCE, state.clone()), state, far)
    }

    /// Sends a byte every ten seconds.
    fn send_slowly(mut far: DuplexStream) {
        tokio::spawn(async move {
            while far.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(10)).await;
            }
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_arrives_slowly_runs_out_of_time() {
        let (mut head, _turn, far) = connection();
        let begun = Instant::now();
        send_slowly(far);
        let error = head.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_take_longer_than_a_head() {
        let (mut head, state, far) = connection();
        let responding = state.respond(|| ());
        send_slowly(far);
        head.read_exact(&mut [0; 20]).await.unwrap();
        // The next head begins now and has the full time.
        drop(responding);
        let begun = Instant::now();
        head.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(begun.elapsed().as_secs(), 40);
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused() {
        let (mut head, state, mut far) = connection();
        let client = tokio::spawn(async move {
            // An earlier request and its body do not count.
            far.write_all(&vec![b'x'; 2 * HEAD_BYTES_MAX]).await.unwrap();
            far.write_all(&vec![b'y'; 2 * HEAD_BYTES_MAX]).await.unwrap_err();
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            received
        });
        let responding = state.respond(|| ());
        head.read_exact(&mut vec![0; 2 * HEAD_BYTES_MAX]).await.unwrap();
        drop(responding);
        let mut read = Vec::new();
        head.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, vec![b'y'; HEAD_BYTES_MAX]);
        drop(head);
        assert_eq!(client.await.unwrap(), LINE_TOO_LONG);
    }

    #[tokio::test]
    async fn bytes_that_hyper_has_not_written_are_counted() {
        let (mut head, state, mut far) = connection();
        let unwritten = || state.0.unwritten();
        state.hand_out(3000);
        assert_eq!(unwritten(), 3000);
        // The head of the response has 100 bytes, and the client takes 1024.
        let written = head.write_vectored(&[IoSlice::new(&[0; 100]), IoSlice::new(&[0; 3000])]).await.unwrap();
        assert_eq!((written, unwritten()), (1024, 2076));
        state.hand_out(10);
        assert_eq!(unwritten(), 2086);
        far.read_exact(&mut [0; 1024]).await.unwrap();
        assert_eq!(head.write(&[0; 500]).await.unwrap(), 500);
        assert_eq!(unwritten(), 0);
    }

    #[tokio::test]
    async fn a_request_is_in_flight_until_its_response_is_written() {
        let (near, _far) = tokio::io::duplex(1024);
        let (state, request) = (ConnectionState::new(), Arc::new(()));
        let mut head = HeadTimeout::new(near, PATIENCE, state.clone());
        let responding = state.respond(|| Arc::clone(&request));
        assert!(Arc::ptr_eq(responding.in_flight(), &request));
        drop(responding);
        assert_eq!(Arc::strong_count(&request), 2);
        head.flush().await.unwrap();
        assert_eq!(Arc::strong_count(&request), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_before_a_head_does_not_count() {
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
