//! Operations on a whole repository: create, list the tags, remove.

use super::manifest::{detach, stored_manifest};
use super::weight::Weights;
use super::{Error, Repository, deleted};
use crate::content::rows::{AuditEvent, Contents, SettingsRow, WriteTx};
use crate::kit::clock::{Moment, Timestamp};
use crate::oci::{Digest, RepositoryName, Tag};

/// Attempts of a removal if clients push meanwhile.
const REMOVALS_MAX: usize = 3;

/// A tag and its manifest.
#[derive(Clone, Debug)]
pub(crate) struct TaggedManifest {
    pub(crate) tag: String,
    pub(crate) digest: Digest,
    /// The size of the image in bytes: see [`Weight`](super::weight::Weight).
    pub(crate) size: u64,
    pub(crate) moved: Timestamp,
}

impl Repository {
    /// Whether the repository exists.
    pub(crate) fn is_known(&self) -> Result<bool, Error> {
        Ok(self.stores.database.read(|tx| tx.repository(&self.name))?.is_some())
    }

    /// Creates the repository without content. Returns whether it is new.
    pub(crate) fn create(&self, settings: SettingsRow) -> Result<bool, Error> {
        let (name, now, quotas) = (self.name.clone(), self.stores.clock.now(), self.stores.rules.quotas.clone());
        self.write(move |tx| {
            if tx.repository(&name)?.is_some() {
                return Ok((false, Vec::new()));
            }
            quotas.check_repository(tx, &name)?;
            tx.put_settings(&name, &settings)?;
            tx.put_repository(&name, now)?;
            Ok((true, vec![AuditEvent::new("create_repo")]))
        })
    }

    /// At most `limit` tags with their manifests, in byte order.
    pub(crate) fn tagged(&self, limit: usize) -> Result<Vec<TaggedManifest>, Error> {
        self.stores.database.read(|tx| {
            let (mut tagged, mut weights) = (Vec::new(), Weights::default());
            for text in tx.tags(&self.name, "", limit)?.0 {
                let tag: Result<Tag, _> = text.parse();
                let Some(row) = tag.ok().map(|tag| tx.tag(&self.name, &tag)).transpose()?.flatten() else { continue };
                let size = weights.of(tx, &self.name, row.digest)?.map_or(0, |weight| weight.size);
                tagged.push(TaggedManifest { tag: text, digest: row.digest, size, moved: row.moved });
            }
            Ok(tagged)
        })
    }

    /// Removes the repository with its content, its permissions and its settings, and the files of blobs that no other
    /// repository has. Fails if a tag is immutable. A concurrent push is removed as well, or comes after it.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        if !self.is_known()? {
            return Err(Error::RepositoryUnknown { name: self.name.clone() });
        }
        for attempt in 0..REMOVALS_MAX {
            let contents = self.stores.database.read(|tx| tx.contents(&self.name))?;
            let (name, now) = (self.name.clone(), self.stores.ages.now());
            let immutable = self.stores.rules.immutable.clone();
            let (orphans, is_gone) = self.write(move |tx| {
                for tag in &contents.tags {
                    immutable.check(tx, &name, tag)?;
                }
                tx.remove_settings(&name)?;
                let orphans = remove_contents(tx, &name, &contents, now)?;
                let events = if attempt == 0 { vec![AuditEvent::new("delete_repo")] } else { Vec::new() };
                Ok(((orphans, tx.repository(&name)?.is_none()), events))
            })?;
            self.stores.remove_orphans(&orphans);
            if is_gone {
                break;
            }
        }
        Ok(())
    }
}

/// Removes the rows that still exist. Returns the blobs whose last link was removed.
fn remove_contents(
    tx: &mut WriteTx,
    name: &RepositoryName,
    contents: &Contents,
    now: Moment,
) -> Result<Vec<Digest>, Error> {
    for tag in &contents.tags {
        tx.remove_tag(name, tag, now, false)?;
    }
    for digest in &contents.manifests {
        if tx.manifest(name, *digest)?.is_none() {
            continue;
        }
        for tag in tx.tags_of(name, *digest)? {
            tx.remove_tag(name, &tag, now, false)?;
        }
        match stored_manifest(tx, name, *digest) {
            Ok(manifest) => manifest.map_or(Ok(()), |manifest| detach(tx, name, *digest, &manifest, now.steady))?,
            // A damaged manifest is removed as well.
            Err(Error::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        tx.remove_manifest(name, *digest, now)?;
    }
    for digest in &contents.deleted {
        match stored_manifest(tx, name, *digest) {
            Ok(manifest) => {
                manifest.map_or(Ok(()), |manifest| deleted::forget(tx, name, *digest, &manifest, now.steady))?;
            }
            Err(Error::Corrupt { .. }) => tx.remove_deleted_manifest(name, *digest)?,
            Err(error) => return Err(error),
        }
    }
    let mut orphans = Vec::new();
    for digest in &contents.blobs {
        if tx.link(*digest, name)?.is_some() && tx.remove_link(name, *digest)? {
            orphans.push(*digest);
        }
    }
    tx.delete_history(name, now.steady)?;
    if tx.settings(name)?.is_some() {
        tx.remove_settings(name)?;
    }
    // A repository that was created empty has no content whose removal would remove it.
    tx.put_repository(name, now.wall)?;
    Ok(orphans)
}
