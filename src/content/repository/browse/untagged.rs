//! Manifests without a tag, and the reason why each one is still there.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::content::repository::{Error, Repository};
use crate::content::rows::{Facts, Unreferenced};
use crate::oci::Digest;

/// The most manifests that one page looks at.
const LOOKED_AT_MAX: usize = 10_000;

/// Why a manifest without a tag exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UntaggedState {
    /// An index lists it.
    Listed { index: Digest },
    /// It refers to another manifest.
    Refers,
    /// Nothing names it since this long.
    Unreferenced { since: Duration },
    /// Only the history of a tag names it.
    History,
}

/// A manifest without a tag.
#[derive(Debug)]
pub(crate) struct UntaggedManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) facts: Option<Facts>,
    pub(crate) state: UntaggedState,
}

/// A page of manifests without a tag.
#[derive(Debug, Default)]
pub(crate) struct UntaggedPage {
    pub(crate) manifests: Vec<UntaggedManifest>,
    /// The position of the next page, if there may be more. A page may have no manifests and a next page.
    pub(crate) next: Option<Digest>,
}

impl Repository {
    /// At most `limit` manifests after `after` without a tag, in the order of their digests.
    pub(crate) fn untagged(&self, after: Option<Digest>, limit: usize) -> Result<UntaggedPage, Error> {
        let now = self.stores.ages.steady();
        self.stores.database.read(|tx| {
            let (mut digests, mut page, mut looked_at) = (Vec::new(), UntaggedPage::default(), 0);
            let mut last = None;
            let mut failed = Ok(());
            tx.each_manifest(&self.name, after, |digest| {
                if digests.len() == limit || looked_at == LOOKED_AT_MAX {
                    page.next = last;
                    return ControlFlow::Break(());
                }
                (last, looked_at) = (Some(digest), looked_at + 1);
                match tx.first_tags_of(&self.name, digest, 1) {
                    Ok(tags) if tags.is_empty() => digests.push(digest),
                    Ok(_) => {}
                    Err(error) => {
                        failed = Err(error);
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            })?;
            failed?;
            for digest in digests {
                let Some(row) = tx.manifest(&self.name, digest)? else { continue };
                let unreferenced = |kind| tx.unreferenced(&self.name, kind, digest);
                let since = match unreferenced(Unreferenced::Referrer)? {
                    None => unreferenced(Unreferenced::Manifest)?,
                    since => since,
                };
                let is_referrer = || {
                    let manifest = crate::content::repository::manifest::stored_manifest(tx, &self.name, digest);
                    manifest.is_ok_and(|manifest| manifest.is_some_and(|manifest| manifest.subject().is_some()))
                };
                let state = match (tx.present_lister(&self.name, digest)?, since) {
                    (Some(index), _) => UntaggedState::Listed { index },
                    (None, _) if is_referrer() => UntaggedState::Refers,
                    (None, Some(since)) => UntaggedState::Unreferenced { since: now.since(since) },
                    (None, None) => UntaggedState::History,
                };
                let facts = tx.facts(&self.name, digest)?;
                page.manifests.push(UntaggedManifest { digest, media_type: row.media_type, facts, state });
            }
            Ok(page)
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::content::repository::scene::{Scene, image, index, rules};

    #[test]
    fn every_manifest_without_a_tag_is_listed_with_its_reason() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let config = repository.push_blob(b"{}");
        let push = |note: &str, tags: &[&str]| repository.push_manifest(&image(&[config], None, note), tags).unwrap();
        let (child, alone, moved, tagged) = (push("1", &[]), push("2", &[]), push("3", &["t"]), push("4", &["t"]));
        let signature = repository.push_manifest(&image(&[config], Some(tagged), "s"), &[]).unwrap();
        let lister = repository.push_manifest(&index(&[child], "i"), &["i"]).unwrap();
        scene.clock.advance(Duration::from_mins(1));
        let (mut found, mut after) = (HashMap::new(), None);
        loop {
            let page = repository.untagged(after, 2).unwrap();
            assert!(page.manifests.len() <= 2);
            found.extend(page.manifests.into_iter().map(|manifest| (manifest.digest, manifest.state)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found.len(), 4);
        assert_eq!(found[&child], UntaggedState::Listed { index: lister });
        assert_eq!(found[&signature], UntaggedState::Refers);
        assert_eq!(found[&moved], UntaggedState::History);
        assert!(matches!(found[&alone], UntaggedState::Unreferenced { since } if since >= Duration::from_mins(1)));
    }
}
