//! Search in all repositories that a caller sees: by a part of a name, by `repository:tag`, and by a digest.

use std::ops::ControlFlow;

use super::repositories::{ListedRepository, listed};
use super::tags::is_part;
use super::walk::{Step, Walk};
use crate::content::repository::{Error, SearchScope, Stores};
use crate::content::rows::{Facts, Rows};
use crate::oci::{Algorithm, Digest, RepositoryName, Tag};

/// The most results of each kind.
const REPOSITORIES_MAX: usize = 50;
const TAGS_MAX: usize = 50;
const DIGESTS_MAX: usize = 50;
/// The most repositories whose tags are searched, and the most tags that are looked at.
const TAGGED_MAX: usize = 100;
const TAGS_LOOKED_AT_MAX: usize = 200_000;
/// The most manifests and blobs that are looked at, whether the caller sees them or not.
const DIGESTS_LOOKED_AT_MAX: usize = 5_000;
/// A shorter part of a digest is not searched for.
const HEX_MIN: usize = 6;

/// A text that is searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sought {
    /// A part of the name of a repository. It may also be the beginning of a digest.
    Name { part: String, digits: Option<String> },
    /// A part of the name of a repository, and a part of a tag.
    Tag { repository: String, tag: String },
    /// The beginning of a digest.
    Digest { algorithm: Algorithm, digits: String },
}

impl Sought {
    /// Reads a text as people write it: with blanks around it, or with the host and the digest of a pull command.
    pub(crate) fn read(text: &str) -> Self {
        let text = text.trim();
        let text = text.rsplit_once('@').map_or(text, |(_, digest)| digest);
        let digits = |text: &str| {
            let lower = text.to_ascii_lowercase();
            (lower.len() >= HEX_MIN && lower.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(lower)
        };
        match text.rsplit_once(':') {
            Some((algorithm, hex)) if algorithm.parse::<Algorithm>().is_ok() && digits(hex).is_some() => {
                let algorithm = algorithm.parse().unwrap_or(Algorithm::Sha256);
                Self::Digest { algorithm, digits: digits(hex).unwrap_or_default() }
            }
            Some((repository, tag)) if !tag.contains('/') => {
                Self::Tag { repository: repository.to_lowercase(), tag: tag.to_lowercase() }
            }
            _ => Self::Name { part: text.to_lowercase(), digits: digits(text) },
        }
    }
}

/// A tag that was found.
#[derive(Debug)]
pub(crate) struct FoundTag {
    pub(crate) repository: RepositoryName,
    pub(crate) tag: Tag,
    pub(crate) digest: Digest,
}

/// A manifest that was found by its digest.
#[derive(Debug)]
pub(crate) struct FoundManifest {
    pub(crate) repository: RepositoryName,
    pub(crate) digest: Digest,
    pub(crate) facts: Option<Facts>,
    /// One of its tags.
    pub(crate) tag: Option<Tag>,
}

/// A blob that was found by its digest.
#[derive(Debug)]
pub(crate) struct FoundBlob {
    pub(crate) repository: RepositoryName,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// The results of a search.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) repositories: Vec<ListedRepository>,
    pub(crate) tags: Vec<FoundTag>,
    pub(crate) manifests: Vec<FoundManifest>,
    pub(crate) blobs: Vec<FoundBlob>,
    /// Whether there may be more results.
    pub(crate) is_part: bool,
}

struct Search<'a> {
    tx: &'a Rows,
    scope: &'a SearchScope,
    visible: &'a dyn Fn(&str) -> bool,
    found: Found,
}

impl Stores {
    /// Searches the repositories that are `visible`, all of them within `scope`.
    pub(crate) fn search(
        &self,
        sought: &Sought,
        scope: &SearchScope,
        visible: &dyn Fn(&str) -> bool,
    ) -> Result<Found, Error> {
        self.database.read(|tx| {
            let mut search = Search { tx, scope, visible, found: Found::default() };
            match sought {
                Sought::Name { part, digits } => {
                    search.names(part)?;
                    if let Some(digits) = digits {
                        for algorithm in Algorithm::ALL {
                            search.digests(algorithm, digits)?;
                        }
                    }
                }
                Sought::Tag { repository, tag } => search.tags(repository, tag)?,
                Sought::Digest { algorithm, digits } => search.digests(*algorithm, digits)?,
            }
            Ok(search.found)
        })
    }
}

impl Search<'_> {
    /// The first visible names that contain a text, which may be empty.
    fn first_names(&mut self, part: &str, limit: usize) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        let admits = |name: &str| name.contains(part) && (self.visible)(name);
        let walk = Walk { tx: self.tx, scope: self.scope, visible: &admits, prefix: "", after: "" };
        let is_cut_off = walk.each(|name| {
            names.push(name.to_owned());
            if names.len() > limit { Step::Stop } else { Step::Next }
        })?;
        self.found.is_part |= is_cut_off || names.len() > limit;
        names.truncate(limit);
        Ok(names)
    }

    fn names(&mut self, part: &str) -> Result<(), Error> {
        for name in self.first_names(part, REPOSITORIES_MAX)? {
            self.found.repositories.extend(listed(self.tx, &name)?);
        }
        Ok(())
    }

    fn tags(&mut self, repository: &str, part: &str) -> Result<(), Error> {
        let mut names = self.first_names(repository, TAGGED_MAX)?;
        // A repository with exactly this name comes first.
        if (self.visible)(repository) && !names.iter().any(|name| name == repository) {
            names.insert(0, repository.to_owned());
        }
        names.sort_by_key(|name| name != repository);
        let mut looked_at = 0;
        for name in names {
            let Ok(name) = name.parse::<RepositoryName>() else { continue };
            let (mut tags, left) = (Vec::new(), TAGS_MAX - self.found.tags.len());
            self.tx.each_tag(&name, "", |tag| {
                looked_at += 1;
                if is_part(tag, part) {
                    tags.push(tag.to_owned());
                }
                let is_done = tags.len() > left || looked_at == TAGS_LOOKED_AT_MAX;
                if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            let is_done = tags.len() > left || looked_at == TAGS_LOOKED_AT_MAX;
            tags.truncate(left);
            for tag in tags {
                let Ok(tag) = tag.parse::<Tag>() else { continue };
                let Some(row) = self.tx.tag(&name, &tag)? else { continue };
                self.found.tags.push(FoundTag { repository: name.clone(), tag, digest: row.digest });
            }
            if is_done {
                self.found.is_part = true;
                break;
            }
        }
        Ok(())
    }

    fn digests(&mut self, algorithm: Algorithm, digits: &str) -> Result<(), Error> {
        let (mut manifests, mut blobs, mut looked_at) = (Vec::new(), Vec::new(), 0);
        let visible = self.visible;
        let mut visit = |found: &mut Vec<(Digest, String)>, digest, name: &str| {
            looked_at += 1;
            if visible(name) {
                found.push((digest, name.to_owned()));
            }
            let is_done = found.len() > DIGESTS_MAX || looked_at % DIGESTS_LOOKED_AT_MAX == 0;
            if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        self.tx.each_manifest_with_digest(algorithm, digits, |digest, name| visit(&mut manifests, digest, name))?;
        self.tx.each_link_with_digest(algorithm, digits, |digest, name| visit(&mut blobs, digest, name))?;
        self.found.is_part |= looked_at >= DIGESTS_LOOKED_AT_MAX;
        for (digest, name) in manifests {
            let Ok(repository) = name.parse::<RepositoryName>() else { continue };
            if self.found.manifests.len() == DIGESTS_MAX {
                self.found.is_part = true;
                break;
            }
            let facts = self.tx.facts(&repository, digest)?;
            let tag = self.tx.first_tags_of(&repository, digest, 1)?.pop();
            self.found.manifests.push(FoundManifest { repository, digest, facts, tag });
        }
        for (digest, name) in blobs {
            let Ok(repository) = name.parse::<RepositoryName>() else { continue };
            if self.found.blobs.len() == DIGESTS_MAX {
                self.found.is_part = true;
                break;
            }
            let size = self.tx.blob(digest)?.map_or(0, |blob| blob.size);
            self.found.blobs.push(FoundBlob { repository, digest, size });
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::content::repository::scene::{Scene, image, rules};

    #[test]
    fn a_text_is_read_as_people_write_it() {
        let hex = "3f2a91c0".repeat(8);
        let sha = Algorithm::Sha256;
        for (text, expected) in [
            (" app ", Sought::Name { part: "app".into(), digits: None }),
            ("Team/App", Sought::Name { part: "team/app".into(), digits: None }),
            ("app:1.2", Sought::Tag { repository: "app".into(), tag: "1.2".into() }),
            (":v1", Sought::Tag { repository: String::new(), tag: "v1".into() }),
            ("host:5000/app", Sought::Name { part: "host:5000/app".into(), digits: None }),
            ("3F2a91", Sought::Name { part: "3f2a91".into(), digits: Some("3f2a91".into()) }),
            ("3f2a9", Sought::Name { part: "3f2a9".into(), digits: None }),
            ("sha256:3f2a91", Sought::Digest { algorithm: sha, digits: "3f2a91".into() }),
            (&format!("host/app:1@sha256:{hex}"), Sought::Digest { algorithm: sha, digits: hex.clone() }),
            ("sha256:xy", Sought::Tag { repository: "sha256".into(), tag: "xy".into() }),
        ] {
            assert_eq!(Sought::read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn only_visible_repositories_are_found() {
        let scene = Scene::new(rules());
        let (mut manifest, mut blob) = (None, None);
        for name in ["secret/app", "team/app", "team/web"] {
            let repository = scene.repository(name);
            let config = repository.push_blob(b"{}");
            let digest = repository.push_manifest(&image(&[config], None, "1"), &["1.2", "1.3"]).unwrap();
            manifest = Some(digest);
            blob = Some(config);
        }
        let find = |text: &str| {
            let visible = |name: &str| !name.starts_with("secret/");
            scene.stores.search(&Sought::read(text), &SearchScope::All, &visible).unwrap()
        };
        let names = |found: &Found| found.repositories.iter().map(|one| one.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&find("app")), ["team/app"]);
        assert!(names(&find("secret")).is_empty());
        let tags = find("app:1.3").tags;
        assert_eq!(tags.iter().map(|tag| tag.repository.to_string()).collect::<Vec<_>>(), ["team/app"]);
        assert_eq!(find("team/web:").tags.len(), 2);
        assert!(find("secret/app:1").tags.is_empty());
        let (manifest, blob) = (manifest.unwrap(), blob.unwrap());
        for text in [manifest.to_string(), manifest.hex()[..7].to_owned()] {
            let found = find(&text).manifests;
            assert_eq!(
                found.iter().map(|one| one.repository.to_string()).collect::<Vec<_>>(),
                ["team/app", "team/web"]
            );
            assert!(found.iter().all(|one| one.digest == manifest && one.tag.is_some()));
        }
        assert_eq!(find(&blob.to_string()).blobs.len(), 2);
    }
}
