//! [`Fills`]: blobs that are being fetched from an upstream, each once for all who want it.
//!
//! A fill writes the blob to an upload of its repository, and tells its readers how far it is. Readers read the file of the
//! upload. The last byte is withheld until the digest is verified and the blob is durable, so a reader of a wrong blob sees
//! a broken transfer. A fill continues without readers. After a broken connection, and after a restart, it continues where
//! it stopped.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::client::{self, Client, Download, Effort};
use super::destination::Destination;
use super::error::Error;
use super::room::Reserved;
use crate::content::repository::{self, Upload};
use crate::kit::log_limit::LogLimit;
use crate::kit::metrics::UpstreamCounters;
use crate::kit::traces;
use crate::oci::{Digest, RepositoryName};

/// How often a fill continues although the last connection sent nothing.
const FRUITLESS_MAX: u32 = 5;
/// The pause before a fill continues.
const PAUSE: Duration = Duration::from_millis(500);
/// The pieces of a body that wait for the writer. hyper's pieces have up to 256 KiB.
const WAITING_PIECES_MAX: usize = 16;
/// The effort for the head of each response.
const EFFORT: Effort = Effort { retries: 2, wait: Duration::from_secs(15), insists: false };

/// A blob while it arrives.
#[derive(Clone, Debug)]
pub(crate) struct Growing {
    pub(crate) file: Arc<File>,
    pub(crate) size: u64,
    progress: watch::Receiver<State>,
}

impl Growing {
    /// Waits until more than `offset` bytes can be read, and returns how many can. Fails if the blob does not arrive.
    pub(crate) async fn readable(&mut self, offset: u64) -> Result<u64, Error> {
        let reached = |state: &State| match state {
            State::Starting => false,
            State::Filling { available, .. } => *available > offset,
            State::Done { .. } | State::Failed(_) => true,
        };
        let state = self.progress.wait_for(reached).await.map_err(|_| Error::Stopped)?;
        match &*state {
            // The upstream announced another size to those who read.
            State::Filling { size, available, .. } if *size != self.size => Err(Error::Ended { received: *available }),
            State::Filling { available, .. } => Ok(*available),
            State::Done { size, .. } if *size != self.size => Err(Error::Ended { received: *size }),
            State::Done { size, .. } => Ok(*size),
            State::Starting => Err(Error::Stopped),
            State::Failed(error) => Err(error.clone()),
        }
    }
}

#[derive(Clone, Debug)]
enum State {
    /// The size is not known yet.
    Starting,
    Filling {
        file: Arc<File>,
        size: u64,
        available: u64,
    },
    Done {
        file: Arc<File>,
        size: u64,
    },
    Failed(Error),
}

/// The source of a blob.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) destination: Destination,
    pub(super) name: RepositoryName,
    pub(super) digest: Digest,
    /// The clients of the upstream, in the order in which they are tried.
    pub(super) clients: Vec<Client>,
    /// The repository at the upstream.
    pub(super) remote: RepositoryName,
    /// The size of the blob, if a manifest says it.
    pub(super) size: Option<u64>,
    pub(super) counters: UpstreamCounters,
}

type Running = Mutex<HashMap<(RepositoryName, Digest), watch::Receiver<State>>>;

/// The fills that are running.
#[derive(Debug)]
pub(super) struct Fills {
    running: Arc<Running>,
    /// Limits the log lines about fills that fail.
    failures: Arc<LogLimit>,
    /// Cancelled when the server stops. The bytes so far stay.
    stopping: Mutex<CancellationToken>,
}

impl Fills {
    pub(super) fn new() -> Self {
        let failures = Arc::new(LogLimit::default());
        Self { running: Arc::default(), failures, stopping: Mutex::default() }
    }

    /// Joins the fill of a blob, or starts it. Returns when its size is known.
    pub(super) async fn join(&self, source: Source) -> Result<Growing, Error> {
        let key = (source.name.clone(), source.digest);
        let mut progress = {
            let mut running = self.running.lock();
            if let Some(progress) = running.get(&key) {
                progress.clone()
            } else {
                let progress = self.start(source, key.clone());
                running.insert(key, progress.clone());
                progress
            }
        };
        let started = progress.wait_for(|state| !matches!(state, State::Starting)).await;
        let state = started.map_err(|_| Error::Stopped)?.clone();
        match state {
            State::Filling { file, size, .. } | State::Done { file, size } => Ok(Growing { file, size, progress }),
            State::Failed(error) => Err(error),
            State::Starting => Err(Error::Stopped),
        }
    }

    fn start(&self, source: Source, key: (RepositoryName, Digest)) -> watch::Receiver<State> {
        let (sender, progress) = watch::channel(State::Starting);
        let (running, stopping) = (Arc::clone(&self.running), self.stopping.lock().clone());
        let failures = Arc::clone(&self.failures);
        let work = source.destination.work.clone();
        let filling = async move {
            let filled = tokio::select! {
                filled = fill(&source, &sender) => filled,
                () = stopping.cancelled() => Err(Error::Stopped),
            };
            // A request that comes after this finds the blob, or starts another fill.
            running.lock().remove(&key);
            if let Err(error) = filled {
                let Source { name, digest, .. } = &source;
                if let Some(count) = failures.pass() {
                    tracing::warn!(%name, %digest, %error, count, "could not mirror a blob");
                }
                sender.send_replace(State::Failed(error));
            }
        };
        // The first request that waits for the blob has the requests to the upstream in its trace.
        work.spawn(traces::in_current(filling));
        progress
    }

    /// Cancelled when the server stops.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.stopping.lock().clone()
    }

    /// Ends all fills.
    pub(super) fn stop(&self) {
        // The registry may be served again.
        std::mem::take(&mut *self.stopping.lock()).cancel();
    }
}

impl Drop for Fills {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Fetches a blob and stores it.
async fn fill(source: &Source, progress: &watch::Sender<State>) -> Result<(), Error> {
    let mut reserved = None;
    let size = fetch(source, progress, &mut reserved).await?;
    reserved.unwrap_or_else(|| source.destination.room.reserve(size)).hold();
    Ok(())
}

/// Fetches a blob and stores it. Returns its size, which is `reserved` from when it is known. If the disk is full, evicts
/// other content and tries once more.
async fn fetch(
    source: &Source,
    progress: &watch::Sender<State>,
    reserved: &mut Option<Reserved>,
) -> Result<u64, Error> {
    let Source { destination, digest, .. } = source;
    let repository = &destination.repository;
    let mut has_evicted = false;
    let mut upload = repository.mirror_upload(*digest).await?;
    let mut file = Arc::new(upload.reader()?);
    let mut fruitless = 0;
    let mut promised = source.size;
    loop {
        let begun = upload.offset();
        let mut download = match request(source, begun, promised).await {
            Ok(download) => download,
            // The upload has all bytes already, or wrong ones.
            Err(Error::Upstream(error)) if begun > 0 && error.is_range() => {
                match finish(source, upload, &file, progress).await {
                    // A client may have some of the wrong bytes, so the right ones cannot follow.
                    Err(Error::Store(error))
                        if error.is_wrong_digest() && matches!(*progress.borrow(), State::Starting) => {}
                    finished => return finished,
                }
                upload = repository.mirror_upload(*digest).await?;
                file = Arc::new(upload.reader()?);
                continue;
            }
            Err(error) => return give_up(source, upload, error).await,
        };
        if download.offset < begun {
            // The upstream sends the whole blob again.
            upload = destination.run(move || upload.clear().map(|()| upload)).await?;
        }
        let size = download.size;
        promised = Some(size);
        if reserved.is_none() {
            *reserved = Some(source.destination.room.reserve(size));
        }
        let transferred;
        let offset = upload.offset();
        (upload, transferred) = match transfer(destination, upload, &mut download, &file, progress).await {
            Err(Error::Store(error)) if error.is_no_space() => {
                tracing::warn!(name = %source.name, %digest, %error, "the disk is full while a blob is mirrored");
                upload = repository.mirror_upload(*digest).await?;
                let freeing = repository.clone();
                if !has_evicted && destination.run(move || freeing.make_room(size)).await? {
                    has_evicted = true;
                    continue;
                }
                destination.run(move || upload.cancel()).await?;
                return Err(Error::Store(error));
            }
            transferred => transferred?,
        };
        source.counters.bytes.inc_by(upload.offset().saturating_sub(offset));
        let error = match transferred {
            Ok(()) if size == upload.offset() => break,
            Ok(()) => Error::Ended { received: upload.offset() },
            Err(error) => Error::Upstream(error),
        };
        fruitless = if upload.offset() > begun { 0 } else { fruitless + 1 };
        if fruitless > FRUITLESS_MAX || !error.is_transient() {
            return give_up(source, upload, error).await;
        }
        tracing::info!(name = %source.name, %digest, %error, offset = upload.offset(), "continuing a blob");
        sleep(PAUSE).await;
    }
    finish(source, upload, &file, progress).await
}

/// Ends a fill. Its bytes stay for the next one, unless they may be wrong.
async fn give_up(source: &Source, upload: Upload, error: Error) -> Result<u64, Error> {
    if upload.offset() == 0 || matches!(&error, Error::Upstream(error) if error.is_invalid()) {
        source.destination.run(move || upload.cancel()).await?;
    }
    Err(error)
}

/// Requests a blob from the first client that has it. `size` is its size, if a manifest or an earlier response says it.
async fn request(source: &Source, offset: u64, size: Option<u64>) -> Result<Download, Error> {
    let mut failure = None;
    for client in &source.clients {
        match client.blob(&source.remote, source.digest, offset, size, EFFORT).await {
            Ok(Some(download)) => return Ok(download),
            Ok(None) => {}
            Err(error) => failure = Some(failure.unwrap_or(error)),
        }
    }
    Err(failure.map_or(Error::NotFound, Error::Upstream))
}

type Transferred = (Upload, Result<(), client::Error>);

/// Appends what arrives to the upload. A thread writes while the task receives.
async fn transfer(
    destination: &Destination,
    mut upload: Upload,
    download: &mut Download,
    file: &Arc<File>,
    progress: &watch::Sender<State>,
) -> Result<Transferred, Error> {
    let (pieces, mut arrived) = mpsc::channel::<Bytes>(WAITING_PIECES_MAX);
    let (size, file, announcing) = (download.size, Arc::clone(file), progress.clone());
    let announce = move |written: u64| {
        // The last byte comes when the digest is verified.
        let available = written.min(size.saturating_sub(1));
        announcing.send_replace(State::Filling { file: Arc::clone(&file), size, available });
    };
    announce(upload.offset());
    let writing = destination.spawn(move || {
        let mut batch = Vec::new();
        while arrived.blocking_recv_many(&mut batch, WAITING_PIECES_MAX) > 0 {
            upload.append(&batch)?;
            announce(upload.offset());
            batch.clear();
        }
        Ok(upload)
    });
    let received = loop {
        match download.next().await {
            Ok(Some(piece)) => {
                // The writer ends early only if it has failed.
                if pieces.send(piece).await.is_err() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    drop(pieces);
    Ok((writing.await??, received))
}

/// Makes the upload a blob, if its bytes have the digest. Otherwise removes it. Returns its size.
async fn finish(
    source: &Source,
    mut upload: Upload,
    file: &Arc<File>,
    progress: &watch::Sender<State>,
) -> Result<u64, Error> {
    let (digest, size) = (source.digest, upload.offset());
    let repository = source.destination.repository.clone();
    let finished = source.destination.run(move || match upload.verify(digest) {
        Ok(()) => {
            upload.finish_mirrored(digest)?;
            repository.refresh_facts_of(digest)
        }
        Err(error @ repository::Error::DigestMismatch { .. }) => upload.cancel().and(Err(error)),
        Err(error) => Err(error),
    });
    finished.await?;
    progress.send_replace(State::Done { file: Arc::clone(file), size });
    Ok(size)
}
