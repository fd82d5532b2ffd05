//! Rows of repositories and their manifests, listings and referrers.
//!
//! The functions keep the counts of these rows correct, and record what becomes unreferenced.
//! [`crate::content::repository`] decides which rows belong together.
//!
//! A manifest that was deleted by digest can be restored as long as the history has a span of it. Until then it is not
//! served, because it has no row in `manifests`, but everything that it references stays.

use std::ops::Bound::{Excluded, Included, Unbounded};
use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::event::EventKind;
use super::journal::Record;
use super::schema::{DELETED_MANIFESTS, LISTINGS, MANIFEST_BYTES, MANIFESTS, REFERRERS, REPOSITORIES};
use super::unreferenced::Unreferenced;
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::{Moment, SteadyTime, Timestamp};
use crate::oci::{Digest, MediaType, RepositoryName, Tag};

/// A manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestRow {
    pub(crate) media_type: String,
    /// In bytes.
    pub(crate) size: u64,
    /// When it was first pushed.
    pub(crate) created: Timestamp,
}

impl ManifestRow {
    /// The media type. Rows contain only valid ones.
    pub(crate) fn media_type(&self) -> Option<MediaType> {
        self.media_type.parse().ok()
    }
}

/// The content of a repository.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) manifests: Vec<Digest>,
    /// Manifests that were deleted by digest and can be restored.
    pub(crate) deleted: Vec<Digest>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) blobs: Vec<Digest>,
}

impl Rows {
    /// Visits the repositories after `after` in byte order, until `visit` breaks.
    pub(crate) fn each_repository(&self, after: &str, visit: impl FnMut(&str) -> ControlFlow<()>) -> Result<(), Error> {
        self.each_repository_within("", after, visit)
    }

    /// Visits the names after `after` that begin with `within`, in byte order, until `visit` breaks.
    pub(crate) fn each_repository_within(
        &self,
        within: &str,
        after: &str,
        mut visit: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let start = if after < within { Included(within) } else { Excluded(after) };
        // Names with the same beginning are neighbours.
        self.table(REPOSITORIES)?.each((start, Unbounded), |name, _| {
            Ok(if name.starts_with(within) { visit(name) } else { ControlFlow::Break(()) })
        })
    }

    pub(crate) fn manifest(&self, repository: &RepositoryName, digest: Digest) -> Result<Option<ManifestRow>, Error> {
        self.row(MANIFESTS, (repository.as_str(), digest.key()), digest)
    }

    /// A manifest that was deleted by digest and can be restored.
    pub(crate) fn deleted_manifest(
        &self,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<Option<ManifestRow>, Error> {
        self.row(DELETED_MANIFESTS, (repository.as_str(), digest.key()), digest)
    }

    /// A manifest that exists, or was deleted by digest and can be restored.
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

    /// Returns at most `limit` manifests of a repository after `after` that can be restored.
    pub(crate) fn deleted_manifests(
        &self,
        repository: &RepositoryName,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<Digest>, Error> {
        let (name, after) = (repository.as_str(), after.as_ref().map_or(&[][..], Digest::key));
        self.table(DELETED_MANIFESTS)?.collect((Excluded((name, after)), Unbounded), limit, |(owner, digest), _| {
            (owner == name).then(|| codec::digest(DELETED_MANIFESTS, digest)).transpose()
        })
    }

    pub(crate) fn manifest_bytes(&self, repository: &RepositoryName, digest: Digest) -> Result<Option<Bytes>, Error> {
        self.get(MANIFEST_BYTES, (repository.as_str(), digest.key()), Bytes::copy_from_slice)
    }

    /// The content of a repository.
    pub(crate) fn contents(&self, repository: &RepositoryName) -> Result<Contents, Error> {
        let name = repository.as_str();
        let manifests = self.table(MANIFESTS)?.collect((name, &[][..]).., usize::MAX, |(owner, digest), _| {
            (owner == name).then(|| codec::digest(MANIFESTS, digest)).transpose()
        })?;
        let (tags, _) = self.tags(repository, "", usize::MAX)?;
        Ok(Contents {
            manifests,
            deleted: self.deleted_manifests(repository, None, usize::MAX)?,
            tags: tags.iter().filter_map(|tag| tag.parse().ok()).collect(),
            blobs: self.linked(repository)?,
        })
    }

    /// A manifest of the repository that lists this digest, if there is one; see `listings`.
    pub(crate) fn lister(&self, repository: &RepositoryName, child: Digest) -> Result<Option<Digest>, Error> {
        Ok(self.listers(repository, child, 1)?.pop())
    }

    /// Returns at most `limit` manifests of the repository that list this digest, deleted ones included.
    pub(crate) fn listers(
        &self,
        repository: &RepositoryName,
        child: Digest,
        limit: usize,
    ) -> Result<Vec<Digest>, Error> {
        let (name, key) = (repository.as_str(), child.key());
        self.table(LISTINGS)?.collect((name, key, &[][..]).., limit, |(owner, listed, lister), ()| {
            ((owner, listed) == (name, key)).then(|| codec::digest(LISTINGS, lister)).transpose()
        })
    }

    /// A manifest of the repository that lists this digest and is not deleted, if there is one.
    pub(crate) fn present_lister(&self, repository: &RepositoryName, child: Digest) -> Result<Option<Digest>, Error> {
        for lister in self.listers(repository, child, usize::MAX)? {
            if self.manifest(repository, lister)?.is_some() {
                return Ok(Some(lister));
            }
        }
        Ok(None)
    }

    /// Visits the referrers of a subject after `after`, by artifact type and digest, until `visit` breaks: type, digest
    /// and descriptor.
    pub(crate) fn each_referrer(
        &self,
        repository: &RepositoryName,
        subject: Digest,
        after: (&str, &[u8]),
        mut visit: impl FnMut(&str, Digest, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let (name, key) = (repository.as_str(), subject.key());
        let range = (Excluded((name, key, after.0, after.1)), Unbounded);
        self.table(REFERRERS)?.each(range, |(owner, of, kind, digest), descriptor| {
            if (owner, of) != (name, key) {
                return Ok(ControlFlow::Break(()));
            }
            Ok(visit(kind, codec::digest(REFERRERS, digest)?, descriptor))
        })
    }
}

impl WriteTx {
    /// Records that a manifest lists a digest, which need not exist. The manifest is an index, an image with an
    /// optional layer, or a hidden manifest.
    pub(crate) fn put_listing(
        &mut self,
        repository: &RepositoryName,
        child: Digest,
        index: Digest,
    ) -> Result<(), Error> {
        self.insert(LISTINGS, (repository.as_str(), child.key(), index.key()), ())?;
        self.set_referenced(repository, Unreferenced::Manifest, child)?;
        self.set_referenced(repository, Unreferenced::Link, child)
    }

    /// Removes what [`WriteTx::put_listing`] has recorded. `since` is when the manifest became unreferenced.
    pub(crate) fn remove_listing(
        &mut self,
        repository: &RepositoryName,
        child: Digest,
        index: Digest,
        since: impl Into<SteadyTime>,
    ) -> Result<(), Error> {
        self.remove(LISTINGS, (repository.as_str(), child.key(), index.key()))?;
        self.recheck_listed(repository, child, since.into())
    }

    /// Adds a manifest that does not exist yet. The caller records it as unreferenced if nothing names it.
    pub(crate) fn put_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        row: &ManifestRow,
        bytes: &[u8],
    ) -> Result<(), Error> {
        self.insert(MANIFEST_BYTES, (repository.as_str(), digest.key()), bytes)?;
        self.begin_manifest(repository, digest, row, bytes)?;
        self.resize_listers(repository, digest)
    }

    /// Adds the row of a manifest whose bytes are stored.
    fn begin_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        row: &ManifestRow,
        bytes: &[u8],
    ) -> Result<(), Error> {
        self.insert_row(MANIFESTS, (repository.as_str(), digest.key()), row)?;
        self.record(|| Record::Manifest {
            repository: repository.to_string(),
            digest: digest.key().to_vec(),
            media_type: row.media_type.clone(),
            created: row.created,
            bytes: bytes.to_vec(),
        });
        self.note_image(EventKind::ImageUpdated, repository, &digest, digest, Some(&row.media_type))?;
        self.set_referenced(repository, Unreferenced::Subject, digest)?;
        self.change_repository(repository, row.created, |repository, counted| {
            repository.manifests += 1;
            counted.note_change(row.created);
        })
    }

    /// Replaces the damaged bytes of a manifest.
    pub(crate) fn repair_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<(), Error> {
        self.insert(MANIFEST_BYTES, (repository.as_str(), digest.key()), bytes)
    }

    /// Removes a manifest that exists. If it has referrers or tags of signatures, collection will look at them.
    pub(crate) fn remove_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        since: impl Into<SteadyTime>,
    ) -> Result<(), Error> {
        self.remove_mirrored(repository, digest)?;
        self.remove(MANIFEST_BYTES, (repository.as_str(), digest.key()))?;
        self.remove_facts(repository, digest)?;
        self.remove_pulls(repository, digest)?;
        self.end_manifest(repository, digest, since.into())
    }

    /// Removes the row of a manifest.
    fn end_manifest(&mut self, repository: &RepositoryName, digest: Digest, since: SteadyTime) -> Result<(), Error> {
        self.note_image(EventKind::ImageDeleted, repository, &digest, digest, None)?;
        self.remove(MANIFESTS, (repository.as_str(), digest.key()))?;
        self.record(|| Record::ManifestGone { repository: repository.to_string(), digest: digest.key().to_vec() });
        self.set_referenced(repository, Unreferenced::Manifest, digest)?;
        self.set_referenced(repository, Unreferenced::Referrer, digest)?;
        self.note_missing_subject(repository, digest, since)?;
        self.change_counts(repository, |row, _| row.manifests = row.manifests.saturating_sub(1))
    }

    /// Records a missing manifest for collection, if it has referrers or companion tags.
    pub(crate) fn note_missing_subject(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        since: SteadyTime,
    ) -> Result<(), Error> {
        let mut is_subject = false;
        self.each_referrer(repository, digest, ("", &[]), |_, _, _| {
            is_subject = true;
            ControlFlow::Break(())
        })?;
        for tag in Tag::companions(digest) {
            is_subject = is_subject || self.tag(repository, &tag)?.is_some();
        }
        if is_subject {
            self.set_unreferenced(repository, Unreferenced::Subject, digest, since)?;
        }
        Ok(())
    }

    /// Deletes a manifest so that it can be restored. The caller handles what it references.
    pub(crate) fn set_deleted(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        now: Moment,
    ) -> Result<(), Error> {
        let Some(row) = self.manifest(repository, digest)? else { return Ok(()) };
        self.insert_row(DELETED_MANIFESTS, (repository.as_str(), digest.key()), &row)?;
        self.end_manifest(repository, digest, now.steady)?;
        self.add_deletion_span(repository, digest, row.created, now)
    }

    /// Restores what [`WriteTx::set_deleted`] has deleted.
    pub(crate) fn set_restored(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        now: Moment,
    ) -> Result<(), Error> {
        let Some(row) = self.deleted_manifest(repository, digest)? else { return Ok(()) };
        let bytes = self.manifest_bytes(repository, digest)?.unwrap_or_default();
        self.remove(DELETED_MANIFESTS, (repository.as_str(), digest.key()))?;
        self.begin_manifest(repository, digest, &row, &bytes)?;
        if self.has_facts(repository, digest)? {
            self.resize(repository, digest)?;
        } else {
            // The background work was past the existing manifests, and had not reached the deleted ones.
            self.recount_facts(repository)?;
        }
        self.recheck_manifest(repository, digest, now)
    }

    /// Removes a manifest that could have been restored.
    pub(crate) fn remove_deleted_manifest(&mut self, repository: &RepositoryName, digest: Digest) -> Result<(), Error> {
        self.remove(DELETED_MANIFESTS, (repository.as_str(), digest.key()))?;
        self.remove_mirrored(repository, digest)?;
        self.remove(MANIFEST_BYTES, (repository.as_str(), digest.key()))?;
        self.remove_facts(repository, digest)?;
        self.remove_pulls(repository, digest)?;
        self.set_referenced(repository, Unreferenced::Manifest, digest)
    }

    /// Lists a manifest as a referrer of a subject.
    pub(crate) fn put_referrer(
        &mut self,
        repository: &RepositoryName,
        subject: Digest,
        artifact_type: &str,
        digest: Digest,
        descriptor: &[u8],
    ) -> Result<(), Error> {
        self.insert(REFERRERS, (repository.as_str(), subject.key(), artifact_type, digest.key()), descriptor)
    }

    /// Removes a manifest from the list of a subject's referrers.
    pub(crate) fn remove_referrer(
        &mut self,
        repository: &RepositoryName,
        subject: Digest,
        artifact_type: &str,
        digest: Digest,
    ) -> Result<(), Error> {
        self.remove(REFERRERS, (repository.as_str(), subject.key(), artifact_type, digest.key()))
    }
}
