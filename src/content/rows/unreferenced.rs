//! Rows of unreferenced blobs and manifests, with the time since when they are.
//!
//! The transaction that removes a reference records the object here, and the one that adds a reference removes it. So
//! garbage collection need not walk over referenced content. A row is a hint: collection checks again before it removes
//! an object. Every unreferenced object must have a row. [`crate::content::repository`] decides how long it is kept.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::ops::ControlFlow;

use redb::ReadableTable as _;

use super::blob::LinkRow;
use super::history::PastRow;
use super::schema::{LINKS, LINKS_OF, MANIFESTS, PAST_OF, PAST_TAGS, TAGS_OF, UNREFERENCED, UNREFERENCED_SINCE};
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::SteadyTime;
use crate::oci::{Digest, RepositoryName};

/// The kind of an unreferenced object. The numbers are in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Unreferenced {
    /// A repository's link to a blob that none of its manifests references.
    Link = 1,
    /// A manifest that no tag and no index names, and that the tag history does not name either.
    Manifest = 2,
    /// A removed manifest that has referrers or tags of signatures, which collection has to look at.
    Subject = 3,
    /// A manifest whose subject is removed.
    Referrer = 4,
}

impl Unreferenced {
    const ALL: [Self; 4] = [Self::Link, Self::Manifest, Self::Subject, Self::Referrer];

    pub(super) const fn number(self) -> u8 {
        self as u8
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// An unreferenced object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnreferencedRow {
    pub(crate) since: SteadyTime,
    pub(crate) repository: RepositoryName,
    pub(crate) kind: Unreferenced,
    pub(crate) digest: Digest,
}

impl Rows {
    /// Since when an object is unreferenced. `None` if it is referenced.
    pub(crate) fn unreferenced(
        &self,
        repository: &RepositoryName,
        kind: Unreferenced,
        digest: Digest,
    ) -> Result<Option<SteadyTime>, Error> {
        self.get(UNREFERENCED, (repository.as_str(), kind.number(), digest.key()), SteadyTime::from_micros)
    }

    /// Returns at most `limit` objects after `after` that are unreferenced since before `before`, the oldest first.
    pub(crate) fn unreferenced_since(
        &self,
        after: Option<&UnreferencedRow>,
        before: SteadyTime,
        limit: usize,
    ) -> Result<Vec<UnreferencedRow>, Error> {
        if after.is_some_and(|row| row.since >= before) {
            return Ok(Vec::new());
        }
        let from = after.map_or(Unbounded, |row| {
            Excluded((row.since.micros(), row.repository.as_str(), row.kind.number(), row.digest.key()))
        });
        let until = Excluded((before.micros(), "", 0, &[][..]));
        self.table(UNREFERENCED_SINCE)?.collect((from, until), limit, |(since, repository, kind, digest), ()| {
            Ok(Some(UnreferencedRow {
                since: SteadyTime::from_micros(since),
                repository: codec::parse(UNREFERENCED_SINCE, repository)?,
                kind: Unreferenced::from_number(kind).ok_or_else(|| Error::corrupt(UNREFERENCED_SINCE, repository))?,
                digest: codec::digest(UNREFERENCED_SINCE, digest)?,
            }))
        })
    }

    /// The kind and digest of each unreferenced object in a repository that is also listed in the order of time.
    pub(crate) fn unreferenced_in(&self, repository: &RepositoryName) -> Result<BTreeSet<(u8, Digest)>, Error> {
        let by_time = self.table(UNREFERENCED_SINCE)?;
        let name = repository.as_str();
        let rows =
            self.table(UNREFERENCED)?.collect((name, 0, &[][..]).., usize::MAX, |(owner, kind, digest), since| {
                if owner != name {
                    return Ok(None);
                }
                let is_listed = by_time.get((since, name, kind, digest))?.is_some();
                Ok(Some((is_listed, (kind, codec::digest(UNREFERENCED, digest)?))))
            })?;
        Ok(rows.into_iter().filter_map(|(is_listed, row)| is_listed.then_some(row)).collect())
    }

    /// Visits the unreferenced manifests of a repository.
    pub(crate) fn each_unreferenced_manifest(
        &self,
        repository: &RepositoryName,
        mut visit: impl FnMut(Digest) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let wanted = (repository.as_str(), Unreferenced::Manifest.number());
        self.table(UNREFERENCED)?.each((wanted.0, wanted.1, &[][..]).., |(name, kind, digest), _| {
            if (name, kind) != wanted {
                return Ok(ControlFlow::Break(()));
            }
            visit(codec::digest(UNREFERENCED, digest)?)?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Whether no manifest of the repository references or lists a blob that the repository links. Mirrored manifests only
    /// list their blobs.
    pub(crate) fn is_link_unreferenced(&self, repository: &RepositoryName, digest: Digest) -> Result<bool, Error> {
        let is_uncounted = self.link(digest, repository)?.is_some_and(|link| link.references == 0);
        Ok(is_uncounted && self.lister(repository, digest)?.is_none())
    }

    /// Whether a tag, an index or the tag history of the repository names a manifest.
    pub(crate) fn is_named(&self, repository: &RepositoryName, digest: Digest) -> Result<bool, Error> {
        let wanted = (repository.as_str(), digest.key());
        let (name, key) = wanted;
        let tags = self.table(TAGS_OF)?;
        let tags =
            tags.collect((name, key, "").., 1, |(owner, of, _), ()| Ok(((owner, of) == wanted).then_some(())))?;
        if !tags.is_empty() {
            return Ok(true);
        }
        Ok(self.is_in_history(repository, digest)? || self.lister(repository, digest)?.is_some())
    }
}

impl WriteTx {
    /// Records that an object is unreferenced since a time, in place of an earlier record.
    pub(crate) fn set_unreferenced(
        &mut self,
        repository: &RepositoryName,
        kind: Unreferenced,
        digest: Digest,
        since: impl Into<SteadyTime>,
    ) -> Result<(), Error> {
        let since = since.into();
        self.set_referenced(repository, kind, digest)?;
        let (name, number, key) = (repository.as_str(), kind.number(), digest.key());
        self.insert(UNREFERENCED, (name, number, key), since.micros())?;
        self.insert(UNREFERENCED_SINCE, (since.micros(), name, number, key), ())
    }

    /// Records that an object is referenced, or removed.
    pub(crate) fn set_referenced(
        &mut self,
        repository: &RepositoryName,
        kind: Unreferenced,
        digest: Digest,
    ) -> Result<(), Error> {
        let Some(since) = self.unreferenced(repository, kind, digest)? else { return Ok(()) };
        let (name, number, key) = (repository.as_str(), kind.number(), digest.key());
        self.remove(UNREFERENCED, (name, number, key))?;
        self.remove(UNREFERENCED_SINCE, (since.micros(), name, number, key))
    }

    /// Records a manifest as unreferenced if nothing names it any more. `since` is when the last name was removed.
    pub(crate) fn recheck_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        since: impl Into<SteadyTime>,
    ) -> Result<(), Error> {
        let since = since.into();
        if self.stored_manifest(repository, digest)?.is_some() && !self.is_named(repository, digest)? {
            self.set_unreferenced(repository, Unreferenced::Manifest, digest, since)?;
            // A referrer of a removed subject counts from the same time, not from when the subject was removed.
            if self.unreferenced(repository, Unreferenced::Referrer, digest)?.is_some() {
                self.set_unreferenced(repository, Unreferenced::Referrer, digest, since)?;
            }
        }
        Ok(())
    }

    /// Records a manifest or a blob as unreferenced if nothing names it after it was removed from `listings`.
    pub(super) fn recheck_listed(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        since: SteadyTime,
    ) -> Result<(), Error> {
        self.recheck_manifest(repository, digest, since)?;
        self.recheck_link(repository, digest, since)
    }

    /// Records a blob as unreferenced if nothing names it.
    pub(super) fn recheck_link(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        since: SteadyTime,
    ) -> Result<(), Error> {
        if self.is_link_unreferenced(repository, digest)? {
            self.set_unreferenced(repository, Unreferenced::Link, digest, since)?;
        }
        Ok(())
    }

    /// Adds the rows of this module, and the indexes they need, to a database from before version 3. Everything that
    /// is unreferenced counts from `now`. Referrers of a missing subject stay, because no row says whether the subject
    /// ever existed.
    pub(super) fn index_unreferenced(&mut self, now: SteadyTime) -> Result<(), Error> {
        self.changed = true;
        let (mut manifests, mut links) = (Vec::new(), Vec::new());
        {
            let mut links_of = self.unlogged().open_table(*LINKS_OF)?;
            for row in self.unlogged().open_table(*LINKS)?.iter()? {
                let (key, row) = row?;
                let (digest, name) = key.value();
                links_of.insert((name, digest), ())?;
                if codec::decode::<LinkRow>(row.value()).is_some_and(|link| link.references == 0) {
                    links.extend(name.parse::<RepositoryName>().ok().zip(Digest::from_key(digest)));
                }
            }
            let mut past_of = self.unlogged().open_table(*PAST_OF)?;
            for row in self.unlogged().open_table(*PAST_TAGS)?.iter()? {
                let (key, row) = row?;
                let (name, tag, started, number) = key.value();
                let PastRow { digest, .. } = PastRow::decode(row.value(), tag)?;
                past_of.insert((name, digest.key(), tag, started, number), ())?;
            }
            for row in self.unlogged().open_table(*MANIFESTS)?.iter()? {
                let (key, _) = row?;
                let (name, digest) = key.value();
                manifests.extend(name.parse::<RepositoryName>().ok().zip(Digest::from_key(digest)));
            }
        }
        for (name, digest) in &manifests {
            self.recheck_manifest(name, *digest, now)?;
        }
        for (name, digest) in &links {
            self.set_unreferenced(name, Unreferenced::Link, *digest, now)?;
        }
        Ok(())
    }
}
