//! Facts and totals follow every change, and are the same when the background work counts them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::content::repository::scene::{Scene, image, index, rules};
use crate::content::repository::{Delays, Error, Repository, Rules, WorkProgress};
use crate::content::rows::{Facts, Kind, Order, Pulls, Totals};
use crate::kit::clock::{Clock, Timestamp};
use crate::oci::{Algorithm, Digest};

const HISTORIES: u64 = 12;
const OPERATIONS: usize = 50;
const REPOSITORIES: [&str; 3] = ["a", "b/c", "d"];
const TAGS: [&str; 4] = ["one", "two", "three", "four"];

fn facts(repository: &Repository, digest: Digest) -> Option<Facts> {
    repository.stores.database.read(|tx| tx.facts(&repository.name, digest)).unwrap()
}

fn totals(repository: &Repository) -> Option<Totals> {
    repository.stores.database.read(|tx| tx.totals(&repository.name)).unwrap()
}

fn assert_consistent(scene: &Scene) {
    assert_eq!(scene.stores.database.inconsistencies().unwrap(), Vec::<String>::new());
}

fn count(scene: &Scene) {
    assert!(scene.stores.count_facts(|_| ControlFlow::Continue(())).unwrap());
    assert!(!scene.stores.has_uncounted_facts().unwrap());
}

#[test]
fn a_push_writes_facts_and_totals() {
    let scene = Scene::new(rules());
    let repository = scene.repository("a");
    let config = repository.push_blob(br#"{"os":"linux","architecture":"amd64"}"#);
    let layer = repository.push_blob(b"a layer");
    let manifest = image(&[config, layer], None, "note");
    let digest = repository.push_manifest(&manifest, &["t"]).unwrap();
    let found = facts(&repository, digest).unwrap();
    let blobs = 37 + 7;
    assert_eq!((found.kind, found.size, found.layers), (Kind::Image, manifest.len() as u64 + blobs, 1));
    assert_eq!(found.platform.unwrap().architecture, "amd64");
    let first = totals(&repository).unwrap();
    assert_eq!((first.size, first.tags, first.changed), (blobs, 1, found.pushed));
    // An image with the same blobs is counted once in an index.
    let other = image(&[config, layer], None, "other");
    let second = repository.push_manifest(&other, &["t", "u"]).unwrap();
    let both = index(&[digest, second], "both");
    let both_digest = repository.push_manifest(&both, &[]).unwrap();
    let size = (both.len() + manifest.len() + other.len()) as u64 + blobs;
    assert_eq!(facts(&repository, both_digest).map(|facts| (facts.kind, facts.size)), Some((Kind::Index, size)));
    assert_eq!(totals(&repository).map(|totals| (totals.size, totals.tags)), Some((blobs, 2)));
    assert_consistent(&scene);
}

#[test]
fn a_config_that_is_damaged_missing_or_too_large_stops_no_push() {
    let scene = Scene::new(rules());
    let repository = scene.repository("a");
    let large = format!(r#"{{"os":"linux","x":"{}"}}"#, "x".repeat(usize::try_from(super::CONFIG_BYTES_MAX).unwrap()));
    for config in [large.as_bytes(), b"\xff", b"{", br#"{"os":"linux"}"#] {
        let config = repository.push_blob(config);
        if config == Digest::of(Algorithm::Sha256, br#"{"os":"linux"}"#) {
            scene.stores.blobs.remove(config).unwrap();
        }
        let digest = repository.push_manifest(&image(&[config], None, "x"), &[]).unwrap();
        let found = facts(&repository, digest).unwrap();
        assert_eq!((found.kind, found.platform), (Kind::Image, None));
    }
    assert_consistent(&scene);
}

#[test]
fn facts_are_hidden_and_restored_with_their_manifest_and_removed_with_it() {
    let scene = Scene::new(rules());
    let repository = scene.repository("a");
    let config = repository.push_blob(b"{}");
    let digest = repository.push_manifest(&image(&[config], None, "x"), &["t"]).unwrap();
    let before = facts(&repository, digest);
    let in_repositories = || {
        let mut found = Vec::new();
        let digits = &digest.hex()[..7];
        scene
            .stores
            .database
            .read(|tx| {
                tx.each_manifest_with_digest(Algorithm::Sha256, digits, |digest, name| {
                    found.push((digest, name.to_owned()));
                    ControlFlow::Continue(())
                })
            })
            .unwrap();
        found
    };
    assert_eq!(in_repositories(), [(digest, "a".to_owned())]);
    repository.delete(&digest.to_string()).unwrap();
    assert_eq!(in_repositories(), []);
    repository.restore_manifest(digest).unwrap();
    assert_eq!((facts(&repository, digest), in_repositories().len()), (before, 1));
    repository.delete(&digest.to_string()).unwrap();
    repository.push_blob(b"keeps the repository");
    scene.clock.advance(Duration::from_hours(3));
    scene.stores.tidy_tags().unwrap();
    scene
        .stores
        .collect(None, Delays::all(Duration::ZERO), &WorkProgress::default(), |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(facts(&repository, digest), None);
    assert_consistent(&scene);
}

#[test]
fn an_index_grows_with_the_manifests_that_it_lists() {
    let scene = Scene::new(Rules { sparse_indexes: true, ..rules() });
    let repository = scene.repository("a");
    let config = repository.push_blob(b"{}");
    let child = image(&[config], None, "child");
    let child_digest = Digest::of(Algorithm::Sha256, child.as_bytes());
    let inner = index(&[child_digest], "inner");
    let inner_digest = repository.push_manifest(&inner, &[]).unwrap();
    let outer = index(&[inner_digest], "outer");
    let outer_digest = repository.push_manifest(&outer, &[]).unwrap();
    let size = |digest| facts(&repository, digest).unwrap().size;
    assert_eq!(size(outer_digest), (inner.len() + outer.len()) as u64);
    repository.push_manifest(&child, &[]).unwrap();
    assert_eq!(size(inner_digest), (inner.len() + child.len()) as u64 + 2);
    assert_eq!(size(outer_digest), (outer.len() + inner.len() + child.len()) as u64 + 2);
    // More indexes than one push computes again are left to the background work.
    let late = image(&[config], None, "late");
    let late_digest = Digest::of(Algorithm::Sha256, late.as_bytes());
    let many: Vec<_> = (0..40)
        .map(|number| repository.push_manifest(&index(&[late_digest], &number.to_string()), &[]).unwrap())
        .collect();
    repository.push_manifest(&late, &[]).unwrap();
    assert!(scene.stores.has_uncounted_facts().unwrap());
    count(&scene);
    assert!(many.iter().all(|index| size(*index) > late.len() as u64 + 2));
    assert_consistent(&scene);
}

#[test]
fn pulls_are_written_together_and_those_of_listed_manifests_do_not_count_for_the_repository() {
    let scene = Scene::new(rules());
    let repository = scene.repository("a");
    let config = repository.push_blob(b"{}");
    let child = repository.push_manifest(&image(&[config], None, "child"), &[]).unwrap();
    let parent = repository.push_manifest(&index(&[child], "parent"), &["t"]).unwrap();
    assert!(!scene.stores.has_pulls());
    for digest in [parent, child, child, Digest::of(Algorithm::Sha256, b"gone")] {
        repository.count_pull(digest);
    }
    scene.stores.write_pulls().unwrap();
    assert!(!scene.stores.has_pulls());
    let pulls = |digest| scene.stores.database.read(|tx| tx.pulls(&repository.name, digest)).unwrap();
    assert_eq!((pulls(parent).count, pulls(child).count), (1, 2));
    assert_eq!(totals(&repository).map(|totals| totals.pulls), Some(1));
    assert_eq!(totals(&repository).unwrap().last_pull, pulls(parent).last);
    assert_consistent(&scene);
    repository.remove().unwrap();
    assert_eq!(pulls(parent), Pulls::default());
    assert_consistent(&scene);
}

#[test]
fn written_pulls_survive_a_crash() {
    let scene = Scene::durable(rules());
    let repository = scene.repository("a");
    let config = repository.push_blob(b"{}");
    let digest = repository.push_manifest(&image(&[config], None, "x"), &["t"]).unwrap();
    repository.count_pull(digest);
    scene.stores.write_pulls().unwrap();
    repository.count_pull(digest);
    let name = repository.name.clone();
    // The files of the directory at this moment are what `kill -9` leaves.
    let copy = tempfile::tempdir().unwrap();
    for name in ["coracle.redb", "coracle.wal"] {
        std::fs::copy(scene.root.path().join(name), copy.path().join(name)).unwrap();
    }
    let crashed = Scene::open_in(copy, scene.clock.clone(), rules(), true);
    assert_eq!(crashed.stores.database.read(|tx| tx.pulls(&name, digest)).unwrap().count, 1);
    assert_consistent(&crashed);
}

#[test]
fn the_databases_of_earlier_programs_are_counted() {
    use std::io::Read as _;
    for version in 1..=6 {
        let root = tempfile::tempdir().unwrap();
        let fixture = format!("{}/tests/fixtures/schema-{version}.redb.gz", env!("CARGO_MANIFEST_DIR"));
        let mut database = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(fixture).unwrap()).read_to_end(&mut database).unwrap();
        std::fs::write(root.path().join("coracle.redb"), database).unwrap();
        let scene = Scene::open_in(root, Clock::default(), rules(), false);
        assert!(scene.stores.has_uncounted_facts().unwrap());
        let repository = scene.repository("carol/app");
        assert_eq!(totals(&repository), None);
        scene.stores.list_optional_layers(|_| ControlFlow::Continue(())).unwrap();
        count(&scene);
        assert_consistent(&scene);
        let contents = scene.stores.database.read(|tx| tx.contents(&repository.name)).unwrap();
        let found = totals(&repository).unwrap();
        assert_eq!(found.tags, contents.tags.len() as u64);
        assert!(found.size > 0 && found.changed > Timestamp::from_micros(0), "{found:?}");
        let indexes = contents.manifests.iter().filter(|digest| {
            let facts = facts(&repository, **digest).unwrap();
            facts.kind == Kind::Index
        });
        assert_eq!(indexes.count(), 1, "version {version}");
        assert_eq!(ordered(&scene, Order::Change).len(), 2);
    }
}

#[test]
fn changes_of_an_earlier_program_are_noticed_by_the_number_of_the_journal() {
    let scene = Scene::new(rules());
    let repository = scene.repository("a");
    let config = repository.push_blob(b"{}");
    let digest = repository.push_manifest(&image(&[config], None, "x"), &["t"]).unwrap();
    let pushed_by = Some("alice".to_owned());
    scene
        .stores
        .database
        .write({
            let name = repository.name.clone();
            move |tx| {
                let (facts, details) = tx.facts_and_details(&name, digest)?.unwrap();
                tx.put_facts(&name, digest, &Facts { pushed_by, ..facts }, &details)?;
                // It has counted the transactions of a journal, and moved a tag.
                tx.set_setting("journal number", &7_u64.to_be_bytes())
            }
        })
        .unwrap();
    assert!(scene.stores.has_uncounted_facts().unwrap());
    assert!(totals(&repository).is_some(), "until the new count begins");
    count(&scene);
    assert_eq!(totals(&repository).map(|totals| (totals.size, totals.tags)), Some((2, 1)));
    assert_eq!(facts(&repository, digest).unwrap().pushed_by.as_deref(), Some("alice"));
    assert_consistent(&scene);
}

#[test]
fn pulls_that_cannot_be_collected_are_not_counted() {
    let scene = Scene::new(rules());
    let repository = scene.repository("a");
    for number in 0..12_000_u32 {
        repository.count_pull(Digest::of(Algorithm::Sha256, &number.to_le_bytes()));
    }
    assert_eq!(repository.stores.pulls.waiting(), 10_000);
}

/// The names in an order, the largest value first.
fn ordered(scene: &Scene, order: Order) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut after: Option<(u64, String)> = None;
    // Pages of one repository.
    loop {
        let from = after.as_ref().map(|(value, name)| (*value, name.as_str()));
        let mut next = None;
        let read = scene.stores.database.read(|tx| {
            tx.each_in_order(order, from, true, |name, value| {
                next = Some((value, name.to_owned()));
                Ok(ControlFlow::Break(()))
            })
        });
        read.unwrap();
        let Some(found) = next else { return names };
        names.push(found.1.clone());
        after = Some(found);
    }
}

#[test]
fn repositories_are_found_in_each_order() {
    let scene = Scene::new(rules());
    for (name, size, pulls) in [("small", 2, 3), ("large", 500, 1), ("middle", 100, 2)] {
        let repository = scene.repository(name);
        let config = repository.push_blob("x".repeat(size).as_bytes());
        let digest = repository.push_manifest(&image(&[config], None, name), &["t"]).unwrap();
        (0..pulls).for_each(|_| repository.count_pull(digest));
        scene.clock.advance(Duration::from_secs(1));
    }
    scene.stores.write_pulls().unwrap();
    assert_eq!(ordered(&scene, Order::Change), ["middle", "large", "small"]);
    assert_eq!(ordered(&scene, Order::Size), ["large", "middle", "small"]);
    assert_eq!(ordered(&scene, Order::Pulls), ["small", "middle", "large"]);
    let (repository, kept) = (scene.repository("large"), scene.repository("small"));
    repository.delete("t").unwrap();
    assert_eq!(ordered(&scene, Order::Change), ["middle", "large", "small"], "deleting is no change");
    kept.push_blob(&[b'y'; 1000]);
    assert_eq!(ordered(&scene, Order::Size), ["large", "middle", "small"], "a blob alone is no change");
    let config = kept.push_blob(b"{}");
    kept.push_manifest(&image(&[config], None, "new"), &["t"]).unwrap();
    assert_eq!(ordered(&scene, Order::Size), ["small", "large", "middle"]);
    repository.remove().unwrap();
    assert_eq!(ordered(&scene, Order::Change), ["small", "middle"]);
}

struct History {
    scene: Scene,
    random: StdRng,
}

/// The totals of a repository, and the facts of its manifests.
type Counted = (Option<Totals>, BTreeMap<Digest, Option<Facts>>);

impl History {
    /// Everything that is counted.
    fn counted(&self) -> BTreeMap<String, Counted> {
        let of = |name: &&str| {
            let repository = self.scene.repository(name);
            let contents = self.scene.stores.database.read(|tx| tx.contents(&repository.name)).unwrap();
            let stored = contents.manifests.into_iter();
            let facts = stored.map(|digest| (digest, facts(&repository, digest))).collect();
            ((*name).to_owned(), (totals(&repository), facts))
        };
        REPOSITORIES.iter().map(of).collect()
    }

    /// A change, which may be refused.
    fn step(&mut self) -> Result<(), Error> {
        let Self { scene, random } = self;
        let name = *REPOSITORIES.choose(random).unwrap();
        let repository = scene.repository(name);
        let contents = scene.stores.database.read(|tx| tx.contents(&repository.name)).unwrap();
        let (tag, note) = (*TAGS.choose(random).unwrap(), random.random_range(0..6).to_string());
        let manifest = contents.manifests.choose(random).copied();
        let blob = contents.blobs.choose(random).copied();
        match random.random_range(0..100) {
            0..20 => {
                let number = random.random_range(0..6);
                repository.push_blob(format!(r#"{{"os":"linux","architecture":"{number}"}}"#).as_bytes());
            }
            20..45 => {
                let blobs: Vec<_> = contents.blobs.sample(random, 2).copied().collect();
                let tags = if random.random_bool(0.6) { vec![tag] } else { Vec::new() };
                if !blobs.is_empty() {
                    repository.push_manifest(&image(&blobs, None, &note), &tags)?;
                }
            }
            45..55 => {
                // Some of them are not there yet.
                let mut listed: Vec<_> = contents.manifests.sample(random, 2).copied().collect();
                let absent = contents.blobs.first().map(|blob| image(&[*blob], None, &note));
                listed.extend(absent.map(|absent| Digest::of(Algorithm::Sha256, absent.as_bytes())));
                repository.push_manifest(&index(&listed, &note), &[tag])?;
            }
            55..63 => repository.delete(tag)?,
            63..73 => manifest.map_or(Ok(()), |manifest| repository.delete(&manifest.to_string()))?,
            73..80 => {
                let deleted = contents.deleted.choose(random).copied();
                deleted.map_or(Ok(()), |deleted| repository.restore_manifest(deleted))?;
            }
            80..85 => blob.map_or(Ok(()), |blob| repository.delete_blob(blob))?,
            85..89 => {
                let other = scene.repository(REPOSITORIES.choose(random).unwrap());
                if let Some(blob) = blob {
                    other.mount(blob, |_| true)?;
                }
            }
            89..93 => {
                if let Some(manifest) = manifest {
                    repository.count_pull(manifest);
                }
                scene.stores.write_pulls()?;
            }
            93..95 => repository.remove()?,
            _ => {
                scene.clock.advance(Duration::from_mins(40));
                scene.stores.tidy_tags()?;
                scene.stores.collect(None, Delays::all(Duration::from_mins(30)), &WorkProgress::default(), |_| {
                    ControlFlow::Continue(())
                })?;
            }
        }
        Ok(())
    }
}

fn history(seed: u64) -> History {
    let scene = Scene::new(Rules { sparse_indexes: true, ..rules() });
    History { scene, random: StdRng::seed_from_u64(seed) }
}

#[test]
fn after_any_history_totals_and_facts_are_those_that_are_counted_from_nothing() {
    for seed in 0..HISTORIES {
        let mut history = history(seed);
        for _ in 0..OPERATIONS {
            let _ = history.step();
        }
        count(&history.scene);
        assert_consistent(&history.scene);
        let before = history.counted();
        let is_first = seed % 2 == 0;
        history.scene.stores.database.forget_facts(is_first).unwrap();
        count(&history.scene);
        assert_consistent(&history.scene);
        let after = history.counted();
        for (name, (totals, facts)) in before {
            let (counted, read) = &after[&name];
            // The earlier program knew neither pulls nor users, and deletions change nothing.
            let known = |totals: &Totals| (totals.size, totals.tags);
            assert_eq!(totals.as_ref().map(known), counted.as_ref().map(known), "{name} in history {seed}");
            assert_eq!(&facts, read, "{name} in history {seed}");
        }
    }
}

#[test]
fn counting_goes_on_next_to_changes_and_after_every_interruption() {
    for seed in 0..HISTORIES {
        let mut history = history(seed);
        for _ in 0..OPERATIONS {
            let _ = history.step();
        }
        history.scene.stores.database.forget_facts(seed % 2 == 0).unwrap();
        loop {
            let mut steps = history.random.random_range(0..50);
            let is_done = history.scene.stores.count_facts_in(3, |_| {
                steps -= 1;
                if steps < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if is_done.unwrap() {
                break;
            }
            let _ = history.step();
            assert_consistent(&history.scene);
        }
        assert!(!history.scene.stores.has_uncounted_facts().unwrap());
        assert_consistent(&history.scene);
    }
}
