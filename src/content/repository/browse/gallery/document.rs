//! The parts of a manifest that facts do not have: its layers, its config, and the manifests of an index.

use serde_json::Value;

use super::{Gallery, reads_of, take};
use crate::content::repository::Error;
use crate::oci::{Digest, RepositoryName, without_lone_surrogates};

/// A larger manifest is shown without its parts, in bytes.
const BYTES_MAX: u64 = 1024 * 1024;
/// The most layers, or manifests of an index.
const PARTS_MAX: usize = 500;

/// A descriptor in a manifest. Fields of another form than usual are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// `None` if the text is not a digest.
    pub(crate) digest: Option<Digest>,
    pub(crate) media_type: String,
    pub(crate) size: u64,
}

/// The parts of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) artifact_type: String,
    pub(crate) config: Option<Descriptor>,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) children: Vec<Descriptor>,
}

impl Document {
    fn read(bytes: &[u8]) -> Self {
        let text = without_lone_surrogates(str::from_utf8(bytes).unwrap_or_default()).into_owned();
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        let list = |name: &str| {
            let list = document[name].as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().take(PARTS_MAX).map(descriptor).collect()
        };
        Self {
            artifact_type: document["artifactType"].as_str().unwrap_or_default().to_owned(),
            config: document["config"].is_object().then(|| descriptor(&document["config"])),
            layers: list("layers"),
            children: list("manifests"),
        }
    }

    /// The digests of its layers.
    pub(super) fn layer_digests(&self) -> impl Iterator<Item = Digest> {
        self.layers.iter().filter_map(|layer| layer.digest)
    }
}

fn descriptor(value: &Value) -> Descriptor {
    Descriptor {
        digest: value["digest"].as_str().and_then(|digest| digest.parse().ok()),
        media_type: value["mediaType"].as_str().unwrap_or_default().to_owned(),
        size: value["size"].as_u64().unwrap_or_default(),
    }
}

impl Gallery<'_> {
    /// The parts of a manifest. Empty for a manifest that the repository does not have, or a very large one.
    pub(crate) fn document(&self, name: &RepositoryName, digest: Digest) -> Result<Document, Error> {
        match self.read().manifest(name, digest)? {
            Some(row) if row.size <= BYTES_MAX => {
                let reads = reads_of(usize::try_from(row.size).unwrap_or(usize::MAX));
                let bytes = self.read_for(reads).manifest_bytes(name, digest)?.unwrap_or_default();
                Ok(Document::read(&bytes))
            }
            _ => Ok(Document::default()),
        }
    }

    /// As [`Gallery::document`], with the documents of the manifests of an index. `None` if the request has read too many.
    pub(super) fn images_of(
        &self,
        name: &RepositoryName,
        digest: Digest,
    ) -> Result<Option<Vec<(Digest, Document)>>, Error> {
        if !take(&self.documents_left) {
            return Ok(None);
        }
        let document = self.document(name, digest)?;
        if document.children.is_empty() {
            return Ok(Some(vec![(digest, document)]));
        }
        let mut images = Vec::new();
        for child in document.children.iter().filter_map(|child| child.digest) {
            if !take(&self.documents_left) {
                return Ok(None);
            }
            images.push((child, self.document(name, child)?));
        }
        Ok(Some(images))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_odd_forms_are_no_error() {
        for text in ["", "null", "[]", r#"{"layers":{},"manifests":[1],"config":[],"artifactType":1}"#] {
            let document = Document::read(text.as_bytes());
            assert!(document.config.is_none() && document.layers.is_empty(), "{text}");
        }
        let document = Document::read(br#"{"config":{"size":-1},"layers":[{"size":5,"digest":"x"}]}"#);
        assert_eq!(document.config, Some(Descriptor::default()));
        assert_eq!(document.layers[0].size, 5);
    }
}
