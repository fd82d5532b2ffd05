//! The journal of manifests, from which content comes back when the database is lost ([`super::recover`]): what
//! is to be done for it from time to time.

use std::ops::ControlFlow;
use std::time::Duration;

use super::{Error, Stores};

impl Stores {
    /// Whether [`Stores::maintain_journal`] has something to do.
    pub(crate) fn is_journal_due(&self) -> bool {
        self.database.is_journal_due()
    }

    /// Makes the journal durable, and anew where that is needed; says whether it is new.
    pub(crate) fn maintain_journal(&self, mut pause: impl FnMut(Duration) -> ControlFlow<()>) -> Result<bool, Error> {
        Ok(self.database.maintain_journal(&mut pause)?)
    }
}
