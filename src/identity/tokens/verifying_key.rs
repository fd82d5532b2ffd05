//! [`VerifyingKey`]: a public key that verifies tokens of another issuer.
//!
//! A key verifies only the algorithms of its own kind, and all of them are asymmetric. The header of a token can only select
//! one of the known keys.

use std::path::Path;

use aws_lc_rs::rsa::PublicKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
pub(crate) use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{DecodingKey, DecodingKeyKind, Validation};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::server::ParsedCertificate;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kit::file::read_small;

/// The largest size of a file with keys.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The largest number of keys of one issuer. Further keys are ignored.
const KEYS_MAX: usize = 100;

/// The algorithms of each kind of key.
const RSA: &[Algorithm] =
    &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];
const P256: &[Algorithm] = &[Algorithm::ES256];
const P384: &[Algorithm] = &[Algorithm::ES384];
const ED: &[Algorithm] = &[Algorithm::EdDSA];

/// The lengths of RSA moduli that the library supports, in bytes.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A key that verifies signatures.
#[derive(Debug)]
pub(crate) struct VerifyingKey {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// A JWKS (RFC 7517). A key of an unknown form is ignored.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl VerifyingKey {
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether the key verifies signatures of this algorithm.
    pub(crate) fn supports(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Verifies the signature of a token. Returns its claims, which are not checked.
    pub(crate) fn verify<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        let mut validation = Validation::default();
        validation.algorithms.clone_from(&self.algorithms);
        // The caller compares times with the registry's own clock, and checks the audience.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Some(jsonwebtoken::decode(token, &self.decoding, &validation).ok()?.claims)
    }

    /// Reads a key in the form of certificates (SPKI), if its kind can verify tokens.
    fn of_public_key(der: &[u8]) -> Option<Self> {
        let (algorithms, decoding) =
            if PublicKey::from_der(der).is_ok_and(|key| MODULUS_BYTES.contains(&key.modulus_len())) {
                (RSA, DecodingKey::from_rsa_der(der))
            } else if parses(&ECDSA_P256_SHA256_FIXED, der) {
                (P256, DecodingKey::from_ec_der(der))
            } else if parses(&ECDSA_P384_SHA384_FIXED, der) {
                (P384, DecodingKey::from_ec_der(der))
            } else if parses(&ED25519, der) {
                (ED, DecodingKey::from_ed_der(der))
            } else {
                return None;
            };
        Some(Self { id: None, algorithms: algorithms.to_vec(), decoding })
    }

    /// Reads a public key of a JWKS, if it can verify tokens.
    fn of_jwk(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let is_for_signatures = common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
        let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        if !is_for_signatures || !verifies {
            return None;
        }
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        let algorithms = match (&jwk.algorithm, decoding.kind()) {
            (AlgorithmParameters::RSA(_), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let parsed = RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
                (parsed.is_ok() && MODULUS_BYTES.contains(&n.len())).then_some(RSA)
            }
            (AlgorithmParameters::EllipticCurve(of), DecodingKeyKind::SecretOrDer(point)) => match of.curve {
                EllipticCurve::P256 => parses(&ECDSA_P256_SHA256_FIXED, point).then_some(P256),
                EllipticCurve::P384 => parses(&ECDSA_P384_SHA384_FIXED, point).then_some(P384),
                _ => None,
            },
            (AlgorithmParameters::OctetKeyPair(of), DecodingKeyKind::SecretOrDer(point)) => {
                (of.curve == EllipticCurve::Ed25519 && parses(&ED25519, point)).then_some(ED)
            }
            _ => None,
        }?;
        let mut algorithms = algorithms.to_vec();
        if let Some(only) = common.key_algorithm {
            let only = Algorithm::try_from(only).ok()?;
            algorithms.retain(|algorithm| *algorithm == only);
        }
        (!algorithms.is_empty()).then(|| Self { id: common.key_id.clone(), algorithms, decoding })
    }
}

fn parses(algorithm: &'static dyn VerificationAlgorithm, bytes: &[u8]) -> bool {
    ParsedPublicKey::new(algorithm, bytes).is_ok()
}

/// The asymmetric algorithm with this name (RFC 7518, 3.1).
pub(crate) fn asymmetric(name: &str) -> Option<Algorithm> {
    let algorithm = name.parse().ok()?;
    [RSA, P256, P384, ED].iter().any(|all| all.contains(&algorithm)).then_some(algorithm)
}

/// Reads the keys in a file: a certificate or public key in PEM, or a JWKS (RFC 7517).
pub(crate) fn read_file(path: &Path) -> Result<Vec<VerifyingKey>, String> {
    let read = read_small(path, FILE_BYTES_MAX).map_err(|error| format!("{}: {error}", path.display()))?;
    let too_large = || format!("{}: the file is larger than {FILE_BYTES_MAX} bytes", path.display());
    let bytes = read.ok_or_else(too_large)?;
    let keys = if bytes.trim_ascii_start().starts_with(b"{") { read_set(&bytes) } else { of_pem(&bytes) };
    keys.map_err(|why| format!("{}: {why}", path.display()))
}

/// Reads the first certificate or public key. The certificates after it are its chain and sign no tokens.
fn of_pem(bytes: &[u8]) -> Result<Vec<VerifyingKey>, String> {
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        let public_key = match section.map_err(|error| format!("not PEM: {error}"))? {
            (SectionKind::PublicKey, der) => der,
            (SectionKind::Certificate, der) => {
                let certificate = CertificateDer::from(der);
                let parsed = ParsedCertificate::try_from(&certificate);
                let parsed = parsed.map_err(|error| format!("the certificate cannot be read: {error}"))?;
                parsed.subject_public_key_info().as_ref().to_vec()
            }
            _ => continue,
        };
        let key = VerifyingKey::of_public_key(&public_key);
        return Ok(vec![key.ok_or("the key must be RSA with 2048 to 8192 bits, P-256, P-384 or Ed25519")?]);
    }
    Err("the file has no certificate or public key in PEM and is not a JWKS".to_owned())
}

/// Reads the keys for signatures of a JWKS.
pub(crate) fn read_set(bytes: &[u8]) -> Result<Vec<VerifyingKey>, String> {
    let set: KeySet = serde_json::from_slice(bytes).map_err(|error| format!("not a JWKS: {error}"))?;
    let read = |key: Value| serde_json::from_value(key).ok().and_then(|jwk| VerifyingKey::of_jwk(&jwk));
    let keys: Vec<VerifyingKey> = set.keys.into_iter().filter_map(read).take(KEYS_MAX).collect();
    if keys.is_empty() {
        let why = "the JWKS has no key for signatures: RSA with 2048 to 8192 bits, P-256, P-384 or Ed25519";
        return Err(why.to_owned());
    }
    Ok(keys)
}
