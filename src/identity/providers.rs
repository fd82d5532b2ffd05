//! Sign-in through identity providers: OpenID Connect, and OAuth with GitHub's API.
//!
//! A [`Provider`] builds the URL at which a browser signs in, and reads the user's identity from the callback.
//! [`Providers`] binds the callback to the browser that started the sign-in. An identity is accepted only from a fresh,
//! unused provider response that this browser requested. The browser stores the pending sign-in in a signed cookie, so
//! the registry stores nothing. A provider that is unavailable or sends invalid data causes an error, never an endless
//! wait or a crash. No secret, code or token appears in messages or `Debug` output. Knows no route and no database.

mod client;
mod client_key;
mod device;
mod github;
mod openid;
mod seal;
mod sign_in_code;
mod state;
mod target;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use openidconnect::AccessToken;
pub(crate) use openidconnect::{ClientId, ClientSecret};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::identity::accounts::FederatedUser;
use crate::kit::clock::Timestamp;
use crate::kit::log_limit::LogLimit;
use crate::kit::opaque_debug::opaque_debug;
use crate::kit::outgoing::{self, Client};
use crate::kit::window_limit::WindowLimit;
pub(crate) use client_key::ClientKey;
pub(crate) use device::DevicePoll;
pub(crate) use openid::OpenId;
pub(crate) use seal::Sealer;
pub(crate) use sign_in_code::{CONFIRM_LIFETIME, ProgramRequest, SignInCodes};
use state::SignInStates;
pub(crate) use state::{STATE_LIFETIME, Secrets};
pub(crate) use target::{Target, Targets};

use github::GitHub;

/// The largest number of simultaneous requests to providers on behalf of clients.
const AT_ONCE_MAX: usize = 64;
/// The tolerated difference between the clocks of a provider and the registry.
const CLOCK_SKEW: Duration = Duration::from_mins(1);
/// The longest authorization code, in bytes.
const CODE_BYTES_MAX: usize = 4096;
/// The longest name, address, subject or group of a provider, in bytes. A subject has at most 255 characters (OpenID
/// Connect Core, 2).
const TEXT_BYTES_MAX: usize = 255;
/// The largest number of groups of one user.
const GROUPS_MAX: usize = 1000;

/// The operator's settings for providers.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) providers: Vec<ProviderSettings>,
    pub(crate) targets: Targets,
    pub(crate) client: Client,
    /// Whether providers are asked later if they still know a user. Requires a [`RecheckToken`].
    pub(crate) with_recheck: bool,
}

/// The providers without the key of the registry.
#[derive(Debug)]
pub(crate) struct PreparedProviders {
    list: Vec<Provider>,
    targets: Targets,
}

/// The settings of one provider.
#[derive(Debug)]
pub(crate) struct ProviderSettings {
    /// The last component of its routes.
    pub(crate) name: String,
    /// The name for people.
    pub(crate) title: String,
    pub(crate) client_id: ClientId,
    pub(crate) client_secret: Option<ClientSecret>,
    pub(crate) client_key: Option<ClientKey>,
    pub(crate) scopes: Vec<String>,
    pub(crate) protocol: Protocol,
}

/// The protocol of a provider.
#[derive(Debug)]
pub(crate) enum Protocol {
    OpenId { issuer: String, username_claim: String, groups_claim: String },
    GitHub { auth_url: String, token_url: String, api_url: String },
}

/// A token for asking a provider later whether it still knows a user. Does not print.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum RecheckToken {
    /// A refresh token (RFC 6749, 6).
    Refresh(String),
    /// An access token that does not expire.
    Access(String),
}

opaque_debug!(RecheckToken, RenewedTokens);

/// The user of a callback.
#[derive(Debug)]
pub(crate) struct ProviderSignIn {
    pub(crate) user: FederatedUser,
    pub(crate) recheck_token: Option<RecheckToken>,
}

/// Tokens for asking about a user. Does not print.
pub(crate) struct RenewedTokens {
    pub(crate) access: AccessToken,
    /// The token for the next time, if it is new. Store it before anything else, because the old one may be invalid
    /// now.
    pub(crate) recheck_token: Option<RecheckToken>,
}

/// The provider's answer about a user.
#[derive(Debug)]
pub(crate) enum RecheckOutcome {
    /// It knows the user. `groups` is `None` if the answer has no groups.
    Known { groups: Option<Vec<String>> },
    /// It does not know the user, or refuses the user's sign-in.
    Gone,
}

/// Why a sign-in through a provider failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no such provider")]
    UnknownProvider,
    /// The sign-in was not started by this browser, has expired or was used.
    #[error("{0}")]
    InvalidSignIn(&'static str),
    #[error("the provider does not support sign-in on another device")]
    NoDeviceFlow,
    /// The provider refused, with an error code of RFC 6749, 4.1.2.1, or the user refused there.
    #[error("the provider refuses: {word}")]
    Refused { word: String },
    /// The cause is for the log.
    #[error("the provider's response could not be verified: {cause}")]
    Invalid { cause: String },
    /// The claim would name the user.
    #[error("the provider does not send the claim {claim}")]
    MissingClaim { claim: String },
    /// The e-mail address would name the user.
    #[error("the provider has not verified the e-mail address")]
    UnverifiedEmail,
    #[error("the provider is unavailable: {cause}")]
    Unavailable { cause: String },
    /// Too many sign-ins, from one address or in total.
    #[error("too many sign-ins: try again in {seconds} s")]
    Busy { seconds: u64 },
}

impl From<outgoing::Error> for Error {
    fn from(error: outgoing::Error) -> Self {
        Self::Unavailable { cause: error.to_string() }
    }
}

/// A redirect to a provider.
#[derive(Debug)]
pub(crate) struct StartedRedirect {
    pub(crate) location: String,
    /// A cookie that the browser keeps for [`STATE_LIFETIME`].
    pub(crate) cookie: String,
}

/// The request with which a browser returns from a provider.
#[derive(Clone, Copy)]
pub(crate) struct CallbackRequest<'a> {
    /// The provider that the path names.
    pub(crate) provider: &'a str,
    /// The cookie of the pending sign-in.
    pub(crate) cookie: Option<&'a str>,
    pub(crate) state: Option<&'a str>,
    pub(crate) code: Option<&'a str>,
    /// The `iss` parameter (RFC 9207).
    pub(crate) issuer: Option<&'a str>,
    /// The error code that replaces `code` (RFC 6749, 4.1.2.1).
    pub(crate) error: Option<&'a str>,
    pub(crate) address: Option<IpAddr>,
}

impl fmt::Debug for CallbackRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackRequest").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// The providers of a registry.
#[derive(Debug)]
pub(crate) struct Providers {
    list: Vec<Provider>,
    targets: Targets,
    states: SignInStates,
    sealer: Sealer,
    rate_limit: WindowLimit,
    permits: Semaphore,
    polls: device::PollSchedule,
    sign_in_codes: SignInCodes,
    /// Limits the log lines about requests that no provider has answered.
    invalid: LogLimit,
    /// The same for providers that are unavailable.
    unavailable: LogLimit,
}

/// One provider.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) title: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    OpenId(Box<OpenId>),
    GitHub(Box<GitHub>),
}

impl Providers {
    /// Fails if a URL is invalid. Sends no request.
    pub(crate) fn prepare(settings: Settings) -> Result<PreparedProviders, String> {
        let Settings { providers, targets, client, with_recheck } = settings;
        let open = |provider| Provider::new(provider, &client, with_recheck);
        Ok(PreparedProviders { list: providers.into_iter().map(open).collect::<Result<_, _>>()?, targets })
    }

    /// `key` is the one from which signing and sealing keys are derived.
    pub(crate) fn new(PreparedProviders { list, targets }: PreparedProviders, key: &[u8; 32]) -> Self {
        Self {
            list,
            targets,
            states: SignInStates::new(key),
            sealer: Sealer::new(key),
            rate_limit: WindowLimit::default(),
            permits: Semaphore::new(AT_ONCE_MAX),
            polls: device::PollSchedule::default(),
            sign_in_codes: SignInCodes::default(),
            invalid: LogLimit::default(),
            unavailable: LogLimit::default(),
        }
    }

    /// The providers in the order of their names.
    pub(crate) fn list(&self) -> &[Provider] {
        &self.list
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Provider> {
        self.list.iter().find(|provider| provider.name == name)
    }

    /// The allowed targets after a sign-in.
    pub(crate) const fn targets(&self) -> &Targets {
        &self.targets
    }

    /// The sealer for data that clients keep for the registry.
    pub(crate) const fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// The codes that sign in programs.
    pub(crate) const fn sign_in_codes(&self) -> &SignInCodes {
        &self.sign_in_codes
    }

    /// Permits a request to a provider on behalf of a client.
    fn permit(&self, address: Option<IpAddr>) -> Result<SemaphorePermit<'_>, Error> {
        self.rate_limit.pass(address).map_err(|seconds| Error::Busy { seconds })?;
        self.permit_without_rate_limit()
    }

    fn permit_without_rate_limit(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.permits.try_acquire().map_err(|_| Error::Busy { seconds: 5 })
    }

    /// Logs a failed sign-in with the id of its request. Returns whether the log has a line: failures that clients can
    /// repeat without end are limited.
    pub(crate) fn log_failure(&self, id: &str, provider: Option<&str>, error: &Error) -> bool {
        let count = match error {
            Error::UnknownProvider | Error::InvalidSignIn(_) | Error::NoDeviceFlow | Error::Busy { .. } => {
                self.invalid.pass()
            }
            Error::Unavailable { .. } => self.unavailable.pass(),
            Error::Refused { .. } | Error::Invalid { .. } | Error::MissingClaim { .. } | Error::UnverifiedEmail => {
                Some(1)
            }
        };
        if let Some(count) = count {
            tracing::warn!(id, provider, %error, count, "a sign-in through a provider failed");
        }
        count.is_some()
    }

    /// Starts a sign-in that ends at a target.
    pub(crate) async fn start(
        &self,
        name: &str,
        target: Target,
        base: &str,
        now: Timestamp,
    ) -> Result<StartedRedirect, Error> {
        let provider = self.get(name).ok_or(Error::UnknownProvider)?;
        let (cookie, secrets) = self.states.start(name, target, now);
        let location = provider.authorization_url(&secrets, &callback(base, name)).await?;
        Ok(StartedRedirect { location, cookie })
    }

    /// Finishes a sign-in. Returns its user and target.
    pub(crate) async fn finish(
        &self,
        request: CallbackRequest<'_>,
        base: &str,
        now: Timestamp,
    ) -> Result<(ProviderSignIn, Target), Error> {
        let provider = self.get(request.provider).ok_or(Error::UnknownProvider)?;
        // First, so that guessing is slow and costs little.
        let _permit = self.permit(request.address)?;
        let started = self.states.finish(request.provider, request.cookie, request.state, now)?;
        provider.check_issuer(request.issuer).await?;
        if let Some(word) = request.error {
            return Err(Error::Refused { word: shown_word(word) });
        }
        let code = request.code.filter(|code| !code.is_empty() && code.len() <= CODE_BYTES_MAX);
        let code = code.ok_or(Error::InvalidSignIn("the provider's response has no code"))?;
        let signed_in = provider.redeem(code, &started.secrets, &callback(base, &provider.name), now).await?;
        Ok((signed_in, started.target))
    }
}

/// The callback URL that is registered at the provider.
fn callback(base: &str, name: &str) -> String {
    format!("{base}/zot/auth/callback/{name}")
}

/// The first word of a provider's text, which is safe to show.
fn shown_word(word: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || "_-.".contains(*c);
    word.chars().take_while(plain).take(60).collect()
}

/// Sorts groups and removes invalid ones.
fn groups(mut found: Vec<String>) -> Vec<String> {
    found.retain(|group| is_text(group));
    found.sort_unstable();
    found.dedup();
    found.truncate(GROUPS_MAX);
    found
}

/// Whether a provider's text is short enough and without control characters.
fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)
}

impl Provider {
    fn new(settings: ProviderSettings, client: &Client, with_recheck: bool) -> Result<Self, String> {
        let (name, title) = (settings.name.clone(), settings.title.clone());
        let kind = match settings.protocol {
            Protocol::OpenId { .. } => Kind::OpenId(Box::new(OpenId::new(settings, client, with_recheck)?)),
            Protocol::GitHub { .. } => Kind::GitHub(Box::new(GitHub::new(settings, client)?)),
        };
        Ok(Self { name, title, kind })
    }

    /// The issuer of the users' identities.
    pub(crate) fn issuer(&self) -> &str {
        match &self.kind {
            Kind::OpenId(openid) => openid.issuer(),
            Kind::GitHub(github) => github.issuer(),
        }
    }

    /// The OpenID Connect provider, for operations that GitHub lacks.
    pub(crate) fn openid(&self) -> Option<&OpenId> {
        match &self.kind {
            Kind::OpenId(openid) => Some(openid),
            Kind::GitHub(_) => None,
        }
    }

    async fn authorization_url(&self, secrets: &Secrets, callback: &str) -> Result<String, Error> {
        match &self.kind {
            Kind::OpenId(openid) => openid.authorization_url(secrets, callback).await,
            Kind::GitHub(github) => github.authorization_url(secrets, callback),
        }
    }

    async fn check_issuer(&self, issuer: Option<&str>) -> Result<(), Error> {
        match &self.kind {
            Kind::OpenId(openid) => openid.check_issuer(issuer).await,
            // GitHub does not send it.
            Kind::GitHub(_) if issuer.is_some() => {
                Err(Error::Invalid { cause: "it comes from another issuer".to_owned() })
            }
            Kind::GitHub(_) => Ok(()),
        }
    }

    async fn redeem(
        &self,
        code: &str,
        secrets: &Secrets,
        callback: &str,
        now: Timestamp,
    ) -> Result<ProviderSignIn, Error> {
        let mut signed_in = match &self.kind {
            Kind::OpenId(openid) => openid.redeem(code, secrets, callback, now).await?,
            Kind::GitHub(github) => github.redeem(code, secrets, callback).await?,
        };
        signed_in.user.provider.clone_from(&self.name);
        Ok(signed_in)
    }

    /// Gets new tokens for a user. `None` if the provider issues no more, because the user is gone.
    pub(crate) async fn renew(&self, token: RecheckToken, now: Timestamp) -> Result<Option<RenewedTokens>, Error> {
        match &self.kind {
            Kind::OpenId(openid) => openid.renew(token, now).await,
            Kind::GitHub(github) => github.renew(token).await,
        }
    }

    /// Checks whether the provider still knows a user.
    pub(crate) async fn recheck(&self, subject: &str, access: &AccessToken) -> Result<RecheckOutcome, Error> {
        match &self.kind {
            Kind::OpenId(openid) => openid.recheck(subject, access).await,
            Kind::GitHub(github) => github.recheck(subject, access).await,
        }
    }
}

impl RecheckToken {
    /// The text to seal.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Refresh(token) => format!("r{token}"),
            Self::Access(token) => format!("a{token}"),
        }
    }

    /// Parses the text of [`to_text`](Self::to_text).
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let token = text.get(1..)?.to_owned();
        match text.as_bytes()[0] {
            b'r' => Some(Self::Refresh(token)),
            b'a' => Some(Self::Access(token)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_that_clients_can_repeat_are_limited_in_the_log() {
        let providers = Providers::new(PreparedProviders { list: Vec::new(), targets: Targets::default() }, &[0; 32]);
        let logs = |error| providers.log_failure("1", None, &error);
        assert!(logs(Error::UnknownProvider));
        assert!(!logs(Error::InvalidSignIn("the sign-in has expired")));
        assert!(logs(Error::Unavailable { cause: "timeout".to_owned() }));
        assert!(!logs(Error::Unavailable { cause: "timeout".to_owned() }));
        for _ in 0..2 {
            assert!(logs(Error::Invalid { cause: "wrong nonce".to_owned() }));
        }
    }
}
