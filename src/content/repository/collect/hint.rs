//! Whether content is unreferenced after all. A row only says that it was at some time.

use crate::content::repository::manifest::stored_manifest;
use crate::content::repository::retention::UntaggedPlans;
use crate::content::repository::{Error, Stores};
use crate::content::rows::{Rows, Unreferenced, UnreferencedRow};
use crate::oci::Manifest;

impl Stores {
    /// Returns the rows whose content a collection removes when they are due. A row is only a hint.
    pub(in crate::content::repository) fn collectable(
        &self,
        tx: &Rows,
        rows: Vec<UnreferencedRow>,
    ) -> Result<Vec<UnreferencedRow>, Error> {
        let left = self.without_kept(tx, rows, &mut UntaggedPlans::default())?;
        let mut found = Vec::with_capacity(left.len());
        for row in left {
            let kept = self.rules.retention.retain(&row.repository);
            let goes = match row.kind {
                Unreferenced::Link => tx.is_link_unreferenced(&row.repository, row.digest)?,
                Unreferenced::Manifest if kept.untagged => {
                    tx.deleted_manifest(&row.repository, row.digest)?.is_some() && is_removed(tx, &row)?
                }
                Unreferenced::Referrer if kept.referrers => false,
                Unreferenced::Manifest | Unreferenced::Referrer => is_removed(tx, &row)?,
                Unreferenced::Subject => false,
            };
            if goes {
                found.push(row);
            }
        }
        Ok(found)
    }
}

/// Whether the manifest of a row exists, can be read and is not needed.
fn is_removed(tx: &Rows, row: &UnreferencedRow) -> Result<bool, Error> {
    match stored_manifest(tx, &row.repository, row.digest) {
        Ok(Some(manifest)) => Ok(!is_needed(tx, row, &manifest)?),
        Ok(None) | Err(Error::Corrupt { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a manifest of a row is needed after all.
pub(super) fn is_needed(tx: &Rows, row: &UnreferencedRow, manifest: &Manifest) -> Result<bool, Error> {
    let UnreferencedRow { repository, digest, .. } = row;
    // A referrer stays while its subject exists and is not deleted.
    let is_deleted = tx.deleted_manifest(repository, *digest)?.is_some();
    let is_referrer = match (row.kind, manifest.subject()) {
        _ if is_deleted => false,
        (_, None) => false,
        (Unreferenced::Referrer, Some(subject)) => tx.stored_manifest(repository, subject)?.is_some(),
        (_, Some(_)) => true,
    };
    Ok(is_referrer || tx.is_named(repository, *digest)?)
}
