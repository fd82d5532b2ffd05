//! The manifests that refer to another one: signatures, SBOMs, attestations. As a list, and as a tree.

use std::collections::HashSet;
use std::ops::ControlFlow;

use serde::Deserialize;

use crate::content::repository::{Error, Repository};
use crate::content::rows::{Facts, Kind, Rows};
use crate::oci::{Digest, RepositoryName, Tag};

/// The most referrers of one manifest that are looked at for a signature.
const SIGNATURES_LOOKED_AT_MAX: usize = 50;
/// The most referrers of one manifest in a tree, and of all of them.
const SIBLINGS_MAX: usize = 100;
const TREE_MAX: usize = 300;
/// The depth of the tree: the signature of an SBOM is at the second level.
const DEPTH_MAX: usize = 2;
/// The most bytes of annotations of a referrer that are kept.
const ANNOTATION_BYTES_MAX: usize = 300;

/// A manifest that refers to another one.
#[derive(Debug)]
pub(crate) struct ReferrerNode {
    pub(crate) digest: Digest,
    /// Empty if the manifest has none.
    pub(crate) artifact_type: String,
    /// Its tag, if only a tag says that it belongs to the other one.
    pub(crate) tag: Option<Tag>,
    /// Annotations of the descriptor.
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) facts: Option<Facts>,
    /// The manifests that refer to it.
    pub(crate) referrers: Vec<ReferrerNode>,
}

/// The manifests that refer to one manifest.
#[derive(Debug, Default)]
pub(crate) struct ReferrerTree {
    pub(crate) nodes: Vec<ReferrerNode>,
    /// Whether a limit has cut it off.
    pub(crate) is_part: bool,
}

/// Whether a signature refers to a manifest, or a tag of cosign belongs to it. Signatures are not verified.
pub(super) fn is_signed(tx: &Rows, name: &RepositoryName, digest: Digest) -> Result<bool, Error> {
    for tag in Tag::companions(digest).filter(Tag::is_signature) {
        if tx.tag(name, &tag)?.is_some() {
            return Ok(true);
        }
    }
    let mut referrers = Vec::new();
    tx.each_referrer(name, digest, ("", &[]), |_, referrer, _| {
        referrers.push(referrer);
        if referrers.len() == SIGNATURES_LOOKED_AT_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    for referrer in referrers {
        if tx.facts(name, referrer)?.is_some_and(|facts| facts.kind == Kind::Signature) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The shown part of a descriptor of a referrer.
#[derive(Default, Deserialize)]
struct Descriptor {
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Repository {
    /// The manifests that refer to a manifest, two levels deep.
    pub(super) fn referrer_tree(&self, tx: &Rows, digest: Digest) -> Result<ReferrerTree, Error> {
        let (mut tree, mut seen) = (ReferrerTree::default(), HashSet::from([digest]));
        tree.nodes = self.referrer_nodes(tx, digest, 1, &mut seen, &mut tree.is_part)?;
        Ok(tree)
    }

    fn referrer_nodes(
        &self,
        tx: &Rows,
        subject: Digest,
        depth: usize,
        seen: &mut HashSet<Digest>,
        is_part: &mut bool,
    ) -> Result<Vec<ReferrerNode>, Error> {
        let mut nodes = Vec::new();
        tx.each_referrer(&self.name, subject, ("", &[]), |artifact_type, digest, descriptor| {
            if nodes.len() == SIBLINGS_MAX || seen.len() > TREE_MAX {
                *is_part = true;
                return ControlFlow::Break(());
            }
            if seen.insert(digest) {
                nodes.push(node(digest, artifact_type, descriptor));
            }
            ControlFlow::Continue(())
        })?;
        for tag in Tag::companions(subject) {
            let Some(row) = tx.tag(&self.name, &tag)? else { continue };
            // The tag without a suffix names the list of referrers of an older client.
            let is_list = tx
                .manifest(&self.name, row.digest)?
                .and_then(|row| row.media_type())
                .is_some_and(|kind| kind.is_index());
            if !is_list && seen.insert(row.digest) {
                nodes.push(ReferrerNode { tag: Some(tag), ..node(row.digest, "", b"{}") });
            }
        }
        for node in &mut nodes {
            node.facts = tx.facts(&self.name, node.digest)?;
            if depth < DEPTH_MAX {
                node.referrers = self.referrer_nodes(tx, node.digest, depth + 1, seen, is_part)?;
            }
        }
        Ok(nodes)
    }
}

fn node(digest: Digest, artifact_type: &str, descriptor: &[u8]) -> ReferrerNode {
    let descriptor: Descriptor = serde_json::from_slice(descriptor).unwrap_or_default();
    let (mut annotations, mut left) = (Vec::new(), ANNOTATION_BYTES_MAX);
    for (key, value) in descriptor.annotations {
        if let Some(rest) = left.checked_sub(key.len() + value.len()) {
            left = rest;
            annotations.push((key, value));
        }
    }
    let (tag, facts, referrers) = (None, None, Vec::new());
    ReferrerNode { digest, artifact_type: artifact_type.to_owned(), tag, annotations, facts, referrers }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::content::repository::scene::{Scene, image, rules};

    #[test]
    fn the_tree_has_two_levels_and_the_tags_of_cosign() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let config = repository.push_blob(b"{}");
        let push = |subject, note: &str, tags: &[&str]| {
            repository.push_manifest(&image(&[config], subject, note), tags).unwrap()
        };
        let subject = push(None, "subject", &["1"]);
        let sbom = push(Some(subject), "sbom", &[]);
        let of_sbom = push(Some(sbom), "signature", &[]);
        push(Some(of_sbom), "third level", &[]);
        let signature = push(None, "cosign", &[&format!("sha256-{}.sig", subject.hex())]);
        let read = |tx: &Rows| repository.referrer_tree(tx, subject);
        let tree = repository.stores.database.read(read).unwrap();
        assert!(!tree.is_part);
        let [one, other] = tree.nodes.as_slice() else { panic!("{tree:?}") };
        assert_eq!((one.digest, one.tag.clone()), (sbom, None));
        assert_eq!(one.annotations, [("note".to_owned(), "sbom".to_owned())]);
        assert_eq!(one.referrers.iter().map(|node| node.digest).collect::<Vec<_>>(), [of_sbom]);
        assert!(one.referrers[0].referrers.is_empty());
        assert_eq!((other.digest, other.tag.is_some()), (signature, true));
        let signed = |digest| repository.stores.database.read(|tx| is_signed(tx, &repository.name, digest)).unwrap();
        assert!(signed(subject) && !signed(sbom));
    }
}
