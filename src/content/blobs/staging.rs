//! [`Staging`]: bytes that are not yet a blob.
//!
//! They are hashed as they are appended. A staging that was reopened (after a restart, say) has
//! lost its hash; it is then made up for by reading the file once, when it is sealed.

use std::fs::File;
use std::path::PathBuf;

use bytes::Bytes;

use super::{Blobs, Error, modified};
use crate::kit::file::{FileParts, if_exists};
use crate::oci::{Algorithm, Digest, Hasher, UploadId};

/// The disk gets to work whenever as much has been written, and not all at once at the end.
const WRITE_BACK_BYTES: u64 = 8 * 1024 * 1024;

/// Space is reserved for as much as is there already, so that nobody has more reserved than they have sent; from
/// so much on, and in steps that are not larger. It makes writing cheaper, as the blocks are looked for once.
const RESERVE_BYTES_MIN: u64 = 1024 * 1024;
const RESERVE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// An open file of appended bytes.
#[derive(Debug)]
pub(crate) struct Staging {
    id: UploadId,
    path: PathBuf,
    file: File,
    offset: u64,
    /// There is space for as much, as far as that is known.
    reserved: u64,
    /// As much is being written to the disk already.
    written_back: u64,
    hasher: Option<Hasher>,
}

/// A place in a staging to go back to.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    offset: u64,
    hasher: Option<Hasher>,
}

impl Staging {
    /// How many bytes it has.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// When it was last written to, by the file system's clock, in nanoseconds since 1970.
    pub(crate) fn modified(&self) -> Result<u64, Error> {
        self.file.metadata().map(|metadata| modified(&metadata)).map_err(Error::io("look at", &self.path))
    }

    /// What is known of the hash: nothing, if the file was reopened.
    pub(crate) const fn hasher(&self) -> Option<&Hasher> {
        self.hasher.as_ref()
    }

    /// The present state, for [`Blobs::rewind`].
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { offset: self.offset, hasher: self.hasher.clone() }
    }

    /// Compares what was received with the digest it should have.
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
    /// Makes an empty staging. Its name survives the process, not yet a loss of power: nothing was
    /// promised yet.
    pub(crate) fn stage(&self, id: UploadId) -> Result<(), Error> {
        let path = self.tree.upload(id);
        self.disk.create(&path).map(drop).map_err(Error::io("create", &path))
    }

    /// Opens a staging; none if there is none. `hasher` is what its bytes have been hashed to so
    /// far, if that is known and belongs to as many bytes as the file has; for an empty file it
    /// says which algorithm to begin with.
    pub(crate) fn reopen(&self, id: UploadId, hasher: Option<(u64, Hasher)>) -> Result<Option<Staging>, Error> {
        let path = self.tree.upload(id);
        let opened = if_exists(File::options().read(true).write(true).open(&path));
        let Some(file) = opened.map_err(Error::io("open", &path))? else { return Ok(None) };
        let offset = file.metadata().map_err(Error::io("look at", &path))?.len();
        let hasher = hasher
            .filter(|(hashed, _)| *hashed == offset)
            .map(|(_, hasher)| hasher)
            .or_else(|| (offset == 0).then(|| Hasher::new(Algorithm::Sha256)));
        Ok(Some(Staging { id, path, file, offset, reserved: offset, written_back: offset, hasher }))
    }

    /// How many bytes a staging has; none if there is none.
    pub(crate) fn staged(&self, id: UploadId) -> Result<Option<u64>, Error> {
        let path = self.tree.upload(id);
        let metadata = if_exists(std::fs::metadata(&path)).map_err(Error::io("look at", &path))?;
        Ok(metadata.map(|metadata| metadata.len()))
    }

    /// Appends bytes, all of them or, as far as the staging's own state goes, none.
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

    /// Goes back to an earlier state and forgets the bytes behind it.
    pub(crate) fn rewind(&self, staging: &mut Staging, to: Checkpoint) -> Result<(), Error> {
        self.disk.truncate(&staging.file, &staging.path, to.offset).map_err(Error::io("truncate", &staging.path))?;
        staging.offset = to.offset;
        staging.reserved = to.offset;
        staging.hasher = to.hasher;
        Ok(())
    }

    /// Gives back the space that was reserved and is not needed.
    pub(crate) fn trim(&self, staging: &mut Staging) -> Result<(), Error> {
        if staging.reserved > staging.offset {
            let cut = self.disk.truncate(&staging.file, &staging.path, staging.offset);
            cut.map_err(Error::io("truncate", &staging.path))?;
            staging.reserved = staging.offset;
        }
        Ok(())
    }

    /// Makes a verified staging the blob of its digest: durable bytes first, then the name, then
    /// the durable name. A crash in between leaves a staging, or a blob that no row links; a failure leaves
    /// the staging.
    ///
    /// Except for a failure to sync it: the system may have dropped bytes that it could not write, and would
    /// say of a second attempt that all is well. Such a staging is discarded.
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

    /// Makes a blob that no row links the staging again that it was, for the client to try once more. Where that
    /// fails, it stays a blob without a link.
    pub(crate) fn unseal(&self, staging: &Staging, digest: Digest) {
        let blob = self.tree.blob(&digest);
        if let Err(error) = self.disk.rename(&blob, &staging.path) {
            tracing::warn!(%error, %digest, "a blob that nobody links is left behind");
        }
    }

    /// Throws a staging away whose upload is over. Where that fails, it expires.
    pub(crate) fn try_discard(&self, id: UploadId) {
        if let Err(error) = self.discard(id) {
            tracing::warn!(%error, "an upload that is over is left to expire");
        }
    }

    /// Throws a staging away; false if there was none.
    pub(crate) fn discard(&self, id: UploadId) -> Result<bool, Error> {
        let path = self.tree.upload(id);
        Ok(if_exists(self.disk.remove(&path)).map_err(Error::io("remove", &path))?.is_some())
    }

    /// Every staging and when it was last written to.
    pub(crate) fn stagings(&self) -> Result<Vec<(UploadId, std::time::SystemTime)>, Error> {
        let directory = self.tree.uploads();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(Error::io("list", &directory))? {
            let entry = entry.map_err(Error::io("list", &directory))?;
            // A file that is not ours has no upload's name, and one that has gone meanwhile no time.
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            found.extend(id.zip(written));
        }
        Ok(found)
    }
}

impl Staging {
    /// The upload the bytes belong to.
    pub(crate) const fn id(&self) -> UploadId {
        self.id
    }
}

/// Hashes a file from its beginning.
fn rehash(staging: &Staging, algorithm: Algorithm) -> Result<Hasher, Error> {
    let mut hasher = Hasher::new(algorithm);
    let mut parts = FileParts::first(&staging.file, staging.offset);
    while let Some((_, part)) = parts.next().map_err(Error::io("read", &staging.path))? {
        hasher.update(part);
    }
    Ok(hasher)
}
