//! [`SigningKeys`] of a build without the feature `tls`, which has no asymmetric signatures. The key is symmetric, so other
//! programs cannot verify the tokens. It is another row than the keys of a build with the feature, so that each build
//! refuses the tokens of the other, and clients get new ones.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::content::rows::{Database, Error, SETTING_TOKEN_KEY};
use crate::kit::clock::Timestamp;
use crate::kit::opaque_debug::opaque_debug;

/// The key that signs and verifies.
pub(super) struct SigningKeys {
    id: String,
    keyed: Hmac<Sha256>,
}

opaque_debug!(SigningKeys { id });

impl SigningKeys {
    /// Reads the key of a data directory, or creates it, which costs little.
    pub(super) fn read(database: &Database) -> Result<Option<Self>, Error> {
        let key = database.hmac_key(SETTING_TOKEN_KEY)?;
        let id = hex::encode(&Sha256::digest(key.bytes())[..8]);
        let keyed = Hmac::new_from_slice(key.bytes()).expect("a key of any length is fine");
        Ok(Some(Self { id, keyed }))
    }

    /// Reading has created the key.
    pub(super) fn create(database: &Database, _: Timestamp) -> Result<Self, Error> {
        Ok(Self::read(database)?.expect("reading creates the key"))
    }

    /// Only the command line rotates keys, and it has the feature.
    pub(super) fn rotate(database: &Database, now: Timestamp, _: Duration) -> Result<Self, Error> {
        Self::create(database, now)
    }

    /// The id of the key.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Makes a token (RFC 7515, 3.1).
    pub(super) fn sign(&self, claims: &impl Serialize) -> String {
        let header = json!({ "alg": "HS256", "typ": "JWT", "kid": self.id });
        let claims = serde_json::to_vec(claims).expect("claims are JSON");
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.keyed.clone().chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The claims of a token that the key with this id has signed. They are not checked. The header is signed as well, so
    /// that it cannot select another algorithm.
    pub(super) fn verify<T: DeserializeOwned>(&self, id: &str, token: &str) -> Option<T> {
        let (signed, signature) = token.rsplit_once('.').filter(|_| self.has(id))?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        // Compares in constant time.
        self.keyed.clone().chain_update(signed).verify_slice(&signature).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?).ok()
    }

    /// A number that changes with the key. It never changes.
    pub(super) const fn generation(&self) -> u64 {
        0
    }

    /// Whether there is a key with this id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.id == id
    }

    /// No key is public.
    pub(super) fn public_set(&self) -> Value {
        json!({ "keys": [] })
    }
}
