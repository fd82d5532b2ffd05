//! Content-addressed files: digest → bytes.
//!
//! Knows no repository, no manifest and no user: whether somebody may read a blob, and whether a
//! blob is still needed, is decided above. Invariant: a file under `blobs/` was verified
//! against its name and was durable before it got that name.

mod disk;
mod error;
#[cfg(test)]
mod faulty;
mod foreign;
mod paths;
mod space;
mod staging;
mod transfer;

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use parking_lot::{Condvar, Mutex};

pub(crate) use disk::{Disk, Owner, SystemDisk, give_to_owner_of_parent};
pub(crate) use error::Error;
#[cfg(test)]
pub(crate) use faulty::{FaultyDisk, Operation};
pub(crate) use foreign::ForeignStore;
pub(crate) use paths::Tree;
pub(crate) use space::Space;
pub(crate) use staging::{Checkpoint, Staging};
pub(crate) use transfer::{Target, TargetError, TransferMode, TransferOutcome};

use crate::kit::file::{FileParts, if_exists};
use crate::oci::{Algorithm, Digest, Hasher};

/// The blobs under one data directory.
#[derive(Debug)]
pub(crate) struct Blobs {
    tree: Tree,
    disk: Arc<dyn Disk>,
    /// Whether files and directories are synced; without it a loss of power may lose what was
    /// acknowledged (`storage.commit`).
    sync: bool,
    space: Space,
    busy: DigestLocks,
}

/// An entry of a directory of blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A file with the name of a blob.
    Blob(Digest),
    /// A directory with the name of a blob.
    Directory(Digest),
    /// An entry that is not the registry's. NAS and NFS servers make such ones (`@eaDir`, `.nfs…`).
    Other,
}

/// An open blob.
#[derive(Debug)]
pub(crate) struct Blob {
    /// Its bytes.
    pub(crate) file: File,
    /// How many there are.
    pub(crate) size: u64,
    /// When they were last written to, by the file system's clock, in nanoseconds since 1970.
    pub(crate) modified: u64,
}

impl Blobs {
    /// Makes the directories that are missing under `root`.
    pub(crate) fn open(root: &Path, disk: Arc<dyn Disk>, sync: bool) -> Result<Self, Error> {
        let tree = Tree::new(root);
        let algorithms = Algorithm::ALL.map(|algorithm| tree.blobs_of(algorithm));
        for directory in algorithms.into_iter().chain([tree.uploads()]) {
            match directory.try_exists() {
                // It may well be there.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(Error::io("look at", &directory)(error));
                }
                _ => disk::create_dir_all(&*disk, &directory).map_err(Error::io("create", &directory))?,
            }
        }
        let space = Space::new(root.to_owned(), 0);
        Ok(Self { tree, disk, sync, space, busy: DigestLocks::default() })
    }

    /// Takes nothing in when less than this is free.
    pub(crate) fn with_min_free(self, min_free: u64) -> Self {
        Self { space: Space::new(self.tree.root().to_owned(), min_free), ..self }
    }

    /// The room that is left.
    pub(crate) const fn space(&self) -> &Space {
        &self.space
    }

    /// Opens a blob; none if there is no such file.
    pub(crate) fn get(&self, digest: Digest) -> Result<Option<Blob>, Error> {
        let path = self.tree.blob(&digest);
        let Some(file) = if_exists(File::open(&path)).map_err(Error::io("open", &path))? else { return Ok(None) };
        let metadata = file.metadata().map_err(Error::io("look at", &path))?;
        Ok(Some(Blob { file, size: metadata.len(), modified: modified(&metadata) }))
    }

    /// Hashes what is in the file of a blob; `rest` is told of each part, and may wait, or break it off.
    pub(crate) fn rehash(
        &self,
        blob: &Blob,
        digest: Digest,
        mut rest: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Digest>, Error> {
        let mut hasher = Hasher::new(digest.algorithm());
        let (path, mut parts) = (self.tree.blob(&digest), FileParts::all(&blob.file));
        while let Some((_, part)) = parts.next().map_err(Error::io("read", &path))? {
            hasher.update(part);
            if rest(part.len()).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(hasher.finish()))
    }

    /// Sets the file of a blob aside that is not what it should be; it is no error if it is gone.
    pub(crate) fn set_aside(&self, digest: Digest) -> Result<(), Error> {
        let (path, aside) = (self.tree.blob(&digest), self.tree.damaged_blob(&digest));
        let directory = self.tree.damaged();
        disk::create_dir_all(&*self.disk, &directory).map_err(Error::io("create", &directory))?;
        if_exists(self.disk.rename(&path, &aside)).map(drop).map_err(Error::io("rename", &path))
    }

    /// Visits the entries of the directory of the blobs of an algorithm, in no order.
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
                // A file whose type cannot be read may be gone by now, which is no reason to stop.
                Some(digest) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => Entry::Directory(digest),
                Some(digest) => Entry::Blob(digest),
            };
            if visit(entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Removes a blob that nothing links any more; it is no error if it is gone.
    pub(crate) fn remove(&self, digest: Digest) -> Result<(), Error> {
        let path = self.tree.blob(&digest);
        if_exists(self.disk.remove(&path)).map(drop).map_err(Error::io("remove", &path))
    }

    /// Makes it durable that blobs are gone.
    pub(crate) fn sync_removals(&self) -> Result<(), Error> {
        for directory in Algorithm::ALL.map(|algorithm| self.tree.blobs_of(algorithm)) {
            if self.sync {
                self.disk.sync_dir(&directory).map_err(Error::io("sync", &directory))?;
            }
        }
        Ok(())
    }

    /// Waits until nobody else works on the file of this digest, and keeps others waiting until the
    /// guard is dropped. A file and its row change together only under it. Blocks.
    pub(crate) fn lock(&self, digest: Digest) -> DigestGuard<'_> {
        self.busy.lock(digest)
    }
}

/// When a file was last written to, in nanoseconds since 1970.
fn modified(metadata: &Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or_default()
}

/// The digests whose files are being sealed or removed at the moment.
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
        DigestGuard { busy: self, digest }
    }
}

/// See [`Blobs::lock`].
#[derive(Debug)]
pub(crate) struct DigestGuard<'a> {
    busy: &'a DigestLocks,
    digest: Digest,
}

impl Drop for DigestGuard<'_> {
    fn drop(&mut self) {
        self.busy.digests.lock().remove(&self.digest);
        self.busy.released.notify_all();
    }
}
