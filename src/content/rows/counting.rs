//! Counting of totals and facts that an earlier program did not write, in small steps next to pushes.
//!
//! A step continues where the row of a repository says that the last one has ended ([`super::totals`]), and is one
//! transaction. So the work can be interrupted at any point. The caller reads the facts of a step's manifests between
//! reading and writing it; the write checks again what a push may have changed.

use std::ops::Bound::{Excluded, Unbounded};

use bytes::Bytes;

use super::journal::number;
use super::schema::{DELETED_MANIFESTS, FACTS, LINKS_OF, MANIFESTS, PULLS, REPOSITORIES, REPOSITORY_ORDER, TAGS};
use super::tag::TagRow;
use super::totals::{Counted, FactsState, Reached, Stage};
use super::{Details, Error, Facts, ManifestRow, Order, Rows, WriteTx, codec};
use crate::oci::{Digest, Manifest, RepositoryName};

/// A step ends after this many bytes of manifests.
const STEP_BYTES: usize = 1024 * 1024;

/// A manifest whose facts have to be checked.
#[derive(Debug)]
pub(crate) struct UncountedManifest {
    pub(crate) digest: Digest,
    pub(crate) row: ManifestRow,
    pub(crate) bytes: Bytes,
    /// Whether it has facts, of this push. Only its size has to be computed again.
    pub(crate) has_facts: bool,
}

/// The manifests of one step.
#[derive(Debug)]
pub(crate) struct UncountedFacts {
    pub(crate) manifests: Vec<UncountedManifest>,
    from: Reached,
    to: Reached,
}

/// A position in one of the tables that may have rows of removed content.
#[derive(Debug, Default)]
pub(crate) struct CleanupPosition {
    facts: Option<(Vec<u8>, String)>,
    pulls: Option<(String, Vec<u8>)>,
    orders: Option<(u8, u64, String)>,
}

impl Rows {
    /// The first repositories after `after` whose totals or facts are not counted, of at most `limit` that are looked at.
    /// Also returns the last one that was looked at, if there may be more.
    pub(crate) fn uncounted_repositories(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<RepositoryName>, Option<String>), Error> {
        let epoch = self.facts_state()?.epoch;
        let range = (Excluded(after), Unbounded);
        let rows = self.table(REPOSITORIES)?.collect(range, limit, |name, row| {
            let counted = codec::decode_with::<super::RepositoryRow, Counted>(row).map(|(_, counted)| counted);
            let is_counted = counted.is_none_or(|counted| counted.epoch == epoch && counted.reached == Reached::All);
            Ok(Some((name.to_owned(), is_counted)))
        })?;
        let last = if rows.len() == limit { rows.last().map(|(name, _)| name.clone()) } else { None };
        let uncounted = rows.into_iter().filter(|(_, is_counted)| !is_counted);
        Ok((uncounted.filter_map(|(name, _)| name.parse().ok()).collect(), last))
    }

    /// The manifests of a repository that a step reads. `None` if its facts are counted, or its totals are not.
    pub(crate) fn uncounted_facts(&self, name: &RepositoryName, limit: usize) -> Result<Option<UncountedFacts>, Error> {
        let Some((_, counted)) = self.counted_repository(name)? else { return Ok(None) };
        if counted.epoch != self.facts_state()?.epoch {
            return Ok(None);
        }
        let (table, after) = match &counted.reached {
            Reached::Manifests(after) => (MANIFESTS, after),
            Reached::Deleted(after) => (DELETED_MANIFESTS, after),
            _ => return Ok(None),
        };
        let range = (Excluded((name.as_str(), &after[..])), Unbounded);
        let rows = self.table(table)?.collect(range, limit, |(owner, digest), row| {
            (owner == name.as_str()).then(|| Ok((digest.to_vec(), codec::row(table, row, name)?))).transpose()
        })?;
        let mut last = rows.last().filter(|_| rows.len() == limit).map(|(key, _)| key.clone());
        let (mut manifests, mut bytes_read) = (Vec::new(), 0);
        for (key, row) in rows {
            let digest = codec::digest(table, &key)?;
            let row: ManifestRow = row;
            let has_facts = self.facts(name, digest)?.is_some_and(|facts| facts.pushed == row.created);
            let bytes = self.manifest_bytes(name, digest)?.unwrap_or_default();
            bytes_read += bytes.len();
            manifests.push(UncountedManifest { digest, row, bytes, has_facts });
            if bytes_read > STEP_BYTES {
                last = Some(key);
                break;
            }
        }
        let to = match (&counted.reached, last) {
            (Reached::Manifests(_), Some(last)) => Reached::Manifests(last),
            (Reached::Manifests(_), None) => Reached::Deleted(Vec::new()),
            (_, Some(last)) => Reached::Deleted(last),
            (_, None) => Reached::All,
        };
        Ok(Some(UncountedFacts { manifests, from: counted.reached, to }))
    }

    /// How often facts were reset, for [`WriteTx::end_counting`].
    pub(crate) fn facts_resets(&self) -> Result<u32, Error> {
        Ok(self.facts_state()?.resets)
    }
}

impl WriteTx {
    /// Begins to count everything again if an earlier program has changed content.
    pub(crate) fn begin_counting(&mut self) -> Result<(), Error> {
        if self.is_facts_number_current()? {
            return Ok(());
        }
        let FactsState { epoch, resets, .. } = self.facts_state()?;
        let number = number(self)?;
        self.set_facts_number(number)?;
        self.set_facts_state(FactsState { epoch: epoch.wrapping_add(1), stage: Stage::Totals, resets })
    }

    /// Notes that totals are missing that were complete: an earlier program has pushed only blobs.
    pub(crate) fn note_uncounted(&mut self) -> Result<(), Error> {
        let state = self.facts_state()?;
        self.set_facts_state(FactsState { stage: Stage::Totals, resets: state.resets.wrapping_add(1), ..state })
    }

    /// Counts at most `limit` links or tags of a repository. Returns whether its totals are known now.
    pub(crate) fn count_totals(&mut self, name: &RepositoryName, limit: usize) -> Result<bool, Error> {
        let Some((row, counted)) = self.counted_repository(name)? else { return Ok(true) };
        let epoch = self.facts_state()?.epoch;
        let reached = if counted.epoch == epoch { counted.reached } else { Reached::Links(Vec::new()) };
        let text = name.as_str();
        let (mut size, mut tags, mut moved) = (0, 0, row.created);
        let to = match &reached {
            Reached::Links(after) => {
                let range = (Excluded((text, &after[..])), Unbounded);
                let links = self.table(LINKS_OF)?.collect(range, limit, |(owner, digest), ()| {
                    (owner == text).then(|| codec::digest(LINKS_OF, digest)).transpose()
                })?;
                for digest in &links {
                    size += self.blob(*digest)?.map_or(0, |blob| blob.size);
                }
                let last = links.last().filter(|_| links.len() == limit);
                last.map_or(Reached::Tags(String::new()), |last| Reached::Links(last.key().to_vec()))
            }
            Reached::Tags(after) => {
                let range = (Excluded((text, after.as_str())), Unbounded);
                let rows = self.table(TAGS)?.collect(range, limit, |(owner, tag), row| {
                    (owner == text).then(|| Ok((tag.to_owned(), TagRow::decode(row, tag)?.moved))).transpose()
                })?;
                tags = rows.len() as u64;
                moved = rows.iter().map(|(_, moved)| *moved).fold(moved, Ord::max);
                let last = rows.last().filter(|_| rows.len() == limit);
                last.map_or(Reached::Manifests(Vec::new()), |(last, _)| Reached::Tags(last.clone()))
            }
            _ => return Ok(true),
        };
        let is_known = to >= Reached::Manifests(Vec::new());
        self.change_counts(name, |_, counted| {
            counted.size += size;
            counted.tags += tags;
            counted.note_change(moved);
            counted.reached = to;
        })?;
        Ok(is_known)
    }

    /// Writes the facts that were read in a step, each with the index of its manifest. Does nothing if the step was done
    /// or the repository was removed meanwhile.
    pub(crate) fn put_counted_facts(
        &mut self,
        name: &RepositoryName,
        step: UncountedFacts,
        read: Vec<(usize, Facts, Details)>,
    ) -> Result<(), Error> {
        let UncountedFacts { manifests, from, to } = step;
        if self.counted_repository(name)?.is_none_or(|(_, counted)| counted.reached != from) {
            return Ok(());
        }
        let mut pushed = Vec::new();
        for (index, facts, details) in read {
            let Some(manifest) = manifests.get(index) else { continue };
            // A push may have stored newer facts, which know more.
            let stored = self.facts(name, manifest.digest)?;
            let Some(row) = self.stored_manifest(name, manifest.digest)? else { continue };
            if stored.is_none_or(|stored| stored.pushed != row.created) {
                self.put_facts(name, manifest.digest, &Facts { pushed: row.created, ..facts }, &details)?;
            }
        }
        for manifest in &manifests {
            pushed.push(manifest.row.created);
            let Ok(read) = Manifest::read(&manifest.bytes, manifest.row.media_type().as_ref()) else { continue };
            let Some((facts, details)) = self.facts_and_details(name, manifest.digest)? else { continue };
            let size = self.image_size(name, &read, manifest.row.size)?;
            self.put_resized(name, manifest.digest, facts, &details, size)?;
        }
        let is_deleted = matches!(from, Reached::Deleted(_));
        let latest = pushed.into_iter().filter(|_| !is_deleted).max();
        self.change_counts(name, |_, counted| {
            counted.reached = to;
            if let Some(latest) = latest {
                counted.note_change(latest);
            }
        })
    }

    /// Notes that all totals are known.
    pub(crate) fn end_totals(&mut self) -> Result<(), Error> {
        let state = self.facts_state()?;
        self.set_facts_state(FactsState { stage: state.stage.max(Stage::Facts), ..state })
    }

    /// Notes that all facts are known, unless some were reset since there were `resets`. Returns whether it is so.
    pub(crate) fn end_counting(&mut self, resets: u32) -> Result<bool, Error> {
        let state = self.facts_state()?;
        if state.resets != resets || !self.is_facts_number_current()? {
            return Ok(false);
        }
        self.set_facts_state(FactsState { stage: Stage::Complete, ..state })?;
        Ok(true)
    }

    /// Removes rows of content that an earlier program has removed, out of at most `limit` of each table after
    /// `position`. Returns whether all tables were read.
    pub(crate) fn clean_up(&mut self, position: &mut CleanupPosition, limit: usize) -> Result<bool, Error> {
        let facts = self.clean_facts(position, limit)?;
        let pulls = self.clean_pulls(position, limit)?;
        Ok(self.clean_orders(position, limit)? && facts && pulls)
    }

    fn clean_facts(&mut self, position: &mut CleanupPosition, limit: usize) -> Result<bool, Error> {
        let after = position.facts.clone().unwrap_or_default();
        let range = (Excluded((&after.0[..], after.1.as_str())), Unbounded);
        let keys = self.table(FACTS)?.collect(range, limit, |(digest, name), _| {
            Ok(Some((codec::digest(FACTS, digest)?, codec::parse::<RepositoryName, _, _>(FACTS, name)?)))
        })?;
        for (digest, name) in &keys {
            if self.stored_manifest(name, *digest)?.is_none() {
                self.remove_facts(name, *digest)?;
            }
        }
        if let Some((digest, name)) = keys.last() {
            position.facts = Some((digest.key().to_vec(), name.to_string()));
        }
        Ok(keys.len() < limit)
    }

    fn clean_pulls(&mut self, position: &mut CleanupPosition, limit: usize) -> Result<bool, Error> {
        let after = position.pulls.clone().unwrap_or_default();
        let range = (Excluded((after.0.as_str(), &after.1[..])), Unbounded);
        let keys = self
            .table(PULLS)?
            .collect(range, limit, |(name, digest), _| Ok(Some((name.to_owned(), digest.to_vec()))))?;
        for (text, key) in &keys {
            let name: RepositoryName = codec::parse(PULLS, text)?;
            let exists = match Digest::from_key(key) {
                Some(digest) => self.stored_manifest(&name, digest)?.is_some(),
                None => self.repository(&name)?.is_some(),
            };
            if !exists {
                self.remove(PULLS, (text.as_str(), &key[..]))?;
            }
        }
        position.pulls = keys.last().cloned().or(position.pulls.take());
        Ok(keys.len() < limit)
    }

    fn clean_orders(&mut self, position: &mut CleanupPosition, limit: usize) -> Result<bool, Error> {
        let after = position.orders.clone().unwrap_or_default();
        let range = (Excluded((after.0, after.1, after.2.as_str())), Unbounded);
        let keys = self
            .table(REPOSITORY_ORDER)?
            .collect(range, limit, |(order, value, name), ()| Ok(Some((order, value, name.to_owned()))))?;
        for (number, value, text) in &keys {
            let name: RepositoryName = codec::parse(REPOSITORY_ORDER, text)?;
            let order = Order::ALL.into_iter().find(|order| order.number() == *number);
            let is_current = match order {
                Some(order) => self.ordered_repository(order, &name, *value)?.is_some(),
                None => false,
            };
            if !is_current {
                self.remove(REPOSITORY_ORDER, (*number, *value, text.as_str()))?;
            }
        }
        position.orders = keys.last().cloned().or(position.orders.take());
        Ok(keys.len() < limit)
    }
}
