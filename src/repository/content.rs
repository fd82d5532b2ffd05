//! A repository as a whole: made empty, described, removed with everything in it.

use super::manifest::detach;
use super::{Error, Repository};
use crate::clock::Timestamp;
use crate::meta::{self, ContentRead as _, Contents, PermissionRead as _, SettingsRow, WriteTx};
use crate::oci::{Digest, Manifest, RepositoryName, Tag};

/// As often a removal is tried anew when something was pushed meanwhile.
const REMOVALS_MAX: usize = 3;

/// A tag, and what it points at.
#[derive(Clone, Debug)]
pub(crate) struct TaggedManifest {
    pub(crate) tag: String,
    pub(crate) digest: Digest,
    /// Of the manifest alone, in bytes.
    pub(crate) size: u64,
    pub(crate) moved: Timestamp,
}

impl Repository {
    /// Whether the repository exists.
    pub(crate) fn is_known(&self) -> Result<bool, Error> {
        Ok(self.stores.meta.read(|tx| tx.repository(&self.name))?.is_some())
    }

    /// Makes the repository, without content; says whether it is new.
    pub(crate) fn create(&self, settings: SettingsRow) -> Result<bool, Error> {
        let (name, now) = (self.name.clone(), self.stores.clock.now());
        self.stores.meta.write(move |tx| {
            if tx.repository(&name)?.is_some() {
                return Ok(false);
            }
            tx.put_settings(&name, &settings)?;
            tx.put_repository(&name, now)?;
            Ok(true)
        })
    }

    /// At most `limit` tags, in byte order, with what they point at.
    pub(crate) fn tagged(&self, limit: usize) -> Result<Vec<TaggedManifest>, Error> {
        self.stores.meta.read(|tx| {
            let mut tagged = Vec::new();
            for text in tx.tags(&self.name, "", limit)?.0 {
                let tag: Result<Tag, _> = text.parse();
                let Some(row) = tag.ok().map(|tag| tx.tag(&self.name, &tag)).transpose()?.flatten() else { continue };
                let size = tx.manifest(&self.name, row.digest)?.map_or(0, |manifest| manifest.size);
                tagged.push(TaggedManifest { tag: text, digest: row.digest, size, moved: row.moved });
            }
            Ok(tagged)
        })
    }

    /// Removes the repository with everything in it, and the bytes that no other has. It goes as a whole;
    /// what is pushed at the same time goes too, or comes after it.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        if !self.is_known()? {
            return Err(Error::RepositoryUnknown { name: self.name.clone() });
        }
        for _ in 0..REMOVALS_MAX {
            let contents = self.stores.meta.read(|tx| tx.contents(&self.name))?;
            let (name, now) = (self.name.clone(), self.stores.clock.now());
            let (orphans, is_gone) = self.stores.meta.write(move |tx| {
                let orphans = remove_contents(tx, &name, &contents, now)?;
                Ok::<_, Error>((orphans, tx.repository(&name)?.is_none()))
            })?;
            for digest in orphans {
                let _busy = self.stores.blobs.lock(digest);
                // Somebody may have pushed it since; then there is a row, and the file is theirs.
                let row = self.stores.meta.read(|tx| tx.blob(digest));
                if matches!(row, Ok::<_, meta::Error>(None)) {
                    self.stores.blobs.try_remove(digest);
                }
            }
            if is_gone {
                break;
            }
        }
        Ok(())
    }
}

/// Removes rows that are still there; gives the blobs whose last link has gone.
fn remove_contents(
    tx: &mut WriteTx,
    name: &RepositoryName,
    contents: &Contents,
    now: Timestamp,
) -> Result<Vec<Digest>, Error> {
    for tag in &contents.tags {
        tx.remove_tag(name, tag, now, false)?;
    }
    for digest in &contents.manifests {
        let (Some(row), Some(bytes)) = (tx.manifest(name, *digest)?, tx.manifest_bytes(name, *digest)?) else {
            continue;
        };
        for tag in tx.tags_of(name, *digest)? {
            tx.remove_tag(name, &tag, now, false)?;
        }
        if let Ok(manifest) = Manifest::read(&bytes, row.media_type().as_ref()) {
            detach(tx, name, *digest, &manifest)?;
        }
        tx.remove_manifest(name, *digest, now)?;
    }
    let mut orphans = Vec::new();
    for digest in &contents.blobs {
        if tx.link(*digest, name)?.is_some() && tx.remove_link(name, *digest, now)? {
            orphans.push(*digest);
        }
    }
    tx.forget_history(name)?;
    if tx.settings(name)?.is_some() {
        tx.remove_settings(name)?;
    }
    // One that was made empty has had no content to go with.
    tx.put_repository(name, now)?;
    Ok(orphans)
}
