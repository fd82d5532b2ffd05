//! Rows of repositories, manifests, tags and referrers.
//!
//! The functions here keep the counts that rows hold of each other, and note what has become unreferenced;
//! which rows belong together is decided in [`crate::content::repository`].

use std::ops::Bound;
use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::corrupt;
use super::journal::Record;
use super::schema::{DELETED_MANIFESTS, LISTINGS, MANIFEST_BYTES, MANIFESTS, REFERRERS, REPOSITORIES, TAGS, TAGS_OF};
use super::unreferenced::Unreferenced;
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::{Moment, SteadyTime, Timestamp};
use crate::oci::{Digest, MediaType, RepositoryName, Tag};

/// A repository that has content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RepositoryRow {
    /// When its first content came.
    pub(crate) created: Timestamp,
    /// How many manifests it has.
    pub(crate) manifests: u64,
    /// How many blobs it links.
    pub(crate) links: u64,
}

/// A manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestRow {
    /// What it is served as.
    pub(crate) media_type: String,
    /// In bytes.
    pub(crate) size: u64,
    /// When it was pushed first.
    pub(crate) created: Timestamp,
}

impl ManifestRow {
    /// The media type; rows hold only types that were checked.
    pub(crate) fn media_type(&self) -> Option<MediaType> {
        self.media_type.parse().ok()
    }
}

#[derive(Serialize, Deserialize)]
struct StoredTag {
    digest: Vec<u8>,
    moved: Timestamp,
}

/// What a tag points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagRow {
    /// The manifest.
    pub(crate) digest: Digest,
    /// Since when.
    pub(crate) moved: Timestamp,
}

/// Everything that a repository has.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) manifests: Vec<Digest>,
    /// Manifests that were deleted by digest and can be restored.
    pub(crate) deleted: Vec<Digest>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) blobs: Vec<Digest>,
}

impl Rows {
    pub(crate) fn repository(&self, name: &RepositoryName) -> Result<Option<RepositoryRow>, Error> {
        let table = self.table(REPOSITORIES)?;
        let row = table.get(name.as_str())?;
        row.map(|row| codec::row("repositories", row.value(), name)).transpose()
    }

    /// Visits the names behind `after` in byte order, until told to stop.
    pub(crate) fn each_repository(
        &self,
        after: &str,
        mut visit: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let table = self.table(REPOSITORIES)?;
        for row in table.range((Bound::Excluded(after), Bound::Unbounded))? {
            if visit(row?.0.value()).is_break() {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn manifest(&self, repository: &RepositoryName, digest: Digest) -> Result<Option<ManifestRow>, Error> {
        let table = self.table(MANIFESTS)?;
        let row = table.get((repository.as_str(), digest.key()))?;
        row.map(|row| codec::row("manifests", row.value(), digest)).transpose()
    }

    /// A manifest that was deleted by digest and can be restored.
    pub(crate) fn deleted_manifest(
        &self,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<Option<ManifestRow>, Error> {
        let table = self.table(DELETED_MANIFESTS)?;
        let row = table.get((repository.as_str(), digest.key()))?;
        row.map(|row| codec::row("deleted manifests", row.value(), digest)).transpose()
    }

    /// At most `limit` manifests of a repository behind `after` that can be restored.
    pub(crate) fn deleted_manifests(
        &self,
        repository: &RepositoryName,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<Digest>, Error> {
        let (table, name, mut digests) = (self.table(DELETED_MANIFESTS)?, repository.as_str(), Vec::new());
        let after = after.as_ref().map_or(&[][..], Digest::key);
        for row in table.range((Bound::Excluded((name, after)), Bound::Unbounded))?.take(limit) {
            let (key, _) = row?;
            let (owner, digest) = key.value();
            if owner != name {
                break;
            }
            digests.push(Digest::from_key(digest).ok_or_else(|| corrupt("deleted manifests", repository))?);
        }
        Ok(digests)
    }

    pub(crate) fn manifest_bytes(&self, repository: &RepositoryName, digest: Digest) -> Result<Option<Bytes>, Error> {
        let table = self.table(MANIFEST_BYTES)?;
        let row = table.get((repository.as_str(), digest.key()))?;
        Ok(row.map(|row| Bytes::copy_from_slice(row.value())))
    }

    pub(crate) fn tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<TagRow>, Error> {
        let table = self.table(TAGS)?;
        let row = table.get((repository.as_str(), tag.as_str()))?;
        row.map(|row| {
            let stored: StoredTag = codec::row("tags", row.value(), tag)?;
            let digest = Digest::from_key(&stored.digest).ok_or_else(|| corrupt("tags", tag))?;
            Ok(TagRow { digest, moved: stored.moved })
        })
        .transpose()
    }

    /// At most `limit` tags behind `after` in byte order, and whether there are more.
    pub(crate) fn tags(
        &self,
        repository: &RepositoryName,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<String>, bool), Error> {
        let table = self.table(TAGS)?;
        let name = repository.as_str();
        let mut tags = Vec::new();
        for row in table.range((Bound::Excluded((name, after)), Bound::Unbounded))? {
            let (key, _) = row?;
            let (owner, tag) = key.value();
            if owner != name {
                break;
            }
            if tags.len() == limit {
                return Ok((tags, true));
            }
            tags.push(tag.to_owned());
        }
        Ok((tags, false))
    }

    /// Everything that a repository has: manifests, tags and linked blobs.
    pub(crate) fn contents(&self, repository: &RepositoryName) -> Result<Contents, Error> {
        let name = repository.as_str();
        let mut contents = Contents::default();
        for row in self.table(MANIFESTS)?.range((name, &[][..])..)? {
            let (key, _) = row?;
            let (owner, digest) = key.value();
            if owner != name {
                break;
            }
            contents.manifests.push(Digest::from_key(digest).ok_or_else(|| corrupt("manifests", repository))?);
        }
        let (tags, _) = self.tags(repository, "", usize::MAX)?;
        contents.tags = tags.iter().filter_map(|tag| tag.parse().ok()).collect();
        contents.deleted = self.deleted_manifests(repository, None, usize::MAX)?;
        contents.blobs = self.linked(repository)?;
        Ok(contents)
    }

    /// The tags of a manifest.
    pub(crate) fn tags_of(&self, repository: &RepositoryName, digest: Digest) -> Result<Vec<Tag>, Error> {
        let table = self.table(TAGS_OF)?;
        let mut tags = Vec::new();
        for row in table.range((repository.as_str(), digest.key(), "")..)? {
            let (key, _) = row?;
            let (owner, manifest, tag) = key.value();
            if owner != repository.as_str() || manifest != digest.key() {
                break;
            }
            tags.push(tag.parse().map_err(|_| corrupt("tags of manifests", digest))?);
        }
        Ok(tags)
    }

    /// A manifest of the repository that lists this digest, if there is one: see `listings`.
    pub(crate) fn lister(&self, repository: &RepositoryName, child: Digest) -> Result<Option<Digest>, Error> {
        Ok(self.listers(repository, child, 1)?.pop())
    }

    /// At most `limit` manifests of the repository that list this digest.
    pub(crate) fn listers(
        &self,
        repository: &RepositoryName,
        child: Digest,
        limit: usize,
    ) -> Result<Vec<Digest>, Error> {
        let table = self.table(LISTINGS)?;
        let mut indexes = Vec::new();
        for row in table.range((repository.as_str(), child.key(), &[][..])..)?.take(limit) {
            let (key, _) = row?;
            let (owner, listed, index) = key.value();
            if owner != repository.as_str() || listed != child.key() {
                break;
            }
            indexes.push(Digest::from_key(index).ok_or_else(|| corrupt("listings", child))?);
        }
        Ok(indexes)
    }

    /// Visits the referrers of a subject behind `after`, ordered by artifact type and digest, until
    /// told to stop: type, digest and descriptor.
    pub(crate) fn each_referrer(
        &self,
        repository: &RepositoryName,
        subject: Digest,
        after: (&str, &[u8]),
        mut visit: impl FnMut(&str, Digest, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let table = self.table(REFERRERS)?;
        let start = (repository.as_str(), subject.key(), after.0, after.1);
        for row in table.range((Bound::Excluded(start), Bound::Unbounded))? {
            let (key, descriptor) = row?;
            let (owner, of, kind, digest) = key.value();
            if owner != repository.as_str() || of != subject.key() {
                break;
            }
            let digest = Digest::from_key(digest).ok_or_else(|| corrupt("referrers", subject))?;
            if visit(kind, digest, descriptor.value()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl WriteTx {
    /// Changes a repository's counts; the row comes with the first content and goes with the last, unless
    /// somebody has said something about the repository.
    pub(super) fn change_repository(
        &mut self,
        repository: &RepositoryName,
        now: Timestamp,
        change: impl FnOnce(&mut RepositoryRow),
    ) -> Result<(), Error> {
        let row = self.repository(repository)?;
        let mut row = row.unwrap_or(RepositoryRow { created: now, manifests: 0, links: 0 });
        change(&mut row);
        let is_kept = self.settings(repository)?.is_some();
        let mut table = self.table_mut(REPOSITORIES)?;
        if row.manifests == 0 && row.links == 0 && !is_kept {
            table.remove(repository.as_str())?;
        } else {
            table.insert(repository.as_str(), codec::encode(&row).as_slice())?;
        }
        Ok(())
    }

    /// Changes the counts of a repository that is there.
    pub(super) fn change_counts(
        &mut self,
        repository: &RepositoryName,
        change: impl FnOnce(&mut RepositoryRow),
    ) -> Result<(), Error> {
        let Some(row) = self.repository(repository)? else { return Ok(()) };
        self.change_repository(repository, row.created, change)
    }

    /// Makes a repository without content.
    pub(crate) fn put_repository(&mut self, repository: &RepositoryName, now: Timestamp) -> Result<(), Error> {
        self.change_repository(repository, now, |_| {})
    }

    /// Notes that an index lists a digest, which need not be here.
    pub(crate) fn put_listing(
        &mut self,
        repository: &RepositoryName,
        child: Digest,
        index: Digest,
    ) -> Result<(), Error> {
        self.table_mut(LISTINGS)?.insert((repository.as_str(), child.key(), index.key()), ())?;
        self.set_referenced(repository, Unreferenced::Manifest, child)?;
        self.set_referenced(repository, Unreferenced::Link, child)
    }

    /// Notes that an index lists a digest no more. `since` is when the index ceased to be needed.
    pub(crate) fn remove_listing(
        &mut self,
        repository: &RepositoryName,
        child: Digest,
        index: Digest,
        since: impl Into<SteadyTime>,
    ) -> Result<(), Error> {
        self.table_mut(LISTINGS)?.remove((repository.as_str(), child.key(), index.key()))?;
        self.recheck_listed(repository, child, since.into())
    }

    /// Adds a manifest that is not there yet. Nothing names it so far, unless an index waits for it.
    pub(crate) fn put_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        row: &ManifestRow,
        bytes: &[u8],
    ) -> Result<(), Error> {
        self.set_manifest(repository, digest, row)?;
        self.table_mut(MANIFEST_BYTES)?.insert((repository.as_str(), digest.key()), bytes)?;
        self.note(|| Record::Manifest {
            repository: repository.to_string(),
            digest: digest.key().to_vec(),
            media_type: row.media_type.clone(),
            created: row.created,
            bytes: bytes.to_vec(),
        });
        self.set_referenced(repository, Unreferenced::Subject, digest)?;
        self.change_repository(repository, row.created, |repository| repository.manifests += 1)
    }

    /// Writes the bytes of a manifest anew that are not what they were.
    pub(crate) fn repair_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<(), Error> {
        self.table_mut(MANIFEST_BYTES)?.insert((repository.as_str(), digest.key()), bytes)?;
        Ok(())
    }

    pub(super) fn set_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        row: &ManifestRow,
    ) -> Result<(), Error> {
        self.table_mut(MANIFESTS)?.insert((repository.as_str(), digest.key()), codec::encode(row).as_slice())?;
        Ok(())
    }

    /// Removes a manifest that is there. If it has referrers, they are to be looked at.
    pub(crate) fn remove_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        since: impl Into<SteadyTime>,
    ) -> Result<(), Error> {
        self.table_mut(MANIFESTS)?.remove((repository.as_str(), digest.key()))?;
        self.table_mut(MANIFEST_BYTES)?.remove((repository.as_str(), digest.key()))?;
        self.end_manifest(repository, digest, since.into())
    }

    /// What follows when a manifest is not there any more.
    pub(super) fn end_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        since: SteadyTime,
    ) -> Result<(), Error> {
        self.note(|| Record::ManifestGone { repository: repository.to_string(), digest: digest.key().to_vec() });
        self.set_referenced(repository, Unreferenced::Manifest, digest)?;
        self.set_referenced(repository, Unreferenced::Referrer, digest)?;
        self.note_missing_subject(repository, digest, since)?;
        self.change_counts(repository, |row| row.manifests = row.manifests.saturating_sub(1))
    }

    /// Notes that a manifest is not there any more, if anything belongs to it.
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

    /// Points a tag at a manifest; says whether it pointed elsewhere, or nowhere. `kept` is whether it is
    /// remembered where.
    pub(crate) fn put_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: Digest,
        now: impl Into<Moment>,
        kept: bool,
    ) -> Result<bool, Error> {
        if self.tag(repository, tag)?.is_some_and(|old| old.digest == digest) {
            return Ok(false);
        }
        let now = now.into();
        self.remove_tag(repository, tag, now, kept)?;
        let row = TagRow { digest, moved: now.wall };
        let stored = StoredTag { digest: row.digest.key().to_vec(), moved: row.moved };
        self.table_mut(TAGS)?.insert((repository.as_str(), tag.as_str()), codec::encode(&stored).as_slice())?;
        self.table_mut(TAGS_OF)?.insert((repository.as_str(), row.digest.key(), tag.as_str()), ())?;
        self.note(|| Record::Tag {
            repository: repository.to_string(),
            tag: tag.to_string(),
            digest: row.digest.key().to_vec(),
            moved: row.moved,
        });
        self.begin_span(repository, tag, row.moved)?;
        // A signature that comes after its image has gone is newer than that: the image may come next.
        if let Some(subject) = tag.companion_of()
            && self.unreferenced(repository, Unreferenced::Subject, subject)?.is_some()
        {
            self.set_unreferenced(repository, Unreferenced::Subject, subject, now)?;
        }
        self.set_referenced(repository, Unreferenced::Manifest, row.digest)?;
        self.set_referenced(repository, Unreferenced::Referrer, row.digest)?;
        Ok(true)
    }

    /// Removes a tag, if it is there. `kept` is whether it is remembered where it pointed.
    pub(crate) fn remove_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        now: impl Into<Moment>,
        kept: bool,
    ) -> Result<(), Error> {
        let now = now.into();
        if let Some(row) = self.tag(repository, tag)? {
            self.end_span(repository, tag, &row, now, kept)?;
            self.table_mut(TAGS)?.remove((repository.as_str(), tag.as_str()))?;
            self.table_mut(TAGS_OF)?.remove((repository.as_str(), row.digest.key(), tag.as_str()))?;
            self.note(|| Record::TagGone { repository: repository.to_string(), tag: tag.to_string() });
            self.recheck_manifest(repository, row.digest, now.steady)?;
        }
        Ok(())
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
        let key = (repository.as_str(), subject.key(), artifact_type, digest.key());
        self.table_mut(REFERRERS)?.insert(key, descriptor)?;
        Ok(())
    }

    /// Takes a manifest out of the list of a subject's referrers.
    pub(crate) fn remove_referrer(
        &mut self,
        repository: &RepositoryName,
        subject: Digest,
        artifact_type: &str,
        digest: Digest,
    ) -> Result<(), Error> {
        let key = (repository.as_str(), subject.key(), artifact_type, digest.key());
        self.table_mut(REFERRERS)?.remove(key)?;
        Ok(())
    }
}

/// Since when a tag points where its row says.
pub(super) fn moved(row: &[u8], tag: &str) -> Result<Timestamp, Error> {
    codec::row::<StoredTag>("tags", row, tag).map(|stored| stored.moved)
}
