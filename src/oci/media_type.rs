//! [`MediaType`], and the media types a registry must know.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest media type, in bytes: two RFC 6838 names of 127 and the slash.
pub(super) const MEDIA_TYPE_LENGTH_MAX: usize = 255;

/// A media type without parameters: two names of the characters RFC 6838 (4.2) allows, joined by a
/// slash. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(Arc<str>);

impl MediaType {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// A Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// What a registry stores as a manifest.
    pub const MANIFESTS: [&str; 4] = [Self::OCI_MANIFEST, Self::OCI_INDEX, Self::DOCKER_MANIFEST, Self::DOCKER_LIST];

    /// Reads the value of a `Content-Type` header: parameters are ignored, as the specification
    /// asks ("Pushing Manifests"), and so is the case of the letters.
    pub fn from_content_type(value: &str) -> Result<Self, InvalidMediaType> {
        value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase().parse()
    }

    /// The media type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether content of this type lists other manifests.
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), Self::OCI_INDEX | Self::DOCKER_LIST)
    }

    /// Whether content of this type is a manifest, of one image or of several.
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

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a text is not a [`MediaType`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidMediaType {
    text: String,
}

impl fmt::Display for InvalidMediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid media type {:?}: it has the form type/subtype (RFC 6838)", self.text)
    }
}

impl std::error::Error for InvalidMediaType {}

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
    fn what_is_not_a_media_type_is_refused() {
        for value in ["", "/", "a", "a/", "/b", "a/b/c", "a b/c", "a/b\r\nX: y", "a/ä", "a/b;c=d", &"a/b".repeat(100)]
        {
            assert!(value.parse::<MediaType>().is_err(), "{value:?} was taken");
        }
    }
}
