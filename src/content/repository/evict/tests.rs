//! Eviction keeps the limit, and never takes what is not the mirror's.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::*;
use crate::content::repository::scene::{Scene, image, index, rules};
use crate::content::repository::{Held, PutMirrored, Repository, Rules, TagChange};
use crate::content::rows::Findings;
use crate::oci::{Algorithm, MediaType, Reference};

const SECOND: Duration = Duration::from_secs(1);
/// Manifests are much smaller, as in practice.
const LAYER: usize = 100_000;

/// Stores without a history, so that the target of a moved tag is not kept.
fn scene() -> Scene {
    Scene::new(Rules { tag_history: Duration::ZERO, ..rules() })
}

/// Stores a blob as the mirror does when it arrives.
async fn fetch_blob(repository: &Repository, bytes: &[u8]) -> Digest {
    let digest = Digest::of(Algorithm::Sha256, bytes);
    let mut upload = repository.mirror_upload(digest).await.unwrap();
    upload.append(&[Bytes::copy_from_slice(bytes)]).unwrap();
    upload.verify(digest).unwrap();
    upload.finish_mirrored(digest).unwrap();
    digest
}

fn fetch_manifest(repository: &Repository, manifest: &str, media_type: &str, tag: Option<&str>) -> Digest {
    let digest = Digest::of(Algorithm::Sha256, manifest.as_bytes());
    let put = PutMirrored {
        digest,
        tag: tag.map(|tag| tag.parse().unwrap()),
        media_type: media_type.parse().unwrap(),
        bytes: Bytes::from(manifest.to_owned()),
        upstream: "a.example".to_owned(),
    };
    repository.put_mirrored(put).unwrap();
    digest
}

/// An image with a layer of [`LAYER`] bytes, all of it mirrored, one second younger than the one before.
async fn fetch_image(scene: &Scene, repository: &Repository, note: &str) -> (Digest, Digest) {
    scene.clock.advance(SECOND);
    let layer = layer(note);
    let digest = Digest::of(Algorithm::Sha256, &layer);
    let config = Digest::of(Algorithm::Sha256, note.as_bytes());
    let manifest =
        fetch_manifest(repository, &image(&[config, digest], None, note), MediaType::OCI_MANIFEST, Some(note));
    fetch_blob(repository, &layer).await;
    (manifest, digest)
}

fn layer(note: &str) -> Vec<u8> {
    note.bytes().cycle().take(LAYER).collect()
}

fn evict_to(scene: &Scene, target: u64) -> Evicted {
    let goal = Goal::AtMost { limit: target, target };
    scene.stores.evict(goal, &|_| true, false, &|_| ControlFlow::Continue(())).unwrap()
}

fn assert_rows_agree(scene: &Scene, names: &[&str]) {
    let mut findings = Findings::default();
    let database = &scene.stores.database;
    for name in names {
        database.read(|rows| rows.verify_repository(&name.parse().unwrap(), &mut findings)).unwrap();
    }
    assert!(findings.lost.is_empty() && findings.derived.is_empty(), "{findings:?}");
}

#[tokio::test]
async fn the_least_recently_used_blobs_go_and_tags_stay() {
    let scene = scene();
    let repository = scene.repository("a");
    let mut images = Vec::new();
    for note in ["1", "2", "3", "4"] {
        images.push(fetch_image(&scene, &repository, note).await);
    }
    // The first one is used again, as a manifest; the second one as a blob.
    scene.clock.advance(SECOND);
    repository.note_use(images[0].0);
    repository.note_use(images[1].1);
    let held = evict_to(&scene, u64::MAX).held;
    assert_eq!((held.blobs, held.blob_bytes, held.manifests), (4, 400_000, 4));
    let evicted = evict_to(&scene, held.bytes() - 100_001);
    assert_eq!((evicted.blobs, evicted.bytes, evicted.manifests), (2, 200_000, 0));
    let kept: Vec<_> = images.iter().map(|(_, layer)| scene.has_file(*layer)).collect();
    assert_eq!(kept, [true, true, false, false]);
    for (number, (manifest, layer)) in images.iter().enumerate() {
        let tag = Reference::Tag((number + 1).to_string().parse().unwrap());
        assert_eq!(repository.held(&tag).unwrap(), Held::Mirrored(*manifest));
        assert_eq!(repository.has_blob(*layer), kept[number]);
    }
    assert_rows_agree(&scene, &["a"]);
    // It comes again, and is the youngest.
    fetch_blob(&repository, &layer("3")).await;
    assert!(scene.has_file(images[2].1));
    let evicted = evict_to(&scene, evicted.held.bytes());
    assert_eq!(evicted.blobs, 1);
    assert!(scene.has_file(images[2].1));
    assert_rows_agree(&scene, &["a"]);
}

#[tokio::test]
async fn what_was_pushed_stays_wherever_it_is_referenced() {
    let scene = scene();
    let (mirror, own) = (scene.repository("mirror"), scene.repository("own"));
    let (_, shared) = fetch_image(&scene, &mirror, "shared").await;
    let (_, mounted) = fetch_image(&scene, &mirror, "mounted").await;
    let (adopted, adopted_layer) = fetch_image(&scene, &mirror, "adopted").await;
    let (_, pushed_again) = fetch_image(&scene, &mirror, "pushed-again").await;
    let (_, gone) = fetch_image(&scene, &mirror, "gone").await;
    own.push_blob(&layer("shared"));
    own.push_manifest(&image(&[shared], None, "own"), &["1"]).unwrap();
    assert!(own.mount(mounted, |_| true).unwrap());
    fetch_blob(&mirror, b"adopted").await;
    let config = Digest::of(Algorithm::Sha256, b"adopted");
    mirror.push_manifest(&image(&[config, adopted_layer], None, "adopted"), &["adopted"]).unwrap();
    mirror.push_blob(&layer("pushed-again"));
    // A manifest that was pushed here and has an index around it that was mirrored.
    let pushed = mirror.push_blob(b"pushed config");
    let pushed_manifest = mirror.push_manifest(&image(&[pushed], None, "pushed"), &[]).unwrap();
    fetch_manifest(&mirror, &index(&[pushed_manifest], "index"), MediaType::OCI_INDEX, Some("index"));
    // A signature of a mirrored image that was pushed here.
    let (signed, _) = fetch_image(&scene, &mirror, "signed").await;
    let signature = mirror.push_manifest(&image(&[pushed], Some(signed), "signature"), &[]).unwrap();
    // Leases expire, and only then everything else goes.
    scene.clock.advance(Duration::from_hours(2));
    let evicted = evict_to(&scene, 0);
    assert!(!scene.has_file(gone), "{evicted:?}");
    for (what, blob) in [
        ("referenced in another repository", shared),
        ("mounted in another repository", mounted),
        ("referenced by a manifest that was pushed over a mirrored one", adopted_layer),
        ("pushed over a mirrored blob", pushed_again),
        ("pushed", pushed),
    ] {
        assert!(scene.has_file(blob), "{what}: {evicted:?}");
    }
    for manifest in [adopted, pushed_manifest, signed, signature] {
        assert!(mirror.has_manifest(manifest), "{manifest}");
    }
    assert_eq!(mirror.held(&Reference::Tag("index".parse().unwrap())).unwrap(), Held::Nothing);
    assert_rows_agree(&scene, &["mirror", "own"]);
    assert_eq!(evict_to(&scene, 0).bytes, 0);
}

#[tokio::test]
async fn leases_of_pushing_clients_count_and_those_of_pulls_do_not() {
    let scene = scene();
    let repository = scene.repository("a");
    let (_, asked) = fetch_image(&scene, &repository, "asked").await;
    let (_, read) = fetch_image(&scene, &repository, "read").await;
    repository.blob_size(asked).unwrap();
    repository.open_blob(read).unwrap();
    let evicted = evict_to(&scene, 0);
    assert_eq!((evicted.blobs, scene.has_file(asked), scene.has_file(read)), (1, true, false));
    scene.clock.advance(Duration::from_hours(2));
    assert_eq!(evict_to(&scene, 0).blobs, 1);
}

#[tokio::test]
async fn manifests_go_only_if_they_exceed_their_share() {
    let scene = scene();
    let repository = scene.repository("a");
    let (_, layer) = fetch_image(&scene, &repository, "with-layer").await;
    for number in 0..20 {
        scene.clock.advance(SECOND);
        let note = format!("n{number}");
        let config = Digest::of(Algorithm::Sha256, note.as_bytes());
        fetch_manifest(&repository, &image(&[config], None, &note), MediaType::OCI_MANIFEST, Some(&note));
    }
    repository.note_use(layer);
    let held = evict_to(&scene, u64::MAX).held;
    let target = held.bytes() - 1000;
    let evicted = evict_to(&scene, target);
    assert_eq!((evicted.manifests, evicted.blobs), (0, 1), "manifests are less than their share: {evicted:?}");
    let target = evicted.held.bytes() - 3000;
    let evicted = evict_to(&scene, target);
    assert!(evicted.manifests > 5 && evicted.tags == evicted.manifests, "{evicted:?}");
    assert!(evicted.held.bytes() <= target && evicted.held.manifests > 5, "{evicted:?}");
    assert_eq!(repository.held(&Reference::Tag("n0".parse().unwrap())).unwrap(), Held::Nothing);
    assert!(matches!(repository.held(&Reference::Tag("n19".parse().unwrap())).unwrap(), Held::Mirrored(_)));
    assert_rows_agree(&scene, &["a"]);
    assert_eq!(evict_to(&scene, 0).held, Holdings::default());
    assert!(!repository.is_known().unwrap(), "a repository goes with the last of its content");
}

#[tokio::test]
async fn a_blob_that_cannot_stay_does_not_displace_the_others() {
    let scene = scene();
    let repository = scene.repository("a");
    let (_, small) = fetch_image(&scene, &repository, "small").await;
    scene.clock.advance(SECOND);
    let large = fetch_blob(&repository, &vec![7; 5_000_000]).await;
    let evicted = evict_to(&scene, 1_000_000);
    assert_eq!((evicted.blobs, scene.has_file(small), scene.has_file(large)), (1, true, false));
}

#[tokio::test]
async fn a_blob_of_several_mirrored_repositories_counts_once_and_goes_once() {
    let scene = scene();
    let (a, b) = (scene.repository("a"), scene.repository("b"));
    let (_, blob) = fetch_image(&scene, &a, "x").await;
    assert!(b.link_mirrored(blob).unwrap());
    assert_eq!(evict_to(&scene, u64::MAX).held.blobs, 1);
    // Only repositories of the limit count.
    let goal = Goal::AtMost { limit: 0, target: 0 };
    let only = |wanted: &'static str| move |name: &RepositoryName| name.as_str() == wanted;
    let evict =
        |includes: Includes<'_>, dry| scene.stores.evict(goal, includes, dry, &|_| ControlFlow::Continue(())).unwrap();
    assert_eq!(evict(&only("c"), false), Evicted::default());
    let planned = evict(&only("b"), true);
    assert_eq!((planned.blobs, planned.bytes, scene.has_file(blob)), (1, 100_000, true));
    b.note_use(blob);
    let evicted = evict(&only("b"), false);
    assert_eq!((evicted.blobs, evicted.bytes, scene.has_file(blob)), (1, 100_000, false));
    assert!(!a.has_blob(blob) && !b.has_blob(blob));
    assert_rows_agree(&scene, &["a", "b"]);
}

#[tokio::test]
async fn a_cancelled_eviction_has_done_its_steps_and_more_candidates_than_one_survey_go_too() {
    let scene = scene();
    let repository = scene.repository("a");
    for number in 0..100 {
        fetch_blob(&repository, format!("blob {number}").as_bytes()).await;
    }
    let goal = Goal::AtMost { limit: 0, target: 0 };
    let is_survey_done = AtomicBool::new(false);
    let once = |_| {
        // The first call comes after the only step of the survey.
        if is_survey_done.swap(true, Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let evicted = scene.stores.evict(goal, &|_| true, false, &once).unwrap();
    assert_eq!(evicted.blobs, STEP as u64);
    assert_eq!(evict_to(&scene, 0).blobs, 100 - STEP as u64);
    assert!(scene.stores.evict(Goal::Free(10), &|_| true, false, &|_| ControlFlow::Continue(())).unwrap().bytes == 0);
}

#[tokio::test]
async fn a_manifest_with_a_locked_tag_stays() {
    let scene = scene();
    let repository = scene.repository("a");
    let (locked, _) = fetch_image(&scene, &repository, "locked").await;
    let (other, _) = fetch_image(&scene, &repository, "other").await;
    let change = TagChange { immutable: Some(true), ..TagChange::default() };
    repository.change_tag(&"locked".parse().unwrap(), change).unwrap();
    scene.clock.advance(SECOND);
    evict_to(&scene, 0);
    assert!(repository.has_manifest(locked) && !repository.has_manifest(other));
    assert_eq!(repository.tags("", 10).unwrap().tags, ["locked"]);
}
