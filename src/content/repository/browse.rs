//! What people look at: lists of repositories and tags, search, one manifest with everything about it, and the effect of
//! deleting it.
//!
//! Reads only. Knows no HTTP and no rights: a query over repositories gets the [`SearchScope`](super::SearchScope) of its
//! caller and a closure that says which names are visible. A query over one repository belongs to a caller who may pull
//! from it.
//!
//! The work of each query has limits with names. Lists come in pages with a cursor. A query whose limit cuts it off says
//! so, so that a page never shows a part as the whole.

mod disk;
mod manifest;
mod preview;
mod removal;
mod repositories;
mod search;
mod signed;
mod tags;
mod top;
mod untagged;
mod version;
mod walk;

#[allow(unused_imports, reason = "the pages follow")]
pub(crate) use disk::DiskUse;
#[allow(unused_imports, reason = "the pages follow")]
pub(crate) use manifest::{ChildPart, LayerPart, ManifestReport, Part};
#[allow(unused_imports, reason = "the pages follow")]
pub(crate) use preview::{DELETED_TAGS_MAX, DeletedBytes, Deletion, DeletionPreview, KeptBy};
#[allow(unused_imports, reason = "the pages follow")]
pub(crate) use repositories::{
    COUNTED_MAX, ListedRepository, RepositoryCursor, RepositoryOrder, RepositoryPage, RepositoryQuery, TreeEntry,
    TreePage,
};
#[allow(unused_imports, reason = "the pages follow")]
pub(crate) use search::{Found, FoundBlob, FoundManifest, FoundTag, Sought};
#[allow(unused_imports, reason = "the pages follow")]
pub(crate) use signed::{ReferrerNode, ReferrerTree};
#[allow(unused_imports, reason = "the pages follow")]
pub(crate) use tags::{ListedTag, ORDERED_BY_FACTS_MAX, TagPage, TagQuery};
#[allow(unused_imports, reason = "the pages follow")]
pub(crate) use top::{TagCursor, TagOrder};
#[allow(unused_imports, reason = "the pages follow")]
pub(crate) use untagged::{UntaggedManifest, UntaggedPage, UntaggedState};

/// Writes facts of a manifest with a size, and otherwise without content.
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
fn put_facts(repository: &super::Repository, digest: crate::oci::Digest, size: u64) {
    use crate::content::rows::{Details, Facts, Kind};
    let (name, pushed) = (repository.name.clone(), repository.stores.clock.now());
    let facts = Facts {
        kind: Kind::Image,
        artifact_type: None,
        platform: None,
        platforms: Vec::new(),
        created: None,
        size,
        layers: 0,
        pushed,
        pushed_by: None,
    };
    let write = move |tx: &mut crate::content::rows::WriteTx| tx.put_facts(&name, digest, &facts, &Details::default());
    repository.stores.database.write(write).unwrap();
}
