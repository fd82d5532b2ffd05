//! Transfer of blobs from one data directory to another, for backup and restore.
//!
//! Invariants: a directory with other files is not touched; a blob gets its name in the target only when all its bytes
//! are durable.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Owner, create_dir_all};
use super::{Blobs, Disk, Error, Tree};
use crate::kit::file::{FileId, FileParts, if_exists};
use crate::oci::{Digest, Hasher, UploadId};

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
    #[error("{} is neither empty nor a backup: choose another directory", directory.display())]
    Occupied { directory: PathBuf },
    /// It is the source directory, in it, or around it.
    #[error("{} overlaps the directory to copy from", directory.display())]
    Overlaps { directory: PathBuf },
    #[error("another process is writing to {}", directory.display())]
    Busy { directory: PathBuf },
    #[error("{0}")]
    Failed(#[from] Error),
}

/// The target directory of a transfer, locked.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) blobs: Blobs,
    disk: Arc<dyn Disk>,
    /// Holds the lock.
    _marker: File,
}

impl Target {
    /// Opens a directory for a backup: a new one, or one with an earlier backup.
    pub(crate) fn for_backup(directory: &Path, from: &Tree, disk: Arc<dyn Disk>) -> Result<Self, TargetError> {
        Self::open(directory, from, disk, true)
    }

    /// Opens a directory for a restored registry: a new one, or one with an unfinished restoration.
    pub(crate) fn for_registry(directory: &Path, from: &Tree, disk: Arc<dyn Disk>) -> Result<Self, TargetError> {
        Self::open(directory, from, disk, false)
    }

    fn open(directory: &Path, from: &Tree, disk: Arc<dyn Disk>, may_update: bool) -> Result<Self, TargetError> {
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| TargetError::Failed(Error::io(operation, &path)(source))
        };
        let tree = Tree::new(directory);
        if overlap(directory, from.root()).map_err(failed("read the metadata of", directory))? {
            return Err(TargetError::Overlaps { directory: directory.to_owned() });
        }
        let marker = tree.backup_marker();
        let is_ours = marker.exists() && (may_update || !tree.database().exists());
        if !is_ours && !is_empty(directory).map_err(failed("read the metadata of", directory))? {
            return Err(TargetError::Occupied { directory: directory.to_owned() });
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
        let locked = File::open(&marker).map_err(failed("open", &marker))?;
        if let Err(TryLockError::WouldBlock) = locked.try_lock() {
            return Err(TargetError::Busy { directory: directory.to_owned() });
        }
        let blobs = Blobs::open(directory, Arc::clone(&disk), true)?;
        // A backup has no uploads. These are left from a cancelled attempt.
        for (id, _) in blobs.stagings()? {
            blobs.discard(id)?;
        }
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
        let Some(file) = if_exists(File::open(&source)).map_err(Error::io("open", &source))? else {
            return Ok(TransferOutcome::Damaged);
        };
        if file.metadata().map_err(Error::io("read the metadata of", &source))?.len() != size {
            return Ok(TransferOutcome::Damaged);
        }
        let may_link =
            mode == TransferMode::Cheapest && has_owner_for(&source, &self.tree.blobs_of(digest.algorithm()));
        if may_link && self.disk.link(&source, &target).is_ok() {
            return Ok(TransferOutcome::Linked);
        }
        self.transfer_bytes(&file, &source, digest, mode)
    }

    /// Reflinks or copies a blob. Copied bytes are hashed.
    fn transfer_bytes(
        &self,
        from: &File,
        source: &Path,
        digest: Digest,
        mode: TransferMode,
    ) -> Result<TransferOutcome, Error> {
        let path = self.tree.upload(UploadId::new(rand::random()));
        let to = self.disk.create(&path).map_err(Error::io("create", &path))?;
        let outcome = if mode == TransferMode::Cheapest && self.disk.share(from, &to, &path).is_ok() {
            TransferOutcome::Shared
        } else {
            let mut hasher = Hasher::new(digest.algorithm());
            let mut parts = FileParts::all(from);
            while let Some((offset, part)) = parts.next().map_err(Error::io("read", source))? {
                hasher.update(part);
                self.disk.write_at(&to, &path, part, offset).map_err(Error::io("write", &path))?;
            }
            if hasher.finish() != digest {
                self.disk.remove(&path).map_err(Error::io("remove", &path))?;
                return Ok(TransferOutcome::Damaged);
            }
            TransferOutcome::Copied
        };
        // The modification time is kept, because a changed one means that the file was written to.
        let modified = from.metadata().and_then(|metadata| metadata.modified());
        modified.and_then(|time| to.set_modified(time)).map_err(Error::io("set the time of", &path))?;
        self.disk.sync(&to, &path).map_err(Error::io("sync", &path))?;
        let target = self.tree.blob(&digest);
        self.disk.rename(&path, &target).map_err(Error::io("rename", &path))?;
        Ok(outcome)
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
