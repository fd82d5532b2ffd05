//! Garbage collection removes what it must and nothing else: by cases, with a model, and with concurrent clients.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod companion;
mod cost;
mod deleted;
mod foreign;
mod model;
mod race;

use super::*;
use crate::content::repository::scene::{Scene, image, index, rules};
use crate::content::repository::{Repository, Retain, RetentionPolicy, Rules};

const DELAY: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);

/// Stores that keep no history, so that a tag that is gone names nothing.
fn scene() -> Scene {
    Scene::new(Rules { tag_history: Duration::ZERO, ..rules() })
}

fn collect(scene: &Scene) -> Collected {
    scene.stores.collect(None, scene.stores.delays(), &WorkProgress::default(), |_| ControlFlow::Continue(())).unwrap()
}

/// An image with two blobs of its own, under tags.
fn push_image(repository: &Repository, note: &str, tags: &[&str]) -> (Digest, [Digest; 2]) {
    let blobs = [format!("{note} config"), format!("{note} layer")].map(|blob| repository.push_blob(blob.as_bytes()));
    (repository.push_manifest(&image(&blobs, None, note), tags).unwrap(), blobs)
}

#[test]
fn a_blob_that_no_manifest_came_for_goes_after_the_delay_and_not_before() {
    let scene = scene();
    let repository = scene.repository("a");
    let blob = repository.push_blob(b"alone");
    scene.clock.advance(DELAY.saturating_sub(SECOND));
    assert_eq!(collect(&scene), Collected::default());
    assert!(scene.has_file(blob));
    scene.clock.advance(2 * SECOND);
    let collected = collect(&scene);
    assert_eq!((collected.links, collected.blobs, collected.bytes), (1, 1, 5));
    assert!(!scene.has_file(blob) && !repository.has_blob(blob));
    assert!(!repository.is_known().unwrap(), "a repository goes with the last of its content");
}

#[test]
fn a_manifest_goes_with_its_blobs_when_its_last_tag_has_gone() {
    let scene = scene();
    let repository = scene.repository("a");
    let (kept, kept_blobs) = push_image(&repository, "kept", &["kept"]);
    let (gone, gone_blobs) = push_image(&repository, "gone", &["one", "two"]);
    let shared = scene.repository("b");
    assert!(shared.mount(gone_blobs[0], |_| true).unwrap());
    let held = image(&[gone_blobs[0]], None, "shared");
    shared.push_manifest(&held, &["latest"]).unwrap();
    scene.clock.advance(2 * DELAY);
    assert_eq!(collect(&scene), Collected::default());

    repository.delete("one").unwrap();
    scene.clock.advance(2 * DELAY);
    assert_eq!(collect(&scene), Collected::default(), "another tag names it");

    repository.delete("two").unwrap();
    assert_eq!(collect(&scene), Collected::default(), "it has just become untagged");
    scene.clock.advance(DELAY + SECOND);
    let collected = collect(&scene);
    assert_eq!((collected.manifests, collected.links, collected.blobs), (1, 2, 1));
    assert!(!repository.has_manifest(gone) && repository.has_manifest(kept));
    assert!(kept_blobs.iter().all(|blob| scene.has_file(*blob)));
    assert!(scene.has_file(gone_blobs[0]), "another repository has it");
    assert!(!scene.has_file(gone_blobs[1]));
    assert_eq!(collect(&scene), Collected::default());
}

#[test]
fn what_a_tag_pointed_at_stays_as_long_as_it_can_be_brought_back() {
    let window = 10 * DELAY;
    let scene = Scene::new(Rules { tag_history: window, ..rules() });
    let repository = scene.repository("a");
    let (first, _) = push_image(&repository, "first", &["latest"]);
    push_image(&repository, "second", &["latest"]);
    scene.clock.advance(window.saturating_sub(SECOND));
    scene.stores.tidy_tags().unwrap();
    collect(&scene);
    assert!(repository.has_manifest(first));
    repository.restore_tag(&"latest".parse().unwrap(), first).unwrap();
    repository.delete("latest").unwrap();
    scene.clock.advance(window + SECOND);
    scene.stores.tidy_tags().unwrap();
    scene.clock.advance(DELAY + SECOND);
    collect(&scene);
    assert!(!repository.is_known().unwrap(), "nothing names anything any more");
}

#[test]
fn what_an_index_lists_goes_with_the_index_and_at_once() {
    let scene = scene();
    let repository = scene.repository("a");
    let (child, blobs) = push_image(&repository, "child", &[]);
    let list = repository.push_manifest(&index(&[child], "list"), &["latest"]).unwrap();
    scene.clock.advance(2 * DELAY);
    assert_eq!(collect(&scene), Collected::default());
    repository.delete("latest").unwrap();
    scene.clock.advance(DELAY + SECOND);
    assert_eq!(collect(&scene).manifests, 2);
    assert!(!repository.has_manifest(list) && !repository.has_manifest(child));
    assert!(!blobs.iter().any(|blob| scene.has_file(*blob)));
}

#[test]
fn a_referrer_stays_with_its_subject_and_goes_when_that_was_deleted() {
    let scene = scene();
    let repository = scene.repository("a");
    let (subject, blobs) = push_image(&repository, "subject", &["latest"]);
    let signature = repository.push_manifest(&image(&blobs[..1], Some(subject), "signature"), &[]).unwrap();
    let tagged = repository.push_manifest(&image(&blobs[..1], Some(subject), "tagged"), &["mine"]).unwrap();
    // A signature of a signature.
    let second = repository.push_manifest(&image(&blobs[..1], Some(signature), "second"), &[]).unwrap();
    scene.clock.advance(2 * DELAY);
    collect(&scene);
    scene.clock.advance(2 * DELAY);
    collect(&scene);
    assert!(repository.has_manifest(signature) && repository.has_manifest(second));

    repository.delete(&subject.to_string()).unwrap();
    collect(&scene);
    assert!(repository.has_manifest(signature), "the subject was deleted just now");
    scene.clock.advance(DELAY + SECOND);
    collect(&scene);
    assert!(!repository.has_manifest(signature) && !repository.has_manifest(second));
    assert!(repository.has_manifest(tagged), "it has a tag");
}

#[test]
fn a_referrer_waits_for_a_subject_that_has_not_come_yet() {
    let scene = scene();
    let repository = scene.repository("a");
    let blob = repository.push_blob(b"config");
    let subject = image(&[blob], None, "subject");
    let digest = Digest::of(crate::oci::Algorithm::Sha256, subject.as_bytes());
    let signature = repository.push_manifest(&image(&[blob], Some(digest), "early"), &[]).unwrap();
    scene.clock.advance(2 * DELAY);
    collect(&scene);
    scene.clock.advance(2 * DELAY);
    collect(&scene);
    assert!(repository.has_manifest(signature));
    // A subject that comes back before its referrers were collected keeps them.
    repository.push_manifest(&subject, &["latest"]).unwrap();
    repository.delete(&digest.to_string()).unwrap();
    scene.clock.advance(DELAY / 2);
    repository.push_manifest(&subject, &["latest"]).unwrap();
    scene.clock.advance(2 * DELAY);
    collect(&scene);
    assert!(repository.has_manifest(signature));
}

#[test]
fn what_the_rules_keep_stays() {
    let keeps = |untagged, referrers| {
        let repositories = vec!["kept".parse().unwrap()];
        let policy = RetentionPolicy { repositories, retain: Retain { untagged, referrers }, ..Default::default() };
        let retention = Retention::new(vec![policy], false);
        Scene::new(Rules { tag_history: Duration::ZERO, retention, ..rules() })
    };
    let scene = keeps(true, false);
    let (kept, other) = (scene.repository("kept"), scene.repository("other"));
    let (there, _) = push_image(&kept, "one", &[]);
    push_image(&other, "one", &[]);
    scene.clock.advance(2 * DELAY);
    collect(&scene);
    assert!(kept.has_manifest(there) && !other.is_known().unwrap());

    let scene = keeps(false, true);
    let kept = scene.repository("kept");
    let (subject, blobs) = push_image(&kept, "subject", &[]);
    let signature = kept.push_manifest(&image(&blobs[..1], Some(subject), "signature"), &[]).unwrap();
    kept.delete(&subject.to_string()).unwrap();
    scene.clock.advance(2 * DELAY);
    collect(&scene);
    assert!(kept.has_manifest(signature));
}

#[test]
fn untagged_manifests_have_a_delay_of_their_own() {
    let delays = Delays { blob: DELAY, untagged: 5 * DELAY };
    let scene = Scene::new(Rules { tag_history: Duration::ZERO, delays, ..rules() });
    let repository = scene.repository("a");
    let (manifest, blobs) = push_image(&repository, "one", &[]);
    let alone = repository.push_blob(b"alone");
    scene.clock.advance(2 * DELAY);
    collect(&scene);
    assert!(repository.has_manifest(manifest) && scene.has_file(blobs[0]) && !scene.has_file(alone));
    scene.clock.advance(4 * DELAY);
    collect(&scene);
    assert!(!repository.is_known().unwrap());
}

#[test]
fn a_rehearsal_says_what_a_collection_does_and_changes_nothing() {
    let scene = scene();
    let repository = scene.repository("a");
    let (child, _) = push_image(&repository, "child", &[]);
    repository.push_manifest(&index(&[child], "list"), &[]).unwrap();
    repository.push_blob(b"alone");
    scene.clock.advance(2 * DELAY);
    let DryRun { collected: said, is_part, .. } = scene.stores.dry_run_collection(scene.stores.delays(), None).unwrap();
    assert!(!is_part && repository.has_manifest(child));
    assert_eq!((said.manifests, said.links, said.blobs), (2, 3, 3));
    assert_eq!(collect(&scene), said);
}

#[test]
fn what_a_client_was_told_is_there_stays_although_it_was_due() {
    let scene = scene();
    let repository = scene.repository("a");
    let (asked, other) = (repository.push_blob(b"asked for"), repository.push_blob(b"not asked for"));
    let (manifest, _) = push_image(&repository, "untagged", &[]);
    scene.clock.advance(2 * DELAY);
    repository.blob_size(asked).unwrap();
    repository.manifest_info(&crate::oci::Reference::Digest(manifest)).unwrap();
    collect(&scene);
    assert!(scene.has_file(asked) && !scene.has_file(other) && repository.has_manifest(manifest));

    // Written down, the leases hold without those in memory.
    scene.stores.write_leases().unwrap();
    scene.stores.leases.forget(SteadyTime::from_micros(u64::MAX));
    scene.clock.advance(DELAY.saturating_sub(SECOND));
    collect(&scene);
    assert!(scene.has_file(asked) && repository.has_manifest(manifest));
    scene.clock.advance(2 * SECOND);
    collect(&scene);
    assert!(!repository.is_known().unwrap());
}

#[test]
fn what_a_client_was_told_is_there_stays_when_what_needed_it_goes() {
    let scene = scene();
    let repository = scene.repository("a");
    let (manifest, [asked, other]) = push_image(&repository, "one", &["latest"]);
    repository.delete("latest").unwrap();
    scene.clock.advance(2 * DELAY);
    // A manifest needs both: they are not unreferenced yet.
    repository.blob_size(asked).unwrap();
    collect(&scene);
    assert!(!repository.has_manifest(manifest) && !scene.has_file(other));
    repository.push_manifest(&image(&[asked], None, "two"), &["latest"]).unwrap();
}

#[test]
fn a_collection_can_be_broken_off_and_goes_on_later() {
    let scene = scene();
    let repository = scene.repository("a");
    let blobs: Vec<_> = (0..2 * STEP).map(|n| repository.push_blob(format!("blob {n}").as_bytes())).collect();
    scene.clock.advance(2 * DELAY);
    let some = scene
        .stores
        .collect(None, scene.stores.delays(), &WorkProgress::default(), |_| ControlFlow::Break(()))
        .unwrap();
    assert_eq!(some.blobs, STEP as u64);
    assert_eq!(collect(&scene).blobs, STEP as u64);
    assert!(!blobs.iter().any(|blob| scene.has_file(*blob)));
    assert!(!scene.stores.has_leftover_files().unwrap());
}

#[test]
fn files_that_somebody_counts_on_go_later() {
    let scene = scene();
    let repository = scene.repository("a");
    let blob = repository.push_blob(b"blob");
    let counting = scene.stores.files.read();
    repository.delete_blob(blob).unwrap();
    scene.stores.remove_leftover_files().unwrap();
    assert!(scene.has_file(blob) && scene.stores.has_leftover_files().unwrap());
    drop(counting);
    scene.stores.remove_leftover_files().unwrap();
    assert!(!scene.has_file(blob) && !scene.stores.has_leftover_files().unwrap());
}

#[test]
fn a_deleted_blob_that_is_pushed_again_keeps_its_file() {
    let scene = scene();
    let repository = scene.repository("a");
    let blob = repository.push_blob(b"blob");
    let counting = scene.stores.files.read();
    repository.delete_blob(blob).unwrap();
    repository.push_blob(b"blob");
    drop(counting);
    scene.stores.remove_leftover_files().unwrap();
    assert!(scene.has_file(blob) && repository.has_blob(blob));
}
