//! [`ClientKey`]: a private key that authenticates the registry to a provider instead of a secret (`private_key_jwt`:
//! RFC 7523, 2.2, and OpenID Connect Core, 9).

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::kit::clock::Timestamp;
use crate::kit::opaque_debug::opaque_debug;

/// The lifetime of an assertion.
const LIFETIME: Duration = Duration::from_mins(1);
/// The value of the parameter `client_assertion_type`.
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A key that signs assertions. Does not print.
pub(crate) struct ClientKey {
    id: Option<String>,
    pair: Pair,
}

enum Pair {
    /// Signs with RS256.
    Rsa(Box<RsaKeyPair>),
    /// Signs with ES256.
    P256(EcdsaKeyPair),
}

opaque_debug!(ClientKey);

/// A key file of zitadel's console, which zot reads too.
#[derive(Deserialize)]
struct KeyFile {
    key: String,
    #[serde(rename = "keyId")]
    key_id: Option<String>,
}

#[derive(Serialize)]
struct Assertion<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: u64,
    exp: u64,
}

impl ClientKey {
    /// Reads an RSA key (signs with RS256) or a P-256 key (ES256), in PEM or in JSON with `key` and `keyId`. The error
    /// does not repeat the content.
    pub(crate) fn read(text: &str) -> Result<Self, &'static str> {
        let (pem, id) = match serde_json::from_str::<KeyFile>(text) {
            Ok(file) => (file.key, file.key_id),
            Err(_) => (text.to_owned(), None),
        };
        let pair = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok().and_then(|key| Pair::read(&key));
        let pair = pair.ok_or("not a private RSA or P-256 key in PEM, or in JSON with key and keyId")?;
        Ok(Self { id, pair })
    }

    /// Signs an assertion for an issuer.
    pub(super) fn assertion(&self, client_id: &str, issuer: &str, now: Timestamp) -> Result<String, String> {
        let seconds = |time: Timestamp| time.micros() / 1_000_000;
        let assertion = Assertion {
            iss: client_id,
            sub: client_id,
            aud: issuer,
            jti: Uuid::new_v4().to_string(),
            iat: seconds(now),
            exp: seconds(now.after(LIFETIME)),
        };
        let mut header = json!({ "typ": "JWT", "alg": self.pair.algorithm() });
        if let Some(id) = &self.id {
            header["kid"] = id.as_str().into();
        }
        let assertion = serde_json::to_vec(&assertion).map_err(|error| error.to_string())?;
        let [header, claims] = [header.to_string().into_bytes(), assertion].map(|part| URL_SAFE_NO_PAD.encode(part));
        let signed = format!("{header}.{claims}");
        let signature = self.pair.sign(signed.as_bytes()).ok_or("the client key cannot sign")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl Pair {
    fn read(key: &PrivateKeyDer<'_>) -> Option<Self> {
        let bytes = key.secret_der();
        let rsa = RsaKeyPair::from_pkcs8(bytes).or_else(|_| RsaKeyPair::from_der(bytes));
        if let Ok(pair) = rsa {
            return Some(Self::Rsa(Box::new(pair)));
        }
        let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let p256 = EcdsaKeyPair::from_pkcs8(signing, bytes);
        p256.or_else(|_| EcdsaKeyPair::from_private_key_der(signing, bytes)).ok().map(Self::P256)
    }

    const fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
        }
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Self::P256(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_pem_and_from_json_and_signs() {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
        let pair = rcgen::KeyPair::generate().unwrap();
        let pem = pair.serialize_pem();
        let json = json!({"type": "application", "keyId": "k1", "key": pem}).to_string();
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        for (text, key_id) in [(&pem, None), (&json, Some("k1"))] {
            let key = ClientKey::read(text).unwrap();
            let assertion = key.assertion("registry", "https://id.example", now).unwrap();
            let header = jsonwebtoken::decode_header(&assertion).unwrap();
            assert_eq!((header.kid.as_deref(), header.alg), (key_id, jsonwebtoken::Algorithm::ES256));
            let (signed, signature) = assertion.rsplit_once('.').unwrap();
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key_raw());
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            assert!(public.verify(signed.as_bytes(), &signature).is_ok());
            assert!(!format!("{key:?}").contains("PRIVATE"));
        }
        for text in [
            "",
            "hunter2",
            "{}",
            "{\"key\": \"hunter2\"}",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        ] {
            assert!(!ClientKey::read(text).unwrap_err().contains("hunter2"), "{text}");
        }
    }
}
