//! Secrets that the registry issues: API keys and session ids.
//!
//! A secret is generated and shown once. Only its hash is stored. Secrets of at least 128 random bits need no slow hash.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::content::rows::SecretHash;
use crate::kit::opaque_debug::opaque_debug;

/// The prefix of every API key, by which people and secret scanners recognize one. It is zot's, and stays the same
/// because keys outlive versions.
const KEY_PREFIX: &str = "zak_";
const KEY_BYTES: usize = 16;
const SESSION_BYTES: usize = 32;

/// The plain text of an API key.
pub(crate) struct PlainKey(Zeroizing<String>);

impl PlainKey {
    /// Generates a key of 128 bits from the system's random source.
    pub(crate) fn generate() -> Self {
        let secret: [u8; KEY_BYTES] = rand::random();
        Self(Zeroizing::new(format!("{KEY_PREFIX}{}", hex::encode(secret))))
    }

    /// Hashes a text that has the form of a key. Like zot, it hashes the digits after the prefix.
    pub(crate) fn hash_of(text: &str) -> Option<SecretHash> {
        let digits = text.strip_prefix(KEY_PREFIX)?;
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (digits.len() == 2 * KEY_BYTES && digits.bytes().all(digit)).then(|| Sha256::digest(digits).into())
    }

    /// The stored hash of the key.
    pub(crate) fn hash(&self) -> SecretHash {
        Self::hash_of(&self.0).expect("a generated key has the form of a key")
    }

    /// The plain text, to show it once to the caller who created it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

opaque_debug!(PlainKey, SessionId);

/// The value of a session's cookie.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SessionId(Zeroizing<String>);

impl SessionId {
    /// Generates an id of 256 bits from the system's random source.
    pub(crate) fn generate() -> Self {
        let secret: [u8; SESSION_BYTES] = rand::random();
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(secret)))
    }

    /// Parses the value of a cookie.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == SESSION_BYTES).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The stored hash of the id.
    pub(crate) fn hash(&self) -> SecretHash {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// The plain text, for the cookie.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_key_in_zots_form_is_accepted() {
        let key = PlainKey::generate();
        assert_eq!(key.reveal().len(), 36);
        assert_eq!(PlainKey::hash_of(key.reveal()), Some(key.hash()));
        assert_ne!(PlainKey::generate().hash(), key.hash());
        for text in [
            "",
            "zak_",
            &key.reveal()[..35],
            &format!("{}0", key.reveal()),
            &key.reveal().to_uppercase(),
            &key.reveal().replacen("zak_", "zaK_", 1),
            "zak_0123456789abcdef0123456789abcdeg",
        ] {
            assert_eq!(PlainKey::hash_of(text), None, "{text}");
        }
        assert!(!format!("{key:?}").contains(&key.reveal()[4..]));
    }

    #[test]
    fn a_session_id_is_read_back() {
        let id = SessionId::generate();
        assert_eq!(SessionId::read(id.reveal()), Some(id.clone()));
        assert_eq!(SessionId::read(""), None);
        assert_eq!(SessionId::read(&id.reveal()[1..]), None);
        assert!(!format!("{id:?}").contains(id.reveal()));
    }
}
