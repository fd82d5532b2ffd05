//! The use of the disk, and the count of what a collection frees after any history.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::content::repository::scene::{Scene, image, index, rules};
use crate::content::repository::{Goal, PutMirrored, Repository, Rules, WorkProgress};
use crate::oci::{Algorithm, Digest, MediaType};

const HISTORIES: u64 = 40;
const OPERATIONS: usize = 60;
const REPOSITORIES: [&str; 2] = ["a", "b/c"];
const TAGS: [&str; 3] = ["one", "two", "three"];

#[test]
fn every_blob_is_stored_once_and_counted_for_each_repository() {
    let scene = Scene::new(rules());
    let repository = scene.repository("a");
    let config = repository.push_blob(b"{}");
    let layer = repository.push_blob(&[1; 1000]);
    repository.push_manifest(&image(&[config, layer], None, "1"), &["1"]).unwrap();
    scene.repository("b").mount(layer, |_| true).unwrap();
    repository.push_blob(&[2; 100]);
    let mut upload = repository.open_upload(Algorithm::Sha256).unwrap();
    upload.append(&[Bytes::from_static(&[0; 50])]).unwrap();
    let usage = scene.stores.disk_use().unwrap();
    assert_eq!((usage.repositories, usage.blobs), (2, 3));
    assert_eq!((usage.logical, usage.stored, usage.shared), (2102, 1102, 1000));
    // The link of b to the layer is unreferenced too, but a needs the layer.
    assert_eq!((usage.unreferenced, usage.uploads, usage.upload_bytes), (100, 1, 50));
    assert!(!usage.is_part);
    let of = |name| scene.stores.repository_use(&scene.repository(name).name).unwrap();
    assert_eq!((of("a").logical, of("a").unique, of("b").logical, of("b").unique), (1102, 102, 1000, 0));
}

fn blob(number: u32) -> Vec<u8> {
    format!("blob {number}").into_bytes()
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

/// An image with two blobs.
fn image_of(number: u32) -> String {
    image(&[digest_of(&blob(number)), digest_of(&blob(number + 1))], None, "image")
}

/// Compares the count with a collection for which everything is due.
fn check(scene: &Scene, what: &str) {
    let counted = scene.stores.disk_use().unwrap().unreferenced;
    let removed = scene.stores.dry_run_everything().unwrap();
    if removed.manifests + removed.blobs == 0 {
        assert_eq!(counted, 0, "{what}");
    }
    let stored = scene.stores.disk_use().unwrap().stored;
    // Manifests are no blobs. There are at most a few, each smaller than this.
    assert!(counted <= stored + 1000 * removed.manifests, "{what}: {counted} of {stored}");
}

/// One change as a client, the mirror, a takeover or an operator causes it. Returns its name.
async fn step(scene: &Scene, random: &mut StdRng) -> &'static str {
    let repository: Repository = scene.repository(REPOSITORIES.choose(random).unwrap());
    let number = random.random_range(0..4);
    let (bytes, tag) = (blob(number), *TAGS.choose(random).unwrap());
    let manifest = if random.random_bool(0.2) {
        index(&[digest_of(image_of(number).as_bytes())], "index")
    } else {
        image_of(number)
    };
    match random.random_range(0..14) {
        0 | 1 => {
            let kind = if manifest.contains("manifests") { MediaType::OCI_INDEX } else { MediaType::OCI_MANIFEST };
            let put = PutMirrored {
                digest: digest_of(manifest.as_bytes()),
                tag: random.random_bool(0.7).then(|| tag.parse().unwrap()),
                media_type: kind.parse().unwrap(),
                bytes: Bytes::from(manifest),
                upstream: "a.example".to_owned(),
            };
            repository.put_mirrored(put).unwrap();
            "a manifest is mirrored"
        }
        2 | 3 => {
            let digest = digest_of(&bytes);
            let mut upload = repository.mirror_upload(digest).await.unwrap();
            upload.append(&[Bytes::from(bytes)]).unwrap();
            upload.verify(digest).unwrap();
            upload.finish_mirrored(digest).unwrap();
            "a blob is filled"
        }
        4 => {
            repository.link_mirrored(digest_of(&bytes)).unwrap();
            "a blob of another mirrored repository is linked"
        }
        5 => {
            repository.push_blob(&bytes);
            "a blob is pushed"
        }
        6 => {
            let _ = repository.mount(digest_of(&bytes), |_| true).unwrap();
            "a blob is mounted"
        }
        7 | 8 => {
            // Fails if blobs are missing. A mirrored one becomes an own one, as in a takeover.
            let tags = [tag];
            let tags = if random.random_bool(0.5) { &tags[..] } else { &[] };
            let _ = repository.push_manifest(&manifest, tags);
            "a manifest is pushed"
        }
        9 => {
            let subject = Some(digest_of(manifest.as_bytes()));
            let _ = repository.push_manifest(&image(&[digest_of(&bytes)], subject, "signature"), &[]);
            "a signature is pushed"
        }
        10 => {
            let _ = repository.delete(tag);
            "a tag is deleted"
        }
        11 => {
            let digest = digest_of(manifest.as_bytes());
            if repository.delete(&digest.to_string()).is_ok() && random.random_bool(0.5) {
                let _ = repository.restore_manifest(digest);
            }
            "a manifest is deleted, and perhaps restored"
        }
        12 => {
            let goal = Goal::AtMost { limit: 0, target: 0 };
            scene.stores.evict(goal, &|_| true, false, &|_| ControlFlow::Continue(())).unwrap();
            "mirrored content is evicted"
        }
        _ => {
            scene.clock.advance(Duration::from_mins(random.random_range(1..80)));
            scene.stores.tidy_tags().unwrap();
            let delays = scene.stores.delays();
            scene.stores.collect(None, delays, &WorkProgress::default(), |_| ControlFlow::Continue(())).unwrap();
            "garbage is collected"
        }
    }
}

#[tokio::test]
async fn after_any_history_the_count_is_of_what_a_collection_frees() {
    for seed in 0..HISTORIES {
        let tag_history = if seed % 2 == 0 { Duration::ZERO } else { Duration::from_hours(1) };
        let scene = Scene::new(Rules { tag_history, ..rules() });
        let mut random = StdRng::seed_from_u64(seed);
        for number in 0..OPERATIONS {
            let what = step(&scene, &mut random).await;
            check(&scene, &format!("history {seed}, step {number}: {what}"));
        }
    }
}
