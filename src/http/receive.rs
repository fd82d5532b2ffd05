//! Receives the body of a request into an upload. One thread receives while another one hashes and writes.
//!
//! Receiving runs in a task of its own, because hyper drops a handler when its client disconnects. The bytes that have
//! arrived by then are kept. A client never holds a thread, however slow it is. A batch is written when it is full, or when
//! no more bytes have arrived. So batches grow with the speed of the client, and an idle upload uses no memory. If the
//! client outpaces the disk, one full batch waits and the writer thread takes it next.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::task::TaskTracker;

use super::error::ApiError;
use super::request::{Incoming, length_differs};
use crate::content::repository::{self, Upload};
use crate::oci::{ChunkRange, Digest};

/// The largest batch. Three of them can be in memory: one is written, one waits, and one is filled. Full batches end at
/// multiples of this in the upload, so that the page cache has each of them in one piece.
const BATCH_BYTES: usize = 256 * 1024;
/// The most batches that a thread writes before other blocking work may use it.
const THREAD_BATCHES_MAX: usize = 16;
/// The least memory that a piece of a body takes.
const PIECE_BYTES_MIN: usize = 256;

/// Receives the next bytes of an upload. Returns the length of the upload after that.
///
/// If a body ends early, the upload keeps the bytes that arrived. If the length of the body differs from its
/// `Content-Range`, the upload stays as it was.
pub(super) async fn receive(
    work: &TaskTracker,
    upload: Upload,
    incoming: Incoming,
    range: Option<ChunkRange>,
) -> Result<u64, ApiError> {
    work.spawn(async move { Ok(append_body(upload, incoming, range).await?.offset()) }).await?
}

/// Receives the last bytes of an upload and makes it a blob. If the content does not match the digest, the upload stays as
/// it was, so that the client can send the end again.
pub(super) async fn receive_last(
    work: &TaskTracker,
    upload: Upload,
    incoming: Incoming,
    range: Option<ChunkRange>,
    digest: Digest,
) -> Result<(), ApiError> {
    let received = async move {
        let checkpoint = upload.checkpoint();
        let mut upload = append_body(upload, incoming, range).await?;
        let finishing = spawn_blocking(move || match upload.verify(digest) {
            Ok(()) => upload.finish(digest),
            Err(error) => upload.rewind(checkpoint).and(Err(error)),
        });
        Ok(finishing.await??)
    };
    work.spawn(received).await?
}

/// Appends a whole body to an upload.
async fn append_body(upload: Upload, incoming: Incoming, range: Option<ChunkRange>) -> Result<Upload, ApiError> {
    let checkpoint = upload.checkpoint();
    let ReceivedBody { mut upload, count, error } = append(upload, incoming).await?;
    if let Some(error) = error {
        return Err(error);
    }
    match range.filter(|range| range.length() != count) {
        None => Ok(upload),
        Some(range) => {
            spawn_blocking(move || upload.rewind(checkpoint)).await??;
            Err(length_differs(range))
        }
    }
}

/// An upload after a body has been appended to it.
struct ReceivedBody {
    upload: Upload,
    /// The number of bytes that were appended.
    count: u64,
    /// The error that ended the body early.
    error: Option<ApiError>,
}

/// Collects the pieces of a body into batches.
struct Batcher {
    incoming: Incoming,
    batch: Vec<Bytes>,
    /// The bytes of the batch.
    size: usize,
    /// The memory of the batch.
    cost: usize,
    /// The size of a full batch.
    room: usize,
    ended: bool,
    error: Option<ApiError>,
}

impl Batcher {
    /// `offset` is the place of the body in its upload.
    fn new(incoming: Incoming, offset: u64) -> Self {
        let room = BATCH_BYTES - usize::try_from(offset % BATCH_BYTES as u64).unwrap_or_default();
        Self { incoming, batch: Vec::new(), size: 0, cost: 0, room, ended: false, error: None }
    }

    fn wants_more(&self) -> bool {
        !self.ended && self.size < self.room && self.cost < BATCH_BYTES
    }

    fn add(&mut self, next: Result<Option<Bytes>, ApiError>) {
        match next {
            Ok(Some(bytes)) => self.push(bytes),
            Ok(None) => self.ended = true,
            Err(error) => {
                self.ended = true;
                self.error = Some(error);
            }
        }
    }

    fn push(&mut self, bytes: Bytes) {
        self.size += bytes.len();
        self.cost += bytes.len().max(PIECE_BYTES_MIN);
        self.batch.push(bytes);
    }

    /// Takes the pieces that have arrived, without waiting.
    async fn fill(&mut self) {
        while self.wants_more() {
            match self.incoming.next_now().await {
                Some(next) => self.add(next),
                None => break,
            }
        }
    }

    /// Waits for the next piece.
    async fn wait(&mut self) {
        let next = self.incoming.next().await;
        self.add(next);
    }

    /// Takes the batch. The bytes beyond its room begin the next batch.
    fn batch(&mut self) -> Vec<Bytes> {
        let mut batch = std::mem::take(&mut self.batch);
        let over = self.size.saturating_sub(self.room);
        let rest = batch.last_mut().filter(|_| over > 0).map(|last| last.split_off(last.len() - over));
        let left = self.room - (self.size - over);
        self.room = if left == 0 { BATCH_BYTES } else { left };
        (self.size, self.cost) = (0, 0);
        if let Some(rest) = rest {
            self.push(rest);
        }
        batch
    }
}

/// Writes batches to an upload.
struct UploadWriter {
    upload: Upload,
    batches: mpsc::Receiver<Vec<Bytes>>,
}

/// Boxed, because the writer moves to a thread and back again and again.
enum WriterState {
    Idle(Box<UploadWriter>),
    Busy(JoinHandle<Result<Box<UploadWriter>, repository::Error>>),
}

impl UploadWriter {
    /// Writes the waiting batches on a thread for blocking work.
    fn start(mut self: Box<Self>) -> WriterState {
        WriterState::Busy(spawn_blocking(move || {
            for _ in 0..THREAD_BATCHES_MAX {
                let Ok(batch) = self.batches.try_recv() else { break };
                self.upload.append(&batch)?;
            }
            Ok(self)
        }))
    }
}

/// Appends a body to an upload, up to its end or its first error.
async fn append(upload: Upload, incoming: Incoming) -> Result<ReceivedBody, ApiError> {
    let start = upload.offset();
    let mut body = Batcher::new(incoming, start);
    let (sender, batches) = mpsc::channel(1);
    let mut state = WriterState::Idle(Box::new(UploadWriter { upload, batches }));
    loop {
        body.fill().await;
        state = match state {
            WriterState::Idle(writer) if !writer.batches.is_empty() => writer.start(),
            WriterState::Idle(writer) if body.size > 0 => {
                sender.try_send(body.batch()).map_err(ApiError::internal)?;
                writer.start()
            }
            WriterState::Idle(writer) if body.ended => {
                let upload = writer.upload;
                return Ok(ReceivedBody { count: upload.offset() - start, upload, error: body.error });
            }
            WriterState::Idle(writer) => {
                body.wait().await;
                WriterState::Idle(writer)
            }
            WriterState::Busy(mut writing) if body.wants_more() => tokio::select! {
                written = &mut writing => WriterState::Idle(written??),
                () = body.wait() => WriterState::Busy(writing),
            },
            WriterState::Busy(mut writing) if body.size > 0 => tokio::select! {
                written = &mut writing => WriterState::Idle(written??),
                Ok(place) = sender.reserve() => {
                    place.send(body.batch());
                    WriterState::Busy(writing)
                }
            },
            WriterState::Busy(writing) => WriterState::Idle(writing.await??),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use http_body_util::combinators::UnsyncBoxBody;

    use super::*;
    use crate::http::{BoxError, RequestBody};

    /// Returns the batches of a body of these pieces. The upload has `offset` bytes already.
    async fn batches(offset: u64, pieces: &[Bytes]) -> Vec<Vec<Bytes>> {
        let frames: Vec<_> = pieces.iter().map(|piece| Ok::<_, BoxError>(Frame::data(piece.clone()))).collect();
        let body = UnsyncBoxBody::new(StreamBody::new(stream::iter(frames)));
        let mut batcher =
            Batcher::new(RequestBody::new(body, Duration::from_secs(1), Duration::from_secs(1)).take(), offset);
        let mut found = Vec::new();
        loop {
            batcher.fill().await;
            if batcher.size == 0 {
                assert!(batcher.ended && batcher.error.is_none());
                return found;
            }
            found.push(batcher.batch());
        }
    }

    #[tokio::test]
    async fn full_batches_end_at_multiples_and_lose_no_bytes() {
        let noise = Bytes::from((0..1_000_003_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        for (offset, lengths) in [
            (0, vec![1_000_003]),
            (5, vec![16, 300_000, 1, 262_144, 70_000, 70_000, 0, 192_123]),
            (262_143, vec![1, 1, 262_144, 1]),
            (u64::from(u32::MAX), vec![65_536; 40]),
            (0, vec![1; 3000]),
        ] {
            let mut from = 0;
            let pieces: Vec<_> = lengths
                .iter()
                .map(|length| {
                    from += length;
                    noise.slice(from - length..from)
                })
                .collect();
            let mut reached = offset;
            let batches = batches(offset, &pieces).await;
            for (number, batch) in batches.iter().enumerate() {
                let size: usize = batch.iter().map(Bytes::len).sum();
                assert!(size <= BATCH_BYTES && batch.len() <= BATCH_BYTES / PIECE_BYTES_MIN, "{lengths:?} {number}");
                reached += size as u64;
                let is_full = batch.len() < BATCH_BYTES / PIECE_BYTES_MIN && number + 1 < batches.len();
                assert!(!is_full || reached.is_multiple_of(BATCH_BYTES as u64), "{lengths:?} {number}: {reached}");
            }
            assert_eq!(batches.concat().concat(), noise[..from], "{lengths:?}");
        }
    }
}
