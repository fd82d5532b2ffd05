//! [`UploadId`]: the id of an upload.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A UUID, as the specification requires ("POST then PUT"), in hyphenated lower case. The text is safe in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(Uuid);

impl UploadId {
    /// Creates an id from bytes. Overwrites the six bits that mark a custom UUID (RFC 9562, 5.8).
    pub(crate) const fn new(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    pub(crate) const fn bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl FromStr for UploadId {
    type Err = InvalidUploadId;

    fn from_str(text: &str) -> Result<Self, InvalidUploadId> {
        match Uuid::try_parse(text) {
            // The crate also accepts braces, capitals and texts without hyphens.
            Ok(id) if id.hyphenated().to_string() == text => Ok(Self(id)),
            _ => Err(InvalidUploadId),
        }
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// A text is not an [`UploadId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid upload id: expected a UUID from this registry")]
pub struct InvalidUploadId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hyphenated_lower_case_form_is_accepted() {
        let id = UploadId::new([7; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in [
            String::new(),
            "..".into(),
            id.to_string().to_uppercase() + "x",
            id.to_string().replace('-', ""),
            format!("{{{id}}}"),
            format!("urn:uuid:{id}"),
            "07070707-0707-8707-8707-07070707070G".into(),
        ] {
            assert_eq!(text.parse::<UploadId>(), Err(InvalidUploadId), "{text}");
        }
    }
}
