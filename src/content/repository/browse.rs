//! The queries of the pages and of search: lists of repositories and tags, search, one manifest with everything about it, and the
//! effect of deleting it.
//!
//! Reads only. Knows no HTTP and no rights: a query over repositories gets the [`SearchScope`](super::SearchScope) of its
//! caller and a closure that says which names are visible. A query over one repository belongs to a caller who may pull
//! from it.
//!
//! The work of each query has limits with names. Lists come in pages with a cursor. A query whose limit cuts it off says
//! so, so that a page never shows a part as the whole.

mod chart;
mod disk;
mod gallery;
mod holders;
mod manifest;
mod preview;
mod removal;
mod repositories;
mod search;
mod signed;
mod tags;
mod top;
mod untagged;
pub(super) mod version;
mod walk;

pub(crate) use chart::{ARCHIVE_BYTES_MAX, ChartTexts};
pub(crate) use disk::DiskUse;
#[cfg(test)]
pub(crate) use gallery::Limits;
pub(crate) use gallery::{
    Descriptor, Document, Gallery, ImageOrder, Referrer, ReferrerQuery, Relation, RepositoryFilter, RepositorySort,
    Selected, Selection, SignatureTool, Tagged, Viewer, architecture_of,
};
pub(crate) use manifest::{ChildPart, LayerPart, ManifestReport, Part};
pub(crate) use preview::{DELETED_TAGS_MAX, Deletion, DeletionPreview, KeptBy};
pub(crate) use repositories::{
    COUNTED_MAX, ListedRepository, RepositoryCursor, RepositoryOrder, RepositoryPage, RepositoryQuery, TreeEntry,
    TreePage,
};
pub(crate) use search::{Found, FoundBlob, FoundManifest, FoundTag, Sought};
pub(crate) use signed::ReferrerNode;
pub(crate) use tags::{ListedTag, ORDERED_BY_FACTS_MAX, TagPage, TagQuery};
pub(crate) use top::TagOrder;
pub(crate) use untagged::{UntaggedManifest, UntaggedState};
