//! The list of repositories.

use askama::Template;

use super::{Copy, Icon, Layout, NextPage};

/// The list of the repositories that a caller sees.
#[derive(Debug, Template)]
#[template(path = "repositories.html")]
pub(crate) struct RepositoryList {
    pub(crate) layout: Layout,
    pub(crate) repositories: Vec<ListedRepository>,
    pub(crate) pages: NextPage,
    /// The commands that push a first image, for an empty list.
    pub(crate) first_push: Vec<Copy>,
}

/// A repository in a list.
#[derive(Clone, Debug)]
pub(crate) struct ListedRepository {
    pub(crate) name: String,
}
