//! [`DiskMeter`]: counts the use of the disk for all who ask.
//!
//! A count reads a row of every blob. Callers share one count, and a count is used again for a time that depends on its
//! duration. So counting takes at most a small part of one processor, however many callers ask.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Shared;
use crate::content::repository::browse::DiskUse;
use crate::kit::clock::Timestamp;

/// A count is used for this many times its own duration, within a bound.
const REUSE_FACTOR: u32 = 20;
const REUSE_MAX: Duration = Duration::from_mins(1);

/// A count of the use of the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskCount {
    pub(crate) usage: DiskUse,
    /// When the count began.
    pub(crate) at: Timestamp,
}

/// Why there is no count.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NotCounted {
    #[error("the count is not finished")]
    Unfinished,
    #[error("the use of the disk cannot be counted: {0}")]
    Failed(String),
}

/// The last count of the use of the disk, and the running one.
#[derive(Debug)]
pub(crate) struct DiskMeter {
    state: Mutex<State>,
    /// The number of counts that have ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    is_counting: bool,
    last: Option<DiskCount>,
    /// Why the last count failed.
    failed: Option<String>,
    /// Until when the last count is used.
    used_until: Option<Instant>,
}

impl Default for DiskMeter {
    fn default() -> Self {
        Self { state: Mutex::default(), ended: watch::Sender::new(0) }
    }
}

impl DiskMeter {
    /// Returns the last count if it is still used. Otherwise the caller must count if the second value is true.
    fn begin(&self) -> (Option<DiskCount>, bool) {
        let mut state = self.state.lock();
        if state.used_until.is_some_and(|until| Instant::now() < until) {
            return (state.last, false);
        }
        (None, !std::mem::replace(&mut state.is_counting, true))
    }

    fn last(&self) -> Result<DiskCount, NotCounted> {
        let state = self.state.lock();
        match &state.failed {
            Some(why) => Err(NotCounted::Failed(why.clone())),
            None => state.last.ok_or(NotCounted::Unfinished),
        }
    }
}

/// A running count. It ends when this is dropped, also by a panic.
struct Counting(Arc<DiskMeter>);

impl Counting {
    fn finish(&self, counted: Result<DiskCount, String>, took: Duration) {
        let mut state = self.0.state.lock();
        state.used_until = Some(Instant::now() + (took * REUSE_FACTOR).min(REUSE_MAX));
        match counted {
            Ok(count) => (state.last, state.failed) = (Some(count), None),
            Err(why) => (state.failed, state.used_until) = (Some(why), None),
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.state.lock().is_counting = false;
        self.0.ended.send_modify(|ended| *ended += 1);
    }
}

impl Shared {
    /// The use of the disk. After `patience`, returns the last count, whose age the caller must show.
    pub(crate) async fn disk_use(&self, patience: Duration) -> Result<DiskCount, NotCounted> {
        let mut ended = self.disk.ended.subscribe();
        let (fresh, must_count) = self.disk.begin();
        if let Some(count) = fresh {
            return Ok(count);
        }
        if must_count {
            let (counting, stores, at) = (Counting(Arc::clone(&self.disk)), Arc::clone(&self.stores), self.now());
            // The work goes on without the caller, and leaves its result in the meter.
            drop(self.work.spawn_blocking(move || {
                let began = Instant::now();
                let counted = stores.disk_use().map(|usage| DiskCount { usage, at });
                counting.finish(counted.map_err(|error| error.to_string()), began.elapsed());
            }));
        }
        let _ = tokio::time::timeout(patience, ended.changed()).await;
        self.disk.last()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::super::Registry;
    use super::*;

    #[tokio::test]
    async fn callers_share_a_count_and_the_impatient_get_the_last_one() {
        let open = || Registry::builder().temporary().open().unwrap();
        let registry = tokio::task::spawn_blocking(open).await.unwrap();
        let shared = &registry.shared;
        let long = Duration::from_mins(1);
        // Another caller counts and does not finish.
        assert!(matches!(shared.disk.begin(), (None, true)));
        assert!(matches!(shared.disk_use(Duration::ZERO).await, Err(NotCounted::Unfinished)));
        let counting = Counting(Arc::clone(&shared.disk));
        let waiting = shared.disk_use(long);
        let finished = async {
            let usage = DiskUse { blobs: 7, ..DiskUse::default() };
            counting.finish(Ok(DiskCount { usage, at: shared.now() }), Duration::ZERO);
            drop(counting);
        };
        let (count, ()) = tokio::join!(waiting, finished);
        assert_eq!(count.unwrap().usage.blobs, 7);
        // The next caller counts itself.
        assert_eq!(shared.disk_use(long).await.unwrap().usage.blobs, 0);
        let failing = Counting(Arc::clone(&shared.disk));
        failing.finish(Err("no disk".to_owned()), Duration::ZERO);
        assert!(matches!(shared.disk.last(), Err(NotCounted::Failed(why)) if why == "no disk"));
        drop(failing);
        assert!(shared.disk_use(long).await.is_ok());
    }
}
