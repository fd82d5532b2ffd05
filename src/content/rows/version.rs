//! [`Version`]: whether something that was read is still current.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The state of the database between two changes. A later one is larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u64);

#[cfg(test)]
impl Version {
    /// The number of changes since an earlier version.
    pub(crate) const fn since(self, earlier: Self) -> u64 {
        self.0 - earlier.0
    }
}

/// Counts the changes of the database, and those that are running.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    done: AtomicU64,
    running: AtomicUsize,
}

/// A running change, until it is dropped. It may turn out to change nothing.
#[derive(Debug)]
pub(crate) struct Changing<'a>(&'a Changes);

impl Changes {
    /// The version of everything that is read from now on, until the next change. `None` while a change is running: a
    /// reader cannot know then whether it sees the old rows or the new ones.
    pub(crate) fn version(&self) -> Option<Version> {
        // In this order, because a change that ends in between is counted by the second load.
        let running = self.running.load(Ordering::SeqCst);
        let done = self.done.load(Ordering::SeqCst);
        (running == 0).then_some(Version(done))
    }

    /// Call this before any part of a change is visible, and hold the result until all of it is.
    pub(crate) fn begin(&self) -> Changing<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        Changing(self)
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.done.fetch_add(1, Ordering::SeqCst);
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_ends_a_version() {
        let changes = Changes::default();
        let first = changes.version();
        assert!(first.is_some() && changes.version() == first);
        let (one, other) = (changes.begin(), changes.begin());
        assert_eq!(changes.version(), None);
        drop(one);
        assert_eq!(changes.version(), None);
        drop(other);
        assert!(changes.version() > first);
    }
}
