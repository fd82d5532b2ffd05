//! Images that share layers with another one, and images that have a manifest, a config or a layer with a digest.
//!
//! A blob knows the repositories that link it, and not the manifests that name it. So a search finds the repositories
//! by the index, and reads the manifests of their tags, up to a limit.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

use super::{Document, Gallery, Tagged, take};
use crate::content::repository::Error;
use crate::content::repository::browse::version::is_companion;
use crate::oci::{Algorithm, Digest, RepositoryName};

/// The most repositories whose manifests are read.
const REPOSITORIES_MAX: usize = 100;
/// The most links of blobs that are looked at, whether the viewer sees their repositories or not.
const LINKS_MAX: usize = 20_000;
/// The most tags of one manifest that a search by its digest shows.
const TAGS_MAX: usize = 10_000;
/// A shorter part of a digest is not searched for.
const DIGITS_MIN: usize = 4;

/// How an image relates to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// The other image has all its layers.
    Base,
    /// It has all layers of the other image.
    Derived,
}

/// The layers of a manifest.
type Layers = (Digest, HashSet<Digest>);

impl Relation {
    fn holds(self, candidate: &HashSet<Digest>, of: &HashSet<Digest>) -> bool {
        match self {
            _ if candidate.is_empty() || of.is_empty() => false,
            Self::Base => candidate.is_subset(of),
            Self::Derived => of.is_subset(candidate),
        }
    }
}

fn layers_of((digest, document): &(Digest, Document)) -> Layers {
    (*digest, document.layer_digests().collect())
}

impl Gallery<'_> {
    /// The images that relate to an image by their layers. An index relates if one of its manifests does. Manifests of the
    /// image itself do not, compared in the order of zot.
    pub(crate) fn related_images(
        &self,
        name: &RepositoryName,
        digest: Digest,
        relation: Relation,
    ) -> Result<Vec<Tagged>, Error> {
        let documents = self.images_of(name, digest)?.unwrap_or_default();
        let mut layers = BTreeSet::new();
        for (_, document) in &documents {
            // A derived image has the first layer. A base image may have any.
            let limit = if relation == Relation::Derived { 1 } else { usize::MAX };
            layers.extend(document.layer_digests().take(limit));
        }
        let ours: Vec<Layers> = documents.iter().map(layers_of).collect();
        let repositories = self.linking_repositories(layers)?;
        self.images_where(&repositories, |candidate| {
            let (digest, candidate) = layers_of(candidate);
            let decisive = ours.iter().find(|(own, of)| *own == digest || relation.holds(&candidate, of));
            decisive.is_some_and(|(own, _)| *own != digest)
        })
    }

    /// The images with a manifest, a config or a layer whose digest begins with a text: `sha256:` and digits, or digits.
    pub(crate) fn images_with_digest(&self, text: &str) -> Result<Vec<Tagged>, Error> {
        let lower = text.trim().to_ascii_lowercase();
        let (algorithms, digits) = match lower.split_once(':') {
            Some((algorithm, digits)) => (algorithm.parse::<Algorithm>().into_iter().collect(), digits.to_owned()),
            None => (Algorithm::ALL.to_vec(), lower.clone()),
        };
        if digits.len() < DIGITS_MIN || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Vec::new());
        }
        let (mut manifests, mut found, mut repositories) = (BTreeSet::new(), HashSet::new(), BTreeSet::new());
        for algorithm in algorithms {
            let mut looked_at = 0;
            let mut visit = |digest: Digest, name: &str| {
                looked_at += 1;
                if repositories.len() == REPOSITORIES_MAX || looked_at > LINKS_MAX {
                    return ControlFlow::Break(());
                }
                if (self.viewer.sees)(name) {
                    found.insert(digest);
                    repositories.insert(name.to_owned());
                }
                ControlFlow::Continue(())
            };
            self.read().each_manifest_with_digest(algorithm, &digits, |digest, name| {
                let flow = visit(digest, name);
                if flow.is_continue() && (self.viewer.sees)(name) {
                    manifests.insert((name.to_owned(), digest));
                }
                flow
            })?;
            self.read().each_link_with_digest(algorithm, &digits, &mut visit)?;
        }
        let repositories: Vec<RepositoryName> = repositories.iter().filter_map(|name| name.parse().ok()).collect();
        let mut images = self.images_where(&repositories, |(manifest, document)| {
            let config = document.config.as_ref().and_then(|config| config.digest);
            found.contains(manifest)
                || config.is_some_and(|config| found.contains(&config))
                || document.layer_digests().any(|layer| found.contains(&layer))
        })?;
        self.add_manifests(manifests, &mut images)?;
        Ok(images)
    }

    /// Adds the images with these digests: indexes, and tags beyond the limit of a list.
    fn add_manifests(&self, manifests: BTreeSet<(String, Digest)>, images: &mut Vec<Tagged>) -> Result<(), Error> {
        let known = images.iter().map(|image| (image.repository.clone(), image.tag.clone()));
        let mut listed: HashMap<(RepositoryName, String), usize> = known.zip(0..).collect();
        for (name, digest) in manifests {
            let Ok(name) = name.parse::<RepositoryName>() else { continue };
            for tag in self.read().first_tags_of(&name, digest, TAGS_MAX)? {
                if self.is_exhausted() || !take(&self.tags_left) {
                    return Ok(());
                }
                let Some(image) = self.tag(&name, tag.as_str())?.filter(|image| !is_companion(&image.tag)) else {
                    continue;
                };
                match listed.entry((name.clone(), image.tag.clone())) {
                    // The search is about the whole index.
                    Entry::Occupied(at) => images[*at.get()].only = None,
                    Entry::Vacant(free) => {
                        free.insert(images.len());
                        images.push(image);
                    }
                }
            }
        }
        Ok(())
    }

    /// The visible repositories that link any of these blobs.
    fn linking_repositories(&self, blobs: BTreeSet<Digest>) -> Result<Vec<RepositoryName>, Error> {
        let (mut names, mut looked_at) = (BTreeSet::new(), 0);
        for blob in blobs {
            self.read().each_linking_repository(blob, |name| {
                looked_at += 1;
                if names.len() == REPOSITORIES_MAX || looked_at > LINKS_MAX {
                    return ControlFlow::Break(());
                }
                if !names.contains(name) && (self.viewer.sees)(name) {
                    names.insert(name.to_owned());
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The images of repositories of which a manifest is wanted. An index is shown with those of its manifests.
    fn images_where(
        &self,
        repositories: &[RepositoryName],
        wanted: impl Fn(&(Digest, Document)) -> bool,
    ) -> Result<Vec<Tagged>, Error> {
        let mut images = Vec::new();
        for name in repositories {
            for mut image in self.images(name, "")? {
                if self.is_exhausted() || !take(&self.tags_left) {
                    return Ok(images);
                }
                let Some(manifests) = self.images_of(name, image.digest)? else { return Ok(images) };
                let meant = manifests.iter().filter(|manifest| wanted(manifest)).map(|(digest, _)| *digest);
                let meant: Vec<Digest> = meant.collect();
                if !meant.is_empty() {
                    image.only = (meant.len() < manifests.len()).then_some(meant);
                    images.push(image);
                }
            }
        }
        Ok(images)
    }
}
