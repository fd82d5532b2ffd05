//! The database when the disk below it fails.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use rustix::io::Errno;

use super::*;
use crate::content::blobs::{FaultyDisk, Operation, SystemDisk, Tree};
use crate::content::rows::Database;

/// The operations that change a file.
const CHANGES: [Operation; 3] = [Operation::Write, Operation::Truncate, Operation::Sync];

struct Fixture {
    disk: Arc<FaultyDisk>,
    database: Database,
    root: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::new(FaultyDisk::default());
        let database = Database::open(&Tree::new(root.path()), disk.clone(), true).unwrap();
        Self { disk, database, root }
    }

    fn put(&self, key: &str, length: usize) -> Result<(), Error> {
        let key = key.to_owned();
        self.database.write(move |tx| tx.set_setting(&key, &vec![7; length]))
    }

    /// Writes after the end of a fault. Waits for the end of the pause.
    fn put_again(&self, key: &str) {
        for _ in 0..100 {
            if self.put(key, 10).is_ok() {
                return;
            }
            std::thread::sleep(PAUSE / 10);
        }
        panic!("writing fails although the fault is gone");
    }

    fn has(&self, key: &str) -> bool {
        self.database.read(|tx| tx.setting(key)).unwrap().is_some()
    }
}

#[test]
fn on_a_full_disk_writes_fail_with_the_reason_and_reads_continue() {
    // The small value fails at the end of the change, the large one in the middle.
    for length in [100_000, 8_000_000] {
        let it = Fixture::new();
        it.put("before", 100_000).unwrap();
        it.disk.fail(&[Operation::Write, Operation::Truncate], Errno::NOSPC);
        for _ in 0..3 {
            // During the pause a write fails immediately, with the reason.
            let refused = it.put("during", length).unwrap_err();
            assert_eq!(refused.io().map(std::io::Error::kind), Some(std::io::ErrorKind::StorageFull), "{refused}");
            assert!(refused.is_transient());
            assert!(it.has("before") && !it.has("during"));
        }
        it.disk.heal();
        it.put_again("after");
        assert!(it.has("before") && !it.has("during") && it.has("after"));
        assert!(!it.database.is_read_only());
    }
}

#[test]
fn on_a_file_system_that_turned_read_only_reads_continue() {
    let it = Fixture::new();
    it.put("before", 10).unwrap();
    it.disk.fail(&CHANGES, Errno::ROFS);
    let refused = it.put("during", 10).unwrap_err();
    assert_eq!(refused.io().map(std::io::Error::kind), Some(std::io::ErrorKind::ReadOnlyFilesystem), "{refused}");
    assert!(it.database.is_read_only());
    assert!(it.has("before"));
    // The next attempt leaves the read-only database open, with its read transactions.
    let old = it.database.store.begin_read().unwrap();
    std::thread::sleep(PAUSE + PAUSE / 10);
    assert!(it.put("during", 10).is_err());
    assert!(crate::content::rows::Rows::new(old).setting("before").unwrap().is_some());
    assert!(it.database.is_read_only() && it.has("before") && !it.has("during"));
    it.disk.heal();
    it.put_again("after");
    assert!(!it.database.is_read_only());
    assert!(it.has("before") && !it.has("during") && it.has("after"));
}

#[test]
fn after_a_failure_anywhere_in_a_change_or_a_checkpoint_memory_and_file_agree() {
    let mut failures = 0;
    for operation in CHANGES {
        for after in 0..200 {
            let it = Fixture::new();
            it.put("before", 20_000).unwrap();
            it.disk.fail_times(operation, after, 1, Errno::IO);
            let done = it.put("during", 20_000).is_ok();
            let has_checkpoint = it.database.flush().is_ok();
            if !it.disk.heal() {
                assert!(done && has_checkpoint, "nothing failed");
                break;
            }
            failures += usize::from(!done || !has_checkpoint);
            assert!(it.has("before"));
            let found = it.has("during");
            assert!(found || !done, "an acknowledged change is lost");
            it.put_again("after");
            let Fixture { database, root, .. } = it;
            drop(database);
            let database = Database::open(&Tree::new(root.path()), Arc::new(SystemDisk), true).unwrap();
            let there = |key| database.read(|tx| tx.setting(key)).unwrap().is_some();
            assert!(there("before") && there("after"));
            assert_eq!(there("during"), found, "{operation:?} after {after}");
        }
    }
    assert!(failures >= 10, "only {failures} failures");
}

#[test]
fn a_view_from_before_a_failure_never_shows_later_changes() {
    let it = Fixture::new();
    for n in 0..200 {
        it.put(&format!("key {n}"), 3_000).unwrap();
    }
    let old = it.database.store.begin_read().unwrap();
    it.disk.fail_times(Operation::Sync, 0, 1, Errno::IO);
    assert!(it.put("during", 10).is_err());
    it.disk.heal();
    // Overwrites the pages that the view shows.
    it.put_again("after");
    for n in 0..200 {
        let key = format!("key {n}");
        it.database.write(move |tx| tx.set_setting(&key, &[9; 3_000])).unwrap();
    }
    let (old, mut closed) = (crate::content::rows::Rows::new(old), 0);
    for n in 0..200 {
        match old.setting(&format!("key {n}")) {
            Ok(value) => assert_eq!(value.unwrap(), [7; 3_000]),
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                closed += 1;
            }
        }
    }
    assert!(closed > 0, "the old view was not closed");
}

#[test]
fn a_database_without_content_is_refused_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("coracle.redb");
    for content in [&b""[..], &[0; 100], &vec![0; 100_000]] {
        std::fs::write(&path, content).unwrap();
        let refused = Database::open(&Tree::new(root.path()), Arc::new(SystemDisk), true).map(drop);
        assert!(refused.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}
