//! [`Arrival`]: a blob that is taken over from a file of another program, under a temporary name.
//!
//! It becomes a blob when it is verified and durable, and right before its row is written. Until then clients can push the
//! same blob. A crash leaves a temporary file, which [`Blobs::discard_arriving`] removes.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{Blobs, Error, FilePart, TransferMode, TransferOutcome, Tree, modified};
use crate::kit::file::{FileId, FileParts, if_exists};
use crate::oci::{Digest, Hasher, UploadId};

/// A durable file with the bytes of a blob, under a temporary name. It is removed on drop.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    blobs: &'a Blobs,
    path: PathBuf,
    digest: Digest,
    pub(crate) outcome: TransferOutcome,
    /// In bytes.
    pub(crate) size: u64,
    /// The file's modification time, in nanoseconds since 1970.
    pub(crate) modified: u64,
}

impl Arrival<'_> {
    /// Makes it the blob. The caller calls [`Blobs::sync_directories`]. If the digest can be pushed meanwhile, the caller
    /// holds its lock.
    pub(crate) fn name(self) -> Result<(), Error> {
        let to = self.blobs.tree.blob(&self.digest);
        // On success, the drop finds no file.
        self.blobs.disk.rename(&self.path, &to).map_err(Error::io("rename", &self.path))
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        self.blobs.forget(&self.path);
    }
}

impl Blobs {
    /// Takes over a blob from a file of another program, as a reflink, a hard link or a copy. A reflink comes first, because
    /// the other program may still write to its file. `None` if the bytes have another digest. Calls `read` with the
    /// number of bytes of each part.
    pub(crate) fn receive(
        &self,
        part: &FilePart,
        digest: Digest,
        mode: TransferMode,
        read: &dyn Fn(u64),
    ) -> Result<Option<Arrival<'_>>, Error> {
        if mode == TransferMode::Cheapest {
            let shared = match self.share(part, digest)? {
                Some(shared) => Some(shared),
                None => self.link(part, digest)?,
            };
            if let Some(arrival) = shared {
                let file = File::open(&arrival.path).map_err(Error::io("open", &arrival.path))?;
                let actual = hash(FileParts::all(&file), &arrival.path, digest, read)?;
                return Ok((actual == digest).then_some(arrival));
            }
        }
        self.copy(part, digest, read)
    }

    /// Removes what an interrupted transfer has left. No transfer may run.
    pub(crate) fn discard_arriving(&self) -> Result<(), Error> {
        let directory = self.tree.uploads();
        for entry in std::fs::read_dir(&directory).map_err(Error::io("list", &directory))? {
            let path = entry.map_err(Error::io("list", &directory))?.path();
            if path.file_name().and_then(|name| name.to_str()).is_some_and(Tree::is_arriving) {
                if_exists(self.disk.remove(&path)).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Makes a reflink of a file. `None` if the file system cannot.
    pub(super) fn share(&self, part: &FilePart, digest: Digest) -> Result<Option<Arrival<'_>>, Error> {
        if !part.is_whole() {
            return Ok(None);
        }
        let (path, to) = self.temporary()?;
        if self.disk.share(part.file(), &to, &path).is_err() {
            self.forget(&path);
            return Ok(None);
        }
        self.arrived(part, digest, path, &to, TransferOutcome::Shared).map(Some)
    }

    /// Makes a hard link to a file. `None` if that is impossible, or the owner of the blobs could not read it.
    fn link(&self, part: &FilePart, digest: Digest) -> Result<Option<Arrival<'_>>, Error> {
        if !part.is_whole() || !self.may_link(part.path(), digest) {
            return Ok(None);
        }
        let path = self.tree.arriving(UploadId::new(rand::random()));
        if self.disk.link(part.path(), &path).is_err() {
            return Ok(None);
        }
        let arrival = self.arrived(part, digest, path, part.file(), TransferOutcome::Linked)?;
        // Another file may have got the name since it was opened.
        let opened = part.file().metadata().map_err(Error::io("read the metadata of", part.path()))?;
        let linked = FileId::at(&arrival.path).map_err(Error::io("read the metadata of", &arrival.path))?;
        Ok((linked == FileId::from(&opened)).then_some(arrival))
    }

    /// Copies and hashes a file. `None` if its bytes have another digest.
    pub(super) fn copy(
        &self,
        part: &FilePart,
        digest: Digest,
        read: &dyn Fn(u64),
    ) -> Result<Option<Arrival<'_>>, Error> {
        let (path, to) = self.temporary()?;
        let copied = self.copy_to(part, digest, &path, &to, read);
        if !copied.inspect_err(|_| self.forget(&path))? {
            self.forget(&path);
            return Ok(None);
        }
        self.arrived(part, digest, path, &to, TransferOutcome::Copied).map(Some)
    }

    /// Returns whether the bytes have the digest.
    fn copy_to(
        &self,
        part: &FilePart,
        digest: Digest,
        path: &Path,
        to: &File,
        read: &dyn Fn(u64),
    ) -> Result<bool, Error> {
        let mut hasher = Hasher::new(digest.algorithm());
        let (mut parts, mut offset) = (part.parts(), 0);
        while let Some((_, bytes)) = parts.next().map_err(Error::io("read", part.path()))? {
            self.space.check()?;
            hasher.update(bytes);
            self.disk.write_at(to, path, bytes, offset).map_err(Error::io("write", path))?;
            offset += bytes.len() as u64;
            read(bytes.len() as u64);
        }
        Ok(hasher.finish() == digest)
    }

    fn temporary(&self) -> Result<(PathBuf, File), Error> {
        let path = self.tree.arriving(UploadId::new(rand::random()));
        let file = self.disk.create(&path).map_err(Error::io("create", &path))?;
        Ok((path, file))
    }

    /// Makes a temporary file durable.
    fn arrived(
        &self,
        part: &FilePart,
        digest: Digest,
        path: PathBuf,
        to: &File,
        outcome: TransferOutcome,
    ) -> Result<Arrival<'_>, Error> {
        let mut arrival = Arrival { blobs: self, path, digest, outcome, size: part.size(), modified: 0 };
        // The modification time is kept, because a changed one means that the file was written to.
        let time = part.file().metadata().and_then(|metadata| metadata.modified());
        time.and_then(|time| to.set_modified(time)).map_err(Error::io("set the time of", &arrival.path))?;
        if self.sync {
            self.disk.sync(to, &arrival.path).map_err(Error::io("sync", &arrival.path))?;
        }
        let metadata = to.metadata().map_err(Error::io("read the metadata of", &arrival.path))?;
        arrival.modified = modified(&metadata);
        Ok(arrival)
    }

    /// Removes a temporary file, if it still has that name. If that fails, [`Blobs::discard_arriving`] removes it.
    fn forget(&self, path: &Path) {
        let _ = self.disk.remove(path);
    }
}

/// The digest of a file.
fn hash(mut parts: FileParts<'_>, path: &Path, digest: Digest, read: &dyn Fn(u64)) -> Result<Digest, Error> {
    let mut hasher = Hasher::new(digest.algorithm());
    while let Some((_, bytes)) = parts.next().map_err(Error::io("read", path))? {
        hasher.update(bytes);
        read(bytes.len() as u64);
    }
    Ok(hasher.finish())
}
