//! Manifests of a repository.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::cache::ManifestCache;
use super::facts::Push;
use super::lease::Purpose;
use super::{Error, MissingRight, Repository, deleted, mirrored};
use crate::content::rows::{self, AuditEvent, ManifestRow, Rows, Unreferenced, WriteTx};
use crate::kit::clock::SteadyTime;
use crate::oci::{Algorithm, Digest, Manifest, MediaType, Reference, RepositoryName, Tag};

/// The names under which a manifest is pushed. A push by tag cannot have more tags.
#[derive(Clone, Debug)]
pub(crate) enum ManifestTarget {
    /// By a tag.
    Tag(Tag),
    /// By its digest, with tags (`?tag=`).
    Digest { digest: Digest, tags: Vec<Tag> },
}

/// The condition of a push on its tag (RFC 9110, `If-Match` and `If-None-Match`).
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// It points at one of these.
    OneOf(Vec<Digest>),
    /// It exists.
    Present,
    /// It does not exist.
    Absent,
}

/// A push.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the rights of the caller and the rules are independent")]
pub(crate) struct PutManifest {
    pub(crate) target: ManifestTarget,
    pub(crate) content_type: Option<MediaType>,
    pub(crate) bytes: Bytes,
    pub(crate) expected: Option<Expected>,
    /// Whether the caller may add tags, and manifests without a tag.
    pub(crate) may_create: bool,
    /// Whether the caller may move existing tags.
    pub(crate) may_move: bool,
    /// Whether an index may list manifests that the repository does not have, even if the rules exclude that.
    pub(crate) sparse: bool,
    /// Whether a client pushes: quotas and mandatory annotations apply, and the sizes of descriptors are checked.
    pub(crate) by_client: bool,
}

impl PutManifest {
    /// A push without conditions by a caller who may do everything.
    pub(crate) const fn new(target: ManifestTarget, bytes: Bytes) -> Self {
        Self {
            target,
            content_type: None,
            bytes,
            expected: None,
            may_create: true,
            may_move: true,
            sparse: false,
            by_client: false,
        }
    }
}

/// The rights of the caller of a push.
#[derive(Clone, Copy, Debug)]
pub(super) struct PushRights {
    may_create: bool,
    may_move: bool,
}

impl PushRights {
    /// Fails if the caller may not push to these tags, or without a tag. A push by digest with tags needs the rights to
    /// its tags only, as a push by tag does. Only in the transaction of the push it is certain which tags exist.
    pub(super) fn check(self, tx: &Rows, name: &RepositoryName, tags: &[Tag]) -> Result<(), Error> {
        let lacks = |right| Err(Error::NotGranted { name: name.clone(), right });
        if tags.is_empty() && !self.may_create {
            return lacks(MissingRight::AddManifest);
        }
        for tag in tags {
            let exists = tx.tag(name, tag)?.is_some();
            if exists && !self.may_move {
                return lacks(MissingRight::UpdateTag(tag.clone()));
            }
            if !exists && !self.may_create {
                return lacks(MissingRight::CreateTag(tag.clone()));
            }
        }
        Ok(())
    }
}

/// The description of a manifest.
#[derive(Clone, Debug)]
pub(crate) struct ManifestInfo {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) size: u64,
    /// The subject of a pushed manifest. Not read for pulls.
    pub(crate) subject: Option<Digest>,
}

/// A manifest as it was pushed.
#[derive(Clone, Debug)]
pub(crate) struct ManifestBytes {
    pub(crate) info: ManifestInfo,
    pub(crate) bytes: Bytes,
}

impl Repository {
    /// The description of a manifest. A request by digest takes a lease on it.
    pub(crate) fn manifest_info(&self, reference: &Reference) -> Result<ManifestInfo, Error> {
        Ok(self.find(reference, false, Purpose::Push)?.0)
    }

    /// The manifest with this reference. The bytes of a large manifest are missing unless a response is sending them now:
    /// see [`Repository::large_manifest`].
    pub(crate) fn manifest_at_hand(&self, reference: &Reference) -> Result<(ManifestInfo, Option<Bytes>), Error> {
        let (info, bytes) = self.find(reference, false, Purpose::Read)?;
        let bytes = bytes.or_else(|| self.stores.large_manifests.get(&self.name, info.digest));
        Ok((info, bytes))
    }

    /// The manifest with this reference.
    #[cfg(test)]
    pub(crate) fn manifest(&self, reference: &Reference) -> Result<ManifestBytes, Error> {
        let (info, bytes) = self.find(reference, true, Purpose::Read)?;
        let bytes = bytes.ok_or_else(|| Error::ManifestUnknown { reference: reference.clone() })?;
        Ok(ManifestBytes { info, bytes })
    }

    /// A manifest, with its bytes if they are wanted or can be cached. A client that asks for the digest of a tag usually
    /// requests the manifest next.
    fn find(
        &self,
        reference: &Reference,
        wants_bytes: bool,
        purpose: Purpose,
    ) -> Result<(ManifestInfo, Option<Bytes>), Error> {
        self.lease_by_digest(reference, purpose)?;
        let cache = &self.stores.manifests;
        // Taken before the read, so that a later change invalidates the entry.
        let version = self.stores.database.version();
        if let Some(known) = version.and_then(|version| cache.get(version, &self.name, reference)) {
            return Ok((known.info, Some(known.bytes)));
        }
        let (info, bytes) = self.stores.database.read(|tx| {
            let info = self.look_up(tx, reference)?;
            let read = wants_bytes || ManifestCache::takes(info.size);
            let bytes = if read { tx.manifest_bytes(&self.name, info.digest)? } else { None };
            Ok::<_, Error>((info, bytes))
        })?;
        let Some(bytes) = bytes else { return Ok((info, None)) };
        let found = ManifestBytes { info, bytes };
        if let Some(version) = version {
            cache.keep(version, &self.name, reference, &found);
        }
        Ok((found.info, Some(found.bytes)))
    }

    /// Takes a lease for a request by digest. Fails if the manifest is being removed.
    fn lease_by_digest(&self, reference: &Reference, purpose: Purpose) -> Result<(), Error> {
        let Reference::Digest(digest) = reference else { return Ok(()) };
        let leased = self.take_lease(Unreferenced::Manifest, *digest, purpose);
        leased.map(drop).ok_or_else(|| Error::ManifestUnknown { reference: reference.clone() })
    }

    fn look_up(&self, tx: &Rows, reference: &Reference) -> Result<ManifestInfo, Error> {
        let digest = match reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(tag) => tx.tag(&self.name, tag)?.map(|row| row.digest),
        };
        let row = match digest {
            Some(digest) => tx.manifest(&self.name, digest)?.map(|row| (digest, row)),
            None => None,
        };
        match row {
            Some((digest, row)) => {
                Ok(ManifestInfo { digest, media_type: row.media_type, size: row.size, subject: None })
            }
            None if tx.repository(&self.name)?.is_none() => Err(Error::RepositoryUnknown { name: self.name.clone() }),
            None => Err(Error::ManifestUnknown { reference: reference.clone() }),
        }
    }

    /// Stores a manifest with its tags, references and referrer entry in one transaction.
    pub(crate) fn put_manifest(&self, put: PutManifest) -> Result<ManifestInfo, Error> {
        let read = if put.by_client { Manifest::read_from_client } else { Manifest::read_pushed };
        let manifest = read(&put.bytes, put.content_type.as_ref()).map_err(Error::ManifestInvalid)?;
        let (digest, tags) = match put.target {
            ManifestTarget::Tag(tag) => (Digest::of(Algorithm::Sha256, &put.bytes), vec![tag]),
            ManifestTarget::Digest { digest, tags } => {
                let actual = Digest::of(digest.algorithm(), &put.bytes);
                if actual != digest {
                    return Err(Error::DigestMismatch { expected: digest, actual: Box::new(actual) });
                }
                (digest, tags)
            }
        };
        let rights = PushRights { may_create: put.may_create, may_move: put.may_move };
        if put.by_client
            && let Err(error) = self.lint(&manifest, &tags)
        {
            if matches!(error, Error::AnnotationsMissing { .. } | Error::LabelsUnread { .. }) {
                self.note_refused_image(digest, &manifest, put.bytes, tags, rights)?;
            }
            return Err(error);
        }
        let now = self.stores.ages.now();
        let info = ManifestInfo {
            digest,
            media_type: manifest.media_type().to_string(),
            size: put.bytes.len() as u64,
            subject: manifest.subject(),
        };
        let row = ManifestRow { media_type: info.media_type.clone(), size: info.size, created: now.wall };
        let sparse = put.sparse || self.stores.rules.sparse_indexes;
        let (name, kept) = (self.name.clone(), self.stores.keeps_history());
        // If the manifest is being removed, it is stored again after that.
        let _ = self.take_lease(Unreferenced::Manifest, digest, Purpose::Push);
        let is_known = self.stores.database.read(|tx| tx.has_facts(&name, digest))?;
        let facts = if is_known { None } else { Some(self.new_facts(&manifest, &put.bytes)) };
        let push = Push { size: info.size, pushed: now.wall, pushed_by: self.user() };
        let (repository, immutable) = (self.clone(), self.stores.rules.immutable.clone());
        let request = self.request();
        let quotas = Some(self.stores.rules.quotas.clone()).filter(|_| put.by_client);
        self.stores.database.write(move |tx| {
            tx.set_event_origin(request);
            rights.check(tx, &name, &tags)?;
            let mut new = 0;
            for tag in &tags {
                immutable.check_move(tx, &name, tag, digest)?;
                new += u64::from(tx.tag(&name, tag)?.is_none());
            }
            if let Some(quotas) = &quotas {
                quotas.check_repository(tx, &name)?;
                quotas.check_tags(tx, &name, new)?;
            }
            if let Some(expected) = &put.expected {
                for tag in &tags {
                    expected.check(tx.tag(&name, tag)?.map(|row| row.digest))?;
                }
            }
            let is_mirrored = tx.mirrored(&name, digest)?.is_some();
            if is_mirrored {
                let missing = missing(tx, &name, &manifest, sparse)?;
                if !missing.is_empty() {
                    return Err(Error::ManifestContentMissing { missing });
                }
            }
            let mut is_stored = true;
            if tx.deleted_manifest(&name, digest)?.is_some() {
                let pushed = Some(&put.bytes[..]).filter(|_| !is_mirrored);
                deleted::restore(tx, &name, digest, now, sparse || is_mirrored, pushed)?;
            } else if tx.manifest(&name, digest)?.is_none() {
                is_stored = false;
                let missing = missing(tx, &name, &manifest, sparse)?;
                if !missing.is_empty() {
                    return Err(Error::ManifestContentMissing { missing });
                }
                tx.put_manifest(&name, digest, &row, &put.bytes)?;
                attach(tx, &name, digest, &manifest, row.size)?;
                // It may have been removed since it was found to be known.
                let facts = facts.unwrap_or_else(|| repository.new_facts(&manifest, &put.bytes));
                facts.put(tx, &name, digest, &manifest, push)?;
            }
            if is_mirrored {
                mirrored::adopt(tx, &name, digest, &manifest, now)?;
            }
            if is_stored && tx.manifest_bytes(&name, digest)?.is_none_or(|stored| stored != put.bytes) {
                tx.repair_manifest(&name, digest, &put.bytes)?;
            }
            for tag in &tags {
                tx.put_tag(&name, tag, digest, now, kept)?;
                tx.set_tag_mirrored(&name, tag, false)?;
            }
            // A repeated push starts its age again.
            Ok(tx.recheck_manifest(&name, digest, now)?)
        })?;
        Ok(info)
    }

    /// Deletes a tag, or a manifest with its tags and its referrer entry. Both can be restored while the history is kept.
    /// If `only_untagged` is set, a manifest with more than one tag is not deleted.
    pub(crate) fn delete_manifest(&self, reference: &Reference, only_untagged: bool) -> Result<(), Error> {
        let (name, reference, now) = (self.name.clone(), reference.clone(), self.stores.ages.now());
        let (kept, immutable) = (self.stores.keeps_history(), self.stores.rules.immutable.clone());
        self.write(move |tx| {
            let found = match &reference {
                Reference::Tag(tag) => tx.tag(&name, tag)?.is_some(),
                Reference::Digest(digest) => tx.manifest(&name, *digest)?.is_some(),
            };
            if !found {
                return Err(match tx.repository(&name)? {
                    Some(_) => Error::ManifestUnknown { reference },
                    None => Error::RepositoryUnknown { name },
                });
            }
            let digest = match reference {
                Reference::Tag(tag) => {
                    immutable.check(tx, &name, &tag)?;
                    tx.remove_tag(&name, &tag, now, kept)?;
                    return Ok(((), vec![AuditEvent::new("delete_tag").with("tag", &tag)]));
                }
                Reference::Digest(digest) => digest,
            };
            if let Some(index) = tx.present_lister(&name, digest)? {
                return Err(Error::ManifestReferenced { digest, index: Box::new(index) });
            }
            let unknown = || Error::ManifestUnknown { reference: Reference::Digest(digest) };
            let manifest = stored_manifest(tx, &name, digest)?.ok_or_else(unknown)?;
            let tags = tx.tags_of(&name, digest)?;
            if only_untagged && tags.len() > 1 {
                return Err(Error::ManifestTagged { digest });
            }
            for tag in &tags {
                immutable.check(tx, &name, tag)?;
            }
            for tag in tags {
                tx.remove_tag(&name, &tag, now, kept)?;
            }
            if kept {
                deleted::hide(tx, &name, digest, &manifest, now)?;
            } else {
                detach(tx, &name, digest, &manifest, now.steady)?;
                tx.remove_manifest(&name, digest, now)?;
            }
            Ok(((), Vec::new()))
        })
    }
}

impl Expected {
    fn check(&self, now: Option<Digest>) -> Result<(), Error> {
        let holds = match self {
            Self::Absent => now.is_none(),
            Self::Present => now.is_some(),
            Self::OneOf(digests) => now.is_some_and(|now| digests.contains(&now)),
        };
        if holds { Ok(()) } else { Err(Error::TagMoved { now }) }
    }
}

/// The stored manifest, also if it is deleted and can be restored.
pub(super) fn stored_manifest(tx: &Rows, name: &RepositoryName, digest: Digest) -> Result<Option<Manifest>, Error> {
    let Some(row) = tx.stored_manifest(name, digest)? else { return Ok(None) };
    let corrupt = || Error::Corrupt { what: "the manifest cannot be read", digest };
    let bytes = tx.manifest_bytes(name, digest)?.ok_or_else(corrupt)?;
    let manifest = Manifest::read(&bytes, row.media_type().as_ref()).map_err(|_| corrupt())?;
    Ok(Some(if tx.mirrored(name, digest)?.is_some() { manifest.with_optional_blobs() } else { manifest }))
}

/// The content that a manifest needs and the repository does not have.
pub(super) fn missing(
    tx: &WriteTx,
    name: &RepositoryName,
    manifest: &Manifest,
    sparse: bool,
) -> Result<Vec<Digest>, Error> {
    let mut missing = BTreeSet::new();
    for blob in manifest.blobs() {
        // A client that pushes the manifest can also push a damaged blob.
        if tx.link(*blob, name)?.is_none() || tx.damage(*blob)?.is_some() {
            missing.insert(*blob);
        }
    }
    for child in manifest.manifests() {
        let there = tx.manifest(name, child.digest)?.is_some()
            || (!child.is_manifest && tx.link(child.digest, name)?.is_some());
        if !there && !sparse {
            missing.insert(child.digest);
        }
    }
    Ok(missing.into_iter().collect())
}

/// The content that a manifest names and that may be missing: it is referenced if it exists, or once it is pushed.
pub(super) fn listed(manifest: &Manifest) -> impl Iterator<Item = Digest> {
    manifest.manifests().iter().map(|child| child.digest).chain(manifest.optional_blobs().iter().copied())
}

/// Adds the references of a new manifest.
pub(super) fn attach(
    tx: &mut WriteTx,
    name: &RepositoryName,
    digest: Digest,
    manifest: &Manifest,
    size: u64,
) -> Result<(), rows::Error> {
    for blob in manifest.blobs() {
        tx.add_blob_reference(name, *blob)?;
    }
    for listed in listed(manifest) {
        tx.put_listing(name, listed, digest)?;
    }
    if let Some(subject) = manifest.subject() {
        let kind = manifest.artifact_type().unwrap_or_default();
        tx.put_referrer(name, subject, kind, digest, &manifest.referrer_descriptor(digest, size))?;
    }
    Ok(())
}

/// Removes what [`attach`] has added. The manifest has been unreferenced `since` this time.
pub(super) fn detach(
    tx: &mut WriteTx,
    name: &RepositoryName,
    digest: Digest,
    manifest: &Manifest,
    since: SteadyTime,
) -> Result<(), Error> {
    release(tx, name, digest, manifest, since)?;
    for listed in listed(manifest) {
        tx.remove_listing(name, listed, digest, since)?;
    }
    Ok(())
}

/// Removes the references to the blobs of a manifest, and its referrer entry.
pub(super) fn release(
    tx: &mut WriteTx,
    name: &RepositoryName,
    digest: Digest,
    manifest: &Manifest,
    since: SteadyTime,
) -> Result<(), Error> {
    for blob in manifest.blobs() {
        tx.remove_blob_reference(name, *blob, since)?;
    }
    if let Some(subject) = manifest.subject() {
        tx.remove_referrer(name, subject, manifest.artifact_type().unwrap_or_default(), digest)?;
    }
    Ok(())
}
