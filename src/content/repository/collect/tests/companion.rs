//! The tags of signatures: they go after their image has gone, and come back with it.

use super::*;
use crate::content::repository::TagChange;
use crate::oci::Algorithm;

const SUFFIXES: [&str; 4] = [".sig", ".att", ".sbom", ""];

fn tag_of(digest: Digest, suffix: &str) -> String {
    format!("sha256-{}{suffix}", digest.hex())
}

fn tags(repository: &Repository) -> Vec<String> {
    repository.tags("", 100).unwrap().tags
}

/// Signs a manifest as cosign does, and lists its referrers as clients do.
fn sign(repository: &Repository, digest: Digest) -> Vec<Digest> {
    let config = repository.push_blob(b"{}");
    let sign = |suffix: &&str| {
        let tag = tag_of(digest, suffix);
        if suffix.is_empty() {
            return repository.push_manifest(&index(&[], &tag), &[&tag]).unwrap();
        }
        let layer = repository.push_blob(tag.as_bytes());
        repository.push_manifest(&image(&[config, layer], None, &tag), &[&tag]).unwrap()
    };
    SUFFIXES.iter().map(sign).collect()
}

#[test]
fn signatures_are_collected_with_the_image_that_was_deleted() {
    let scene = scene();
    let repository = scene.repository("a");
    let (signed, _) = push_image(&repository, "signed", &["1"]);
    let (other, _) = push_image(&repository, "other", &["2"]);
    let signatures = sign(&repository, signed);
    sign(&repository, other);
    scene.clock.advance(2 * DELAY);
    assert_eq!(collect(&scene), Collected::default());

    repository.delete(&signed.to_string()).unwrap();
    scene.clock.advance(DELAY.saturating_sub(SECOND));
    assert_eq!(collect(&scene), Collected::default());
    scene.clock.advance(2 * SECOND);
    let collected = collect(&scene);
    assert_eq!((collected.tags, collected.manifests), (4, 4));
    assert!(!signatures.iter().any(|digest| repository.has_manifest(*digest)));
    assert_eq!(tags(&repository).len(), 5, "{:?}", tags(&repository));
}

#[test]
fn signatures_are_collected_with_an_image_that_was_collected() {
    let scene = scene();
    let repository = scene.repository("a");
    let (signed, _) = push_image(&repository, "signed", &["1"]);
    // A signature of the signature goes as well.
    let signatures = sign(&repository, signed);
    sign(&repository, signatures[0]);
    repository.delete("1").unwrap();
    scene.clock.advance(DELAY + SECOND);
    assert_eq!(collect(&scene).tags, 8);
    assert!(!repository.is_known().unwrap());
}

#[test]
fn a_signature_waits_for_an_image_that_has_not_come_yet() {
    let scene = scene();
    let repository = scene.repository("a");
    let blob = repository.push_blob(b"config");
    let bytes = image(&[blob], None, "late");
    let late = Digest::of(Algorithm::Sha256, bytes.as_bytes());
    sign(&repository, late);
    scene.clock.advance(2 * DELAY);
    collect(&scene);
    assert_eq!(tags(&repository).len(), 4);

    // One that comes back has its signatures, and one whose signatures come first keeps those.
    repository.push_blob(b"config");
    repository.push_manifest(&bytes, &["1"]).unwrap();
    repository.delete(&late.to_string()).unwrap();
    scene.clock.advance(DELAY.saturating_sub(SECOND));
    repository.delete(&tag_of(late, ".sig")).unwrap();
    sign(&repository, late);
    scene.clock.advance(2 * SECOND);
    collect(&scene);
    assert_eq!(tags(&repository).len(), 4, "a signature came just now");
    repository.push_blob(b"config");
    repository.push_manifest(&bytes, &["1"]).unwrap();
    scene.clock.advance(2 * DELAY);
    collect(&scene);
    assert_eq!(tags(&repository).len(), 5);
}

#[test]
fn signatures_stay_where_the_rules_keep_referrers() {
    let (repositories, retain) = (vec!["**".parse().unwrap()], Retain { untagged: false, referrers: true });
    let policy = RetentionPolicy { repositories, retain, ..Default::default() };
    let retention = Retention::new(vec![policy], false);
    let scene = Scene::new(Rules { tag_history: Duration::ZERO, retention, ..rules() });
    let repository = scene.repository("a");
    let (signed, _) = push_image(&repository, "signed", &["1"]);
    sign(&repository, signed);
    repository.delete(&signed.to_string()).unwrap();
    scene.clock.advance(2 * DELAY);
    collect(&scene);
    assert_eq!(tags(&repository).len(), 4);
}

#[test]
fn signatures_come_back_with_the_image_that_is_restored() {
    let scene = Scene::new(Rules { tag_history: 10 * DELAY, ..rules() });
    let repository = scene.repository("a");
    let (signed, _) = push_image(&repository, "signed", &["1"]);
    let signatures = sign(&repository, signed);
    repository.delete(&signed.to_string()).unwrap();
    scene.clock.advance(DELAY + SECOND);
    assert_eq!(collect(&scene).tags, 4);
    assert_eq!(tags(&repository), Vec::<String>::new());
    scene.clock.advance(8 * DELAY);
    collect(&scene);
    repository.restore_tag(&"1".parse().unwrap(), signed).unwrap();
    assert_eq!(tags(&repository).len(), 5);
    assert!(signatures.iter().all(|digest| repository.has_manifest(*digest)));
    scene.clock.advance(20 * DELAY);
    scene.stores.tidy_tags().unwrap();
    scene.clock.advance(2 * DELAY);
    collect(&scene);
    assert_eq!(tags(&repository).len(), 5);
}

#[test]
fn a_locked_signature_stays_until_it_is_unlocked() {
    let scene = scene();
    let repository = scene.repository("a");
    let (signed, _) = push_image(&repository, "signed", &["1"]);
    sign(&repository, signed);
    let tag: Tag = tag_of(signed, ".sig").parse().unwrap();
    let lock = |immutable| TagChange { immutable: Some(immutable), may_administer: true, ..TagChange::default() };
    repository.change_tag(&tag, lock(true)).unwrap();
    repository.delete(&signed.to_string()).unwrap();
    for _ in 0..2 {
        scene.clock.advance(DELAY + SECOND);
        collect(&scene);
        assert_eq!(tags(&repository), [tag.to_string()]);
    }
    repository.change_tag(&tag, lock(false)).unwrap();
    assert_eq!(collect(&scene).tags, 1);
    assert!(!repository.is_known().unwrap());
}
