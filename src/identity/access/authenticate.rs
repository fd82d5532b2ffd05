//! [`Authenticator`]: finds the caller for the credentials of a request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::{HeaderMap, Method};

use super::credential_cache::CachedCaller;
use super::{
    Caller, ClientCertificate, Credential, CredentialCache, Credentials, Identity, InvalidCredentials, Surface,
    TokenCredential,
};
use crate::identity::accounts::{
    Account, Accounts, DerivedFrom, Error, KeyGrant, NotSignedIn, Origin, Password, SessionId, SignedIn, Throttled,
    TooBusy,
};
use crate::identity::tokens::{Holder, InvalidToken, IssuedFor, Tokens};
use crate::identity::workload::{Reason, Refused, Rule, Workload, Workloads};
use crate::kit::clock::Timestamp;

/// User names of Quay's app tokens and OAuth tokens. With them, the key alone identifies its owner.
const ANY_OWNER: [&str; 2] = ["$app", "$oauthtoken"];

/// Authenticates requests.
#[derive(Debug)]
pub(crate) struct Authenticator {
    accounts: Arc<Accounts>,
    tokens: Arc<Tokens>,
    workloads: Workloads,
}

/// The parts of a request that authentication and the audit need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestInfo<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) surface: Surface,
    pub(crate) address: Option<IpAddr>,
    /// The other end of the connection: the client or a proxy.
    pub(crate) peer: Option<SocketAddr>,
    /// The client certificate of the connection.
    pub(crate) certificate: &'a ClientCertificate,
    /// The credentials that the connection presented last.
    pub(crate) credential_cache: &'a CredentialCache,
    pub(crate) agent: &'a str,
    pub(crate) request: &'a str,
}

/// The caller, and what happened to the session.
#[derive(Debug)]
pub(crate) struct Authenticated {
    pub(crate) caller: Caller,
    /// A session that this request started.
    pub(crate) started: Option<SessionId>,
    /// Whether the session of zot's web page has ended, so that its cookie must be removed.
    pub(crate) ended: bool,
}

/// The caller of a verified ID token, and the times of the token.
#[derive(Debug)]
pub(crate) struct IdToken {
    pub(crate) caller: Caller,
    pub(crate) issued: Timestamp,
    pub(crate) expires: Timestamp,
}

impl From<Caller> for Authenticated {
    fn from(caller: Caller) -> Self {
        Self { caller, started: None, ended: false }
    }
}

/// Why authentication failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAuthenticated {
    /// The headers are invalid.
    #[error(transparent)]
    Invalid(InvalidCredentials),
    /// The password, or the API key that was given as a password, is not accepted.
    #[error(transparent)]
    SignIn(#[from] NotSignedIn),
    /// The bearer token is an API key that is not accepted.
    #[error("invalid or expired API key")]
    WrongBearer,
    /// The client certificate names no user.
    #[error("the client certificate names no user: it lacks what http.auth.mtls asks for")]
    CertificateNamesNone,
    /// The client certificate names a user who does not exist or is disabled.
    #[error("the client certificate names {0:?}, who cannot sign in")]
    CertificateUser(String),
    #[error("the client certificate has expired")]
    CertificateExpired,
    #[error(transparent)]
    Token(InvalidToken),
    /// The ID token of a workload is refused. The audit has the reason.
    #[error("the token is not valid for this registry")]
    IdToken,
    /// The keys of the issuer of an ID token cannot be read. The cause is for the log.
    #[error("{0}")]
    IssuerAway(String),
    /// The look-up failed.
    #[error(transparent)]
    Accounts(#[from] Error),
}

impl RequestInfo<'_> {
    /// The origin of a change for the audit.
    pub(crate) fn origin(&self, performer: Option<&str>) -> Origin {
        Origin {
            performer: performer.map(str::to_owned),
            address: self.address.map(|address| address.to_string()),
            peer: self.peer.map(|peer| peer.to_string()),
            agent: self.agent.to_owned(),
            method: Some(self.method.to_string()),
            request: Some(self.request.to_owned()),
        }
    }
}

impl Authenticator {
    pub(crate) fn new(accounts: Arc<Accounts>, tokens: Arc<Tokens>, workloads: Workloads) -> Self {
        Self { accounts, tokens, workloads }
    }

    /// Whether ID tokens of workloads are accepted.
    pub(crate) fn accepts_workloads(&self) -> bool {
        self.workloads.is_on()
    }

    /// Authenticates a request. A password from zot's web page starts a session.
    pub(crate) async fn authenticate(&self, info: &RequestInfo<'_>) -> Result<Authenticated, NotAuthenticated> {
        // Read before the look-ups, so that a change during them invalidates the cached result.
        let generation = self.accounts.generation();
        if let Some(cached) = info.credential_cache.get(info.headers, info.surface, generation)
            && self.is_still_valid(&cached)?
        {
            self.record_use(&cached.caller.credential, info);
            return Ok(cached.caller.into());
        }
        let from_page = Credentials::from_page(info.headers);
        let found = match Credentials::read(info.headers, info.surface).map_err(NotAuthenticated::Invalid)? {
            Credentials::None => return Ok(self.certificate(info)?.into()),
            Credentials::Token(token) => Box::pin(self.bearer(token.reveal(), info)).await?.into(),
            Credentials::PasswordOrToken { token, .. } if self.workloads.is_on() => {
                Box::pin(self.id_token(token.reveal(), info)).await?.caller.into()
            }
            Credentials::PasswordOrToken { password: None, .. } => {
                return Err(NotAuthenticated::Invalid(InvalidCredentials::LONG_PASSWORD));
            }
            Credentials::Session(id) => match self.accounts.session(&id)? {
                Some((account, grant)) => caller(account, Credential::Session(grant)).into(),
                None => return Ok(Authenticated { ended: from_page, ..Caller::ANONYMOUS.into() }),
            },
            Credentials::Key { user, hash } => self.key(user.as_deref(), &hash)?.into(),
            Credentials::Basic { user, password }
            | Credentials::PasswordOrToken { user, password: Some(password), .. } => {
                let found = Box::pin(self.password(&user, password, info)).await?;
                if let Some(account) = found.caller.account().filter(|_| from_page) {
                    let started = Box::pin(self.start_session(account, info)).await?;
                    return Ok(Authenticated { started, ..found.caller.into() });
                }
                found
            }
        };
        self.record_use(&found.caller.credential, info);
        info.credential_cache.put(info.headers, info.surface, generation, found.clone());
        Ok(found.caller.into())
    }

    /// The user whom the client certificate of a connection names. A browser sends it by itself, so pages and Quay's API do not
    /// take it.
    fn certificate(&self, info: &RequestInfo<'_>) -> Result<Caller, NotAuthenticated> {
        if info.surface != Surface::Registry {
            return Ok(Caller::ANONYMOUS);
        }
        let user = match info.certificate {
            ClientCertificate::None => return Ok(Caller::ANONYMOUS),
            ClientCertificate::NamesNone => return Err(NotAuthenticated::CertificateNamesNone),
            ClientCertificate::Names { until, .. } if *until <= self.tokens.now() => {
                return Err(NotAuthenticated::CertificateExpired);
            }
            ClientCertificate::Names { user, .. } => user,
        };
        let account = self.accounts.account(user)?.filter(|account| account.may_sign_in());
        let account = account.ok_or_else(|| NotAuthenticated::CertificateUser(user.to_string()))?;
        Ok(caller(account, Credential::Certificate))
    }

    /// Authenticates a user name with a password or an API key.
    pub(crate) async fn sign_in(
        &self,
        user: &str,
        password: &str,
        info: &RequestInfo<'_>,
    ) -> Result<Caller, NotAuthenticated> {
        match Credentials::of_pair(user, password).map_err(NotAuthenticated::Invalid)? {
            Credentials::Key { user, hash } => {
                let caller = self.key(user.as_deref(), &hash)?;
                self.record_use(&caller.credential, info);
                Ok(caller)
            }
            Credentials::PasswordOrToken { token, .. } if self.workloads.is_on() => {
                Ok(self.id_token(token.reveal(), info).await?.caller)
            }
            Credentials::PasswordOrToken { password: None, .. } => {
                Err(NotAuthenticated::Invalid(InvalidCredentials::LONG_PASSWORD))
            }
            Credentials::Basic { user, password }
            | Credentials::PasswordOrToken { user, password: Some(password), .. } => {
                Ok(self.password(&user, password, info).await?.caller)
            }
            Credentials::None | Credentials::Session(_) | Credentials::Token(_) => Ok(Caller::ANONYMOUS),
        }
    }

    async fn password(
        &self,
        user: &str,
        password: Password,
        info: &RequestInfo<'_>,
    ) -> Result<CachedCaller, NotAuthenticated> {
        let SignedIn { account, fingerprint } =
            self.accounts.sign_in(user, password, info.address, || info.origin(None)).await?;
        Ok(CachedCaller { caller: caller(account, Credential::Password), fingerprint: Some(fingerprint) })
    }

    /// Records the use of a key or session.
    fn record_use(&self, credential: &Credential, info: &RequestInfo<'_>) {
        match credential {
            Credential::Key(grant) => self.accounts.key_used(&grant.hash, info.address, info.agent),
            Credential::Session(grant) => self.accounts.session_used(&grant.hash, info.address, info.agent),
            Credential::None
            | Credential::Password
            | Credential::IdToken
            | Credential::Certificate
            | Credential::Token(_) => {}
        }
    }

    /// Verifies a bearer token: the ID token of a workload, or an access token.
    async fn bearer(&self, token: &str, info: &RequestInfo<'_>) -> Result<Caller, NotAuthenticated> {
        if !self.workloads.is_on() || self.tokens.names_own_key(token) {
            return self.token(token);
        }
        if self.workloads.issues(token) {
            return Ok(self.id_token(token, info).await?.caller);
        }
        match self.token(token) {
            // It is not a token of the external token issuer either.
            Err(NotAuthenticated::Token(InvalidToken::Forged)) => Ok(self.id_token(token, info).await?.caller),
            result => result,
        }
    }

    /// Verifies the ID token of a workload. A refusal is audited with its reason, which clients do not see.
    pub(crate) async fn id_token(&self, token: &str, info: &RequestInfo<'_>) -> Result<IdToken, NotAuthenticated> {
        let refused = match self.workloads.verify(token, self.tokens.now()).await {
            Ok(verified) => match self.workload(verified.name, &verified.rule)? {
                Some(workload) => {
                    let caller = Caller { identity: Identity::Workload(workload), credential: Credential::IdToken };
                    return Ok(IdToken { caller, issued: verified.issued, expires: verified.expires });
                }
                None => Refused { issuer: Some(verified.issuer), reason: Reason::NoUser },
            },
            Err(refused) => refused,
        };
        self.workloads.count_refusal(info.address).map_err(|seconds| NotSignedIn::Throttled(Throttled { seconds }))?;
        let Refused { issuer, reason } = refused;
        let (accounts, origin, why) = (Arc::clone(&self.accounts), info.origin(None), reason.to_string());
        // The refusal waits for the disk, so that guessers cannot queue up more rows than they have requests.
        let auditing = tokio::task::spawn_blocking(move || {
            let metadata = [("issuer", issuer.as_deref().unwrap_or_default()), ("reason", &why)];
            if let Err(error) = accounts.note("login_failure", "", &metadata, &origin) {
                tracing::error!(%error, "cannot store the audit row of a refused token");
            }
        });
        let _ = auditing.await;
        Err(match reason {
            Reason::Unavailable(_) => NotAuthenticated::IssuerAway(reason.to_string()),
            _ => NotAuthenticated::IdToken,
        })
    }

    /// The workload of a name that a rule admits. `None` if the rule names a user who may not sign in.
    fn workload(&self, name: String, rule: &Arc<Rule>) -> Result<Option<Arc<Workload>>, NotAuthenticated> {
        let account = match &rule.user {
            None => Arc::new(Account::of_workload(&name, &rule.groups)),
            Some(user) => match self.accounts.account(user)?.filter(|account| account.may_sign_in()) {
                Some(account) if rule.groups.is_empty() => account,
                Some(account) => Arc::new(account.with_groups(&rule.groups)),
                None => return Ok(None),
            },
        };
        Ok(Some(Arc::new(Workload { name, account, rule: Arc::clone(rule) })))
    }

    /// Verifies a token and the user and credential that it was issued for.
    fn token(&self, token: &str) -> Result<Caller, NotAuthenticated> {
        let grant = self.tokens.verify(token).map_err(NotAuthenticated::Token)?;
        let revoked = || NotAuthenticated::Token(InvalidToken::Revoked);
        let without_account = |identity, grant| {
            let credential = Credential::Token(TokenCredential { grant, key: None });
            Ok(Caller { identity, credential })
        };
        let (user, by) = match &grant.holder {
            Holder::Local { user: Some(name), by: IssuedFor::Workload(rule) } => {
                let rule = self.workloads.rule(rule).ok_or_else(revoked)?;
                let workload = self.workload(name.clone(), rule)?.ok_or_else(revoked)?;
                return without_account(Identity::Workload(workload), grant);
            }
            Holder::Local { user: Some(user), by } => (user, by),
            Holder::Local { user: None, by: IssuedFor::Anonymous } => {
                return without_account(Identity::Anonymous, grant);
            }
            Holder::Local { user: None, .. } => return Err(revoked()),
            Holder::External(holder) => return without_account(Identity::External(Arc::clone(holder)), grant),
        };
        let account = self.accounts.account(user)?.filter(|account| account.may_sign_in()).ok_or_else(revoked)?;
        let (derived_from, key) = match *by {
            IssuedFor::Password(stamp) => (DerivedFrom::SignIn(Some(stamp)), None),
            IssuedFor::Refresh(id) => {
                (self.accounts.refresh_grant_by_id(user, id)?.ok_or_else(revoked)?.derived_from(), None)
            }
            IssuedFor::Key(id) => {
                let key = self.accounts.key_grant_by_id(user, id)?.ok_or_else(revoked)?;
                (key.derived_from(), Some(key))
            }
            IssuedFor::Anonymous | IssuedFor::Workload(_) => return Err(revoked()),
        };
        if !account.accepts(derived_from) {
            return Err(revoked());
        }
        Ok(caller(account, Credential::Token(TokenCredential { grant, key })))
    }

    /// Whether a cached caller has not expired. `false` requires another look-up.
    fn is_still_valid(&self, cached: &CachedCaller) -> Result<bool, NotAuthenticated> {
        let alive = |key: &KeyGrant| self.accounts.is_alive(key);
        match &cached.caller.credential {
            Credential::Key(key) => Ok(alive(key)),
            Credential::Token(token) if token.key.as_ref().is_some_and(|key| !alive(key)) => {
                Err(NotAuthenticated::Token(InvalidToken::Revoked))
            }
            Credential::Token(token) => {
                self.tokens.check_times(&token.grant).map(|()| true).map_err(NotAuthenticated::Token)
            }
            Credential::Session(grant) => Ok(self.accounts.is_alive_session(grant)),
            Credential::Password => {
                Ok(cached.fingerprint.is_some_and(|found| self.accounts.is_cached_password(&found)))
            }
            Credential::None | Credential::Certificate => Ok(true),
            Credential::IdToken => Ok(false),
        }
    }

    /// Finds the owner of a key. A user name must be the owner's, the owner's unique e-mail address, or one of
    /// [`ANY_OWNER`].
    fn key(&self, user: Option<&str>, hash: &[u8; 32]) -> Result<Caller, NotAuthenticated> {
        // Bearer tokens have no user name.
        let wrong = || if user.is_none() { NotAuthenticated::WrongBearer } else { NotSignedIn::Wrong.into() };
        let grant = self.accounts.key_grant(hash)?.ok_or_else(wrong)?;
        if let Some(user) = user.filter(|user| *user != grant.owner && !ANY_OWNER.contains(user)) {
            let meant = self.accounts.account_or_address(user)?;
            if meant.is_none_or(|meant| meant.name != grant.owner) {
                return Err(wrong());
            }
        }
        let account = self.accounts.account(&grant.owner)?;
        let account = account.filter(|account| account.accepts(grant.derived_from()));
        Ok(caller(account.ok_or_else(wrong)?, Credential::Key(grant)))
    }

    /// Starts a session, unless the page already has one of the same user.
    async fn start_session(
        &self,
        account: &Arc<Account>,
        info: &RequestInfo<'_>,
    ) -> Result<Option<SessionId>, NotAuthenticated> {
        let cookie = Credentials::cookie(info.headers);
        if let Some(cookie) = &cookie
            && self.accounts.session(cookie)?.is_some_and(|(owner, _)| owner.name == account.name)
        {
            return Ok(None);
        }
        let (accounts, account) = (Arc::clone(&self.accounts), Arc::clone(account));
        let origin = info.origin(Some(&account.name));
        let starting = tokio::task::spawn_blocking(move || accounts.start_session(&account, cookie.as_ref(), &origin));
        let (id, _) = starting.await.map_err(|_| NotSignedIn::from(TooBusy))??;
        Ok(Some(id))
    }
}

fn caller(account: Arc<Account>, credential: Credential) -> Caller {
    Caller { identity: Identity::User(account), credential }
}
