//! Rows of repositories: their counts, and the totals that lists show.
//!
//! The totals are a second field of the row, which earlier programs do not write. So a row without the field was written
//! by one of them, and its totals are counted again by [`super::counting`], in small steps. While that goes on, `reached`
//! says what is counted. A change of a link or a tag before that position changes the totals; one after it does not,
//! because the count has yet to come there. So the totals are exact at every moment, and after every crash.
//!
//! An earlier program may also change tags without writing the row. It does not write the journal number of the facts,
//! which then differs from the number of the journal: a new epoch starts, in which nothing is counted.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::journal::number;
use super::order::Order;
use super::schema::{REPOSITORIES, SETTING_FACTS, SETTING_FACTS_NUMBER, SETTINGS};
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, RepositoryName, Tag};

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RepositoryRow {
    pub(crate) created: Timestamp,
    /// The number of manifests.
    pub(crate) manifests: u64,
    /// The number of blobs that it links.
    pub(crate) links: u64,
}

/// The totals of a repository, for lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    /// The sum of the blobs that it links, in bytes.
    pub(crate) size: u64,
    pub(crate) tags: u64,
    /// When a manifest was last pushed or a tag last moved. Deleting changes nothing.
    pub(crate) changed: Timestamp,
    /// Pulls since they are counted, without those of manifests that an index lists.
    pub(crate) pulls: u64,
    pub(crate) last_pull: Option<Timestamp>,
}

/// How far the totals and the facts of a repository are counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Reached {
    /// The links up to this digest.
    Links(Vec<u8>),
    /// All links, and the tags up to this one.
    Tags(String),
    /// The totals, and the facts of manifests up to this digest.
    Manifests(Vec<u8>),
    /// The facts of manifests, and of those that were deleted by digest up to this one.
    Deleted(Vec<u8>),
    All,
}

/// The totals in the row of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counted {
    /// Everything was counted in this epoch. In a later one it has to be counted again.
    pub(super) epoch: u32,
    pub(super) reached: Reached,
    pub(super) size: u64,
    pub(super) tags: u64,
    pub(super) changed: Timestamp,
    /// The size under which the order has the repository. It follows when the repository changes or shrinks, and not for
    /// each blob of a push.
    pub(super) ordered_size: u64,
}

/// Nothing is counted.
impl Default for Counted {
    fn default() -> Self {
        let never = Timestamp::from_micros(0);
        Self { epoch: 0, reached: Reached::Links(Vec::new()), size: 0, tags: 0, changed: never, ordered_size: 0 }
    }
}

impl Counted {
    /// The totals of a new repository.
    pub(super) fn empty(epoch: u32, now: Timestamp) -> Self {
        Self { epoch, reached: Reached::All, changed: now, ..Self::default() }
    }

    /// The same row in this epoch.
    fn in_epoch(self, epoch: u32) -> Self {
        if self.epoch == epoch {
            return self;
        }
        Self { epoch, changed: self.changed, ..Self::default() }
    }

    /// Whether the totals are known. The order then has the repository.
    pub(super) fn has_totals(&self) -> bool {
        self.reached >= Reached::Manifests(Vec::new())
    }

    /// Notes a push or a moved tag.
    pub(super) fn note_change(&mut self, now: Timestamp) {
        self.changed = self.changed.max(now);
    }

    /// Notes that a blob is linked.
    pub(super) fn add_link(&mut self, digest: Digest, size: u64) {
        if self.reached >= Reached::Links(digest.key().to_vec()) {
            self.size += size;
        }
    }

    /// Notes that a blob is not linked any more.
    pub(super) fn remove_link(&mut self, digest: Digest, size: u64) {
        if self.reached >= Reached::Links(digest.key().to_vec()) {
            self.size = self.size.saturating_sub(size);
        }
    }

    /// Notes a new tag.
    pub(super) fn add_tag(&mut self, tag: &Tag) {
        if self.reached >= Reached::Tags(tag.to_string()) {
            self.tags += 1;
        }
    }

    /// Notes that a tag is removed.
    pub(super) fn remove_tag(&mut self, tag: &Tag) {
        if self.reached >= Reached::Tags(tag.to_string()) {
            self.tags = self.tags.saturating_sub(1);
        }
    }
}

/// The part of the database that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Stage {
    /// The totals of some repositories may be missing.
    Totals,
    /// The facts of some manifests may be missing.
    Facts,
    Complete,
}

/// The value of [`SETTING_FACTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FactsState {
    pub(super) epoch: u32,
    pub(super) stage: Stage,
    /// How often a repository had to be counted again. The background work sees that one was reset behind it.
    pub(super) resets: u32,
}

impl Rows {
    pub(crate) fn repository(&self, name: &RepositoryName) -> Result<Option<RepositoryRow>, Error> {
        self.row(REPOSITORIES, name.as_str(), name)
    }

    /// A repository with its totals. They are missing until the background work after an upgrade has counted them.
    pub(crate) fn repository_and_totals(
        &self,
        name: &RepositoryName,
    ) -> Result<Option<(RepositoryRow, Option<Totals>)>, Error> {
        let Some((row, counted)) = self.current_counted(name)? else { return Ok(None) };
        let totals = if counted.has_totals() { Some(self.with_pulls(name, &counted)?) } else { None };
        Ok(Some((row, totals)))
    }

    /// The totals of a repository. `None` if it does not exist, or the background work after an upgrade has not counted
    /// them yet.
    pub(crate) fn totals(&self, name: &RepositoryName) -> Result<Option<Totals>, Error> {
        Ok(self.repository_and_totals(name)?.and_then(|(_, totals)| totals))
    }

    /// Visits the repositories that have tags, in byte order or in the reverse order, until `wanted` or `visit` breaks. If
    /// the tags of a repository are not counted yet, it is visited if it has manifests. Decodes only rows whose names are
    /// `wanted`.
    pub(crate) fn each_repository_with_tags(
        &self,
        descending: bool,
        mut wanted: impl FnMut(&str) -> ControlFlow<(), bool>,
        mut visit: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let (epoch, table) = (self.facts_state()?.epoch, self.table(REPOSITORIES)?);
        let mut range = table.range(..)?;
        let mut next = || if descending { range.next_back() } else { range.next() };
        while let Some(entry) = next() {
            let (key, value) = entry?;
            let name = key.value();
            match wanted(name) {
                ControlFlow::Continue(true) => {}
                ControlFlow::Continue(false) => continue,
                ControlFlow::Break(()) => break,
            }
            let (row, counted): (RepositoryRow, Counted) =
                codec::decode_with(value.value()).ok_or_else(|| Error::corrupt(REPOSITORIES, name))?;
            let counted = counted.in_epoch(epoch);
            let has_tags = if counted.has_totals() { counted.tags > 0 } else { row.manifests > 0 };
            if has_tags && visit(name).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Whether every repository has totals, so that the orders have all of them.
    pub(crate) fn totals_complete(&self) -> Result<bool, Error> {
        Ok(self.facts_state()?.stage > Stage::Totals && self.is_facts_number_current()?)
    }

    /// Whether every repository has totals and every manifest has facts. Otherwise the background work is not done.
    pub(crate) fn facts_complete(&self) -> Result<bool, Error> {
        Ok(self.facts_state()?.stage == Stage::Complete && self.is_facts_number_current()?)
    }

    pub(super) fn counted_repository(&self, name: &RepositoryName) -> Result<Option<(RepositoryRow, Counted)>, Error> {
        let row = self.get(REPOSITORIES, name.as_str(), codec::decode_with)?;
        row.map(|row| row.ok_or_else(|| Error::corrupt(REPOSITORIES, name))).transpose()
    }

    /// As [`Rows::counted_repository`]. Nothing is counted if that was in another epoch.
    pub(super) fn current_counted(&self, name: &RepositoryName) -> Result<Option<(RepositoryRow, Counted)>, Error> {
        let epoch = self.facts_state()?.epoch;
        Ok(self.counted_repository(name)?.map(|(row, counted)| (row, counted.in_epoch(epoch))))
    }

    fn with_pulls(&self, name: &RepositoryName, counted: &Counted) -> Result<Totals, Error> {
        let Counted { size, tags, changed, .. } = *counted;
        let pulls = self.pulls_of_repository(name)?;
        Ok(Totals { size, tags, changed, pulls: pulls.count, last_pull: pulls.last })
    }

    pub(super) fn facts_state(&self) -> Result<FactsState, Error> {
        let unknown = FactsState { epoch: 1, stage: Stage::Totals, resets: 0 };
        Ok(self.get(SETTINGS, SETTING_FACTS, codec::decode)?.flatten().unwrap_or(unknown))
    }

    /// Whether no earlier program has changed content since this one did.
    pub(super) fn is_facts_number_current(&self) -> Result<bool, Error> {
        Ok(self.facts_number()? == number(self)?)
    }

    fn facts_number(&self) -> Result<u64, Error> {
        let bytes = self.setting(SETTING_FACTS_NUMBER)?;
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes))
    }
}

impl WriteTx {
    pub(super) fn set_facts_state(&mut self, state: FactsState) -> Result<(), Error> {
        self.epoch = None;
        self.insert_row(SETTINGS, SETTING_FACTS, &state)
    }

    pub(super) fn set_facts_number(&mut self, number: u64) -> Result<(), Error> {
        self.set_setting(SETTING_FACTS_NUMBER, &number.to_be_bytes())
    }

    fn epoch(&mut self) -> Result<u32, Error> {
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => self.facts_state()?.epoch,
        };
        self.epoch = Some(epoch);
        Ok(epoch)
    }

    /// Changes the row of a repository, and its place in the orders. It is removed with the last content, unless the
    /// repository has settings.
    pub(super) fn change_repository(
        &mut self,
        name: &RepositoryName,
        now: Timestamp,
        change: impl FnOnce(&mut RepositoryRow, &mut Counted),
    ) -> Result<(), Error> {
        let stored = self.counted_repository(name)?;
        self.change_stored(name, stored, now, change)
    }

    /// As [`WriteTx::change_repository`], if the repository exists.
    pub(super) fn change_counts(
        &mut self,
        name: &RepositoryName,
        change: impl FnOnce(&mut RepositoryRow, &mut Counted),
    ) -> Result<(), Error> {
        let Some(stored) = self.counted_repository(name)? else { return Ok(()) };
        let created = stored.0.created;
        self.change_stored(name, Some(stored), created, change)
    }

    fn change_stored(
        &mut self,
        name: &RepositoryName,
        stored: Option<(RepositoryRow, Counted)>,
        now: Timestamp,
        change: impl FnOnce(&mut RepositoryRow, &mut Counted),
    ) -> Result<(), Error> {
        let (epoch, is_new) = (self.epoch()?, stored.is_none());
        let before = stored.as_ref().map(|(_, counted)| counted).filter(|counted| counted.has_totals()).cloned();
        let (mut row, counted) = stored
            .unwrap_or_else(|| (RepositoryRow { created: now, manifests: 0, links: 0 }, Counted::empty(epoch, now)));
        let mut counted = counted.in_epoch(epoch);
        change(&mut row, &mut counted);
        if row.manifests == 0 && row.links == 0 && self.settings(name)?.is_none() {
            self.remove_from_orders(name, before.as_ref())?;
            self.remove_pulls_of_repository(name)?;
            self.remove_preferences_of_repository(name)?;
            if !is_new {
                self.count_repository(name, false)?;
            }
            return self.remove(REPOSITORIES, name.as_str());
        }
        if is_new {
            self.note_repository(name);
        }
        self.move_in_orders(name, before.as_ref(), &mut counted)?;
        if is_new {
            self.count_repository(name, true)?;
        }
        self.insert(REPOSITORIES, name.as_str(), codec::encode_with(&row, &counted).as_slice())
    }

    /// Adds a repository without content. It must have settings.
    pub(crate) fn put_repository(&mut self, name: &RepositoryName, now: Timestamp) -> Result<(), Error> {
        self.change_repository(name, now, |_, _| {})
    }

    /// Moves a repository in the orders, if its totals are known.
    fn move_in_orders(
        &mut self,
        name: &RepositoryName,
        before: Option<&Counted>,
        now: &mut Counted,
    ) -> Result<(), Error> {
        if !now.has_totals() {
            return self.remove_from_orders(name, before);
        }
        let has_changed = before.is_none_or(|before| before.changed != now.changed);
        if has_changed {
            let from = before.map(|before| before.changed.micros());
            self.move_in_order(Order::Change, name, from, now.changed.micros())?;
        }
        if has_changed || now.size < now.ordered_size {
            now.ordered_size = now.size;
            self.move_in_order(Order::Size, name, before.map(|before| before.ordered_size), now.size)?;
        }
        if before.is_none() {
            let pulls = self.pulls_of_repository(name)?.count;
            self.move_in_order(Order::Pulls, name, None, pulls)?;
        }
        Ok(())
    }

    fn remove_from_orders(&mut self, name: &RepositoryName, before: Option<&Counted>) -> Result<(), Error> {
        let Some(before) = before else { return Ok(()) };
        let pulls = self.pulls_of_repository(name)?.count;
        self.remove_from_order(Order::Change, name, before.changed.micros())?;
        self.remove_from_order(Order::Size, name, before.ordered_size)?;
        self.remove_from_order(Order::Pulls, name, pulls)
    }
}
