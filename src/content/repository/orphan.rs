//! Orphans: blobs that no repository links any more, and whose files have to be removed.
//!
//! The transaction that removes the last link writes a row for the orphan, so that a crash leaves a row and not an unknown
//! file. The row goes once the removal of the file is durable.

use super::{Error, Stores};
use crate::oci::Digest;

/// Orphans in one transaction.
const STEP: usize = 128;

impl Stores {
    /// Removes the files of orphans. If that fails, or a task relies on all files now,
    /// [`Stores::remove_leftover_files`] removes them later. Clients already see them as deleted.
    pub(super) fn remove_orphans(&self, orphans: &[Digest]) {
        let Some(_free) = self.files.try_write() else { return };
        for digest in orphans {
            let _busy = self.blobs.lock(*digest);
            if let Err(error) = self.remove_orphan(*digest) {
                tracing::warn!(%error, "postponed the removal of a deleted blob's file");
            }
        }
    }

    /// Removes the file, unless the blob was pushed again and has a row.
    fn remove_orphan(&self, digest: Digest) -> Result<(), Error> {
        if self.database.read(|tx| tx.blob(digest))?.is_none() {
            self.blobs.remove(digest)?;
        }
        Ok(())
    }

    /// Removes the remaining files of orphans, and their rows. Does nothing while a task relies on all files.
    pub(crate) fn remove_leftover_files(&self) -> Result<(), Error> {
        let _alone = self.removing_files.lock();
        loop {
            let Some(_free) = self.files.try_write() else { return Ok(()) };
            let orphans = self.database.read(|tx| tx.orphans(STEP))?;
            if orphans.is_empty() {
                return Ok(());
            }
            // All blobs stay locked until their rows are removed, so that no new row of an orphan is lost. They are sorted,
            // as those of an import, which locks several as well. So there is no deadlock.
            let _busy: Vec<_> = orphans.iter().map(|digest| self.blobs.lock(*digest)).collect();
            for digest in &orphans {
                self.remove_orphan(*digest)?;
            }
            self.blobs.sync_directories()?;
            self.database.write(move |tx| tx.remove_orphans(&orphans))?;
        }
    }

    /// Whether there are orphans.
    pub(crate) fn has_leftover_files(&self) -> Result<bool, Error> {
        Ok(!self.database.read(|tx| tx.orphans(1))?.is_empty())
    }
}
