//! [`ExternalIssuer`]: a token service whose tokens this registry accepts (zot's `http.auth.bearer`).
//!
//! The `access` of a token is all that its holder may do.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::grant::{ExternalHolder, Holder};
use super::header::Header;
use super::verifying_key::{self, VerifyingKey, asymmetric};
use super::{AccessEntry, InvalidToken, LEEWAY, TokenGrant};
use crate::kit::clock::Timestamp;

/// The longest `sub` that the log shows, in bytes.
const SUBJECT_BYTES_MAX: usize = 255;

/// An external token issuer.
#[derive(Debug)]
pub(crate) struct ExternalIssuer {
    /// The issuer's name of this registry.
    service: String,
    keys: Vec<VerifyingKey>,
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
        let keys = verifying_key::read_file(path)?;
        Ok(Self { service: service.to_owned(), keys })
    }

    /// Verifies a token of the issuer, except for its times.
    pub(super) fn read(&self, token: &str, header: &Header) -> Result<TokenGrant, InvalidToken> {
        let is_named =
            |key: &VerifyingKey| key.id().is_none() || header.kid.is_none() || key.id() == header.kid.as_deref();
        let algorithm = asymmetric(&header.alg).ok_or(InvalidToken::Forged)?;
        let fits = |key: &&VerifyingKey| key.supports(algorithm) && is_named(key);
        let claims: Claims =
            self.keys.iter().filter(fits).find_map(|key| key.verify(token)).ok_or(InvalidToken::Forged)?;
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
        let access: Vec<AccessEntry> = entries.into_iter().map(Entry::into_access).collect();
        let lists_catalog = access.iter().any(AccessEntry::lists_catalog);
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
