//! Manifests that were deleted by digest and can be restored.
//!
//! A deleted manifest is not served and counts as no reference: clients can delete its blobs and children. Garbage
//! collection keeps it, with everything it references, until it is forgotten. It returns when it is restored, when a tag or
//! an index that names it is restored, or when a client pushes it again.

use super::manifest::{listed, missing, release, stored_manifest};
use super::{Error, Repository};
use crate::content::rows::{AuditEvent, Rows, WriteTx};
use crate::kit::clock::{Moment, SteadyTime, Timestamp};
use crate::oci::{Digest, Manifest, Reference, RepositoryName, Tag};

/// A manifest that can be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeletedManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    /// The size of the manifest itself, in bytes.
    pub(crate) size: u64,
    pub(crate) deleted: Option<Timestamp>,
    /// Until when it can be restored.
    pub(crate) until: Option<Timestamp>,
}

impl Repository {
    /// At most `limit` manifests after `after` that were deleted by digest and can be restored, in the order of their
    /// digests, and the position of the next page. A page may have fewer manifests and a next page.
    pub(crate) fn deleted(
        &self,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<(Vec<DeletedManifest>, Option<Digest>), Error> {
        self.stores.database.read(|tx| {
            let mut digests = tx.deleted_manifests(&self.name, after, limit.saturating_add(1))?;
            let has_more = digests.len() > limit;
            digests.truncate(limit);
            let next = digests.last().copied().filter(|_| has_more);
            let mut found = Vec::new();
            for digest in digests {
                found.extend(self.read_deleted(tx, digest)?);
            }
            Ok((found, next))
        })
    }

    /// A manifest that was deleted by digest, if it can be restored.
    pub(crate) fn deleted_manifest(&self, digest: Digest) -> Result<Option<DeletedManifest>, Error> {
        self.stores.database.read(|tx| self.read_deleted(tx, digest))
    }

    fn read_deleted(&self, tx: &Rows, digest: Digest) -> Result<Option<DeletedManifest>, Error> {
        let Some(row) = restorable(tx, &self.name, digest, self.stores.kept_since())? else { return Ok(None) };
        let deleted = tx.last_past(&self.name, &digest.to_string())?.map(|past| past.ended);
        let until = deleted.map(|deleted| deleted.after(self.stores.rules.tag_history));
        Ok(Some(DeletedManifest { digest, media_type: row.media_type, size: row.size, deleted, until }))
    }

    /// The previous target of a tag, if it is kept.
    pub(crate) fn last_pointed_at(&self, tag: &Tag) -> Result<Option<Digest>, Error> {
        let since = self.stores.kept_since();
        let last = self.stores.database.read(|tx| tx.last_past(&self.name, tag.as_str()))?;
        Ok(last.filter(|last| last.aged >= since).map(|last| last.digest))
    }

    /// Restores a manifest that was deleted by digest. Does nothing if the manifest exists.
    pub(crate) fn restore_manifest(&self, digest: Digest) -> Result<(), Error> {
        let (name, now, since) = (self.name.clone(), self.stores.ages.now(), self.stores.kept_since());
        let sparse = self.stores.rules.sparse_indexes;
        self.write(move |tx| {
            if tx.manifest(&name, digest)?.is_some() {
                return Ok(((), Vec::new()));
            }
            if restorable(tx, &name, digest, since)?.is_none() {
                return Err(Error::ManifestUnknown { reference: Reference::Digest(digest) });
            }
            restore(tx, &name, digest, now, sparse, None)?;
            Ok(((), vec![AuditEvent::new("restore_manifest").with("manifest_digest", &digest)]))
        })
    }
}

/// A deleted manifest that can still be restored.
pub(super) fn restorable(
    tx: &Rows,
    name: &RepositoryName,
    digest: Digest,
    since: SteadyTime,
) -> Result<Option<crate::content::rows::ManifestRow>, Error> {
    let Some(row) = tx.deleted_manifest(name, digest)? else { return Ok(None) };
    // An earlier removal of a tag of this manifest does not extend the time.
    let is_kept = tx.last_past(name, &digest.to_string())?.is_some_and(|past| past.aged >= since);
    Ok(is_kept.then_some(row))
}

/// Hides a manifest from clients. It can be restored.
pub(super) fn hide(
    tx: &mut WriteTx,
    name: &RepositoryName,
    digest: Digest,
    manifest: &Manifest,
    now: Moment,
) -> Result<(), Error> {
    release(tx, name, digest, manifest, now.steady)?;
    for blob in manifest.blobs() {
        tx.put_listing(name, *blob, digest)?;
    }
    Ok(tx.set_deleted(name, digest, now)?)
}

/// Forgets a deleted manifest. It has been unreferenced `since` this time.
pub(super) fn forget(
    tx: &mut WriteTx,
    name: &RepositoryName,
    digest: Digest,
    manifest: &Manifest,
    since: SteadyTime,
) -> Result<(), Error> {
    for listed in manifest.blobs().iter().copied().chain(listed(manifest)) {
        tx.remove_listing(name, listed, digest, since)?;
    }
    tx.remove_deleted_manifest(name, digest)?;
    Ok(tx.note_missing_subject(name, digest, since)?)
}

/// Restores a hidden manifest with the manifests that it lists, and the tags of its signatures that were removed with it.
/// `pushed` are its bytes if a client pushes it, because the stored ones may be damaged; then the manifests that it lists
/// must be there.
pub(super) fn restore(
    tx: &mut WriteTx,
    name: &RepositoryName,
    digest: Digest,
    now: Moment,
    sparse: bool,
    pushed: Option<&[u8]>,
) -> Result<(), Error> {
    // All checks come before all changes, so that a restore that fails changes nothing. Children come after their
    // indexes here, so they are restored from the end.
    let (mut hidden, mut next) = (Vec::new(), vec![digest]);
    while let Some(digest) = next.pop() {
        if hidden.iter().any(|(known, _)| *known == digest) || tx.deleted_manifest(name, digest)?.is_none() {
            continue;
        }
        let unknown = || Error::ManifestUnknown { reference: Reference::Digest(digest) };
        let manifest = match pushed.zip(tx.deleted_manifest(name, digest)?) {
            Some((bytes, row)) => Manifest::read(bytes, row.media_type().as_ref()).map_err(Error::ManifestInvalid)?,
            None => stored_manifest(tx, name, digest)?.ok_or_else(unknown)?,
        };
        let mut missing = missing(tx, name, &manifest, sparse)?;
        // A client that pushes an index pushes its children first, also those that were deleted. So a push restores only
        // the manifest whose bytes it has.
        for child in manifest.manifests().iter().filter(|_| pushed.is_none()) {
            if tx.deleted_manifest(name, child.digest)?.is_some() {
                missing.retain(|missing| *missing != child.digest);
                next.push(child.digest);
            }
        }
        if !missing.is_empty() {
            return Err(Error::ManifestContentMissing { missing });
        }
        hidden.push((digest, manifest));
    }
    for (digest, manifest) in hidden.iter().rev() {
        restore_one(tx, name, *digest, manifest, now)?;
    }
    Ok(())
}

fn restore_one(
    tx: &mut WriteTx,
    name: &RepositoryName,
    digest: Digest,
    manifest: &Manifest,
    now: Moment,
) -> Result<(), Error> {
    let row = tx.deleted_manifest(name, digest)?;
    let deleted = tx.last_past(name, &digest.to_string())?;
    for blob in manifest.blobs() {
        tx.add_blob_reference(name, *blob)?;
        tx.remove_listing(name, *blob, digest, now)?;
    }
    if let (Some(subject), Some(row)) = (manifest.subject(), row) {
        let kind = manifest.artifact_type().unwrap_or_default();
        tx.put_referrer(name, subject, kind, digest, &manifest.referrer_descriptor(digest, row.size))?;
    }
    tx.set_restored(name, digest, now)?;
    for tag in Tag::companions(digest) {
        let past = tx.last_past(name, tag.as_str())?;
        let Some((past, deleted)) = past.zip(deleted.as_ref()) else { continue };
        let is_due_to_it = past.aged >= deleted.aged && tx.tag(name, &tag)?.is_none();
        if is_due_to_it && tx.manifest(name, past.digest)?.is_some() {
            tx.put_tag(name, &tag, past.digest, now, true)?;
        }
    }
    Ok(())
}
