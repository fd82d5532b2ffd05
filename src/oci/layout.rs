//! The index of an OCI image layout (image-spec, image-layout.md).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Digest, ImageName, JsonObject, without_lone_surrogates};

/// The name of a manifest in a layout (image-spec, annotations.md).
pub(crate) const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The full name of an image, as containerd, docker and we write it.
pub(crate) const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";

/// A manifest that a layout's `index.json` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The manifest.
    pub digest: Digest,
    /// Its name, from the annotations `io.containerd.image.name` and `org.opencontainers.image.ref.name`. Empty without
    /// them.
    pub name: ImageName,
    /// The text of the annotation, if it has no valid name.
    pub invalid_name: Option<String>,
}

/// The used fields of `index.json`.
#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<Listed>>,
}

/// An element of the list. One that is damaged does not make the others unreadable.
#[derive(Deserialize)]
#[serde(untagged)]
enum Listed {
    Descriptor(JsonObject<Descriptor>),
    Damaged(IgnoredAny),
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    annotations: Option<BTreeMap<String, Option<String>>>,
}

/// Reads `index.json`. Each of its entries may be invalid.
pub fn read_index(bytes: &[u8]) -> Result<Vec<Result<Entry, InvalidLayout>>, InvalidLayout> {
    let text = str::from_utf8(bytes).map_err(InvalidLayout::new)?;
    let JsonObject::<Index>(index) =
        serde_json::from_str(&without_lone_surrogates(text)).map_err(InvalidLayout::new)?;
    let listed = index.manifests.unwrap_or_default().into_iter().enumerate();
    Ok(listed
        .map(|(number, listed)| listed.read().map_err(|why| InvalidLayout(format!("entry {number} {why}"))))
        .collect())
}

impl Listed {
    fn read(self) -> Result<Entry, String> {
        let Self::Descriptor(JsonObject(descriptor)) = self else { return Err("is not a descriptor".to_owned()) };
        let digest = descriptor.digest.parse();
        let digest = digest.map_err(|error| format!("has the digest {:?}: {error}", descriptor.digest))?;
        let annotations = descriptor.annotations.unwrap_or_default();
        let texts = [ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME].map(|key| annotations.get(key)?.as_deref());
        let name = texts.iter().copied().flatten().find_map(ImageName::read);
        let invalid_name = texts.iter().copied().flatten().next().filter(|_| name.is_none()).map(str::to_owned);
        Ok(Entry { digest, name: name.unwrap_or_default(), invalid_name })
    }
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_of_a_name_is_that_of_the_specification() {
        assert_eq!(ANNOTATION_REF_NAME, oci_spec::image::ANNOTATION_REF_NAME);
    }

    #[test]
    fn a_bad_entry_leaves_the_others() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let index = format!(
            r#"{{"manifests": [{{"digest": "{digest}", "annotations": {{"{ANNOTATION_REF_NAME}": "1"}}}}, 7, {{}},
                {{"digest": "sha256:0"}}, {{"digest": "{digest}", "annotations": {{"{ANNOTATION_REF_NAME}": "not valid"}}}}]}}"#
        );
        let read = read_index(index.as_bytes()).unwrap();
        let valid: Vec<bool> = read.iter().map(Result::is_ok).collect();
        assert_eq!(valid, [true, false, false, false, true]);
        assert_eq!(read[1].as_ref().unwrap_err().to_string(), "index.json: entry 1 is not a descriptor");
        assert_eq!(read[4].as_ref().unwrap().invalid_name.as_deref(), Some("not valid"));
        assert!(read_index(b"[]").is_err());
    }
}
