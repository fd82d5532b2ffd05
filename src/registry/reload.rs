//! [`ReloadWarning`]: the warning about the last reload, if the file is not fully in force.

use parking_lot::RwLock;

use super::Shared;

/// The warning about the last reload. `None` if the file is fully in force, or was not read again.
#[derive(Debug, Default)]
pub(super) struct ReloadWarning(RwLock<Option<String>>);

impl Shared {
    /// Replaces the warning, after a reload.
    pub(crate) fn note_reload(&self, warning: Option<String>) {
        *self.reload_warning.0.write() = warning;
    }

    /// The warning of the last reload, if there is one.
    pub(crate) fn reload_warning(&self) -> Option<String> {
        self.reload_warning.0.read().clone()
    }
}
