//! What clients were told is there: it is kept as if it had been needed until then.
//!
//! A client that hears of a blob does not send it, and names it in a manifest a little later. Between the
//! two, whatever needed the blob may go, and nothing but a lease says that somebody counts on it. So whoever
//! is told of anything takes a lease first, and looks then; and what is being removed at this moment is not
//! there any more, whatever its row still says.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use parking_lot::{Mutex, MutexGuard};

use crate::content::rows::{Unreferenced, UnreferencedRow};
use crate::kit::bounded_map::BoundedMap;
use crate::kit::clock::SteadyTime;
use crate::oci::{Digest, RepositoryName};

/// Clients that ask for different things at once do not wait for each other.
const SHARDS: usize = 16;
/// More leases than this in one shard are not told apart: then all of it counts as leased.
const LEASES_MAX: usize = 4096;

/// The leases of one registry.
#[derive(Debug, Default)]
pub(super) struct Leases {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    /// When clients were told last of what has this hash. Of two with the same hash, both count as leased.
    told: BoundedMap<u64, SteadyTime, LEASES_MAX>,
    /// When clients were told of something that had no room in `told`.
    told_of_any: Option<SteadyTime>,
    /// What is being removed.
    condemned: HashSet<Item>,
}

/// A link or a manifest.
type Item = (RepositoryName, Unreferenced, Digest);

/// What is being removed, until this is dropped.
#[derive(Debug)]
pub(super) struct Condemned<'a> {
    leases: &'a Leases,
    pub(super) rows: Vec<UnreferencedRow>,
}

impl Leases {
    fn shard(&self, item: &Item) -> (u64, MutexGuard<'_, Shard>) {
        let hash = self.hasher.hash_one(item);
        let shard = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        (hash, self.shards[shard].lock())
    }

    /// Takes a lease before it is looked whether something is there; false if it is being removed, and whoever
    /// asks is to be told that it is not there.
    pub(super) fn take(
        &self,
        repository: &RepositoryName,
        kind: Unreferenced,
        digest: Digest,
        now: SteadyTime,
    ) -> bool {
        let item = (repository.clone(), kind, digest);
        let (hash, mut shard) = self.shard(&item);
        if shard.condemned.contains(&item) {
            return false;
        }
        if !shard.told.try_insert(hash, now, |_| true) {
            shard.told_of_any = Some(now);
        }
        true
    }

    /// Begins the removal of what no client was told of at `before` or later; the rest is left out.
    pub(super) fn condemn(&self, mut rows: Vec<UnreferencedRow>, before: SteadyTime) -> Condemned<'_> {
        rows.retain(|row| {
            let item = item(row);
            let (hash, mut shard) = self.shard(&item);
            shard.is_free(hash, before) && shard.condemned.insert(item)
        });
        Condemned { leases: self, rows }
    }

    /// Whether no client was told of something at `before` or later.
    pub(super) fn is_free(&self, row: &UnreferencedRow, before: SteadyTime) -> bool {
        let (hash, shard) = self.shard(&item(row));
        shard.is_free(hash, before)
    }

    /// When a client was told last of something that is unreferenced, as far as that is known.
    pub(super) fn told(&self, row: &UnreferencedRow) -> Option<SteadyTime> {
        let (hash, shard) = self.shard(&item(row));
        shard.told.get(&hash).copied()
    }

    /// Forgets leases from before a time.
    pub(super) fn forget(&self, before: SteadyTime) {
        for shard in &self.shards {
            shard.lock().told.retain(|told| *told >= before);
        }
    }
}

impl Shard {
    fn is_free(&self, hash: u64, before: SteadyTime) -> bool {
        let is_old = |told: &SteadyTime| *told < before;
        self.told_of_any.as_ref().is_none_or(is_old) && self.told.get(&hash).is_none_or(is_old)
    }
}

/// The item that a row is about: whoever counts on a manifest does not know what it refers to.
fn item(row: &UnreferencedRow) -> Item {
    let kind = if row.kind == Unreferenced::Referrer { Unreferenced::Manifest } else { row.kind };
    (row.repository.clone(), kind, row.digest)
}

impl Drop for Condemned<'_> {
    fn drop(&mut self) {
        for row in &self.rows {
            let item = item(row);
            self.leases.shard(&item).1.condemned.remove(&item);
        }
    }
}
