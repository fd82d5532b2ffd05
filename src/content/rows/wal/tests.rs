//! The log is applied after a crash, damage of it is found, and other logs are ignored.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::content::blobs::{FaultyDisk, Operation as DiskOperation, SystemDisk, Tree};
use crate::content::rows::{Database, Extent, ReadOnlyDatabase};

fn open(root: &Path) -> Result<Database, Error> {
    Database::open(&Tree::new(root), Arc::new(SystemDisk), true)
}

fn set(database: &Database, name: &'static str, value: &[u8]) -> Result<(), Error> {
    let value = value.to_vec();
    database.write(move |tx| tx.set_setting(name, &value))
}

fn get(database: &Database, name: &str) -> Option<Vec<u8>> {
    database.read(|rows| rows.setting(name)).unwrap()
}

/// The data directory as a kill leaves it now.
fn killed(root: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["coracle.redb", "coracle.wal"] {
        if_exists(std::fs::copy(root.join(name), copy.path().join(name))).unwrap();
    }
    copy
}

/// A data directory whose log has three changes.
fn with_three_changes() -> (tempfile::TempDir, Database) {
    let root = tempfile::tempdir().unwrap();
    let database = open(root.path()).unwrap();
    set(&database, "first", b"1").unwrap();
    database.flush().unwrap();
    for name in ["one", "two", "three"] {
        set(&database, name, name.as_bytes()).unwrap();
    }
    (root, database)
}

#[test]
fn changes_survive_a_kill_before_the_checkpoint() {
    let (root, database) = with_three_changes();
    database.write(|tx| tx.remove_setting("one")).unwrap();
    let left = killed(root.path());
    let again = open(left.path()).unwrap();
    assert_eq!(get(&again, "one"), None);
    assert_eq!(get(&again, "three").as_deref(), Some(&b"three"[..]));
    // The checkpoint of the start has it all.
    std::fs::remove_file(left.path().join("coracle.wal")).unwrap();
    let copy = killed(left.path());
    assert_eq!(get(&open(copy.path()).unwrap(), "three").as_deref(), Some(&b"three"[..]));
}

#[test]
fn the_database_file_does_not_change_until_the_checkpoint() {
    let (root, database) = with_three_changes();
    let file = || std::fs::read(root.path().join("coracle.redb")).unwrap();
    let before = file();
    set(&database, "four", b"4").unwrap();
    assert!(file() == before);
    assert!(!database.is_flush_due(), "the last change was a moment ago");
    database.flush().unwrap();
    assert!(file() != before);
    assert!(!database.log().unwrap().is_pending());
}

#[test]
fn a_full_log_and_a_large_change_cause_a_checkpoint() {
    let (root, database) = with_three_changes();
    let size = || std::fs::metadata(root.path().join("coracle.wal")).unwrap().len();
    for number in 0..40_u8 {
        set(&database, "large", &vec![number; 50_000]).unwrap();
    }
    assert!(size() <= BYTES_MAX as u64);
    set(&database, "larger", &vec![7; 2 * BYTES_MAX]).unwrap();
    assert!(size() <= BYTES_MAX as u64 && !database.log().unwrap().is_pending());
    set(&database, "small", b"x").unwrap();
    let again = open(killed(root.path()).path())
        .map(|again| ["large", "larger", "small"].map(|name| get(&again, name).map(|value| (value[0], value.len()))));
    assert_eq!(again.unwrap(), [Some((39, 50_000)), Some((7, 2 * BYTES_MAX)), Some((b'x', 1))]);
}

/// Another version of the program may make checkpoints later.
#[test]
fn a_log_larger_than_ours_is_read_to_its_end() {
    let (root, database) = with_three_changes();
    let position = database.read(Position::read).unwrap().unwrap();
    let left = killed(root.path());
    let mut log = std::fs::read(left.path().join("coracle.wal")).unwrap();
    while log.len() <= 2 * BYTES_MAX {
        let mut operations = Operations::default();
        let value = u32::try_from(log.len()).unwrap().to_be_bytes();
        operations.add(SETTINGS.name(), b"end", Some(&value));
        operations.add(SETTINGS.name(), b"filling", Some(&[0; 9999]));
        log.extend(position.record(&operations.bytes));
    }
    std::fs::write(left.path().join("coracle.wal"), &log).unwrap();
    let again = open(left.path()).unwrap();
    let end = get(&again, "end").unwrap().try_into().map(u32::from_be_bytes).unwrap();
    assert!(end as usize > 2 * BYTES_MAX - 20_000, "{end}");
}

#[test]
fn an_incomplete_last_record_is_ignored_and_any_other_damage_is_refused() {
    let (root, _database) = with_three_changes();
    let left = killed(root.path());
    let log = left.path().join("coracle.wal");
    let whole = std::fs::read(&log).unwrap();
    let position = Position::read(&Rows::new(
        redb::Database::open(left.path().join("coracle.redb")).unwrap().begin_read().unwrap(),
    ))
    .unwrap()
    .unwrap();
    let mut ends = vec![0];
    while let Some((_, length)) = position.record_in(&whole[*ends.last().unwrap()..]) {
        ends.push(ends.last().unwrap() + length);
    }
    assert_eq!(ends.len(), 4);
    let database = std::fs::read(left.path().join("coracle.redb")).unwrap();
    let opened = |bytes: &[u8]| {
        std::fs::write(left.path().join("coracle.redb"), &database).unwrap();
        std::fs::write(&log, bytes).unwrap();
        open(left.path()).map(|opened| ["one", "two", "three"].map(|name| get(&opened, name).is_some()))
    };
    for cut in 0..=ends[3] {
        let found = opened(&whole[..cut]).unwrap();
        assert_eq!(found, [1, 2, 3].map(|record| cut >= ends[record]), "{cut}");
    }
    let epoch = || open(left.path()).unwrap().read(Position::read).unwrap().unwrap().epoch;
    for (cut, has_mark) in [(0, false), (35, false), (36, true), (ends[1] - 1, true)] {
        assert_eq!(incomplete_record(position, &whole[..cut]), has_mark.then_some(cut));
        opened(&whole[..cut]).unwrap();
        // Nothing is appended over an incomplete record in its epoch, also if there is no other record.
        assert_eq!(epoch() > position.epoch, has_mark, "{cut}");
    }
    let earlier = Position { epoch: position.epoch - 1, ..position };
    assert_eq!(incomplete_record(earlier, &whole), None);
    for (byte, expected) in [(ends[2] + 40, Some([true, true, false])), (ends[1] + 3, None), (20, None)] {
        let mut damaged = whole.clone();
        damaged[byte] ^= 0x10;
        match (opened(&damaged), expected) {
            (Ok(found), Some(expected)) => assert_eq!(found, expected),
            (Err(error @ Error::LogDamaged { .. }), None) => {
                assert!(!error.is_corruption(), "recovery would lose more than the log has");
            }
            (found, _) => panic!("{byte}: {found:?}"),
        }
    }
}

#[test]
fn the_log_of_another_database_and_of_an_earlier_epoch_is_ignored() {
    let (root, database) = with_three_changes();
    let log = std::fs::read(root.path().join("coracle.wal")).unwrap();
    let copy = tempfile::tempdir().unwrap();
    let (tree, disk): (_, Arc<dyn Disk>) = (Tree::new(copy.path()), Arc::new(SystemDisk));
    set(&database, "one", b"later").unwrap();
    let mut never = |_| std::ops::ControlFlow::Continue(());
    database.copy(&tree, &disk, Extent::All, &mut never).unwrap();
    crate::content::rows::install(&tree, &*disk).unwrap();
    for place in [root.path(), copy.path()] {
        if place == root.path() {
            database.flush().unwrap();
        }
        let left = killed(place);
        std::fs::write(left.path().join("coracle.wal"), &log).unwrap();
        assert_eq!(get(&open(left.path()).unwrap(), "one").as_deref(), Some(&b"later"[..]));
    }
}

#[test]
fn a_stopped_database_is_read_with_its_log_and_without_changing_either() {
    let (root, _database) = with_three_changes();
    let left = killed(root.path());
    let files = || ["coracle.redb", "coracle.wal"].map(|name| std::fs::read(left.path().join(name)).unwrap());
    let before = files();
    let tree = Tree::new(left.path());
    let database = ReadOnlyDatabase::open(&tree, &tree.database(), Arc::new(SystemDisk)).unwrap();
    assert_eq!(database.read(|rows| rows.setting("three")).unwrap().as_deref(), Some(&b"three"[..]));
    drop(database);
    assert!(files() == before);
}

/// A database with one change, which was a checkpoint. The log does not exist yet.
fn on_a_faulty_disk() -> (tempfile::TempDir, Arc<FaultyDisk>, Database) {
    let root = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let database = Database::open(&Tree::new(root.path()), Arc::clone(&disk) as Arc<dyn Disk>, true).unwrap();
    set(&database, "first", b"1").unwrap();
    (root, disk, database)
}

#[test]
fn a_failed_append_is_an_error_and_the_next_change_succeeds() {
    for operation in [DiskOperation::Write, DiskOperation::Sync] {
        let (root, disk, database) = on_a_faulty_disk();
        set(&database, "before", b"1").unwrap();
        disk.fail_times(operation, 0, 1, rustix::io::Errno::IO);
        assert!(set(&database, "failed", b"1").is_err());
        // For a moment after a failure, writes are refused.
        std::thread::sleep(Duration::from_millis(300));
        set(&database, "after", b"1").unwrap();
        let again = open(killed(root.path()).path()).unwrap();
        let is_there = |name| get(&again, name).is_some();
        assert!(is_there("before") && is_there("after"), "{operation:?}");
        assert_eq!(is_there("failed"), get(&database, "failed").is_some(), "{operation:?}");
    }
}

#[test]
fn after_a_failed_append_to_an_empty_log_a_new_epoch_begins() {
    for operation in [DiskOperation::Write, DiskOperation::Sync] {
        let (_root, disk, database) = on_a_faulty_disk();
        let epoch = || database.read(Position::read).unwrap().unwrap().epoch;
        let before = epoch();
        disk.fail_times(operation, 0, 1, rustix::io::Errno::IO);
        assert!(set(&database, "failed", b"1").is_err());
        // For a moment after a failure, writes are refused.
        std::thread::sleep(Duration::from_millis(300));
        set(&database, "after", b"1").unwrap();
        assert!(epoch() > before, "{operation:?}");
    }
}

#[test]
fn a_change_that_the_log_has_no_space_for_is_a_checkpoint() {
    for operation in [DiskOperation::Write, DiskOperation::Sync] {
        let (root, disk, database) = on_a_faulty_disk();
        set(&database, "before", b"1").unwrap();
        disk.fail_times(operation, 0, 1, rustix::io::Errno::NOSPC);
        set(&database, "full", b"1").unwrap();
        assert!(disk.heal(), "the log was written");
        set(&database, "after", b"1").unwrap();
        let again = open(killed(root.path()).path()).unwrap();
        assert!(["first", "before", "full", "after"].iter().all(|name| get(&again, name).is_some()), "{operation:?}");
    }
}

#[test]
fn nothing_is_acknowledged_while_the_name_of_the_log_is_not_durable() {
    let (root, disk, database) = on_a_faulty_disk();
    disk.fail_times(DiskOperation::SyncDir, 0, 2, rustix::io::Errno::IO);
    for _ in 0..2 {
        assert!(set(&database, "second", b"1").is_err());
        // For a moment after a failure, writes are refused.
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(disk.heal(), "each of them tried to make it durable");
    set(&database, "second", b"1").unwrap();
    assert!(get(&open(killed(root.path()).path()).unwrap(), "second").is_some());
}

#[test]
fn a_full_disk_at_the_start_leaves_everything_readable() {
    let (root, _database) = with_three_changes();
    let left = killed(root.path());
    let disk = Arc::new(FaultyDisk::default());
    disk.fail_times(DiskOperation::Write, 0, usize::MAX, rustix::io::Errno::NOSPC);
    let database = Database::open(&Tree::new(left.path()), Arc::clone(&disk) as Arc<dyn Disk>, true).unwrap();
    assert!(database.is_read_only() && get(&database, "three").is_some());
    assert!(set(&database, "four", b"4").is_err());
    disk.heal();
    std::thread::sleep(Duration::from_millis(300));
    set(&database, "four", b"4").unwrap();
    let again = open(killed(left.path()).path()).unwrap();
    assert!(get(&again, "three").is_some() && get(&again, "four").is_some());
}

proptest! {
    #[test]
    fn operations_are_read_as_they_were_written(
        operations in proptest::collection::vec((".{0,8}", any::<Vec<u8>>(), any::<Option<Vec<u8>>>()), 0..20),
        noise in any::<Vec<u8>>(),
    ) {
        let mut written = Operations::default();
        for (table, key, value) in &operations {
            written.add(table, key, value.as_deref());
        }
        let mut bytes = written.bytes.as_slice();
        for (table, key, value) in &operations {
            let read = next_operation(&mut bytes).unwrap();
            prop_assert_eq!((read.table, read.key, read.value), (table.as_str(), key.as_slice(), value.as_deref()));
        }
        prop_assert!(bytes.is_empty());
        // Noise is an error or an operation, and ends.
        let mut bytes = noise.as_slice();
        while next_operation(&mut bytes).is_some() {}
        let position = Position { id: [1; ID_BYTES], epoch: 1 };
        prop_assert_eq!(records(position, &noise).1, 0);
        prop_assert_eq!(later_record(position, &noise), None);
    }
}
