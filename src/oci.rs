//! The values of the distribution specification: digests, names, references, manifests, ranges.
//!
//! A value is checked when it is created, and needs no further check. Nothing here does I/O, or knows HTTP or rows.

mod digest;
mod error_code;
mod image_name;
mod json;
pub mod layout;
mod manifest;
mod media_type;
mod name;
mod pattern;
mod pushed;
mod range;
mod reference;
mod tag_rule;
mod upload_id;

#[cfg(test)]
mod properties;

pub use digest::{Algorithm, Digest, Hasher, InvalidDigest};
pub use error_code::ErrorCode;
pub use image_name::ImageName;
pub(crate) use json::{AnyCaseObject, BoundedList, JsonObject, without_lone_surrogates};
pub use manifest::{Child, InvalidManifest, Manifest};
pub use media_type::{InvalidMediaType, MediaType};
pub(crate) use name::is_component;
pub use name::{InvalidName, NAME_LENGTH_MAX, RepositoryName};
pub(crate) use pattern::CommonName;
pub use pattern::{InvalidPattern, RepositoryPattern};
pub use range::{ByteRange, ChunkRange, InvalidRange, PARTS_MAX as RANGE_PARTS_MAX, RangeRequest};
pub use reference::{InvalidReference, Reference, TAG_LENGTH_MAX, Tag};
pub use tag_rule::{InvalidTagRule, TagRule};
pub use upload_id::{InvalidUploadId, UploadId};

/// Implements what all values have that are a checked text. Clones are cheap.
macro_rules! text_value {
    ($name:ident) => {
        impl $name {
            /// The value as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}
use text_value;

/// How many characters of a client's text a message repeats.
const SHOWN_MAX: usize = 80;

/// Shortens an invalid text for a message, and replaces control characters.
pub(crate) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        out.push('…');
    }
    out
}
