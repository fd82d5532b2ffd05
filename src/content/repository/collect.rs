//! Garbage collection: removes content that has been unreferenced for long enough, while clients go on.
//!
//! The transaction that drops the last reference records the content as unreferenced ([`crate::content::rows`]), so that a
//! collection reads only garbage. It works in small steps. Each step is one transaction, which checks again that the
//! content is unreferenced before it deletes it. A lease keeps content that a client was just told exists
//! ([`super::lease`]). Files are removed last ([`super::orphan`]).

mod hint;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::age::Ages;
use super::manifest::{detach, stored_manifest};
use super::retention::{Retention, UntaggedPlans};
use super::{Error, ImmutableTags, Stores, WorkProgress, deleted};
use crate::content::rows::{AuditEvent, Author, Rows, Unreferenced, UnreferencedRow, WriteTx};
use crate::kit::clock::{Moment, SteadyTime};
use crate::oci::{Digest, RepositoryName, Tag};
use hint::is_needed;

/// Rows in one transaction, so that no other writer waits long.
const STEP: usize = 128;
/// Referrers of one subject that are released in one transaction.
const RELEASED_MAX: u64 = 4096;
/// Rows that are checked for leases at a time, those that are due first.
const WRITTEN_MAX: usize = 10_000;
/// If more rows are due, the progress of a collection is unknown.
const COUNTED_MAX: usize = 200_000;
/// A dry run is one transaction and ends after this many rows.
const DRY_RUN_MAX: usize = 100_000;

/// The result of a garbage collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Collected {
    pub(crate) manifests: u64,
    /// Tags of signatures whose image was removed.
    pub(crate) tags: u64,
    /// Blobs that were removed from a repository.
    pub(crate) links: u64,
    /// The blobs among them that no other repository had.
    pub(crate) blobs: u64,
    /// Bytes of those blobs.
    pub(crate) bytes: u64,
    /// Manifests that cannot be read, and stay.
    pub(crate) unreadable: u64,
    /// Referrers whose subject was found to be missing.
    #[serde(skip)]
    released: u64,
}

impl Collected {
    fn add(&mut self, more: &Self) {
        self.manifests += more.manifests;
        self.tags += more.tags;
        self.links += more.links;
        self.blobs += more.blobs;
        self.bytes += more.bytes;
        self.unreadable += more.unreadable;
        self.released += more.released;
    }

    /// Whether there may be more to collect now.
    const fn has_changed_anything(&self) -> bool {
        self.manifests + self.tags + self.links + self.released > 0
    }
}

/// The repositories whose history is forgotten before a collection.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Purge {
    All,
    Repository(RepositoryName),
}

impl Purge {
    pub(crate) const fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::All => None,
            Self::Repository(name) => Some(name),
        }
    }
}

/// The result of a dry run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DryRun {
    pub(crate) collected: Collected,
    /// Entries of the history that would be forgotten.
    pub(crate) purged: usize,
    /// Whether the dry run ended before it had read all rows.
    pub(crate) is_part: bool,
}

/// The rules of a collection.
#[derive(Clone, Debug)]
struct Removal {
    retention: Retention,
    immutable: ImmutableTags,
    keeps_history: bool,
}

/// How long unreferenced content is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delays {
    /// For blobs, and everything without another delay.
    pub(crate) blob: Duration,
    /// For manifests without a tag.
    pub(crate) untagged: Duration,
}

impl Delays {
    /// The same for everything.
    pub(crate) const fn all(delay: Duration) -> Self {
        Self { blob: delay, untagged: delay }
    }
}

/// Content that became unreferenced before these times is removed.
#[derive(Clone, Copy, Debug)]
struct Due {
    blob: SteadyTime,
    untagged: SteadyTime,
}

impl Due {
    fn new(ages: &Ages, delays: Delays) -> Self {
        Self { blob: ages.at_least(delays.blob), untagged: ages.at_least(delays.untagged) }
    }

    fn first(&self) -> SteadyTime {
        self.blob.max(self.untagged)
    }

    fn is_due(&self, row: &UnreferencedRow) -> bool {
        row.since < if row.kind == Unreferenced::Manifest { self.untagged } else { self.blob }
    }
}

impl Stores {
    /// The operator's delays.
    pub(crate) const fn delays(&self) -> Delays {
        self.rules.delays
    }

    /// Removes content that has been unreferenced for longer than `delays`. Between two steps, `pause` gets the duration
    /// of the last one. It may wait or cancel the collection; the steps before stay done. The removal of a tag has an
    /// audit row of `author`.
    pub(crate) fn collect(
        &self,
        author: Option<&Arc<dyn Author>>,
        delays: Delays,
        progress: &WorkProgress,
        mut pause: impl FnMut(Duration) -> ControlFlow<()>,
    ) -> Result<Collected, Error> {
        let _alone = self.collecting.lock();
        if !self.list_optional_layers_once(&mut pause)? {
            return Ok(Collected::default());
        }
        let due = Due::new(&self.ages, delays);
        let mut collected = Collected::default();
        progress.expect(self.count_due(due)?);
        let (mut is_first, mut plans) = (true, UntaggedPlans::default());
        // The blobs of a removed manifest have been unreferenced for as long as it was, so their rows may be before the
        // current position. Another pass finds them.
        loop {
            let (mut after, mut removed) = (None, false);
            loop {
                let began = Instant::now();
                let rows = self.database.read(|tx| tx.unreferenced_since(after.as_ref(), due.first(), STEP))?;
                let Some(last) = rows.last().cloned() else { break };
                after = Some(last);
                let count = rows.len() as u64;
                let step = self.collect_rows(author, rows, due, &mut plans)?;
                if !is_first {
                    progress.expect_more(count);
                }
                progress.reach(progress.done() + count);
                removed |= step.has_changed_anything();
                collected.add(&step);
                if pause(began.elapsed()).is_break() {
                    return Ok(collected);
                }
            }
            if !removed {
                break;
            }
            is_first = false;
        }
        self.remove_leftover_files()?;
        Ok(collected)
    }

    /// The number of rows that are due. 0 if there are too many to count.
    fn count_due(&self, due: Due) -> Result<u64, Error> {
        let (mut after, mut count) = (None, 0);
        while count < COUNTED_MAX {
            let rows = self.database.read(|tx| tx.unreferenced_since(after.as_ref(), due.first(), STEP))?;
            let Some(last) = rows.last() else { return Ok(count as u64) };
            count += rows.len();
            after = Some(last.clone());
        }
        Ok(0)
    }

    fn collect_rows(
        &self,
        author: Option<&Arc<dyn Author>>,
        mut rows: Vec<UnreferencedRow>,
        due: Due,
        plans: &mut UntaggedPlans,
    ) -> Result<Collected, Error> {
        rows.retain(|row| due.is_due(row));
        let rows = self.database.read(|tx| self.without_kept(tx, rows, plans))?;
        let condemned = self.leases.condemn(rows, due.first());
        if condemned.rows.is_empty() {
            return Ok(Collected::default());
        }
        let (rows, rules, now) = (condemned.rows.clone(), self.removal(), self.ages.now());
        let by = author.cloned();
        let (removed, audited) = self.database.write(move |tx| {
            let removed = remove_rows(tx, &rows, &rules, now)?;
            if let Some(author) = by {
                for (repository, event) in &removed.events {
                    tx.add_audit(now.wall, &author.row(repository, event))?;
                }
            }
            Ok::<_, Error>((removed, tx.take_audited()))
        })?;
        drop(condemned);
        if let Some(author) = author {
            author.finish(audited);
        }
        self.remove_orphans(&removed.orphans);
        Ok(removed.collected)
    }

    /// The rows without those of untagged manifests that the rules keep.
    fn without_kept(
        &self,
        tx: &Rows,
        rows: Vec<UnreferencedRow>,
        plans: &mut UntaggedPlans,
    ) -> Result<Vec<UnreferencedRow>, Error> {
        let mut left = Vec::with_capacity(rows.len());
        for row in rows {
            if !plans.keeps(self, tx, &row)? {
                left.push(row);
            }
        }
        Ok(left)
    }

    fn removal(&self) -> Removal {
        Removal {
            retention: self.rules.retention.clone(),
            immutable: self.rules.immutable.clone(),
            keeps_history: self.keeps_history(),
        }
    }

    /// Whether any content is due for removal.
    pub(crate) fn is_collection_due(&self) -> Result<bool, Error> {
        let due = Due::new(&self.ages, self.rules.delays);
        Ok(!self.database.read(|tx| tx.unreferenced_since(None, due.first(), 1))?.is_empty())
    }

    /// Reports what [`Stores::collect`] would remove, with `purge` after [`Stores::purge_history`]. Other writers wait
    /// meanwhile.
    pub(crate) fn dry_run_collection(&self, delays: Delays, purge: Option<&Purge>) -> Result<DryRun, Error> {
        self.list_optional_layers(|_| ControlFlow::Continue(()))?;
        self.dry_run(Due::new(&self.ages, delays), purge)
    }

    /// Reports what a collection would remove for which everything is due, leases included.
    #[cfg(test)]
    pub(super) fn dry_run_everything(&self) -> Result<Collected, Error> {
        let all = SteadyTime::from_micros(u64::MAX);
        Ok(self.dry_run(Due { blob: all, untagged: all }, None)?.collected)
    }

    fn dry_run(&self, due: Due, purge: Option<&Purge>) -> Result<DryRun, Error> {
        let (rules, now, leases) = (self.removal(), self.ages.now(), &self.leases);
        self.database.dry_run(|tx| {
            let (mut collected, mut looked_at, mut purged) = (Collected::default(), 0, 0);
            let (mut latest, mut plans) = (SteadyTime::ZERO, UntaggedPlans::default());
            if let Some(purge) = purge {
                purged = tx.purge_history(purge.repository(), DRY_RUN_MAX, &mut latest)?;
            }
            loop {
                let (mut after, mut removed) = (None, false);
                loop {
                    let mut rows = tx.unreferenced_since(after.as_ref(), due.first(), STEP)?;
                    let Some(last) = rows.last().cloned() else { break };
                    after = Some(last);
                    looked_at += rows.len();
                    rows.retain(|row| due.is_due(row) && leases.is_free(row, due.first()));
                    let rows = self.without_kept(tx, rows, &mut plans)?;
                    let step = remove_rows(tx, &rows, &rules, now)?.collected;
                    removed |= step.has_changed_anything();
                    collected.add(&step);
                    if looked_at >= DRY_RUN_MAX {
                        return Ok(DryRun { collected, purged, is_part: true });
                    }
                }
                if !removed {
                    return Ok(DryRun { collected, purged, is_part: purged == DRY_RUN_MAX });
                }
            }
        })
    }

    /// Stores the leases on content that is due soon, so that they survive a restart, and forgets expired leases.
    pub(crate) fn write_leases(&self) -> Result<(), Error> {
        let Delays { blob, untagged } = self.rules.delays;
        self.leases.forget(self.ages.at_least(blob.max(untagged)));
        let soon = self.ages.at_least(blob.min(untagged) / 2);
        let rows = self.database.read(|tx| tx.unreferenced_since(None, soon, WRITTEN_MAX))?;
        let told = rows.into_iter().filter_map(|row| Some((self.leases.told(&row)?, row)));
        let told: Vec<_> = told.filter(|(told, row)| *told > row.since).collect();
        if told.is_empty() {
            return Ok(());
        }
        self.database.write(move |tx| {
            for (told, row) in told {
                if tx.unreferenced(&row.repository, row.kind, row.digest)? == Some(row.since) {
                    tx.set_unreferenced(&row.repository, row.kind, row.digest, told)?;
                }
            }
            Ok(())
        })
    }
}

/// The result of one step.
#[derive(Debug, Default)]
struct Removed {
    collected: Collected,
    /// The blobs that no repository has any more.
    orphans: Vec<Digest>,
    /// The removals of tags, for the audit log.
    events: Vec<(RepositoryName, AuditEvent)>,
}

/// Removes the rows that are still unreferenced.
fn remove_rows(tx: &mut WriteTx, rows: &[UnreferencedRow], rules: &Removal, now: Moment) -> Result<Removed, Error> {
    let mut removed = Removed::default();
    for row in rows {
        // An earlier row of this step, or a client, may have changed it.
        if tx.unreferenced(&row.repository, row.kind, row.digest)? != Some(row.since) {
            continue;
        }
        let kept = rules.retention.retain(&row.repository);
        // A deleted manifest goes even if untagged manifests are kept.
        let is_deleted = tx.deleted_manifest(&row.repository, row.digest)?.is_some();
        match row.kind {
            Unreferenced::Link => remove_link(tx, row, &mut removed)?,
            Unreferenced::Manifest if kept.untagged && !is_deleted => {}
            Unreferenced::Subject | Unreferenced::Referrer if kept.referrers => {}
            Unreferenced::Subject => {
                let is_locked = remove_companions(tx, row, rules, now, &mut removed)?;
                release_referrers(tx, row, is_locked, &mut removed.collected)?;
            }
            Unreferenced::Manifest | Unreferenced::Referrer => remove_manifest(tx, row, &mut removed.collected)?,
        }
    }
    Ok(removed)
}

fn remove_link(tx: &mut WriteTx, row: &UnreferencedRow, removed: &mut Removed) -> Result<(), Error> {
    let Removed { collected, orphans, .. } = removed;
    let UnreferencedRow { repository, digest, .. } = row;
    if !tx.is_link_unreferenced(repository, *digest)? {
        return Ok(tx.set_referenced(repository, row.kind, *digest)?);
    }
    let size = tx.blob(*digest)?.map_or(0, |blob| blob.size);
    collected.links += 1;
    if tx.remove_link(repository, *digest)? {
        collected.blobs += 1;
        collected.bytes += size;
        orphans.push(*digest);
    }
    Ok(())
}

/// Removes the tags of the signatures, and of the referrers list, of a removed manifest. Returns whether a locked one stays.
fn remove_companions(
    tx: &mut WriteTx,
    row: &UnreferencedRow,
    rules: &Removal,
    now: Moment,
    removed: &mut Removed,
) -> Result<bool, Error> {
    let UnreferencedRow { repository, digest, since, .. } = row;
    if tx.manifest(repository, *digest)?.is_some() {
        return Ok(false);
    }
    let (keeps_history, mut is_locked) = (rules.keeps_history, false);
    // From now on they can be restored. Without a history, their targets are unreferenced for as long as the manifest.
    let now = if keeps_history { now } else { Moment { steady: *since, ..now } };
    for tag in Tag::companions(*digest) {
        if tx.tag(repository, &tag)?.is_none() {
            continue;
        }
        if rules.immutable.reason(tx, repository, &tag)?.is_some() {
            is_locked = true;
            continue;
        }
        tx.remove_tag(repository, &tag, now, keeps_history)?;
        removed.collected.tags += 1;
        let event = AuditEvent::new("delete_tag").with("tag", &tag).with("removed_with", digest);
        removed.events.push((repository.clone(), event));
    }
    Ok(is_locked)
}

/// Records the referrers of a removed subject as unreferenced, unless something else names them. If there are very many,
/// the row stays for another pass. With a locked tag it stays until the tag is unlocked.
fn release_referrers(
    tx: &mut WriteTx,
    row: &UnreferencedRow,
    is_locked: bool,
    collected: &mut Collected,
) -> Result<(), Error> {
    let UnreferencedRow { repository, digest, since, .. } = row;
    let mut referrers = Vec::new();
    // The referrers of a restorable subject stay until it is forgotten.
    if tx.stored_manifest(repository, *digest)?.is_none() {
        tx.each_referrer(repository, *digest, ("", &[]), |_, referrer, _| {
            referrers.push(referrer);
            ControlFlow::Continue(())
        })?;
    }
    let before = collected.released;
    for referrer in referrers {
        let is_released = tx.unreferenced(repository, Unreferenced::Referrer, referrer)?.is_some();
        if !is_released && !tx.is_named(repository, referrer)? {
            // A referrer that was pushed after the subject was removed is younger.
            let came = tx.unreferenced(repository, Unreferenced::Manifest, referrer)?;
            let since = came.map_or(*since, |came| came.max(*since));
            tx.set_unreferenced(repository, Unreferenced::Referrer, referrer, since)?;
            collected.released += 1;
        }
        if collected.released - before == RELEASED_MAX {
            return Ok(());
        }
    }
    if is_locked {
        return Ok(());
    }
    Ok(tx.set_referenced(repository, row.kind, *digest)?)
}

fn remove_manifest(tx: &mut WriteTx, row: &UnreferencedRow, collected: &mut Collected) -> Result<(), Error> {
    let UnreferencedRow { repository, digest, since, .. } = row;
    let manifest = match stored_manifest(tx, repository, *digest) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return Ok(tx.set_referenced(repository, row.kind, *digest)?),
        Err(Error::Corrupt { .. }) => {
            collected.unreadable += 1;
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if is_needed(tx, row, &manifest)? {
        return Ok(tx.set_referenced(repository, row.kind, *digest)?);
    }
    if tx.deleted_manifest(repository, *digest)?.is_some() {
        deleted::forget(tx, repository, *digest, &manifest, *since)?;
        collected.manifests += 1;
        return Ok(());
    }
    detach(tx, repository, *digest, &manifest, *since)?;
    tx.remove_manifest(repository, *digest, *since)?;
    collected.manifests += 1;
    Ok(())
}

#[cfg(test)]
mod tests;
