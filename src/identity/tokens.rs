//! Tokens: what a client gets for its credentials at `/v2/auth`, and shows instead of them.
//!
//! A token is a signed JWT (RFC 7519) that says who was given it, by which credential, and what it may be
//! used for at most; it is good for an hour. An outside token service may sign others. Knows no HTTP and no
//! policy. What must hold: what was not signed here, or by that service, for here, and lately, is refused,
//! whatever else is right about it; the private keys never leave this module and the database.

mod external_issuer;
#[cfg(any(fuzzing, test))]
mod fuzzing;
mod grant;
mod scope;
mod signing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub(crate) use external_issuer::ExternalIssuer;
#[cfg(any(fuzzing, test))]
pub(crate) use fuzzing::{scopes, token};
pub(crate) use grant::{ExternalHolder, Holder, IssuedFor, TokenGrant};
pub(crate) use scope::ScopeRequest;
use signing::SigningKeys;

use crate::content::rows::{self, Database};
use crate::identity::accounts::Cache;
use crate::kit::clock::{Clock, Timestamp};

/// Longer tokens are not looked at.
const TOKEN_BYTES_MAX: usize = 24 * 1024;

/// A token is taken for this long after its end. Clients look at the end when they send a request, which is on its
/// way for a while; skopeo and ctr give up when it is refused then. The reference registry has the same leeway.
const LEEWAY: Duration = Duration::from_mins(1);

/// What the operator decides about tokens.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// How long a token is good for.
    pub(crate) lifetime: Duration,
    /// Who says that it has made a token.
    pub(crate) issuer: String,
    /// For whom tokens are: this registry.
    pub(crate) audience: String,
}

/// The tokens of one registry.
#[derive(Debug)]
pub(crate) struct Tokens {
    database: Arc<Database>,
    clock: Clock,
    rules: Rules,
    keys: RwLock<Arc<SigningKeys>>,
    /// Whose tokens count besides.
    external_issuer: Option<ExternalIssuer>,
    /// Tokens whose signature was right, by their hash.
    verified: Cache<[u8; 32], Arc<TokenGrant>>,
}

/// A token, and until when it is good.
pub(crate) struct Issued {
    /// The token. Only for whoever asked for it.
    pub(crate) token: String,
    pub(crate) at: Timestamp,
    pub(crate) lifetime: Duration,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issued")
    }
}

/// What is in a token (RFC 7519, and the Docker token specification's `access`).
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    /// The user's name; empty for nobody.
    sub: String,
    aud: String,
    exp: u64,
    nbf: u64,
    iat: u64,
    jti: Uuid,
    access: Vec<AccessEntry>,
    /// By which credential it was got.
    by: IssuedFor,
}

/// What a token lets through on one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccessEntry {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) actions: Vec<String>,
}

/// Why a text is not a token that counts. Which of them it was helps only people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidToken {
    /// It is no JWT, or one signed by somebody else.
    Forged,
    /// It was made by or for somebody else.
    Foreign,
    /// It was good once.
    Expired,
    /// It will be good later.
    TooEarly,
    /// Its user may not sign in any more, or the credential it was got with does not count any more.
    Revoked,
}

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forged => "the token was not made by anybody whom this registry believes",
            Self::Foreign => "the token was not made for this registry",
            Self::Expired => "the token has expired",
            Self::TooEarly => "the token is not valid yet",
            Self::Revoked => "the token is not valid any more",
        })
    }
}

impl std::error::Error for InvalidToken {}

impl Tokens {
    pub(crate) fn open(
        database: Arc<Database>,
        clock: Clock,
        rules: Rules,
        external_issuer: Option<ExternalIssuer>,
    ) -> Result<Self, rows::Error> {
        let keys = SigningKeys::open(&database, clock.now())?;
        Ok(Self {
            database,
            clock,
            rules,
            keys: RwLock::new(Arc::new(keys)),
            external_issuer,
            verified: Cache::default(),
        })
    }

    fn keys(&self) -> Arc<SigningKeys> {
        Arc::clone(&self.keys.read())
    }

    /// Makes a token for somebody.
    pub(crate) fn issue(&self, user: Option<&str>, by: IssuedFor, access: Vec<AccessEntry>) -> Issued {
        let now = self.clock.now();
        let seconds = now.micros() / 1_000_000;
        let claims = Claims {
            iss: self.rules.issuer.clone(),
            sub: user.unwrap_or_default().to_owned(),
            aud: self.rules.audience.clone(),
            exp: seconds + self.rules.lifetime.as_secs(),
            nbf: seconds,
            iat: seconds,
            jti: Uuid::new_v4(),
            access,
            by,
        };
        let keys = self.keys();
        let (id, key) = keys.current();
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::ES256) };
        let token = jsonwebtoken::encode(&header, &claims, key).expect("a key that was made here signs");
        Issued { token, at: Timestamp::from_micros(seconds * 1_000_000), lifetime: self.rules.lifetime }
    }

    /// What a token says, if it counts. Whether its user and credential still do is not looked at.
    pub(crate) fn verify(&self, token: &str) -> Result<Arc<TokenGrant>, InvalidToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(InvalidToken::Forged);
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        let keys = self.keys();
        let grant = if let Some(known) = self.verified.get(&hash, keys.generation()) {
            known
        } else {
            let grant = Arc::new(self.read(token, &keys)?);
            self.verified.put(hash, keys.generation(), Arc::clone(&grant));
            grant
        };
        self.check_times(&grant).map(|()| grant)
    }

    /// Whether a token counts now, and not only later or before.
    pub(crate) fn check_times(&self, grant: &TokenGrant) -> Result<(), InvalidToken> {
        let now = self.clock.now();
        match () {
            () if now < grant.not_before => Err(InvalidToken::TooEarly),
            () if now >= grant.expires.after(LEEWAY) => Err(InvalidToken::Expired),
            () => Ok(()),
        }
    }

    fn read(&self, token: &str, keys: &SigningKeys) -> Result<TokenGrant, InvalidToken> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| InvalidToken::Forged)?;
        // What must be understood is not (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err(InvalidToken::Forged);
        }
        match (header.kid.as_deref().and_then(|id| keys.public(id)), &self.external_issuer) {
            (Some(key), _) => self.read_own(token, key),
            (None, Some(external_issuer)) => external_issuer.read(token, &header),
            (None, None) => Err(InvalidToken::Forged),
        }
    }

    /// What a token says that names this key of the registry's.
    fn read_own(&self, token: &str, key: &DecodingKey) -> Result<TokenGrant, InvalidToken> {
        let mut validation = Validation::new(Algorithm::ES256);
        // The times are compared with the registry's own clock, and the names below.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let claims: Claims = jsonwebtoken::decode(token, key, &validation).map_err(|_| InvalidToken::Forged)?.claims;
        if claims.iss != self.rules.issuer || claims.aud != self.rules.audience {
            return Err(InvalidToken::Foreign);
        }
        // Nothing is given for longer here; and a sum of the largest numbers must not overflow.
        if claims.iat > claims.exp || claims.exp - claims.iat > self.rules.lifetime.as_secs() {
            return Err(InvalidToken::Foreign);
        }
        let at = |seconds: u64| Timestamp::from_micros(seconds.saturating_mul(1_000_000));
        let not_before = at(claims.nbf.max(claims.iat));
        let user = Some(claims.sub).filter(|user| !user.is_empty());
        let holder = Holder::Local { user, by: claims.by };
        Ok(TokenGrant::new(holder, &claims.access, not_before, at(claims.exp)))
    }

    /// The public keys, for whoever wants to verify a token elsewhere (RFC 7517).
    pub(crate) fn public_keys(&self) -> serde_json::Value {
        self.keys().public_set()
    }

    /// Signs with a new key from now on; what the old one has signed stays good as long as it was given
    /// for. Gives the new key's id.
    pub(crate) fn rotate(&self) -> Result<String, rows::Error> {
        let keys = SigningKeys::rotate(&self.database, self.clock.now(), self.rules.lifetime)?;
        let id = keys.current().0.to_owned();
        *self.keys.write() = Arc::new(keys);
        Ok(id)
    }
}

#[cfg(test)]
mod tests;
