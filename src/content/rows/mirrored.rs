//! Rows of mirrored manifests: those that were fetched from another registry, and were not pushed.
//!
//! The repository may lack any blob of such a manifest, until a client requests it. So the blobs stand in `listings`, as
//! optional layers do, and the manifest counts no reference to them. A push of the same manifest makes it an ordinary one.

use serde::{Deserialize, Serialize};

use super::schema::MIRRORED;
use super::{Error, Rows, WriteTx};
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, RepositoryName};

/// Where a manifest came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MirroredRow {
    /// Host and port of the upstream.
    pub(crate) upstream: String,
    pub(crate) fetched: Timestamp,
}

impl Rows {
    /// The origin of a manifest. `None` if it was pushed, or does not exist.
    pub(crate) fn mirrored(&self, repository: &RepositoryName, digest: Digest) -> Result<Option<MirroredRow>, Error> {
        self.row(MIRRORED, (repository.as_str(), digest.key()), digest)
    }
}

impl WriteTx {
    /// Records that a manifest was fetched from an upstream. The caller adds its references.
    pub(crate) fn put_mirrored(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        row: &MirroredRow,
    ) -> Result<(), Error> {
        self.insert_row(MIRRORED, (repository.as_str(), digest.key()), row)
    }

    /// Removes what [`WriteTx::put_mirrored`] has recorded, if there is anything.
    pub(crate) fn remove_mirrored(&mut self, repository: &RepositoryName, digest: Digest) -> Result<(), Error> {
        if self.mirrored(repository, digest)?.is_none() {
            return Ok(());
        }
        self.remove(MIRRORED, (repository.as_str(), digest.key()))
    }
}
