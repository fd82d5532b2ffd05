//! [`Destination`]: the repository that gets what an upstream sends, and the limits that count it.
//!
//! Writes are blocking work. Work that has started runs to its end, and the registry waits for it when it stops. Otherwise
//! the data directory would still be in use after the stop. Knows no upstream and no request.

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::error::Error;
use super::room::Room;
use super::upstream::{Fetched, Upstream};
use super::{Mirror, client};
use crate::content::repository::{self, PutMirrored, Repository};
use crate::oci::{Reference, RepositoryName};

/// The repository that gets what an upstream sends.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) repository: Repository,
    pub(super) room: Room,
    /// The work that a stop of the registry waits for.
    pub(super) work: TaskTracker,
}

impl Mirror {
    /// The destination of what an upstream sends for a local repository.
    pub(super) fn destination(&self, upstream: &Upstream, name: &RepositoryName) -> Destination {
        Destination { repository: self.stores.repository(name), room: self.room(upstream), work: self.work.clone() }
    }
}

impl Destination {
    /// Starts blocking work.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, repository::Error> + Send + 'static,
    ) -> JoinHandle<Result<T, repository::Error>> {
        self.work.spawn_blocking(work)
    }

    /// Runs blocking work.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, repository::Error> + Send + 'static,
    ) -> Result<T, Error> {
        Ok(self.spawn(work).await??)
    }

    /// Stores a manifest of an upstream, and its tag if the reference is one.
    pub(super) async fn store(&self, reference: &Reference, fetched: Fetched) -> Result<(), Error> {
        let Fetched { manifest, host } = fetched;
        let tag = match reference {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        };
        let client::FetchedManifest { digest, media_type, bytes } = manifest;
        self.put(PutMirrored { digest, tag, media_type, bytes, upstream: host }).await
    }

    /// Stores a manifest. If the disk is full, evicts other content and tries once more.
    pub(super) async fn put(&self, put: PutMirrored) -> Result<(), Error> {
        let (size, repository) = (put.bytes.len() as u64, self.repository.clone());
        self.run(move || match repository.put_mirrored(put.clone()) {
            Err(error) if error.is_no_space() && repository.make_room(size)? => repository.put_mirrored(put),
            stored => stored,
        })
        .await?;
        self.room.add(size);
        Ok(())
    }
}
