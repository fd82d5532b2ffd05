//! What happens at the worst moments of a backup.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::repository::scene::{Scene, rules};

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
    let made = scene.stores.back_up(target.path(), Way::Cheapest, |_| {
        steps += 1;
        // The rows are copied, and no blob is there yet.
        if steps == 1 {
            assert!(!has_file(target.path(), digest));
            repository.delete_blob(digest).unwrap();
            scene.stores.sweep().unwrap();
            assert!(!repository.has_blob(digest));
        }
        ControlFlow::Continue(())
    });
    let made = made.unwrap();
    assert_eq!((made.blobs, made.damaged), (1, 0));
    assert!(has_file(target.path(), digest));
    scene.stores.sweep().unwrap();
    assert!(!scene.has_file(digest), "what was kept for the backup goes when it is done");
    let made = scene.stores.back_up(target.path(), Way::Cheapest, |_| ControlFlow::Continue(())).unwrap();
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
    scene.stores.back_up(target.path(), Way::Cheapest, |_| ControlFlow::Continue(())).unwrap();
    for round in 1..5 {
        // Each attempt is broken off one step later than the one before.
        for number in 0..blobs {
            repository.push_blob(format!("{round} {number}").as_bytes());
        }
        let mut steps = 0;
        let made = scene.stores.back_up(target.path(), Way::Cheapest, |_| {
            steps += 1;
            if steps == round { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(made, Err(BackupError::BrokenOff)), "round {round}: {made:?}");
        let again = tempfile::tempdir().unwrap();
        let restored = restore(target.path(), again.path(), Way::Copy, true).unwrap();
        assert_eq!((restored.blobs, restored.damaged), (blobs as u64, 0), "round {round}");
    }
}
