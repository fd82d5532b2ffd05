//! Ages while the wall clock is set, and the registry and the machine restart.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::ops::ControlFlow;
use std::sync::Arc;

use super::*;
use crate::content::blobs::{SystemDisk, Tree};
use crate::content::repository::scene::{Scene, rules};
use crate::content::repository::{Rules, WorkProgress};
use crate::kit::clock::Timestamp;
use crate::oci::Digest;

const DELAY: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);
const YEARS: i64 = 50 * 365 * 86_400 * 1_000_000;

fn collect(scene: &Scene) -> u64 {
    scene
        .stores
        .collect(None, scene.stores.delays(), &WorkProgress::default(), |_| ControlFlow::Continue(()))
        .unwrap()
        .blobs
}

fn scene() -> Scene {
    Scene::new(rules())
}

fn push(scene: &Scene, content: &str) -> Digest {
    scene.repository("a").push_blob(content.as_bytes())
}

#[test]
fn a_wall_clock_that_is_set_makes_nothing_older_or_younger() {
    for by in [YEARS, -YEARS, 25 * 3_600_000_000, -25 * 3_600_000_000] {
        let scene = scene();
        let blob = push(&scene, "pushed before");
        scene.clock.set_by(by);
        assert_eq!(collect(&scene), 0, "{by}");
        scene.clock.advance(DELAY / 2);
        let later = push(&scene, "pushed after");
        // Back to where it was.
        scene.clock.set_by(-by);
        scene.clock.advance((DELAY / 2).saturating_sub(SECOND));
        assert_eq!(collect(&scene), 0, "{by}");
        scene.clock.advance(2 * SECOND);
        assert_eq!(collect(&scene), 1, "{by}");
        assert!(!scene.has_file(blob) && scene.has_file(later));
    }
}

#[test]
fn what_a_client_was_told_of_stays_when_the_wall_clock_is_set() {
    let scene = scene();
    let blob = push(&scene, "told of");
    scene.clock.advance(2 * DELAY);
    scene.repository("a").blob_size(blob).unwrap();
    scene.clock.set_by(YEARS);
    scene.stores.write_leases().unwrap();
    assert_eq!(collect(&scene), 0);
    scene.clock.advance(DELAY + SECOND);
    assert_eq!(collect(&scene), 1);
}

#[test]
fn time_passes_while_the_registry_is_stopped_and_the_machine_is_up() {
    let scene = scene();
    push(&scene, "blob");
    scene.clock.advance(DELAY / 2);
    let scene = scene.reopen();
    scene.clock.advance(DELAY / 4);
    let scene = scene.reopen();
    scene.clock.set_by(YEARS);
    assert_eq!(collect(&scene), 0);
    scene.clock.advance(DELAY / 4 + SECOND);
    let scene = scene.reopen();
    assert_eq!(collect(&scene), 1);
}

#[test]
fn a_machine_that_starts_again_with_another_time_makes_nothing_older() {
    let scene = scene();
    push(&scene, "blob");
    scene.clock.advance(DELAY / 2);
    scene.stores.write_steady_clock(true).unwrap();
    for by in [YEARS, -YEARS] {
        scene.clock.set_by(by);
    }
    // It was off for longer than the delay, or its clock is wrong: nothing tells which.
    scene.clock.restart_machine();
    scene.clock.set_by(YEARS);
    let scene = scene.reopen();
    assert_eq!(collect(&scene), 0);
    scene.clock.advance((DELAY / 2).saturating_sub(SECOND));
    assert_eq!(collect(&scene), 0);
    // The half before the start counts, as it was written down.
    scene.clock.advance(2 * SECOND);
    assert_eq!(collect(&scene), 1);
}

#[test]
fn a_clock_that_was_not_written_down_goes_on_where_the_latest_row_is() {
    let scene = scene();
    push(&scene, "first");
    scene.clock.advance(DELAY / 2);
    push(&scene, "second");
    scene.clock.restart_machine();
    let scene = scene.reopen();
    scene.clock.advance(DELAY / 2 + SECOND);
    assert_eq!(collect(&scene), 1, "half of the delay of the first had passed when the second came");
}

#[test]
fn ages_by_the_wall_clock_of_an_earlier_program_count_from_the_first_start() {
    let root = tempfile::tempdir().unwrap();
    let clock = Clock::default();
    drop(crate::content::blobs::Blobs::open(root.path(), Arc::new(SystemDisk), false).unwrap());
    let database = Database::open(&Tree::new(root.path()), Arc::new(SystemDisk), false).unwrap();
    let far = Timestamp::from_micros(clock.now().micros() + YEARS.unsigned_abs());
    for (content, at) in [("in 1970", Timestamp::from_micros(1_000_000)), ("in the future", far)] {
        let digest = Digest::of(crate::oci::Algorithm::Sha256, content.as_bytes());
        database.write(move |tx| tx.put_link(&"a".parse().unwrap(), digest, 7, at)).unwrap();
    }
    drop(database);
    let scene = Scene::open_in(root, clock, rules(), false);
    assert_eq!(collect(&scene), 0);
    scene.clock.advance(DELAY.saturating_sub(SECOND));
    let scene = scene.reopen();
    assert_eq!(collect(&scene), 0);
    scene.clock.advance(2 * SECOND);
    assert_eq!(collect(&scene), 2);
}

#[test]
fn everything_can_be_collected_at_once_whatever_the_clocks_say() {
    let scene = scene();
    push(&scene, "blob");
    scene.clock.set_by(-YEARS);
    scene.clock.restart_machine();
    let scene = scene.reopen();
    let now = crate::content::repository::Delays::all(Duration::ZERO);
    assert_eq!(
        scene.stores.collect(None, now, &WorkProgress::default(), |_| ControlFlow::Continue(())).unwrap().blobs,
        1
    );
}

#[test]
fn tag_history_is_kept_for_its_time_whatever_the_wall_clock_says() {
    for by in [YEARS, -YEARS] {
        let scene = Scene::new(Rules { tag_history: DELAY, ..rules() });
        let repository = scene.repository("a");
        let tag: crate::oci::Tag = "latest".parse().unwrap();
        let first = repository.push_manifest(&crate::content::repository::scene::index(&[], "1"), &["latest"]).unwrap();
        repository.push_manifest(&crate::content::repository::scene::index(&[], "2"), &["latest"]).unwrap();
        scene.clock.set_by(by);
        scene.clock.advance(DELAY.saturating_sub(SECOND));
        assert!(!scene.stores.is_tidying_due().unwrap());
        scene.stores.tidy_tags().unwrap();
        repository.restore_tag(&tag, first).unwrap();
        scene.clock.set_by(-by);
        scene.clock.advance(2 * SECOND);
        assert!(scene.stores.is_tidying_due().unwrap());
        assert_eq!(scene.stores.tidy_tags().unwrap().past, 1);
    }
}

#[test]
fn an_upload_expires_by_the_time_that_passes_and_starts_do_not_make_it_young() {
    let scene = scene();
    scene.repository("a").start_upload(crate::oci::Algorithm::Sha256).unwrap();
    let expire = |scene: &Scene| scene.stores.expire_uploads().unwrap();
    scene.clock.set_by(YEARS);
    assert_eq!(expire(&scene), 0);
    scene.clock.advance(DELAY / 2);
    assert_eq!(expire(&scene), 0);
    scene.clock.set_by(-2 * YEARS / 3);
    let scene = scene.reopen();
    assert_eq!(expire(&scene), 0);
    scene.clock.advance(DELAY / 2 + SECOND);
    assert_eq!(expire(&scene), 1);
}

#[test]
fn the_steady_clock_is_stored_for_an_upload_alone() {
    let scene = scene();
    scene.repository("a").start_upload(crate::oci::Algorithm::Sha256).unwrap();
    let expire = |scene: &Scene| scene.stores.expire_uploads().unwrap();
    assert_eq!(expire(&scene), 0);
    scene.clock.advance(DELAY / 2);
    assert_eq!(expire(&scene), 0);
    scene.stores.write_steady_clock(true).unwrap();
    scene.clock.restart_machine();
    let scene = scene.reopen();
    assert_eq!(expire(&scene), 0);
    scene.clock.advance(DELAY / 2 + SECOND);
    assert_eq!(expire(&scene), 1);
}
