//! If any operation of an upgrade fails, the next start finds the old database or the new one.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::content::blobs::{FaultyDisk, Operation, SystemDisk};

/// Makes a database that is marked as version 1.
fn old(tree: &Tree) {
    let database = Database::open(tree, Arc::new(SystemDisk), true).unwrap();
    database
        .write(|tx| {
            tx.set_setting("test", b"kept")?;
            tx.set_setting(schema::SETTING_VERSION, &1_u32.to_be_bytes())
        })
        .unwrap();
}

#[test]
fn a_failed_upgrade_can_be_tried_again() {
    let mut failures = 0;
    for operation in [
        Operation::Create,
        Operation::Write,
        Operation::Truncate,
        Operation::Sync,
        Operation::Rename,
        Operation::Remove,
        Operation::SyncDir,
    ] {
        for after in 0..4 {
            let directory = tempfile::tempdir().unwrap();
            let tree = Tree::new(directory.path());
            old(&tree);
            let disk = Arc::new(FaultyDisk::default());
            disk.fail_times(operation, after, usize::MAX, rustix::io::Errno::IO);
            failures += usize::from(Database::open(&tree, disk, true).is_err());
            assert!(tree.database().exists(), "{operation:?} {after}: the database is missing");
            let database = Database::open(&tree, Arc::new(SystemDisk), true).unwrap();
            assert_eq!(database.read(|tx| tx.setting("test")).unwrap().as_deref(), Some(&b"kept"[..]));
            assert_eq!(database.read(schema::version).unwrap(), schema::VERSION);
            assert!(tree.earlier_database(1).exists(), "{operation:?} {after}");
        }
    }
    assert!(failures > 12, "only {failures} upgrades failed");
}

#[test]
fn the_old_database_is_copied_on_a_file_system_without_hard_links() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("a"), directory.path().join("b"));
    std::fs::write(&from, vec![7; 1_300_000]).unwrap();
    copy_file(&from, &to, &SystemDisk).unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), vec![7; 1_300_000]);
}
