//! [`Staging`]: the file of an unfinished upload.
//!
//! Its bytes are hashed while they are appended. A staging that is reopened after a restart has no hash, so it is read
//! and hashed once when it is verified.

use std::fs::File;
use std::path::PathBuf;

use bytes::Bytes;

use super::{Blobs, Error, modified};
use crate::kit::file::{FileParts, if_exists};
use crate::oci::{Algorithm, Digest, Hasher, UploadId};

/// Start writing to the disk after this many bytes, so that the sync at the end is short.
const WRITE_BACK_BYTES: u64 = 8 * 1024 * 1024;

/// Preallocate as much as has already arrived, so that a client cannot reserve space it does not use. Preallocation
/// starts at the minimum, and a step is at most the maximum. It makes writing cheaper, because the file system searches
/// for free blocks once.
const RESERVE_BYTES_MIN: u64 = 1024 * 1024;
const RESERVE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The open file of an unfinished upload.
#[derive(Debug)]
pub(crate) struct Staging {
    id: UploadId,
    path: PathBuf,
    file: File,
    offset: u64,
    /// The end of the preallocated space.
    reserved: u64,
    /// The end of the bytes that are already being written to the disk.
    written_back: u64,
    hasher: Option<Hasher>,
}

/// A state of a staging, for [`Blobs::rewind`].
#[derive(Debug)]
pub(crate) struct Checkpoint {
    offset: u64,
    hasher: Option<Hasher>,
}

impl Staging {
    /// The number of bytes that have arrived.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The file's modification time, in nanoseconds since 1970.
    pub(crate) fn modified(&self) -> Result<u64, Error> {
        self.file.metadata().map(|metadata| modified(&metadata)).map_err(Error::io("read the metadata of", &self.path))
    }

    /// Another handle of the file.
    pub(crate) fn reader(&self) -> Result<File, Error> {
        self.file.try_clone().map_err(Error::io("open", &self.path))
    }

    /// The hash of the bytes so far. `None` after the file was reopened.
    pub(crate) const fn hasher(&self) -> Option<&Hasher> {
        self.hasher.as_ref()
    }

    /// The current state.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { offset: self.offset, hasher: self.hasher.clone() }
    }

    /// Checks the bytes against a digest.
    pub(crate) fn verify(&mut self, expected: Digest) -> Result<(), Error> {
        let algorithm = expected.algorithm();
        let hasher = match self.hasher.take() {
            Some(hasher) if hasher.algorithm() == algorithm => hasher,
            _ => rehash(self, algorithm)?,
        };
        self.hasher = Some(hasher.clone());
        let actual = hasher.finish();
        if actual == expected { Ok(()) } else { Err(Error::DigestMismatch { expected, actual: Box::new(actual) }) }
    }
}

impl Blobs {
    /// Makes an empty staging. Its name need not survive a loss of power, because no byte was acknowledged yet.
    pub(crate) fn stage(&self, id: UploadId) -> Result<(), Error> {
        let path = self.tree.upload(id);
        self.disk.create(&path).map(drop).map_err(Error::io("create", &path))
    }

    /// Opens a staging. Returns `None` if it does not exist. `hasher` is a hash of its first bytes and their number. It
    /// is used if the file has exactly these bytes.
    pub(crate) fn reopen(&self, id: UploadId, hasher: Option<(u64, Hasher)>) -> Result<Option<Staging>, Error> {
        let path = self.tree.upload(id);
        let opened = if_exists(File::options().read(true).write(true).open(&path));
        let Some(file) = opened.map_err(Error::io("open", &path))? else { return Ok(None) };
        let offset = file.metadata().map_err(Error::io("read the metadata of", &path))?.len();
        let hasher = hasher
            .filter(|(hashed, _)| *hashed == offset)
            .map(|(_, hasher)| hasher)
            .or_else(|| (offset == 0).then(|| Hasher::new(Algorithm::Sha256)));
        Ok(Some(Staging { id, path, file, offset, reserved: offset, written_back: offset, hasher }))
    }

    /// Removes all bytes of a staging.
    pub(crate) fn clear(&self, staging: &mut Staging) -> Result<(), Error> {
        self.rewind(staging, Checkpoint { offset: 0, hasher: Some(Hasher::new(Algorithm::Sha256)) })
    }

    /// The number of bytes of a staging. Returns `None` if it does not exist.
    pub(crate) fn staged(&self, id: UploadId) -> Result<Option<u64>, Error> {
        let path = self.tree.upload(id);
        let metadata = if_exists(std::fs::metadata(&path)).map_err(Error::io("read the metadata of", &path))?;
        Ok(metadata.map(|metadata| metadata.len()))
    }

    /// Appends bytes. After a failure the state of the staging is unchanged.
    pub(crate) fn append(&self, staging: &mut Staging, parts: &[Bytes]) -> Result<(), Error> {
        let length: u64 = parts.iter().map(|bytes| bytes.len() as u64).sum();
        if staging.offset >= RESERVE_BYTES_MIN && staging.offset + length > staging.reserved {
            let more = staging.offset.min(RESERVE_BYTES_MAX).max(length);
            let from = staging.reserved.max(staging.offset);
            self.disk.reserve(&staging.file, from, more);
            staging.reserved = from + more;
        }
        self.disk
            .write_parts_at(&staging.file, &staging.path, parts, staging.offset)
            .map_err(Error::io("write", &staging.path))?;
        if let Some(hasher) = &mut staging.hasher {
            for bytes in parts {
                hasher.update(bytes);
            }
        }
        staging.offset += length;
        let waiting = staging.offset.saturating_sub(staging.written_back);
        if self.sync && waiting >= WRITE_BACK_BYTES {
            self.disk.begin_writing_back(&staging.file, staging.written_back, waiting);
            staging.written_back = staging.offset;
        }
        Ok(())
    }

    /// Returns to an earlier state, and removes the bytes after it.
    pub(crate) fn rewind(&self, staging: &mut Staging, to: Checkpoint) -> Result<(), Error> {
        self.disk.truncate(&staging.file, &staging.path, to.offset).map_err(Error::io("truncate", &staging.path))?;
        staging.offset = to.offset;
        staging.reserved = to.offset;
        staging.hasher = to.hasher;
        Ok(())
    }

    /// Releases unused preallocated space.
    pub(crate) fn trim(&self, staging: &mut Staging) -> Result<(), Error> {
        if staging.reserved > staging.offset {
            let cut = self.disk.truncate(&staging.file, &staging.path, staging.offset);
            cut.map_err(Error::io("truncate", &staging.path))?;
            staging.reserved = staging.offset;
        }
        Ok(())
    }

    /// Makes a verified staging a blob: syncs the bytes, renames the file, and syncs the directory. A crash in between
    /// leaves a staging, or a blob without a row. A failure leaves the staging.
    ///
    /// If syncing the bytes fails, the staging is discarded. The system may have dropped the bytes, and would report
    /// success at the next attempt.
    pub(crate) fn seal(&self, staging: &mut Staging, digest: Digest) -> Result<(), Error> {
        let blob = self.tree.blob(&digest);
        let directory = self.tree.blobs_of(digest.algorithm());
        if self.sync
            && let Err(error) = self.disk.sync(&staging.file, &staging.path)
        {
            self.try_discard(staging.id);
            return Err(Error::io("sync", &staging.path)(error));
        }
        self.disk.rename(&staging.path, &blob).map_err(Error::io("rename", &staging.path))?;
        if self.sync
            && let Err(error) = self.disk.sync_dir(&directory)
        {
            self.unseal(staging, digest);
            return Err(Error::io("sync", &directory)(error));
        }
        Ok(())
    }

    /// Undoes [`Blobs::seal`], so that the client can try again. If that fails, the blob stays without a row.
    pub(crate) fn unseal(&self, staging: &Staging, digest: Digest) {
        let blob = self.tree.blob(&digest);
        if let Err(error) = self.disk.rename(&blob, &staging.path) {
            tracing::warn!(%error, %digest, "cannot undo a finished upload: the blob stays without a row");
        }
    }

    /// Removes the staging of a finished upload. If that fails, it expires later.
    pub(crate) fn try_discard(&self, id: UploadId) {
        if let Err(error) = self.discard(id) {
            tracing::warn!(%error, "cannot remove the file of a finished upload: it expires later");
        }
    }

    /// Removes a staging. Returns whether it existed.
    pub(crate) fn discard(&self, id: UploadId) -> Result<bool, Error> {
        let path = self.tree.upload(id);
        Ok(if_exists(self.disk.remove(&path)).map_err(Error::io("remove", &path))?.is_some())
    }

    /// All stagings with their modification times.
    pub(crate) fn stagings(&self) -> Result<Vec<(UploadId, std::time::SystemTime)>, Error> {
        let directory = self.tree.uploads();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(Error::io("list", &directory))? {
            let entry = entry.map_err(Error::io("list", &directory))?;
            // Foreign files have other names. A file that was removed meanwhile has no time.
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            found.extend(id.zip(written));
        }
        Ok(found)
    }
}

impl Staging {
    pub(crate) const fn id(&self) -> UploadId {
        self.id
    }
}

/// Hashes the bytes that have arrived.
fn rehash(staging: &Staging, algorithm: Algorithm) -> Result<Hasher, Error> {
    let mut hasher = Hasher::new(algorithm);
    let mut parts = FileParts::first(&staging.file, staging.offset);
    while let Some((_, part)) = parts.next().map_err(Error::io("read", &staging.path))? {
        hasher.update(part);
    }
    Ok(hasher)
}
