//! Clients that are told "it is there" and count on it, while a collection takes the same things away.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::*;
use crate::content::repository::Error;
use crate::oci::{Algorithm, Manifest, Reference};

const ROUNDS: usize = 4;
const CLIENTS: usize = 4;
const BLOBS: usize = 250;

/// The results of a client's requests.
#[derive(Default)]
struct Seen {
    told: AtomicUsize,
    mounted: AtomicUsize,
    pushed: AtomicUsize,
}

fn bytes(round: usize, number: usize) -> String {
    format!("blob {number} of round {round}")
}

/// Pushes an image as clients do: a layer that is there is not sent, and named in the manifest a little later.
fn push(scene: &Scene, repository: &Repository, blob: &str, seen: &Seen) -> Result<Digest, Error> {
    let digest = Digest::of(Algorithm::Sha256, blob.as_bytes());
    let is_told = match repository.blob_size(digest) {
        Ok(_) => true,
        Err(Error::BlobUnknown { .. }) => false,
        Err(error) => return Err(error),
    };
    if is_told {
        seen.told.fetch_add(1, Ordering::Relaxed);
    } else if repository.mount(digest, |_| true)? {
        seen.mounted.fetch_add(1, Ordering::Relaxed);
    } else {
        repository.push_blob(blob.as_bytes());
        seen.pushed.fetch_add(1, Ordering::Relaxed);
    }
    // Time for a step of the collection.
    std::thread::sleep(Duration::from_millis(1));
    let manifest = repository.push_manifest(&image(&[digest], None, blob), &[])?;
    // Other repositories drop the same blob meanwhile.
    drop(scene.repository("source").delete_blob(digest));
    Ok(manifest)
}

#[test]
fn nothing_that_a_client_was_told_of_is_gone_when_it_is_named() {
    let scene = scene();
    let (seen, collected) = (Seen::default(), AtomicU64::new(0));
    let names: Vec<_> = (0..CLIENTS).map(|client| format!("client{client}")).collect();
    for round in 0..ROUNDS {
        for number in 0..BLOBS {
            // Due in two repositories, and in one of the clients' as a layer of an image that is due as well.
            let blob = bytes(round, number);
            scene.repository("source").push_blob(blob.as_bytes());
            let repository = scene.repository(&names[number % CLIENTS]);
            let digest = repository.push_blob(blob.as_bytes());
            if number % 3 == 0 {
                repository.push_manifest(&image(&[digest], None, &format!("old {blob}")), &[]).unwrap();
            }
        }
        scene.clock.advance(DELAY + SECOND);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let clients: Vec<_> = names
                .iter()
                .map(|name| {
                    let (scene, seen) = (&scene, &seen);
                    scope.spawn(move || {
                        let repository = scene.repository(name);
                        for number in 0..BLOBS {
                            // Against the collection's order, so that they meet in the middle, and with it.
                            let number = if number % 2 == 0 { number } else { BLOBS - number };
                            let pushed = push(scene, &repository, &bytes(round, number), seen);
                            assert!(pushed.is_ok(), "{name} cannot push {number} of {round}: {pushed:?}");
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    collected.fetch_add(collect(&scene).links, Ordering::Relaxed);
                }
            });
            let results: Vec<_> = clients.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            done.store(true, Ordering::Relaxed);
            for result in results {
                result.unwrap();
            }
        });
        for name in &names {
            let repository = scene.repository(name);
            for number in 0..BLOBS {
                let blob = bytes(round, number);
                let digest = Digest::of(Algorithm::Sha256, blob.as_bytes());
                let manifest = Digest::of(Algorithm::Sha256, image(&[digest], None, &blob).as_bytes());
                let found = repository.manifest(&Reference::Digest(manifest)).unwrap();
                for blob in Manifest::read(&found.bytes, None).unwrap().blobs() {
                    assert!(repository.has_blob(*blob) && scene.has_file(*blob), "{name} has lost {blob}");
                }
            }
        }
    }
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let (told, mounted, pushed) = (count(&seen.told), count(&seen.mounted), count(&seen.pushed));
    println!("told of {told}, mounted {mounted}, pushed {pushed}, collected {}", collected.load(Ordering::Relaxed));
    assert!(told > 0 && mounted > 0 && pushed > 0 && collected.into_inner() > 0, "they have not met");
}
