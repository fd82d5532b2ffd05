//! [`Sealer`]: what others keep for the registry, or the disk does, and nobody but the registry can read.
//!
//! AES-256-GCM, each message under a key of its own that is derived from the registry's by a random salt, so that
//! there is no number of messages after which a nonce comes again. What must hold: what was sealed for one purpose
//! does not open for another.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const SALT_BYTES: usize = 32;

/// Seals and opens.
pub(crate) struct Sealer {
    key: [u8; 32],
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// HMAC-SHA-256 over parts, none of which can be taken for a piece of another.
pub(super) fn keyed(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length is fine");
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

impl Sealer {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self { key: keyed(key, &[b"seal"]) }
    }

    /// Bytes that only [`open`](Self::open) reads, and only for the same purpose.
    pub(crate) fn seal(&self, purpose: &[&str], message: &[u8]) -> Vec<u8> {
        let salt: [u8; SALT_BYTES] = rand::random();
        let mut sealed = message.to_vec();
        let key = self.message_key(purpose, &salt);
        key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed).expect("no message is too long");
        [&salt[..], &sealed].concat()
    }

    /// What was sealed; nothing if that was not done here, or for another purpose.
    pub(crate) fn open(&self, purpose: &[&str], sealed: &[u8]) -> Option<Vec<u8>> {
        let (salt, sealed) = sealed.split_at_checked(SALT_BYTES)?;
        let mut sealed = sealed.to_vec();
        let opened = self.message_key(purpose, salt).open_in_place(nonce(), Aad::empty(), &mut sealed).ok()?;
        Some(opened.to_vec())
    }

    fn message_key(&self, purpose: &[&str], salt: &[u8]) -> LessSafeKey {
        let parts: Vec<&[u8]> = std::iter::once(salt).chain(purpose.iter().map(|part| part.as_bytes())).collect();
        let key = keyed(&self.key, &parts);
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("a key of this length is right"))
    }
}

/// Each key has one message.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_purpose_and_for_nothing_else() {
        let sealer = Sealer::new(&[7; 32]);
        let message = sealer.seal(&["token", "alice"], b"secret");
        assert_eq!(sealer.open(&["token", "alice"], &message).as_deref(), Some(&b"secret"[..]));
        assert!(!message.windows(6).any(|part| part == b"secret"));
        assert_ne!(sealer.seal(&["token", "alice"], b"secret"), message);
        for purpose in [&["token", "bob"][..], &["tokena", "lice"], &["token"], &["alice", "token"], &[]] {
            assert_eq!(sealer.open(purpose, &message), None, "{purpose:?}");
        }
        assert_eq!(Sealer::new(&[8; 32]).open(&["token", "alice"], &message), None);
        for at in 0..message.len() {
            let mut changed = message.clone();
            changed[at] ^= 1;
            assert_eq!(sealer.open(&["token", "alice"], &changed), None, "byte {at}");
            assert_eq!(sealer.open(&["token", "alice"], &message[..at]), None, "{at} bytes");
        }
    }
}
