//! Rows of blobs and of the repositories that link them.
//!
//! The functions here keep the counts that rows hold of each other, and note what has become unreferenced.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::codec::corrupt;
use super::schema::{BLOBS, LINKS, LINKS_OF, ORPHANS};
use super::unreferenced::Unreferenced;
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::{Moment, SteadyTime, Timestamp};
use crate::oci::{Digest, RepositoryName};

/// A blob whose file is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobRow {
    /// In bytes.
    pub(crate) size: u64,
    /// How many repositories link it; never zero.
    pub(crate) links: u64,
}

/// That a repository may serve a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkRow {
    /// How many manifests of the repository need the blob.
    pub(crate) references: u64,
    /// When the blob was pushed or mounted.
    pub(crate) created: Timestamp,
}

impl Rows {
    pub(crate) fn blob(&self, digest: Digest) -> Result<Option<BlobRow>, Error> {
        let table = self.table(BLOBS)?;
        let row = table.get(digest.key())?;
        row.map(|row| codec::row("blobs", row.value(), digest)).transpose()
    }

    /// At most `limit` blobs behind `after`, in the order of their keys.
    pub(crate) fn blobs(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, BlobRow)>, Error> {
        use std::ops::Bound::{Excluded, Unbounded};
        let table = self.table(BLOBS)?;
        let from = after.as_ref().map_or(Unbounded, |after| Excluded(after.key()));
        let mut blobs = Vec::new();
        for row in table.range((from, Unbounded))?.take(limit) {
            let (key, row) = row?;
            let digest = Digest::from_key(key.value()).ok_or_else(|| corrupt("blobs", hex::encode(key.value())))?;
            blobs.push((digest, codec::row("blobs", row.value(), digest)?));
        }
        Ok(blobs)
    }

    pub(crate) fn link(&self, digest: Digest, repository: &RepositoryName) -> Result<Option<LinkRow>, Error> {
        let table = self.table(LINKS)?;
        let row = table.get((digest.key(), repository.as_str()))?;
        row.map(|row| codec::row("links", row.value(), digest)).transpose()
    }

    /// Visits the repositories that link a blob, until told to stop.
    pub(crate) fn each_linking_repository(
        &self,
        digest: Digest,
        mut visit: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let table = self.table(LINKS)?;
        for row in table.range((digest.key(), "")..)? {
            let (key, _) = row?;
            let (holds, repository) = key.value();
            if holds != digest.key() || visit(repository).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The repositories that link a blob.
    pub(crate) fn linking_repositories(&self, digest: Digest) -> Result<Vec<String>, Error> {
        let mut holders = Vec::new();
        self.each_linking_repository(digest, |holder| {
            holders.push(holder.to_owned());
            ControlFlow::Continue(())
        })?;
        Ok(holders)
    }

    /// The blobs that a repository links.
    pub(crate) fn linked(&self, repository: &RepositoryName) -> Result<Vec<Digest>, Error> {
        let table = self.table(LINKS_OF)?;
        let mut digests = Vec::new();
        for row in table.range((repository.as_str(), &[][..])..)? {
            let (key, _) = row?;
            let (owner, digest) = key.value();
            if owner != repository.as_str() {
                break;
            }
            digests.push(Digest::from_key(digest).ok_or_else(|| corrupt("links of repositories", repository))?);
        }
        Ok(digests)
    }

    /// Whether the file of a blob without a row may still be there.
    pub(crate) fn is_orphan(&self, digest: Digest) -> Result<bool, Error> {
        Ok(self.table(ORPHANS)?.get(digest.key())?.is_some())
    }

    /// At most `limit` blobs without a row whose files may still be there.
    pub(crate) fn orphans(&self, limit: usize) -> Result<Vec<Digest>, Error> {
        let table = self.table(ORPHANS)?;
        let mut digests = Vec::new();
        for row in table.range(..)?.take(limit) {
            let (key, _) = row?;
            digests.push(Digest::from_key(key.value()).ok_or_else(|| corrupt("orphans", hex::encode(key.value())))?);
        }
        Ok(digests)
    }
}

impl WriteTx {
    /// Links a blob to a repository; a link that exists stays as it is, and one that nothing needs is as
    /// good as new. `size` is the size of a durable file.
    pub(crate) fn put_link(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        size: u64,
        now: impl Into<Moment>,
    ) -> Result<(), Error> {
        let Moment { wall, steady } = now.into();
        if let Some(link) = self.link(digest, repository)? {
            if link.references == 0 {
                self.set_unreferenced(repository, Unreferenced::Link, digest, steady)?;
            }
            return Ok(());
        }
        let links = self.blob(digest)?.map_or(0, |row| row.links);
        self.put_blob(digest, &BlobRow { size, links: links + 1 })?;
        if links == 0 {
            self.table_mut(ORPHANS)?.remove(digest.key())?;
        }
        self.set_link(repository, digest, &LinkRow { references: 0, created: wall })?;
        self.table_mut(LINKS_OF)?.insert((repository.as_str(), digest.key()), ())?;
        self.set_unreferenced(repository, Unreferenced::Link, digest, steady)?;
        self.change_repository(repository, wall, |row| row.links += 1)
    }

    /// Unlinks a blob that the repository links, and says whether that was its last link: then its file is
    /// to go as well.
    pub(crate) fn remove_link(&mut self, repository: &RepositoryName, digest: Digest) -> Result<bool, Error> {
        self.table_mut(LINKS)?.remove((digest.key(), repository.as_str()))?;
        self.table_mut(LINKS_OF)?.remove((repository.as_str(), digest.key()))?;
        self.set_referenced(repository, Unreferenced::Link, digest)?;
        self.change_counts(repository, |row| row.links = row.links.saturating_sub(1))?;
        let row = self.blob(digest)?.ok_or_else(|| corrupt("blobs", digest))?;
        if row.links > 1 {
            self.put_blob(digest, &BlobRow { links: row.links - 1, ..row })?;
            return Ok(false);
        }
        self.remove_blob(digest)?;
        Ok(true)
    }

    /// Removes the row of a blob that nobody links: its file is to go as well.
    pub(super) fn remove_blob(&mut self, digest: Digest) -> Result<(), Error> {
        self.table_mut(BLOBS)?.remove(digest.key())?;
        self.remove_file_row(digest)?;
        self.table_mut(ORPHANS)?.insert(digest.key(), ())?;
        Ok(())
    }

    pub(super) fn put_blob(&mut self, digest: Digest, row: &BlobRow) -> Result<(), Error> {
        self.table_mut(BLOBS)?.insert(digest.key(), codec::encode(row).as_slice())?;
        Ok(())
    }

    pub(super) fn set_link(&mut self, repository: &RepositoryName, digest: Digest, row: &LinkRow) -> Result<(), Error> {
        self.table_mut(LINKS)?.insert((digest.key(), repository.as_str()), codec::encode(row).as_slice())?;
        Ok(())
    }

    /// Counts a manifest's need of a blob up; a blob the repository does not link has no count to change.
    pub(crate) fn add_blob_reference(&mut self, repository: &RepositoryName, digest: Digest) -> Result<(), Error> {
        let Some(mut row) = self.link(digest, repository)? else { return Ok(()) };
        if row.references == 0 {
            self.set_referenced(repository, Unreferenced::Link, digest)?;
        }
        row.references += 1;
        self.set_link(repository, digest, &row)
    }

    /// Counts a manifest's need of a blob down. `since` is when the manifest ceased to be needed.
    pub(crate) fn remove_blob_reference(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        since: impl Into<SteadyTime>,
    ) -> Result<(), Error> {
        let Some(mut row) = self.link(digest, repository)? else { return Ok(()) };
        row.references = row.references.saturating_sub(1);
        self.set_link(repository, digest, &row)?;
        if row.references == 0 {
            self.set_unreferenced(repository, Unreferenced::Link, digest, since)?;
        }
        Ok(())
    }

    /// Forgets orphans whose files are gone.
    pub(crate) fn remove_orphans(&mut self, digests: &[Digest]) -> Result<(), Error> {
        let mut table = self.table_mut(ORPHANS)?;
        for digest in digests {
            table.remove(digest.key())?;
        }
        Ok(())
    }
}
