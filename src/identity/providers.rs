//! Sign-in through providers: OpenID Connect, and OAuth with GitHub's API.
//!
//! A [`Provider`] sends a browser to where its user signs in, and finds out who came back; [`Providers`] binds the two
//! halves to each other and to the browser. What must hold: nobody is believed to be somebody but on a provider's
//! word that was asked for here, by this browser, a short while ago, and that has not been used yet; what is away or
//! lies is an error, and neither a wait without an end nor a crash; no secret, code or token is in a message or
//! prints. Nothing is stored here of a sign-in under way: the browser keeps it, signed. Knows no route and no
//! database, and not what becomes of who signs in.

mod client;
mod client_key;
mod device;
mod github;
mod openid;
mod rate_limit;
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
use crate::kit::outgoing::{self, Client};
pub(crate) use client_key::ClientKey;
pub(crate) use device::DevicePoll;
pub(crate) use openid::OpenId;
use rate_limit::RateLimit;
pub(crate) use seal::Sealer;
pub(crate) use sign_in_code::{CONFIRM_LIFETIME, ProgramRequest, SignInCodes};
use state::States;
pub(crate) use state::{STATE_LIFETIME, Secrets};
pub(crate) use target::{Target, Targets};

use github::GitHub;

/// So many requests of people ask providers at the same time; a further one is told to come back.
const AT_ONCE_MAX: usize = 64;
/// The clocks of providers may go wrong by as much.
const CLOCK_SKEW: Duration = Duration::from_mins(1);
/// The longest code of a provider that is passed on, in bytes.
const CODE_BYTES_MAX: usize = 4096;
/// The longest text that is taken of a provider: names, addresses, subjects and groups, in bytes. 255 characters are
/// the longest subject (OpenID Connect Core, 2).
const TEXT_BYTES_MAX: usize = 255;
/// As many groups of one person are kept.
const GROUPS_MAX: usize = 1000;

/// What the operator decides.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) providers: Vec<ProviderSettings>,
    pub(crate) targets: Targets,
    pub(crate) client: Client,
    /// What everything here is signed and sealed with.
    pub(crate) key: [u8; 32],
    /// Whether tokens are asked for by which a provider can be asked again.
    pub(crate) recheck_token: bool,
}

/// One provider, as it was configured.
#[derive(Debug)]
pub(crate) struct ProviderSettings {
    /// The end of its routes.
    pub(crate) name: String,
    /// What people read.
    pub(crate) title: String,
    pub(crate) client_id: ClientId,
    pub(crate) client_secret: Option<ClientSecret>,
    pub(crate) client_key: Option<ClientKey>,
    pub(crate) scopes: Vec<String>,
    pub(crate) protocol: Protocol,
}

/// How a provider is spoken to.
#[derive(Debug)]
pub(crate) enum Protocol {
    OpenId { issuer: String, username_claim: String, groups_claim: String },
    GitHub { auth_url: String, token_url: String, api_url: String },
}

/// By what a provider can be asked again. Does not print.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum RecheckToken {
    /// A refresh token (RFC 6749, 6).
    Refresh(String),
    /// An access token that does not end by itself.
    Access(String),
}

impl fmt::Debug for RecheckToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecheckToken")
    }
}

/// Whoever has come back from a provider.
#[derive(Debug)]
pub(crate) struct SignedIn {
    pub(crate) user: FederatedUser,
    pub(crate) recheck_token: Option<RecheckToken>,
}

/// Tokens to ask about somebody again.
pub(crate) struct Renewed {
    pub(crate) access: AccessToken,
    /// What to ask with the next time, if it is not what was asked with: that may not count any more, so that this is
    /// to be kept before anything else is done.
    pub(crate) recheck_token: Option<RecheckToken>,
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewed")
    }
}

/// What a provider says when it is asked again.
#[derive(Debug)]
pub(crate) enum RecheckOutcome {
    /// It knows the person still; of these groups, if it says so.
    Known { groups: Option<Vec<String>> },
    /// It does not know them any more, or they may not sign in there.
    Gone,
}

/// Why nobody has signed in.
#[derive(Debug)]
pub(crate) enum Error {
    /// There is no such provider.
    Unknown,
    /// The sign-in was not begun by this browser, or too long ago, or was used already.
    NotBegun(&'static str),
    /// The provider does not let people sign in with another device.
    NoDevice,
    /// The provider says no, with a word of RFC 6749, 4.1.2.1; or the person has said no there.
    Refused { word: String },
    /// The provider's word does not hold. What about it is for the log.
    Invalid { cause: String },
    /// The provider does not say what the person is called.
    Nameless { claim: String },
    /// The provider says that the address, which is the name, is not known to be the person's.
    Unverified,
    /// The provider cannot be asked, or does not answer as one does.
    Away { cause: String },
    /// Too many come back, from one address or at all.
    Busy { seconds: u64 },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no such provider"),
            Self::NotBegun(why) => f.write_str(why),
            Self::NoDevice => f.write_str("the provider does not let people sign in with another device"),
            Self::Refused { word } => write!(f, "the provider refuses: {word}"),
            Self::Invalid { cause } => write!(f, "the provider's answer does not hold: {cause}"),
            Self::Nameless { claim } => write!(f, "the provider does not say the claim {claim}"),
            Self::Unverified => f.write_str("the provider has not verified the e-mail address"),
            Self::Away { cause } => write!(f, "the provider cannot be asked: {cause}"),
            Self::Busy { seconds } => write!(f, "too many sign in: try again in {seconds} seconds"),
        }
    }
}

impl std::error::Error for Error {}

impl From<outgoing::Error> for Error {
    fn from(error: outgoing::Error) -> Self {
        Self::Away { cause: error.to_string() }
    }
}

/// The way there.
#[derive(Debug)]
pub(crate) struct StartedRedirect {
    /// Where the browser goes.
    pub(crate) location: String,
    /// What it keeps, for [`STATE_LIFETIME`].
    pub(crate) cookie: String,
}

/// What a browser brings back.
#[derive(Clone, Copy)]
pub(crate) struct CallbackRequest<'a> {
    /// The provider that the path names.
    pub(crate) provider: &'a str,
    /// What the browser has kept.
    pub(crate) cookie: Option<&'a str>,
    pub(crate) state: Option<&'a str>,
    pub(crate) code: Option<&'a str>,
    /// Who says that they have sent it (RFC 9207).
    pub(crate) issuer: Option<&'a str>,
    /// In place of a code (RFC 6749, 4.1.2.1).
    pub(crate) error: Option<&'a str>,
    pub(crate) address: Option<IpAddr>,
}

impl fmt::Debug for CallbackRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackRequest").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Every provider of a registry, and the sign-ins under way.
#[derive(Debug)]
pub(crate) struct Providers {
    list: Vec<Provider>,
    targets: Targets,
    states: States,
    sealer: Sealer,
    rate_limit: RateLimit,
    permits: Semaphore,
    polls: device::PollSchedule,
    sign_in_codes: SignInCodes,
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
    /// Opens nothing yet: a provider is asked at its first sign-in. Says what is wrong with a URL.
    pub(crate) fn new(settings: Settings) -> Result<Self, String> {
        let Settings { providers, targets, client, key, recheck_token } = settings;
        let open = |provider| Provider::new(provider, &client, recheck_token);
        Ok(Self {
            list: providers.into_iter().map(open).collect::<Result<_, _>>()?,
            targets,
            states: States::new(&key),
            sealer: Sealer::new(&key),
            rate_limit: RateLimit::default(),
            permits: Semaphore::new(AT_ONCE_MAX),
            polls: device::PollSchedule::default(),
            sign_in_codes: SignInCodes::default(),
        })
    }

    /// In the order of their names.
    pub(crate) fn list(&self) -> &[Provider] {
        &self.list
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Provider> {
        self.list.iter().find(|provider| provider.name == name)
    }

    /// Where browsers may be sent at the end.
    pub(crate) const fn targets(&self) -> &Targets {
        &self.targets
    }

    /// What seals what others keep for the registry.
    pub(crate) const fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// What programs are signed in with.
    pub(crate) const fn sign_in_codes(&self) -> &SignInCodes {
        &self.sign_in_codes
    }

    /// A turn to ask a provider something on behalf of somebody at this address.
    pub(crate) fn turn(&self, address: Option<IpAddr>) -> Result<SemaphorePermit<'_>, Error> {
        self.rate_limit.pass(address).map_err(|seconds| Error::Busy { seconds })?;
        self.permits.try_acquire().map_err(|_| Error::Busy { seconds: 5 })
    }

    /// Begins a sign-in that ends at a target.
    pub(crate) async fn begin(
        &self,
        name: &str,
        target: Target,
        base: &str,
        now: Timestamp,
    ) -> Result<StartedRedirect, Error> {
        let provider = self.get(name).ok_or(Error::Unknown)?;
        let (cookie, secrets) = self.states.begin(name, target, now);
        let location = provider.authorization_url(&secrets, &callback(base, name)).await?;
        Ok(StartedRedirect { location, cookie })
    }

    /// Finds out who has come back, and where they want to go.
    pub(crate) async fn finish(
        &self,
        returned: CallbackRequest<'_>,
        base: &str,
        now: Timestamp,
    ) -> Result<(SignedIn, Target), Error> {
        let provider = self.get(returned.provider).ok_or(Error::Unknown)?;
        // Before anything is looked at: guessing is slow, and remembers little.
        let _turn = self.turn(returned.address)?;
        let begun = self.states.finish(returned.provider, returned.cookie, returned.state, now)?;
        provider.check_issuer(returned.issuer).await?;
        if let Some(word) = returned.error {
            return Err(Error::Refused { word: shown_word(word) });
        }
        let code = returned.code.filter(|code| !code.is_empty() && code.len() <= CODE_BYTES_MAX);
        let code = code.ok_or(Error::NotBegun("the provider's answer has no code"))?;
        let signed_in = provider.redeem(code, &begun.secrets, &callback(base, &provider.name), now).await?;
        Ok((signed_in, begun.target))
    }
}

/// Where a provider sends browsers back to: the one URL that is registered there.
fn callback(base: &str, name: &str) -> String {
    format!("{base}/zot/auth/callback/{name}")
}

/// A word of the provider's, for people: no more than a word.
fn shown_word(word: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || "_-.".contains(*c);
    word.chars().take_while(plain).take(60).collect()
}

/// Groups as they are kept: sorted, without those that are none.
fn groups(mut found: Vec<String>) -> Vec<String> {
    found.retain(|group| is_text(group));
    found.sort_unstable();
    found.dedup();
    found.truncate(GROUPS_MAX);
    found
}

/// Whether a text of a provider's can be kept, and shown on one line.
fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)
}

impl Provider {
    fn new(settings: ProviderSettings, client: &Client, recheck_token: bool) -> Result<Self, String> {
        let (name, title) = (settings.name.clone(), settings.title.clone());
        let kind = match settings.protocol {
            Protocol::OpenId { .. } => Kind::OpenId(Box::new(OpenId::new(settings, client, recheck_token)?)),
            Protocol::GitHub { .. } => Kind::GitHub(Box::new(GitHub::new(settings, client)?)),
        };
        Ok(Self { name, title, kind })
    }

    /// Who says who somebody is.
    pub(crate) fn issuer(&self) -> &str {
        match &self.kind {
            Kind::OpenId(openid) => openid.issuer(),
            Kind::GitHub(github) => github.issuer(),
        }
    }

    /// The provider as one of OpenID, for what GitHub has not.
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

    async fn check_issuer(&self, said: Option<&str>) -> Result<(), Error> {
        match &self.kind {
            Kind::OpenId(openid) => openid.check_issuer(said).await,
            // GitHub does not say it; who says it is somebody else.
            Kind::GitHub(_) if said.is_some() => Err(Error::Invalid { cause: "another issuer has sent it".to_owned() }),
            Kind::GitHub(_) => Ok(()),
        }
    }

    async fn redeem(&self, code: &str, secrets: &Secrets, callback: &str, now: Timestamp) -> Result<SignedIn, Error> {
        let mut signed_in = match &self.kind {
            Kind::OpenId(openid) => openid.redeem(code, secrets, callback, now).await?,
            Kind::GitHub(github) => github.redeem(code, secrets, callback).await?,
        };
        signed_in.user.provider.clone_from(&self.name);
        Ok(signed_in)
    }

    /// Tokens to ask with about somebody; none, if the provider gives them none any more: they are gone.
    pub(crate) async fn renew(&self, by: RecheckToken, now: Timestamp) -> Result<Option<Renewed>, Error> {
        match &self.kind {
            Kind::OpenId(openid) => openid.renew(by, now).await,
            Kind::GitHub(github) => github.renew(by).await,
        }
    }

    /// Asks whether the provider still knows somebody.
    pub(crate) async fn ask(&self, subject: &str, access: &AccessToken) -> Result<RecheckOutcome, Error> {
        match &self.kind {
            Kind::OpenId(openid) => openid.ask(subject, access).await,
            Kind::GitHub(github) => github.ask(subject, access).await,
        }
    }
}

impl RecheckToken {
    /// As it is sealed.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Refresh(token) => format!("r{token}"),
            Self::Access(token) => format!("a{token}"),
        }
    }

    /// What [`to_text`](Self::to_text) has made.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let token = text.get(1..)?.to_owned();
        match text.as_bytes()[0] {
            b'r' => Some(Self::Refresh(token)),
            b'a' => Some(Self::Access(token)),
            _ => None,
        }
    }
}
