//! Mandatory annotations, as zot requires them (`extensions.lint`).
//!
//! An image has an annotation if its manifest has it, or its config as a label. Only images that clients push are checked,
//! and neither indexes, nor the signatures and other referrers of an image: their programs set no such annotations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::manifest::stored_manifest;
use super::{Error, Repository};
use crate::oci::{Digest, Manifest, Tag};

/// The largest config that is read, in bytes.
pub(super) const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The annotations that an image must have.
#[derive(Clone, Debug, Default)]
pub(crate) struct MandatoryAnnotations(Arc<[String]>);

/// The labels of the config of an image.
#[derive(Default, Deserialize)]
struct ImageConfig {
    #[serde(default)]
    config: Option<Labelled>,
}

#[derive(Default, Deserialize)]
struct Labelled {
    #[serde(rename = "Labels", default)]
    labels: Option<BTreeMap<String, serde_json::Value>>,
}

/// A config has this many bytes, which is more than is read.
#[derive(Debug)]
struct TooLarge {
    size: u64,
}

impl MandatoryAnnotations {
    pub(crate) fn new(annotations: &[String]) -> Self {
        Self(annotations.into())
    }
}

impl Repository {
    /// Fails if an image lacks mandatory annotations.
    pub(super) fn lint(&self, manifest: &Manifest, tags: &[Tag]) -> Result<(), Error> {
        let mandatory = &self.stores.rules.mandatory_annotations.0;
        // One ordinary tag makes it an image that people pull.
        let is_companion = !tags.is_empty() && tags.iter().all(|tag| tag.companion_of().is_some());
        if mandatory.is_empty() || manifest.media_type().is_index() || manifest.subject().is_some() || is_companion {
            return Ok(());
        }
        let mut missing: Vec<String> =
            mandatory.iter().filter(|name| !manifest.annotations().contains_key(*name)).cloned().collect();
        if let Some(config) = manifest.config().filter(|_| !missing.is_empty()) {
            match self.labels(config)? {
                Ok(labels) => missing.retain(|name| !labels.contains(name)),
                Err(TooLarge { size }) => {
                    return Err(Error::LabelsUnread { missing, config: Box::new(config), size });
                }
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(Error::AnnotationsMissing { missing }) }
    }

    /// Fails if a stored image lacks mandatory annotations for a tag that is to point at it.
    pub(super) fn lint_stored(&self, digest: Digest, tag: &Tag) -> Result<(), Error> {
        if self.stores.rules.mandatory_annotations.0.is_empty() {
            return Ok(());
        }
        let stored = self.stores.database.read(|tx| stored_manifest(tx, &self.name, digest))?;
        stored.map_or(Ok(()), |manifest| self.lint(&manifest, std::slice::from_ref(tag)))
    }

    /// The names of the labels of a config. Empty if the repository does not have it, or it is no config of an image.
    fn labels(&self, config: Digest) -> Result<Result<BTreeSet<String>, TooLarge>, Error> {
        let found = self
            .stores
            .database
            .read(|tx| Ok::<_, Error>(if tx.link(config, &self.name)?.is_some() { tx.blob(config)? } else { None }))?;
        match found {
            None => return Ok(Ok(BTreeSet::new())),
            Some(blob) if blob.size > CONFIG_BYTES_MAX => return Ok(Err(TooLarge { size: blob.size })),
            Some(_) => {}
        }
        let bytes = self.stores.blobs.read(config, CONFIG_BYTES_MAX)?.unwrap_or_default();
        let config: ImageConfig = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Ok(config.config.and_then(|config| config.labels).unwrap_or_default().into_keys().collect()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::content::repository::scene::{Scene, image, index, push_by_client, rules};
    use crate::content::repository::{ManifestTarget, PutManifest, Rules, TagChange};

    #[test]
    fn an_image_needs_the_annotations_in_its_manifest_or_its_config() {
        let mandatory = ["note", "vendor"].map(str::to_owned);
        let mandatory_annotations = MandatoryAnnotations::new(&mandatory);
        let scene = Scene::new(Rules { mandatory_annotations, ..rules() });
        let repository = scene.repository("a");
        let labelled = repository.push_blob(br#"{"config":{"Labels":{"vendor":"x"}}}"#);
        let plain = repository.push_blob(br#"{"config":{"Labels":null}}"#);
        let digest = push_by_client(&repository, image(&[labelled], None, ""), "1").unwrap();
        match push_by_client(&repository, image(&[plain], None, ""), "2") {
            Err(Error::AnnotationsMissing { missing }) => assert_eq!(missing, ["vendor"]),
            other => panic!("{other:?}"),
        }
        let padded = format!(r#"{{"config":{{"Labels":{{"vendor":"x"}}}},"pad":"{}"}}"#, "x".repeat(5 << 20));
        let large = repository.push_blob(padded.as_bytes());
        match push_by_client(&repository, image(&[large], None, ""), "large") {
            Err(error @ Error::LabelsUnread { .. }) => {
                let said = error.to_string();
                assert!(said.contains("has 5 MiB") && said.contains("up to 4 MiB"), "{said}");
            }
            other => panic!("{other:?}"),
        }
        // Only images are checked, not their signatures and not indexes.
        push_by_client(&repository, image(&[plain], Some(digest), ""), "3").unwrap();
        let signature = format!("sha256-{}.sig", digest.hex());
        let signed = push_by_client(&repository, image(&[plain], None, ""), &signature).unwrap();
        // A signature does not get an ordinary tag, neither in the same push nor later.
        let target =
            ManifestTarget::Digest { digest: signed, tags: vec![signature.parse().unwrap(), "other".parse().unwrap()] };
        let put = PutManifest { by_client: true, ..PutManifest::new(target, Bytes::from(image(&[plain], None, ""))) };
        assert!(matches!(repository.put_manifest(put), Err(Error::AnnotationsMissing { .. })));
        let change = TagChange { digest: Some(signed), may_create: true, ..TagChange::default() };
        let changed = repository.change_tag(&"other".parse().unwrap(), change);
        assert!(matches!(changed, Err(Error::AnnotationsMissing { .. })), "{changed:?}");
        push_by_client(&repository, index(&[digest], ""), "4").unwrap();
        let nothing = image(&[labelled], None, "").replace("note", "other");
        assert!(
            matches!(push_by_client(&repository, nothing, "5"), Err(Error::AnnotationsMissing { missing }) if missing == ["note"])
        );
    }
}
