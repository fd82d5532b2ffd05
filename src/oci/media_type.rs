//! [`MediaType`], and the media types of manifests.

use std::str::FromStr;
use std::sync::Arc;

/// The longest media type, in bytes: two names of 127 bytes (RFC 6838) and the slash.
pub(super) const MEDIA_TYPE_LENGTH_MAX: usize = 255;

/// A media type without parameters, of the characters that RFC 6838 (4.2) allows. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(Arc<str>);

super::text_value!(MediaType);

impl MediaType {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// A Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The types that the registry stores as manifests.
    pub const MANIFESTS: [&str; 4] = [Self::OCI_MANIFEST, Self::OCI_INDEX, Self::DOCKER_MANIFEST, Self::DOCKER_LIST];

    /// Reads the value of a `Content-Type` header. Ignores parameters, as the specification says ("Pushing Manifests"), and
    /// case.
    pub fn from_content_type(value: &str) -> Result<Self, InvalidMediaType> {
        value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase().parse()
    }

    /// Whether content of this type lists other manifests.
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), Self::OCI_INDEX | Self::DOCKER_LIST)
    }

    /// Whether content of this type is a manifest or an index.
    pub fn is_manifest(&self) -> bool {
        Self::MANIFESTS.contains(&self.as_str())
    }
}

impl FromStr for MediaType {
    type Err = InvalidMediaType;

    fn from_str(text: &str) -> Result<Self, InvalidMediaType> {
        let name = |name: &str| {
            name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
        };
        match text.split_once('/') {
            Some((kind, subtype)) if text.len() <= MEDIA_TYPE_LENGTH_MAX && name(kind) && name(subtype) => {
                Ok(Self(text.into()))
            }
            _ => Err(InvalidMediaType { text: super::shown(text) }),
        }
    }
}

/// A text is not a [`MediaType`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid media type {text:?}: expected the form type/subtype (RFC 6838)")]
pub struct InvalidMediaType {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_do_not_matter_in_a_header() {
        for value in [
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.image.index.v1+json; charset=utf-8",
            " Application/vnd.OCI.image.index.v1+json;x=y",
        ] {
            let parsed = MediaType::from_content_type(value);
            assert_eq!(parsed.as_ref().map(MediaType::as_str), Ok(MediaType::OCI_INDEX));
        }
    }

    #[test]
    fn an_invalid_media_type_is_refused() {
        for value in ["", "/", "a", "a/", "/b", "a/b/c", "a b/c", "a/b\r\nX: y", "a/ä", "a/b;c=d", &"a/b".repeat(100)]
        {
            assert!(value.parse::<MediaType>().is_err(), "{value:?} was accepted");
        }
    }
}
