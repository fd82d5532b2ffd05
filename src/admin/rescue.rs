//! Backups and what is made from them: for a registry that runs, and where there is none yet.

use std::path::Path;

use serde_json::{Value, json};

use crate::content::repository::{
    Recovered, Recovery, TransferMode, Transferred, recover as recover_content, restore as restore_content,
};

/// Makes a registry from a backup.
pub(crate) fn restore(backup: &Path, root: &Path, copy: bool, verify: bool) -> Result<Value, String> {
    let restored = restore_content(backup, root, way(copy), verify);
    restored.map(|transferred| view(&transferred)).map_err(|error| error.to_string())
}

/// Makes the database of a data directory anew.
pub(crate) fn recover(root: &Path, dry_run: bool, prune: bool, force: bool) -> Result<Value, String> {
    let recovered = recover_content(root, Recovery { dry_run, prune, force }).map_err(|error| error.to_string())?;
    let Recovered { damage, lost, set_aside, is_torn, .. } = &recovered;
    Ok(json!({
        "dry_run": dry_run,
        "pruned": prune && !dry_run,
        "damage": damage,
        "repositories": recovered.repositories,
        "manifests": recovered.manifests,
        "tags": recovered.tags,
        "blobs": recovered.blobs,
        "lost_manifests": recovered.lost_manifests,
        "lost_tags": recovered.lost_tags,
        "lost": lost,
        "damaged": recovered.damaged,
        "unnamed": recovered.unnamed,
        "unnamed_bytes": recovered.unnamed_bytes,
        "torn": is_torn,
        "set_aside": set_aside,
    }))
}

pub(super) const fn way(copy: bool) -> TransferMode {
    if copy { TransferMode::Copy } else { TransferMode::Cheapest }
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
