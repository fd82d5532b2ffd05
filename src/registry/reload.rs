//! [`ReloadWarning`]: why the configuration file is not in force.

use parking_lot::RwLock;

use super::Shared;

/// Why the last reload changed nothing, or not everything. `None` if the file is in force, or was not read again.
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
