//! The store of docker's registry (distribution, `filesystem` driver).
//!
//! ```text
//! blobs/<algorithm>/<2 hex>/<hex>/data
//! repositories/<name>/_manifests/revisions/<algorithm>/<hex>/link
//! repositories/<name>/_manifests/tags/<tag>/current/link
//! ```
//!
//! A link is a file with a digest. A crash of that registry can leave links and blobs that are empty. A revision is named by
//! its directory, so that only tags are lost with their links.

use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Content, Item, Root, Visit, entries, file_part, other_kind};
use crate::content::blobs::FilePart;
use crate::kit::file::{if_exists, open_regular};
use crate::oci::Digest;
use crate::transfer::Problem;

/// The directory levels of a repository name that are followed. A name has at most 255 bytes.
const LEVELS_MAX: usize = 128;
/// The most bytes of a link that are read: a digest of SHA-512.
const LINK_BYTES_MAX: u64 = 256;

/// A store.
#[derive(Debug)]
pub(crate) struct Distribution {
    path: PathBuf,
    content: Arc<dyn Content>,
}

#[derive(Debug)]
struct BlobFiles(PathBuf);

impl Content for BlobFiles {
    fn part(&self, digest: Digest) -> io::Result<Option<FilePart>> {
        let hex = digest.hex();
        let directory = self.0.join(digest.algorithm().as_str()).join(&hex[..2]).join(&hex);
        file_part(&directory.join("data"))
    }
}

impl Distribution {
    /// Whether a directory is a store.
    pub(super) fn is_at(path: &Path) -> bool {
        path.join("repositories").is_dir() && path.join("blobs").is_dir()
    }

    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), content: Arc::new(BlobFiles(path.join("blobs"))) }
    }

    pub(super) fn each(&self, visit: &mut Visit<'_>) {
        let repositories = self.path.join("repositories");
        let mut waiting = vec![(String::new(), 0)];
        while let Some((name, level)) = waiting.pop() {
            let directory = repositories.join(&name);
            let mut below = Vec::new();
            for (entry, is_directory) in listed(&directory, visit) {
                if entry == "_manifests" && !is_directory {
                    let _ = visit(problem(directory.join(entry).display(), "it is not a directory"));
                } else if entry == "_manifests" {
                    if self.repository(&name, &directory.join(entry), visit).is_break() {
                        return;
                    }
                } else if is_directory && !entry.starts_with('_') {
                    if level == LEVELS_MAX {
                        let _ = visit(problem(directory.display(), "the directories are too deep"));
                        break;
                    }
                    below.push((if name.is_empty() { entry } else { format!("{name}/{entry}") }, level + 1));
                }
            }
            waiting.extend(below.into_iter().rev());
        }
    }

    /// Lists the tags of a repository, and then its revisions: a manifest that a tag names is stored together with the tag.
    fn repository(&self, name: &str, manifests: &Path, visit: &mut Visit<'_>) -> ControlFlow<()> {
        let root = |tag: Option<String>, digest| {
            Item::Root(Root { content: Arc::clone(&self.content), repository: Some(name.to_owned()), tag, digest })
        };
        let tags = manifests.join("tags");
        for (tag, _) in listed(&tags, visit) {
            let path = tags.join(&tag).join("current").join("link");
            let item = match read_link(&path) {
                Ok(Some(digest)) => root(Some(tag), digest),
                // A tag without a current link was deleted.
                Ok(None) => continue,
                Err(error) => problem(format!("{name}:{tag}"), error),
            };
            visit(item)?;
        }
        let revisions = manifests.join("revisions");
        for (algorithm, _) in listed(&revisions, visit) {
            let directory = revisions.join(&algorithm);
            for (hex, _) in listed(&directory, visit) {
                // The link is not read, so that it may be damaged.
                let link = if_exists(directory.join(&hex).join("link").symlink_metadata());
                let item = match (link.map(|link| link.is_some()), format!("{algorithm}:{hex}").parse()) {
                    (Ok(true), Ok(digest)) => root(None, digest),
                    // Without a link, the manifest was deleted.
                    (Ok(false), _) => continue,
                    (Ok(true), Err(why)) => problem(format!("{name}@{algorithm}:{hex}"), why),
                    (Err(error), _) => problem(format!("{name}@{algorithm}:{hex}"), error),
                };
                visit(item)?;
            }
        }
        ControlFlow::Continue(())
    }
}

fn problem(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Item {
    Item::Problem(Problem::new(what, why))
}

/// The names in a directory. An error is a problem of the source, and not its end.
fn listed(directory: &Path, visit: &mut Visit<'_>) -> Vec<(String, bool)> {
    entries(directory, &mut |problem| {
        let _ = visit(Item::Problem(problem));
    })
}

/// Reads the digest in a link. `None` if there is no link.
fn read_link(path: &Path) -> io::Result<Option<Digest>> {
    let Some(file) = open_regular(path)? else {
        let found = other_kind(path)?;
        return found.map_or(Ok(None), |kind| Err(io::Error::other(format!("its link is {kind}, not a file"))));
    };
    let mut text = String::new();
    file.take(LINK_BYTES_MAX).read_to_string(&mut text)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(io::Error::other("its link is empty"));
    }
    text.parse().map(Some).map_err(|error| io::Error::other(format!("its link is damaged: {error}")))
}
