//! [`SigningKeys`]: the keys that sign tokens. ECDSA on P-256 is supported by every JWT library.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::content::rows::{Database, Error, Rows, SigningRow, WriteTx};
use crate::kit::clock::Timestamp;
use crate::kit::opaque_debug::opaque_debug;

/// A retired public key stays published for at least this long, because other verifiers cache keys.
const PUBLISHED_FOR: Duration = Duration::from_hours(24);

/// The valid keys and the one that signs.
pub(super) struct SigningKeys {
    current: (String, EncodingKey),
    public: HashMap<String, Public>,
    generation: u64,
}

struct Public {
    key: DecodingKey,
    x: String,
    y: String,
}

opaque_debug!(SigningKeys);

impl SigningKeys {
    /// Reads the keys of a data directory. `None` if none has been created.
    pub(super) fn read(database: &Database) -> Result<Option<Self>, Error> {
        let rows = database.read(Rows::signing_keys)?;
        if rows.is_empty() { Ok(None) } else { Self::of_rows(rows).map(Some) }
    }

    /// Creates the first key.
    pub(super) fn create(database: &Database, now: Timestamp) -> Result<Self, Error> {
        let rows = database.write(move |tx| {
            add(tx, now)?;
            tx.signing_keys()
        })?;
        Self::of_rows(rows)
    }

    /// Creates a key that signs from now on and retires the others.
    pub(super) fn rotate(database: &Database, now: Timestamp, lifetime: Duration) -> Result<Self, Error> {
        let kept = lifetime.max(PUBLISHED_FOR);
        let rows = database.write(move |tx| {
            for (id, row) in tx.signing_keys()? {
                match row.retired {
                    None => tx.put_signing_key(&id, &SigningRow { retired: Some(now), ..row })?,
                    Some(retired) if now.since(retired) > kept => tx.remove_signing_key(&id)?,
                    Some(_) => {}
                }
            }
            add(tx, now)?;
            tx.signing_keys()
        })?;
        Self::of_rows(rows)
    }

    fn of_rows(rows: Vec<(String, SigningRow)>) -> Result<Self, Error> {
        let mut public = HashMap::new();
        let mut current = None;
        let generation = rows.iter().map(|(_, row)| row.created.micros()).max().unwrap_or_default();
        for (id, row) in rows {
            let corrupt = || Error::Corrupt { table: "signing keys", key: id.clone() };
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &row.key).map_err(|_| corrupt())?;
            let (x, y) = coordinates(&pair);
            let key = DecodingKey::from_ec_components(&x, &y).map_err(|_| corrupt())?;
            if row.retired.is_none() {
                current = Some((id.clone(), EncodingKey::from_ec_der(&row.key)));
            }
            public.insert(id, Public { key, x, y });
        }
        let corrupt = || Error::Corrupt { table: "signing keys", key: "the one that signs".to_owned() };
        Ok(Self { current: current.ok_or_else(corrupt)?, public, generation })
    }

    /// The id of the key that signs.
    pub(super) fn id(&self) -> &str {
        &self.current.0
    }

    /// The key that signs, with its id.
    #[cfg(any(fuzzing, test))]
    pub(super) fn current(&self) -> (&str, &EncodingKey) {
        (&self.current.0, &self.current.1)
    }

    /// Makes a token.
    pub(super) fn sign(&self, claims: &impl Serialize) -> String {
        let (id, key) = &self.current;
        let header = Header { kid: Some(id.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, key).expect("a generated key signs")
    }

    /// The claims of a token that the key with this id has signed. They are not checked.
    pub(super) fn verify<T: DeserializeOwned>(&self, id: &str, token: &str) -> Option<T> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let key = &self.public.get(id)?.key;
        Some(jsonwebtoken::decode(token, key, &validation).ok()?.claims)
    }

    /// A number that changes with the keys.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether there is a key with this id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.public.contains_key(id)
    }

    /// The public keys as a JWKS (RFC 7517).
    pub(super) fn public_set(&self) -> Value {
        let mut keys: Vec<_> = self.public.iter().collect();
        keys.sort_unstable_by_key(|(id, _)| (**id != self.current.0, (*id).clone()));
        let key = |(id, Public { x, y, .. }): &(&String, &Public)| json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id, "x": x, "y": y });
        json!({ "keys": keys.iter().map(key).collect::<Vec<_>>() })
    }
}

fn add(tx: &mut WriteTx, now: Timestamp) -> Result<(), Error> {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .expect("the system's random source gives a key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref())
        .expect("a generated key can be read");
    let id = hex::encode(&Sha256::digest(pair.public_key())[..8]);
    tx.put_signing_key(&id, &SigningRow { key: document.as_ref().to_vec(), created: now, retired: None })
}

/// The coordinates of the public point (RFC 7518, 6.2.1).
fn coordinates(pair: &EcdsaKeyPair) -> (String, String) {
    let point = pair.public_key().as_ref();
    // One byte for "uncompressed", then both coordinates.
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
}
