//! Rows of blobs: their size, the repositories that link them, and the state of their files.
//!
//! The functions keep the counts of these rows correct, and record a link as unreferenced when its last reference goes.

use std::ops::Bound::{Excluded, Unbounded};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::schema::{BLOBS, DAMAGED, FILES, LINKS, LINKS_OF, ORPHANS};
use super::unreferenced::Unreferenced;
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::{Moment, SteadyTime, Timestamp};
use crate::oci::{Digest, RepositoryName};

/// A blob. Its file is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobRow {
    /// In bytes.
    pub(crate) size: u64,
    /// The number of repositories that link it, never zero.
    pub(crate) links: u64,
}

/// A repository's right to serve a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkRow {
    /// The number of manifests in the repository that reference the blob.
    pub(crate) references: u64,
    /// When the blob was pushed or mounted.
    pub(crate) created: Timestamp,
}

/// The state of a blob's file when its bytes were last verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRow {
    /// The file's modification time, in nanoseconds since 1970.
    pub(crate) modified: u64,
    /// When its bytes were hashed.
    pub(crate) checked: Timestamp,
}

/// Damage of a blob's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DamageRow {
    pub(crate) found: Timestamp,
    /// A description of the damage.
    pub(crate) what: String,
}

impl Rows {
    pub(crate) fn blob(&self, digest: Digest) -> Result<Option<BlobRow>, Error> {
        self.row(BLOBS, digest.key(), digest)
    }

    /// Returns at most `limit` blobs after `after`, in the order of their keys.
    pub(crate) fn blobs(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, BlobRow)>, Error> {
        let from = after.as_ref().map_or(Unbounded, |after| Excluded(after.key()));
        self.table(BLOBS)?.collect((from, Unbounded), limit, |key, row| {
            let digest = codec::digest(BLOBS, key)?;
            Ok(Some((digest, codec::row(BLOBS, row, digest)?)))
        })
    }

    pub(crate) fn link(&self, digest: Digest, repository: &RepositoryName) -> Result<Option<LinkRow>, Error> {
        self.row(LINKS, (digest.key(), repository.as_str()), digest)
    }

    /// Visits the repositories that link a blob, until `visit` breaks.
    pub(crate) fn each_linking_repository(
        &self,
        digest: Digest,
        mut visit: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.table(LINKS)?.each((digest.key(), "").., |(linked, repository), _| {
            Ok(if linked == digest.key() { visit(repository) } else { ControlFlow::Break(()) })
        })
    }

    /// The repositories that link a blob.
    pub(crate) fn linking_repositories(&self, digest: Digest) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        self.each_linking_repository(digest, |name| {
            names.push(name.to_owned());
            ControlFlow::Continue(())
        })?;
        Ok(names)
    }

    /// The blobs that a repository links.
    pub(crate) fn linked(&self, repository: &RepositoryName) -> Result<Vec<Digest>, Error> {
        let name = repository.as_str();
        self.table(LINKS_OF)?.collect((name, &[][..]).., usize::MAX, |(owner, digest), ()| {
            (owner == name).then(|| codec::digest(LINKS_OF, digest)).transpose()
        })
    }

    /// Whether a blob has no row although its file may still exist.
    pub(crate) fn is_orphan(&self, digest: Digest) -> Result<bool, Error> {
        self.has(ORPHANS, digest.key())
    }

    /// Returns at most `limit` blobs that have no row although their files may still exist.
    pub(crate) fn orphans(&self, limit: usize) -> Result<Vec<Digest>, Error> {
        self.table(ORPHANS)?.collect(.., limit, |key, ()| codec::digest(ORPHANS, key).map(Some))
    }

    /// The state of a blob's file, unless the blob is from before version 4 and was not verified since.
    pub(crate) fn file(&self, digest: Digest) -> Result<Option<FileRow>, Error> {
        self.row(FILES, digest.key(), digest)
    }

    /// The known damage of a blob's file.
    pub(crate) fn damage(&self, digest: Digest) -> Result<Option<DamageRow>, Error> {
        self.row(DAMAGED, digest.key(), digest)
    }

    /// Returns at most `limit` blobs whose files are known to be damaged.
    pub(crate) fn damaged(&self, limit: usize) -> Result<Vec<(Digest, DamageRow)>, Error> {
        self.table(DAMAGED)?.collect(.., limit, |key, row| {
            let digest = codec::digest(DAMAGED, key)?;
            Ok(Some((digest, codec::row(DAMAGED, row, digest)?)))
        })
    }
}

impl WriteTx {
    /// Links a blob to a repository. `size` is the size of its durable file. An existing link stays, but counts as new
    /// if no manifest references it.
    pub(crate) fn put_link(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        size: u64,
        now: impl Into<Moment>,
    ) -> Result<(), Error> {
        let Moment { wall, steady } = now.into();
        if self.link(digest, repository)?.is_some() {
            return self.recheck_link(repository, digest, steady);
        }
        let links = self.blob(digest)?.map_or(0, |row| row.links);
        let is_new = self.is_usage_kept()? && self.is_only_in_namespace(repository, digest)?;
        self.put_blob(digest, &BlobRow { size, links: links + 1 })?;
        if links == 0 {
            self.remove(ORPHANS, digest.key())?;
        }
        self.set_link(repository, digest, &LinkRow { references: 0, created: wall })?;
        self.insert(LINKS_OF, (repository.as_str(), digest.key()), ())?;
        // A mirrored manifest, or one that lists the blob as optional, may be there already.
        self.recheck_link(repository, digest, steady)?;
        self.change_repository(repository, wall, |row, counted| {
            row.links += 1;
            counted.add_link(digest, size);
        })?;
        if is_new {
            self.change_usage(repository, |used| used.size += size)?;
        }
        self.resize_listers(repository, digest)
    }

    /// Removes the link of a blob to a repository. Returns whether it was the last one; the caller then removes the
    /// file.
    pub(crate) fn remove_link(&mut self, repository: &RepositoryName, digest: Digest) -> Result<bool, Error> {
        self.remove(LINKS, (digest.key(), repository.as_str()))?;
        self.remove(LINKS_OF, (repository.as_str(), digest.key()))?;
        self.set_referenced(repository, Unreferenced::Link, digest)?;
        self.remove_mirror_use(repository, digest)?;
        let row = self.blob(digest)?.ok_or_else(|| Error::corrupt(BLOBS, digest))?;
        self.change_counts(repository, |repository, counted| {
            repository.links = repository.links.saturating_sub(1);
            counted.remove_link(digest, row.size);
        })?;
        if self.is_usage_kept()? && self.is_only_in_namespace(repository, digest)? {
            self.change_usage(repository, |used| used.size = used.size.saturating_sub(row.size))?;
        }
        self.resize_listers(repository, digest)?;
        if row.links > 1 {
            self.put_blob(digest, &BlobRow { links: row.links - 1, ..row })?;
            return Ok(false);
        }
        self.remove_blob(digest)?;
        Ok(true)
    }

    /// Removes the row of a blob that no repository links, and records that its file has to go.
    pub(super) fn remove_blob(&mut self, digest: Digest) -> Result<(), Error> {
        self.remove(BLOBS, digest.key())?;
        self.remove(FILES, digest.key())?;
        self.set_undamaged(digest)?;
        self.insert(ORPHANS, digest.key(), ())
    }

    pub(super) fn put_blob(&mut self, digest: Digest, row: &BlobRow) -> Result<(), Error> {
        self.insert_row(BLOBS, digest.key(), row)
    }

    pub(super) fn set_link(&mut self, repository: &RepositoryName, digest: Digest, row: &LinkRow) -> Result<(), Error> {
        self.insert_row(LINKS, (digest.key(), repository.as_str()), row)
    }

    /// Counts a reference of a manifest to a blob. Does nothing if the repository does not link the blob.
    pub(crate) fn add_blob_reference(&mut self, repository: &RepositoryName, digest: Digest) -> Result<(), Error> {
        let Some(mut row) = self.link(digest, repository)? else { return Ok(()) };
        if row.references == 0 {
            self.set_referenced(repository, Unreferenced::Link, digest)?;
        }
        row.references += 1;
        self.set_link(repository, digest, &row)
    }

    /// Uncounts a reference of a manifest to a blob. `since` is when the manifest became unreferenced.
    pub(crate) fn remove_blob_reference(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        since: impl Into<SteadyTime>,
    ) -> Result<(), Error> {
        let Some(mut row) = self.link(digest, repository)? else { return Ok(()) };
        row.references = row.references.saturating_sub(1);
        self.set_link(repository, digest, &row)?;
        if row.references == 0 { self.recheck_link(repository, digest, since.into()) } else { Ok(()) }
    }

    /// Removes the rows of orphans whose files are gone.
    pub(crate) fn remove_orphans(&mut self, digests: &[Digest]) -> Result<(), Error> {
        let mut table = self.table_mut(ORPHANS)?;
        for digest in digests {
            table.remove(digest.key())?;
        }
        Ok(())
    }

    /// Records that the file of a blob was verified.
    pub(crate) fn set_file(&mut self, digest: Digest, row: &FileRow) -> Result<(), Error> {
        self.insert_row(FILES, digest.key(), row)?;
        self.set_undamaged(digest)
    }

    /// Records that the file of a blob is damaged.
    pub(crate) fn set_damaged(&mut self, digest: Digest, row: &DamageRow) -> Result<(), Error> {
        self.insert_row(DAMAGED, digest.key(), row)
    }

    fn set_undamaged(&mut self, digest: Digest) -> Result<(), Error> {
        if self.has(DAMAGED, digest.key())? {
            self.remove(DAMAGED, digest.key())?;
        }
        Ok(())
    }
}
