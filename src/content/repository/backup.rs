//! Backup and restore, which take the same steps in opposite directions.
//!
//! A backup is a data directory: a copy of the rows, and their blobs. A crash at any moment leaves either the previous
//! backup or the new one complete, because of the order of the steps:
//!
//! 1. Copy the rows, as they are at one moment, to a temporary name. From before that moment the registry removes no blob
//!    file, so every blob of the copy has its file.
//! 2. Transfer the missing blobs. They do not affect the previous backup.
//! 3. Sync their names, then replace the previous rows with the new ones.
//! 4. Remove the blobs that only the previous backup needed.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Error, Stores};
use crate::content::blobs::{self, Disk, Entry, SystemDisk, Target, TargetError, TransferMode, TransferOutcome, Tree};
use crate::content::rows::{self, Extent, Pause, ReadOnlyDatabase, SETTING_LAST_BACKUP, install};
use crate::kit::clock::Timestamp;
use crate::oci::{Algorithm, Digest};

/// Blobs that are looked up or removed in one step.
const STEP: usize = 256;
/// Damaged blobs that are named.
const NAMED_MAX: usize = 1000;

/// The result of a backup or a restore.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Transferred {
    /// All blobs in the target now, and their bytes.
    pub(crate) blobs: u64,
    pub(crate) bytes: u64,
    /// The blobs among them that share the file or its extents with the source.
    pub(crate) linked: u64,
    pub(crate) linked_bytes: u64,
    /// The blobs among them that were copied.
    pub(crate) copied: u64,
    pub(crate) copied_bytes: u64,
    /// Blobs of the previous backup that were removed.
    pub(crate) removed: u64,
    /// The number of blobs without an intact file, and the first of them.
    pub(crate) damaged: u64,
    pub(crate) damaged_digests: Vec<Digest>,
    /// The duration in seconds.
    pub(crate) seconds: f64,
}

/// Why a backup or a restore failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The source of a restore cannot be read.
    #[error("there is nothing to restore from in {}: {source}", path.display())]
    Source { path: PathBuf, source: rows::Error },
    /// The caller cancelled it.
    #[error("the backup was cancelled: the previous content of the directory is unchanged")]
    Cancelled,
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    #[error(transparent)]
    Database(rows::Error),
}

impl From<rows::Error> for BackupError {
    fn from(error: rows::Error) -> Self {
        match error {
            rows::Error::Cancelled => Self::Cancelled,
            error => Self::Database(error),
        }
    }
}

impl BackupError {
    /// The I/O error that caused it, if any.
    pub(crate) fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Target(TargetError::Failed(blobs::Error::Io(failed))) | Self::Blobs(blobs::Error::Io(failed)) => {
                Some(&failed.source)
            }
            Self::Database(error) => error.io(),
            Self::Target(_) | Self::Source { .. } | Self::Cancelled | Self::Blobs(_) => None,
        }
    }
}

impl Stores {
    /// Makes a backup in a directory, or updates the backup there. Clients go on meanwhile. Files of removed blobs stay
    /// until the backup is done.
    pub(crate) fn back_up(
        &self,
        directory: &Path,
        way: TransferMode,
        pause: impl FnMut(Duration) -> ControlFlow<()>,
    ) -> Result<Transferred, BackupError> {
        self.back_up_on(&system_disk(), directory, way, pause)
    }

    /// As [`Stores::back_up`], to another disk.
    fn back_up_on(
        &self,
        disk: &Arc<dyn Disk>,
        directory: &Path,
        way: TransferMode,
        pause: impl FnMut(Duration) -> ControlFlow<()>,
    ) -> Result<Transferred, BackupError> {
        let began = Instant::now();
        let from = self.blobs.tree();
        let target = Target::for_backup(directory, from, Arc::clone(disk))?;
        let _kept = self.files.read();
        let mut transfer = Transfer { from, target: &target, disk, way, verify: false, pause };
        let copy = |pause: Pause<'_>| self.database.copy(target.tree(), disk, Extent::WithoutSessions, pause);
        let transferred = transfer.run(copy)?;
        let now = self.clock.now().micros().to_be_bytes();
        if let Err(error) = self.database.write(move |tx| tx.set_setting(SETTING_LAST_BACKUP, &now)) {
            tracing::warn!(%error, "the time of the backup could not be stored; the backup is complete");
        }
        Ok(Transferred { seconds: began.elapsed().as_secs_f64(), ..transferred })
    }

    /// When the last backup was finished.
    pub(crate) fn last_backup(&self) -> Result<Option<Timestamp>, Error> {
        let bytes = self.database.read(|tx| tx.setting(SETTING_LAST_BACKUP))?;
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(|bytes| Timestamp::from_micros(u64::from_be_bytes(bytes))))
    }
}

/// Makes a registry in an empty or missing directory from a backup, or from the data directory of a stopped registry.
/// `verify` hashes every blob.
pub(crate) fn restore(backup: &Path, root: &Path, way: TransferMode, verify: bool) -> Result<Transferred, BackupError> {
    restore_on(&system_disk(), backup, root, way, verify)
}

fn restore_on(
    disk: &Arc<dyn Disk>,
    backup: &Path,
    root: &Path,
    way: TransferMode,
    verify: bool,
) -> Result<Transferred, BackupError> {
    let began = Instant::now();
    let from = Tree::new(backup);
    let unreadable = |source| BackupError::Source { path: backup.to_owned(), source };
    let rows = ReadOnlyDatabase::open(&from, &from.database(), Arc::clone(disk)).map_err(unreadable)?;
    let target = Target::for_registry(root, &from, Arc::clone(disk))?;
    let pause = |_| ControlFlow::Continue(());
    let mut transfer = Transfer { from: &from, target: &target, disk, way, verify, pause };
    let copy = |pause: Pause<'_>| rows.copy(target.tree(), disk, Extent::WithoutSessions, pause);
    let transferred = transfer.run(copy)?;
    target.remove_backup_marker()?;
    Ok(Transferred { seconds: began.elapsed().as_secs_f64(), ..transferred })
}

fn system_disk() -> Arc<dyn Disk> {
    Arc::new(SystemDisk)
}

struct Transfer<'a, P> {
    from: &'a Tree,
    target: &'a Target,
    disk: &'a Arc<dyn Disk>,
    way: TransferMode,
    verify: bool,
    pause: P,
}

impl<P: FnMut(Duration) -> ControlFlow<()>> Transfer<'_, P> {
    fn run(&mut self, copy: impl FnOnce(Pause<'_>) -> Result<(), rows::Error>) -> Result<Transferred, BackupError> {
        copy(&mut self.pause)?;
        let (tree, mut transferred) = (self.target.tree(), Transferred::default());
        // From here on only the rows of the copy matter.
        let rows = ReadOnlyDatabase::open(tree, &tree.new_database(), Arc::clone(self.disk))?;
        let mut after = None;
        loop {
            let began = Instant::now();
            let step = rows.read(|tx| tx.blobs(after, STEP))?;
            let Some((last, _)) = step.last() else { break };
            after = Some(*last);
            for (digest, row) in step {
                self.transfer_blob(digest, row.size, &mut transferred)?;
            }
            self.rest(began)?;
        }
        self.target.blobs.sync_directories()?;
        drop(rows);
        install(tree, &**self.disk)?;
        transferred.removed = self.remove_others()?;
        Ok(transferred)
    }

    fn rest(&mut self, began: Instant) -> Result<(), BackupError> {
        if (self.pause)(began.elapsed()).is_break() { Err(BackupError::Cancelled) } else { Ok(()) }
    }

    fn transfer_blob(&mut self, digest: Digest, size: u64, transferred: &mut Transferred) -> Result<(), BackupError> {
        let blobs = &self.target.blobs;
        let mut outcome = blobs.transfer(self.from, digest, size, self.way)?;
        // Copying has already verified the digest.
        if self.verify && !matches!(outcome, TransferOutcome::Copied | TransferOutcome::Damaged) {
            let blob = blobs.get(digest)?;
            let actual = blob.map(|blob| blobs.rehash(&blob, digest, |_| ControlFlow::Continue(()))).transpose()?;
            let is_whole = actual.flatten() == Some(digest);
            if !is_whole {
                blobs.remove(digest)?;
                outcome = TransferOutcome::Damaged;
            }
        }
        if outcome == TransferOutcome::Damaged {
            transferred.damaged += 1;
            if transferred.damaged_digests.len() < NAMED_MAX {
                transferred.damaged_digests.push(digest);
            }
            return Ok(());
        }
        transferred.blobs += 1;
        transferred.bytes += size;
        let (count, bytes) = match outcome {
            TransferOutcome::Present | TransferOutcome::Damaged => return Ok(()),
            TransferOutcome::Linked | TransferOutcome::Shared => {
                (&mut transferred.linked, &mut transferred.linked_bytes)
            }
            TransferOutcome::Copied => (&mut transferred.copied, &mut transferred.copied_bytes),
        };
        *count += 1;
        *bytes += size;
        Ok(())
    }

    /// Removes the blobs without a row. It may be interrupted: the next backup continues it.
    fn remove_others(&mut self) -> Result<u64, BackupError> {
        let (blobs, mut removed) = (&self.target.blobs, 0);
        let rows = ReadOnlyDatabase::open(self.target.tree(), &self.target.tree().database(), Arc::clone(self.disk))?;
        for algorithm in Algorithm::ALL {
            let (mut began, mut looked_at, mut outcome) = (Instant::now(), 0, Ok(()));
            blobs.each_entry(algorithm, |entry| {
                let Entry::Blob(digest) = entry else { return ControlFlow::Continue(()) };
                outcome = self.remove_unless_wanted(&rows, digest).map(|was_removed| removed += u64::from(was_removed));
                looked_at += 1;
                if looked_at % STEP == 0 && outcome.is_ok() {
                    outcome = self.rest(began);
                    began = Instant::now();
                }
                if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            match outcome {
                Err(BackupError::Cancelled) => return Ok(removed),
                outcome => outcome?,
            }
        }
        blobs.sync_directories()?;
        Ok(removed)
    }

    fn remove_unless_wanted(&self, rows: &ReadOnlyDatabase, digest: Digest) -> Result<bool, BackupError> {
        let is_wanted = rows.read(|tx| tx.blob(digest))?.is_some();
        if !is_wanted {
            self.target.blobs.remove(digest)?;
        }
        Ok(!is_wanted)
    }
}

#[cfg(test)]
mod tests;
