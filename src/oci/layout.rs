//! The index of an OCI image layout (image-spec, image-layout.md).

use std::collections::BTreeMap;

use oci_spec::image::ANNOTATION_REF_NAME;
use serde::Deserialize;

use super::{Digest, JsonObject, Tag, without_lone_surrogates};

/// A manifest that a layout's `index.json` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The manifest.
    pub digest: Digest,
    /// Its tag: the annotation `org.opencontainers.image.ref.name`. Tools write the tag, or `name:tag`.
    pub tag: Option<Tag>,
}

/// The used fields of `index.json`.
#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<JsonObject<Descriptor>>>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    annotations: Option<BTreeMap<String, Option<String>>>,
}

/// Reads `index.json`.
pub fn read_index(bytes: &[u8]) -> Result<Vec<Entry>, InvalidLayout> {
    let text = str::from_utf8(bytes).map_err(InvalidLayout::new)?;
    let JsonObject::<Index>(index) =
        serde_json::from_str(&without_lone_surrogates(text)).map_err(InvalidLayout::new)?;
    let mut entries = Vec::new();
    for JsonObject(descriptor) in index.manifests.unwrap_or_default() {
        let digest = descriptor.digest.parse().map_err(InvalidLayout::new::<super::InvalidDigest>)?;
        let annotations = descriptor.annotations.unwrap_or_default();
        let name = annotations.get(ANNOTATION_REF_NAME).and_then(Option::as_deref);
        let tag = name.and_then(|name| name.rsplit(':').next()?.parse().ok());
        entries.push(Entry { digest, tag });
    }
    Ok(entries)
}

/// Files are not an OCI image layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("index.json: {0}")]
pub struct InvalidLayout(String);

impl InvalidLayout {
    fn new<E: std::fmt::Display>(error: E) -> Self {
        Self(error.to_string())
    }
}
