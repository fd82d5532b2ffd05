//! Rows of manifests that were deleted by digest and can be restored.
//!
//! Such a manifest is not served: it has no row in `manifests`. It is kept, with everything it references, as long as
//! the history has a span of it. Deleting by digest writes one, with the digest in place of a tag.

use super::codec::corrupt;
use super::content::ManifestRow;
use super::history::PastRow;
use super::journal::Record;
use super::schema::{DELETED_MANIFESTS, LISTINGS, MANIFEST_BYTES, MANIFESTS, PAST_TAGS};
use super::unreferenced::Unreferenced;
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::Moment;
use crate::oci::{Digest, RepositoryName};

impl Rows {
    /// A manifest that is there, or can be restored.
    pub(crate) fn stored_manifest(
        &self,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<Option<ManifestRow>, Error> {
        match self.manifest(repository, digest)? {
            None => self.deleted_manifest(repository, digest),
            row => Ok(row),
        }
    }

    /// The last span of a tag, or of a digest in place of one, that has ended.
    pub(crate) fn last_past(&self, repository: &RepositoryName, tag: &str) -> Result<Option<PastRow>, Error> {
        let (table, name) = (self.table(PAST_TAGS)?, repository.as_str());
        let mut last: Option<PastRow> = None;
        for row in table.range((name, tag, 0, 0)..(name, tag, u64::MAX, u32::MAX))? {
            let row = super::history::past(row?.1.value(), tag)?;
            if last.as_ref().is_none_or(|last| last.aged <= row.aged) {
                last = Some(row);
            }
        }
        Ok(last)
    }

    /// A manifest of the repository that is there and lists this digest, if there is one: see `listings`.
    pub(crate) fn present_lister(&self, repository: &RepositoryName, child: Digest) -> Result<Option<Digest>, Error> {
        let table = self.table(LISTINGS)?;
        for row in table.range((repository.as_str(), child.key(), &[][..])..)? {
            let (key, ()) = row.map(|(key, value)| (key, value.value()))?;
            let (owner, listed, lister) = key.value();
            if owner != repository.as_str() || listed != child.key() {
                break;
            }
            let lister = Digest::from_key(lister).ok_or_else(|| corrupt("listings", child))?;
            if self.manifest(repository, lister)?.is_some() {
                return Ok(Some(lister));
            }
        }
        Ok(None)
    }
}

impl WriteTx {
    /// Takes a manifest away from clients that is there, so that it can be restored. What it references is the
    /// caller's business.
    pub(crate) fn set_deleted(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        now: Moment,
    ) -> Result<(), Error> {
        let Some(row) = self.manifest(repository, digest)? else { return Ok(()) };
        let key = (repository.as_str(), digest.key());
        self.table_mut(MANIFESTS)?.remove(key)?;
        self.table_mut(DELETED_MANIFESTS)?.insert(key, codec::encode(&row).as_slice())?;
        self.end_manifest(repository, digest, now.steady)?;
        self.add_deletion_span(repository, digest, row.created, now)
    }

    /// The opposite of [`WriteTx::set_deleted`].
    pub(crate) fn set_restored(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        now: Moment,
    ) -> Result<(), Error> {
        let Some(row) = self.deleted_manifest(repository, digest)? else { return Ok(()) };
        let bytes = self.manifest_bytes(repository, digest)?.unwrap_or_default();
        self.table_mut(DELETED_MANIFESTS)?.remove((repository.as_str(), digest.key()))?;
        self.set_manifest(repository, digest, &row)?;
        self.note(|| Record::Manifest {
            repository: repository.to_string(),
            digest: digest.key().to_vec(),
            media_type: row.media_type.clone(),
            created: row.created,
            bytes: bytes.to_vec(),
        });
        self.set_referenced(repository, Unreferenced::Subject, digest)?;
        self.change_repository(repository, row.created, |repository| repository.manifests += 1)?;
        self.recheck_manifest(repository, digest, now)
    }

    /// Forgets a manifest that could be restored.
    pub(crate) fn remove_deleted_manifest(&mut self, repository: &RepositoryName, digest: Digest) -> Result<(), Error> {
        self.table_mut(DELETED_MANIFESTS)?.remove((repository.as_str(), digest.key()))?;
        self.table_mut(MANIFEST_BYTES)?.remove((repository.as_str(), digest.key()))?;
        self.set_referenced(repository, Unreferenced::Manifest, digest)
    }
}
