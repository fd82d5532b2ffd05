//! Access tokens: a client gets one at `/v2/auth` for its credentials and sends it instead of them.
//!
//! A token is a signed JWT (RFC 7519). It names its user, the credential it was issued for, and the largest set of
//! actions that it allows. It is valid for an hour. An external token issuer may sign tokens too. A token is refused
//! unless this registry or that issuer signed it, for this registry and recently. Private keys never leave this module
//! and the database. Knows no HTTP and no policy.
//!
//! The first key is created when it is first needed: most registries issue no token.

mod external_issuer;
#[cfg(any(fuzzing, test))]
mod fuzzing;
mod grant;
mod header;
mod scope;
#[cfg_attr(not(feature = "tls"), path = "tokens/signing/absent.rs")]
mod signing;
#[cfg_attr(not(feature = "tls"), path = "tokens/verifying_key/absent.rs")]
mod verifying_key;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub(crate) use external_issuer::ExternalIssuer;
#[cfg(any(fuzzing, test))]
pub(crate) use fuzzing::{scopes, token};
pub(crate) use grant::{ExternalHolder, Holder, IssuedFor, TokenGrant};
use header::Header;
pub(crate) use scope::ScopeRequest;
use signing::SigningKeys;
pub(crate) use verifying_key::{Algorithm, VerifyingKey, asymmetric, read_file as read_keys, read_set as read_key_set};

use crate::content::rows::{self, Database};
use crate::identity::accounts::Cache;
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::opaque_debug::opaque_debug;

/// The longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 24 * 1024;

/// A token is accepted for this long after its expiry, because requests take time to arrive. skopeo and ctr fail if
/// a token expires on the way. The reference registry has the same leeway.
const LEEWAY: Duration = Duration::from_mins(1);

/// The operator's settings for tokens.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// How long a token is valid.
    pub(crate) lifetime: Duration,
    /// The `iss` claim.
    pub(crate) issuer: String,
    /// The `aud` claim: this registry.
    pub(crate) audience: String,
}

/// The tokens of one registry.
#[derive(Debug)]
pub(crate) struct Tokens {
    database: Arc<Database>,
    clock: Clock,
    rules: Rules,
    /// `None` until the first key is needed.
    keys: RwLock<Option<Arc<SigningKeys>>>,
    /// Held while keys are created, so that calls do so one after another, and tokens are verified meanwhile.
    creating: Mutex<()>,
    /// Its tokens are accepted as well.
    external_issuer: Option<ExternalIssuer>,
    /// Verified tokens by their hash.
    verified: Cache<[u8; 32], Arc<TokenGrant>>,
}

/// The key that signs.
#[derive(Clone, Debug)]
pub(crate) struct Signer(Arc<SigningKeys>);

impl Signer {
    /// The public keys for other verifiers (RFC 7517).
    pub(crate) fn public_keys(&self) -> serde_json::Value {
        self.0.public_set()
    }
}

/// A new token. Does not print.
pub(crate) struct Issued {
    pub(crate) token: String,
    pub(crate) at: Timestamp,
    pub(crate) lifetime: Duration,
}

opaque_debug!(Issued);

/// The claims of a token (RFC 7519, and `access` of the Docker token specification).
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    /// The user's name. Empty for an anonymous caller.
    sub: String,
    aud: String,
    exp: u64,
    nbf: u64,
    iat: u64,
    jti: Uuid,
    access: Vec<AccessEntry>,
    /// The credential that the token was issued for.
    by: IssuedFor,
}

/// The actions that a token allows on one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccessEntry {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) actions: Vec<String>,
}

impl AccessEntry {
    /// Whether the entry allows listing all repositories.
    fn lists_catalog(&self) -> bool {
        self.kind == "registry" && self.name == "catalog" && self.actions.iter().any(|action| action == "*")
    }
}

/// Why a token is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidToken {
    /// Not a JWT, or signed by an unknown key.
    #[error("the token is not signed by a trusted issuer")]
    Forged,
    /// Another issuer or audience.
    #[error("the token was not issued for this registry")]
    Foreign,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    TooEarly,
    /// Its user may not sign in, or the credential that it was issued for has ended.
    #[error("the token has been revoked")]
    Revoked,
}

impl Tokens {
    pub(crate) fn open(
        database: Arc<Database>,
        clock: Clock,
        rules: Rules,
        external_issuer: Option<ExternalIssuer>,
    ) -> Result<Self, rows::Error> {
        let keys = RwLock::new(SigningKeys::read(&database)?.map(Arc::new));
        Ok(Self {
            database,
            clock,
            rules,
            keys,
            creating: Mutex::default(),
            external_issuer,
            verified: Cache::default(),
        })
    }

    fn keys(&self) -> Option<Arc<SigningKeys>> {
        self.keys.read().clone()
    }

    /// The key that signs, if it has been created.
    pub(crate) fn signer(&self) -> Option<Signer> {
        self.keys().map(Signer)
    }

    /// Creates the key that signs, unless another call has done so.
    pub(crate) fn create_signer(&self) -> Result<Signer, rows::Error> {
        let _creating = self.creating.lock();
        if let Some(signer) = self.signer() {
            return Ok(signer);
        }
        let keys = Arc::new(SigningKeys::create(&self.database, self.clock.now())?);
        *self.keys.write() = Some(Arc::clone(&keys));
        Ok(Signer(keys))
    }

    /// Issues a token for a user or an anonymous caller.
    pub(crate) fn issue(&self, signer: &Signer, user: Option<&str>, by: IssuedFor, access: Vec<AccessEntry>) -> Issued {
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
        let token = signer.0.sign(&claims);
        Issued { token, at: Timestamp::from_micros(seconds * 1_000_000), lifetime: self.rules.lifetime }
    }

    /// The time now, which decides about tokens.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether the header of a token names a key of this registry.
    pub(crate) fn names_own_key(&self, token: &str) -> bool {
        let Some(keys) = self.keys() else { return false };
        Header::read(token).and_then(|header| header.kid).is_some_and(|id| keys.has(&id))
    }

    /// Verifies a token. Does not check its user and credential.
    pub(crate) fn verify(&self, token: &str) -> Result<Arc<TokenGrant>, InvalidToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(InvalidToken::Forged);
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        let keys = self.keys();
        let generation = keys.as_ref().map_or(0, |keys| keys.generation());
        let grant = if let Some(known) = self.verified.get(&hash, generation) {
            known
        } else {
            let grant = Arc::new(self.read(token, keys.as_deref())?);
            self.verified.put(hash, generation, Arc::clone(&grant));
            grant
        };
        self.check_times(&grant).map(|()| grant)
    }

    /// Checks whether a token is valid now.
    pub(crate) fn check_times(&self, grant: &TokenGrant) -> Result<(), InvalidToken> {
        let now = self.clock.now();
        match () {
            () if now < grant.not_before => Err(InvalidToken::TooEarly),
            () if now >= grant.expires.after(LEEWAY) => Err(InvalidToken::Expired),
            () => Ok(()),
        }
    }

    fn read(&self, token: &str, keys: Option<&SigningKeys>) -> Result<TokenGrant, InvalidToken> {
        let header = Header::read(token).ok_or(InvalidToken::Forged)?;
        // No critical extension is supported (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err(InvalidToken::Forged);
        }
        let own = keys.zip(header.kid.as_deref()).filter(|(keys, id)| keys.has(id));
        match (own, &self.external_issuer) {
            (Some((keys, id)), _) => self.read_own(keys.verify(id, token)),
            (None, Some(external_issuer)) => external_issuer.read(token, &header),
            (None, None) => Err(InvalidToken::Forged),
        }
    }

    /// Checks the claims that a key of the registry has signed. Times are compared with the registry's own clock.
    fn read_own(&self, claims: Option<Claims>) -> Result<TokenGrant, InvalidToken> {
        let claims = claims.ok_or(InvalidToken::Forged)?;
        if claims.iss != self.rules.issuer || claims.aud != self.rules.audience {
            return Err(InvalidToken::Foreign);
        }
        // The registry issues no token with a longer lifetime.
        if claims.iat > claims.exp || claims.exp - claims.iat > self.rules.lifetime.as_secs() {
            return Err(InvalidToken::Foreign);
        }
        let at = |seconds: u64| Timestamp::from_micros(seconds.saturating_mul(1_000_000));
        let not_before = at(claims.nbf.max(claims.iat));
        let user = Some(claims.sub).filter(|user| !user.is_empty());
        let holder = Holder::Local { user, by: claims.by };
        Ok(TokenGrant::new(holder, &claims.access, not_before, at(claims.exp)))
    }

    /// Signs with a new key from now on and returns its id. Earlier tokens stay valid until they expire.
    pub(crate) fn rotate(&self) -> Result<String, rows::Error> {
        let _creating = self.creating.lock();
        let keys = SigningKeys::rotate(&self.database, self.clock.now(), self.rules.lifetime)?;
        let id = keys.id().to_owned();
        *self.keys.write() = Some(Arc::new(keys));
        Ok(id)
    }
}

#[cfg(test)]
mod tests;
