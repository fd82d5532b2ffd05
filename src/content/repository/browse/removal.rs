//! [`Removals`]: the bytes that become free if manifests are removed, because nothing else needs them.
//!
//! Works on counts: a blob is free if the removed manifests have all references to it in the repository, and no other
//! repository that the caller sees links it. A manifest that an index lists goes with the index, unless a tag or another index names it.
//! Previous targets of other tags are left out, because they are forgotten after the same time. The work of all
//! removals of one request shares a limit.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::rc::Rc;

use super::holders::Holders;
use crate::content::repository::Error;
use crate::content::rows::Rows;
use crate::oci::{Digest, Manifest, RepositoryName, Tag};

/// The most manifests, blobs and listings that are looked up for one request.
const PARTS_MAX: usize = 20_000;
/// The most bytes of manifests that are read for one request.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The most manifests that go with one removal.
const MANIFESTS_MAX: usize = 2_000;
/// The most manifests that list a blob or a manifest and are looked at.
const LISTERS_MAX: usize = 64;
/// The most referrers of one manifest that go with it.
const REFERRERS_MAX: usize = 200;

/// Content that becomes free, and content that stays.
#[derive(Debug, Default)]
pub(super) struct Removal {
    /// The removed manifests: the given ones, and those that go with them.
    pub(super) manifests: HashSet<Digest>,
    /// The manifests among them whose subject is removed.
    pub(super) referrers: usize,
    /// The bytes that nothing else needs: manifests and blobs.
    pub(super) freed: u64,
    /// The bytes of blobs that stay because other manifests of this repository reference them.
    pub(super) needed_here: u64,
    /// The bytes of blobs that stay only because other repositories link them.
    pub(super) needed_elsewhere: u64,
    /// Some of the blobs that other repositories link.
    pub(super) elsewhere: Vec<Digest>,
}

/// The most blobs in [`Removal::elsewhere`].
const ELSEWHERE_MAX: usize = 20;

/// The manifests that one request has read so far, and the rest of its limits.
pub(super) struct Removals<'a> {
    tx: &'a Rows,
    name: &'a RepositoryName,
    manifests: HashMap<Digest, Option<Rc<Parts>>>,
    holders: Holders<'a>,
    parts_left: usize,
    bytes_left: u64,
}

/// A manifest with what it names.
#[derive(Debug)]
struct Parts {
    size: u64,
    blobs: Vec<Digest>,
    optional: Vec<Digest>,
    children: Vec<Digest>,
}

/// A limit was reached.
struct TooMuch;

impl<'a> Removals<'a> {
    /// Other repositories count if they are `visible`.
    pub(super) fn new(tx: &'a Rows, name: &'a RepositoryName, visible: &'a dyn Fn(&str) -> bool) -> Self {
        let holders = Holders::new(tx, name, visible);
        Self { tx, name, manifests: HashMap::new(), holders, parts_left: PARTS_MAX, bytes_left: BYTES_MAX }
    }

    /// The bytes that only this manifest needs, as far as the caller sees, with the manifests that it lists. `None` beyond a limit.
    pub(super) fn only_here(&mut self, digest: Digest) -> Result<Option<u64>, Error> {
        Ok(self.removal(&[digest], &HashSet::new(), false)?.map(|removal| removal.freed))
    }

    /// The effect of removing manifests and `tags`. `None` beyond a limit.
    pub(super) fn removal(
        &mut self,
        roots: &[Digest],
        tags: &HashSet<Tag>,
        with_referrers: bool,
    ) -> Result<Option<Removal>, Error> {
        let mut removal = Removal { manifests: roots.iter().copied().collect(), ..Removal::default() };
        let mut waiting: Vec<Digest> = roots.to_vec();
        let mut spared: HashSet<Digest> = HashSet::new();
        while let Some(digest) = waiting.pop() {
            let Ok(parts) = self.parts(digest)? else { return Ok(None) };
            let mut candidates = parts.map_or_else(Vec::new, |parts| parts.children.clone());
            let children = candidates.len();
            if with_referrers {
                self.tx.each_referrer(self.name, digest, ("", &[]), |_, referrer, _| {
                    candidates.push(referrer);
                    if candidates.len() - children == REFERRERS_MAX {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })?;
                for tag in Tag::companions(digest) {
                    if self.tx.tag_attributes(self.name, &tag)?.immutable {
                        continue;
                    }
                    candidates.extend(self.tx.tag(self.name, &tag)?.map(|row| row.digest));
                }
            }
            // A manifest that two removed indexes list is looked at again after the second one.
            for (number, candidate) in candidates.into_iter().enumerate() {
                if removal.manifests.contains(&candidate) {
                    continue;
                }
                if self.parts_left == 0 || removal.manifests.len() == MANIFESTS_MAX {
                    return Ok(None);
                }
                self.parts_left -= 1;
                if self.is_named_otherwise(candidate, &removal.manifests, tags, with_referrers)? {
                    spared.insert(candidate);
                } else if self.tx.manifest(self.name, candidate)?.is_some() {
                    spared.remove(&candidate);
                    removal.manifests.insert(candidate);
                    removal.referrers += usize::from(number >= children);
                    waiting.push(candidate);
                }
            }
        }
        Ok(self.weigh(&mut removal)?.ok().map(|()| removal))
    }

    /// Whether a tag or an index that stays names a manifest.
    fn is_named_otherwise(
        &self,
        digest: Digest,
        removed: &HashSet<Digest>,
        tags: &HashSet<Tag>,
        with_companions: bool,
    ) -> Result<bool, Error> {
        let limit = tags.len().saturating_add(LISTERS_MAX);
        let goes = |tag: &Tag| {
            let is_companion = || tag.companion_of().is_some_and(|subject| removed.contains(&subject));
            let goes_along = with_companions && is_companion();
            Ok::<_, Error>(tags.contains(tag) || goes_along && !self.tx.tag_attributes(self.name, tag)?.immutable)
        };
        let tagged = self.tx.first_tags_of(self.name, digest, limit)?;
        if tagged.len() == limit {
            return Ok(true);
        }
        for tag in &tagged {
            if !goes(tag)? {
                return Ok(true);
            }
        }
        let listers = self.tx.listers(self.name, digest, LISTERS_MAX)?;
        Ok(listers.len() == LISTERS_MAX || listers.iter().any(|lister| !removed.contains(lister)))
    }

    /// Adds up the bytes of the removed manifests.
    fn weigh(&mut self, removal: &mut Removal) -> Result<Result<(), TooMuch>, Error> {
        let mut references: HashMap<Digest, u64> = HashMap::new();
        for digest in removal.manifests.iter().copied().collect::<Vec<_>>() {
            let Ok(parts) = self.parts(digest)? else { return Ok(Err(TooMuch)) };
            let Some(parts) = parts else { continue };
            removal.freed += parts.size;
            for blob in &parts.blobs {
                *references.entry(*blob).or_default() += 1;
            }
            // A listing names these, and they are not counted.
            for blob in parts.optional.iter().chain(&parts.children) {
                references.entry(*blob).or_default();
            }
        }
        for (blob, count) in references {
            if self.parts_left == 0 {
                return Ok(Err(TooMuch));
            }
            self.parts_left -= 1;
            // A child that is a manifest has no link.
            let Some(link) = self.tx.link(blob, self.name)? else { continue };
            let Some(row) = self.tx.blob(blob)? else { continue };
            let is_listed = || {
                let listers = self.tx.listers(self.name, blob, LISTERS_MAX)?;
                let others = listers.iter().any(|lister| !removal.manifests.contains(lister));
                Ok::<_, Error>(listers.len() == LISTERS_MAX || others)
            };
            if link.references > count || is_listed()? {
                removal.needed_here += row.size;
            } else if row.links > 1 && self.holders.has(blob)? {
                removal.needed_elsewhere += row.size;
                if removal.elsewhere.len() < ELSEWHERE_MAX {
                    removal.elsewhere.push(blob);
                }
            } else {
                removal.freed += row.size;
            }
        }
        Ok(Ok(()))
    }

    /// Reads a manifest, if no removal before has needed it. A damaged manifest has no parts.
    fn parts(&mut self, digest: Digest) -> Result<Result<Option<Rc<Parts>>, TooMuch>, Error> {
        if let Some(known) = self.manifests.get(&digest) {
            return Ok(Ok(known.clone()));
        }
        let mut found = None;
        if let Some(row) = self.tx.manifest(self.name, digest)? {
            if row.size > self.bytes_left {
                return Ok(Err(TooMuch));
            }
            self.bytes_left -= row.size;
            let bytes = self.tx.manifest_bytes(self.name, digest)?.unwrap_or_default();
            let mut parts = Parts { size: row.size, blobs: Vec::new(), optional: Vec::new(), children: Vec::new() };
            if let Ok(manifest) = Manifest::read(&bytes, row.media_type().as_ref()) {
                parts.blobs = manifest.blobs().to_vec();
                parts.optional = manifest.optional_blobs().to_vec();
                parts.children = manifest.manifests().iter().map(|child| child.digest).collect();
            }
            found = Some(Rc::new(parts));
        }
        self.manifests.insert(digest, found.clone());
        Ok(Ok(found))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::content::repository::Repository;
    use crate::content::repository::scene::{Scene, image, index, rules};

    fn removal(repository: &Repository, roots: &[Digest], with_referrers: bool) -> Removal {
        let read =
            |tx: &Rows| Removals::new(tx, &repository.name, &|_| true).removal(roots, &HashSet::new(), with_referrers);
        repository.stores.database.read(read).unwrap().unwrap()
    }

    fn only_here(repository: &Repository, digest: Digest) -> u64 {
        let read = |tx: &Rows| Removals::new(tx, &repository.name, &|_| true).only_here(digest);
        repository.stores.database.read(read).unwrap().unwrap()
    }

    #[test]
    fn only_bytes_that_nothing_else_needs_are_freed() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let [config, base, own] = [&b"{}"[..], &[1; 100], &[2; 1000]].map(|bytes| repository.push_blob(bytes));
        let (one, two) = (image(&[config, base, own], None, "1"), image(&[config, base], None, "2"));
        let [first, second] = [&one, &two].map(|text| repository.push_manifest(text, &[]).unwrap());
        assert_eq!(only_here(&repository, first), one.len() as u64 + 1000);
        assert_eq!(only_here(&repository, second), two.len() as u64);
        let both = removal(&repository, &[first, second], false);
        assert_eq!((both.freed, both.needed_here), ((one.len() + two.len()) as u64 + 1102, 0));
        // Another repository links one of the blobs.
        scene.repository("b").mount(own, |_| true).unwrap();
        let one_of_them = removal(&repository, &[first], false);
        assert_eq!(
            (one_of_them.freed, one_of_them.needed_here, one_of_them.needed_elsewhere),
            (one.len() as u64, 102, 1000)
        );
        assert_eq!(one_of_them.elsewhere, [own]);
    }

    #[test]
    fn manifests_go_with_their_index_and_referrers_with_their_subject() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let config = repository.push_blob(b"{}");
        let texts = ["1", "2", "3"].map(|note| image(&[config], None, note));
        let [a, b, c] = [0, 1, 2].map(|n| repository.push_manifest(&texts[n], &[]).unwrap());
        let outer = index(&[a, b, c], "outer");
        let outer_digest = repository.push_manifest(&outer, &["t"]).unwrap();
        repository.push_manifest(&index(&[b], "other"), &["u"]).unwrap();
        repository.delete("u").unwrap();
        repository.push_manifest(&texts[2], &["c"]).unwrap();
        let size = |texts: &[&String]| texts.iter().map(|text| text.len() as u64).sum::<u64>();
        // Another index lists b, and a tag names c.
        assert_eq!(only_here(&repository, outer_digest), size(&[&outer, &texts[0]]));
        let signature = image(&[config], Some(a), "signature");
        repository.push_manifest(&signature, &[]).unwrap();
        assert_eq!(only_here(&repository, outer_digest), size(&[&outer, &texts[0]]));
        let all = removal(&repository, &[outer_digest], true);
        assert_eq!((all.freed, all.referrers), (size(&[&outer, &texts[0], &signature]), 1));
    }

    #[test]
    fn a_request_has_a_limit() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let config = repository.push_blob(b"{}");
        let digest = repository.push_manifest(&image(&[config], None, "1"), &[]).unwrap();
        repository
            .stores
            .database
            .read(|tx| {
                let mut removals = Removals { bytes_left: 1, ..Removals::new(tx, &repository.name, &|_| true) };
                assert_eq!(removals.only_here(digest)?, None);
                let mut removals = Removals { parts_left: 0, ..Removals::new(tx, &repository.name, &|_| true) };
                assert_eq!(removals.only_here(digest)?, None);
                Ok::<_, Error>(())
            })
            .unwrap();
    }
}
