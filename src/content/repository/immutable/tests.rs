//! Every way to move or remove an immutable tag is refused with the reason.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use super::*;
use crate::content::repository::scene::{Scene, image, rules};
use crate::content::repository::{Expiry, KeepTags, Repository, Retention, RetentionPolicy, Rules, TagChange};

fn all() -> Vec<RepositoryPattern> {
    vec!["**".parse().unwrap()]
}

/// Tags that begin with v are immutable by a rule, and retention keeps no tag.
fn scene() -> Scene {
    let tags = TagRule::default().with_immutable(&["v*".to_owned(), "sha256-*".to_owned()]).unwrap();
    let rule = ImmutableRule { name: "releases".to_owned(), repositories: all(), tags };
    let keep_tags = vec![KeepTags { patterns: vec![TagRule::new("^none$", "", false).unwrap()], ..Default::default() }];
    let policy = RetentionPolicy { repositories: all(), keep_tags, ..Default::default() };
    let (immutable, retention) = (ImmutableTags::new(vec![rule]), Retention::new(vec![policy], false));
    Scene::new(Rules { retention, immutable, ..rules() })
}

fn push(repository: &Repository, note: &str, tag: &str) -> Result<Digest, Error> {
    let config = repository.push_blob(b"{}");
    repository.push_manifest(&image(&[config], None, note), &[tag])
}

fn lock(repository: &Repository, tag: &str, immutable: bool) -> Result<(), Error> {
    let change = TagChange { immutable: Some(immutable), may_administer: true, ..TagChange::default() };
    repository.change_tag(&tag.parse().unwrap(), change)
}

/// Asserts that every way to move or remove a tag is refused with the reason.
fn assert_immutable(scene: &Scene, repository: &Repository, tag: &str, digest: Digest, other: Digest, why: &str) {
    let parsed: Tag = tag.parse().unwrap();
    assert_eq!(push(repository, "first", tag).unwrap(), digest, "the same manifest may be pushed again");
    let rights = TagChange { may_create: true, may_move: true, may_delete: true, ..TagChange::default() };
    let expires = Expiry::At(scene.clock.now().after(Duration::from_hours(1)));
    for (what, result) in [
        ("push", push(repository, "other", tag).map(drop)),
        ("delete", repository.delete(tag)),
        ("delete by digest", repository.delete(&digest.to_string())),
        ("move", repository.change_tag(&parsed, TagChange { digest: Some(other), ..rights })),
        ("expire", repository.change_tag(&parsed, TagChange { expires, ..rights })),
        ("restore", repository.restore_tag(&parsed, other).map(drop)),
        ("discard", repository.discard_tag(&parsed, None)),
        ("remove the repository", repository.remove()),
    ] {
        let error = result.expect_err(what).to_string();
        assert!(error.starts_with(&format!("the tag {tag} is {why}")), "{what}: {error}");
    }
    repository.change_tag(&parsed, TagChange { digest: Some(digest), ..rights }).unwrap();
    let retained = repository.retain_tags(&|_| std::ops::ControlFlow::Continue(())).unwrap();
    assert!(retained.kept > 0, "retention keeps it");
    let planned = repository.planned_tags(std::slice::from_ref(&parsed)).unwrap();
    assert_eq!(planned[0].decision.reason.to_string(), format!("is {why}"));
}

#[test]
fn a_tag_that_a_rule_matches_can_be_created_and_not_changed() {
    let scene = scene();
    let repository = scene.repository("a");
    let other = push(&repository, "other", "moving").unwrap();
    let digest = push(&repository, "first", "v1").unwrap();
    assert_immutable(&scene, &repository, "v1", digest, other, "immutable by the rule \"releases\"");
    // A lock adds nothing to a rule, and removing it takes nothing away.
    assert!(matches!(lock(&repository, "v1", false), Err(Error::TagImmutable { by: Immutable::Rule(_), .. })));
    // Signing an image again moves the tag of the signature.
    let signature = format!("sha256-{}.sig", digest.hex());
    push(&repository, "one", &signature).unwrap();
    push(&repository, "two", &signature).unwrap();
    let other = push(&repository, "third", "w").unwrap();
    repository.delete(&other.to_string()).unwrap();
}

#[test]
fn a_locked_tag_changes_only_after_it_is_unlocked() {
    let scene = scene();
    let repository = scene.repository("a");
    let other = push(&repository, "other", "moving").unwrap();
    let digest = push(&repository, "first", "w1").unwrap();
    let tag: Tag = "w1".parse().unwrap();
    let expires = Expiry::At(scene.clock.now().after(Duration::from_hours(1)));
    repository.change_tag(&tag, TagChange { expires, may_delete: true, ..TagChange::default() }).unwrap();
    lock(&repository, "w1", true).unwrap();
    scene.clock.advance(Duration::from_hours(2));
    scene.stores.tidy_tags().unwrap();
    assert_immutable(&scene, &repository, "w1", digest, other, "locked");
    // A restart keeps the lock.
    drop(repository);
    let scene = scene.reopen();
    let repository = scene.repository("a");
    assert_immutable(&scene, &repository, "w1", digest, other, "locked");
    let denied = TagChange { immutable: Some(false), may_move: true, ..TagChange::default() };
    assert!(matches!(repository.change_tag(&tag, denied), Err(Error::NotGranted { .. })));
    lock(&repository, "w1", false).unwrap();
    push(&repository, "other", "w1").unwrap();
    repository.delete("w1").unwrap();
}

#[test]
fn a_tag_with_an_expiration_stays_if_a_later_rule_matches_it() {
    let scene = scene();
    let repository = scene.repository("a");
    push(&repository, "first", "v1").unwrap();
    let (name, tag): (RepositoryName, Tag) = ("a".parse().unwrap(), "v1".parse().unwrap());
    let attributes = rows::TagAttributes { expires: Some(scene.clock.now()), ..Default::default() };
    let change = move |tx: &mut rows::WriteTx| tx.set_tag_attributes(&name, &tag, &attributes);
    scene.stores.database.write(change).unwrap();
    assert_eq!(scene.stores.tidy_tags().unwrap().tags, 0);
    assert!(!scene.stores.is_tidying_due().unwrap(), "the expiration is gone");
    repository.manifest_info(&crate::oci::Reference::Tag("v1".parse().unwrap())).unwrap();
}
