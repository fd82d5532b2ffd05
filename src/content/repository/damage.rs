//! Damage: a blob whose file is not what it was when the blob was pushed.
//!
//! A file that was written to since then, or has another size, is not served before it was hashed; one whose
//! bytes are others is set aside. The blob is then not there, as far as clients are told, and so they push it
//! again: that heals it. What changes bytes and not the time of the last change is found by a scrub.

use super::{Error, Repository, Stores};
use crate::content::blobs::Blob;
use crate::content::rows::{DamageRow, FileRow};
use crate::oci::{Digest, RepositoryName};

/// As many tags are named that damage affects.
const AFFECTED_MAX: usize = 100;

/// What opening a blob has come to.
#[derive(Debug)]
pub(crate) enum Opened {
    /// Its file is what it was.
    Whole(Blob),
    /// Its file was written to, or is not there: it is to be checked first.
    Doubtful,
}

/// What a check of a blob's file has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    Whole,
    Damaged {
        what: String,
    },
    /// The blob was removed meanwhile, or the check broken off.
    Skipped,
}

impl Repository {
    /// Opens a blob. What is [`Opened::Doubtful`] is to be opened again after [`Stores::check_blob`].
    pub(crate) fn open_blob(&self, digest: Digest) -> Result<Opened, Error> {
        let size = self.blob_size(digest)?;
        let file = self.stores.database.read(|tx| tx.file(digest))?;
        let Some(blob) = self.stores.blobs.get(digest)? else { return Ok(Opened::Doubtful) };
        let is_untouched = file.is_none_or(|file| file.modified == blob.modified);
        Ok(if blob.size == size && is_untouched { Opened::Whole(blob) } else { Opened::Doubtful })
    }
}

impl Stores {
    /// Hashes the file of a blob. A damaged blob whose file has been put right is whole again. One that is not what it should be is set aside, and the blob is damaged from
    /// then on, until it is pushed again. `rest` is told of each part that was hashed. Blocks.
    pub(crate) fn check_blob(
        &self,
        digest: Digest,
        rest: impl FnMut(usize) -> std::ops::ControlFlow<()>,
    ) -> Result<Checked, Error> {
        let _busy = self.blobs.lock(digest);
        let (row, damage) = self.database.read(|tx| Ok::<_, Error>((tx.blob(digest)?, tx.damage(digest)?)))?;
        let Some(row) = row else { return Ok(Checked::Skipped) };
        let what = match self.blobs.get(digest)? {
            None => "its file is missing".to_owned(),
            Some(blob) if blob.size != row.size => format!("its file has {} bytes and not {}", blob.size, row.size),
            Some(blob) => match self.blobs.rehash(&blob, digest, rest)? {
                None => return Ok(Checked::Skipped),
                Some(found) if found == digest => {
                    let file = FileRow { modified: blob.modified, checked: self.clock.now() };
                    self.database.write(move |tx| tx.set_file(digest, &file))?;
                    return Ok(Checked::Whole);
                }
                Some(found) => format!("its bytes have the digest {found}"),
            },
        };
        if let Some(known) = damage {
            return Ok(Checked::Damaged { what: known.what });
        }
        let damage = DamageRow { found: self.clock.now(), what: what.clone() };
        // The row first: without it, a client would be told of a blob that has no file.
        self.database.write(move |tx| tx.set_damaged(digest, &damage))?;
        self.blobs.set_aside(digest)?;
        let affected = self.affected(digest)?;
        let tags = affected.join(", ");
        tracing::error!(%digest, what, tags, "a blob is damaged: push it again, or what has these tags, to heal it");
        Ok(Checked::Damaged { what })
    }

    /// The tags, as `repository:tag`, and the manifests without one, as `repository@digest`, that need a blob.
    pub(crate) fn affected(&self, digest: Digest) -> Result<Vec<String>, Error> {
        let holders = self.database.read(|tx| tx.linking_repositories(digest))?;
        let mut affected = Vec::new();
        for holder in holders {
            let Ok(name) = holder.parse::<RepositoryName>() else { continue };
            let mut manifests = Vec::new();
            let contents = self.database.read(|tx| tx.contents(&name))?;
            for manifest in contents.manifests {
                let stored = self.database.read(|tx| super::manifest::stored_manifest(tx, &name, manifest));
                let needs = |stored: &crate::oci::Manifest| {
                    stored.blobs().contains(&digest) || stored.optional_blobs().contains(&digest)
                };
                if matches!(stored, Ok(Some(stored)) if needs(&stored)) {
                    manifests.push(manifest);
                }
            }
            // An index that lists one of them is affected as well.
            let mut at = 0;
            while let Some(manifest) = manifests.get(at).copied() {
                let (tags, indexes) = self.database.read(|tx| {
                    Ok::<_, Error>((tx.tags_of(&name, manifest)?, tx.listers(&name, manifest, AFFECTED_MAX)?))
                })?;
                if tags.is_empty() && indexes.is_empty() {
                    affected.push(format!("{name}@{manifest}"));
                }
                affected.extend(tags.iter().map(|tag| format!("{name}:{tag}")));
                manifests
                    .extend(indexes.iter().filter(|index| !manifests.contains(index)).copied().collect::<Vec<_>>());
                at += 1;
                if affected.len() >= AFFECTED_MAX {
                    return Ok(affected);
                }
            }
        }
        Ok(affected)
    }
}
