//! Backups, and registries made from them: the same steps in both directions.
//!
//! A backup is itself a data directory: a copy of the rows, and the blobs that they speak of. A crash at any moment
//! leaves the last backup or the new one whole, for the steps come in this order:
//!
//! 1. A copy of the rows, as they are at one moment, under a temporary name. From before that moment on no file of
//!    a blob is removed from the registry, so that every blob of the copy has its file.
//! 2. The blobs that are missing. The last backup does not need them, and is not hurt by them.
//! 3. When their names are durable: the new rows, in place of the last ones.
//! 4. The blobs that only the last backup needed go.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Stores;
use crate::content::blobs::{self, Disk, Entry, SystemDisk, Target, TargetError, TransferMode, TransferOutcome, Tree};
use crate::content::rows::{self, Extent, Pause, ReadOnlyDatabase, install};
use crate::oci::{Algorithm, Digest};

/// As many blobs are looked up, or removed, in one step.
const STEP: usize = 256;
/// As many damaged blobs are named.
const NAMED_MAX: usize = 1000;

/// What was brought into another directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transferred {
    /// All blobs that are in it now, and their bytes.
    pub(crate) blobs: u64,
    pub(crate) bytes: u64,
    /// Of these, those that share a file or its bytes with where they came from.
    pub(crate) linked: u64,
    pub(crate) linked_bytes: u64,
    /// Of these, those that were copied.
    pub(crate) copied: u64,
    pub(crate) copied_bytes: u64,
    /// Blobs that were in it before and are not wanted any more.
    pub(crate) removed: u64,
    /// How many blobs have no file that could be right, and the first of them.
    pub(crate) damaged: u64,
    pub(crate) damaged_digests: Vec<Digest>,
    pub(crate) took: Duration,
}

/// Why there is no new backup, or no registry made from one.
#[derive(Debug)]
pub(crate) enum BackupError {
    Target(TargetError),
    /// What is to be restored cannot be read.
    Source(String),
    /// Whoever asked for it does not want it any more.
    Cancelled,
    Blobs(blobs::Error),
    Database(rows::Error),
}

impl From<blobs::Error> for BackupError {
    fn from(error: blobs::Error) -> Self {
        Self::Blobs(error)
    }
}

impl From<TargetError> for BackupError {
    fn from(error: TargetError) -> Self {
        Self::Target(error)
    }
}

impl From<rows::Error> for BackupError {
    fn from(error: rows::Error) -> Self {
        match error {
            rows::Error::Cancelled => Self::Cancelled,
            error => Self::Database(error),
        }
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(error) => error.fmt(f),
            Self::Source(why) => f.write_str(why),
            Self::Cancelled => f.write_str("it was broken off: what was in the directory before is as it was"),
            Self::Blobs(error) => error.fmt(f),
            Self::Database(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BackupError {}

impl BackupError {
    /// The I/O error at the bottom, if that is what happened.
    pub(crate) fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Target(TargetError::Failed(blobs::Error::Io(failed))) | Self::Blobs(blobs::Error::Io(failed)) => {
                Some(&failed.source)
            }
            Self::Database(error) => error.io(),
            Self::Target(_) | Self::Source(_) | Self::Cancelled | Self::Blobs(_) => None,
        }
    }
}

impl Stores {
    /// Makes a directory a backup of what is here now, or brings the backup in it up to date. Clients go on; only
    /// files of removed blobs stay until it is done.
    pub(crate) fn back_up(
        &self,
        directory: &Path,
        way: TransferMode,
        pause: impl FnMut(Duration) -> ControlFlow<()>,
    ) -> Result<Transferred, BackupError> {
        self.back_up_on(&system_disk(), directory, way, pause)
    }

    /// As [`Stores::back_up`], to a disk that may be another than that of the registry.
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
        Ok(Transferred { took: began.elapsed(), ..transferred })
    }
}

/// Makes a registry in an empty directory, or one that is missing, from a backup or another data directory that
/// nobody uses. `verify` is whether every blob is hashed.
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
    let unreadable = |error: rows::Error| {
        BackupError::Source(format!("there is nothing to restore from in {}: {error}", backup.display()))
    };
    let rows = ReadOnlyDatabase::open(&from.database(), Arc::clone(disk)).map_err(unreadable)?;
    let target = Target::for_registry(root, &from, Arc::clone(disk))?;
    let pause = |_| ControlFlow::Continue(());
    let mut transfer = Transfer { from: &from, target: &target, disk, way, verify, pause };
    let copy = |pause: Pause<'_>| rows.copy(target.tree(), disk, Extent::WithoutSessions, pause);
    let transferred = transfer.run(copy)?;
    target.remove_backup_marker()?;
    Ok(Transferred { took: began.elapsed(), ..transferred })
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
        // The rows that count from now on are those of the copy.
        let rows = ReadOnlyDatabase::open(&tree.new_database(), Arc::clone(self.disk))?;
        let mut after = None;
        loop {
            let began = Instant::now();
            let step = rows.read(|tx| tx.blobs(after, STEP))?;
            let Some((last, _)) = step.last() else { break };
            after = Some(*last);
            for (digest, row) in step {
                self.bring(digest, row.size, &mut transferred)?;
            }
            self.rest(began)?;
        }
        self.target.blobs.sync_names()?;
        drop(rows);
        install(tree, &**self.disk)?;
        transferred.removed = self.remove_others()?;
        Ok(transferred)
    }

    fn rest(&mut self, began: Instant) -> Result<(), BackupError> {
        if (self.pause)(began.elapsed()).is_break() { Err(BackupError::Cancelled) } else { Ok(()) }
    }

    fn bring(&mut self, digest: Digest, size: u64, transferred: &mut Transferred) -> Result<(), BackupError> {
        let blobs = &self.target.blobs;
        let mut brought = blobs.transfer(self.from, digest, size, self.way)?;
        // What was copied was hashed.
        if self.verify && !matches!(brought, TransferOutcome::Copied | TransferOutcome::Damaged) {
            let blob = blobs.get(digest)?;
            let actual = blob.map(|blob| blobs.rehash(&blob, digest, |_| ControlFlow::Continue(()))).transpose()?;
            let is_whole = actual.flatten() == Some(digest);
            if !is_whole {
                blobs.remove(digest)?;
                brought = TransferOutcome::Damaged;
            }
        }
        if brought == TransferOutcome::Damaged {
            transferred.damaged += 1;
            if transferred.damaged_digests.len() < NAMED_MAX {
                transferred.damaged_digests.push(digest);
            }
            return Ok(());
        }
        transferred.blobs += 1;
        transferred.bytes += size;
        let (count, bytes) = match brought {
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

    /// Removes the blobs that the rows do not speak of. Whether that comes to its end does not matter: the next
    /// backup goes on with it.
    fn remove_others(&mut self) -> Result<u64, BackupError> {
        let (blobs, mut removed) = (&self.target.blobs, 0);
        let rows = ReadOnlyDatabase::open(&self.target.tree().database(), Arc::clone(self.disk))?;
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
        blobs.sync_names()?;
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
