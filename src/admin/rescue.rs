//! Backups and what is made from them: for a registry that runs, and where there is none yet.

use std::path::Path;

use serde_json::{Value, json};

use crate::repository::{self, Transferred, Way};

/// Makes a registry from a backup.
pub(crate) fn restore(backup: &Path, root: &Path, copy: bool, verify: bool) -> Result<Value, String> {
    let restored = repository::restore(backup, root, way(copy), verify);
    restored.map(|transferred| view(&transferred)).map_err(|error| error.to_string())
}

pub(super) const fn way(copy: bool) -> Way {
    if copy { Way::Copy } else { Way::Cheapest }
}

pub(super) fn view(transferred: &Transferred) -> Value {
    let damaged: Vec<_> = transferred.damaged_digests.iter().map(ToString::to_string).collect();
    json!({
        "blobs": transferred.blobs,
        "bytes": transferred.bytes,
        "linked": transferred.linked,
        "linked_bytes": transferred.linked_bytes,
        "copied": transferred.copied,
        "copied_bytes": transferred.copied_bytes,
        "removed": transferred.removed,
        "damaged": transferred.damaged,
        "damaged_digests": damaged,
        "seconds": transferred.took.as_secs_f64(),
    })
}
