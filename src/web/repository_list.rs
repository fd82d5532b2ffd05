//! The list of repositories, as a list or as folders, and the results of a search.

use askama::Template;

use super::{Bytes, Copy, Crumb, Icon, Layout, NextPage, ShortDigest, Time};

/// The list of the repositories that a caller sees.
#[derive(Debug, Template)]
#[template(path = "repositories.html")]
pub(crate) struct RepositoryList {
    pub(crate) layout: Layout,
    /// Whether folders are shown in place of all repositories.
    pub(crate) is_tree: bool,
    /// The way to the folder.
    pub(crate) crumbs: Vec<Crumb>,
    /// The part of the name that the list is limited to.
    pub(crate) part: String,
    /// The orders: the word in the URL, the name, and whether it is the order of the list.
    pub(crate) orders: Vec<(&'static str, &'static str, bool)>,
    pub(crate) entries: Vec<ListedRepository>,
    pub(crate) pages: NextPage,
    /// Whether a limit has cut the list off.
    pub(crate) is_cut_off: bool,
    /// Whether sizes and dates are still being counted after an upgrade.
    pub(crate) is_counting: bool,
    /// The commands that push a first image, for an empty list.
    pub(crate) first_push: Vec<Copy>,
}

/// A repository or a folder in a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListedRepository {
    pub(crate) href: String,
    pub(crate) name: String,
    /// The number of repositories in a folder.
    pub(crate) folder: Option<String>,
    pub(crate) description: String,
    pub(crate) is_public: bool,
    /// The newest tag and the URL of its page.
    pub(crate) newest: Option<(String, String)>,
    pub(crate) changed: Option<Time>,
    pub(crate) tags: Option<u64>,
    pub(crate) size: Option<Bytes>,
    pub(crate) pulls: Option<u64>,
}

/// The results of a search.
#[derive(Debug, Template)]
#[template(path = "search.html")]
pub(crate) struct SearchResults {
    pub(crate) layout: Layout,
    pub(crate) text: String,
    pub(crate) repositories: Vec<ListedRepository>,
    pub(crate) tags: Vec<FoundEntry>,
    pub(crate) manifests: Vec<FoundEntry>,
    pub(crate) blobs: Vec<FoundEntry>,
    pub(crate) is_part: bool,
}

/// A tag, manifest or blob that was found.
#[derive(Clone, Debug)]
pub(crate) struct FoundEntry {
    pub(crate) href: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) digest: ShortDigest,
    pub(crate) size: Option<Bytes>,
}

impl SearchResults {
    /// The kinds of results besides repositories: an id, a title and the results.
    fn sections(&self) -> [(&'static str, &'static str, &[FoundEntry]); 3] {
        [
            ("found-tags", "Tags", &self.tags),
            ("found-manifests", "Manifests", &self.manifests),
            ("found-blobs", "Layers and other blobs", &self.blobs),
        ]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.repositories.is_empty() && self.tags.is_empty() && self.manifests.is_empty() && self.blobs.is_empty()
    }
}
