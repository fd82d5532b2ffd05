//! Content that comes from another registry: manifests whose blobs may be missing, and blobs that arrive when a client
//! requests them.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::facts::Push;
use super::manifest::{attach, stored_manifest};
use super::{Error, Repository, Upload, deleted};
use crate::content::rows::{self, ManifestRow, MirroredRow, Unreferenced, WriteTx};
use crate::kit::clock::Moment;
use crate::oci::{Digest, Manifest, MediaType, Reference, RepositoryName, Tag, UploadId};

/// The most manifests whose facts are written when one of their blobs arrives.
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
    /// A manifest that a client pushed.
    Pushed,
    /// A manifest that was fetched from an upstream.
    Mirrored(Digest),
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

impl Repository {
    /// The content of the repository under a reference, and its origin.
    pub(crate) fn held(&self, reference: &Reference) -> Result<Held, Error> {
        self.stores.database.read(|tx| {
            let digest = match reference {
                Reference::Digest(digest) => Some(*digest),
                Reference::Tag(tag) => tx.tag(&self.name, tag)?.map(|row| row.digest),
            };
            let Some(digest) = digest else { return Ok(Held::Nothing) };
            if tx.manifest(&self.name, digest)?.is_none() {
                return Ok(Held::Nothing);
            }
            Ok(if tx.mirrored(&self.name, digest)?.is_some() { Held::Mirrored(digest) } else { Held::Pushed })
        })
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

    /// Links a blob that another repository has, because the upstream has it in this one. Returns whether it is linked.
    pub(crate) fn link_mirrored(&self, digest: Digest) -> Result<bool, Error> {
        self.mount(digest, |_| true)
    }

    /// Stores a manifest of an upstream, with its tag. The repository may lack everything that it names.
    pub(crate) fn put_mirrored(&self, put: PutMirrored) -> Result<(), Error> {
        let manifest = Manifest::read_pushed(&put.bytes, Some(&put.media_type)).map_err(Error::ManifestInvalid)?;
        let manifest = manifest.with_optional_blobs();
        let (name, now, kept) = (self.name.clone(), self.stores.ages.now(), self.stores.keeps_history());
        let facts = self.new_facts(&manifest, &put.bytes);
        let _ = self.take_lease(Unreferenced::Manifest, put.digest);
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
                tx.put_tag(&name, tag, digest, now, kept)?;
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

/// Turns a mirrored manifest into an ordinary one, because a client pushes it. The caller has checked that no
/// blob is missing.
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
    tx.remove_mirrored(name, digest)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::content::repository::scene::{Scene, image, rules};
    use crate::content::rows::Findings;
    use crate::oci::Algorithm;

    fn put(repository: &Repository, manifest: &str, tag: &str) -> Digest {
        let digest = Digest::of(Algorithm::Sha256, manifest.as_bytes());
        let put = PutMirrored {
            digest,
            tag: Some(tag.parse().unwrap()),
            media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
            bytes: Bytes::from(manifest.to_owned()),
            upstream: "a.example".to_owned(),
        };
        repository.put_mirrored(put).unwrap();
        digest
    }

    fn assert_rows_agree(repository: &Repository) {
        let mut findings = Findings::default();
        let database = &repository.stores.database;
        database.read(|rows| rows.verify_repository(&repository.name, &mut findings)).unwrap();
        assert!(findings.lost.is_empty() && findings.derived.is_empty(), "{findings:?}");
    }

    #[test]
    fn a_mirrored_manifest_may_lack_its_blobs_and_a_push_makes_it_an_ordinary_one() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let config = Digest::of(Algorithm::Sha256, b"{}");
        let manifest = image(&[config], None, "x");
        let tag = Reference::Tag("1".parse().unwrap());
        assert_eq!(repository.held(&tag).unwrap(), Held::Nothing);
        let digest = put(&repository, &manifest, "1");
        assert_eq!(repository.held(&tag).unwrap(), Held::Mirrored(digest));
        let state = repository.blob_state(config).unwrap();
        assert_eq!(state, BlobState { is_held: false, is_listed: true, size: None });
        assert_rows_agree(&repository);
        assert!(matches!(
            repository.push_manifest(&manifest, &["1"]),
            Err(Error::ManifestContentMissing { missing }) if missing == [config]
        ));
        assert_eq!(repository.held(&tag).unwrap(), Held::Mirrored(digest));
        repository.push_blob(b"{}");
        assert_rows_agree(&repository);
        repository.push_manifest(&manifest, &["1"]).unwrap();
        assert_eq!(repository.held(&tag).unwrap(), Held::Pushed);
        assert_rows_agree(&repository);
        repository.delete_manifest(&Reference::Digest(digest), false).unwrap();
        assert_rows_agree(&repository);
    }

    #[test]
    fn a_mirrored_manifest_is_deleted_restored_and_removed_like_others() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let config = repository.push_blob(b"{}");
        let other = repository.push_manifest(&image(&[config], None, "other"), &["2"]).unwrap();
        let digest = put(&repository, &image(&[config], None, "x"), "1");
        assert_rows_agree(&repository);
        repository.delete_manifest(&Reference::Digest(digest), false).unwrap();
        assert_rows_agree(&repository);
        repository.restore_manifest(digest).unwrap();
        assert_eq!(repository.held(&Reference::Digest(digest)).unwrap(), Held::Mirrored(digest));
        assert_rows_agree(&repository);
        repository.delete_manifest(&Reference::Digest(other), false).unwrap();
        assert!(matches!(repository.delete_blob(config), Err(Error::BlobReferenced { .. })));
        repository.remove().unwrap();
        assert_eq!(repository.held(&Reference::Digest(digest)).unwrap(), Held::Nothing);
    }
}
