//! Rows of what nothing needs: since when, and what has needed it last.
//!
//! They are kept in the transactions that take needs away and give new ones, so that garbage is found
//! without a walk over what is not. A row is a hint: whoever removes something looks again whether it is
//! needed. That there is a row for everything unreferenced must always hold; how long such things are kept is
//! decided in [`crate::content::repository`].

use std::collections::BTreeSet;
use std::ops::Bound;

use redb::ReadableTable as _;

use super::codec::corrupt;
use super::history::past_digest;
use super::link::LinkRow;
use super::schema::{LINKS, LINKS_OF, MANIFESTS, PAST_OF, PAST_TAGS, TAGS_OF, UNREFERENCED, UNREFERENCED_SINCE};
use super::unreferenced::Unreferenced;
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::SteadyTime;
use crate::oci::{Digest, RepositoryName};

/// Something that nothing needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnreferencedRow {
    pub(crate) since: SteadyTime,
    pub(crate) repository: RepositoryName,
    pub(crate) kind: Unreferenced,
    pub(crate) digest: Digest,
}

impl Rows {
    /// Since when something is unreferenced; nothing if it is not.
    pub(crate) fn unreferenced(
        &self,
        repository: &RepositoryName,
        kind: Unreferenced,
        digest: Digest,
    ) -> Result<Option<SteadyTime>, Error> {
        let table = self.table(UNREFERENCED)?;
        let row = table.get((repository.as_str(), kind.number(), digest.key()))?;
        Ok(row.map(|since| SteadyTime::from_micros(since.value())))
    }

    /// At most `limit` of what is unreferenced since before `before`, behind `after`, the longest first.
    pub(crate) fn unreferenced_since(
        &self,
        after: Option<&UnreferencedRow>,
        before: SteadyTime,
        limit: usize,
    ) -> Result<Vec<UnreferencedRow>, Error> {
        let table = self.table(UNREFERENCED_SINCE)?;
        let mut rows = Vec::new();
        let from = after.map_or(Bound::Unbounded, |row| {
            Bound::Excluded((row.since.micros(), row.repository.as_str(), row.kind.number(), row.digest.key()))
        });
        if after.is_some_and(|row| row.since >= before) {
            return Ok(rows);
        }
        let until = Bound::Excluded((before.micros(), "", 0, &[][..]));
        for row in table.range((from, until))?.take(limit) {
            let (key, _) = row?;
            let (since, repository, kind, digest) = key.value();
            let unreadable = || corrupt("unneeded since", repository);
            rows.push(UnreferencedRow {
                since: SteadyTime::from_micros(since),
                repository: repository.parse().map_err(|_| unreadable())?,
                kind: Unreferenced::from_number(kind).ok_or_else(unreadable)?,
                digest: Digest::from_key(digest).ok_or_else(unreadable)?,
            });
        }
        Ok(rows)
    }

    /// What is unreferenced in a repository, and stands in the order of time as well.
    pub(crate) fn unreferenced_in(&self, repository: &RepositoryName) -> Result<BTreeSet<(u8, Digest)>, Error> {
        let (table, by_time) = (self.table(UNREFERENCED)?, self.table(UNREFERENCED_SINCE)?);
        let (name, mut unreferenced) = (repository.as_str(), BTreeSet::new());
        for row in table.range((name, 0, &[][..])..)? {
            let (key, since) = row?;
            let (owner, kind, digest) = key.value();
            if owner != name {
                break;
            }
            if by_time.get((since.value(), name, kind, digest))?.is_some() {
                unreferenced.insert((kind, Digest::from_key(digest).ok_or_else(|| corrupt("unneeded", repository))?));
            }
        }
        Ok(unreferenced)
    }

    /// Whether a tag or an index of the repository names a manifest, or a tag did as far as is remembered.
    pub(crate) fn is_named(&self, repository: &RepositoryName, digest: Digest) -> Result<bool, Error> {
        let (name, key) = (repository.as_str(), digest.key());
        let tags = self.table(TAGS_OF)?;
        if let Some(row) = tags.range((name, key, "")..)?.next() {
            let (found, _) = row?;
            let (owner, manifest, _) = found.value();
            if owner == name && manifest == key {
                return Ok(true);
            }
        }
        let past = self.table(PAST_OF)?;
        if let Some(row) = past.range((name, key, "", 0, 0)..)?.next() {
            let (found, _) = row?;
            let (owner, manifest, ..) = found.value();
            if owner == name && manifest == key {
                return Ok(true);
            }
        }
        Ok(self.lister(repository, digest)?.is_some())
    }
}

impl WriteTx {
    /// Notes that nothing needs something since a time, whatever was known before.
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
        self.table_mut(UNREFERENCED)?.insert((name, number, key), since.micros())?;
        self.table_mut(UNREFERENCED_SINCE)?.insert((since.micros(), name, number, key), ())?;
        Ok(())
    }

    /// Notes that something is needed, or gone.
    pub(crate) fn set_referenced(
        &mut self,
        repository: &RepositoryName,
        kind: Unreferenced,
        digest: Digest,
    ) -> Result<(), Error> {
        let (name, number, key) = (repository.as_str(), kind.number(), digest.key());
        if let Some(since) = self.unreferenced(repository, kind, digest)? {
            self.table_mut(UNREFERENCED)?.remove((name, number, key))?;
            self.table_mut(UNREFERENCED_SINCE)?.remove((since.micros(), name, number, key))?;
        }
        Ok(())
    }

    /// Looks whether a manifest that is there is still needed, after something that named it does not any
    /// more since `since`.
    pub(crate) fn recheck_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        since: impl Into<SteadyTime>,
    ) -> Result<(), Error> {
        let since = since.into();
        if self.stored_manifest(repository, digest)?.is_some() && !self.is_named(repository, digest)? {
            self.set_unreferenced(repository, Unreferenced::Manifest, digest, since)?;
            // As a referrer of something gone it is no longer unreferenced than that.
            if self.unreferenced(repository, Unreferenced::Referrer, digest)?.is_some() {
                self.set_unreferenced(repository, Unreferenced::Referrer, digest, since)?;
            }
        }
        Ok(())
    }

    /// Looks whether what an index has listed is still needed.
    pub(super) fn recheck_listed(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        since: SteadyTime,
    ) -> Result<(), Error> {
        self.recheck_manifest(repository, digest, since)?;
        let unreferenced = self.link(digest, repository)?.is_some_and(|link| link.references == 0);
        if unreferenced && self.lister(repository, digest)?.is_none() {
            self.set_unreferenced(repository, Unreferenced::Link, digest, since)?;
        }
        Ok(())
    }

    /// Makes the rows of this module, and those they are made from, for a database that has none: as if
    /// whatever is unreferenced had become so now. Whether a subject that is missing was here is not known; its
    /// referrers stay.
    pub(super) fn index_unreferenced(&mut self, now: SteadyTime) -> Result<(), Error> {
        self.changed = true;
        {
            let (links, mut links_of) =
                (self.transaction().open_table(*LINKS)?, self.transaction().open_table(*LINKS_OF)?);
            for row in links.iter()? {
                let (key, _) = row?;
                let (digest, name) = key.value();
                links_of.insert((name, digest), ())?;
            }
            let (past, mut past_of) =
                (self.transaction().open_table(*PAST_TAGS)?, self.transaction().open_table(*PAST_OF)?);
            for row in past.iter()? {
                let (key, row) = row?;
                let (name, tag, started, number) = key.value();
                let digest = past_digest(row.value(), tag)?;
                past_of.insert((name, digest.key(), tag, started, number), ())?;
            }
        }
        let mut manifests = Vec::new();
        for row in self.table(MANIFESTS)?.range(..)? {
            let (key, _) = row?;
            let (name, digest) = key.value();
            manifests.extend(name.parse::<RepositoryName>().ok().zip(Digest::from_key(digest)));
        }
        for (name, digest) in &manifests {
            self.recheck_manifest(name, *digest, now)?;
        }
        let mut links = Vec::new();
        for row in self.table(LINKS)?.range(..)? {
            let (key, row) = row?;
            let (digest, name) = key.value();
            let unreferenced = codec::decode::<LinkRow>(row.value()).is_some_and(|link| link.references == 0);
            if unreferenced {
                links.extend(name.parse::<RepositoryName>().ok().zip(Digest::from_key(digest)));
            }
        }
        for (name, digest) in &links {
            self.set_unreferenced(name, Unreferenced::Link, *digest, now)?;
        }
        Ok(())
    }
}
