//! [`Body`]: the body of a response: bytes, parts of files, or both in turn.

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use super::access_log::{AccessLogEntry, EndedBody};
use crate::kit::byte_budget::{ByteBudget, ReservedBytes};
use crate::kit::opaque_debug::opaque_debug;
use crate::mirror::{self, Growing};
use crate::oci::ByteRange;

/// The most bytes of a file that one read takes. While one piece is being sent, two are in memory.
const READ_BYTES: u64 = 256 * 1024;
/// The same when too many pieces are in memory. A client may open many HTTP/2 streams and read none of them.
const SMALL_READ_BYTES: u64 = 16 * 1024;
/// The largest piece that is copied from the page cache on this thread. It stays in the processor's cache until it is
/// encrypted, and makes four TLS records.
const CACHED_BYTES_MAX: usize = 64 * 1024;

/// The result of polling a body.
pub(crate) type PolledFrame = Poll<Option<Result<Frame<Bytes>, io::Error>>>;

/// The body of a response. Its length is always known.
#[derive(Debug, Default)]
pub struct Body {
    segments: VecDeque<Segment>,
    /// The number of bytes not yet handed out.
    left: u64,
    /// The number of bytes handed out.
    sent: u64,
    /// Whether the bytes in memory are counted or shared already, or so few that only the place of the request counts.
    is_reserved: bool,
    /// Limits the pieces of files in memory.
    pieces: Option<ByteBudget>,
    /// The piece of a file that is being read.
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// Waits for more bytes of the growing blob at the front.
    waiting: Option<Waiting>,
    /// Written when the body is dropped, unless the connection takes it before.
    log_entry: Option<Box<AccessLogEntry>>,
}

#[derive(Debug)]
enum Segment {
    Bytes(Bytes),
    File {
        file: Arc<File>,
        range: ByteRange,
    },
    /// A part of a blob that is still arriving from an upstream.
    Growing {
        growing: Growing,
        range: ByteRange,
    },
}

/// A growing blob, and how many of its bytes can be read.
type Reached = (Growing, Result<u64, mirror::Error>);

/// Waits until more bytes of a growing blob can be read.
struct Waiting(Pin<Box<dyn Future<Output = Reached> + Send + Sync>>);

opaque_debug!(Waiting);

impl Segment {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { range, .. } | Self::Growing { range, .. } => range.length(),
        }
    }
}

/// A part of a file.
#[derive(Clone, Debug)]
pub(crate) struct FilePart {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Body {
    /// Makes a body without bytes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Makes a body of these bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let mut body = Self::default();
        body.push(Segment::Bytes(bytes.into()));
        body
    }

    /// Makes a body of bytes that are counted or shared already, or too few to be counted.
    pub(super) fn reserved(bytes: Bytes) -> Self {
        let mut body = Self::bytes(bytes);
        body.is_reserved = true;
        body
    }

    /// The bytes in memory that are neither counted nor shared.
    pub(crate) fn unreserved(&self) -> u64 {
        if self.is_reserved {
            return 0;
        }
        let in_memory = |segment: &Segment| matches!(segment, Segment::Bytes(_)).then(|| segment.length());
        self.segments.iter().filter_map(in_memory).sum()
    }

    /// Keeps bytes reserved until the last segment in memory has been sent.
    pub(crate) fn hold(&mut self, reserved: ReservedBytes) {
        let mut in_memory = self.segments.iter_mut().rev().filter_map(|segment| match segment {
            Segment::Bytes(bytes) => Some(bytes),
            Segment::File { .. } | Segment::Growing { .. } => None,
        });
        if let Some(last) = in_memory.next() {
            *last = reserved.hold(std::mem::take(last));
        }
        self.is_reserved = true;
    }

    /// Limits the pieces of files in memory by a shared budget.
    pub(super) fn limit_pieces(&mut self, budget: &ByteBudget) {
        if self.has_files() {
            self.pieces = Some(budget.clone());
        }
    }

    /// Whether bytes that are still to come are not in memory.
    pub(crate) fn has_files(&self) -> bool {
        self.segments.iter().any(|segment| !matches!(segment, Segment::Bytes(_)))
    }

    /// The number of bytes that are still to come.
    pub fn length(&self) -> u64 {
        self.left
    }

    /// Adds bytes at the end.
    pub(crate) fn push_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.push(Segment::Bytes(bytes.into()));
    }

    /// Adds a part of a file at the end.
    pub(crate) fn push_file(&mut self, file: &Arc<File>, range: ByteRange) {
        self.push(Segment::File { file: Arc::clone(file), range });
    }

    /// Adds a part of a blob that is still arriving.
    pub(super) fn push_growing(&mut self, growing: Growing, range: ByteRange) {
        self.push(Segment::Growing { growing, range });
    }

    /// Adds the log entry that is written when the body is dropped.
    pub(super) fn log_at_end(&mut self, entry: AccessLogEntry) {
        self.log_entry = Some(Box::new(entry));
    }

    /// Ends the body, and takes its log entry away, so that the body does not write it. `None` if it has no log entry.
    pub(crate) fn end(&mut self) -> Option<EndedBody> {
        let entry = self.log_entry.take()?;
        Some(EndedBody::new(entry, self.sent, self.left == 0))
    }

    /// Returns at most `most` bytes of the file that comes next, without handing them out. Returns `None` if another thread
    /// is reading already, or if fewer than `least` bytes of a file come next.
    pub(crate) fn next_file(&self, least: u64, most: u64) -> Option<FilePart> {
        if self.reading.is_some() {
            return None;
        }
        let Some(Segment::File { file, range }) = self.segments.front() else { return None };
        let length = range.length().min(most);
        (range.length() >= least).then(|| FilePart { file: Arc::clone(file), offset: range.first, length })
    }

    /// Counts a part as handed out that [`Body::next_file`] has returned.
    pub(crate) fn skip_file(&mut self, length: u64) {
        let Some(Segment::File { range, .. }) = self.segments.front_mut() else { return };
        if length == range.length() {
            self.segments.pop_front();
        } else {
            range.first += length;
        }
        self.left -= length;
        self.sent += length;
    }

    fn hand_out(&mut self, bytes: Bytes) -> PolledFrame {
        self.left -= bytes.len() as u64;
        self.sent += bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn push(&mut self, segment: Segment) {
        let length = segment.length();
        if length > 0 {
            self.left += length;
            self.segments.push_back(segment);
        }
    }

    /// Copies what comes next and is in memory into one piece: small segments, or the beginning of a large one. That takes
    /// less time than another thread would, or a frame for each of a thousand ranges.
    fn gather_cached(&mut self) -> Option<Bytes> {
        // Few bytes need no reservation.
        let (most, reserved) = match self.left {
            ..=SMALL_READ_BYTES => (SMALL_READ_BYTES, None),
            left => self.reserve_piece(left.min(CACHED_BYTES_MAX as u64)),
        };
        let most = usize::try_from(most).unwrap_or(CACHED_BYTES_MAX);
        let mut gathered = Vec::new();
        while gathered.len() < most
            && let Some(segment) = self.segments.front_mut()
        {
            let begun = gathered.len();
            let length = usize::try_from(segment.length()).unwrap_or(usize::MAX);
            let part = length.min(most - begun);
            match segment {
                Segment::Bytes(bytes) if part == length => gathered.extend_from_slice(bytes),
                Segment::File { file, range } => {
                    gathered.resize(begun + part, 0);
                    if !read_cached(file, range.first, &mut gathered[begun..]) {
                        gathered.truncate(begun);
                        break;
                    }
                    range.first += part as u64;
                }
                Segment::Bytes(_) | Segment::Growing { .. } => break,
            }
            if part == length {
                self.segments.pop_front();
            }
        }
        let piece = (!gathered.is_empty()).then(|| Bytes::from(gathered))?;
        Some(match reserved {
            Some(reserved) => reserved.hold(piece),
            None => piece,
        })
    }

    /// Reserves memory for a piece of `wanted` bytes. Returns the bytes that the piece may have, and the memory. A piece is
    /// small if too many are in memory.
    fn reserve_piece(&self, wanted: u64) -> (u64, Option<ReservedBytes>) {
        let reserved = self.pieces.as_ref().and_then(|budget| budget.try_reserve(wanted));
        let is_short = self.pieces.is_some() && reserved.is_none();
        (if is_short { SMALL_READ_BYTES } else { wanted }, reserved)
    }

    /// Starts to read the next piece of the file at the front, and the small segments after it. If the piece is not needed
    /// yet, reads nothing while too many pieces are in memory.
    fn read_ahead(&mut self, is_needed: bool) {
        let Some(Segment::File { .. }) = self.segments.front() else { return };
        let (most, reserved) = self.reserve_piece(READ_BYTES);
        if most < READ_BYTES && !is_needed {
            return;
        }
        let Some(Segment::File { file, range }) = self.segments.front_mut() else { return };
        let mut length = range.length().min(most);
        let mut batch = vec![Segment::File {
            file: Arc::clone(file),
            range: ByteRange { first: range.first, last: range.first + length - 1 },
        }];
        if range.length() == length {
            self.segments.pop_front();
        } else {
            range.first += length;
        }
        let joins =
            |next: &Segment, length: u64| length + next.length() <= most && !matches!(next, Segment::Growing { .. });
        while let Some(segment) = self.segments.pop_front_if(|next| joins(next, length)) {
            length += segment.length();
            batch.push(segment);
        }
        self.reading = Some(tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; usize::try_from(length).unwrap_or_default()];
            let mut rest = &mut piece[..];
            for segment in batch {
                let (part, behind) = rest.split_at_mut(usize::try_from(segment.length()).unwrap_or_default());
                match segment {
                    Segment::Bytes(bytes) => part.copy_from_slice(&bytes),
                    Segment::File { file, range } => file.read_exact_at(part, range.first)?,
                    Segment::Growing { .. } => return Err(io::Error::other("a growing blob is not read ahead")),
                }
                rest = behind;
            }
            let piece = Bytes::from(piece);
            Ok(match reserved {
                Some(reserved) => reserved.hold(piece),
                None => piece,
            })
        }));
    }
}

impl Body {
    /// If a growing blob is at the front, waits until a part of it can be read, and puts that part before it.
    fn poll_growing(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(Segment::Growing { growing, range }) = self.segments.front_mut() else { return Poll::Ready(Ok(())) };
        let waiting = self.waiting.get_or_insert_with(|| {
            let (mut growing, offset) = (growing.clone(), range.first);
            Waiting(Box::pin(async move {
                let readable = growing.readable(offset).await;
                (growing, readable)
            }))
        });
        let (growing, readable) = ready!(waiting.0.as_mut().poll(context));
        self.waiting = None;
        // hyper ends the connection, so the client notices that the body is incomplete.
        let readable = readable.map_err(io::Error::other)?;
        let part = ByteRange { first: range.first, last: range.last.min(readable.saturating_sub(1)) };
        let file = Arc::clone(&growing.file);
        if part.last == range.last {
            self.segments.pop_front();
        } else {
            range.first = part.last + 1;
        }
        self.segments.push_front(Segment::File { file, range: part });
        Poll::Ready(Ok(()))
    }
}

/// Fills `piece` from the page cache without waiting for the disk. Returns false if a part is not there.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, offset: u64, piece: &mut [u8]) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let length = piece.len();
    preadv2(file, &mut [io::IoSliceMut::new(piece)], offset, ReadWriteFlags::NOWAIT) == Ok(length)
}

/// Other systems have no read that never waits for the disk.
#[cfg(not(target_os = "linux"))]
fn read_cached(_file: &File, _offset: u64, _piece: &mut [u8]) -> bool {
    false
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> PolledFrame {
        if self.reading.is_none() {
            if let Err(error) = ready!(self.poll_growing(context)) {
                return Poll::Ready(Some(Err(error)));
            }
            let is_alone = self.segments.len() == 1;
            if let Some(Segment::Bytes(bytes)) = self.segments.front_mut()
                && (is_alone || bytes.len() > CACHED_BYTES_MAX)
            {
                let bytes = std::mem::take(bytes);
                self.segments.pop_front();
                return self.hand_out(bytes);
            }
            if let Some(piece) = self.gather_cached() {
                return self.hand_out(piece);
            }
            if let Some(Segment::Bytes(bytes)) = self.segments.front_mut() {
                // Too many pieces are in memory for a joined one.
                let bytes = std::mem::take(bytes);
                self.segments.pop_front();
                return self.hand_out(bytes);
            }
            self.read_ahead(true);
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        let piece = match read {
            Ok(Ok(piece)) => piece,
            // hyper ends the connection, so the client notices that the body is incomplete.
            Ok(Err(error)) => {
                tracing::error!(%error, "a blob could not be read");
                return Poll::Ready(Some(Err(error)));
            }
            Err(error) => return Poll::Ready(Some(Err(io::Error::other(error)))),
        };
        // Another thread reads the next piece while this one is sent.
        self.read_ahead(false);
        self.hand_out(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(entry) = self.log_entry.take() {
            entry.write(self.sent, self.left > 0);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::io::Write as _;

    use http_body_util::BodyExt as _;

    use super::*;

    const LENGTH: u64 = 3 * READ_BYTES;

    fn body(file: &Arc<File>, budget: &ByteBudget) -> Body {
        let mut body = Body::empty();
        body.push_file(file, ByteRange { first: 0, last: LENGTH - 1 });
        body.limit_pieces(budget);
        body
    }

    async fn piece(body: &mut Body) -> Bytes {
        body.frame().await.unwrap().unwrap().into_data().unwrap()
    }

    #[tokio::test]
    async fn clients_that_do_not_read_a_blob_hold_few_bytes() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
        file.write_all(&content).unwrap();
        let (file, budget) = (Arc::new(file), ByteBudget::new(u32::try_from(4 * READ_BYTES).unwrap()));
        let mut unread = Vec::new();
        for is_cached in [true, false] {
            // Each of the first has a piece that is sent, and the next one if another thread reads.
            let (expected, count) = if is_cached { (CACHED_BYTES_MAX as u64, 16) } else { (READ_BYTES, 2) };
            for number in 0..count + 3 {
                let mut body = body(&file, &budget);
                if !is_cached {
                    body.read_ahead(true);
                }
                let piece = piece(&mut body).await;
                let expected = if number < count { expected } else { SMALL_READ_BYTES };
                assert_eq!(piece.len() as u64, expected);
                assert_eq!(body.reading.is_some(), !is_cached && number < count, "reads ahead");
                unread.push((body, piece));
            }
            if is_cached {
                unread.clear();
            }
        }
        // A client that reads slowly gets the whole blob, and full speed when the others are gone.
        let (mut slow, first) = unread.pop().unwrap();
        let mut received = first.to_vec();
        received.extend_from_slice(&piece(&mut slow).await);
        assert_eq!(received.len() as u64, 2 * SMALL_READ_BYTES);
        drop((first, unread));
        while received.len() < content.len() {
            received.extend_from_slice(&piece(&mut slow).await);
        }
        assert!(received == content && slow.frame().await.is_none());
        drop(slow);
        assert!(budget.try_reserve(4 * READ_BYTES).is_some());
    }
}
