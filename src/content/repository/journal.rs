//! Maintenance of the journal of manifests, which [`super::recover`] reads if the database is lost.

use std::ops::ControlFlow;
use std::time::Duration;

use super::{Error, Stores};

impl Stores {
    /// Whether [`Stores::maintain_journal`] has something to do.
    pub(crate) fn is_journal_due(&self) -> bool {
        self.database.is_journal_due()
    }

    /// Syncs the journal, and rebuilds it if necessary. Returns whether it was rebuilt.
    pub(crate) fn maintain_journal(&self, mut pause: impl FnMut(Duration) -> ControlFlow<()>) -> Result<bool, Error> {
        Ok(self.database.maintain_journal(&mut pause)?)
    }
}
