//! Range reads for lists that people look at: tags, manifests and holders of blobs.
//!
//! Each read visits rows in the order of their keys until the caller breaks, so that the caller limits the work.

use std::ops::Bound::{Excluded, Unbounded};
use std::ops::ControlFlow;

use super::schema::{LINKS, MANIFESTS, TAGS, TAGS_OF};
use super::tag::TagRow;
use super::transaction::Definition;
use super::{Error, Rows, codec};
use crate::oci::{Algorithm, Digest, RepositoryName, Tag};

/// A tag whose row is decoded only if it is needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EncodedTag<'a> {
    pub(crate) tag: &'a str,
    row: &'a [u8],
}

impl EncodedTag<'_> {
    pub(crate) fn decode(self) -> Result<TagRow, Error> {
        TagRow::decode(self.row, self.tag)
    }
}

impl Rows {
    /// Visits the names of the tags of a repository after `after` in byte order.
    pub(crate) fn each_tag(
        &self,
        repository: &RepositoryName,
        after: &str,
        mut visit: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let name = repository.as_str();
        self.table(TAGS)?.each((Excluded((name, after)), Unbounded), |(owner, tag), _| {
            Ok(if owner == name { visit(tag) } else { ControlFlow::Break(()) })
        })
    }

    /// Visits the tags of a repository after `after` in byte order, with their targets.
    pub(crate) fn each_tag_row(
        &self,
        repository: &RepositoryName,
        after: &str,
        mut visit: impl FnMut(&str, TagRow) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let name = repository.as_str();
        self.table(TAGS)?.each((Excluded((name, after)), Unbounded), |(owner, tag), row| {
            Ok(if owner == name { visit(tag, TagRow::decode(row, tag)?) } else { ControlFlow::Break(()) })
        })
    }

    /// At most `limit` tags of a repository after `after` in byte order, with their targets.
    pub(crate) fn tag_rows(
        &self,
        repository: &RepositoryName,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(Tag, TagRow)>, Error> {
        let name = repository.as_str();
        self.table(TAGS)?.collect((Excluded((name, after)), Unbounded), limit, |(owner, tag), row| {
            if owner != name {
                return Ok(None);
            }
            Ok(Some((codec::parse(TAGS, tag)?, TagRow::decode(row, tag)?)))
        })
    }

    /// Visits the tags of all repositories by the names of the repositories and of the tags. Starts at the repository
    /// `from`, which need not exist.
    pub(crate) fn each_tag_of_all(
        &self,
        from: &str,
        mut visit: impl FnMut(&str, EncodedTag<'_>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        self.table(TAGS)?.each((from, "").., |(repository, tag), row| visit(repository, EncodedTag { tag, row }))
    }

    /// Visits the manifests of a repository after `after`, by their keys.
    pub(crate) fn each_manifest(
        &self,
        repository: &RepositoryName,
        after: Option<Digest>,
        mut visit: impl FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let (name, after) = (repository.as_str(), after.as_ref().map_or(&[][..], Digest::key));
        self.table(MANIFESTS)?.each((Excluded((name, after)), Unbounded), |(owner, digest), _| {
            if owner != name {
                return Ok(ControlFlow::Break(()));
            }
            Ok(visit(codec::digest(MANIFESTS, digest)?))
        })
    }

    /// At most `limit` tags of a manifest, in byte order.
    pub(crate) fn first_tags_of(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        limit: usize,
    ) -> Result<Vec<Tag>, Error> {
        let (name, key) = (repository.as_str(), digest.key());
        self.table(TAGS_OF)?.collect((name, key, "").., limit, |(owner, manifest, tag), ()| {
            ((owner, manifest) == (name, key)).then(|| codec::parse(TAGS_OF, tag)).transpose()
        })
    }

    /// Visits the blobs whose digest begins with these lower-case hexadecimal digits, with the repositories that link
    /// them.
    pub(crate) fn each_link_with_digest(
        &self,
        algorithm: Algorithm,
        digits: &str,
        mut visit: impl FnMut(Digest, &str) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.each_with_digest(LINKS, algorithm, digits, |digest, repository| Ok(visit(digest, repository)))
    }

    /// Visits the keys (digest, repository) of a table whose digest begins with these digits.
    pub(super) fn each_with_digest<V: redb::Value + 'static>(
        &self,
        table: Definition<(&'static [u8], &'static str), V>,
        algorithm: Algorithm,
        digits: &str,
        mut visit: impl FnMut(Digest, &str) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let Some(first) = algorithm.first_with(digits) else { return Ok(()) };
        self.table(table)?.each((first.key(), "").., |(key, repository), _| {
            let digest = codec::digest(table, key)?;
            if digest.algorithm() != algorithm || !digest.hex().starts_with(digits) {
                return Ok(ControlFlow::Break(()));
            }
            visit(digest, repository)
        })
    }
}
