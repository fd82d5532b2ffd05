//! [`Leases`]: protection of content that a client was just told exists.
//!
//! A client that learns that a blob exists does not push it, and names it in a manifest a little later. Meanwhile the last
//! reference to the blob may go, and only the lease shows that a client relies on it. So a request takes the lease before it
//! reads the row. Content that is being removed counts as missing, although its row still exists.
//!
//! A client that only reads relies on nothing afterwards. So eviction heeds the leases of clients that may push, and garbage
//! collection all of them: it has time.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use parking_lot::{Mutex, MutexGuard};

use crate::content::rows::{Unreferenced, UnreferencedRow};
use crate::kit::bounded_map::BoundedMap;
use crate::kit::clock::SteadyTime;
use crate::oci::{Digest, RepositoryName};

/// Shards, so that clients with different content do not wait for each other.
const SHARDS: usize = 16;
/// If a shard has more leases than this, everything in it counts as leased.
const LEASES_MAX: usize = 4096;

/// The reason of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The client reads the content.
    Read,
    /// The client may name the content in a manifest that it pushes.
    Push,
}

/// The latest leases on some content.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// For any purpose.
    last: SteadyTime,
    /// For a push.
    push: Option<SteadyTime>,
}

/// The leases of one registry.
#[derive(Debug, Default)]
pub(super) struct Leases {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    /// The latest leases on the content with this hash. Two items with the same hash are both leased.
    told: BoundedMap<u64, Told, LEASES_MAX>,
    /// The latest leases without room in `told`.
    told_of_any: Option<Told>,
    /// Items that are being removed.
    condemned: HashSet<Item>,
}

/// A link or a manifest.
type Item = (RepositoryName, Unreferenced, Digest);

/// Rows that are being removed, until this is dropped.
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

    /// Takes a lease, before the caller checks that the item exists. Returns false if it is being removed; then it counts as
    /// missing.
    pub(super) fn take(
        &self,
        repository: &RepositoryName,
        kind: Unreferenced,
        digest: Digest,
        now: SteadyTime,
        purpose: Purpose,
    ) -> bool {
        let item = (repository.clone(), kind, digest);
        let (hash, mut shard) = self.shard(&item);
        if shard.condemned.contains(&item) {
            return false;
        }
        let told = shard.told.get(&hash).copied();
        if !shard.told.try_insert(hash, Told::next(told, now, purpose), |_| true) {
            shard.told_of_any = Some(Told::next(shard.told_of_any, now, purpose));
        }
        true
    }

    /// Begins the removal of the rows without a lease at `before` or later. Leaves out the others.
    pub(super) fn condemn(&self, rows: Vec<UnreferencedRow>, before: SteadyTime) -> Condemned<'_> {
        self.condemn_if(rows, |shard, hash| shard.is_free(hash, before))
    }

    /// Begins the removal of the rows without a lease for a push at `before` or later. Leaves out the others.
    pub(super) fn condemn_read(&self, rows: Vec<UnreferencedRow>, before: SteadyTime) -> Condemned<'_> {
        self.condemn_if(rows, |shard, hash| shard.is_not_pushed(hash, before))
    }

    fn condemn_if(&self, mut rows: Vec<UnreferencedRow>, is_free: impl Fn(&Shard, u64) -> bool) -> Condemned<'_> {
        rows.retain(|row| {
            let item = item(row);
            let (hash, mut shard) = self.shard(&item);
            is_free(&shard, hash) && shard.condemned.insert(item)
        });
        Condemned { leases: self, rows }
    }

    /// Whether the row has no lease at `before` or later.
    pub(super) fn is_free(&self, row: &UnreferencedRow, before: SteadyTime) -> bool {
        let (hash, shard) = self.shard(&item(row));
        shard.is_free(hash, before)
    }

    /// The latest lease on the row, if it is known.
    pub(super) fn told(&self, row: &UnreferencedRow) -> Option<SteadyTime> {
        let (hash, shard) = self.shard(&item(row));
        shard.told.get(&hash).map(|told| told.last)
    }

    /// Forgets leases from before a time.
    pub(super) fn forget(&self, before: SteadyTime) {
        for shard in &self.shards {
            shard.lock().told.retain(|told| told.last >= before);
        }
    }
}

impl Shard {
    fn is_free(&self, hash: u64, before: SteadyTime) -> bool {
        let is_old = |told: &Told| told.last < before;
        self.told_of_any.as_ref().is_none_or(is_old) && self.told.get(&hash).is_none_or(is_old)
    }

    fn is_not_pushed(&self, hash: u64, before: SteadyTime) -> bool {
        let is_old = |told: &Told| told.push.is_none_or(|push| push < before);
        self.told_of_any.as_ref().is_none_or(is_old) && self.told.get(&hash).is_none_or(is_old)
    }
}

impl Told {
    fn next(earlier: Option<Self>, now: SteadyTime, purpose: Purpose) -> Self {
        let push = if purpose == Purpose::Push { Some(now) } else { earlier.and_then(|earlier| earlier.push) };
        Self { last: now, push }
    }
}

/// The item of a row. A lease on a manifest also covers its role as a referrer.
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
