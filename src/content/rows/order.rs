//! The orders of repositories, and rows of pulls.
//!
//! An order has a row for each repository with totals ([`super::totals`]), under the value that it is ordered by. An
//! earlier program may leave rows of repositories that it has removed: a reader checks a row with
//! [`Rows::ordered_repository`] before it shows it.

use std::ops::Bound::Excluded;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::schema::{PULLS, REPOSITORY_ORDER, SETTING_PULLS_KNOWN_SINCE};
use super::totals::{Counted, RepositoryRow, Totals};
use super::{Error, Rows, WriteTx};
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, RepositoryName};

/// The value by which repositories are ordered. The numbers are in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Order {
    /// When it last changed, in microseconds.
    Change = 0,
    /// The sum of its blobs in bytes, as it was at the last change.
    Size = 1,
    /// The number of pulls.
    Pulls = 2,
}

impl Order {
    pub(super) const ALL: [Self; 3] = [Self::Change, Self::Size, Self::Pulls];

    pub(super) const fn number(self) -> u8 {
        self as u8
    }
}

/// The pulls of a manifest or a repository. Those of the last seconds are not in the row yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pulls {
    pub(crate) count: u64,
    pub(crate) last: Option<Timestamp>,
}

impl Pulls {
    pub(crate) fn add(&mut self, more: Self) {
        self.count = self.count.saturating_add(more.count);
        self.last = self.last.max(more.last);
    }
}

/// In place of a digest, for all pulls of a repository.
const ALL_MANIFESTS: &[u8] = &[];

impl Rows {
    /// Visits the repositories in an order, until `visit` breaks: their names, and the values that they are ordered by.
    /// Repositories with the same value are in the order of their names, also reversed if `descending`. Starts after the
    /// value and name `after`. Check each wanted one with [`Rows::ordered_repository`].
    pub(crate) fn each_in_order(
        &self,
        order: Order,
        after: Option<(u64, &str)>,
        descending: bool,
        mut visit: impl FnMut(&str, u64) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let (table, number) = (self.table(REPOSITORY_ORDER)?, order.number());
        let (first, end) = ((number, 0, ""), (number + 1, 0, ""));
        let after = after.map(|(value, name)| (number, value, name));
        let mut range = match after {
            Some(after) if descending => table.range(first..after)?,
            Some(after) => table.range((Excluded(after), Excluded(end)))?,
            None => table.range(first..end)?,
        };
        let mut next = || if descending { range.next_back() } else { range.next() };
        while let Some(row) = next() {
            let (key, _) = row?;
            let (_, value, name) = key.value();
            if visit(name, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// A repository that an order has under this value, with its totals. `None` if an earlier program has removed or
    /// changed it.
    pub(crate) fn ordered_repository(
        &self,
        order: Order,
        name: &RepositoryName,
        value: u64,
    ) -> Result<Option<(RepositoryRow, Totals)>, Error> {
        let Some((_, counted)) = self.current_counted(name)? else { return Ok(None) };
        if self.ordered_by(order, name, &counted)? != value {
            return Ok(None);
        }
        Ok(self.repository_and_totals(name)?.and_then(|(row, totals)| Some((row, totals?))))
    }

    /// The value that a repository is ordered by.
    fn ordered_by(&self, order: Order, name: &RepositoryName, counted: &Counted) -> Result<u64, Error> {
        Ok(match order {
            Order::Change => counted.changed.micros(),
            Order::Size => counted.ordered_size,
            Order::Pulls => self.pulls_of_repository(name)?.count,
        })
    }

    /// Whether all orders have a repository.
    pub(super) fn is_in_orders(&self, name: &RepositoryName, counted: &Counted) -> Result<bool, Error> {
        for order in Order::ALL {
            let value = self.ordered_by(order, name, counted)?;
            if !self.has(REPOSITORY_ORDER, (order.number(), value, name.as_str()))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The pulls of a manifest.
    pub(crate) fn pulls(&self, repository: &RepositoryName, digest: Digest) -> Result<Pulls, Error> {
        Ok(self.row(PULLS, (repository.as_str(), digest.key()), digest)?.unwrap_or_default())
    }

    /// Since when all pulls are known.
    pub(crate) fn pulls_known_since(&self) -> Result<Timestamp, Error> {
        let bytes = self.setting(SETTING_PULLS_KNOWN_SINCE)?;
        let micros = bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        Ok(Timestamp::from_micros(micros))
    }

    /// The pulls of a repository, without those of manifests that an index listed at the time.
    pub(super) fn pulls_of_repository(&self, repository: &RepositoryName) -> Result<Pulls, Error> {
        Ok(self.row(PULLS, (repository.as_str(), ALL_MANIFESTS), repository)?.unwrap_or_default())
    }
}

impl WriteTx {
    /// Moves a repository in an order.
    pub(super) fn move_in_order(
        &mut self,
        order: Order,
        repository: &RepositoryName,
        from: Option<u64>,
        to: u64,
    ) -> Result<(), Error> {
        if let Some(from) = from.filter(|from| *from != to) {
            self.remove_from_order(order, repository, from)?;
        }
        self.insert(REPOSITORY_ORDER, (order.number(), to, repository.as_str()), ())
    }

    pub(super) fn remove_from_order(
        &mut self,
        order: Order,
        repository: &RepositoryName,
        value: u64,
    ) -> Result<(), Error> {
        self.remove(REPOSITORY_ORDER, (order.number(), value, repository.as_str()))
    }

    /// Writes the rows of a repository in all orders, if it has totals.
    pub(super) fn put_in_orders(&mut self, name: &RepositoryName) -> Result<(), Error> {
        let Some((_, counted)) = self.current_counted(name)?.filter(|(_, counted)| counted.has_totals()) else {
            return Ok(());
        };
        for order in Order::ALL {
            let value = self.ordered_by(order, name, &counted)?;
            self.move_in_order(order, name, None, value)?;
        }
        Ok(())
    }

    /// Adds pulls of a manifest, unless it was removed. Those of a manifest that an index lists do not count for the
    /// repository: a client that pulls the index pulls one of its manifests too.
    pub(crate) fn add_pulls(&mut self, repository: &RepositoryName, digest: Digest, more: Pulls) -> Result<(), Error> {
        if self.stored_manifest(repository, digest)?.is_none() {
            return Ok(());
        }
        let mut pulls = self.pulls(repository, digest)?;
        pulls.add(more);
        self.insert_row(PULLS, (repository.as_str(), digest.key()), &pulls)?;
        if self.lister(repository, digest)?.is_some() {
            return Ok(());
        }
        let mut pulls = self.pulls_of_repository(repository)?;
        let before = pulls.count;
        pulls.add(more);
        self.insert_row(PULLS, (repository.as_str(), ALL_MANIFESTS), &pulls)?;
        if self.totals(repository)?.is_some() {
            self.move_in_order(Order::Pulls, repository, Some(before), pulls.count)?;
        }
        Ok(())
    }

    /// Removes the pulls of a manifest that is removed.
    pub(super) fn remove_pulls(&mut self, repository: &RepositoryName, digest: Digest) -> Result<(), Error> {
        self.remove(PULLS, (repository.as_str(), digest.key()))
    }

    /// Removes the pulls of a repository that is removed.
    pub(super) fn remove_pulls_of_repository(&mut self, repository: &RepositoryName) -> Result<(), Error> {
        self.remove(PULLS, (repository.as_str(), ALL_MANIFESTS))
    }
}
