//! Passwords: argon2id, off the async threads, as slow for a user who does not exist.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::credentials::PASSWORD_MAX;

/// A right password is remembered this long, so that a push of many layers costs one hash.
const REMEMBERED_FOR: Duration = Duration::from_mins(5);
/// At most this many are remembered.
const REMEMBERED_MAX: usize = 4096;
/// One hash at a time costs 19 MiB of memory; two use both cores of the smallest machine.
const HASHES_AT_ONCE: usize = 2;
/// A request that waited this long for its turn is told to come back later.
const TURN_WAIT: Duration = Duration::from_secs(20);

/// A password as the user typed it. Does not print, and is wiped from memory when dropped.
#[derive(Clone)]
pub(crate) struct Password(Zeroizing<String>);

impl Password {
    pub(crate) fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// A password of 20 letters and digits from the system's random source: 103 bits.
    pub(crate) fn generate() -> Self {
        use rand::RngExt as _;
        let text = rand::rng().sample_iter(rand::distr::Alphanumeric).take(20).map(char::from).collect();
        Self(Zeroizing::new(text))
    }

    /// The text. Only for hashing, and for showing a generated password once.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// The argon2id hash to store, as a PHC string; with the parameters OWASP recommends (19 MiB,
    /// two passes, one lane), which are the crate's defaults. Blocks for tens of milliseconds.
    pub(crate) fn hash(&self) -> Result<String, InvalidPassword> {
        if self.0.is_empty() {
            return Err(InvalidPassword("a password must not be empty"));
        }
        // What no request can bring is not to be somebody's password.
        if self.0.len() > PASSWORD_MAX {
            return Err(InvalidPassword("a password has at most 1024 characters"));
        }
        Argon2::default()
            .hash_password(self.0.as_bytes())
            .map(|hash| hash.to_string())
            .map_err(|_| InvalidPassword("the password cannot be hashed"))
    }

    /// Whether a stored hash is this password's. Blocks for tens of milliseconds.
    fn matches(&self, stored: &str) -> bool {
        PasswordHash::new(stored)
            .is_ok_and(|stored| Argon2::default().verify_password(self.0.as_bytes(), &stored).is_ok())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Why a text cannot be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidPassword(&'static str);

impl fmt::Display for InvalidPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidPassword {}

/// There were too many passwords to verify.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooBusy;

/// Verifies passwords, and remembers the right ones for a while.
pub(crate) struct Verifier {
    /// Never leaves the process: what is remembered cannot be tried out elsewhere.
    key: [u8; 32],
    /// Keyed hash of stored hash and password → until when it is remembered. A changed password
    /// has another stored hash, and so is not found.
    remembered: Mutex<HashMap<[u8; 32], Instant>>,
    turns: Semaphore,
    /// What is verified in place of the hash of a user who does not exist.
    nobody: String,
}

impl Verifier {
    pub(crate) fn new() -> Self {
        let nobody = Password::generate().hash().expect("a generated password can be hashed");
        Self { key: rand::random(), remembered: Mutex::default(), turns: Semaphore::new(HASHES_AT_ONCE), nobody }
    }

    /// Whether `password` is that of the stored hash; never, if there is none, but not faster.
    pub(crate) async fn verify(&self, password: Password, stored: Option<String>) -> Result<bool, TooBusy> {
        let exists = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.nobody.clone());
        let memory = self.memory(&stored, &password);
        if self.remembers(&memory) {
            return Ok(exists);
        }
        let _turn = timeout(TURN_WAIT, self.turns.acquire()).await.map_err(|_| TooBusy)?;
        // Somebody with the same password may have had the turn before.
        if self.remembers(&memory) {
            return Ok(exists);
        }
        let right = tokio::task::spawn_blocking(move || password.matches(&stored)).await.unwrap_or(false);
        if right && exists {
            self.remember(memory);
        }
        Ok(right && exists)
    }

    fn memory(&self, stored: &str, password: &Password) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of any length is fine");
        mac.update(stored.as_bytes());
        mac.update(&[0]);
        mac.update(password.reveal().as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn remembers(&self, memory: &[u8; 32]) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(memory).is_some_and(|until| Instant::now() < *until)
    }

    fn remember(&self, memory: [u8; 32]) {
        let now = Instant::now();
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, until| now < *until);
        }
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(memory, now + REMEMBERED_FOR);
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_right_password_is_remembered_until_it_changes() {
        let verifier = Verifier::new();
        let password = Password::new("secret");
        let stored = password.hash().unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(verifier.verify(password.clone(), Some(stored.clone())).await.unwrap());
        assert!(verifier.remembers(&verifier.memory(&stored, &password)));
        let changed = Password::new("other").hash().unwrap();
        assert!(!verifier.verify(password.clone(), Some(changed)).await.unwrap());
        assert!(!verifier.verify(Password::new("Secret"), Some(stored)).await.unwrap());
        assert!(!verifier.verify(password, None).await.unwrap());
    }

    #[test]
    fn generated_passwords_are_long_and_differ() {
        let (a, b) = (Password::generate(), Password::generate());
        assert_eq!(a.reveal().len(), 20);
        assert_ne!(a.reveal(), b.reveal());
    }
}
