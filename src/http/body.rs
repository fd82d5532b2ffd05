//! [`Body`]: what an answer consists of: bytes, parts of files, or both in turn.

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

use super::access_log::Observer;
use crate::oci::ByteRange;

/// How much of a file is read at once; two such pieces are in memory while one is being sent.
const READ_BYTES: u64 = 256 * 1024;

/// A piece of a file that is larger is read by another thread, also if it is in memory.
const CACHED_BYTES_MAX: usize = 64 * 1024;

/// The body of an answer. Its length is always known.
#[derive(Debug, Default)]
pub struct Body {
    segments: VecDeque<Segment>,
    /// Bytes not yet handed out.
    left: u64,
    /// Bytes handed out.
    sent: u64,
    /// The piece of a file that is being read.
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// Told when the body ends, at its end or before.
    observer: Option<Box<Observer>>,
}

#[derive(Debug)]
enum Segment {
    Bytes(Bytes),
    File { file: Arc<File>, range: ByteRange },
}

impl Segment {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { range, .. } => range.length(),
        }
    }
}

/// Bytes of a file.
#[derive(Clone, Debug)]
pub(crate) struct FilePart {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// These bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let mut body = Self::default();
        body.push(Segment::Bytes(bytes.into()));
        body
    }

    /// How many bytes there are still to come.
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

    /// Lets somebody know when the body ends.
    pub(super) fn observe(&mut self, observer: Observer) {
        self.observer = Some(Box::new(observer));
    }

    /// Hands out what comes next if it is at least `least` bytes of a file that are not being read already, and at
    /// most `most` of them.
    pub(crate) fn take_file(&mut self, least: u64, most: u64) -> Option<FilePart> {
        if self.reading.is_some() {
            return None;
        }
        let Some(Segment::File { file, range }) = self.segments.front_mut() else { return None };
        if range.length() < least {
            return None;
        }
        let (file, offset, length) = (Arc::clone(file), range.first, range.length().min(most));
        if length == range.length() {
            self.segments.pop_front();
        } else {
            range.first += length;
        }
        self.left -= length;
        self.sent += length;
        Some(FilePart { file, offset, length })
    }

    fn hand_out(&mut self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
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

    /// The segments at the front that are small and in memory, as one piece: copying them takes less time than asking
    /// another thread, and than a frame for each of a thousand ranges.
    fn gather_cached(&mut self) -> Option<Bytes> {
        let mut gathered = Vec::new();
        while let Some(segment) = self.segments.front() {
            let begun = gathered.len();
            let length = usize::try_from(segment.length()).unwrap_or(usize::MAX);
            if length > CACHED_BYTES_MAX - begun {
                break;
            }
            match segment {
                Segment::Bytes(bytes) => gathered.extend_from_slice(bytes),
                Segment::File { file, range } => {
                    gathered.resize(begun + length, 0);
                    if !read_cached(file, range.first, &mut gathered[begun..]) {
                        gathered.truncate(begun);
                        break;
                    }
                }
            }
            self.segments.pop_front();
        }
        (!gathered.is_empty()).then(|| gathered.into())
    }

    /// Starts to read the next piece of the file at the front, and what follows it as far as that is small.
    fn read_ahead(&mut self) {
        let Some(Segment::File { file, range }) = self.segments.front_mut() else { return };
        let mut length = range.length().min(READ_BYTES);
        let mut batch = vec![Segment::File {
            file: Arc::clone(file),
            range: ByteRange { first: range.first, last: range.first + length - 1 },
        }];
        if range.length() == length {
            self.segments.pop_front();
        } else {
            range.first += length;
        }
        while let Some(segment) = self.segments.pop_front_if(|next| length + next.length() <= READ_BYTES) {
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
                }
                rest = behind;
            }
            Ok(Bytes::from(piece))
        }));
    }
}

/// Fills `piece` from what the system has in memory, without waiting for the disk; false if that is not all of it.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, offset: u64, piece: &mut [u8]) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let length = piece.len();
    preadv2(file, &mut [io::IoSliceMut::new(piece)], offset, ReadWriteFlags::NOWAIT) == Ok(length)
}

/// Nobody knows what is in memory.
#[cfg(not(target_os = "linux"))]
fn read_cached(_file: &File, _offset: u64, _piece: &mut [u8]) -> bool {
    false
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.reading.is_none() {
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
            self.read_ahead();
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        let piece = match read {
            Ok(Ok(piece)) => piece,
            // hyper ends the connection, and so the client learns that the body is not whole.
            Ok(Err(error)) => {
                tracing::error!(%error, "a blob could not be read to its end");
                return Poll::Ready(Some(Err(error)));
            }
            Err(error) => return Poll::Ready(Some(Err(io::Error::other(error)))),
        };
        // The next piece is read while this one is sent.
        self.read_ahead();
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
        if let Some(observer) = self.observer.take() {
            observer.ended(self.sent, self.left);
        }
    }
}
