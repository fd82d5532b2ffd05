//! Restoring and expiring tags, with a clock that tests move.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::content::blobs::{Blobs, SystemDisk, Tree};
use crate::content::repository::scene::rules;
use crate::content::repository::{ManifestTarget, PutManifest, Rules};
use crate::content::rows::Database;
use crate::kit::clock::Clock;
use crate::oci::MediaType;

const WINDOW: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);

/// A repository of a new data directory, and the clock it goes by.
struct Scene {
    stores: Arc<Stores>,
    repository: Repository,
    clock: Clock,
    _root: tempfile::TempDir,
}

impl Scene {
    fn new(tag_history: Duration) -> Self {
        let root = tempfile::tempdir().unwrap();
        let clock = Clock::default();
        let blobs = Blobs::open(root.path(), Arc::new(SystemDisk), false).unwrap();
        let database = Arc::new(Database::open(&Tree::new(root.path()), Arc::new(SystemDisk), false).unwrap());
        let rules = Rules { tag_history, ..rules() };
        let stores = Arc::new(Stores::new(blobs, database, clock.clone(), rules).unwrap());
        let repository = stores.repository(&"a".parse().unwrap());
        Self { stores, repository, clock, _root: root }
    }

    /// Pushes an index that no other number has.
    fn push(&self, tag: &Tag, number: u8) -> Digest {
        let bytes = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[],"annotations":{{"n":"{number}"}}}}"#,
            MediaType::OCI_INDEX
        );
        let target = ManifestTarget::Tag(tag.clone());
        let bytes = bytes.into_bytes().into();
        let put = PutManifest::new(target, bytes);
        self.repository.put_manifest(put).unwrap().digest
    }

    /// The digests of the history, latest first, and whether each has ended.
    fn history(&self) -> Vec<(Digest, bool)> {
        let page = self.repository.history(&HistoryFilter { limit: 100, ..HistoryFilter::default() }).unwrap();
        page.entries.iter().map(|entry| (entry.state.digest, entry.state.until.is_some())).collect()
    }

    fn expire(&self, tag: &Tag, expires: Expiry) {
        let change = TagChange { expires, may_delete: true, ..TagChange::default() };
        self.repository.change_tag(tag, change).unwrap();
    }
}

fn tag() -> Tag {
    "latest".parse().unwrap()
}

#[test]
fn a_tag_comes_back_within_the_window_and_not_after_it() {
    let scene = Scene::new(WINDOW);
    let (first, second) = (scene.push(&tag(), 1), scene.push(&tag(), 2));
    scene.clock.advance(WINDOW.saturating_sub(SECOND));
    assert_eq!(scene.repository.restore_tag(&tag(), first).unwrap(), Some(second));
    assert_eq!(scene.history(), [(first, false), (second, true), (first, true)]);

    // `second` ended just now, the first span of `first` an hour ago: it is gone before it is tidied away.
    scene.clock.advance(2 * SECOND);
    assert_eq!(scene.history(), [(first, false), (second, true)]);
    scene.repository.restore_tag(&tag(), second).unwrap();
    scene.clock.advance(WINDOW + SECOND);
    assert_eq!(scene.history(), [(second, false)]);
    let refused = scene.repository.restore_tag(&tag(), first);
    assert!(matches!(refused, Err(Error::TagPastUnknown { .. })), "{refused:?}");
    assert!(matches!(scene.repository.forget_past(&tag(), None), Err(Error::TagPastUnknown { .. })));

    assert_eq!(scene.stores.tidy_tags().unwrap(), Tidied { tags: 0, past: 3 });
    assert!(!scene.stores.is_tidying_due().unwrap());
    assert_eq!(scene.history(), [(second, false)]);
}

#[test]
fn without_a_window_nothing_is_remembered() {
    let scene = Scene::new(Duration::ZERO);
    let first = scene.push(&tag(), 1);
    let second = scene.push(&tag(), 2);
    assert_eq!(scene.history(), [(second, false)]);
    assert!(matches!(scene.repository.restore_tag(&tag(), first), Err(Error::TagPastUnknown { .. })));
    scene.repository.delete_manifest(&Reference::Tag(tag()), false).unwrap();
    assert_eq!(scene.history(), []);
    assert!(!scene.stores.is_tidying_due().unwrap());
}

#[test]
fn a_tag_goes_when_its_time_comes_and_can_be_brought_back() {
    let scene = Scene::new(WINDOW);
    let digest = scene.push(&tag(), 1);
    let soon = scene.clock.now().after(10 * SECOND);
    scene.expire(&tag(), Expiry::At(soon));
    scene.clock.advance(9 * SECOND);
    assert!(!scene.stores.is_tidying_due().unwrap());
    assert_eq!(scene.stores.tidy_tags().unwrap(), Tidied::default());
    scene.clock.advance(SECOND);
    assert!(scene.stores.is_tidying_due().unwrap());
    assert_eq!(scene.stores.tidy_tags().unwrap(), Tidied { tags: 1, past: 0 });
    assert!(scene.repository.manifest_info(&Reference::Tag(tag())).is_err());
    assert!(scene.repository.manifest_info(&Reference::Digest(digest)).is_ok(), "the manifest stays");
    assert_eq!(scene.repository.restore_tag(&tag(), digest).unwrap(), None);
    // A restored tag stays.
    scene.clock.advance(10 * SECOND);
    assert_eq!(scene.stores.tidy_tags().unwrap(), Tidied::default());
}

#[test]
fn a_tag_that_was_moved_does_not_go_and_one_pushed_again_does() {
    let scene = Scene::new(WINDOW);
    scene.push(&tag(), 1);
    let soon = scene.clock.now().after(10 * SECOND);
    scene.expire(&tag(), Expiry::At(soon));
    scene.push(&tag(), 2);
    let again: Tag = "again".parse().unwrap();
    scene.push(&again, 3);
    scene.expire(&again, Expiry::At(soon));
    scene.push(&again, 3);
    let kept: Tag = "kept".parse().unwrap();
    scene.push(&kept, 4);
    scene.expire(&kept, Expiry::At(soon));
    scene.expire(&kept, Expiry::Never);
    scene.clock.advance(20 * SECOND);
    assert_eq!(scene.stores.tidy_tags().unwrap(), Tidied { tags: 1, past: 0 });
    assert!(scene.repository.manifest_info(&Reference::Tag(tag())).is_ok());
    assert!(scene.repository.manifest_info(&Reference::Tag(kept)).is_ok());
    assert!(scene.repository.manifest_info(&Reference::Tag(again)).is_err());
}

#[test]
fn more_than_a_step_is_tidied_and_forgotten_as_well() {
    let scene = Scene::new(WINDOW);
    let (one, other) = (scene.push(&tag(), 1), scene.push(&tag(), 2));
    let (name, now) = (scene.repository.name.clone(), scene.clock.now());
    scene
        .stores
        .database
        .write(move |tx| {
            for number in 0..STEP + 10 {
                for digest in [one, other] {
                    tx.put_tag(&name, &tag(), digest, now, true)?;
                }
                let short_lived: Tag = format!("t{number}").parse().unwrap();
                tx.put_tag(&name, &short_lived, one, now, true)?;
                tx.set_tag_attributes(
                    &name,
                    &short_lived,
                    &TagAttributes { expires: Some(now), ..Default::default() },
                )?;
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    scene.repository.forget_past(&tag(), Some(one)).unwrap();
    assert!(matches!(scene.repository.forget_past(&tag(), Some(one)), Err(Error::TagPastUnknown { .. })));
    assert_eq!(scene.stores.tidy_tags().unwrap(), Tidied { tags: STEP + 10, past: 0 });
    scene.clock.advance(WINDOW + SECOND);
    let tidied = scene.stores.tidy_tags().unwrap();
    // The history has one entry for each time that the tag left `other`.
    assert_eq!(tidied, Tidied { tags: 0, past: 2 * (STEP + 10) });
    assert_eq!(scene.history(), [(other, false)]);
}

#[test]
fn what_points_at_a_manifest_that_was_deleted_is_listed_and_can_be_restored() {
    let scene = Scene::new(WINDOW);
    let gone = scene.push(&tag(), 1);
    let stays = scene.push(&tag(), 2);
    scene.repository.delete_manifest(&Reference::Digest(gone), false).unwrap();
    let page = scene.repository.history(&HistoryFilter { limit: 10, ..HistoryFilter::default() }).unwrap();
    assert_eq!(page.entries[1].state.digest, gone);
    assert!(page.entries[1].weight.is_some());
    assert!(matches!(scene.repository.manifest_info(&Reference::Digest(gone)), Err(Error::ManifestUnknown { .. })));
    assert_eq!(scene.repository.manifest_info(&Reference::Tag(tag())).unwrap().digest, stays);
    assert_eq!(scene.repository.restore_tag(&tag(), gone).unwrap(), Some(stays));
    assert_eq!(scene.repository.manifest_info(&Reference::Tag(tag())).unwrap().digest, gone);
}
