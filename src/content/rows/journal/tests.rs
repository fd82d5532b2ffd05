//! The journal says what the database says, whatever is done, and whenever it is made anew, cut off or not written.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::content::blobs::{FaultyDisk, Operation, SystemDisk};
use crate::kit::clock::Timestamp;
use crate::oci::{Algorithm, Digest, RepositoryName, Tag};

struct Place {
    database: Database,
    tree: Tree,
    root: tempfile::TempDir,
}

fn open(root: tempfile::TempDir, journal: Arc<dyn Disk>) -> Place {
    let tree = Tree::new(root.path());
    let database = Database::open(&tree, Arc::new(SystemDisk), false).unwrap();
    database.open_journal(&tree, journal).unwrap();
    Place { database, tree, root }
}

/// Manifests by repository and digest, and what tags point at.
type NamespaceConflict = (BTreeMap<(String, String), Vec<u8>>, BTreeMap<(String, String), String>);

fn never(_: Duration) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Something that is done in one transaction.
#[derive(Clone, Debug)]
enum Step {
    Push {
        manifest: u8,
    },
    Delete {
        manifest: u8,
    },
    Tag {
        tag: u8,
        manifest: u8,
    },
    Untag {
        tag: u8,
    },
    /// Both in one transaction.
    PushAndDelete {
        manifest: u8,
    },
    Renew,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8).prop_map(|manifest| Step::Push { manifest }),
        2 => (0..6_u8).prop_map(|manifest| Step::Delete { manifest }),
        4 => (0..3_u8, 0..6_u8).prop_map(|(tag, manifest)| Step::Tag { tag, manifest }),
        2 => (0..3_u8).prop_map(|tag| Step::Untag { tag }),
        1 => (0..6_u8).prop_map(|manifest| Step::PushAndDelete { manifest }),
        1 => Just(Step::Renew),
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

impl Place {
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
            Step::Renew => {
                let journal = self.database.journal.get().unwrap();
                self.database.renew_journal(journal, &mut never).unwrap();
            }
        }
    }

    /// What the journal says.
    fn replayed(&self) -> NamespaceConflict {
        let replayed = ReplayedJournal::read(&self.tree).unwrap().unwrap();
        assert!(!replayed.is_torn);
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

    /// What the database says.
    fn stored(&self) -> NamespaceConflict {
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
    fn it_says_what_the_database_says(steps in prop::collection::vec(step(), 1..30)) {
        let place = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
        prop_assert!(place.database.maintain_journal(&mut never).unwrap());
        for step in &steps {
            place.take(step);
        }
        prop_assert_eq!(place.replayed(), place.stored());
        // And again after a restart, which does not make it anew.
        let Place { database, root, .. } = place;
        drop(database);
        let place = open(root, Arc::new(SystemDisk));
        prop_assert!(!place.database.maintain_journal(&mut never).unwrap());
        prop_assert_eq!(place.replayed(), place.stored());
    }
}

#[test]
fn what_changes_while_it_is_made_anew_is_in_it_as_it_is_then() {
    let place = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
    for number in 0..200 {
        place.push(number).unwrap();
        place.take(&Step::Tag { tag: number % 7, manifest: number });
    }
    // A batch of its own, before all others.
    let large = vec![7; 2 * BATCH_BYTES];
    let (at, of) = (Timestamp::from_micros(1), "0".parse::<RepositoryName>().unwrap());
    let row = ManifestRow { media_type: String::new(), size: 0, created: at };
    let large_digest = Digest::of(Algorithm::Sha256, &large);
    place.database.write(move |tx| tx.put_manifest(&of, large_digest, &row, &large)).unwrap();
    let mut steps = 0;
    let mut pause = |_| {
        steps += 1;
        if steps > 1 {
            return ControlFlow::Continue(());
        }
        // The rows that follow in the file are from before this.
        for number in 0..50 {
            place.take(&Step::Delete { manifest: number });
            place.take(&Step::Push { manifest: 200 + number });
            place.take(&Step::Tag { tag: number % 7, manifest: number });
        }
        place.take(&Step::Untag { tag: 3 });
        ControlFlow::Continue(())
    };
    assert!(place.database.maintain_journal(&mut pause).unwrap());
    assert!(steps > 1, "{steps}");
    let (mut manifests, tags) = place.replayed();
    manifests.retain(|(name, _), _| name != "0");
    assert_eq!((manifests, tags), place.stored());
}

#[test]
fn a_torn_end_is_cut_off_wherever_it_is_torn() {
    let place = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
    place.push(1).unwrap();
    place.database.maintain_journal(&mut never).unwrap();
    let path = place.tree.journal();
    let whole = std::fs::read(&path).unwrap().len();
    place.push(2).unwrap();
    place.take(&Step::Tag { tag: 1, manifest: 2 });
    let bytes = std::fs::read(&path).unwrap();
    let count = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let replayed = ReplayedJournal::read(&place.tree).unwrap().unwrap();
        (replayed.manifests.len(), replayed.tags.len(), replayed.is_torn)
    };
    assert_eq!(count(&bytes), (2, 1, false));
    for length in whole..bytes.len() {
        let (manifests, _, is_torn) = count(&bytes[..length]);
        assert!(manifests == 1 || length > whole + 1000, "{length}");
        // Between two transactions nothing shows that there was another.
        assert!(is_torn || format::last_number(&File::open(&path).unwrap(), length as u64).is_some(), "{length}");
        let mut altered = bytes.clone();
        altered[length] ^= 0x20;
        assert!(count(&altered).2, "a byte at {length} is not what was written");
    }
    // What a start makes of it.
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let Place { database, root, .. } = place;
    drop(database);
    let place = open(root, Arc::new(SystemDisk));
    assert!(place.database.maintain_journal(&mut never).unwrap());
    assert_eq!(place.replayed(), place.stored());
}

#[test]
fn a_journal_that_lacks_a_change_or_is_of_another_database_does_not_count() {
    let place = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
    place.database.maintain_journal(&mut never).unwrap();
    place.push(1).unwrap();
    let path = place.tree.journal();
    let before = std::fs::read(&path).unwrap();
    place.push(2).unwrap();
    let Place { database, root, tree } = place;
    drop(database);
    // As a crash between the transaction and the journal leaves it.
    std::fs::write(&path, &before).unwrap();
    let place = open(root, Arc::new(SystemDisk));
    place.push(3).unwrap();
    assert!(place.database.maintain_journal(&mut never).unwrap());
    assert_eq!(place.replayed(), place.stored());

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
fn a_transaction_that_was_durable_although_nobody_was_told_is_missed() {
    let place = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
    place.database.maintain_journal(&mut never).unwrap();
    place.push(1).unwrap();
    // As a commit leaves it that happened and seemed to fail: nothing was added to the journal.
    place
        .database
        .write(|tx| {
            let number = number(tx)? + 1;
            tx.set_setting(SETTING_JOURNAL_NUMBER, &number.to_be_bytes())
        })
        .unwrap();
    place.push(2).unwrap();
    assert!(place.database.maintain_journal(&mut never).unwrap(), "it is made anew");
    assert_eq!(place.replayed(), place.stored());
}

#[test]
fn a_journal_that_cannot_be_written_fails_nobody_and_is_made_anew() {
    let disk = Arc::new(FaultyDisk::default());
    let place = open(tempfile::tempdir().unwrap(), disk.clone());
    place.database.maintain_journal(&mut never).unwrap();
    place.push(1).unwrap();
    disk.fail(&[Operation::Write, Operation::Sync, Operation::Create, Operation::Rename], rustix::io::Errno::NOSPC);
    place.push(2).unwrap();
    assert!(!place.database.maintain_journal(&mut never).unwrap());
    disk.heal();
    // It lacks a change, and so has no other behind it.
    place.push(3).unwrap();
    assert_eq!(place.replayed().0.len(), 1);
    assert!(place.database.is_journal_due());
    assert!(place.database.maintain_journal(&mut never).unwrap());
    assert_eq!(place.replayed(), place.stored());
    // Whatever it fails at while it is made anew, the one before is left.
    for operation in [Operation::Write, Operation::Sync, Operation::Create, Operation::Rename, Operation::SyncDir] {
        for after in 0..3_u8 {
            let journal = place.database.journal.get().unwrap();
            disk.fail_times(operation, usize::from(after), 1, rustix::io::Errno::IO);
            let _ = place.database.renew_journal(journal, &mut never);
            journal.state.lock().next = None;
            disk.heal();
            place.take(&Step::Tag { tag: 1, manifest: after });
            assert_eq!(place.replayed(), place.stored(), "{operation:?} {after}");
        }
    }
}

#[test]
fn it_does_not_grow_beyond_twice_what_it_holds() {
    let place = open(tempfile::tempdir().unwrap(), Arc::new(SystemDisk));
    place.database.maintain_journal(&mut never).unwrap();
    let path = place.tree.journal();
    let (mut renewed, mut largest) = (0, 0);
    for _ in 0..30 {
        for number in 0..60 {
            place.take(&Step::Push { manifest: number });
            place.take(&Step::Delete { manifest: number });
        }
        renewed += usize::from(place.database.maintain_journal(&mut never).unwrap());
        largest = largest.max(std::fs::metadata(&path).unwrap().len());
    }
    assert!(renewed >= 2, "it was made anew {renewed} times");
    assert!(largest < 2 * GROWTH_BYTES, "it came to have {largest} bytes");
    assert_eq!(place.replayed(), (BTreeMap::new(), BTreeMap::new()));
    drop(place.root);
}
