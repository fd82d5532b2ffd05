//! Blobs brought from one data directory into another, and the directories that may be written to for that.
//!
//! Invariant: a directory that is something else is left alone; a blob has its name in the other directory
//! only when all its bytes are there and durable; and what was there before stays until it is not wanted any more.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Owner, create_dir_all};
use super::{Blobs, Disk, Error, Tree};
use crate::kit::file::{FileId, FileParts, if_exists};
use crate::oci::{Digest, Hasher, UploadId};

/// What [`Tree::backup_marker`] says, for people.
const MARK: &str = "\
This directory is a backup that `coracle backup` has made and keeps up to date.
`coracle restore` makes a registry from it. It can also be served from as it is (`coracle serve --root`): then it
is a registry like any other, and no backup any more.
";

/// How files may come into another directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransferMode {
    /// By what costs least: a second name for the same file, else a file that shares its bytes, else a copy.
    Cheapest,
    /// As copies, which share nothing.
    Copy,
}

/// How a blob has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransferOutcome {
    /// It was there.
    Present,
    Linked,
    Shared,
    Copied,
    /// The file is not there, or is not what its name says: it stays where it is.
    Damaged,
}

/// Why a directory cannot be written to.
#[derive(Debug)]
pub(crate) enum TargetError {
    /// It has something else in it.
    Occupied {
        directory: PathBuf,
    },
    /// It is the data directory, in it, or around it.
    Overlaps {
        directory: PathBuf,
    },
    /// Somebody else writes to it.
    Busy {
        directory: PathBuf,
    },
    Failed(Error),
}

impl std::error::Error for TargetError {}

impl std::fmt::Display for TargetError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Occupied { directory } => {
                write!(
                    f,
                    "{} has something else in it: choose an empty directory, or one to be made",
                    directory.display()
                )
            }
            Self::Overlaps { directory } => {
                write!(f, "{} and the directory to copy from lie in one another", directory.display())
            }
            Self::Busy { directory } => write!(f, "somebody else is writing to {}", directory.display()),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// A directory that blobs and rows are brought to. Nobody else writes to it while this is there.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) blobs: Blobs,
    disk: Arc<dyn Disk>,
    _mark: File,
}

impl Target {
    /// A directory for a backup: a new one, or one that has an earlier backup in it.
    pub(crate) fn for_backup(directory: &Path, from: &Tree, disk: Arc<dyn Disk>) -> Result<Self, TargetError> {
        Self::open(directory, from, disk, true)
    }

    /// A directory for a registry: a new one, or one in which a restoration has not come to its end.
    pub(crate) fn for_registry(directory: &Path, from: &Tree, disk: Arc<dyn Disk>) -> Result<Self, TargetError> {
        Self::open(directory, from, disk, false)
    }

    fn open(directory: &Path, from: &Tree, disk: Arc<dyn Disk>, again: bool) -> Result<Self, TargetError> {
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| TargetError::Failed(Error::io(operation, &path)(source))
        };
        let tree = Tree::new(directory);
        if overlap(directory, from.root()).map_err(failed("look at", directory))? {
            return Err(TargetError::Overlaps { directory: directory.to_owned() });
        }
        let mark = tree.backup_marker();
        let is_ours = mark.exists() && (again || !tree.database().exists());
        if !is_ours && !is_empty(directory).map_err(failed("look at", directory))? {
            return Err(TargetError::Occupied { directory: directory.to_owned() });
        }
        if !directory.exists() {
            create_dir_all(&*disk, directory).map_err(failed("create", directory))?;
            if let Some(owner) = Owner::to_inherit(from.root()) {
                owner.take(directory);
            }
        }
        // Before anything else is there: a directory with half a backup in it is not mistaken for something else.
        if !is_ours {
            let file = disk.create(&mark).map_err(failed("create", &mark))?;
            disk.write_at(&file, &mark, MARK.as_bytes(), 0).map_err(failed("write", &mark))?;
            disk.sync(&file, &mark).map_err(failed("sync", &mark))?;
            disk.sync_dir(directory).map_err(failed("sync", directory))?;
        }
        let held = File::open(&mark).map_err(failed("open", &mark))?;
        if let Err(TryLockError::WouldBlock) = held.try_lock() {
            return Err(TargetError::Busy { directory: directory.to_owned() });
        }
        let blobs = Blobs::open(directory, Arc::clone(&disk), true).map_err(TargetError::Failed)?;
        // What an attempt that was broken off has left; and a backup has no uploads.
        for (id, _) in blobs.stagings().map_err(TargetError::Failed)? {
            blobs.discard(id).map_err(TargetError::Failed)?;
        }
        Ok(Self { blobs, disk, _mark: held })
    }

    pub(crate) const fn tree(&self) -> &Tree {
        &self.blobs.tree
    }

    /// The directory is no backup any more, but a registry.
    pub(crate) fn remove_backup_marker(self) -> Result<(), Error> {
        self.blobs.remove_backup_marker()?;
        let root = self.tree().root();
        self.disk.sync_dir(root).map_err(Error::io("sync", root))
    }
}

impl Blobs {
    /// Where they are.
    pub(crate) const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Takes the mark of a backup away, if there is one: whoever opens the directory to serve from it may change it.
    pub(crate) fn remove_backup_marker(&self) -> Result<(), Error> {
        let mark = self.tree.backup_marker();
        if_exists(self.disk.remove(&mark)).map(drop).map_err(Error::io("remove", &mark))
    }

    /// Brings a blob of a known size from another directory. Its name is durable with [`Blobs::sync_names`].
    pub(crate) fn transfer(
        &self,
        from: &Tree,
        digest: Digest,
        size: u64,
        way: TransferMode,
    ) -> Result<TransferOutcome, Error> {
        if let Some(there) = self.get(digest)? {
            if there.size == size {
                return Ok(TransferOutcome::Present);
            }
            self.remove(digest)?;
        }
        let (source, target) = (from.blob(&digest), self.tree.blob(&digest));
        let Some(file) = if_exists(File::open(&source)).map_err(Error::io("open", &source))? else {
            return Ok(TransferOutcome::Damaged);
        };
        if file.metadata().map_err(Error::io("look at", &source))?.len() != size {
            return Ok(TransferOutcome::Damaged);
        }
        let may_link = way == TransferMode::Cheapest && has_owner_for(&source, &self.tree.blobs_of(digest.algorithm()));
        if may_link && self.disk.link(&source, &target).is_ok() {
            return Ok(TransferOutcome::Linked);
        }
        self.transfer_bytes(&file, &source, digest, way)
    }

    /// Brings a blob's bytes to a file of their own. Those that are copied are hashed on the way.
    fn transfer_bytes(
        &self,
        from: &File,
        source: &Path,
        digest: Digest,
        way: TransferMode,
    ) -> Result<TransferOutcome, Error> {
        let path = self.tree.upload(UploadId::new(rand::random()));
        let to = self.disk.create(&path).map_err(Error::io("create", &path))?;
        let brought = if way == TransferMode::Cheapest && self.disk.share(from, &to, &path).is_ok() {
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
        // As old as it was: a later look at the file is not to think that somebody has written to it.
        let modified = from.metadata().and_then(|metadata| metadata.modified());
        modified.and_then(|time| to.set_modified(time)).map_err(Error::io("set the time of", &path))?;
        self.disk.sync(&to, &path).map_err(Error::io("sync", &path))?;
        let target = self.tree.blob(&digest);
        self.disk.rename(&path, &target).map_err(Error::io("rename", &path))?;
        Ok(brought)
    }

    /// Makes durable which blobs are there.
    pub(crate) fn sync_names(&self) -> Result<(), Error> {
        self.sync_removals()
    }
}

/// Whether the user who owns a directory owns this file. Matters if root links files: a link has the owner of the file,
/// which another user cannot read.
fn has_owner_for(file: &Path, directory: &Path) -> bool {
    let user = |path: &Path| Owner::to_inherit(path).map(|owner| owner.user);
    user(file) == user(directory)
}

/// Whether a directory, which may be missing, has nothing in it.
fn is_empty(directory: &Path) -> io::Result<bool> {
    for entry in if_exists(fs::read_dir(directory))?.into_iter().flatten() {
        if !is_of_the_volume(&entry?.file_name().to_string_lossy()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a name is one that file systems, NAS systems and desktops give to entries of their own.
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

/// Whether one of two directories lies in the other, or is it, whatever they are called and wherever they are mounted.
/// The second must exist.
fn overlap(one: &Path, other: &Path) -> io::Result<bool> {
    let exists = one.try_exists()?;
    let (one, other) = (lineage(one)?, lineage(other)?);
    Ok(other.first().is_some_and(|other| one.contains(other))
        || (exists && one.first().is_some_and(|one| other.contains(one))))
}

/// The identity of a directory and of each one above it; of a missing directory, those above it.
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
