//! The distribution specification's nouns as validated values.
//!
//! A value of these types was checked when it was made: a handler, a store or a job that holds one
//! need not look again. Nothing here does I/O, knows HTTP or knows how rows are stored.

mod any_case;
mod digest;
mod error_code;
mod json;
pub mod layout;
mod manifest;
mod media_type;
mod name;
mod pattern;
mod range;
mod reference;
mod upload_id;

#[cfg(test)]
mod properties;

pub(crate) use any_case::AnyCaseObject;
pub use digest::{Algorithm, Digest, Hasher, InvalidDigest};
pub use error_code::ErrorCode;
pub(crate) use json::{BoundedList, JsonObject, without_lone_surrogates};
pub use manifest::{Child, InvalidManifest, Manifest};
pub use media_type::{InvalidMediaType, MediaType};
pub(crate) use name::is_component;
pub use name::{InvalidName, NAME_LENGTH_MAX, RepositoryName};
pub(crate) use pattern::CommonName;
pub use pattern::{InvalidPattern, RepositoryPattern};
pub use range::{ByteRange, ChunkRange, InvalidRange, PARTS_MAX as RANGE_PARTS_MAX, RangeRequest};
pub use reference::{InvalidReference, Reference, TAG_LENGTH_MAX, Tag};
pub use upload_id::{InvalidUploadId, UploadId};

/// At most this many characters of a client's text are repeated to it in a message.
const SHOWN_MAX: usize = 80;

/// The beginning of a text that was refused, fit for a message: short, and without control
/// characters.
pub(crate) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        out.push('…');
    }
    out
}
