//! The claims of a token: before its signature is verified, and the checks after it (OpenID Connect Core, 3.1.3.7).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CLOCK_SKEW, Reason, TOKEN_BYTES_MAX};
use crate::identity::tokens::{Algorithm, asymmetric};
use crate::kit::clock::Timestamp;

/// The longest subject, in bytes. The subject of GitHub can have a path and a branch.
const SUBJECT_BYTES_MAX: usize = 1024;
/// The largest date, in seconds since 1970: the end of the year 9999.
const DATE_MAX: f64 = 253_402_300_799.0;

pub(super) type Claims = Map<String, Value>;

/// The parts of a token that select the key. They are not verified.
#[derive(Debug)]
pub(super) struct Unverified {
    header: Header,
    issuer: Option<String>,
}

/// The fields of a header that matter (RFC 7515, 4.1). One that is given twice is an error.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

impl Unverified {
    pub(super) fn read(token: &str) -> Result<Self, Reason> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Reason::TooLong);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Reason::Malformed("it has not three parts"));
        };
        if signature.is_empty() {
            return Err(Reason::Malformed("it has no signature"));
        }
        let header = part(header).ok_or(Reason::Malformed("its header is not a JSON object with alg"))?;
        // Read as after the verification, so that both see the same issuer.
        let claims: Claims = part(claims).ok_or(Reason::Malformed("its claims are not a JSON object"))?;
        let issuer = claims.get("iss").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { header, issuer })
    }

    pub(super) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The algorithm, if the header is one of an ID token. A key decides whether it supports the algorithm.
    pub(super) fn algorithm(&self) -> Result<Algorithm, Reason> {
        let Header { alg, typ, crit, .. } = &self.header;
        // No critical extension is supported (RFC 7515, 4.1.11).
        if crit.is_some() {
            return Err(Reason::Critical);
        }
        // An access token or a logout token is not an ID token (RFC 8725, 3.11).
        if typ.as_ref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(Reason::Type);
        }
        asymmetric(alg).ok_or(Reason::Algorithm)
    }
}

/// Decodes a part of a token. The parser limits its depth.
fn part<T: for<'de> Deserialize<'de>>(encoded: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    // A struct could also be read from a list.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(&bytes).ok()
}

/// The values that the claims of an issuer must have.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) audiences: Vec<String>,
    pub(super) lifetime_max: Duration,
}

/// The checked claims.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) subject: String,
    pub(super) expires: Timestamp,
    pub(super) issued: Timestamp,
}

impl Expected {
    /// Checks the verified claims of a token.
    pub(super) fn check(&self, issuer: &str, claims: &Claims, now: Timestamp) -> Result<Checked, Reason> {
        if claims.get("iss").and_then(Value::as_str) != Some(issuer) {
            return Err(Reason::InvalidClaim("iss"));
        }
        let is_ours = |name: &Value| name.as_str().is_some_and(|name| self.audiences.iter().any(|own| own == name));
        match claims.get("aud") {
            None => return Err(Reason::MissingClaim("aud")),
            Some(Value::Array(names)) if names.iter().any(is_ours) => {}
            Some(name) if is_ours(name) => {}
            Some(_) => return Err(Reason::Audience),
        }
        let expires = date(claims, "exp")?.ok_or(Reason::MissingClaim("exp"))?;
        let begun = date(claims, "iat")?.ok_or(Reason::MissingClaim("iat"))?;
        let not_before = date(claims, "nbf")?;
        if now >= expires.after(CLOCK_SKEW) {
            return Err(Reason::Expired);
        }
        if begun > now.after(CLOCK_SKEW) {
            return Err(Reason::FromFuture);
        }
        if not_before.is_some_and(|begins| begins > now.after(CLOCK_SKEW)) {
            return Err(Reason::TooEarly);
        }
        if begun > expires {
            return Err(Reason::InvalidClaim("iat"));
        }
        if expires.since(begun) > self.lifetime_max {
            return Err(Reason::TooLongLived);
        }
        let subject = claims.get("sub").ok_or(Reason::MissingClaim("sub"))?;
        let subject = subject.as_str().filter(|subject| is_subject(subject)).ok_or(Reason::InvalidClaim("sub"))?;
        Ok(Checked { subject: subject.to_owned(), expires, issued: begun })
    }
}

/// Reads a date (RFC 7519, 2).
fn date(claims: &Claims, name: &'static str) -> Result<Option<Timestamp>, Reason> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..=DATE_MAX).contains(seconds));
    let since = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let micros = since.and_then(|since| u64::try_from(since.as_micros()).ok());
    Ok(Some(Timestamp::from_micros(micros.ok_or(Reason::InvalidClaim(name))?)))
}

/// Whether a subject can be a part of a name: it must look like what it is, in a log and in a rule.
fn is_subject(subject: &str) -> bool {
    let is_hidden = |c: char| c.is_control() || c.is_whitespace() || is_invisible(c);
    !subject.is_empty() && subject.len() <= SUBJECT_BYTES_MAX && !subject.chars().any(is_hidden)
}

/// Whether a character has no shape of its own: the property `Default_Ignorable_Code_Point` of Unicode 16, the marks of
/// interlinear annotations, and the empty pattern of Braille.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}
