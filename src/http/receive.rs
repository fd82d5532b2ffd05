//! Bytes from a connection into an upload: received on one thread while others are hashed and
//! written on another.
//!
//! The receiving, and what follows from it, runs in a task of its own: hyper drops a handler when its
//! client goes away, and what had arrived until then is to be kept, or to be finished. No client, however slow, holds a thread: a batch is
//! written when it is full, or when nothing more is there to be read at the moment. So batches grow
//! with the speed of the client, and an idle upload holds no memory.

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::blocking;
use super::error::ApiError;
use super::request::{Incoming, length_differs};
use crate::oci::{ChunkRange, Digest};
use crate::repository::{self, Upload};

/// A batch is written at the latest when it has this many bytes; twice as many can be in memory.
const BATCH_BYTES: usize = 512 * 1024;
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
        let mark = upload.mark();
        let mut upload = take_in(upload, incoming, range).await?;
        blocking(move || match upload.verify(digest) {
            Ok(()) => upload.finish(digest),
            Err(error) => upload.rewind(mark).and(Err(error)),
        })
        .await
    };
    work.spawn(received).await?
}

/// Appends a whole body.
async fn take_in(upload: Upload, incoming: Incoming, range: Option<ChunkRange>) -> Result<Upload, ApiError> {
    let mark = upload.mark();
    let Received { mut upload, count, broken } = run(upload, Intake::new(incoming)).await?;
    if let Some(error) = broken {
        return Err(error);
    }
    match range.filter(|range| range.length() != count) {
        None => Ok(upload),
        Some(range) => {
            blocking(move || upload.rewind(mark)).await?;
            Err(length_differs(range))
        }
    }
}

/// An upload after a body has been received into it.
struct Received {
    upload: Upload,
    /// How many bytes came.
    count: u64,
    /// Why no more came, if not because that was all.
    broken: Option<ApiError>,
}

/// What has arrived and is not written yet.
struct Intake {
    incoming: Incoming,
    batch: Vec<Bytes>,
    size: usize,
    ended: bool,
    broken: Option<ApiError>,
}

impl Intake {
    fn new(incoming: Incoming) -> Self {
        Self { incoming, batch: Vec::new(), size: 0, ended: false, broken: None }
    }

    fn wants_more(&self) -> bool {
        !self.ended && self.size < BATCH_BYTES
    }

    fn add(&mut self, next: Result<Option<Bytes>, ApiError>) {
        match next {
            Ok(Some(bytes)) => {
                self.size += bytes.len().max(PIECE_BYTES_MIN);
                self.batch.push(bytes);
            }
            Ok(None) => self.ended = true,
            Err(error) => {
                self.ended = true;
                self.broken = Some(error);
            }
        }
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

    fn batch(&mut self) -> Vec<Bytes> {
        self.size = 0;
        std::mem::take(&mut self.batch)
    }
}

/// Who has the upload: nobody, or a batch that is being written. Boxed once, since it goes to and
/// fro with every batch.
enum Writer {
    Idle(Box<Upload>),
    Busy(JoinHandle<(Box<Upload>, Result<(), repository::Error>)>),
}

async fn run(upload: Upload, mut intake: Intake) -> Result<Received, ApiError> {
    let start = upload.offset();
    let mut writer = Writer::Idle(Box::new(upload));
    loop {
        intake.fill().await;
        writer = match writer {
            Writer::Idle(upload) if intake.size > 0 => write(upload, intake.batch()),
            Writer::Idle(upload) if intake.ended => {
                let count = upload.offset() - start;
                return Ok(Received { upload: *upload, count, broken: intake.broken });
            }
            Writer::Idle(upload) => {
                intake.wait().await;
                Writer::Idle(upload)
            }
            Writer::Busy(mut writing) if intake.wants_more() => tokio::select! {
                written = &mut writing => Writer::Idle(finished(written)?),
                () = intake.wait() => Writer::Busy(writing),
            },
            Writer::Busy(writing) => Writer::Idle(finished(writing.await)?),
        };
    }
}

fn write(mut upload: Box<Upload>, batch: Vec<Bytes>) -> Writer {
    Writer::Busy(tokio::task::spawn_blocking(move || {
        let result = upload.append(&batch);
        (upload, result)
    }))
}

type Written = Result<(Box<Upload>, Result<(), repository::Error>), tokio::task::JoinError>;

fn finished(written: Written) -> Result<Box<Upload>, ApiError> {
    let (upload, result) = written?;
    result?;
    Ok(upload)
}
