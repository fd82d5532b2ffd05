//! When changes become durable: each before it is answered, or some together a moment later.
//!
//! What is not durable is in this process's memory alone, so that it is gone after `kill -9` and not only after a loss
//! of power; and a database that is opened anew after a failure begins at what is durable. So an operator who trades
//! durability away (`storage.commit`) loses a second or two, and not everything since the start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Database, Error, set_durable};

/// A crash loses at most about this much where changes are not durable at once.
const SOON: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    AtOnce,
    Soon,
    /// With an orderly end.
    AtTheEnd,
}

/// When changes become durable, and what is not yet.
#[derive(Debug)]
pub(super) struct DurabilityPolicy {
    when: When,
    /// Since when everything before is durable.
    last: Mutex<Instant>,
    /// Whether something is not durable.
    is_open: AtomicBool,
}

impl DurabilityPolicy {
    pub(super) fn new(sync: bool) -> Self {
        let when = if sync { When::AtOnce } else { When::AtTheEnd };
        Self { when, last: Mutex::new(Instant::now()), is_open: AtomicBool::new(false) }
    }

    /// Whether the next transaction is to be durable, and all before it with it.
    pub(super) fn next_is_durable(&self) -> bool {
        match self.when {
            When::AtOnce => true,
            When::Soon => self.last.lock().elapsed() >= SOON,
            When::AtTheEnd => false,
        }
    }

    pub(super) fn committed(&self, is_durable: bool) {
        self.is_open.store(!is_durable, Ordering::Release);
        if is_durable {
            *self.last.lock() = Instant::now();
        }
    }
}

impl Database {
    /// Lets changes become durable a second later, if they are not at once. [`Database::flush`] is to be called as often.
    pub(crate) fn with_delayed_durability(mut self) -> Self {
        if self.durability.when == When::AtTheEnd {
            self.durability.when = When::Soon;
        }
        self
    }

    /// Whether changes are to be made durable that are not yet.
    pub(crate) fn is_flush_due(&self) -> bool {
        self.durability.when == When::Soon && self.durability.is_open.load(Ordering::Acquire)
    }

    /// Makes everything durable that is not yet. Blocks.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        let _leading = self.leader.lock();
        self.try_flush().map_err(|error| Error::Group(self.store.failed(error)))
    }

    fn try_flush(&self) -> Result<(), Error> {
        let mut transaction = self.store.begin_write()?;
        set_durable(&mut transaction, true)?;
        transaction.commit()?;
        self.durability.committed(true);
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::content::blobs::{SystemDisk, Tree};

    fn open(root: &Path) -> Database {
        Database::open(&Tree::new(root), Arc::new(SystemDisk), false).unwrap()
    }

    /// What there would be if the process were killed now.
    fn survivors(root: &Path) -> Vec<&'static str> {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(root.join("coracle.redb"), copy.path().join("coracle.redb")).unwrap();
        let database = open(copy.path());
        let is_there = |key: &&str| database.read(|tx| tx.setting(key)).unwrap().is_some();
        ["first", "second", "third"].into_iter().filter(is_there).collect()
    }

    #[test]
    fn a_crash_loses_a_moment_and_not_everything_since_the_start() {
        let root = tempfile::tempdir().unwrap();
        let database = open(root.path()).with_delayed_durability();
        assert!(!database.is_flush_due());
        database.write(|tx| tx.set_setting("first", b"x")).unwrap();
        assert!(database.is_flush_due());
        assert_eq!(survivors(root.path()), [""; 0]);
        database.flush().unwrap();
        assert!(!database.is_flush_due());
        assert_eq!(survivors(root.path()), ["first"]);
        database.write(|tx| tx.set_setting("second", b"x")).unwrap();
        assert!(database.is_flush_due());

        // Those who write all the time need not wait for anybody to settle it.
        std::thread::sleep(SOON);
        database.write(|tx| tx.set_setting("third", b"x")).unwrap();
        assert!(!database.is_flush_due());
        assert_eq!(survivors(root.path()), ["first", "second", "third"]);
    }
}
