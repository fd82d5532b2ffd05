//! The sizes of images in the rows of facts, which change when something that a manifest lists is pushed later.

use std::collections::HashSet;

use super::facts::Facts;
use super::schema::FACTS;
use super::totals::{Reached, Stage};
use super::{Details, Error, Rows, WriteTx};
use crate::oci::{Digest, Manifest, RepositoryName};

/// The blobs of a larger manifest that an index lists are not counted; in bytes.
const CHILD_BYTES_MAX: u64 = 64 * 1024;
/// The most manifests and blobs that are counted for one index.
const PARTS_MAX: usize = 4096;
/// The most bytes of manifests that are read for one index.
const BYTES_MAX: u64 = 2 * 1024 * 1024;
/// The most manifests whose size is computed again within one push. The background work does more of them.
const LISTERS_MAX: usize = 4;

impl Rows {
    /// The size of an image: its manifest, and the blobs of the repository that it names, each once. For an index also
    /// those of the manifests that it lists and the repository has. Beyond the limits of this module, only the manifests
    /// themselves are counted.
    pub(crate) fn image_size(
        &self,
        repository: &RepositoryName,
        manifest: &Manifest,
        manifest_size: u64,
    ) -> Result<u64, Error> {
        let mut size = manifest_size;
        // A manifest names each of its blobs once.
        for blob in manifest.blobs().iter().chain(manifest.optional_blobs()) {
            size += self.linked_size(repository, *blob)?;
        }
        let (mut counted, mut bytes_read) = (HashSet::new(), 0);
        let mut waiting: Vec<_> = manifest.manifests().iter().map(|child| child.digest).collect();
        while let Some(digest) = waiting.pop() {
            if !counted.insert(digest) {
                continue;
            }
            let Some(row) = self.stored_manifest(repository, digest)? else {
                size += self.linked_size(repository, digest)?;
                continue;
            };
            size += row.size;
            if row.size > CHILD_BYTES_MAX || bytes_read + row.size > BYTES_MAX || counted.len() > PARTS_MAX {
                continue;
            }
            bytes_read += row.size;
            let bytes = self.manifest_bytes(repository, digest)?.unwrap_or_default();
            let Ok(child) = Manifest::read(&bytes, row.media_type().as_ref()) else { continue };
            for blob in child.blobs().iter().chain(child.optional_blobs()) {
                if counted.insert(*blob) {
                    size += self.linked_size(repository, *blob)?;
                }
            }
            waiting.extend(child.manifests().iter().map(|child| child.digest));
        }
        Ok(size)
    }

    /// The size of a blob, or 0 if the repository does not have it.
    fn linked_size(&self, repository: &RepositoryName, digest: Digest) -> Result<u64, Error> {
        let is_linked = self.link(digest, repository)?.is_some();
        Ok(if is_linked { self.blob(digest)?.map_or(0, |blob| blob.size) } else { 0 })
    }

    /// Whether a manifest has facts.
    pub(crate) fn has_facts(&self, repository: &RepositoryName, digest: Digest) -> Result<bool, Error> {
        self.has(FACTS, (digest.key(), repository.as_str()))
    }
}

impl WriteTx {
    /// Computes the sizes of the manifests again that list this digest, directly or through an index, after it was added
    /// or a blob was removed.
    pub(super) fn resize_listers(&mut self, repository: &RepositoryName, digest: Digest) -> Result<(), Error> {
        let mut found = self.listers(repository, digest, LISTERS_MAX + 1)?;
        let mut next = 0;
        while let Some(lister) = found.get(next).copied() {
            next += 1;
            let row = self.stored_manifest(repository, lister)?;
            let is_large = row.is_some_and(|row| row.size > CHILD_BYTES_MAX);
            if is_large || found.len() > LISTERS_MAX {
                return self.recount_facts(repository);
            }
            self.resize(repository, lister)?;
            let more = self.listers(repository, lister, LISTERS_MAX + 1)?;
            found.extend(more.iter().filter(|more| !found.contains(more)).copied().collect::<Vec<_>>());
        }
        Ok(())
    }

    /// Computes the size of a manifest again, if it has facts.
    pub(crate) fn resize(&mut self, repository: &RepositoryName, digest: Digest) -> Result<(), Error> {
        let Some((facts, details)) = self.facts_and_details(repository, digest)? else { return Ok(()) };
        let Some(row) = self.stored_manifest(repository, digest)? else { return Ok(()) };
        let bytes = self.manifest_bytes(repository, digest)?.unwrap_or_default();
        // A damaged manifest keeps its size.
        let Ok(manifest) = Manifest::read(&bytes, row.media_type().as_ref()) else { return Ok(()) };
        let size = self.image_size(repository, &manifest, row.size)?;
        self.put_resized(repository, digest, facts, &details, size)
    }

    pub(super) fn put_resized(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        facts: Facts,
        details: &Details,
        size: u64,
    ) -> Result<(), Error> {
        if facts.size == size {
            return Ok(());
        }
        self.put_facts(repository, digest, &Facts { size, ..facts }, details)
    }

    /// Lets the background work read the manifests of a repository again.
    pub(crate) fn recount_facts(&mut self, repository: &RepositoryName) -> Result<(), Error> {
        self.change_counts(repository, |_, counted| {
            counted.reached = counted.reached.clone().min(Reached::Manifests(Vec::new()));
        })?;
        let mut state = self.facts_state()?;
        state.stage = state.stage.min(Stage::Facts);
        state.resets = state.resets.wrapping_add(1);
        self.set_facts_state(state)
    }
}
