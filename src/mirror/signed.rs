//! `onlySigned`: whether an upstream has a signature of an image. Signatures are not verified.
//!
//! Signatures and other companions of an image need no signature themselves. So that no unsigned image comes in their place,
//! they must have no file system ([`accompanies`]), and belong to an image that is stored: by a tag such as `sha256-….sig`,
//! or by their subject. A manifest that says it is a signature is not believed otherwise. A blob must be listed by a stored
//! manifest. Knows no schedule: [`super::sync`] applies the same rules.

use serde::Deserialize;

use super::client::Effort;
use super::error::Error;
use super::upstream::Upstream;
use super::{FETCH, Fetched, REFERRERS_MAX};
use crate::content::repository::{Held, Repository};
use crate::oci::{Digest, Manifest, MediaType, Reference, RepositoryName, Tag};

/// The beginnings of the artifact types of signatures: of cosign, sigstore and notation.
const SIGNATURE_TYPES: [&str; 3] =
    ["application/vnd.dev.cosign.", "application/vnd.dev.sigstore.", "application/vnd.cncf.notary.signature"];
/// The beginnings of the media types of file systems.
const LAYER_TYPES: [&str; 2] = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];

/// Whether a manifest is a signature of another one.
fn is_signature(manifest: &Manifest) -> bool {
    let kind = manifest.artifact_type().unwrap_or_default();
    SIGNATURE_TYPES.iter().any(|beginning| kind.starts_with(beginning))
}

/// Whether a manifest can be a companion of an image, such as its signature: one without a file system, which no runtime
/// starts. An index cannot be one, because its images would come with it.
fn accompanies(media_type: &MediaType, bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Document {
        layers: Option<Vec<Layer>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layer {
        #[serde(default)]
        media_type: String,
    }
    let Ok(Document { layers }) = serde_json::from_slice(bytes) else { return false };
    let is_file_system = |layer: &Layer| LAYER_TYPES.iter().any(|beginning| layer.media_type.starts_with(beginning));
    !media_type.is_index() && !layers.unwrap_or_default().iter().any(is_file_system)
}

/// Whether a tag belongs to an image that the repository has, as `sha256-….sig` belongs to the image of this digest.
pub(super) fn follows_image(repository: &Repository, tag: &Tag) -> Result<bool, Error> {
    let Some(image) = tag.companion_of() else { return Ok(false) };
    is_stored(repository, image)
}

/// Whether the repository has an image, or an index that it is a part of.
fn is_stored(repository: &Repository, image: Digest) -> Result<bool, Error> {
    let is_held = repository.held(&Reference::Digest(image))? != Held::Nothing;
    Ok(is_held || repository.is_part_of_index(image)?)
}

impl Fetched {
    /// Whether it can be a companion of an image.
    pub(super) fn accompanies(&self) -> bool {
        accompanies(&self.manifest.media_type, &self.manifest.bytes)
    }

    /// The manifest, if it is a signature.
    pub(super) fn signature(&self) -> Option<Manifest> {
        self.read().filter(|manifest| self.accompanies() && is_signature(manifest))
    }

    /// Whether this is a signature of an image that the repository has.
    fn signs_stored(&self, repository: &Repository) -> Result<bool, Error> {
        let subject = self.signature().and_then(|signature| signature.subject());
        subject.map_or(Ok(false), |subject| is_stored(repository, subject))
    }
}

impl Upstream {
    /// Fails with [`Error::Unsigned`] if only signed images are mirrored and a fetched manifest has no signature. Signatures
    /// of a stored image pass. Parts of a stored index pass too, because the signature of the index covers them.
    pub(super) async fn check_signed(
        &self,
        repository: &Repository,
        remote: &RepositoryName,
        reference: &Reference,
        fetched: &Fetched,
    ) -> Result<(), Error> {
        if !self.sync_rules.only_signed || fetched.signs_stored(repository)? {
            return Ok(());
        }
        let is_exempt = match reference {
            Reference::Tag(tag) => fetched.accompanies() && follows_image(repository, tag)?,
            Reference::Digest(digest) => repository.is_part_of_index(*digest)?,
        };
        let digest = fetched.manifest.digest;
        if is_exempt || self.has_signature(remote, digest, FETCH).await? {
            return Ok(());
        }
        Err(Error::Unsigned { digest })
    }

    /// Fails with [`Error::Unlisted`] if only signed images are mirrored and no stored manifest lists a blob.
    pub(super) const fn check_listed(&self, digest: Digest, is_listed: bool) -> Result<(), Error> {
        if self.sync_rules.only_signed && !is_listed { Err(Error::Unlisted { digest }) } else { Ok(()) }
    }

    /// Whether a referrer of a stored manifest is mirrored. The list of referrers may be a tag that anyone there can write.
    pub(super) fn takes_referrer(&self, fetched: &Fetched, subject: Digest) -> bool {
        let refers = || fetched.read().is_some_and(|manifest| manifest.subject() == Some(subject));
        !self.sync_rules.only_signed || fetched.accompanies() && refers()
    }

    /// Whether the upstream has a signature of a manifest, under a tag of cosign or among the referrers.
    async fn has_signature(&self, remote: &RepositoryName, digest: Digest, effort: Effort) -> Result<bool, Error> {
        for tag in Tag::companions(digest).filter(Tag::is_signature) {
            match self.fetch(remote, &Reference::Tag(tag), effort).await {
                Ok(fetched) if fetched.accompanies() => return Ok(true),
                Ok(_) | Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        for referrer in self.referrers(remote, digest, effort).await?.into_iter().take(REFERRERS_MAX) {
            match self.fetch(remote, &Reference::Digest(referrer), effort).await {
                Ok(fetched) if fetched.signature().is_some() => return Ok(true),
                Ok(_) | Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}
