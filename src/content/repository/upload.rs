//! Uploads: blobs that clients are pushing.
//!
//! An upload is only the file of its bytes; it has no row. A keyed hash binds its id to the repository, so that the id is
//! invalid in other repositories, also after a restart. The hash so far is kept in memory to save work.
//!
//! A crash may interrupt [`Upload::finish`] at any step. Before the rename, the upload continues. Between the rename and the
//! row, the upload is gone, and the durable blob has no link. A failure there turns the file into an upload again, so that
//! the client can repeat its last request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use sha2::Sha256;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::lease::Purpose;
use super::{Error, Repository, Stores, mirrored};
use crate::content::blobs::{Checkpoint, Staging};
use crate::content::rows::{
    self, Database, FileRow, HmacKey, SETTING_PULLS_KNOWN_SINCE, SETTING_UPLOAD_KEY, Unreferenced,
};
use crate::kit::clock::Clock;
use crate::oci::{Algorithm, ChunkRange, Digest, Hasher, RepositoryName, UploadId};

/// Uploads whose hash is kept in memory. Beyond that, idle uploads are hashed again.
const SESSIONS_MAX: usize = 4096;

/// How long a request waits for another one on the same upload. A client that lost its connection returns on a new one
/// before the registry notices the loss.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Recent uploads.
#[derive(Debug)]
pub(super) struct Sessions {
    key: HmacKey,
    open: Mutex<HashMap<UploadId, Arc<tokio::sync::Mutex<Progress>>>>,
    resting: Mutex<expiry::Resting>,
}

/// The hash of an upload so far. A writer holds its lock.
#[derive(Debug, Default)]
struct Progress {
    hashed: Option<(u64, Hasher)>,
}

impl Sessions {
    /// Reads the key that binds ids, or creates it.
    pub(super) fn open(database: &Database, clock: &Clock) -> Result<Self, Error> {
        let resting = Mutex::new(expiry::Resting::open(database, clock)?);
        // The database is new, or from a backup or a recovery, which have neither the key nor all pulls.
        if database.read(|rows| rows.setting(SETTING_UPLOAD_KEY))?.is_none() {
            let (key, now): ([u8; 32], _) = (rand::random(), clock.now());
            database.write(move |tx| {
                tx.set_setting(SETTING_UPLOAD_KEY, &key)?;
                tx.set_setting(SETTING_PULLS_KNOWN_SINCE, &now.micros().to_be_bytes())
            })?;
        }
        Ok(Self { key: database.hmac_key(SETTING_UPLOAD_KEY)?, open: Mutex::default(), resting })
    }

    /// The id with the first half of `half`, whose second half binds it to a repository.
    fn bind(&self, half: UploadId, name: &RepositoryName) -> UploadId {
        let mut bytes = *half.bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.bytes()).expect("HMAC takes a key of any length");
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

/// An upload, locked for this request.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(super) stores: Arc<Stores>,
    pub(super) name: RepositoryName,
    staging: Staging,
    progress: OwnedMutexGuard<Progress>,
    /// Whether quotas apply; see [`Upload::check_quota`].
    pub(super) has_quota: bool,
    /// The digest of the whole blob, if the client said it.
    pub(super) expected: Option<Digest>,
    /// Whether it is removed when it is dropped unfinished.
    is_brief: bool,
}

impl Repository {
    /// Starts an upload. Its bytes are hashed with `algorithm` while they arrive. A digest of another algorithm costs another
    /// read.
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

    /// The id with the first half of `half` that is valid in this repository.
    pub(super) fn bind_upload(&self, half: UploadId) -> UploadId {
        self.stores.uploads.bind(half, &self.name)
    }

    /// Makes the empty file of an upload.
    pub(super) fn stage_upload(&self, id: UploadId) -> Result<(), Error> {
        Ok(self.stores.blobs.stage(id)?)
    }

    /// Starts an upload and opens it.
    pub(crate) fn open_upload(&self, algorithm: Algorithm) -> Result<Upload, Error> {
        let id = self.start_upload(algorithm)?;
        let busy = |_| Error::UploadBusy { id };
        let progress = self.stores.uploads.session(id).try_lock_owned().map_err(busy)?;
        self.reopen(id, progress)
    }

    /// Starts an upload that lasts as long as the returned value, for a client that does not know its id and cannot continue
    /// it.
    pub(crate) fn open_brief_upload(&self, algorithm: Algorithm) -> Result<Upload, Error> {
        let mut upload = self.open_upload(algorithm)?;
        upload.is_brief = true;
        Ok(upload)
    }

    /// Opens an upload to continue it. Waits a little for another request on the same upload.
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
        let (stores, name) = (Arc::clone(&self.stores), self.name.clone());
        Ok(Upload { stores, name, staging, progress, has_quota: false, expected: None, is_brief: false })
    }

    /// The size of an upload in bytes. Does not wait for a request that writes to it.
    pub(crate) fn upload_offset(&self, id: UploadId) -> Result<u64, Error> {
        self.check_bound(id)?;
        self.stores.blobs.staged(id)?.ok_or(Error::UploadUnknown { id })
    }

    /// Fails for an id of another repository.
    fn check_bound(&self, id: UploadId) -> Result<(), Error> {
        if self.stores.uploads.bind(id, &self.name) == id { Ok(()) } else { Err(Error::UploadUnknown { id }) }
    }
}

impl Upload {
    /// Its size in bytes.
    pub(crate) const fn offset(&self) -> u64 {
        self.staging.offset()
    }

    /// Its id.
    pub(crate) const fn id(&self) -> UploadId {
        self.staging.id()
    }

    /// Fails for a chunk that does not begin at the end of the upload.
    pub(crate) fn expect(&self, chunk: ChunkRange) -> Result<(), Error> {
        let reached = self.offset();
        if chunk.first() == reached { Ok(()) } else { Err(Error::UploadOutOfOrder { reached }) }
    }

    /// Appends bytes.
    pub(crate) fn append(&mut self, parts: &[Bytes]) -> Result<(), Error> {
        self.stores.check_space()?;
        self.check_size(parts.iter().map(|part| part.len() as u64).sum())?;
        Ok(self.stores.blobs.append(&mut self.staging, parts)?)
    }

    /// The current state, for [`Upload::rewind`].
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        self.staging.checkpoint()
    }

    /// Returns to an earlier state.
    pub(crate) fn rewind(&mut self, to: Checkpoint) -> Result<(), Error> {
        Ok(self.stores.blobs.rewind(&mut self.staging, to)?)
    }

    /// The file of its bytes, for reading them while more arrive.
    pub(crate) fn reader(&self) -> Result<std::fs::File, Error> {
        Ok(self.staging.reader()?)
    }

    /// Removes all bytes.
    pub(crate) fn clear(&mut self) -> Result<(), Error> {
        Ok(self.stores.blobs.clear(&mut self.staging)?)
    }

    /// Compares the bytes with the expected digest. Changes nothing.
    pub(crate) fn verify(&mut self, digest: Digest) -> Result<(), Error> {
        Ok(self.staging.verify(digest)?)
    }

    /// Turns a verified upload of a client into a blob of the repository. Returns once the blob is durable.
    pub(crate) fn finish(self, digest: Digest) -> Result<(), Error> {
        self.finish_for(digest, Purpose::Push)
    }

    /// As [`Upload::finish`], for a blob that an upstream has sent.
    pub(crate) fn finish_mirrored(self, digest: Digest) -> Result<(), Error> {
        self.finish_for(digest, Purpose::Read)
    }

    fn finish_for(mut self, digest: Digest, purpose: Purpose) -> Result<(), Error> {
        let Stores { blobs, database: rows, ages, uploads, leases, .. } = &*self.stores;
        let size = self.offset();
        let quotas = Some(self.stores.rules.quotas.clone()).filter(|_| self.has_quota);
        if let Some(quotas) = &quotas {
            rows.read(|tx| quotas.check_blob(tx, &self.name, digest, size))?;
        }
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
        // If the repository has the blob already, its last reference may go before the client names the blob again.
        let _ = leases.take(&name, Unreferenced::Link, digest, now.steady, purpose);
        let file = sealed.map(|modified| FileRow { modified, checked: now.wall });
        let linked = rows.write(move |tx| {
            match purpose {
                Purpose::Read => mirrored::put_link(tx, &name, digest, size, now)?,
                Purpose::Push => {
                    if let Some(quotas) = &quotas {
                        quotas.check_blob(tx, &name, digest, size)?;
                    }
                    tx.remove_mirror_use(&name, digest)?;
                    tx.put_link(&name, digest, size, now)?;
                }
            }
            Ok::<_, Error>(file.map_or(Ok(()), |file| tx.set_file(digest, &file))?)
        });
        if let Err(error) = linked {
            // After a failure the row decides. Without a row, the file does no harm.
            if !whole && matches!(rows.read(|tx| tx.blob(digest)), Ok::<_, rows::Error>(None)) {
                blobs.unseal(&self.staging, digest);
            }
            return Err(error);
        }
        self.is_brief = false;
        if whole {
            blobs.try_discard(self.id());
        }
        uploads.forget(self.id());
        Ok(())
    }

    /// Removes the upload.
    pub(crate) fn cancel(self) -> Result<(), Error> {
        self.stores.blobs.discard(self.id())?;
        self.stores.uploads.forget(self.id());
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_brief {
            self.stores.blobs.try_discard(self.id());
            return self.stores.uploads.forget(self.id());
        }
        self.progress.hashed = self.staging.hasher().cloned().map(|hasher| (self.staging.offset(), hasher));
    }
}

mod expiry;
#[cfg(any(fuzzing, test))]
pub(super) mod fuzzing;
#[cfg(test)]
mod tests;
