//! Content that comes from another registry: manifests whose blobs may be missing, and blobs that arrive when a client
//! requests them.

use std::ops::ControlFlow;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::facts::Push;
use super::lease::Purpose;
use super::manifest::{attach, stored_manifest};
use super::{Error, Repository, Stores, Upload, deleted};
use crate::content::rows::{self, ManifestRow, MirroredRow, Rows, Unreferenced, Version, WriteTx};
use crate::kit::clock::{Moment, Timestamp};
use crate::oci::{Digest, Manifest, MediaType, Reference, RepositoryName, Tag, UploadId};

/// The most mirrored manifests of a repository that are looked at for its page.
const MIRRORED_SEEN_MAX: usize = 10_000;
/// Rows that are counted in one transaction.
const COUNTED_STEP: usize = 256;
/// The most manifests that are looked at for one of their blobs or parts.
const LISTERS_MAX: usize = 64;

/// A manifest that was fetched from an upstream. Its bytes have this digest.
#[derive(Clone, Debug)]
pub(crate) struct PutMirrored {
    pub(crate) digest: Digest,
    pub(crate) tag: Option<Tag>,
    pub(crate) media_type: MediaType,
    pub(crate) bytes: Bytes,
    /// Host and port of the upstream.
    pub(crate) upstream: String,
}

/// The content of the repository under a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Nothing,
    /// A tag that a client pushed, or such a manifest.
    Pushed,
    /// A tag that an upstream set, or a manifest that was only fetched from one.
    Mirrored(Digest),
}

/// Where a manifest came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MirrorOrigin {
    pub(crate) digest: Digest,
    /// The host that it was fetched from. `None` if it was pushed.
    pub(crate) upstream: Option<String>,
    pub(crate) since: Timestamp,
    /// The blobs and manifests that it names and that the repository lacks.
    pub(crate) missing: u64,
}

/// The state of a blob in the stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobState {
    /// Whether the repository has it, and it is not damaged.
    pub(crate) is_held: bool,
    /// Whether a mirrored manifest of the repository names it.
    pub(crate) is_listed: bool,
    /// Its size, if any repository has it.
    pub(crate) size: Option<u64>,
}

impl Stores {
    /// The repositories that have a mirrored manifest.
    pub(crate) fn mirrored_repositories(&self) -> Result<Vec<RepositoryName>, Error> {
        let (mut names, mut after) = (Vec::new(), String::new());
        // One transaction for all would keep old pages of the database while it lasts.
        while let Some(next) = self.database.read(|tx| tx.next_mirrored_repository(&after))? {
            names.extend(next.parse());
            after = next;
        }
        Ok(names)
    }
}

/// Mirrored content, as counted by [`Stores::mirror_holdings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MirrorHolding {
    pub(crate) repositories: u64,
    /// Bytes of manifests and blobs. A blob counts once, however many of the repositories have it.
    pub(crate) bytes: u64,
}

impl Stores {
    /// Counts the content that the mirror fetched, by group: an upstream. Content of repositories without a group does not
    /// count. Reads all rows of mirrored content: blocks.
    pub(crate) fn mirror_holdings(
        &self,
        groups: usize,
        group_of: &dyn Fn(&RepositoryName) -> Option<usize>,
    ) -> Result<Vec<MirrorHolding>, Error> {
        let mut holdings = vec![MirrorHolding::default(); groups];
        let mut after: Option<(RepositoryName, Digest)> = None;
        loop {
            let last = self.database.read(|tx| {
                let rows = tx.mirror_uses(after.as_ref(), COUNTED_STEP)?;
                let mut before = after.as_ref().map(|(name, _)| name);
                for (name, digest) in &rows {
                    let group = group_of(name);
                    if let Some(holding) = group.and_then(|group| holdings.get_mut(group)) {
                        holding.repositories += u64::from(before != Some(name));
                        let is_of_group = |other: &RepositoryName| group_of(other) == group;
                        holding.bytes += counted_bytes(tx, name, *digest, &is_of_group)?;
                    }
                    before = Some(name);
                }
                Ok::<_, Error>(rows.last().cloned())
            })?;
            // One transaction for all would keep old pages of the database while it lasts.
            match last {
                Some(last) => after = Some(last),
                None => return Ok(holdings),
            }
        }
    }
}

/// The size of a manifest, or of a blob if this is the first repository of its group that the mirror fetched it for.
fn counted_bytes(
    tx: &Rows,
    name: &RepositoryName,
    digest: Digest,
    is_of_group: &dyn Fn(&RepositoryName) -> bool,
) -> Result<u64, Error> {
    if let Some(manifest) = tx.manifest(name, digest)? {
        return Ok(manifest.size);
    }
    let Some(blob) = tx.blob(digest)? else { return Ok(0) };
    if blob.links <= 1 {
        return Ok(blob.size);
    }
    for holder in tx.linking_repositories(digest)? {
        let Ok(holder) = holder.parse::<RepositoryName>() else { continue };
        if is_of_group(&holder) && tx.mirror_use(&holder, digest)?.is_some() {
            return Ok(if holder == *name { blob.size } else { 0 });
        }
    }
    Ok(0)
}

impl Repository {
    /// The tags that an upstream set.
    pub(crate) fn mirrored_tags(&self) -> Result<Vec<Tag>, Error> {
        let rows = self.stores.database.read(|tx| {
            let mut rows = Vec::new();
            tx.each_tag_row(&self.name, "", |tag, row| {
                rows.extend(tag.parse::<Tag>().ok().map(|tag| (tag, row)));
                ControlFlow::Continue(())
            })?;
            let mut tags = Vec::new();
            for (tag, row) in rows {
                if tx.is_mirrored_tag(&self.name, &row)? {
                    tags.push(tag);
                }
            }
            Ok::<_, rows::Error>(tags)
        });
        Ok(rows?)
    }

    /// The origin of the manifest under a reference, and how much of its content is missing.
    pub(crate) fn origin(&self, reference: &Reference) -> Result<Option<MirrorOrigin>, Error> {
        self.stores.database.read(|tx| {
            let digest = match reference {
                Reference::Digest(digest) => Some(*digest),
                Reference::Tag(tag) => tx.tag(&self.name, tag)?.map(|row| row.digest),
            };
            let Some(digest) = digest else { return Ok(None) };
            let Some(row) = tx.manifest(&self.name, digest)? else { return Ok(None) };
            let mirrored = tx.mirrored(&self.name, digest)?;
            let since = mirrored.as_ref().map_or(row.created, |mirrored| mirrored.fetched);
            let mut missing = 0;
            if let Some(manifest) = stored_manifest(tx, &self.name, digest)? {
                for blob in manifest.blobs().iter().chain(manifest.optional_blobs()) {
                    missing += u64::from(tx.link(*blob, &self.name)?.is_none());
                }
                for child in manifest.manifests().iter().filter(|child| child.is_manifest) {
                    missing += u64::from(tx.manifest(&self.name, child.digest)?.is_none());
                }
            }
            Ok(Some(MirrorOrigin { digest, upstream: mirrored.map(|mirrored| mirrored.upstream), since, missing }))
        })
    }

    /// When the last of the mirrored manifests was fetched. `None` if there is no mirrored manifest. Looks at the first
    /// manifests only if there are many.
    pub(crate) fn last_fetched(&self) -> Result<Option<Timestamp>, Error> {
        let mut last = None;
        self.stores
            .database
            .read(|tx| tx.each_mirrored(&self.name, MIRRORED_SEEN_MAX, |row| last = last.max(Some(row.fetched))))?;
        Ok(last)
    }

    /// The type and the bytes of a manifest that the repository has.
    pub(crate) fn stored_bytes(&self, digest: Digest) -> Result<Option<(MediaType, Bytes)>, Error> {
        self.stores.database.read(|tx| {
            let Some(row) = tx.manifest(&self.name, digest)? else { return Ok(None) };
            let (Some(media_type), Some(bytes)) = (row.media_type(), tx.manifest_bytes(&self.name, digest)?) else {
                return Err(Error::Corrupt { what: "the manifest cannot be read", digest });
            };
            Ok(Some((media_type, bytes)))
        })
    }

    /// The content of the repository under a reference, and its origin.
    pub(crate) fn held(&self, reference: &Reference) -> Result<Held, Error> {
        self.stores.database.read(|tx| {
            let (digest, is_mirrored) = match reference {
                Reference::Digest(digest) => (*digest, tx.mirrored(&self.name, *digest)?.is_some()),
                Reference::Tag(tag) => {
                    let Some(row) = tx.tag(&self.name, tag)? else { return Ok(Held::Nothing) };
                    (row.digest, tx.is_mirrored_tag(&self.name, &row)?)
                }
            };
            if tx.manifest(&self.name, digest)?.is_none() {
                return Ok(Held::Nothing);
            }
            Ok(if is_mirrored { Held::Mirrored(digest) } else { Held::Pushed })
        })
    }

    /// Whether the manifest under a reference was pushed, and no tag that an upstream set points at it.
    pub(crate) fn is_pushed_manifest(&self, reference: &Reference) -> Result<bool, Error> {
        let is_pushed = self.held(reference)? == Held::Pushed;
        let Reference::Digest(digest) = reference else { return Ok(is_pushed) };
        self.stores.database.read(|tx| {
            if !is_pushed {
                return Ok(false);
            }
            for tag in tx.tags_of(&self.name, *digest)? {
                if tx.tag(&self.name, &tag)?.is_some_and(|row| row.is_mirrored) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// The version of everything that is read from now on. `None` while a change is running.
    pub(crate) fn version(&self) -> Option<Version> {
        self.stores.database.version()
    }

    /// The state of a blob in the stores.
    pub(crate) fn blob_state(&self, digest: Digest) -> Result<BlobState, Error> {
        self.stores.database.read(|tx| {
            let is_whole = tx.damage(digest)?.is_none();
            Ok(BlobState {
                is_held: is_whole && tx.link(digest, &self.name)?.is_some(),
                is_listed: tx.lister(&self.name, digest)?.is_some(),
                size: if is_whole { tx.blob(digest)?.map(|row| row.size) } else { None },
            })
        })
    }

    /// Whether an index of the repository lists a manifest. A blob of an image is not a part of an index.
    pub(crate) fn is_part_of_index(&self, digest: Digest) -> Result<bool, Error> {
        self.stores.database.read(|tx| {
            for lister in tx.listers(&self.name, digest, LISTERS_MAX)? {
                if tx.manifest(&self.name, lister)?.is_none() {
                    continue;
                }
                let index = stored_manifest(tx, &self.name, lister)?;
                if index.is_some_and(|index| index.manifests().iter().any(|part| part.digest == digest)) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Whether one of some repositories got a blob from its upstream.
    pub(crate) fn is_fetched_by(
        &self,
        digest: Digest,
        includes: impl Fn(&RepositoryName) -> bool,
    ) -> Result<bool, Error> {
        self.stores.database.read(|tx| {
            for holder in tx.linking_repositories(digest)? {
                let Ok(holder) = holder.parse::<RepositoryName>() else { continue };
                if includes(&holder) && tx.mirror_use(&holder, digest)?.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Whether a client pushed or mounted a blob of the repository, and no mirrored manifest lists it.
    pub(crate) fn is_pushed_blob(&self, digest: Digest) -> Result<bool, Error> {
        self.stores.database.read(|tx| {
            let is_linked = tx.link(digest, &self.name)?.is_some();
            if !is_linked || tx.mirror_use(&self.name, digest)?.is_some() {
                return Ok(false);
            }
            for lister in tx.listers(&self.name, digest, LISTERS_MAX)? {
                if tx.mirrored(&self.name, lister)?.is_some() {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// The size of a blob according to a mirrored manifest of the repository.
    pub(crate) fn listed_size(&self, digest: Digest) -> Result<Option<u64>, Error> {
        self.stores.database.read(|tx| {
            let Some(lister) = tx.lister(&self.name, digest)? else { return Ok(None) };
            let bytes = tx.manifest_bytes(&self.name, lister)?.unwrap_or_default();
            Ok(Manifest::blob_size(&bytes, digest))
        })
    }

    /// Links a blob that another repository has, because the upstream has it in this one. Returns whether it is linked.
    pub(crate) fn link_mirrored(&self, digest: Digest) -> Result<bool, Error> {
        let _ = self.take_lease(Unreferenced::Link, digest, Purpose::Read);
        let (name, now) = (self.name.clone(), self.stores.ages.now());
        self.stores.database.write(move |tx| {
            // The last link may have gone since the check, and the file with it.
            let row = if tx.damage(digest)?.is_none() { tx.blob(digest)? } else { None };
            let Some(row) = row else { return Ok(false) };
            put_link(tx, &name, digest, row.size, now)?;
            Ok(true)
        })
    }

    /// Stores a manifest of an upstream, with its tag. The repository may lack everything that it names.
    pub(crate) fn put_mirrored(&self, put: PutMirrored) -> Result<(), Error> {
        let manifest = Manifest::read_pushed(&put.bytes, Some(&put.media_type)).map_err(Error::ManifestInvalid)?;
        let manifest = manifest.with_optional_blobs();
        let (name, now, kept) = (self.name.clone(), self.stores.ages.now(), self.stores.keeps_history());
        let facts = self.new_facts(&manifest, &put.bytes);
        let _ = self.take_lease(Unreferenced::Manifest, put.digest, Purpose::Read);
        self.stores.database.write(move |tx| {
            let digest = put.digest;
            if tx.deleted_manifest(&name, digest)?.is_some() {
                deleted::restore(tx, &name, digest, now, true, None)?;
            } else if tx.manifest(&name, digest)?.is_none() {
                let (media_type, size) = (put.media_type.to_string(), put.bytes.len() as u64);
                tx.put_manifest(&name, digest, &ManifestRow { media_type, size, created: now.wall }, &put.bytes)?;
                tx.put_mirrored(&name, digest, &MirroredRow { upstream: put.upstream, fetched: now.wall })?;
                attach(tx, &name, digest, &manifest, size)?;
                facts.put(tx, &name, digest, &manifest, Push { size, pushed: now.wall, pushed_by: None })?;
            }
            if let Some(tag) = &put.tag {
                // A client may have pushed the tag since the caller asked.
                let is_pushed = match tx.tag(&name, tag)? {
                    Some(row) => tx.manifest(&name, row.digest)?.is_some() && !tx.is_mirrored_tag(&name, &row)?,
                    None => false,
                };
                if !is_pushed {
                    tx.put_tag(&name, tag, digest, now, kept)?;
                    // A client has pushed the manifest, perhaps under another tag.
                    tx.set_tag_mirrored(&name, tag, tx.mirrored(&name, digest)?.is_none())?;
                }
            }
            Ok(tx.recheck_manifest(&name, digest, now)?)
        })
    }

    /// Writes the facts of the mirrored manifests that name a blob which has arrived: their sizes, and the config.
    pub(crate) fn refresh_facts_of(&self, blob: Digest) -> Result<(), Error> {
        let listers = self.stores.database.read(|tx| {
            let mut found = Vec::new();
            for digest in tx.listers(&self.name, blob, LISTERS_MAX)? {
                let Some(row) = tx.mirrored(&self.name, digest)?.and(tx.manifest(&self.name, digest)?) else {
                    continue;
                };
                let bytes = tx.manifest_bytes(&self.name, digest)?.unwrap_or_default();
                found.extend(stored_manifest(tx, &self.name, digest)?.map(|manifest| (digest, row, bytes, manifest)));
            }
            Ok::<_, Error>(found)
        })?;
        for (digest, row, bytes, manifest) in listers {
            let (name, facts) = (self.name.clone(), self.new_facts(&manifest, &bytes));
            self.stores.database.write(move |tx| {
                if tx.manifest(&name, digest)?.is_some() {
                    let push = Push { size: row.size, pushed: row.created, pushed_by: None };
                    facts.put(tx, &name, digest, &manifest, push)?;
                }
                Ok::<_, Error>(())
            })?;
        }
        Ok(())
    }

    /// Opens the upload of a blob that an upstream sends, or continues an earlier one. Its id follows from the digest, so
    /// that it is found again after a restart.
    pub(crate) async fn mirror_upload(&self, digest: Digest) -> Result<Upload, Error> {
        let mut half = [0; 16];
        half.copy_from_slice(&Sha256::digest([b"mirror ", digest.key()].concat())[..16]);
        let id = self.bind_upload(UploadId::new(half));
        match self.upload(id).await {
            Err(Error::UploadUnknown { .. }) => {
                self.stage_upload(id)?;
                self.upload(id).await
            }
            opened => opened,
        }
    }
}

/// Links a blob that an upstream has. A blob that was pushed stays a pushed one.
pub(super) fn put_link(
    tx: &mut WriteTx,
    name: &RepositoryName,
    digest: Digest,
    size: u64,
    now: Moment,
) -> Result<(), rows::Error> {
    if tx.link(digest, name)?.is_none() {
        tx.put_mirror_use(name, digest, now.wall)?;
    }
    tx.put_link(name, digest, size, now)
}

/// Turns a mirrored manifest into an ordinary one, because a client pushes it. Its tags stay those of the upstream until the
/// caller sets them. The caller has checked that no blob is missing.
pub(super) fn adopt(
    tx: &mut WriteTx,
    name: &RepositoryName,
    digest: Digest,
    manifest: &Manifest,
    now: Moment,
) -> Result<(), rows::Error> {
    for blob in manifest.blobs() {
        tx.add_blob_reference(name, *blob)?;
        tx.remove_listing(name, *blob, digest, now)?;
    }
    for tag in tx.tags_of(name, digest)? {
        tx.set_tag_mirrored(name, &tag, true)?;
    }
    tx.remove_mirrored(name, digest)
}

#[cfg(test)]
mod tests;
