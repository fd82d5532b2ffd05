//! [`Header`]: the part of a token that selects the key. It is not verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// The fields of a header that matter (RFC 7515, 4.1). One that is given twice is an error.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    pub(super) crit: Option<Value>,
}

impl Header {
    /// Reads the header of a token with three parts.
    pub(super) fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return None;
        };
        let bytes = URL_SAFE_NO_PAD.decode(header).ok()?;
        // A struct could also be read from a list.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        serde_json::from_slice(&bytes).ok()
    }
}
