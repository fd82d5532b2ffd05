//! Uploads: a blob on its way in.
//!
//! An upload is the file of its bytes and nothing else: no row. Its id is bound to the repository
//! by a keyed hash, so that an id of one repository means nothing in another, before and after a
//! restart. What is kept in memory, the hash so far, only saves work.
//!
//! A crash may interrupt [`Upload::finish`] anywhere: before the rename the upload goes on; after
//! it, and before the row, the upload is gone, its blob is durable and nobody links it. A failure there
//! makes the file an upload again, so that the client's last request can be repeated.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use sha2::Sha256;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::{Error, Repository, Stores};
use crate::content::blobs::{Checkpoint, Staging};
use crate::content::rows::{self, Database, FileRow, HmacKey, SETTING_UPLOAD_KEY, Unreferenced};
use crate::kit::clock::Clock;
use crate::oci::{Algorithm, ChunkRange, Digest, Hasher, RepositoryName, UploadId};

/// The hashes of at most this many uploads are kept; of more, the idle ones are computed again.
const SESSIONS_MAX: usize = 4096;

/// How long a request waits for another one on the same upload. A client that lost its connection
/// comes back on a new one before the registry has noticed the loss.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// What is known of the uploads that were touched lately.
#[derive(Debug)]
pub(super) struct Sessions {
    key: HmacKey,
    open: Mutex<HashMap<UploadId, Arc<tokio::sync::Mutex<Progress>>>>,
    resting: Mutex<expiry::Resting>,
}

/// How far an upload was hashed; whoever writes to the upload holds its lock.
#[derive(Debug, Default)]
struct Progress {
    hashed: Option<(u64, Hasher)>,
}

impl Sessions {
    /// Reads the key that binds ids, making it the first time.
    pub(super) fn open(database: &Database, clock: &Clock) -> Result<Self, Error> {
        let resting = Mutex::new(expiry::Resting::open(database, clock)?);
        Ok(Self { key: database.hmac_key(SETTING_UPLOAD_KEY)?, open: Mutex::default(), resting })
    }

    /// The id whose first half is that of `half`, and whose second half binds it to a repository.
    fn bind(&self, half: UploadId, name: &RepositoryName) -> UploadId {
        let mut bytes = *half.bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.bytes()).expect("a key of any length is fine");
        mac.update(&bytes[..8]);
        mac.update(name.as_str().as_bytes());
        bytes[8..].copy_from_slice(&mac.finalize().into_bytes()[..8]);
        UploadId::new(bytes)
    }

    fn session(&self, id: UploadId) -> Arc<tokio::sync::Mutex<Progress>> {
        let mut open = self.open.lock();
        if open.len() >= SESSIONS_MAX && !open.contains_key(&id) {
            open.retain(|_, session| Arc::strong_count(session) > 1);
        }
        Arc::clone(open.entry(id).or_default())
    }

    fn forget(&self, id: UploadId) {
        self.open.lock().remove(&id);
    }
}

/// An upload that this request alone writes to.
#[derive(Debug)]
pub(crate) struct Upload {
    stores: Arc<Stores>,
    name: RepositoryName,
    staging: Staging,
    progress: OwnedMutexGuard<Progress>,
}

impl Repository {
    /// Begins an upload. `algorithm` is what its bytes are hashed with while they arrive; a digest
    /// of another algorithm costs reading them once more.
    pub(crate) fn start_upload(&self, algorithm: Algorithm) -> Result<UploadId, Error> {
        let sessions = &self.stores.uploads;
        let id = sessions.bind(UploadId::new(rand::random()), &self.name);
        self.stores.blobs.stage(id)?;
        if algorithm != Algorithm::Sha256 {
            let session = sessions.session(id);
            if let Ok(mut progress) = session.try_lock() {
                progress.hashed = Some((0, Hasher::new(algorithm)));
            }
        }
        Ok(id)
    }

    /// Begins an upload and goes on with it at once.
    pub(crate) fn open_upload(&self, algorithm: Algorithm) -> Result<Upload, Error> {
        let id = self.start_upload(algorithm)?;
        let busy = |_| Error::UploadBusy { id };
        let progress = self.stores.uploads.session(id).try_lock_owned().map_err(busy)?;
        self.reopen(id, progress)
    }

    /// Takes an upload up where it was left. Waits a little for another request on the same upload.
    pub(crate) async fn upload(&self, id: UploadId) -> Result<Upload, Error> {
        self.check_bound(id)?;
        let session = self.stores.uploads.session(id);
        let progress = timeout(BUSY_WAIT, session.lock_owned()).await.map_err(|_| Error::UploadBusy { id })?;
        self.reopen(id, progress)
    }

    fn reopen(&self, id: UploadId, mut progress: OwnedMutexGuard<Progress>) -> Result<Upload, Error> {
        let Some(staging) = self.stores.blobs.reopen(id, progress.hashed.take())? else {
            self.stores.uploads.forget(id);
            return Err(Error::UploadUnknown { id });
        };
        Ok(Upload { stores: Arc::clone(&self.stores), name: self.name.clone(), staging, progress })
    }

    /// How many bytes an upload has, without waiting for a request that adds to it.
    pub(crate) fn upload_offset(&self, id: UploadId) -> Result<u64, Error> {
        self.check_bound(id)?;
        self.stores.blobs.staged(id)?.ok_or(Error::UploadUnknown { id })
    }

    /// An id that is not this repository's does not exist here.
    fn check_bound(&self, id: UploadId) -> Result<(), Error> {
        if self.stores.uploads.bind(id, &self.name) == id { Ok(()) } else { Err(Error::UploadUnknown { id }) }
    }
}

impl Upload {
    /// How many bytes it has.
    pub(crate) const fn offset(&self) -> u64 {
        self.staging.offset()
    }

    /// The id it is continued by.
    pub(crate) const fn id(&self) -> UploadId {
        self.staging.id()
    }

    /// Refuses a chunk that does not begin where the upload has come to.
    pub(crate) fn expect(&self, chunk: ChunkRange) -> Result<(), Error> {
        let reached = self.offset();
        if chunk.first() == reached { Ok(()) } else { Err(Error::UploadOutOfOrder { reached }) }
    }

    /// Appends bytes.
    pub(crate) fn append(&mut self, parts: &[Bytes]) -> Result<(), Error> {
        self.stores.check_space()?;
        Ok(self.stores.blobs.append(&mut self.staging, parts)?)
    }

    /// The present state, to go back to.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        self.staging.checkpoint()
    }

    /// Goes back to an earlier state.
    pub(crate) fn rewind(&mut self, to: Checkpoint) -> Result<(), Error> {
        Ok(self.stores.blobs.rewind(&mut self.staging, to)?)
    }

    /// Compares what was received with the digest it should have; the upload stays as it is.
    pub(crate) fn verify(&mut self, digest: Digest) -> Result<(), Error> {
        Ok(self.staging.verify(digest)?)
    }

    /// Makes a verified upload a blob of its repository, and returns when that is durable.
    pub(crate) fn finish(mut self, digest: Digest) -> Result<(), Error> {
        let Stores { blobs, database: rows, ages, uploads, leases, .. } = &*self.stores;
        let size = self.offset();
        let _busy = blobs.lock(digest);
        let known = rows.read(|tx| Ok::<_, Error>(tx.blob(digest)?.is_some() && tx.damage(digest)?.is_none()))?;
        let whole = known && blobs.get(digest)?.is_some_and(|blob| blob.size == size);
        let mut sealed = None;
        if !whole {
            blobs.trim(&mut self.staging)?;
            sealed = Some(self.staging.modified()?);
            blobs.seal(&mut self.staging, digest)?;
        }
        let (name, now) = (self.name.clone(), ages.now());
        // If it is linked here already, what needs it may go before whoever has pushed it again names it.
        let _ = leases.take(&name, Unreferenced::Link, digest, now.steady);
        let file = sealed.map(|modified| FileRow { modified, checked: now.wall });
        let linked = rows.write(move |tx| {
            tx.put_link(&name, digest, size, now)?;
            file.map_or(Ok(()), |file| tx.set_file(digest, &file))
        });
        if let Err(error) = linked {
            // What the database says after a failure counts; where it says nothing, the file is in nobody's way.
            if !whole && matches!(rows.read(|tx| tx.blob(digest)), Ok::<_, rows::Error>(None)) {
                blobs.unseal(&self.staging, digest);
            }
            return Err(error.into());
        }
        if whole {
            blobs.try_discard(self.id());
        }
        uploads.forget(self.id());
        Ok(())
    }

    /// Throws the upload away.
    pub(crate) fn cancel(self) -> Result<(), Error> {
        self.stores.blobs.discard(self.id())?;
        self.stores.uploads.forget(self.id());
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.progress.hashed = self.staging.hasher().cloned().map(|hasher| (self.staging.offset(), hasher));
    }
}

mod expiry;
#[cfg(any(fuzzing, test))]
pub(super) mod fuzzing;
#[cfg(test)]
mod tests;
