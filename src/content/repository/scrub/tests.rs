//! Files that another program changed.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::content::blobs::{SystemDisk, Tree};
use crate::content::repository::scene::{Scene, image, index, rules};
use crate::content::repository::{Opened, Repository};

fn scene() -> Scene {
    Scene::new(rules())
}

fn file(scene: &Scene, digest: Digest) -> PathBuf {
    scene.root.path().join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
}

fn scrub(scene: &Scene, repair: bool) -> Scrubbed {
    let scrubbing = Scrubbing { repair, rate: u64::MAX, unless_since: None };
    scene.stores.scrub(scrubbing, &WorkProgress::default(), |_| ControlFlow::Continue(())).unwrap()
}

fn is_served(repository: &Repository, digest: Digest) -> bool {
    matches!(repository.open_blob(digest), Ok(Opened::Whole(_)))
}

fn check(scene: &Scene, digest: Digest) -> Checked {
    scene.stores.check_blob(digest, |_| ControlFlow::Continue(())).unwrap()
}

/// Writes other bytes to a file, as many as it has, and lets its times be what they were.
fn alter_unseen(path: &PathBuf) {
    let before = fs::metadata(path).unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::write(path, bytes).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
}

#[test]
fn a_file_that_was_changed_is_not_served_and_a_push_heals_it() {
    type Change = fn(&PathBuf);
    let changes: [(&str, Change); 4] = [
        ("altered", |path| fs::write(path, b"LAYER").unwrap()),
        ("truncated", |path| fs::write(path, b"lay").unwrap()),
        ("longer", |path| fs::write(path, b"layer and more").unwrap()),
        ("gone", |path| fs::remove_file(path).unwrap()),
    ];
    for (what, change) in changes {
        let scene = scene();
        let repository = scene.repository("a");
        let digest = repository.push_blob(b"layer");
        assert!(is_served(&repository, digest), "{what}");
        // The clock of the file system has steps.
        std::thread::sleep(Duration::from_millis(10));
        change(&file(&scene, digest));
        assert!(matches!(repository.open_blob(digest), Ok(Opened::Doubtful)), "{what}: served unseen");
        assert!(matches!(check(&scene, digest), Checked::Damaged { .. }), "{what}");
        assert!(matches!(repository.open_blob(digest), Err(Error::BlobDamaged { .. })), "{what}");
        assert!(!repository.mount(digest, |_| true).unwrap(), "{what}: mounted");
        let missing = repository.push_manifest(&image(&[digest], None, "new"), &["new"]);
        assert!(matches!(missing, Err(Error::ManifestContentMissing { .. })), "{what}: {missing:?}");

        assert_eq!(repository.push_blob(b"layer"), digest);
        assert!(is_served(&repository, digest), "{what}: not healed");
        repository.push_manifest(&image(&[digest], None, "new"), &["new"]).unwrap();
        assert!(scrub(&scene, false).is_clean(), "{what}");
    }
}

#[test]
fn a_file_that_was_only_touched_is_served_after_it_was_hashed() {
    let scene = scene();
    let repository = scene.repository("a");
    let digest = repository.push_blob(b"layer");
    std::thread::sleep(Duration::from_millis(10));
    fs::write(file(&scene, digest), b"layer").unwrap();
    assert!(matches!(repository.open_blob(digest), Ok(Opened::Doubtful)));
    assert_eq!(check(&scene, digest), Checked::Whole);
    assert!(is_served(&repository, digest));
}

#[test]
fn a_scrub_finds_what_no_time_tells_of_and_says_which_tags_need_it() {
    let scene = scene();
    let repository = scene.repository("a/b");
    let (bad, good) = (repository.push_blob(b"bad"), repository.push_blob(b"good"));
    let hit = repository.push_manifest(&image(&[good, bad], None, "hit"), &["hit", "too"]).unwrap();
    repository.push_manifest(&image(&[good], None, "spared"), &["spared"]).unwrap();
    repository.push_manifest(&index(&[hit], "list"), &["list"]).unwrap();
    let path = file(&scene, bad);
    alter_unseen(&path);
    assert!(is_served(&repository, bad), "nothing tells of it");

    let found = scrub(&scene, false);
    assert!(!found.is_clean());
    assert_eq!((found.blobs, found.bytes), (2, 7));
    let [damaged] = found.damaged.as_slice() else { panic!("{found:?}") };
    assert_eq!(damaged.digest, bad);
    assert_eq!(damaged.tags, ["a/b:hit", "a/b:too", "a/b:list"]);
    assert!(!path.exists() && is_served(&repository, good));
    let aside = scene.root.path().join("damaged").join(format!("sha256-{}", bad.hex()));
    assert_eq!(fs::read(aside).unwrap().len(), 3, "the file is kept for inspection");

    assert_eq!(scrub(&scene, true).damaged.len(), 1, "it is damaged until it is pushed again");
    repository.push_blob(b"bad");
    assert!(scrub(&scene, false).is_clean());
    assert!(is_served(&repository, bad));
}

#[test]
fn a_damaged_journal_is_found_and_rewritten() {
    let scene = scene();
    let tree = Tree::new(scene.root.path());
    scene.stores.database.open_journal(&tree, std::sync::Arc::new(SystemDisk)).unwrap();
    let maintain = || scene.stores.maintain_journal(|_| ControlFlow::Continue(())).unwrap();
    assert!(maintain());
    let repository = scene.repository("a");
    let layer = repository.push_blob(b"layer");
    for note in ["one", "two", "three"] {
        repository.push_manifest(&image(&[layer], None, note), &[note]).unwrap();
    }
    let damage = || {
        let mut bytes = fs::read(tree.journal()).unwrap();
        let third = bytes.len() / 3;
        bytes[third] ^= 1;
        fs::write(tree.journal(), bytes).unwrap();
    };
    assert!(scrub(&scene, false).is_clean());
    damage();
    let found = scrub(&scene, false);
    let [line] = found.derived.as_slice() else { panic!("{found:?}") };
    assert!(line.starts_with("manifests.log: damaged at byte ") && !found.is_clean(), "{line}");
    // The maintenance of a running registry rewrites it.
    assert!(maintain() && scrub(&scene, false).is_clean());
    damage();
    let found = scrub(&scene, true);
    assert!(found.is_clean() && found.derived.len() == 1, "{found:?}");
    assert!(scrub(&scene, false).derived.is_empty() && !maintain());
}

#[test]
fn a_scrub_records_many_blobs_in_one_transaction() {
    let scene = scene();
    let repository = scene.repository("a");
    let digests: Vec<Digest> = (0..600).map(|number| repository.push_blob(format!("{number}").as_bytes())).collect();
    let bad = digests[300];
    alter_unseen(&file(&scene, bad));
    assert_eq!(scrub(&scene, false).damaged.len(), 1);
    // Its bytes are right again, without a push.
    fs::write(file(&scene, bad), b"300").unwrap();
    scene.clock.advance(Duration::from_mins(1));
    let began = scene.clock.now();
    let version = scene.stores.database.version();
    assert!(scrub(&scene, false).is_clean());
    let changes = scene.stores.database.version().zip(version).unwrap();
    assert!(changes.0.since(changes.1) <= 3, "{changes:?}");
    for digest in digests {
        let row = scene.stores.database.read(|tx| tx.file(digest)).unwrap().unwrap();
        assert!(row.checked >= began && is_served(&repository, digest));
    }
}

#[test]
fn files_that_no_row_speaks_of_are_found_and_removed() {
    let scene = scene();
    let digest = scene.repository("a").push_blob(b"layer");
    let stray = file(&scene, Digest::of(Algorithm::Sha256, b"stray"));
    fs::write(&stray, b"stray").unwrap();
    fs::write(stray.with_file_name("README"), b"who put this here?").unwrap();
    let found = scrub(&scene, false);
    assert_eq!((found.unreferenced.len(), found.ignored), (1, 1), "{found:?}");
    assert!(!found.is_clean() && stray.exists());
    assert!(scrub(&scene, true).is_clean());
    assert!(!stray.exists() && stray.with_file_name("README").exists(), "a foreign file stays");
    assert!(is_served(&scene.repository("a"), digest));
}

#[test]
fn entries_of_nas_and_nfs_servers_are_no_damage_and_stop_no_repair() {
    let scene = scene();
    let digest = scene.repository("a").push_blob(b"layer");
    let directory = file(&scene, digest).parent().unwrap().to_owned();
    for name in ["@eaDir", ".snapshot", "lost+found"] {
        fs::create_dir(directory.join(name)).unwrap();
        fs::write(directory.join(name).join(digest.hex()), b"theirs").unwrap();
    }
    for name in [".nfs0000000000abcd", ".DS_Store", "Thumbs.db"] {
        fs::write(directory.join(name), b"").unwrap();
    }
    let entries = fs::read_dir(&directory).unwrap().count();
    for repair in [false, true] {
        let found = scrub(&scene, repair);
        assert!(found.is_clean() && found.unreferenced.is_empty() && found.ignored == 6, "{found:?}");
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), entries);

    // In any order of the directory, the unreferenced files go and the directory is reported.
    let strays = (0..24_u8).map(|n| file(&scene, Digest::of(Algorithm::Sha256, &[n])));
    let strays: Vec<_> = strays.inspect(|path| fs::write(path, b"stray").unwrap()).collect();
    let in_the_way = file(&scene, Digest::of(Algorithm::Sha256, b"a directory"));
    fs::create_dir(&in_the_way).unwrap();
    for _ in 0..2 {
        let found = scrub(&scene, true);
        assert!(!found.is_clean() && found.lost.is_empty(), "{found:?}");
        let [told] = found.obstacles.as_slice() else { panic!("{found:?}") };
        assert!(told.contains("a directory has the name of a blob"), "{told}");
        assert!(in_the_way.exists() && !strays.iter().any(|path| path.exists()));
    }
    fs::remove_dir(&in_the_way).unwrap();
    assert!(scrub(&scene, false).is_clean());
}

#[test]
fn what_was_hashed_lately_is_left_out_and_a_scrub_can_be_broken_off() {
    let scene = scene();
    for number in 0..5 {
        scene.repository("a").push_blob(format!("blob {number}").as_bytes());
    }
    scene.clock.advance(Duration::from_hours(2));
    let since = |hours: u64| {
        let now = scene.clock.now().micros();
        Some(Timestamp::from_micros(now - hours * 3_600_000_000))
    };
    let lately = |hours: u64| Scrubbing { repair: false, rate: u64::MAX, unless_since: since(hours) };
    let count = std::cell::Cell::new(0);
    let broken = scene.stores.scrub(lately(1), &WorkProgress::default(), |_| {
        count.set(count.get() + 1);
        if count.get() > 6 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let broken = broken.unwrap();
    assert!(broken.is_part && broken.blobs > 0 && broken.blobs < 5, "{broken:?}");
    let rest = scene.stores.scrub(lately(1), &WorkProgress::default(), |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(broken.blobs + rest.blobs, 5, "each once");
    assert_eq!(
        scene.stores.scrub(lately(1), &WorkProgress::default(), |_| ControlFlow::Continue(())).unwrap().blobs,
        0
    );
}

#[test]
fn a_scrub_reads_no_faster_than_it_may() {
    let scene = scene();
    scene.repository("a").push_blob(&vec![7; 200_000]);
    let began = Instant::now();
    let scrubbing = Scrubbing { repair: false, rate: 1_000_000, unless_since: None };
    scene.stores.scrub(scrubbing, &WorkProgress::default(), |_| ControlFlow::Continue(())).unwrap();
    // Only the least time is sure on a busy machine.
    assert!(began.elapsed() >= Duration::from_millis(200));
}

/// Rows that belong together are read together: a client may change them between two looks.
#[test]
fn beside_clients_that_mount_and_delete_a_scrub_finds_nothing_wrong() {
    let scene = scene();
    let (a, b) = (scene.repository("a"), scene.repository("b"));
    let blobs: Vec<_> = (0..100_u8).map(|n| a.push_blob(&[n])).collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for blob in &blobs {
                    assert!(b.mount(*blob, |_| true).unwrap());
                    b.delete_blob(*blob).unwrap();
                }
            }
        });
        for _ in 0..20 {
            let found = scrub(&scene, false);
            stop.store(!found.is_clean(), std::sync::atomic::Ordering::Relaxed);
            assert!(found.is_clean(), "{found:?}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
