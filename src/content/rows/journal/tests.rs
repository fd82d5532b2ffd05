//! The journal agrees with the database after any steps, rewrites, cuts and failed writes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::content::blobs::{FaultyDisk, Operation, SystemDisk};
use crate::kit::clock::Timestamp;
use crate::oci::{Algorithm, Digest, RepositoryName, Tag};

struct Fixture {
    database: Database,
    tree: Tree,
    root: tempfile::TempDir,
}

fn open(root: tempfile::TempDir, journal: Arc<dyn Disk>) -> Fixture {
    let tree = Tree::new(root.path());
    let database = Database::open(&tree, Arc::new(SystemDisk), false).unwrap();
    database.open_journal(&tree, journal).unwrap();
    Fixture { database, tree, root }
}

/// Manifests by repository and digest, and the targets of tags.
type Content = (BTreeMap<(String, String), Vec<u8>>, BTreeMap<(String, String), String>);

fn never(_: Duration) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// One transaction.
#[derive(Clone, Debug)]
enum Step {
    Push { manifest: u8 },
    Delete { manifest: u8 },
    Tag { tag: u8, manifest: u8 },
    Untag { tag: u8 },
    PushAndDelete { manifest: u8 },
    Rewrite,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8).prop_map(|manifest| Step::Push { manifest }),
        2 => (0..6_u8).prop_map(|manifest| Step::Delete { manifest }),
        4 => (0..3_u8, 0..6_u8).prop_map(|(tag, manifest)| Step::Tag { tag, manifest }),
        2 => (0..3_u8).prop_map(|tag| Step::Untag { tag }),
        1 => (0..6_u8).prop_map(|manifest| Step::PushAndDelete { manifest }),
        1 => Just(Step::Rewrite),
    ]
}

fn name(number: u8) -> RepositoryName {
    ["a", "a/b"][usize::from(number) % 2].parse().unwrap()
}

fn content(number: u8) -> Vec<u8> {
    vec![number; 1000 + usize::from(number)]
}

fn digest(number: u8) -> Digest {
    Digest::of(Algorithm::Sha256, &content(number))
}

fn tag(number: u8) -> (RepositoryName, Tag) {
    (name(number), format!("t{number}").parse().unwrap())
}

impl Fixture {
    fn push(&self, manifest: u8) -> Result<(), Error> {
        self.database.write(move |tx| push(tx, manifest))
    }

    fn take(&self, step: &Step) {
        let at = Timestamp::from_micros(1);
        match *step {
            Step::Push { manifest } => self.push(manifest).unwrap(),
            Step::Delete { manifest } => self.database.write(move |tx| delete(tx, manifest)).unwrap(),
            Step::Tag { tag: number, manifest } => self
                .database
                .write(move |tx| {
                    let (name, tag) = tag(number);
                    tx.put_tag(&name, &tag, digest(manifest), at, true).map(drop)
                })
                .unwrap(),
            Step::Untag { tag: number } => self
                .database
                .write(move |tx| {
                    let (name, tag) = tag(number);
                    tx.remove_tag(&name, &tag, at, true)
                })
                .unwrap(),
            Step::PushAndDelete { manifest } => self
                .database
                .write(move |tx| {
                    push(tx, manifest)?;
                    delete(tx, manifest)
                })
                .unwrap(),
            Step::Rewrite => {
                let journal = self.database.journal.get().unwrap();
                self.database.rewrite_journal(journal, &mut never).unwrap();
            }
        }
    }

    /// The content by the journal.
    fn replayed(&self) -> Content {
        let replayed = ReplayedJournal::read(&self.tree).unwrap().unwrap();
        assert!(!replayed.is_torn && replayed.damaged_places == 0);
        let manifests = replayed.manifests.iter().map(|manifest| {
            let key = (manifest.repository.to_string(), manifest.digest.to_string());
            (key, replayed.bytes(manifest).unwrap().unwrap().to_vec())
        });
        let tags = replayed
            .tags
            .iter()
            .map(|(name, tag, digest, _)| ((name.to_string(), tag.to_string()), digest.to_string()));
        (manifests.collect(), tags.collect())
    }

    /// The content by the database.
    fn stored(&self) -> Content {
        self.database
            .read(|tx| {
                let (mut manifests, mut tags) = (BTreeMap::new(), BTreeMap::new());
                for number in 0..=u8::MAX {
                    let (name, digest) = (name(number), digest(number));
                    if let Some(bytes) = tx.manifest_bytes(&name, digest)? {
                        manifests.insert((name.to_string(), digest.to_string()), bytes.to_vec());
                    }
                    let (name, tag) = tag(number);
                    if let Some(row) = tx.tag(&name, &tag)? {
                        tags.insert((name.to_string(), tag.to_string()), row.digest.to_string());
                    }
                }
                Ok::<_, Error>((manifests, tags))
            })
            .unwrap()
    }
}

fn push(tx: &mut WriteTx, number: u8) -> Result<(), Error> {
    let (name, digest, bytes) = (name(number), digest(number), content(number));
    if tx.manifest(&name, digest)?.is_some() {
        return Ok(());
    }
    let (size, created) = (bytes.len() as u64, Timestamp::from_micros(1));
    tx.put_manifest(&name, digest, &ManifestRow { media_type: "application/json".to_owned(), size, created }, &bytes)
}

fn delete(tx: &mut WriteTx, number: u8) -> Result<(), Error> {
    let (name, digest) = (name(number), digest(number));
    match tx.manifest(&name, digest)? {
        Some(_) => tx.remove_manifest(&name, digest, Timestamp::from_micros(1)),
        None => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_agrees_with_the_database(steps in prop::collection::vec(step(), 1..30)) {
        let it = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
        prop_assert!(it.database.maintain_journal(&mut never).unwrap());
        for step in &steps {
            it.take(step);
        }
        prop_assert_eq!(it.replayed(), it.stored());
        // A restart does not rewrite it.
        let Fixture { database, root, .. } = it;
        drop(database);
        let it = open(root, Arc::new(SystemDisk));
        prop_assert!(!it.database.maintain_journal(&mut never).unwrap());
        prop_assert_eq!(it.replayed(), it.stored());
    }
}

#[test]
fn a_rewrite_includes_changes_made_meanwhile() {
    let it = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
    for number in 0..200 {
        it.push(number).unwrap();
        it.take(&Step::Tag { tag: number % 7, manifest: number });
    }
    // The first manifest fills a batch.
    let large = vec![7; 2 * BATCH_BYTES];
    let (at, of) = (Timestamp::from_micros(1), "0".parse::<RepositoryName>().unwrap());
    let row = ManifestRow { media_type: String::new(), size: 0, created: at };
    let large_digest = Digest::of(Algorithm::Sha256, &large);
    it.database.write(move |tx| tx.put_manifest(&of, large_digest, &row, &large)).unwrap();
    let mut steps = 0;
    let mut pause = |_| {
        steps += 1;
        if steps > 1 {
            return ControlFlow::Continue(());
        }
        // The rewrite goes on with rows from before these changes.
        for number in 0..50 {
            it.take(&Step::Delete { manifest: number });
            it.take(&Step::Push { manifest: 200 + number });
            it.take(&Step::Tag { tag: number % 7, manifest: number });
        }
        it.take(&Step::Untag { tag: 3 });
        ControlFlow::Continue(())
    };
    assert!(it.database.maintain_journal(&mut pause).unwrap());
    assert!(steps > 1, "{steps}");
    let (mut manifests, tags) = it.replayed();
    manifests.retain(|(name, _), _| name != "0");
    assert_eq!((manifests, tags), it.stored());
}

#[test]
fn a_torn_end_is_ignored() {
    let it = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
    it.push(1).unwrap();
    it.database.maintain_journal(&mut never).unwrap();
    let path = it.tree.journal();
    let whole = std::fs::read(&path).unwrap().len();
    it.push(2).unwrap();
    it.take(&Step::Tag { tag: 1, manifest: 2 });
    let bytes = std::fs::read(&path).unwrap();
    let count = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let replayed = ReplayedJournal::read(&it.tree).unwrap().unwrap();
        (replayed.manifests.len(), replayed.tags.len(), replayed.is_torn || replayed.damaged_places > 0)
    };
    assert_eq!(count(&bytes), (2, 1, false));
    for length in whole..bytes.len() {
        let (manifests, _, is_torn) = count(&bytes[..length]);
        assert!(manifests == 1 || length > whole + 1000, "{length}");
        // A cut between two transactions cannot be seen.
        assert!(is_torn || format::last_number(&File::open(&path).unwrap(), length as u64).is_some(), "{length}");
        let mut altered = bytes.clone();
        altered[length] ^= 0x20;
        assert!(count(&altered).2, "the byte at {length} was changed");
    }
    // A start notices it.
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let Fixture { database, root, .. } = it;
    drop(database);
    let it = open(root, Arc::new(SystemDisk));
    assert!(it.database.maintain_journal(&mut never).unwrap());
    assert_eq!(it.replayed(), it.stored());
}

#[test]
fn damage_in_the_middle_costs_only_the_damaged_records() {
    let it = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
    it.database.maintain_journal(&mut never).unwrap();
    for number in 0..6 {
        it.push(number).unwrap();
        it.take(&Step::Tag { tag: number, manifest: number });
    }
    let path = it.tree.journal();
    let whole = std::fs::read(&path).unwrap();
    let header = usize::try_from(HEADER_BYTES).unwrap();
    for length in [1, 600] {
        for start in (header..whole.len() - 800).step_by(97) {
            let mut damaged = whole.clone();
            for byte in &mut damaged[start..start + length] {
                *byte ^= 0x20;
            }
            std::fs::write(&path, &damaged).unwrap();
            let replayed = ReplayedJournal::read(&it.tree).unwrap().unwrap();
            assert_eq!((replayed.is_torn, replayed.damaged_places), (false, 1), "{length} bytes at {start}");
            assert!(replayed.manifests.len() >= 4 && replayed.tags.len() >= 4, "{length} bytes at {start}");
            for manifest in &replayed.manifests {
                assert!(replayed.bytes(manifest).unwrap().is_some());
            }
            let changed = examine::changed_after(File::open(&path).unwrap(), 0).unwrap();
            assert_eq!(changed.len(), replayed.manifests.len() + replayed.tags.len());
        }
    }
    // A search that finds nothing ends.
    let mut damaged = whole[..whole.len() / 2].to_vec();
    damaged.resize(3 * BATCH_BYTES, 0);
    std::fs::write(&path, &damaged).unwrap();
    assert!(ReplayedJournal::read(&it.tree).unwrap().unwrap().is_torn);
}

#[test]
fn damage_that_a_scrub_finds_causes_a_rewrite() {
    let it = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
    it.database.maintain_journal(&mut never).unwrap();
    for number in 0..6 {
        it.push(number).unwrap();
    }
    let path = it.tree.journal();
    let examine = || it.database.examine_journal(&mut |_| ControlFlow::Continue(()));
    assert_eq!(examine(), ControlFlow::Continue(None));
    let changes: [fn(&std::path::Path); 4] = [
        |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let third = bytes.len() / 3;
            bytes[third] ^= 1;
            std::fs::write(path, &bytes).unwrap();
        },
        |path| std::fs::write(path, b"").unwrap(),
        |path| std::fs::remove_file(path).unwrap(),
        |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path.with_extension("copy"), bytes).unwrap();
            std::fs::rename(path.with_extension("copy"), path).unwrap();
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert!(!it.database.lacks_journal());
        change(&path);
        let ControlFlow::Continue(Some(damage)) = examine() else { panic!("change {number} was not found") };
        assert!(damage.starts_with("manifests.log: "), "{damage}");
        assert!(it.database.lacks_journal() && it.database.is_journal_due());
        assert!(it.database.maintain_journal(&mut never).unwrap());
        assert_eq!((it.replayed(), examine()), (it.stored(), ControlFlow::Continue(None)));
    }
    // A scrub that is cancelled has found nothing.
    let large = vec![7; 2 * BATCH_BYTES];
    let row = ManifestRow { media_type: String::new(), size: 0, created: Timestamp::from_micros(1) };
    let digest = Digest::of(Algorithm::Sha256, &large);
    it.database.write(move |tx| tx.put_manifest(&name(0), digest, &row, &large)).unwrap();
    assert_eq!(it.database.examine_journal(&mut |_| ControlFlow::Break(())), ControlFlow::Break(()));
    assert!(!it.database.lacks_journal());
}

#[test]
fn changes_are_numbered_while_the_journal_cannot_be_opened() {
    let it = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
    it.database.maintain_journal(&mut never).unwrap();
    it.push(1).unwrap();
    let Fixture { database, root, tree } = it;
    drop(database);
    let (path, kept) = (tree.journal(), root.path().join("kept"));
    std::fs::rename(&path, &kept).unwrap();
    std::fs::create_dir(&path).unwrap();
    let it = open(root, Arc::new(SystemDisk));
    it.push(2).unwrap();
    assert!(it.database.is_journal_due());
    let Fixture { database, root, .. } = it;
    drop(database);
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&kept, &path).unwrap();
    let it = open(root, Arc::new(SystemDisk));
    assert!(it.database.maintain_journal(&mut never).unwrap(), "the old file lacks a change");
    assert_eq!(it.replayed(), it.stored());

    // A running registry replaces it, and keeps what it cannot open.
    let Fixture { database, root, .. } = it;
    drop(database);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let it = open(root, Arc::new(SystemDisk));
    it.push(3).unwrap();
    assert!(it.database.maintain_journal(&mut never).unwrap());
    assert_eq!(it.replayed(), it.stored());
    assert!(tree.earlier_journal().is_dir());
}

#[test]
fn changes_that_only_the_journal_has_are_kept() {
    let mut it = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
    it.database.maintain_journal(&mut never).unwrap();
    it.push(0).unwrap();
    let path = it.tree.journal();
    let mut kept = Vec::new();
    for round in 1..=2 {
        it.push(round).unwrap();
        kept.push(std::fs::read(&path).unwrap());
        // The database has lost the last change.
        let before = it.database.read(number).unwrap() - 1;
        it.database.write(move |tx| tx.set_setting(SETTING_JOURNAL_NUMBER, &before.to_be_bytes())).unwrap();
        let changed = examine::changed_after(File::open(&path).unwrap(), before).unwrap();
        assert_eq!(changed.into_iter().collect::<Vec<_>>(), [format!("{}@{}", name(round), digest(round))]);
        let Fixture { database, root, .. } = it;
        drop(database);
        it = open(root, Arc::new(SystemDisk));
        assert!(it.database.maintain_journal(&mut never).unwrap());
        assert_eq!(it.replayed(), it.stored());
    }
    let names = [it.tree.earlier_journal(), it.tree.earlier_journal().with_added_extension("1")];
    assert!(names.map(|name| std::fs::read(name).unwrap()).to_vec() == kept, "each of them is kept");
}

#[test]
fn a_journal_whose_sync_failed_is_rewritten() {
    let disk = Arc::new(FaultyDisk::default());
    let it = open(tempfile::tempdir().unwrap(), disk.clone());
    it.database.maintain_journal(&mut never).unwrap();
    it.push(1).unwrap();
    disk.fail_times(Operation::Sync, 0, 1, rustix::io::Errno::IO);
    assert!(it.database.maintain_journal(&mut never).is_err());
    assert!(disk.heal() && it.database.is_journal_due());
    it.push(2).unwrap();
    assert!(it.database.maintain_journal(&mut never).unwrap(), "the file may have a hole");
    assert_eq!(it.replayed(), it.stored());
}

#[test]
fn a_journal_that_lacks_a_change_or_is_of_another_database_is_not_used() {
    let it = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
    it.database.maintain_journal(&mut never).unwrap();
    it.push(1).unwrap();
    let path = it.tree.journal();
    let before = std::fs::read(&path).unwrap();
    it.push(2).unwrap();
    let Fixture { database, root, tree } = it;
    drop(database);
    // A crash between the transaction and the journal leaves this.
    std::fs::write(&path, &before).unwrap();
    let it = open(root, Arc::new(SystemDisk));
    it.push(3).unwrap();
    assert!(it.database.maintain_journal(&mut never).unwrap());
    assert_eq!(it.replayed(), it.stored());

    let other = tempfile::tempdir().unwrap();
    std::fs::copy(&path, other.path().join("manifests.log")).unwrap();
    let lost = Database::open(&Tree::new(other.path()), Arc::new(SystemDisk), false).unwrap_err();
    assert!(matches!(lost, Error::DatabaseMissing { .. }), "a lost database must not become an empty one");
    std::fs::remove_file(other.path().join("manifests.log")).unwrap();
    drop(Database::open(&Tree::new(other.path()), Arc::new(SystemDisk), false).unwrap());
    std::fs::copy(&path, other.path().join("manifests.log")).unwrap();
    let another = open(other, Arc::new(SystemDisk));
    assert!(another.database.maintain_journal(&mut never).unwrap());
    assert_eq!(another.replayed(), (BTreeMap::new(), BTreeMap::new()));
    assert_eq!(std::fs::read(another.tree.earlier_journal()).unwrap(), std::fs::read(tree.journal()).unwrap());
}

#[test]
fn a_durable_transaction_that_seemed_to_fail_is_noticed() {
    let it = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
    it.database.maintain_journal(&mut never).unwrap();
    it.push(1).unwrap();
    // The commit seemed to fail, so nothing was appended to the journal.
    it.database
        .write(|tx| {
            let number = number(tx)? + 1;
            tx.set_setting(SETTING_JOURNAL_NUMBER, &number.to_be_bytes())
        })
        .unwrap();
    it.push(2).unwrap();
    assert!(it.database.maintain_journal(&mut never).unwrap(), "the journal is rewritten");
    assert_eq!(it.replayed(), it.stored());
}

#[test]
fn a_journal_that_cannot_be_written_fails_no_request_and_is_rewritten() {
    let disk = Arc::new(FaultyDisk::default());
    let it = open(tempfile::tempdir().unwrap(), disk.clone());
    it.database.maintain_journal(&mut never).unwrap();
    it.push(1).unwrap();
    disk.fail(&[Operation::Write, Operation::Sync, Operation::Create, Operation::Rename], rustix::io::Errno::NOSPC);
    it.push(2).unwrap();
    assert!(!it.database.maintain_journal(&mut never).unwrap());
    disk.heal();
    // It lacks a change, so later ones are not appended.
    it.push(3).unwrap();
    assert_eq!(it.replayed().0.len(), 1);
    assert!(it.database.is_journal_due());
    assert!(it.database.maintain_journal(&mut never).unwrap());
    assert_eq!(it.replayed(), it.stored());
    // A failed rewrite leaves the old journal.
    for operation in [Operation::Write, Operation::Sync, Operation::Create, Operation::Rename, Operation::SyncDir] {
        for after in 0..3_u8 {
            let journal = it.database.journal.get().unwrap();
            disk.fail_times(operation, usize::from(after), 1, rustix::io::Errno::IO);
            let _ = it.database.rewrite_journal(journal, &mut never);
            journal.state.lock().next = None;
            disk.heal();
            it.take(&Step::Tag { tag: 1, manifest: after });
            assert_eq!(it.replayed(), it.stored(), "{operation:?} {after}");
        }
    }
}

#[test]
fn it_does_not_grow_beyond_twice_its_content() {
    let it = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
    it.database.maintain_journal(&mut never).unwrap();
    let path = it.tree.journal();
    let (mut rewrites, mut largest) = (0, 0);
    for _ in 0..30 {
        for number in 0..60 {
            it.take(&Step::Push { manifest: number });
            it.take(&Step::Delete { manifest: number });
        }
        rewrites += usize::from(it.database.maintain_journal(&mut never).unwrap());
        largest = largest.max(std::fs::metadata(&path).unwrap().len());
    }
    assert!(rewrites >= 2, "it was rewritten {rewrites} times");
    assert!(largest < 2 * GROWTH_BYTES, "it has {largest} bytes");
    assert_eq!(it.replayed(), (BTreeMap::new(), BTreeMap::new()));
    drop(it.root);
}
