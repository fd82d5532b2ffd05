//! Eviction: removes mirrored content that was not used for the longest time, so that the mirror keeps a size limit.
//!
//! The mirror holds a blob if every link to it was made by the mirror, and only mirrored manifests list it. A blob that a
//! client pushed, mounted or references anywhere in this registry is not the mirror's: removing it would lose content, or
//! free nothing. An evicted blob is fetched again when a client requests it.
//!
//! Manifests stay when their blobs go. They are small, and with them the registry still answers what a tag names: a node
//! that has the layers can start a container although the upstream is down. Only if manifests alone exceed a share of the
//! limit, the least recently used ones go, with their tags.
//!
//! A survey reads the rows in small steps and remembers the candidates, the least recently used ones, in bounded memory.
//! Each step of the removal is one transaction, which checks again that the content is mirrored, unused and unleased. Files
//! are removed last ([`super::orphan`]), so a crash leaves rows of orphans and never a row without a file. A response that
//! is sending an evicted blob has its file open, and finishes.

use std::collections::{BTreeSet, BinaryHeap};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::manifest::{detach, stored_manifest};
use super::{Error, Repository, Stores};
use crate::content::rows::{Rows, Unreferenced, UnreferencedRow, WriteTx};
use crate::kit::clock::{Moment, SteadyTime, Timestamp};
use crate::oci::{Digest, RepositoryName, Tag};

/// Rows that a survey reads in one transaction.
const SURVEY_STEP: usize = 256;
/// Blobs or manifests that are removed in one transaction.
const STEP: usize = 32;
/// The most candidates of one survey. If they do not suffice, another survey follows.
const CANDIDATES_MAX: usize = 4096;
/// A blob that more repositories link is not the mirror's.
const LINKS_MAX: u64 = 256;
/// Manifests may take one part in this many of the limit.
const MANIFEST_SHARE: u64 = 10;

/// How much to evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// If the mirror holds more than `limit` bytes, evict until it holds at most `target`.
    AtMost { limit: u64, target: u64 },
    /// Evict this many bytes.
    Free(u64),
}

/// The content that the mirror holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holdings {
    pub(crate) blobs: u64,
    pub(crate) blob_bytes: u64,
    pub(crate) manifests: u64,
    pub(crate) manifest_bytes: u64,
}

impl Holdings {
    pub(crate) const fn bytes(&self) -> u64 {
        self.blob_bytes + self.manifest_bytes
    }
}

/// The result of an eviction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Evicted {
    pub(crate) blobs: u64,
    pub(crate) manifests: u64,
    /// Tags of these manifests.
    pub(crate) tags: u64,
    /// Bytes of both.
    pub(crate) bytes: u64,
    /// The content that the mirror holds afterwards.
    pub(crate) held: Holdings,
}

/// A blob or a manifest that may go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Zero for a blob that is larger than the target. It goes first, or it would displace everything else.
    rank: Timestamp,
    used: Timestamp,
    digest: Digest,
    /// The first repository that has it.
    repository: RepositoryName,
    size: u64,
}

/// The candidates of one kind, the least recently used ones.
#[derive(Debug, Default)]
struct Oldest {
    heap: BinaryHeap<Candidate>,
    /// Whether there were more.
    is_part: bool,
}

impl Oldest {
    fn add(&mut self, candidate: Candidate) {
        self.heap.push(candidate);
        if self.heap.len() > CANDIDATES_MAX {
            self.heap.pop();
            self.is_part = true;
        }
    }
}

#[derive(Debug, Default)]
struct Survey {
    held: Holdings,
    blobs: Oldest,
    manifests: Oldest,
}

/// The repositories that count and whose content may go.
pub(crate) type Includes<'a> = &'a dyn Fn(&RepositoryName) -> bool;
/// Called between two steps with the duration of the last one. It may wait, or cancel the rest.
pub(crate) type Pause<'a> = &'a dyn Fn(Duration) -> ControlFlow<()>;

impl Stores {
    /// Evicts mirrored content of some repositories. If `is_dry_run` is set, reports what would go. The steps before a
    /// cancellation stay done.
    pub(crate) fn evict(
        &self,
        goal: Goal,
        includes: Includes<'_>,
        is_dry_run: bool,
        pause: Pause<'_>,
    ) -> Result<Evicted, Error> {
        let _alone = self.evicting.lock();
        let mut evicted = Evicted::default();
        loop {
            self.write_uses()?;
            let Some(survey) = self.survey(goal, includes, pause)? else { return Ok(evicted) };
            evicted.held = survey.held;
            let target = match goal {
                Goal::AtMost { limit, .. } if evicted.bytes == 0 && survey.held.bytes() <= limit => return Ok(evicted),
                Goal::AtMost { target, .. } => target,
                Goal::Free(bytes) => survey.held.bytes().saturating_sub(bytes.saturating_sub(evicted.bytes)),
            };
            let (before, is_part) = (evicted.bytes, survey.blobs.is_part || survey.manifests.is_part);
            let done = self.evict_surveyed(survey, target, is_dry_run, pause, &mut evicted)?;
            let is_reached = evicted.held.bytes() <= target;
            if done.is_break() || is_reached || !is_part || is_dry_run || evicted.bytes == before {
                return Ok(evicted);
            }
        }
    }

    /// Reads all mirrored content. Returns `None` if `pause` cancelled it.
    fn survey(&self, goal: Goal, includes: Includes<'_>, pause: Pause<'_>) -> Result<Option<Survey>, Error> {
        let largest = match goal {
            Goal::AtMost { target, .. } => target,
            Goal::Free(_) => u64::MAX,
        };
        let mut survey = Survey::default();
        let mut after = None;
        loop {
            let began = Instant::now();
            let is_more = self.database.read(|tx| {
                let rows = tx.mirror_uses(after.as_ref(), SURVEY_STEP)?;
                for (name, digest) in &rows {
                    if let Some(mut blob) = held_blob(tx, includes, name, *digest)? {
                        survey.held.blobs += 1;
                        survey.held.blob_bytes += blob.size;
                        if blob.size > largest {
                            blob.rank = Timestamp::from_micros(0);
                        }
                        survey.blobs.add(blob);
                    } else if let Some(manifest) = held_manifest(tx, includes, name, *digest)? {
                        survey.held.manifests += 1;
                        survey.held.manifest_bytes += manifest.size;
                        survey.manifests.add(manifest);
                    }
                }
                after = rows.last().cloned();
                Ok::<_, Error>(after.is_some())
            })?;
            if !is_more {
                return Ok(Some(survey));
            }
            if pause(began.elapsed()).is_break() {
                return Ok(None);
            }
        }
    }

    fn evict_surveyed(
        &self,
        survey: Survey,
        target: u64,
        is_dry_run: bool,
        pause: Pause<'_>,
        evicted: &mut Evicted,
    ) -> Result<ControlFlow<()>, Error> {
        let share = target / MANIFEST_SHARE;
        let (manifests, blobs) = (survey.manifests.heap.into_sorted_vec(), survey.blobs.heap.into_sorted_vec());
        let is_over = |held: &Holdings| held.bytes() > target;
        for (candidates, kind) in [(manifests, Unreferenced::Manifest), (blobs, Unreferenced::Link)] {
            let is_due = |held: &Holdings| is_over(held) && (kind == Unreferenced::Link || held.manifest_bytes > share);
            let mut candidates = candidates.into_iter().peekable();
            while candidates.peek().is_some() && is_due(&evicted.held) {
                let began = Instant::now();
                let (mut step, mut left) = (Vec::new(), evicted.held);
                while step.len() < STEP
                    && is_due(&left)
                    && let Some(candidate) = candidates.next()
                {
                    let bytes =
                        if kind == Unreferenced::Link { &mut left.blob_bytes } else { &mut left.manifest_bytes };
                    *bytes = bytes.saturating_sub(candidate.size);
                    step.push(candidate);
                }
                self.evict_step(step, kind, is_dry_run, evicted)?;
                if pause(began.elapsed()).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn evict_step(
        &self,
        step: Vec<Candidate>,
        kind: Unreferenced,
        is_dry_run: bool,
        evicted: &mut Evicted,
    ) -> Result<(), Error> {
        let mut rows = Vec::new();
        for Candidate { digest, repository, .. } in &step {
            let names = match kind {
                Unreferenced::Link => self.database.read(|tx| tx.linking_repositories(*digest))?,
                _ => vec![repository.to_string()],
            };
            let names: Vec<RepositoryName> = names.iter().filter_map(|name| name.parse().ok()).collect();
            let is_in_use = names.iter().any(|name| self.uses.has(name, *digest));
            let row = |repository| UnreferencedRow { since: SteadyTime::ZERO, repository, kind, digest: *digest };
            rows.extend(names.into_iter().filter(|_| !is_in_use).map(row));
        }
        let condemned = self.leases.condemn_read(rows, self.ages.at_least(self.rules.delays.blob));
        let free: BTreeSet<_> = condemned.rows.iter().map(|row| (row.repository.clone(), row.digest)).collect();
        let now = self.ages.now();
        let change = move |tx: &mut WriteTx| {
            let (mut step_evicted, mut orphans) = (Evicted::default(), Vec::new());
            for candidate in &step {
                if kind == Unreferenced::Link {
                    evict_blob(tx, candidate, &free, &mut step_evicted, &mut orphans)?;
                } else if free.contains(&(candidate.repository.clone(), candidate.digest)) {
                    evict_manifest(tx, candidate, now, &mut step_evicted)?;
                }
            }
            Ok::<_, Error>((step_evicted, orphans))
        };
        let (step, orphans) = if is_dry_run { self.database.dry_run(change)? } else { self.database.write(change)? };
        drop(condemned);
        if !is_dry_run {
            self.remove_orphans(&orphans);
            self.blobs.space().forget();
        }
        evicted.blobs += step.blobs;
        evicted.manifests += step.manifests;
        evicted.tags += step.tags;
        evicted.bytes += step.bytes;
        let held = &mut evicted.held;
        held.blobs = held.blobs.saturating_sub(step.blobs);
        held.manifests = held.manifests.saturating_sub(step.manifests);
        held.blob_bytes = held.blob_bytes.saturating_sub(step.held.blob_bytes);
        held.manifest_bytes = held.manifest_bytes.saturating_sub(step.held.manifest_bytes);
        Ok(())
    }
}

impl Repository {
    /// Evicts mirrored content from a full disk, so that this many bytes can be stored. Returns whether anything went.
    pub(crate) fn make_room(&self, bytes: u64) -> Result<bool, Error> {
        let space = self.stores.blobs.space();
        space.forget();
        let short = space.free().map_or(0, |free| space.min_free().saturating_sub(free));
        let goal = Goal::Free(bytes.saturating_add(short));
        let evicted = self.stores.evict(goal, &|_| true, false, &|_| ControlFlow::Continue(()))?;
        tracing::warn!(blobs = evicted.blobs, bytes = evicted.bytes, "evicted mirrored content from a full disk");
        Ok(evicted.bytes > 0)
    }
}

/// A blob that the mirror holds. `name` is one of its repositories. `None` if an earlier one was asked for it.
fn held_blob(
    tx: &Rows,
    includes: Includes<'_>,
    name: &RepositoryName,
    digest: Digest,
) -> Result<Option<Candidate>, Error> {
    let Some(blob) = tx.blob(digest)?.filter(|blob| blob.links <= LINKS_MAX) else { return Ok(None) };
    let (mut first, mut used) = (None, None);
    for holder in tx.linking_repositories(digest)? {
        let Ok(holder) = holder.parse::<RepositoryName>() else { return Ok(None) };
        if !tx.is_mirror_link(&holder, digest)? {
            return Ok(None);
        }
        used = used.max(tx.last_use(&holder, digest)?);
        if first.is_none() && includes(&holder) {
            first = Some(holder);
        }
    }
    let candidate = |(repository, used)| Candidate { rank: used, used, digest, repository, size: blob.size };
    Ok(first.filter(|first| first == name).zip(used).map(candidate))
}

/// A mirrored manifest that exists.
fn held_manifest(
    tx: &Rows,
    includes: Includes<'_>,
    name: &RepositoryName,
    digest: Digest,
) -> Result<Option<Candidate>, Error> {
    if !includes(name) || tx.mirrored(name, digest)?.is_none() {
        return Ok(None);
    }
    let (row, used) = (tx.manifest(name, digest)?, tx.mirror_use(name, digest)?);
    let repository = name.clone();
    Ok(row.zip(used).map(|(row, used)| Candidate { rank: used, used, digest, repository, size: row.size }))
}

/// Removes all links of a blob, unless one of them is not `free` or the blob was used meanwhile.
fn evict_blob(
    tx: &mut WriteTx,
    candidate: &Candidate,
    free: &BTreeSet<(RepositoryName, Digest)>,
    evicted: &mut Evicted,
    orphans: &mut Vec<Digest>,
) -> Result<(), Error> {
    let digest = candidate.digest;
    let mut holders = Vec::new();
    let mut used = None;
    for holder in tx.linking_repositories(digest)? {
        let Ok(holder) = holder.parse::<RepositoryName>() else { return Ok(()) };
        if !free.contains(&(holder.clone(), digest)) || !tx.is_mirror_link(&holder, digest)? {
            return Ok(());
        }
        used = used.max(tx.last_use(&holder, digest)?);
        holders.push(holder);
    }
    if used != Some(candidate.used) {
        return Ok(());
    }
    for holder in &holders {
        if tx.remove_link(holder, digest)? {
            orphans.push(digest);
        }
    }
    evicted.blobs += 1;
    evicted.bytes += candidate.size;
    evicted.held.blob_bytes += candidate.size;
    Ok(())
}

/// Removes a mirrored manifest with its tags. It stays if a user has locked one of them, the history names it, or anything
/// that was pushed refers to it.
fn evict_manifest(tx: &mut WriteTx, candidate: &Candidate, now: Moment, evicted: &mut Evicted) -> Result<(), Error> {
    let Candidate { digest, repository: name, .. } = candidate;
    let is_unused = tx.mirror_use(name, *digest)? == Some(candidate.used);
    if !is_unused || tx.mirrored(name, *digest)?.is_none() || tx.manifest(name, *digest)?.is_none() {
        return Ok(());
    }
    if tx.is_in_history(name, *digest)? || !tx.is_listed_by_mirrored_only(name, *digest)? {
        return Ok(());
    }
    if is_pushed_about(tx, name, *digest)? {
        return Ok(());
    }
    let Some(manifest) = stored_manifest(tx, name, *digest)? else { return Ok(()) };
    let tags = tx.tags_of(name, *digest)?;
    for tag in &tags {
        if tx.tag_attributes(name, tag)?.immutable {
            return Ok(());
        }
    }
    for tag in tags {
        tx.remove_tag(name, &tag, now, false)?;
        evicted.tags += 1;
    }
    detach(tx, name, *digest, &manifest, now.steady)?;
    tx.remove_manifest(name, *digest, now)?;
    evicted.manifests += 1;
    evicted.bytes += candidate.size;
    evicted.held.manifest_bytes += candidate.size;
    Ok(())
}

/// Whether a pushed manifest has this one as its subject, also by a tag of a signature. Garbage collection would remove it.
fn is_pushed_about(tx: &Rows, name: &RepositoryName, digest: Digest) -> Result<bool, Error> {
    let mut about = Vec::new();
    tx.each_referrer(name, digest, ("", &[]), |_, referrer, _| {
        about.push(referrer);
        ControlFlow::Continue(())
    })?;
    for tag in Tag::companions(digest) {
        about.extend(tx.tag(name, &tag)?.map(|row| row.digest));
    }
    for referrer in about {
        if tx.mirrored(name, referrer)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
