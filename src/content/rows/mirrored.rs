//! Rows of mirrored content: manifests and blobs that were fetched from another registry, and were not pushed.
//!
//! The repository may lack any blob of a mirrored manifest, until a client requests it. So the blobs stand in `listings`,
//! as optional layers do, and the manifest counts no reference to them. A push of the same manifest makes it an ordinary
//! one. Its tags stay those of the upstream, except the pushed one.
//!
//! A fetched blob has a row with its last use, and so has a mirrored manifest. A link without such a row was pushed, or
//! mounted.

use std::ops::Bound::{Excluded, Included, Unbounded};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::schema::{MIRROR_USES, MIRRORED};
use super::tag::TagRow;
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, RepositoryName};

/// The most manifests that are looked up for one blob. A blob that more of them list counts as pushed.
const LISTERS_MAX: usize = 256;

/// Where a manifest came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MirroredRow {
    /// Host and port of the upstream.
    pub(crate) upstream: String,
    pub(crate) fetched: Timestamp,
}

impl Rows {
    /// The origin of a manifest. `None` if it was pushed, or does not exist.
    pub(crate) fn mirrored(&self, repository: &RepositoryName, digest: Digest) -> Result<Option<MirroredRow>, Error> {
        self.row(MIRRORED, (repository.as_str(), digest.key()), digest)
    }

    /// Whether an upstream set a tag. That of a mirrored manifest needs no mark.
    pub(crate) fn is_mirrored_tag(&self, repository: &RepositoryName, row: &TagRow) -> Result<bool, Error> {
        Ok(row.is_mirrored || self.mirrored(repository, row.digest)?.is_some())
    }

    /// Visits the origins of at most `limit` mirrored manifests of a repository.
    pub(crate) fn each_mirrored(
        &self,
        repository: &RepositoryName,
        limit: usize,
        mut visit: impl FnMut(MirroredRow),
    ) -> Result<(), Error> {
        let (name, mut left) = (repository.as_str(), limit);
        self.table(MIRRORED)?.each((Included((name, &[][..])), Unbounded), |(owner, digest), row| {
            if owner != name || left == 0 {
                return Ok(ControlFlow::Break(()));
            }
            left -= 1;
            visit(codec::row(MIRRORED, row, codec::digest(MIRRORED, digest)?)?);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The first repository after `after` in byte order that has a mirrored manifest.
    pub(crate) fn next_mirrored_repository(&self, after: &str) -> Result<Option<String>, Error> {
        let mut found = None;
        // No name has this byte, so the position is behind all manifests of `after`.
        let position = format!("{after}\0");
        self.table(MIRRORED)?.each((Included((position.as_str(), &[][..])), Unbounded), |(name, _), _| {
            found = Some(name.to_owned());
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// The last use of a mirrored manifest, or of a blob that was fetched. `None` if it was pushed, or does not exist.
    pub(crate) fn mirror_use(&self, repository: &RepositoryName, digest: Digest) -> Result<Option<Timestamp>, Error> {
        self.get(MIRROR_USES, (repository.as_str(), digest.key()), Timestamp::from_micros)
    }

    /// Returns at most `limit` uses after `after`, by repository and digest.
    pub(crate) fn mirror_uses(
        &self,
        after: Option<&(RepositoryName, Digest)>,
        limit: usize,
    ) -> Result<Vec<(RepositoryName, Digest)>, Error> {
        let from = after.map_or(Unbounded, |(name, digest)| Excluded((name.as_str(), digest.key())));
        self.table(MIRROR_USES)?.collect((from, Unbounded), limit, |(name, digest), _| {
            Ok(Some((codec::parse(MIRROR_USES, name)?, codec::digest(MIRROR_USES, digest)?)))
        })
    }

    /// Whether the mirror made the link of a blob, and nothing that was pushed references the blob in this repository.
    pub(crate) fn is_mirror_link(&self, repository: &RepositoryName, blob: Digest) -> Result<bool, Error> {
        let is_unreferenced = self.link(blob, repository)?.is_some_and(|link| link.references == 0);
        Ok(is_unreferenced
            && self.mirror_use(repository, blob)?.is_some()
            && self.is_listed_by_mirrored_only(repository, blob)?)
    }

    /// Whether only mirrored manifests of the repository list a digest, deleted ones included.
    pub(crate) fn is_listed_by_mirrored_only(
        &self,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<bool, Error> {
        let listers = self.listers(repository, digest, LISTERS_MAX + 1)?;
        for lister in &listers {
            if self.mirrored(repository, *lister)?.is_none() {
                return Ok(false);
            }
        }
        Ok(listers.len() <= LISTERS_MAX)
    }

    /// The last use of a blob that was fetched: of itself, or of a manifest that lists it.
    pub(crate) fn last_use(&self, repository: &RepositoryName, blob: Digest) -> Result<Option<Timestamp>, Error> {
        let mut last = self.mirror_use(repository, blob)?;
        for lister in self.listers(repository, blob, LISTERS_MAX)? {
            last = last.max(self.mirror_use(repository, lister)?);
        }
        Ok(last)
    }
}

impl WriteTx {
    /// Records that a manifest was fetched from an upstream. The caller adds its references.
    pub(crate) fn put_mirrored(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        row: &MirroredRow,
    ) -> Result<(), Error> {
        self.insert_row(MIRRORED, (repository.as_str(), digest.key()), row)?;
        self.put_mirror_use(repository, digest, row.fetched)
    }

    /// Records that a blob was fetched from an upstream, or that mirrored content was used.
    pub(crate) fn put_mirror_use(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.insert(MIRROR_USES, (repository.as_str(), digest.key()), now.micros())
    }

    /// Removes the last use of content that is removed or pushed, if there is one.
    pub(crate) fn remove_mirror_use(&mut self, repository: &RepositoryName, digest: Digest) -> Result<(), Error> {
        if self.mirror_use(repository, digest)?.is_none() {
            return Ok(());
        }
        self.remove(MIRROR_USES, (repository.as_str(), digest.key()))
    }

    /// Removes what [`WriteTx::put_mirrored`] has recorded, if there is anything.
    pub(crate) fn remove_mirrored(&mut self, repository: &RepositoryName, digest: Digest) -> Result<(), Error> {
        if self.mirrored(repository, digest)?.is_none() {
            return Ok(());
        }
        self.remove(MIRRORED, (repository.as_str(), digest.key()))?;
        self.remove_mirror_use(repository, digest)
    }
}
