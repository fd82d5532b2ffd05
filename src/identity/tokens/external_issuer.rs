//! [`ExternalIssuer`]: a token service whose tokens this registry accepts (zot's `http.auth.bearer`).
//!
//! The `access` of a token is all that its holder may do. A key verifies only the algorithms of its own kind. The header
//! of a token can only select one of the keys in the file.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rsa::PublicKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Header, Validation};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::server::ParsedCertificate;
use serde::Deserialize;

use super::grant::{ExternalHolder, Holder};
use super::{AccessEntry, InvalidToken, LEEWAY, TokenGrant};
use crate::kit::clock::Timestamp;

/// The largest size of a file with keys.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The algorithms of each kind of key.
const RSA: &[Algorithm] =
    &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];
const P256: &[Algorithm] = &[Algorithm::ES256];
const P384: &[Algorithm] = &[Algorithm::ES384];
const ED: &[Algorithm] = &[Algorithm::EdDSA];

/// The lengths of RSA moduli that the library supports, in bytes.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The longest `sub` that the log shows, in bytes.
const SUBJECT_BYTES_MAX: usize = 255;

/// An external token issuer.
#[derive(Debug)]
pub(crate) struct ExternalIssuer {
    /// The issuer's name of this registry.
    service: String,
    keys: Vec<Key>,
}

/// A key that verifies signatures.
#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// The claims of a token that the registry uses.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    aud: Option<Audience>,
    exp: NumericDate,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
    access: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Option<Vec<String>>,
    /// zot's extension: an entry may expire before the token.
    exp: Option<NumericDate>,
}

/// Seconds since 1970, possibly with a fraction (RFC 7519, 2).
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct NumericDate(Timestamp);

impl TryFrom<f64> for NumericDate {
    type Error = &'static str;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        let since = std::time::Duration::try_from_secs_f64(seconds).map_err(|_| "not a time")?;
        Ok(Self(Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))))
    }
}

impl ExternalIssuer {
    /// Reads the keys from a file: a certificate or public key in PEM, or a JWKS (RFC 7517).
    pub(crate) fn open(path: &Path, service: &str) -> Result<Self, String> {
        let bytes = read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let keys = if bytes.trim_ascii_start().starts_with(b"{") { of_set(&bytes) } else { of_pem(&bytes) };
        let keys = keys.map_err(|why| format!("{}: {why}", path.display()))?;
        Ok(Self { service: service.to_owned(), keys })
    }

    /// Verifies a token of the issuer, except for its times.
    pub(super) fn read(&self, token: &str, header: &Header) -> Result<TokenGrant, InvalidToken> {
        let is_named = |key: &Key| key.id.is_none() || header.kid.is_none() || key.id == header.kid;
        let fits = |key: &&Key| key.algorithms.contains(&header.alg) && is_named(key);
        let claims = self.keys.iter().filter(fits).find_map(|key| key.verify(token)).ok_or(InvalidToken::Forged)?;
        let is_ours = |name: &String| *name == self.service;
        let is_for_us = match &claims.aud {
            // zot accepts tokens without an audience. A named one must be this registry (RFC 7519, 4.1.3).
            None => true,
            Some(Audience::One(name)) => is_ours(name),
            Some(Audience::Several(names)) => names.iter().any(is_ours),
        };
        if !is_for_us {
            return Err(InvalidToken::Foreign);
        }
        Ok(claims.grant())
    }
}

impl Claims {
    fn grant(self) -> TokenGrant {
        let entries = self.access.unwrap_or_default();
        // The token expires with the first of its entries. The client then gets another one.
        let ends = entries.iter().filter_map(|entry| entry.exp).map(|end| end.0);
        let expires = ends.fold(self.exp.0, Ord::min);
        let begins = [self.nbf, self.iat].into_iter().flatten().map(|begin| begin.0).max();
        // The issuer's clock may differ.
        let not_before = begins.map_or(Timestamp::from_micros(0), |begins| begins.before(LEEWAY));
        let lists_catalog = entries.iter().any(|entry| {
            let actions = entry.actions.iter().flatten();
            entry.kind == "registry" && entry.name == "catalog" && actions.into_iter().any(|action| action == "*")
        });
        let access: Vec<AccessEntry> = entries.into_iter().map(Entry::into_access).collect();
        let holder = ExternalHolder { name: name(self.sub.as_deref()), lists_catalog };
        TokenGrant::new(Holder::External(Arc::new(holder)), &access, not_before, expires)
    }
}

impl Entry {
    fn into_access(self) -> AccessEntry {
        AccessEntry { kind: self.kind, name: self.name, actions: self.actions.unwrap_or_default() }
    }
}

/// The name of a holder in the log. The colon distinguishes it from user names of this registry.
fn name(subject: Option<&str>) -> String {
    let is_valid = |subject: &&str| {
        !subject.is_empty() && subject.len() <= SUBJECT_BYTES_MAX && !subject.chars().any(char::is_control)
    };
    subject.filter(is_valid).map_or_else(|| "external".to_owned(), |subject| format!("external:{subject}"))
}

impl Key {
    fn verify(&self, token: &str) -> Option<Claims> {
        let mut validation = Validation::default();
        validation.algorithms.clone_from(&self.algorithms);
        // Times are compared with the registry's own clock, and the caller checks the audience.
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

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("the file is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// Reads the first certificate or public key. The certificates after it are its chain and sign no tokens.
fn of_pem(bytes: &[u8]) -> Result<Vec<Key>, String> {
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
        let key = Key::of_public_key(&public_key);
        return Ok(vec![key.ok_or("the key must be RSA with 2048 to 8192 bits, P-256, P-384 or Ed25519")?]);
    }
    Err("the file has no certificate or public key in PEM and is not a JWKS".to_owned())
}

fn of_set(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let set: JwkSet = serde_json::from_slice(bytes).map_err(|error| format!("not a JWKS: {error}"))?;
    let keys: Vec<Key> = set.keys.iter().filter_map(Key::of_jwk).collect();
    if keys.is_empty() {
        let why = "the JWKS has no key for signatures: RSA with 2048 to 8192 bits, P-256, P-384 or Ed25519";
        return Err(why.to_owned());
    }
    Ok(keys)
}
