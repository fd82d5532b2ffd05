//! Faults at every step of a backup.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::content::blobs::{FaultyDisk, Operation};
use crate::content::repository::scene::{Scene, rules};

fn has_file(root: &Path, digest: Digest) -> bool {
    Tree::new(root).blob(&digest).exists()
}

#[test]
fn a_blob_that_is_deleted_while_a_backup_is_made_is_whole_in_it_and_goes_afterwards() {
    let scene = Scene::new(rules());
    let target = tempfile::tempdir().unwrap();
    let repository = scene.repository("a");
    let digest = repository.push_blob(b"soon gone");
    let mut steps = 0;
    let made = scene.stores.back_up(target.path(), TransferMode::Cheapest, |_| {
        steps += 1;
        // The rows are copied, and no blob is there yet.
        if steps == 1 {
            assert!(!has_file(target.path(), digest));
            repository.delete_blob(digest).unwrap();
            scene.stores.remove_leftover_files().unwrap();
            assert!(!repository.has_blob(digest));
        }
        ControlFlow::Continue(())
    });
    let made = made.unwrap();
    assert_eq!((made.blobs, made.damaged), (1, 0));
    assert!(has_file(target.path(), digest));
    scene.stores.remove_leftover_files().unwrap();
    assert!(!scene.has_file(digest), "what was kept for the backup goes when it is done");
    let made = scene.stores.back_up(target.path(), TransferMode::Cheapest, never).unwrap();
    assert_eq!((made.blobs, made.removed), (0, 1));
    assert!(!has_file(target.path(), digest));
}

#[test]
fn whenever_a_backup_is_broken_off_the_directory_has_a_whole_one() {
    let scene = Scene::new(rules());
    let target = tempfile::tempdir().unwrap();
    let repository = scene.repository("a");
    let blobs = STEP + 10;
    for number in 0..blobs {
        repository.push_blob(format!("first {number}").as_bytes());
    }
    scene.stores.back_up(target.path(), TransferMode::Cheapest, never).unwrap();
    for round in 1..5 {
        // Each attempt is broken off one step later than the one before.
        for number in 0..blobs {
            repository.push_blob(format!("{round} {number}").as_bytes());
        }
        let mut steps = 0;
        let made = scene.stores.back_up(target.path(), TransferMode::Cheapest, |_| {
            steps += 1;
            if steps == round { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(made, Err(BackupError::Cancelled)), "round {round}: {made:?}");
        let again = tempfile::tempdir().unwrap();
        let restored = restore(target.path(), again.path(), TransferMode::Cheapest, true).unwrap();
        assert_eq!((restored.blobs, restored.damaged), (blobs as u64, 0), "round {round}");
    }
}

const OPERATIONS: [Operation; 8] = [
    Operation::CreateDir,
    Operation::Create,
    Operation::Write,
    Operation::Truncate,
    Operation::Sync,
    Operation::Rename,
    Operation::Remove,
    Operation::SyncDir,
];

fn never(_: Duration) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A disk on which an operation works a few times, and from then on never.
fn failing(operation: Operation, after: usize) -> Arc<dyn Disk> {
    let disk = Arc::new(FaultyDisk::default());
    disk.fail_times(operation, after, usize::MAX, rustix::io::Errno::IO);
    disk
}

/// Where nothing waits for a disk, if there is such a place: it is made sure of often here that bytes are durable.
fn quick_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn faults(after: [usize; 3]) -> impl Iterator<Item = (Operation, usize)> {
    OPERATIONS.into_iter().flat_map(move |operation| after.map(|after| (operation, after)))
}

#[test]
fn a_disk_that_fails_anywhere_leaves_the_last_backup_or_the_new_one() {
    let (mut old, mut new) = (0, 0);
    for (operation, after) in faults([0, 1, 3]) {
        let scene = Scene::new(rules());
        let target = quick_directory();
        let repository = scene.repository("a");
        let (kept, gone) = (repository.push_blob(b"kept"), repository.push_blob(b"gone"));
        scene.stores.back_up(target.path(), TransferMode::Copy, never).unwrap();
        repository.delete_blob(gone).unwrap();
        scene.stores.remove_leftover_files().unwrap();
        let added = repository.push_blob(b"added");
        let made = scene.stores.back_up_on(&failing(operation, after), target.path(), TransferMode::Copy, never);
        let again = quick_directory();
        let restored = restore(target.path(), again.path(), TransferMode::Copy, true).unwrap();
        assert_eq!((restored.blobs, restored.damaged), (2, 0), "{operation:?} {after}: {made:?}");
        assert!(has_file(again.path(), kept));
        let is_new = has_file(again.path(), added);
        assert_ne!(is_new, has_file(again.path(), gone));
        assert!(is_new || made.is_err(), "{operation:?} {after}: {made:?}");
        *if is_new { &mut new } else { &mut old } += 1;
        // And the next attempt succeeds.
        let made = scene.stores.back_up(target.path(), TransferMode::Copy, never).unwrap();
        assert_eq!((made.blobs, made.damaged), (2, 0));
        assert!(!has_file(target.path(), gone));
    }
    assert!(old > 6 && new > 3, "{old} {new}");
}

#[test]
fn a_restoration_that_fails_anywhere_can_be_tried_again() {
    let scene = Scene::new(rules());
    let backup = quick_directory();
    let digest = scene.repository("a").push_blob(b"kept");
    scene.stores.back_up(backup.path(), TransferMode::Cheapest, never).unwrap();
    let mut failures = 0;
    for (operation, after) in faults([0, 2, 5]) {
        let place = quick_directory();
        let root = place.path().join("new");
        if restore_on(&failing(operation, after), backup.path(), &root, TransferMode::Copy, true).is_ok() {
            continue;
        }
        failures += 1;
        // An incomplete registry cannot be opened, and a complete one is not overwritten.
        if Tree::new(&root).database().exists() {
            assert!(has_file(&root, digest), "{operation:?} {after}");
        } else {
            restore(backup.path(), &root, TransferMode::Copy, true).unwrap();
        }
        assert!(has_file(&root, digest));
        assert!(matches!(
            restore(backup.path(), &root, TransferMode::Copy, true),
            Err(BackupError::Target(TargetError::Occupied { .. }))
        ));
    }
    assert!(failures > 6, "{failures}");
}
