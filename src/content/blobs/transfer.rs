//! Transfer of blobs from one data directory to another, for backup and restore.
//!
//! Invariants: a directory with other files is not touched; a blob gets its name in the target only when all its bytes
//! are durable.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Owner, create_dir_all};
use super::{Blobs, Disk, Error, FilePart, Tree};
use crate::kit::file::{FileId, LockedFile, if_exists};
use crate::oci::Digest;

/// The text in [`Tree::backup_marker`].
const MARKER_TEXT: &str = "\
This directory is a backup, or an unfinished restore. `coracle backup` updates a backup, and `coracle restore` makes a
registry from it. `coracle serve` refuses the directory.
";

/// How blobs are transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransferMode {
    /// As hard links, else as reflinks, else as copies.
    Cheapest,
    /// As copies.
    Copy,
}

/// The outcome of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransferOutcome {
    /// The target had the blob already.
    Present,
    Linked,
    /// The file is a reflink.
    Shared,
    Copied,
    /// The source file is missing or damaged. It was not transferred.
    Damaged,
}

/// Why a directory cannot be the target of a transfer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("{} is {}: choose another directory", directory.display(), expected.lacking())]
    Occupied { directory: PathBuf, expected: Expected },
    /// It is the source directory, in it, or around it.
    #[error("{} overlaps the directory to copy from", directory.display())]
    Overlaps { directory: PathBuf },
    #[error("another process is writing to {}", directory.display())]
    Busy { directory: PathBuf },
    #[error("{0}")]
    Failed(#[from] Error),
}

/// The directories that can be the target of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// An empty one.
    Empty,
    EmptyOrBackup,
}

impl Expected {
    /// The predicate of a sentence about a directory that is not expected.
    const fn lacking(self) -> &'static str {
        match self {
            Self::Empty => "not empty",
            Self::EmptyOrBackup => "neither empty nor a backup",
        }
    }
}

/// The target directory of a transfer, locked.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) blobs: Blobs,
    disk: Arc<dyn Disk>,
    /// Holds the lock.
    _marker: LockedFile,
}

impl Target {
    /// Opens a directory for a backup: a new one, or one with an earlier backup.
    pub(crate) fn for_backup(directory: &Path, from: &Tree, disk: Arc<dyn Disk>) -> Result<Self, TargetError> {
        Self::open(directory, from, disk, Expected::EmptyOrBackup)
    }

    /// Opens a directory for a restored registry: a new one, or one with an unfinished restoration.
    pub(crate) fn for_registry(directory: &Path, from: &Tree, disk: Arc<dyn Disk>) -> Result<Self, TargetError> {
        Self::open(directory, from, disk, Expected::Empty)
    }

    fn open(directory: &Path, from: &Tree, disk: Arc<dyn Disk>, expected: Expected) -> Result<Self, TargetError> {
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| TargetError::Failed(Error::io(operation, &path)(source))
        };
        let tree = Tree::new(directory);
        if overlap(directory, from.root()).map_err(failed("read the metadata of", directory))? {
            return Err(TargetError::Overlaps { directory: directory.to_owned() });
        }
        let marker = tree.backup_marker();
        // A restoration that did not end has left the marker, and no database.
        let is_ours = marker.exists() && (expected == Expected::EmptyOrBackup || !tree.database().exists());
        if !is_ours && !is_empty(directory).map_err(failed("read the metadata of", directory))? {
            return Err(TargetError::Occupied { directory: directory.to_owned(), expected });
        }
        if !directory.exists() {
            create_dir_all(&*disk, directory).map_err(failed("create", directory))?;
            if let Some(owner) = Owner::to_inherit(from.root()) {
                owner.take(directory);
            }
        }
        // The marker comes first, so that a directory with half a backup is recognised.
        if !is_ours {
            let file = disk.create(&marker).map_err(failed("create", &marker))?;
            disk.write_at(&file, &marker, MARKER_TEXT.as_bytes(), 0).map_err(failed("write", &marker))?;
            disk.sync(&file, &marker).map_err(failed("sync", &marker))?;
            disk.sync_dir(directory).map_err(failed("sync", directory))?;
        }
        let opened = File::open(&marker).map_err(failed("open", &marker))?;
        let Some(locked) = LockedFile::exclusive(opened).map_err(failed("lock", &marker))? else {
            return Err(TargetError::Busy { directory: directory.to_owned() });
        };
        let blobs = Blobs::open(directory, Arc::clone(&disk), true)?;
        // A backup has no uploads. These are left from a cancelled attempt.
        for (id, _) in blobs.stagings()? {
            blobs.discard(id)?;
        }
        blobs.discard_arriving()?;
        Ok(Self { blobs, disk, _marker: locked })
    }

    pub(crate) const fn tree(&self) -> &Tree {
        &self.blobs.tree
    }

    /// Makes the directory a registry, which is no longer a backup.
    pub(crate) fn remove_backup_marker(self) -> Result<(), Error> {
        let marker = self.tree().backup_marker();
        if_exists(self.disk.remove(&marker)).map_err(Error::io("remove", &marker))?;
        let root = self.tree().root();
        self.disk.sync_dir(root).map_err(Error::io("sync", root))
    }
}

impl Blobs {
    pub(crate) const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Transfers a blob from another data directory. [`Blobs::sync_directories`] makes its name durable.
    pub(crate) fn transfer(
        &self,
        from: &Tree,
        digest: Digest,
        size: u64,
        mode: TransferMode,
    ) -> Result<TransferOutcome, Error> {
        if let Some(present) = self.get(digest)? {
            if present.size == size {
                return Ok(TransferOutcome::Present);
            }
            self.remove(digest)?;
        }
        let (source, target) = (from.blob(&digest), self.tree.blob(&digest));
        let Some(part) = FilePart::whole(&source).map_err(Error::io("open", &source))? else {
            return Ok(TransferOutcome::Damaged);
        };
        if part.size() != size {
            return Ok(TransferOutcome::Damaged);
        }
        if mode == TransferMode::Cheapest {
            if self.may_link(&source, digest) && self.disk.link(&source, &target).is_ok() {
                return Ok(TransferOutcome::Linked);
            }
            if let Some(arrival) = self.share(&part, digest)? {
                arrival.name()?;
                return Ok(TransferOutcome::Shared);
            }
        }
        Ok(match self.copy(&part, digest, &|_| {})? {
            Some(arrival) => arrival.name().map(|()| TransferOutcome::Copied)?,
            None => TransferOutcome::Damaged,
        })
    }

    /// Whether a path is in the data directory, by any name or mount. It need not exist.
    pub(crate) fn contains(&self, path: &Path) -> io::Result<bool> {
        Ok(lineage(path)?.contains(&FileId::at(self.tree.root())?))
    }

    /// The file of a blob, to read all of it. `None` if it does not exist.
    pub(crate) fn part(&self, digest: Digest) -> Result<Option<FilePart>, Error> {
        let path = self.tree.blob(&digest);
        FilePart::whole(&path).map_err(Error::io("open", &path))
    }

    /// Whether the owner of the blob directory could use a hard link to this file.
    pub(super) fn may_link(&self, file: &Path, digest: Digest) -> bool {
        has_owner_for(file, &self.tree.blobs_of(digest.algorithm()))
    }
}

/// Whether a file and a directory have the same owner. If root runs the transfer, a hard link keeps the owner of the
/// file, and the owner of the directory could not read it.
fn has_owner_for(file: &Path, directory: &Path) -> bool {
    let user = |path: &Path| Owner::to_inherit(path).map(|owner| owner.user);
    user(file) == user(directory)
}

/// Whether a directory is empty or missing. Entries of the file system itself do not count.
fn is_empty(directory: &Path) -> io::Result<bool> {
    for entry in if_exists(fs::read_dir(directory))?.into_iter().flatten() {
        if !is_of_the_volume(&entry?.file_name().to_string_lossy()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether file systems, NAS systems or desktops make entries of this name.
fn is_of_the_volume(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "lost+found",
        "@eaDir",
        "@Recycle",
        "#recycle",
        "#snapshot",
        ".snapshot",
        ".snapshots",
        ".zfs",
        ".DS_Store",
        ".Spotlight-V100",
    ];
    NAMES.contains(&name) || [".nfs", "._", ".Trash", ".fuse_hidden"].iter().any(|start| name.starts_with(start))
}

/// Whether two directories are the same, or one is in the other, by any path or mount. The second must exist.
fn overlap(one: &Path, other: &Path) -> io::Result<bool> {
    let exists = one.try_exists()?;
    let (one, other) = (lineage(one)?, lineage(other)?);
    Ok(other.first().is_some_and(|other| one.contains(other))
        || (exists && one.first().is_some_and(|one| other.contains(one))))
}

/// The identities of a directory and its parents. Of a missing directory, only those of its parents.
fn lineage(path: &Path) -> io::Result<Vec<FileId>> {
    let mut path = path.to_owned();
    while !path.try_exists()? {
        if !path.pop() || path.as_os_str().is_empty() {
            path = PathBuf::from(".");
        }
    }
    let mut found = Vec::new();
    loop {
        let id = FileId::at(&path)?;
        if found.last() == Some(&id) {
            return Ok(found);
        }
        found.push(id);
        path.push("..");
    }
}
