//! Orphans: blobs that no repository links any more, and whose files are to go.
//!
//! The transaction that takes the last link away notes the orphan, so that a crash before its file is gone
//! leaves a note and no stray file. The note goes when the file's absence is durable.

use super::{Error, Stores};
use crate::oci::Digest;

/// As many notes are dealt with in one transaction.
const STEP: usize = 128;

impl Stores {
    /// Removes the files of orphans. Where that fails, or somebody wants to keep files at the moment,
    /// [`Stores::sweep`] removes them later: that they are gone was answered for when their rows went.
    pub(super) fn remove_orphans(&self, orphans: &[Digest]) {
        let Some(_free) = self.files.try_write() else { return };
        for digest in orphans {
            let _busy = self.blobs.lock(*digest);
            if let Err(error) = self.remove_orphan(*digest) {
                tracing::warn!(%error, "the file of a deleted blob is left for later");
            }
        }
    }

    /// Somebody may have pushed it since; then there is a row, and the file is theirs.
    fn remove_orphan(&self, digest: Digest) -> Result<(), Error> {
        if self.database.read(|tx| tx.blob(digest))?.is_none() {
            self.blobs.remove(digest)?;
        }
        Ok(())
    }

    /// Removes what files of orphans there still are, and forgets the orphans. Nothing, if somebody wants to
    /// keep files at the moment.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        let _alone = self.sweeping.lock();
        loop {
            let Some(_free) = self.files.try_write() else { return Ok(()) };
            let orphans = self.database.read(|tx| tx.orphans(STEP))?;
            if orphans.is_empty() {
                return Ok(());
            }
            // All of them until the notes are gone: a note must not go that somebody makes meanwhile. Nobody
            // else holds more than one, and so nobody waits for a second while this one waits.
            let _busy: Vec<_> = orphans.iter().map(|digest| self.blobs.lock(*digest)).collect();
            for digest in &orphans {
                self.remove_orphan(*digest)?;
            }
            self.blobs.sync_removals()?;
            self.database.write(move |tx| tx.remove_orphans(&orphans))?;
        }
    }

    /// Whether there are orphans.
    pub(crate) fn has_orphans(&self) -> Result<bool, Error> {
        Ok(!self.database.read(|tx| tx.orphans(1))?.is_empty())
    }
}
