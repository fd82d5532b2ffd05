//! [`DurabilityPolicy`]: when a change becomes durable, before its response or a moment later.
//!
//! A change that is not durable is only in this process's memory. It is lost after `kill -9`, not only after a loss of
//! power, and also when the database is opened again after a failure. So `storage.commit = false` delays durability by
//! about a second, instead of waiting for an orderly stop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::wal::Wal;
use super::{Database, Error, WriteTx};

/// The time between two durable transactions with delayed durability. A crash loses the changes of about this time.
const DELAY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Immediately,
    Delayed,
    /// At an orderly stop.
    OnClose,
}

/// When changes become durable, and whether all are.
#[derive(Debug)]
pub(super) struct DurabilityPolicy {
    when: When,
    /// The time of the last durable transaction.
    last_durable: Mutex<Instant>,
    /// Whether a later transaction is not durable.
    is_pending: AtomicBool,
}

impl DurabilityPolicy {
    pub(super) fn new(sync: bool) -> Self {
        let when = if sync { When::Immediately } else { When::OnClose };
        Self { when, last_durable: Mutex::new(Instant::now()), is_pending: AtomicBool::new(false) }
    }

    /// Whether the next transaction must be durable, which makes all earlier ones durable.
    pub(super) fn next_is_durable(&self) -> bool {
        match self.when {
            When::Immediately => true,
            When::Delayed => self.last_durable.lock().elapsed() >= DELAY,
            When::OnClose => false,
        }
    }

    pub(super) fn committed(&self, is_durable: bool) {
        self.is_pending.store(!is_durable, Ordering::Release);
        if is_durable {
            *self.last_durable.lock() = Instant::now();
        }
    }
}

impl Database {
    /// Makes changes durable about a second later, if they are not durable immediately. The caller must call
    /// [`Database::flush`] every second.
    pub(crate) fn with_delayed_durability(mut self) -> Self {
        if self.durability.when == When::OnClose {
            self.durability.when = When::Delayed;
        }
        self
    }

    /// Whether [`Database::flush`] has something to do.
    pub(crate) fn is_flush_due(&self) -> bool {
        match self.durability.when {
            When::Immediately => self.store.wal().is_some_and(Wal::is_checkpoint_due),
            When::Delayed => self.durability.is_pending.load(Ordering::Acquire),
            When::OnClose => false,
        }
    }

    /// Makes all changes durable. Blocks.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        let _leader = self.leader.lock();
        // redb may panic, and the log must not go on as if nothing had happened.
        let flushed = catch_unwind(AssertUnwindSafe(|| self.try_flush())).unwrap_or(Err(Error::Panicked));
        flushed.map_err(|error| Error::Group(self.store.failed(error)))
    }

    fn try_flush(&self) -> Result<(), Error> {
        self.commit_durably(WriteTx::new(self.store.begin_write()?))
    }

    /// Commits a transaction durably, with all before it.
    pub(super) fn commit_durably(&self, tx: WriteTx) -> Result<(), Error> {
        match self.store.wal() {
            Some(wal) => wal.checkpoint(tx)?,
            None => tx.commit(true)?,
        }
        self.durability.committed(true);
        Ok(())
    }

    /// Commits a transaction, durably if it must be.
    pub(super) fn commit(&self, mut tx: WriteTx) -> Result<(), Error> {
        if let (Some(operations), Some(wal)) = (tx.operations.take(), self.store.wal()) {
            if !wal.append(&operations)? {
                return self.commit_durably(tx);
            }
            return tx.commit(false).inspect_err(|_| wal.take_back());
        }
        if self.durability.next_is_durable() {
            return self.commit_durably(tx);
        }
        tx.commit(false)?;
        self.durability.committed(false);
        Ok(())
    }

    /// The write-ahead log, if each change is durable when its write returns.
    pub(super) fn log(&self) -> Option<&Wal> {
        self.store.wal().filter(|_| self.durability.when == When::Immediately)
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

    /// The settings that a kill of the process would leave.
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

        // A steady stream of changes becomes durable without a flush.
        std::thread::sleep(DELAY);
        database.write(|tx| tx.set_setting("third", b"x")).unwrap();
        assert!(!database.is_flush_due());
        assert_eq!(survivors(root.path()), ["first", "second", "third"]);
    }
}
