//! The OCI image layout (image-spec, image-layout.md): what its files say. Reading the files is for
//! whoever has them.

use oci_spec::image::{ANNOTATION_REF_NAME, ImageIndex};

use super::{Digest, Tag};

/// A manifest that a layout's `index.json` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The manifest.
    pub digest: Digest,
    /// Its tag, if it has one: the annotation `org.opencontainers.image.ref.name`, of which tools
    /// write either the tag alone or `name:tag`.
    pub tag: Option<Tag>,
}

/// Reads `index.json`.
pub fn read_index(bytes: &[u8]) -> Result<Vec<Entry>, InvalidLayout> {
    let index = ImageIndex::from_reader(bytes).map_err(|error| InvalidLayout(format!("index.json: {error}")))?;
    let mut entries = Vec::new();
    for descriptor in index.manifests() {
        let digest = descriptor.digest().as_ref().parse();
        let digest = digest.map_err(|error| InvalidLayout(format!("index.json: {error}")))?;
        let name = descriptor.annotations().as_ref().and_then(|annotations| annotations.get(ANNOTATION_REF_NAME));
        let tag = name.and_then(|name| name.rsplit(':').next()?.parse().ok());
        entries.push(Entry { digest, tag });
    }
    Ok(entries)
}

/// Files are not an OCI image layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidLayout(String);

impl std::fmt::Display for InvalidLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidLayout {}
