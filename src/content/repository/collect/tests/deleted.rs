//! Manifests that were deleted by digest: hidden, kept, restored, forgotten.

use super::*;
use crate::content::rows::Findings;
use crate::oci::{Algorithm, Reference};

const WINDOW: Duration = Duration::from_hours(24);

fn scene() -> Scene {
    Scene::new(Rules { tag_history: WINDOW, ..rules() })
}

fn is_served(repository: &Repository, digest: Digest) -> bool {
    repository.manifest(&Reference::Digest(digest)).is_ok()
}

fn assert_rows_agree(scene: &Scene) {
    let mut findings = Findings::default();
    scene.stores.database.read(|tx| tx.verify_repository(&"a".parse().unwrap(), &mut findings)).unwrap();
    assert!(findings.derived.is_empty() && findings.lost.is_empty(), "{findings:?}");
}

fn collect_all(scene: &Scene) -> Collected {
    scene
        .stores
        .collect(None, Delays::all(Duration::ZERO), &WorkProgress::default(), |_| ControlFlow::Continue(()))
        .unwrap()
}

#[test]
fn a_manifest_that_was_deleted_by_digest_is_kept_for_the_history_and_not_longer() {
    let scene = scene();
    let repository = scene.repository("a");
    let (tagged, tagged_blobs) = push_image(&repository, "tagged", &["1", "2"]);
    let (untagged, untagged_blobs) = push_image(&repository, "untagged", &[]);
    for digest in [tagged, untagged] {
        repository.delete(&digest.to_string()).unwrap();
        assert!(!is_served(&repository, digest));
        assert!(matches!(repository.delete(&digest.to_string()), Err(Error::ManifestUnknown { .. })));
    }
    assert_rows_agree(&scene);
    assert_eq!(collect_all(&scene), Collected::default());
    assert_eq!(repository.deleted(None, 10).unwrap().0.len(), 2);
    scene.clock.advance(WINDOW.saturating_sub(SECOND));
    scene.stores.tidy_tags().unwrap();
    assert_eq!(collect_all(&scene), Collected::default());

    repository.restore_tag(&"1".parse().unwrap(), tagged).unwrap();
    repository.restore_manifest(untagged).unwrap();
    assert!(is_served(&repository, tagged) && is_served(&repository, untagged));
    for blob in tagged_blobs.iter().chain(&untagged_blobs) {
        assert!(matches!(repository.delete_blob(*blob), Err(Error::BlobReferenced { .. })));
    }
    assert_rows_agree(&scene);

    // Deleted again, they go when their time is over.
    for digest in [tagged, untagged] {
        repository.delete(&digest.to_string()).unwrap();
    }
    scene.clock.advance(WINDOW + SECOND);
    let refused = repository.restore_manifest(untagged);
    assert!(matches!(refused, Err(Error::ManifestUnknown { .. })), "{refused:?}");
    assert_eq!(repository.deleted(None, 10).unwrap().0, []);
    scene.stores.tidy_tags().unwrap();
    assert_eq!(collect(&scene), Collected::default(), "the usual delay comes after the history");
    assert_rows_agree(&scene);
    scene.clock.advance(DELAY + SECOND);
    let collected = collect(&scene);
    assert_eq!((collected.manifests, collected.blobs), (2, 4));
    assert!(!repository.is_known().unwrap());
    let refused = repository.restore_tag(&"1".parse().unwrap(), tagged);
    assert!(matches!(refused, Err(Error::TagPastUnknown { .. })), "{refused:?}");
}

#[test]
fn a_deleted_manifest_can_be_given_any_tag() {
    let scene = scene();
    let repository = scene.repository("a");
    let (digest, _) = push_image(&repository, "untagged", &[]);
    let tag = "new".parse().unwrap();
    assert!(matches!(repository.restore_tag(&tag, digest), Err(Error::TagPastUnknown { .. })), "it is there");
    repository.delete(&digest.to_string()).unwrap();
    assert_eq!(repository.restore_tag(&tag, digest).unwrap(), None);
    assert_eq!(repository.manifest_info(&Reference::Tag(tag)).unwrap().digest, digest);
    assert_rows_agree(&scene);
}

#[test]
fn a_deleted_index_comes_back_with_what_it_lists() {
    let scene = scene();
    let repository = scene.repository("a");
    let (one, blobs) = push_image(&repository, "one", &[]);
    let (two, _) = push_image(&repository, "two", &[]);
    let inner = repository.push_manifest(&index(&[two], "inner"), &[]).unwrap();
    let list = repository.push_manifest(&index(&[one, inner], "list"), &["latest"]).unwrap();
    let referenced = repository.delete(&one.to_string());
    assert!(matches!(referenced, Err(Error::ManifestReferenced { .. })));
    // From the top, as clients must.
    for digest in [list, inner, one, two] {
        repository.delete(&digest.to_string()).unwrap();
        assert_rows_agree(&scene);
    }
    scene.clock.advance(2 * DELAY);
    assert_eq!(collect_all(&scene), Collected::default());
    repository.restore_tag(&"latest".parse().unwrap(), list).unwrap();
    assert!([list, inner, one, two].iter().all(|digest| is_served(&repository, *digest)));
    assert_rows_agree(&scene);

    // A blob that a client deletes is gone, and with it the image.
    for digest in [list, one] {
        repository.delete(&digest.to_string()).unwrap();
    }
    repository.delete_blob(blobs[1]).unwrap();
    assert_rows_agree(&scene);
    let refused = repository.restore_tag(&"latest".parse().unwrap(), list);
    assert!(
        matches!(&refused, Err(Error::ManifestContentMissing { missing }) if *missing == [blobs[1]]),
        "{refused:?}"
    );
    assert_eq!(
        refused.unwrap_err().to_string(),
        format!("the manifest references 1 blob or manifest that the repository does not have: {}", blobs[1])
    );
    assert!(!is_served(&repository, list) && !is_served(&repository, one));
    repository.push_blob(b"one layer");
    repository.restore_tag(&"latest".parse().unwrap(), list).unwrap();
    assert!(is_served(&repository, one));
    assert_rows_agree(&scene);
}

#[test]
fn a_deleted_manifest_that_is_pushed_again_is_as_it_was() {
    let scene = scene();
    let repository = scene.repository("a");
    let (subject, blobs) = push_image(&repository, "subject", &["latest"]);
    let bytes = image(&blobs, Some(subject), "signature");
    let signature = repository.push_manifest(&bytes, &[]).unwrap();
    repository.delete(&signature.to_string()).unwrap();
    let listed = |repository: &Repository| {
        let page =
            repository.referrers(subject, &[], crate::content::repository::ReferrerCursor::default(), None).unwrap();
        String::from_utf8(page.descriptors).unwrap().contains(&signature.to_string())
    };
    assert!(!listed(&repository));
    repository.push_manifest(&bytes, &[]).unwrap();
    assert!(listed(&repository) && is_served(&repository, signature));
    assert_rows_agree(&scene);
    repository.delete(&subject.to_string()).unwrap();
    scene.clock.advance(2 * DELAY);
    collect(&scene);
    assert!(is_served(&repository, signature), "its subject can be restored");
    scene.clock.advance(WINDOW);
    scene.stores.tidy_tags().unwrap();
    scene.clock.advance(2 * DELAY);
    collect(&scene);
    collect_all(&scene);
    assert!(!repository.is_known().unwrap());
}

#[test]
fn an_index_that_is_pushed_needs_its_deleted_children_again() {
    let scene = scene();
    let repository = scene.repository("a");
    let (child, _) = push_image(&repository, "child", &[]);
    repository.delete(&child.to_string()).unwrap();
    let refused = repository.push_manifest(&index(&[child], "list"), &["latest"]);
    assert!(matches!(refused, Err(Error::ManifestContentMissing { .. })), "{refused:?}");
    // An index that was deleted as well is no other.
    push_image(&repository, "child", &[]);
    let list = repository.push_manifest(&index(&[child], "list"), &["latest"]).unwrap();
    for digest in [list, child] {
        repository.delete(&digest.to_string()).unwrap();
    }
    let refused = repository.push_manifest(&index(&[child], "list"), &["latest"]);
    assert!(matches!(refused, Err(Error::ManifestContentMissing { .. })), "{refused:?}");
    assert!(!is_served(&repository, child) && !is_served(&repository, list));
    push_image(&repository, "child", &[]);
    repository.push_manifest(&index(&[child], "list"), &["latest"]).unwrap();
    assert!(is_served(&repository, child) && is_served(&repository, list));
    assert_rows_agree(&scene);
}

#[test]
fn without_a_history_a_manifest_is_gone_at_once() {
    let scene = super::scene();
    let repository = scene.repository("a");
    let (digest, blobs) = push_image(&repository, "image", &["latest"]);
    repository.delete(&digest.to_string()).unwrap();
    assert!(repository.restore_manifest(digest).is_err());
    assert_eq!(collect_all(&scene).blobs, 2);
    assert!(!blobs.iter().any(|blob| scene.has_file(*blob)));
}

#[test]
fn a_deleted_manifest_goes_with_its_repository_and_when_its_tag_is_forgotten() {
    let scene = scene();
    let repository = scene.repository("a");
    let (digest, _) = push_image(&repository, "image", &["latest"]);
    repository.delete(&digest.to_string()).unwrap();
    repository.forget_past(&"latest".parse().unwrap(), Some(digest)).unwrap();
    assert!(repository.restore_manifest(digest).is_err());
    assert_rows_agree(&scene);
    assert_eq!(collect_all(&scene).blobs, 2);

    let (digest, _) = push_image(&repository, "image", &["latest"]);
    repository.delete(&digest.to_string()).unwrap();
    repository.remove().unwrap();
    assert!(repository.restore_manifest(digest).is_err());
    assert_rows_agree(&scene);
    assert!(!scene.has_file(Digest::of(Algorithm::Sha256, b"image layer")));
}

#[test]
fn history_is_purged_of_one_repository_or_of_all_and_a_rehearsal_says_so() {
    let scene = scene();
    let (repository, other) = (scene.repository("a"), scene.repository("b"));
    for repository in [&repository, &other] {
        push_image(repository, "moved", &["latest"]);
        let (deleted, _) = push_image(repository, "deleted", &["latest"]);
        let (kept, _) = push_image(repository, "kept", &["latest"]);
        repository.delete(&deleted.to_string()).unwrap();
        assert!(is_served(repository, kept));
    }
    scene.clock.advance(DELAY / 2);
    let name: crate::oci::RepositoryName = "a".parse().unwrap();
    let of_one = Purge::Repository(name.clone());
    let delays = scene.stores.delays();
    let said = scene.stores.dry_run_collection(delays, Some(&of_one)).unwrap();
    assert_eq!((said.purged, said.collected.manifests), (3, 0), "the usual delay holds");
    scene.clock.advance(DELAY / 2 + SECOND);
    let said = scene.stores.dry_run_collection(delays, Some(&of_one)).unwrap();
    assert_eq!((said.purged, said.collected.manifests, said.collected.links), (3, 2, 4));
    let said = scene.stores.dry_run_collection(delays, Some(&Purge::All)).unwrap();
    assert_eq!((said.purged, said.collected.manifests, said.collected.blobs), (6, 4, 4));

    let go_on = |_| ControlFlow::Continue(());
    assert_eq!(scene.stores.purge_history(Some(&name), go_on).unwrap(), 3);
    assert_eq!(collect(&scene).manifests, 2);
    assert_rows_agree(&scene);
    assert_eq!(other.deleted(None, 10).unwrap().0.len(), 1);
    assert_eq!(scene.stores.purge_history(None, go_on).unwrap(), 3);
    assert_eq!(collect(&scene).blobs, 4);
    assert_eq!(other.deleted(None, 10).unwrap().0, []);
}

#[test]
fn a_deleted_manifest_whose_bytes_are_damaged_is_repaired_by_pushing_it_again() {
    let scene = scene();
    let repository = scene.repository("a");
    let (digest, blobs) = push_image(&repository, "one", &["1"]);
    repository.delete(&digest.to_string()).unwrap();
    scene.stores.database.write(move |tx| tx.repair_manifest(&"a".parse().unwrap(), digest, b"damaged")).unwrap();
    assert!(matches!(repository.restore_manifest(digest), Err(Error::Corrupt { .. })));
    assert_eq!(repository.push_manifest(&image(&blobs, None, "one"), &["1"]).unwrap(), digest);
    assert!(is_served(&repository, digest));
    assert_rows_agree(&scene);
}
