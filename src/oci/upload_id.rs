//! [`UploadId`]: the session id of an upload.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A UUID, as the specification asks ("POST then PUT"), in its one hyphenated lower-case form; so
/// its text may be a file name. What the bits mean is for whoever issues them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(Uuid);

impl UploadId {
    /// An id of these bytes; the six bits that say "custom UUID" (RFC 9562, 5.8) are set over them.
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
            // The crate takes braces, capitals and texts without hyphens too.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUploadId;

impl fmt::Display for InvalidUploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid upload id: it is a UUID that the registry has handed out")
    }
}

impl std::error::Error for InvalidUploadId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_and_no_other() {
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
