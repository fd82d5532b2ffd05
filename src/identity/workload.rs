//! Workload identity: ID tokens of CI systems and clusters as credentials (zot's `http.auth.bearer.oidc`).
//!
//! [`Workloads`] verifies a token: an issuer of the configuration signed it, for this registry, a short while ago, and a
//! [`Rule`] of that issuer matches its claims. The rule says whose rights the token has. The name of a workload is
//! `<issuer>/<subject>`. No user of the registry can have such a name, so that a token never becomes a user unless a rule
//! says it. Every refusal has a [`Reason`] for the log and the audit, which clients do not see. Knows no HTTP.

mod claims;
#[cfg(any(fuzzing, test))]
mod fuzzing;
mod keys;
mod rule;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claims::{Expected, Unverified};
#[cfg(any(fuzzing, test))]
pub(crate) use fuzzing::token;
use keys::Keys;
pub(crate) use rule::{InvalidRule, Rule, RuleSettings, is_open_to_strangers};

use crate::identity::accounts::{Account, Actions};
use crate::kit::clock::Timestamp;
use crate::kit::window_limit::WindowLimit;
use crate::oci::RepositoryName;

/// The longest token, in bytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// The tolerated difference between the clocks of an issuer and the registry.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// The operator's settings for one issuer.
#[derive(Clone, Debug)]
pub(crate) struct IssuerSettings {
    /// Exactly as in its tokens.
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    /// A file with certificate authorities to trust, in addition to those of the platform.
    pub(crate) ca_file: Option<PathBuf>,
    /// The same, as text in PEM.
    pub(crate) ca: Option<String>,
    /// A file with the keys. Without it, the issuer is asked.
    pub(crate) keys_file: Option<PathBuf>,
    /// The age at which keys are read again.
    pub(crate) keys_refresh: Duration,
    /// The longest time from the issue of a token to its end.
    pub(crate) lifetime_max: Duration,
    pub(crate) rules: Vec<Rule>,
}

/// The issuers of workload tokens.
#[derive(Debug, Default)]
pub(crate) struct Workloads {
    issuers: Vec<Issuer>,
    /// Counts refusals by network.
    refusals: WindowLimit,
}

#[derive(Debug)]
struct Issuer {
    url: String,
    expected: Expected,
    keys: Keys,
    rules: Vec<Arc<Rule>>,
}

/// The result of a verified token.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) issuer: String,
    /// `<issuer>/<subject>`.
    pub(crate) name: String,
    /// The rule that matches its claims.
    pub(crate) rule: Arc<Rule>,
    pub(crate) expires: Timestamp,
    pub(crate) issued: Timestamp,
}

/// A workload that may use the registry.
#[derive(Debug)]
pub(crate) struct Workload {
    /// `<issuer>/<subject>`, for the log.
    pub(crate) name: String,
    /// The holder of its rights: a user, or a name with groups that exists only in rules.
    pub(crate) account: Arc<Account>,
    pub(crate) rule: Arc<Rule>,
}

/// A refused token: its issuer, if the configuration has it, and the reason.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) issuer: Option<String>,
    pub(crate) reason: Reason,
}

/// Why a token is refused. Clients do not see it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("not a JWT: {0}")]
    Malformed(&'static str),
    #[error("the issuer is not in the configuration")]
    UnknownIssuer,
    #[error("the type of the token is not JWT")]
    Type,
    #[error("the token has a critical extension")]
    Critical,
    #[error("the algorithm is not supported: only asymmetric ones are")]
    Algorithm,
    #[error("the issuer has no such key")]
    UnknownKey,
    #[error("the key does not belong to the algorithm")]
    KeyType,
    #[error("the signature is wrong")]
    Signature,
    #[error("the token is for another audience")]
    Audience,
    #[error("the claim {0} is missing")]
    MissingClaim(&'static str),
    #[error("the claim {0} is invalid")]
    InvalidClaim(&'static str),
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    TooEarly,
    #[error("the token was issued in the future")]
    FromFuture,
    #[error("the token is valid for longer than maxLifetime")]
    TooLongLived,
    /// Names the claim that each of the first rules fails at.
    #[error("no rule matches: {0}")]
    NoRule(String),
    #[error("the user of the rule does not exist or is disabled")]
    NoUser,
    /// The keys cannot be read. This may pass.
    #[error("the issuer's keys are unavailable: {0}")]
    Unavailable(String),
}

impl Workloads {
    /// Sends no request. An error names the entry and the key.
    pub(crate) fn new(settings: Vec<IssuerSettings>) -> Result<Self, String> {
        let open = |(index, settings): (usize, IssuerSettings)| {
            let keys = Keys::new(&settings).map_err(|why| format!("[{index}].{why}"))?;
            let IssuerSettings { issuer, audiences, lifetime_max, rules, .. } = settings;
            let rules = rules.into_iter().map(Arc::new).collect();
            Ok(Issuer { url: issuer, expected: Expected { audiences, lifetime_max }, keys, rules })
        };
        let issuers = settings.into_iter().enumerate().map(open).collect::<Result<_, String>>()?;
        Ok(Self { issuers, refusals: WindowLimit::default() })
    }

    /// Whether any issuer is configured.
    pub(crate) fn is_on(&self) -> bool {
        !self.issuers.is_empty()
    }

    /// Whether a token names an issuer of the configuration. Verifies nothing.
    pub(crate) fn issues(&self, token: &str) -> bool {
        Unverified::read(token).is_ok_and(|unverified| self.issuer(&unverified).is_some())
    }

    fn issuer(&self, unverified: &Unverified) -> Option<&Issuer> {
        let named = unverified.issuer()?;
        self.issuers.iter().find(|issuer| issuer.url == named)
    }

    /// Verifies a token.
    pub(crate) async fn verify(&self, token: &str, now: Timestamp) -> Result<Verified, Refused> {
        let unknown = |reason| Refused { issuer: None, reason };
        let unverified = Unverified::read(token).map_err(unknown)?;
        let issuer = self.issuer(&unverified).ok_or_else(|| unknown(Reason::UnknownIssuer))?;
        let verified = issuer.verify(token, &unverified, now).await;
        verified.map_err(|reason| Refused { issuer: Some(issuer.url.clone()), reason })
    }

    /// The rule with this id, which a token of this registry names.
    pub(crate) fn rule(&self, id: &str) -> Option<&Arc<Rule>> {
        self.issuers.iter().flat_map(|issuer| &issuer.rules).find(|rule| rule.id() == id)
    }

    /// Counts a refusal. Beyond the limit of a network, returns the seconds to wait, and the refusal is not recorded. A
    /// valid token never waits.
    pub(crate) fn count_refusal(&self, address: Option<IpAddr>) -> Result<(), u64> {
        self.refusals.pass(address)
    }
}

impl Issuer {
    async fn verify(&self, token: &str, unverified: &Unverified, now: Timestamp) -> Result<Verified, Reason> {
        let algorithm = unverified.algorithm()?;
        let keys = self.keys.find(unverified.key_id()).await?;
        let mut named = keys.with_id(unverified.key_id()).peekable();
        if named.peek().is_none() {
            return Err(Reason::UnknownKey);
        }
        let mut fitting = named.filter(|key| key.supports(algorithm)).peekable();
        if fitting.peek().is_none() {
            return Err(Reason::KeyType);
        }
        let claims = fitting.find_map(|key| key.verify(token)).ok_or(Reason::Signature)?;
        let checked = self.expected.check(&self.url, &claims, now)?;
        let rule = rule::matching(&self.rules, &claims)?;
        let name = format!("{}/{}", self.url, checked.subject);
        let issuer = self.url.clone();
        Ok(Verified { issuer, name, rule: Arc::clone(rule), expires: checked.expires, issued: checked.issued })
    }
}

impl Workload {
    /// The actions that its rule allows on a repository, which limits those of its account.
    pub(crate) fn actions(&self, name: &RepositoryName) -> Actions {
        self.rule.actions(name)
    }

    /// Whether its rule has no scopes.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.rule.is_unlimited()
    }
}

#[cfg(test)]
mod tests;
