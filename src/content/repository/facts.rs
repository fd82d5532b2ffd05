//! Facts of manifests: what each one is, read from its bytes and its config when it is pushed.
//!
//! The rows of facts are written in the transaction of the push ([`crate::content::rows`]). The config is read before
//! it, and only if it is small. Everything that cannot be read counts as missing: no push fails because of its facts.

mod count;
mod kind;
mod lenient;
mod parse;
mod text;

use parse::Draft;

use super::Repository;
use crate::content::blobs::Blobs;
use crate::content::rows::{self, Details, Facts, WriteTx};
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, Manifest, RepositoryName};

/// The largest config that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// The facts of a manifest that is not stored yet, without its size.
#[derive(Debug)]
pub(super) struct NewFacts {
    facts: Facts,
    details: Details,
}

impl NewFacts {
    /// Reads the facts of a manifest. `has_blob` is whether its repository has a blob.
    pub(super) fn read(
        manifest: &Manifest,
        bytes: &[u8],
        blobs: &Blobs,
        has_blob: impl FnOnce(Digest) -> bool,
    ) -> Self {
        let draft = Draft::read(manifest, bytes);
        let config = draft.config().filter(|digest| has_blob(*digest));
        let config = config.and_then(|digest| match blobs.read(digest, CONFIG_BYTES_MAX) {
            Ok(config) => config,
            Err(error) => {
                tracing::debug!(%error, "the config of a manifest cannot be read");
                None
            }
        });
        let (facts, details) = draft.finish(config.as_deref());
        Self { facts, details }
    }

    /// Writes the facts of a manifest that was stored in the same transaction, with all references to its content.
    pub(super) fn put(
        self,
        tx: &mut WriteTx,
        name: &RepositoryName,
        digest: Digest,
        manifest: &Manifest,
        push: Push,
    ) -> Result<(), rows::Error> {
        let size = tx.image_size(name, manifest, push.size)?;
        let facts = Facts { size, pushed: push.pushed, pushed_by: push.pushed_by, ..self.facts };
        tx.put_facts(name, digest, &facts, &self.details)
    }
}

/// A push of a manifest.
#[derive(Clone, Debug)]
pub(super) struct Push {
    /// The bytes of the manifest.
    pub(super) size: u64,
    pub(super) pushed: Timestamp,
    pub(super) pushed_by: Option<String>,
}

impl Repository {
    /// Reads the facts of a manifest that is pushed.
    pub(super) fn new_facts(&self, manifest: &Manifest, bytes: &[u8]) -> NewFacts {
        let stores = &self.stores;
        NewFacts::read(manifest, bytes, &stores.blobs, |blob| {
            let link = stores.database.read(|tx| tx.link(blob, &self.name));
            matches!(link, Ok::<_, rows::Error>(Some(_)))
        })
    }

    /// The name of the user who makes changes.
    pub(super) fn user(&self) -> Option<String> {
        self.author.as_ref()?.user().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests;
