//! The files of blobs, by digest.
//!
//! This module knows no repository, no manifest and no user. Its callers decide who may read a blob, and whether it is
//! still referenced. Invariant: a file under `blobs/` was verified against its name, and was durable before it got that
//! name.

mod arrival;
mod disk;
#[cfg(test)]
mod faulty;
mod foreign;
mod part;
mod paths;
mod space;
mod staging;
mod transfer;

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use parking_lot::{Condvar, Mutex};
use rustix::fs::{Access, access};

pub(crate) use arrival::Arrival;
pub(crate) use disk::{Disk, Owner, SystemDisk, give_to_owner_of_parent};
#[cfg(test)]
pub(crate) use faulty::{FaultyDisk, Operation};
pub(crate) use foreign::ForeignStore;
pub(crate) use part::FilePart;
pub(crate) use paths::Tree;
pub(crate) use space::Space;
pub(crate) use staging::{Checkpoint, Staging};
pub(crate) use transfer::{Target, TargetError, TransferMode, TransferOutcome};

use crate::kit::file::{FileParts, PathError, if_exists};
use crate::kit::text::size;
use crate::oci::{Algorithm, Digest, Hasher};

/// Why an operation on blobs has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The digest is boxed, because two digests would make every `Result` large.
    #[error("the content has the digest {actual}, not {expected}")]
    DigestMismatch { expected: Digest, actual: Box<Digest> },
    #[error("{0}")]
    Io(#[source] PathError),
    #[error("{} free, storage.minFreeSpace is {}", size(*free), size(*min_free))]
    NoSpace { free: u64, min_free: u64 },
}

impl Error {
    /// Adds the operation and the path to an I/O error.
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io(PathError::at(operation, path)(source))
    }
}

/// The blobs of one data directory.
#[derive(Debug)]
pub(crate) struct Blobs {
    tree: Tree,
    disk: Arc<dyn Disk>,
    /// Whether files and directories are synced (`storage.commit`). Without it, a loss of power may lose acknowledged
    /// blobs.
    sync: bool,
    space: Space,
    locks: DigestLocks,
    /// Locked while an import makes the file of a blob.
    arriving: DigestLocks,
}

/// An entry of a blob directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A file with the name of a blob.
    Blob(Digest),
    /// A directory with the name of a blob.
    Directory(Digest),
    /// Another entry. NAS and NFS servers make such ones (`@eaDir`, `.nfs…`).
    Other,
}

/// An open blob.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) file: File,
    /// In bytes.
    pub(crate) size: u64,
    /// The file's modification time, in nanoseconds since 1970.
    pub(crate) modified: u64,
}

impl Blobs {
    /// Opens the blobs under a data directory. Makes missing directories.
    pub(crate) fn open(root: &Path, disk: Arc<dyn Disk>, sync: bool) -> Result<Self, Error> {
        let tree = Tree::new(root);
        let algorithms = Algorithm::ALL.map(|algorithm| tree.blobs_of(algorithm));
        for directory in algorithms.into_iter().chain([tree.uploads()]) {
            match directory.try_exists() {
                // It may exist.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(Error::io("read the metadata of", &directory)(error));
                }
                _ => disk::create_dir_all(&*disk, &directory).map_err(Error::io("create", &directory))?,
            }
        }
        let space = Space::new(root.to_owned(), 0);
        Ok(Self { tree, disk, sync, space, locks: DigestLocks::default(), arriving: DigestLocks::default() })
    }

    /// Refuses uploads when fewer bytes than this are free.
    pub(crate) fn with_min_free(self, min_free: u64) -> Self {
        Self { space: Space::new(self.tree.root().to_owned(), min_free), ..self }
    }

    /// Fails if blobs cannot be read because of their directories. Opens no file: a lack of file handles ends by itself.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for directory in Algorithm::ALL.map(|algorithm| self.tree.blobs_of(algorithm)) {
            let usable = access(&directory, Access::READ_OK | Access::EXEC_OK);
            usable.map_err(|error| Error::io("use", &directory)(error.into()))?;
        }
        Ok(())
    }

    /// The free space of the file system.
    pub(crate) const fn space(&self) -> &Space {
        &self.space
    }

    /// Opens a blob. Returns `None` if its file does not exist.
    pub(crate) fn get(&self, digest: Digest) -> Result<Option<Blob>, Error> {
        let path = self.tree.blob(&digest);
        let Some(file) = if_exists(File::open(&path)).map_err(Error::io("open", &path))? else { return Ok(None) };
        let metadata = file.metadata().map_err(Error::io("read the metadata of", &path))?;
        Ok(Some(Blob { file, size: metadata.len(), modified: modified(&metadata) }))
    }

    /// Reads a blob into memory. Returns `None` if its file does not exist or has more than `max` bytes.
    pub(crate) fn read(&self, digest: Digest, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(blob) = self.get(digest)?.filter(|blob| blob.size <= max) else { return Ok(None) };
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or_default());
        let read = (&blob.file).take(max).read_to_end(&mut bytes);
        read.map_err(Error::io("read", &self.tree.blob(&digest)))?;
        Ok(Some(bytes))
    }

    /// Hashes the file of a blob. `pause` is called after each part with its size, and may sleep. If it breaks, the
    /// result is `None`.
    pub(crate) fn rehash(
        &self,
        blob: &Blob,
        digest: Digest,
        mut pause: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Digest>, Error> {
        let mut hasher = Hasher::new(digest.algorithm());
        let (path, mut parts) = (self.tree.blob(&digest), FileParts::all(&blob.file));
        while let Some((_, part)) = parts.next().map_err(Error::io("read", &path))? {
            hasher.update(part);
            if pause(part.len()).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(hasher.finish()))
    }

    /// Moves the damaged file of a blob to another directory, if it exists.
    pub(crate) fn set_aside(&self, digest: Digest) -> Result<(), Error> {
        let (path, aside) = (self.tree.blob(&digest), self.tree.damaged_blob(&digest));
        let directory = self.tree.damaged();
        disk::create_dir_all(&*self.disk, &directory).map_err(Error::io("create", &directory))?;
        if_exists(self.disk.rename(&path, &aside)).map(drop).map_err(Error::io("rename", &path))
    }

    /// Visits the entries of the blob directory of an algorithm in any order, until `visit` breaks.
    pub(crate) fn each_entry(
        &self,
        algorithm: Algorithm,
        mut visit: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let directory = self.tree.blobs_of(algorithm);
        for entry in std::fs::read_dir(&directory).map_err(Error::io("list", &directory))? {
            let entry = entry.map_err(Error::io("list", &directory))?;
            let digest = entry.file_name().to_str().and_then(|hex| format!("{algorithm}:{hex}").parse().ok());
            let entry = match digest {
                None => Entry::Other,
                // The type cannot be read if the file was removed meanwhile.
                Some(digest) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => Entry::Directory(digest),
                Some(digest) => Entry::Blob(digest),
            };
            if visit(entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Removes the file of a blob, if it exists. No repository may link the blob.
    pub(crate) fn remove(&self, digest: Digest) -> Result<(), Error> {
        let path = self.tree.blob(&digest);
        if_exists(self.disk.remove(&path)).map(drop).map_err(Error::io("remove", &path))
    }

    /// Makes the names of new blobs, and the removal of others, durable.
    pub(crate) fn sync_directories(&self) -> Result<(), Error> {
        self.sync_directories_of(Algorithm::ALL)
    }

    /// As [`Blobs::sync_directories`], for blobs with these algorithms.
    pub(crate) fn sync_directories_of(&self, algorithms: impl IntoIterator<Item = Algorithm>) -> Result<(), Error> {
        for directory in algorithms.into_iter().map(|algorithm| self.tree.blobs_of(algorithm)) {
            if self.sync {
                self.disk.sync_dir(&directory).map_err(Error::io("sync", &directory))?;
            }
        }
        Ok(())
    }

    /// Locks a digest until the guard is dropped. A file and its row change together only under this lock. Blocks.
    pub(crate) fn lock(&self, digest: Digest) -> DigestGuard<'_> {
        self.locks.lock(digest)
    }

    /// Locks a digest against other imports of the same blob, until the guard is dropped. Clients do not wait for it.
    /// Blocks.
    pub(crate) fn lock_arrival(&self, digest: Digest) -> DigestGuard<'_> {
        self.arriving.lock(digest)
    }
}

/// The modification time of a file, in nanoseconds since 1970.
fn modified(metadata: &Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or_default()
}

/// The digests that are locked.
#[derive(Debug, Default)]
struct DigestLocks {
    digests: Mutex<HashSet<Digest>>,
    released: Condvar,
}

impl DigestLocks {
    fn lock(&self, digest: Digest) -> DigestGuard<'_> {
        let mut digests = self.digests.lock();
        while !digests.insert(digest) {
            self.released.wait(&mut digests);
        }
        DigestGuard { locks: self, digest }
    }
}

/// A locked digest; see [`Blobs::lock`].
#[derive(Debug)]
pub(crate) struct DigestGuard<'a> {
    locks: &'a DigestLocks,
    digest: Digest,
}

impl Drop for DigestGuard<'_> {
    fn drop(&mut self) {
        self.locks.digests.lock().remove(&self.digest);
        self.locks.released.notify_all();
    }
}
