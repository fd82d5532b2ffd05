//! The effect of a deletion, before it happens.

use std::collections::{BTreeSet, HashSet};

use super::holders::Holders;
use super::removal::Removals;
use crate::content::repository::{Error, Repository};
use crate::content::rows::Rows;
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, Reference, Tag};

/// The most tags that one form deletes.
pub(crate) const DELETED_TAGS_MAX: usize = 200;
/// The most tags that are named.
const TAGS_MAX: usize = 200;
/// The most other repositories that are named.
const REPOSITORIES_MAX: usize = 5;

/// A planned deletion.
#[derive(Clone, Debug)]
pub(crate) enum Deletion {
    /// Only the tags. Manifests that nothing names any more are collected later.
    Tags(Vec<Tag>),
    /// A manifest with all its tags.
    Manifest(Digest),
}

/// Why a manifest stays although a deleted tag points at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeptBy {
    /// Another tag points at it.
    Tag(Tag),
    /// An index lists it.
    Index(Digest),
}

/// The effect of a deletion.
#[derive(Debug, Default)]
pub(crate) struct DeletionPreview {
    /// The tags that go.
    pub(crate) tags: Vec<Tag>,
    /// More tags go than are named.
    pub(crate) more_tags: bool,
    /// Manifests that stay, with the reason.
    pub(crate) kept: Vec<(Digest, KeptBy)>,
    /// The index that forbids the deletion of the manifest.
    pub(crate) blocked_by: Option<Digest>,
    /// The number of manifests that go, those of an index included.
    pub(crate) manifests: usize,
    /// The signatures, SBOMs and other referrers among them.
    pub(crate) referrers: usize,
    /// The bytes that garbage collection frees, and those that other manifests or repositories still need. `None` if
    /// there are too many parts to count.
    pub(crate) bytes: Option<DeletedBytes>,
    /// Until when it can be undone. `None` if no history is kept.
    pub(crate) restorable_until: Option<Timestamp>,
}

/// The bytes of deleted manifests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DeletedBytes {
    pub(crate) freed: u64,
    pub(crate) needed_here: u64,
    pub(crate) needed_elsewhere: u64,
    /// Some visible repositories that need them.
    pub(crate) repositories: Vec<String>,
}

impl Repository {
    /// Computes the effect of a deletion. Other repositories count, and are named, if they are `visible`.
    pub(crate) fn preview_deletion(
        &self,
        deletion: &Deletion,
        visible: &dyn Fn(&str) -> bool,
    ) -> Result<DeletionPreview, Error> {
        let history = self.stores.rules.tag_history;
        let mut preview = DeletionPreview::default();
        if !history.is_zero() {
            preview.restorable_until = Some(self.stores.clock.now().after(history));
        }
        self.stores.database.read(|tx| {
            let roots = match deletion {
                Deletion::Tags(tags) => self.untagged_by(tx, tags, &mut preview)?,
                Deletion::Manifest(digest) => {
                    if tx.manifest(&self.name, *digest)?.is_none() {
                        return Err(Error::ManifestUnknown { reference: Reference::Digest(*digest) });
                    }
                    preview.tags = tx.first_tags_of(&self.name, *digest, TAGS_MAX + 1)?;
                    preview.more_tags = preview.tags.len() > TAGS_MAX;
                    preview.tags.truncate(TAGS_MAX);
                    preview.blocked_by = tx.present_lister(&self.name, *digest)?;
                    vec![*digest]
                }
            };
            let tags: HashSet<Tag> = preview.tags.iter().cloned().collect();
            let Some(removal) = Removals::new(tx, &self.name, visible).removal(&roots, &tags, true)? else {
                preview.manifests = roots.len();
                return Ok(());
            };
            (preview.manifests, preview.referrers) = (removal.manifests.len(), removal.referrers);
            let repositories = self.other_holders(tx, &removal.elsewhere, visible)?;
            let (freed, needed_here, needed_elsewhere) = (removal.freed, removal.needed_here, removal.needed_elsewhere);
            preview.bytes = Some(DeletedBytes { freed, needed_here, needed_elsewhere, repositories });
            Ok(())
        })?;
        Ok(preview)
    }

    /// The manifests that nothing names after these tags are gone.
    fn untagged_by(&self, tx: &Rows, tags: &[Tag], preview: &mut DeletionPreview) -> Result<Vec<Digest>, Error> {
        let mut targets = BTreeSet::new();
        for tag in tags.iter().take(DELETED_TAGS_MAX) {
            if let Some(row) = tx.tag(&self.name, tag)? {
                preview.tags.push(tag.clone());
                targets.insert(row.digest);
            }
        }
        if preview.tags.is_empty() && !tags.is_empty() {
            return Err(Error::ManifestUnknown { reference: Reference::Tag(tags[0].clone()) });
        }
        let mut roots = Vec::new();
        for digest in targets {
            let left = tx.first_tags_of(&self.name, digest, DELETED_TAGS_MAX + 1)?;
            let other = left.into_iter().find(|tag| !preview.tags.contains(tag));
            let keeper = match other {
                Some(tag) => Some(KeptBy::Tag(tag)),
                None => tx.present_lister(&self.name, digest)?.map(KeptBy::Index),
            };
            match keeper {
                Some(keeper) => preview.kept.push((digest, keeper)),
                None => roots.push(digest),
            }
        }
        Ok(roots)
    }

    /// Some visible repositories other than this one that link one of the blobs.
    fn other_holders(&self, tx: &Rows, blobs: &[Digest], visible: &dyn Fn(&str) -> bool) -> Result<Vec<String>, Error> {
        let (mut names, mut holders) = (BTreeSet::new(), Holders::new(tx, &self.name, visible));
        for blob in blobs {
            names.extend(holders.of(*blob, REPOSITORIES_MAX)?.0);
            if names.len() >= REPOSITORIES_MAX {
                break;
            }
        }
        Ok(names.into_iter().take(REPOSITORIES_MAX).collect())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::time::Duration;

    use super::super::{TagOrder, TagQuery};
    use super::*;
    use crate::content::repository::scene::{Scene, image, index, rules};

    fn tags(names: &[&str]) -> Deletion {
        Deletion::Tags(names.iter().map(|name| name.parse().unwrap()).collect())
    }

    #[test]
    fn a_manifest_that_another_tag_or_an_index_names_stays() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let config = repository.push_blob(b"{}");
        let text = image(&[config], None, "1");
        let digest = repository.push_manifest(&text, &["1", "latest"]).unwrap();
        let preview = |deletion: &Deletion| repository.preview_deletion(deletion, &|_| true).unwrap();
        let one = preview(&tags(&["latest", "absent"]));
        assert_eq!(one.kept, [(digest, KeptBy::Tag("1".parse().unwrap()))]);
        assert_eq!((one.tags.len(), one.manifests, one.bytes), (1, 0, Some(DeletedBytes::default())));
        let hour = scene.clock.now().after(Duration::from_hours(1));
        assert!(one.restorable_until.is_some_and(|until| until <= hour && hour.since(until) < Duration::from_mins(1)));
        let both = preview(&tags(&["latest", "1"]));
        assert_eq!((both.kept.len(), both.manifests, both.bytes.unwrap().freed), (0, 1, text.len() as u64 + 2));
        let all = preview(&Deletion::Manifest(digest));
        assert_eq!((all.tags.len(), all.blocked_by, all.bytes.unwrap().freed), (2, None, text.len() as u64 + 2));
        let lister = repository.push_manifest(&index(&[digest], "i"), &["i"]).unwrap();
        assert_eq!(preview(&tags(&["1", "latest"])).kept, [(digest, KeptBy::Index(lister))]);
        assert_eq!(preview(&Deletion::Manifest(digest)).blocked_by, Some(lister));
        assert!(repository.preview_deletion(&tags(&["absent"]), &|_| true).is_err());
    }

    #[test]
    fn only_visible_repositories_are_named() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let config = repository.push_blob(b"{}");
        let digest = repository.push_manifest(&image(&[config], None, "1"), &["1"]).unwrap();
        for name in ["b", "c"] {
            scene.repository(name).mount(config, |_| true).unwrap();
        }
        let preview = repository.preview_deletion(&Deletion::Manifest(digest), &|name| name == "c").unwrap();
        let bytes = preview.bytes.unwrap();
        assert_eq!((bytes.needed_elsewhere, bytes.repositories), (2, vec!["c".to_owned()]));
    }

    /// Otherwise a user could push a blob to learn whether another user has it.
    #[test]
    fn a_repository_that_the_caller_does_not_see_changes_no_sum() {
        let scene = Scene::new(rules());
        let (mine, theirs) = (scene.repository("mine"), scene.repository("theirs"));
        let [config, layer] = [&b"{}"[..], &[1; 1000]].map(|bytes| mine.push_blob(bytes));
        let digest = mine.push_manifest(&image(&[config, layer], None, "1"), &["1"]).unwrap();
        let sums = |sees_theirs: bool| {
            let visible = |_: &str| sees_theirs;
            let bytes = mine.preview_deletion(&Deletion::Manifest(digest), &visible).unwrap().bytes.unwrap();
            let query = TagQuery { order: TagOrder::Version, part: String::new(), after: None, limit: 9 };
            let listed = mine.list_tags(&query, &visible).unwrap().tags.remove(0).only_here;
            let report = mine.manifest_report(&digest.to_string().parse().unwrap(), &visible).unwrap().only_here;
            (bytes, listed, report)
        };
        let before = [false, true].map(sums);
        assert_eq!(before[0], before[1]);
        theirs.mount(layer, |_| true).unwrap();
        assert_eq!(sums(false), before[0], "the sums show that others have the blob");
        assert_eq!(sums(true).1, before[1].1.map(|bytes| bytes - 1000));
        assert_eq!(sums(true).0.needed_elsewhere, 1000);
    }
}
