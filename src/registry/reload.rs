//! [`Reload`]: what the last reload of the configuration left to do for the operator.

use parking_lot::RwLock;

use super::Shared;

/// Why the configuration file is not in force, or not as a whole. `None` if it is, or was not read again.
#[derive(Debug, Default)]
pub(super) struct Reload(RwLock<Option<String>>);

impl Shared {
    /// Notes what a reload left to do, which replaces what the reload before it left.
    pub(crate) fn note_reload(&self, warning: Option<String>) {
        *self.reload.0.write() = warning;
    }

    /// The rest of the work that the last reload left to the operator.
    pub(crate) fn reload_warning(&self) -> Option<String> {
        self.reload.0.read().clone()
    }
}
