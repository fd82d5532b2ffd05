//! [`Room`]: how much the mirror may hold, and how much it holds.
//!
//! The counts are estimates: they grow with each fill, and each eviction replaces them by what it has found. A blob counts
//! from the beginning of its transfer, so that there is room for it when it has arrived. [`crate::content::repository`]
//! decides what may go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::{Mirror, Upstream};
use crate::content::repository::{self, Evicted, Goal, MirrorHolding, Pause};
use crate::oci::RepositoryName;

/// The part of a limit that is emptied when it is reached: one in this many.
const EMPTIED: u64 = 10;

/// A limit on the bytes that the mirror holds, of all upstreams or of one.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    /// `None` if there is no limit.
    most: Option<u64>,
    held: AtomicU64,
    /// Bytes of the blobs that are being fetched.
    arriving: AtomicU64,
}

impl Limit {
    /// Zero means no limit.
    pub(crate) fn new(most: u64) -> Self {
        Self { most: Some(most).filter(|most| *most > 0), ..Self::default() }
    }

    /// The goal of an eviction. If `is_wanted` is set, it evicts even if the limit is kept.
    fn goal(&self, is_wanted: bool) -> Goal {
        let (most, target) = (self.most.unwrap_or(u64::MAX), self.target());
        let arriving = self.arriving.load(Ordering::Relaxed);
        let target = target.saturating_sub(arriving);
        Goal::AtMost { limit: if is_wanted { target } else { most.saturating_sub(arriving) }, target }
    }

    fn target(&self) -> u64 {
        let most = self.most.unwrap_or(u64::MAX);
        most - most / EMPTIED
    }

    fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Replaces the count by what an eviction has found. Keeps what came since it was `before`.
    fn correct(&self, before: u64, found: u64) {
        let corrected = |now: u64| Some(found.saturating_add(now.saturating_sub(before)));
        let _ = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, corrected);
    }

    fn is_exceeded(&self) -> bool {
        let bytes = self.held().saturating_add(self.arriving.load(Ordering::Relaxed));
        self.most.is_some_and(|most| bytes > most)
    }

    /// The bytes of a blob that count while it arrives. A blob that is larger than the target does not displace others.
    fn counted(&self, bytes: u64) -> u64 {
        if bytes > self.target() { 0 } else { bytes }
    }
}

/// The limits that a fill counts for.
#[derive(Clone, Debug)]
pub(super) struct Room {
    limits: [Arc<Limit>; 2],
    /// Notified when a limit is exceeded.
    full: Arc<Notify>,
}

impl Room {
    /// Counts the bytes of a blob as arriving.
    pub(super) fn reserve(&self, bytes: u64) -> Reserved {
        for limit in &self.limits {
            limit.arriving.fetch_add(limit.counted(bytes), Ordering::Relaxed);
        }
        self.notify();
        Reserved { room: self.clone(), bytes, is_held: false }
    }

    /// Counts bytes as held.
    pub(super) fn add(&self, bytes: u64) {
        for limit in &self.limits {
            limit.held.fetch_add(bytes, Ordering::Relaxed);
        }
        self.notify();
    }

    fn notify(&self) {
        if self.limits.iter().any(|limit| limit.is_exceeded()) {
            self.full.notify_one();
        }
    }
}

/// Bytes that count as arriving until this is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    room: Room,
    bytes: u64,
    is_held: bool,
}

impl Reserved {
    /// Counts the bytes as held from now on.
    pub(super) fn hold(mut self) {
        self.is_held = true;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.is_held {
            self.room.add(self.bytes);
        }
        for limit in &self.room.limits {
            limit.arriving.fetch_sub(limit.counted(self.bytes), Ordering::Relaxed);
        }
    }
}

impl Mirror {
    /// The limits that count what comes from an upstream.
    pub(super) fn room(&self, upstream: &Upstream) -> Room {
        Room { limits: [Arc::clone(&self.limit), Arc::clone(&upstream.limit)], full: Arc::clone(&self.full) }
    }

    /// Whether there is a limit on what the mirror holds.
    pub(crate) fn is_limited(&self) -> bool {
        self.limits().any(|limit| limit.most.is_some())
    }

    fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.upstreams.iter().map(|upstream| &*upstream.limit).chain([&*self.limit])
    }

    /// Counts the content of each upstream. Blocks.
    pub(crate) fn holdings(&self) -> Result<Vec<MirrorHolding>, repository::Error> {
        self.stores.mirror_holdings(self.upstreams.len(), &|name| {
            let upstream = self.placed(name)?.upstream;
            self.upstreams.iter().position(|one| std::ptr::eq(one, upstream))
        })
    }

    /// Waits until a limit is exceeded.
    pub(crate) async fn full(&self) {
        self.full.notified().await;
    }

    /// The bytes that the mirror holds, about, those that it may hold, and those that it has evicted since the start.
    pub(crate) fn figures(&self) -> (u64, Option<u64>, u64) {
        (self.limit.held(), self.limit.most, self.evicted.load(Ordering::Relaxed))
    }

    /// Evicts the least recently used content until all limits are kept, with some room for more. If `is_wanted` is set,
    /// also if they are kept already. Blocks.
    pub(crate) fn evict(
        &self,
        is_wanted: bool,
        is_dry_run: bool,
        pause: Pause<'_>,
    ) -> Result<Evicted, repository::Error> {
        let mut evicted = Evicted::default();
        for (number, limit) in self.limits().enumerate() {
            let upstream = self.upstreams.get(number);
            if upstream.is_some() && limit.most.is_none() {
                continue;
            }
            let includes = |name: &RepositoryName| {
                upstream.is_none_or(|upstream| {
                    let found = self.upstreams.iter().find(|upstream| upstream.rule_of(name).is_some());
                    found.is_some_and(|found| std::ptr::eq(upstream, found))
                })
            };
            let before = limit.held();
            let more =
                self.stores.evict(limit.goal(is_wanted && limit.most.is_some()), &includes, is_dry_run, pause)?;
            evicted.blobs += more.blobs;
            evicted.manifests += more.manifests;
            evicted.tags += more.tags;
            evicted.bytes += more.bytes;
            evicted.held = more.held;
            if !is_dry_run {
                self.evicted.fetch_add(more.bytes, Ordering::Relaxed);
                limit.correct(before, more.held.bytes());
            }
        }
        Ok(evicted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_fill_counts_no_longer_and_a_full_limit_wakes_the_eviction() {
        let limits = [Arc::new(Limit::new(100)), Arc::new(Limit::new(0))];
        let room = Room { limits, full: Arc::default() };
        drop(room.reserve(60));
        room.reserve(60).hold();
        assert_eq!(room.limits.each_ref().map(|limit| limit.held()), [60, 60]);
        let arriving = room.reserve(41);
        room.full.notified().await;
        assert_eq!(room.limits[0].goal(false), Goal::AtMost { limit: 59, target: 49 });
        drop(arriving);
        assert_eq!(room.limits[0].goal(false), Goal::AtMost { limit: 100, target: 90 });
        assert_eq!(room.limits[0].goal(true), Goal::AtMost { limit: 90, target: 90 });
        room.add(20);
        room.limits[0].correct(60, 30);
        assert_eq!(room.limits[0].held(), 50, "the 20 came after the count had begun");
        let _large = room.reserve(95);
        assert!(!room.limits[0].is_exceeded(), "a blob that cannot stay displaces nothing");
    }
}
