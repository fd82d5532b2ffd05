//! [`Version`]: whether something that was read is still what the database says.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What the database says from one change to the next. The larger one is the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u64);

/// How often the database was changed, and whether it is being changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    done: AtomicU64,
    running: AtomicUsize,
}

/// A change that runs, or what may turn out to be one, until it is dropped.
#[derive(Debug)]
pub(crate) struct Changing<'a>(&'a Changes);

impl Changes {
    /// What is read from now on, until there is another one. None while it is being changed: then nobody knows
    /// whether they read what was before.
    pub(crate) fn version(&self) -> Option<Version> {
        // In this order: what ends between the two looks is seen in the second.
        let running = self.running.load(Ordering::SeqCst);
        let done = self.done.load(Ordering::SeqCst);
        (running == 0).then_some(Version(done))
    }

    /// To be called before anything of a change can be seen, and held until all of it can.
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
