//! Damaged blobs: their file differs from the content that was pushed.
//!
//! A file that was modified since, or has another size, is hashed before it is served. If the digest differs, the file is
//! set aside. Clients get 404 for the blob then, and repair it by pushing it again. A scrub finds changed bytes with an
//! unchanged modification time.

use super::lease::Purpose;
use super::{Error, Repository, Stores};
use crate::content::blobs::Blob;
use crate::content::rows::{DamageRow, FileRow};
use crate::oci::{Digest, RepositoryName};

/// Affected tags that are named.
const AFFECTED_MAX: usize = 100;
/// Damaged blobs that are counted.
const COUNTED_MAX: usize = 1000;

/// The result of opening a blob.
#[derive(Debug)]
pub(crate) enum Opened {
    /// Its file is unchanged.
    Whole(Blob),
    /// Its file was modified or is missing, so it must be checked first.
    Doubtful,
}

/// The result of checking a blob file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    Whole,
    Damaged {
        what: String,
    },
    /// The blob was removed meanwhile, or the check was cancelled.
    Skipped,
}

/// A blob whose file was hashed and is whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verified {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Whether it was damaged before.
    pub(super) is_mended: bool,
    /// The row of the file before the check, and the new one.
    before: Option<FileRow>,
    file: FileRow,
}

impl Repository {
    /// Opens a blob. If it is [`Opened::Doubtful`], call [`Stores::check_blob`] and open it again.
    pub(crate) fn open_blob(&self, digest: Digest) -> Result<Opened, Error> {
        let size = self.leased_blob_size(digest, Purpose::Read)?;
        let file = self.stores.database.read(|tx| tx.file(digest))?;
        let Some(blob) = self.stores.blobs.get(digest)? else { return Ok(Opened::Doubtful) };
        let is_untouched = file.is_none_or(|file| file.modified == blob.modified);
        Ok(if blob.size == size && is_untouched { Opened::Whole(blob) } else { Opened::Doubtful })
    }
}

impl Stores {
    /// The number of blobs whose files are known to be damaged, at most 1000.
    pub(crate) fn damaged_blobs(&self) -> Result<usize, Error> {
        Ok(self.database.read(|tx| tx.damaged(COUNTED_MAX))?.len())
    }

    /// Hashes the file of a blob. If the digest differs, the file is set aside, and the blob is damaged until it is pushed
    /// again. A damaged blob whose file was repaired is whole again. `rest` is called after each part. Blocks.
    pub(crate) fn check_blob(
        &self,
        digest: Digest,
        rest: impl FnMut(usize) -> std::ops::ControlFlow<()>,
    ) -> Result<Checked, Error> {
        self.check_blob_and(digest, rest, |Verified { digest, file, .. }| {
            Ok(self.database.write(move |tx| tx.set_file(digest, &file))?)
        })
    }

    /// As [`Stores::check_blob`]. `note` records a file that is whole, at once or with others.
    pub(super) fn check_blob_and(
        &self,
        digest: Digest,
        rest: impl FnMut(usize) -> std::ops::ControlFlow<()>,
        note: impl FnOnce(Verified) -> Result<(), Error>,
    ) -> Result<Checked, Error> {
        let _busy = self.blobs.lock(digest);
        let (row, damage, before) =
            self.database.read(|tx| Ok::<_, Error>((tx.blob(digest)?, tx.damage(digest)?, tx.file(digest)?)))?;
        let Some(row) = row else { return Ok(Checked::Skipped) };
        let what = match self.blobs.get(digest)? {
            None => "its file is missing".to_owned(),
            Some(blob) if blob.size != row.size => format!("its file has {} bytes and not {}", blob.size, row.size),
            Some(blob) => match self.blobs.rehash(&blob, digest, rest)? {
                None => return Ok(Checked::Skipped),
                Some(found) if found == digest => {
                    let file = FileRow { modified: blob.modified, checked: self.clock.now() };
                    note(Verified { digest, size: row.size, is_mended: damage.is_some(), before, file })?;
                    return Ok(Checked::Whole);
                }
                Some(found) => format!("its bytes have the digest {found}"),
            },
        };
        if let Some(known) = damage {
            return Ok(Checked::Damaged { what: known.what });
        }
        let damage = DamageRow { found: self.clock.now(), what: what.clone() };
        // The row first. Otherwise a client could be told of a blob without a file.
        self.database.write(move |tx| tx.set_damaged(digest, &damage))?;
        self.blobs.set_aside(digest)?;
        let affected = self.affected(digest)?;
        let tags = affected.join(", ");
        tracing::error!(%digest, what, tags, "a blob is damaged: push it, or an image with one of these tags, again to repair it");
        Ok(Checked::Damaged { what })
    }

    /// Records files that are whole, in one transaction. Leaves out blobs that have changed since they were checked.
    pub(super) fn note_verified(&self, verified: Vec<Verified>) -> Result<(), Error> {
        if verified.is_empty() {
            return Ok(());
        }
        self.database.write(move |tx| {
            for Verified { digest, is_mended, before, file, .. } in verified {
                let is_damaged = tx.damage(digest)?.is_some();
                if tx.blob(digest)?.is_some() && tx.file(digest)? == before && is_damaged == is_mended {
                    tx.set_file(digest, &file)?;
                }
            }
            Ok(())
        })
    }

    /// The tags that need a blob, as `repository:tag`, and the manifests without a tag, as `repository@digest`.
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
