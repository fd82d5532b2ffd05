//! Quotas are exact under many clients that push at the same time, and after any history.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::content::repository::scene::{Scene, image, rules};
use crate::content::repository::{Delays, ManifestTarget, PutManifest, Rules, WorkProgress};
use crate::oci::{Algorithm, Tag};

const PUSHERS: usize = 64;
const OPERATIONS: usize = 600;
const NAMES: [&str; 6] = ["team", "team/a", "team/b", "team-x/a", "other/a", "other/a/b"];

fn quota(of: QuotaOf, size: Option<u64>, tags: Option<u64>) -> Quota {
    Quota { rule: "storage.quotas[0]".to_owned(), of, size, tags }
}

fn patterns(text: &str) -> Vec<RepositoryPattern> {
    vec![text.parse().unwrap()]
}

fn scene(quotas: Vec<Quota>, max_repositories: Option<u64>) -> Scene {
    Scene::new(Rules { quotas: Quotas::new(quotas, max_repositories), ..rules() })
}

/// Pushes a blob as a client does.
fn push(repository: &Repository, bytes: &[u8]) -> Result<Digest, Error> {
    repository.check_may_exist()?;
    let digest = Digest::of(Algorithm::Sha256, bytes);
    let mut upload = repository.open_upload(Algorithm::Sha256)?;
    upload.check_quota(0, Some(digest))?;
    upload.append(&[Bytes::copy_from_slice(bytes)])?;
    upload.verify(digest)?;
    upload.finish(digest)?;
    Ok(digest)
}

fn tag(repository: &Repository, config: Digest, tags: &[&str]) -> Result<(), Error> {
    let bytes = image(&[config], None, &tags.join(" "));
    let digest = Digest::of(Algorithm::Sha256, bytes.as_bytes());
    let tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    let target = ManifestTarget::Digest { digest, tags };
    let put = PutManifest { by_client: true, ..PutManifest::new(target, Bytes::from(bytes)) };
    repository.put_manifest(put).map(drop)
}

/// Runs the same work on many threads at once, and returns how often it succeeded.
fn at_once(work: impl Fn(usize) -> bool + Sync) -> usize {
    let start = std::sync::Barrier::new(PUSHERS);
    std::thread::scope(|scope| {
        let (start, work) = (&start, &work);
        let pushers: Vec<_> = (0..PUSHERS)
            .map(|number| {
                scope.spawn(move || {
                    start.wait();
                    work(number)
                })
            })
            .collect();
        pushers.into_iter().map(|pusher| usize::from(pusher.join().unwrap())).sum()
    })
}

#[test]
fn bytes_tags_and_repositories_are_exact_under_64_pushers() {
    let of_namespace = quota(QuotaOf::Namespaces(patterns("team")), Some(10_500), Some(7));
    let scene = scene(vec![of_namespace], Some(20));
    let pushed = at_once(|number| {
        let repository = scene.repository(if number % 2 == 0 { "team/a" } else { "team/b" });
        match push(&repository, &[u8::try_from(number).unwrap(); 1000]) {
            Ok(_) => true,
            Err(Error::QuotaExceeded(exceeded)) => {
                assert_eq!((exceeded.quota.amount, exceeded.quota.limit, exceeded.more), (Amount::Size, 10_500, 1000));
                false
            }
            Err(error) => panic!("{error}"),
        }
    });
    assert_eq!(pushed, 10);
    let config = push(&scene.repository("team/a"), &[255; 2]).unwrap();
    let tagged = at_once(|number| match tag(&scene.repository("team/a"), config, &[&format!("t{number}")]) {
        Ok(()) => true,
        Err(Error::QuotaExceeded(exceeded)) => {
            assert_eq!((exceeded.quota.amount, exceeded.quota.used), (Amount::Tags, 7));
            false
        }
        Err(error) => panic!("{error}"),
    });
    assert_eq!(tagged, 7);
    let before = scene.stores.database.read(Rows::repository_count).unwrap();
    let created = at_once(|number| match push(&scene.repository(&format!("r{number}/a")), b"x") {
        Ok(_) => true,
        Err(Error::TooManyRepositories { limit: 20 }) => false,
        Err(error) => panic!("{error}"),
    });
    assert_eq!(created as u64 + before, 20);
    let figures = scene.stores.quota_figures().unwrap().unwrap();
    assert_eq!((figures.repositories, figures.refused_size, figures.refused_tags), (20, 54, 57));
    // Everything that adds nothing still works, and so does deleting.
    push(&scene.repository("team/a"), &[255; 2]).unwrap();
    let there = scene.repository("team/b").mount(Digest::of(Algorithm::Sha256, &[255; 2]), |_| true).unwrap();
    assert!(there, "a blob of the namespace counts once");
}

#[test]
fn a_push_is_refused_before_its_first_byte_and_deleting_makes_room() {
    let scene = scene(vec![quota(QuotaOf::Repositories(patterns("**")), Some(1000), Some(1))], None);
    let repository = scene.repository("a/b");
    let first = push(&repository, &[1; 900]).unwrap();
    let mut upload = repository.open_upload(Algorithm::Sha256).unwrap();
    let new = Some(Digest::of(Algorithm::Sha256, b"another blob"));
    let error = upload.check_quota(200, new).unwrap_err().to_string();
    assert_eq!(
        error,
        "the repository a/b uses 900 B of 1000 B, and 200 B more would exceed the quota (storage.quotas[0])"
    );
    upload.check_quota(900, Some(first)).unwrap();
    upload.check_quota(50, new).unwrap();
    upload.append(&[Bytes::from_static(&[2; 100])]).unwrap();
    assert!(matches!(upload.append(&[Bytes::from_static(&[2; 1])]), Err(Error::QuotaExceeded(_))));
    assert_eq!(upload.offset(), 100, "the refused bytes are not stored");
    upload.cancel().unwrap();
    // Another repository has a quota of its own.
    let other = push(&scene.repository("a/c"), &[3; 1000]).unwrap();
    assert!(matches!(repository.mount(other, |_| true), Err(Error::QuotaExceeded(_))));
    repository.delete_blob(first).unwrap();
    assert!(repository.mount(other, |_| true).unwrap());
    tag(&repository, other, &["one"]).unwrap();
    assert!(matches!(tag(&repository, other, &["one", "two"]), Err(Error::QuotaExceeded(_))));
    tag(&repository, other, &["one"]).unwrap();
    repository.delete("one").unwrap();
    tag(&repository, other, &["two"]).unwrap();
    let restored = repository.restore_tag(&"one".parse::<Tag>().unwrap(), other);
    assert!(restored.is_err(), "a restored tag is one more");
}

#[test]
fn the_use_of_namespaces_is_exact_after_any_history() {
    let quotas = || vec![quota(QuotaOf::Namespaces(patterns("*")), Some(u64::MAX), None)];
    for seed in 0..5 {
        let mut random = StdRng::seed_from_u64(seed);
        let hour = Delays::all(Duration::from_hours(1));
        let scene = Scene::new(Rules {
            quotas: Quotas::new(quotas(), None),
            tag_history: Duration::ZERO,
            delays: hour,
            ..rules()
        });
        for number in 0..OPERATIONS {
            let repository = scene.repository(NAMES.choose(&mut random).unwrap());
            let content = [random.random_range(0..12); 40];
            let digest = Digest::of(Algorithm::Sha256, &content);
            match random.random_range(0..9) {
                0..3 => drop(push(&repository, &content).unwrap()),
                3 => drop(repository.mount(digest, |_| true).unwrap()),
                4..6 => {
                    let _ = tag(&repository, digest, &[["1", "2", "3"].choose(&mut random).unwrap()]);
                }
                6 => drop(repository.delete(["1", "2"].choose(&mut random).unwrap())),
                7 => drop(repository.delete_blob(digest)),
                _ if number % 7 == 0 => drop(repository.remove()),
                _ => {
                    scene.clock.advance(Duration::from_mins(random.random_range(0..90)));
                    scene
                        .stores
                        .collect(None, hour, &WorkProgress::default(), |_| std::ops::ControlFlow::Continue(()))
                        .unwrap();
                }
            }
        }
        let database = &scene.stores.database;
        let used = || NAMES.map(|name| database.read(|tx| tx.namespace_use(&name.parse().unwrap())).unwrap());
        let (kept, count) = (used(), database.read(Rows::repository_count).unwrap());
        assert!(database.read(Rows::keeps_usage).unwrap());
        database.write(WriteTx::begin_usage).unwrap();
        assert_eq!(kept, used(), "seed {seed}");
        assert_eq!(count, database.read(Rows::repository_count).unwrap());
        // A program without quotas forgets the rows, and the next one with quotas counts again.
        let none = Quotas::default();
        none.prepare(database).unwrap();
        assert!(!database.read(Rows::keeps_usage).unwrap());
        push(&scene.repository("team/new"), &[200; 77]).unwrap();
        Quotas::new(quotas(), None).prepare(database).unwrap();
        assert_eq!(used()[0].size, kept[0].size + 77);
    }
}

/// Sends a blob in one piece, without its digest before the end.
fn send_then_say(repository: &Repository, bytes: &[u8]) -> Result<(), Error> {
    let digest = Digest::of(Algorithm::Sha256, bytes);
    let mut upload = repository.open_upload(Algorithm::Sha256)?;
    upload.check_quota(0, None)?;
    upload.append(&[Bytes::copy_from_slice(bytes)])?;
    upload.check_quota(0, Some(digest))?;
    upload.verify(digest)?;
    upload.finish(digest)
}

#[test]
fn a_blob_that_is_there_already_is_taken_again_although_the_quota_is_used() {
    let of_repository = quota(QuotaOf::Repositories(patterns("team/a")), Some(1000), None);
    let of_namespace = quota(QuotaOf::Namespaces(patterns("team")), Some(1000), None);
    let scene = scene(vec![of_repository, of_namespace], None);
    let (first, second) = (scene.repository("team/a"), scene.repository("team/b"));
    let (there, new) = ([1; 600], [2; 600]);
    push(&first, &there).unwrap();
    for repository in [&first, &second, &first, &second] {
        push(repository, &there).unwrap();
        send_then_say(repository, &there).unwrap();
        for refused in [push(repository, &new).map(drop), send_then_say(repository, &new)] {
            assert!(matches!(refused, Err(Error::QuotaExceeded(_))), "{refused:?}");
        }
        // The digest of a known blob does not open the way for other bytes, and bytes without one are bounded.
        let mut upload = repository.open_upload(Algorithm::Sha256).unwrap();
        upload.check_quota(0, Some(Digest::of(Algorithm::Sha256, &there))).unwrap();
        upload.append(&[Bytes::copy_from_slice(&there)]).unwrap();
        assert!(matches!(upload.append(&[Bytes::from_static(b"x")]), Err(Error::QuotaExceeded(_))));
        let mut upload = repository.open_upload(Algorithm::Sha256).unwrap();
        assert!(matches!(upload.check_quota(601, None), Err(Error::QuotaExceeded(_))));
    }
}
