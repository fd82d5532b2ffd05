//! [`Sealer`]: encrypts data that clients or the database keep, so that only the registry can read it.
//!
//! Each message has its own AES-256-GCM key, derived from the registry's key with a random salt. So a nonce is never
//! used twice with one key. A message opens only for the purpose for which it was sealed.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::kit::opaque_debug::opaque_debug;

const SALT_BYTES: usize = 32;

/// Seals and opens.
pub(crate) struct Sealer {
    key: [u8; 32],
}

opaque_debug!(Sealer);

/// HMAC-SHA-256 over parts with their lengths, so that different parts never have the same input.
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

    /// Encrypts a message for [`open`](Self::open) with the same purpose.
    pub(crate) fn seal(&self, purpose: &[&str], message: &[u8]) -> Vec<u8> {
        let salt: [u8; SALT_BYTES] = rand::random();
        let mut sealed = message.to_vec();
        let key = self.message_key(purpose, &salt);
        key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed).expect("no message is too long");
        [&salt[..], &sealed].concat()
    }

    /// Decrypts a message. `None` if it was not sealed here or for this purpose.
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

/// The constant nonce is safe, because each key encrypts one message.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_message_opens_only_unchanged_and_for_its_purpose() {
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
