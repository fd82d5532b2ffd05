//! Bytes from a connection into an upload: received on one thread while others are hashed and
//! written on another.
//!
//! The receiving, and what follows from it, runs in a task of its own: hyper drops a handler when its
//! client goes away, and what had arrived until then is to be kept, or to be finished. No client, however slow, holds a
//! thread: a batch is written when it is full, or when nothing more is there to be read at the moment. So batches grow
//! with the speed of the client, and an idle upload holds no memory. Of a client that is faster than the disk the next
//! batch waits when one is written, and the thread that writes goes on with it.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio_util::task::TaskTracker;

use super::error::ApiError;
use super::request::{Incoming, length_differs};
use crate::content::repository::{self, Upload};
use crate::oci::{ChunkRange, Digest};

/// A batch is written at the latest when it has this many bytes; three times as many can be in memory: one batch is
/// written, one waits, and one is filled. Full batches end where a multiple of this does in the upload, so that the
/// page cache has them in one piece.
const BATCH_BYTES: usize = 256 * 1024;
/// After so many batches a thread takes its turn again behind what else waits for one.
const TURN_BATCHES: usize = 16;
/// A piece counts as so many bytes at least: the smallest chunk of a body takes that much memory, not its length.
const PIECE_BYTES_MIN: usize = 256;

/// Receives the next bytes of an upload, and says how many it has then. What comes of a body that
/// breaks off is kept; a body that is not as long as its `Content-Range` leaves the upload as it was.
pub(super) async fn receive(
    work: &TaskTracker,
    upload: Upload,
    incoming: Incoming,
    range: Option<ChunkRange>,
) -> Result<u64, ApiError> {
    work.spawn(async move { Ok(take_in(upload, incoming, range).await?.offset()) }).await?
}

/// Receives the last bytes of an upload, and makes it a blob. An upload whose content is not that of
/// the digest is left as it was, so that the client may send the end again.
pub(super) async fn receive_last(
    work: &TaskTracker,
    upload: Upload,
    incoming: Incoming,
    range: Option<ChunkRange>,
    digest: Digest,
) -> Result<(), ApiError> {
    let received = async move {
        let checkpoint = upload.checkpoint();
        let mut upload = take_in(upload, incoming, range).await?;
        let finishing = spawn_blocking(move || match upload.verify(digest) {
            Ok(()) => upload.finish(digest),
            Err(error) => upload.rewind(checkpoint).and(Err(error)),
        });
        Ok(finishing.await??)
    };
    work.spawn(received).await?
}

/// Appends a whole body.
async fn take_in(upload: Upload, incoming: Incoming, range: Option<ChunkRange>) -> Result<Upload, ApiError> {
    let checkpoint = upload.checkpoint();
    let ReceivedBody { mut upload, count, broken } = run(upload, incoming).await?;
    if let Some(error) = broken {
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

/// An upload after a body has been received into it.
struct ReceivedBody {
    upload: Upload,
    /// How many bytes came.
    count: u64,
    /// Why no more came, if not because that was all.
    broken: Option<ApiError>,
}

/// What has arrived and is not handed over yet.
struct Batcher {
    incoming: Incoming,
    batch: Vec<Bytes>,
    size: usize,
    /// What its pieces take of memory, in bytes.
    cost: usize,
    /// The batch is full with as many bytes.
    room: usize,
    ended: bool,
    broken: Option<ApiError>,
}

impl Batcher {
    /// Of a body whose bytes belong at a place in an upload.
    fn new(incoming: Incoming, offset: u64) -> Self {
        let room = BATCH_BYTES - usize::try_from(offset % BATCH_BYTES as u64).unwrap_or_default();
        Self { incoming, batch: Vec::new(), size: 0, cost: 0, room, ended: false, broken: None }
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
                self.broken = Some(error);
            }
        }
    }

    fn push(&mut self, bytes: Bytes) {
        self.size += bytes.len();
        self.cost += bytes.len().max(PIECE_BYTES_MIN);
        self.batch.push(bytes);
    }

    /// Takes what is there, without waiting.
    async fn fill(&mut self) {
        while self.wants_more() {
            match self.incoming.next_now().await {
                Some(next) => self.add(next),
                None => break,
            }
        }
    }

    /// Waits for more.
    async fn wait(&mut self) {
        let next = self.incoming.next().await;
        self.add(next);
    }

    /// The batch as it is, without what there is no room for: that is the beginning of the next.
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

/// An upload, and the batches that are handed over to whoever writes to it.
struct UploadWriter {
    upload: Upload,
    batches: mpsc::Receiver<Vec<Bytes>>,
}

/// Who has the upload: nobody, or a thread that writes to it. Boxed once, since it goes to and fro.
enum WriterState {
    Idle(Box<UploadWriter>),
    Busy(JoinHandle<(Box<UploadWriter>, Result<(), repository::Error>)>),
}

async fn run(upload: Upload, incoming: Incoming) -> Result<ReceivedBody, ApiError> {
    let start = upload.offset();
    let mut batcher = Batcher::new(incoming, start);
    let (hand_over, batches) = mpsc::channel(1);
    let mut writer = WriterState::Idle(Box::new(UploadWriter { upload, batches }));
    loop {
        batcher.fill().await;
        writer = match writer {
            WriterState::Idle(writer) if !writer.batches.is_empty() => write(writer),
            WriterState::Idle(writer) if batcher.size > 0 => {
                hand_over.try_send(batcher.batch()).map_err(ApiError::internal)?;
                write(writer)
            }
            WriterState::Idle(writer) if batcher.ended => {
                let upload = writer.upload;
                return Ok(ReceivedBody { count: upload.offset() - start, upload, broken: batcher.broken });
            }
            WriterState::Idle(writer) => {
                batcher.wait().await;
                WriterState::Idle(writer)
            }
            WriterState::Busy(mut writing) if batcher.wants_more() => tokio::select! {
                written = &mut writing => WriterState::Idle(finished(written)?),
                () = batcher.wait() => WriterState::Busy(writing),
            },
            WriterState::Busy(mut writing) if batcher.size > 0 => tokio::select! {
                written = &mut writing => WriterState::Idle(finished(written)?),
                Ok(place) = hand_over.reserve() => {
                    place.send(batcher.batch());
                    WriterState::Busy(writing)
                }
            },
            WriterState::Busy(writing) => WriterState::Idle(finished(writing.await)?),
        };
    }
}

fn write(mut writer: Box<UploadWriter>) -> WriterState {
    WriterState::Busy(spawn_blocking(move || {
        let mut result = Ok(());
        for _ in 0..TURN_BATCHES {
            let Ok(batch) = writer.batches.try_recv() else { break };
            result = writer.upload.append(&batch);
            if result.is_err() {
                break;
            }
        }
        (writer, result)
    }))
}

type Written = Result<(Box<UploadWriter>, Result<(), repository::Error>), JoinError>;

fn finished(written: Written) -> Result<Box<UploadWriter>, ApiError> {
    let (writer, result) = written?;
    result?;
    Ok(writer)
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

    /// What comes of a body in such pieces, for an upload that has come to `offset`: batches.
    async fn batches(offset: u64, pieces: &[Bytes]) -> Vec<Vec<Bytes>> {
        let frames: Vec<_> = pieces.iter().map(|piece| Ok::<_, BoxError>(Frame::data(piece.clone()))).collect();
        let body = UnsyncBoxBody::new(StreamBody::new(stream::iter(frames)));
        let mut batcher = Batcher::new(RequestBody::new(body, Duration::from_secs(1)).take(), offset);
        let mut batches = Vec::new();
        loop {
            batcher.fill().await;
            if batcher.size == 0 {
                assert!(batcher.ended && batcher.broken.is_none());
                return batches;
            }
            batches.push(batcher.batch());
        }
    }

    #[tokio::test]
    async fn full_batches_end_at_multiples_and_lose_nothing() {
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
