//! [`Authenticator`]: credentials → caller.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::HeaderMap;

use super::credential_cache::CachedCaller;
use super::{Caller, Credential, CredentialCache, Credentials, Identity, InvalidCredentials, Surface, TokenCredential};
use crate::identity::accounts::{
    Account, Accounts, DerivedFrom, Error, KeyGrant, NotSignedIn, Origin, Password, SessionGrant, SessionId, SignedIn,
    Throttled,
};
use crate::identity::tokens::{Holder, InvalidToken, IssuedFor, Tokens};

/// What Quay's users give as the name where the password says whose it is: an app token or an OAuth token.
const ANY_OWNER: [&str; 2] = ["$app", "$oauthtoken"];

/// Whose a credential is, and what it gives.
type Owned<T> = (Arc<Account>, Arc<T>);

/// Finds out who asks.
#[derive(Debug)]
pub(crate) struct Authenticator {
    accounts: Arc<Accounts>,
    tokens: Arc<Tokens>,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestInfo<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) surface: Surface,
    pub(crate) address: Option<IpAddr>,
    /// Who is at the other end of the connection: the client, or a proxy.
    pub(crate) peer: Option<SocketAddr>,
    /// What came before on the same connection.
    pub(crate) memo: &'a CredentialCache,
    pub(crate) agent: &'a str,
    pub(crate) request: &'a str,
}

/// Who asks, and what became of their session.
#[derive(Debug)]
pub(crate) struct Authenticated {
    pub(crate) caller: Caller,
    /// A session that was begun by this request.
    pub(crate) begun: Option<SessionId>,
    /// Whether the page's session has ended, and its cookie should go.
    pub(crate) ended: bool,
}

impl From<Caller> for Authenticated {
    fn from(caller: Caller) -> Self {
        Self { caller, begun: None, ended: false }
    }
}

/// Why it is not known who asks.
#[derive(Debug)]
pub(crate) enum NotAuthenticated {
    /// The headers cannot be understood.
    Invalid(InvalidCredentials),
    /// The credentials are wrong; what about them is not said.
    Wrong,
    /// The bearer token is an API key that is wrong.
    WrongBearer,
    /// The token does not count.
    Token(InvalidToken),
    /// Too many wrong passwords were given.
    Throttled(Throttled),
    /// Too many passwords are being verified.
    TooBusy,
    /// The look-up failed.
    Accounts(Error),
}

impl From<Error> for NotAuthenticated {
    fn from(error: Error) -> Self {
        Self::Accounts(error)
    }
}

impl From<NotSignedIn> for NotAuthenticated {
    fn from(error: NotSignedIn) -> Self {
        match error {
            NotSignedIn::Wrong => Self::Wrong,
            NotSignedIn::Throttled(throttled) => Self::Throttled(throttled),
            NotSignedIn::TooBusy => Self::TooBusy,
            NotSignedIn::Accounts(error) => Self::Accounts(error),
        }
    }
}

impl RequestInfo<'_> {
    /// The same, for the audit.
    pub(crate) fn origin(&self, performer: Option<&str>) -> Origin {
        Origin {
            performer: performer.map(str::to_owned),
            address: self.address.map(|address| address.to_string()),
            peer: self.peer.map(|peer| peer.to_string()),
            agent: self.agent.to_owned(),
            request: Some(self.request.to_owned()),
        }
    }
}

impl Authenticator {
    pub(crate) fn new(accounts: Arc<Accounts>, tokens: Arc<Tokens>) -> Self {
        Self { accounts, tokens }
    }

    /// Who sent this request. A password that comes from zot's web page begins a session.
    pub(crate) async fn authenticate(&self, visit: &RequestInfo<'_>) -> Result<Authenticated, NotAuthenticated> {
        // Before anything is looked up: what changes meanwhile is looked up again the next time.
        let generation = self.accounts.generation();
        if let Some(known) = visit.memo.get(visit.headers, visit.surface, generation)
            && self.is_still_good(&known)?
        {
            self.used(&known.caller.credential, visit);
            return Ok(known.caller.into());
        }
        let from_page = Credentials::from_page(visit.headers);
        let known = match Credentials::read(visit.headers, visit.surface).map_err(NotAuthenticated::Invalid)? {
            Credentials::None => return Ok(Caller::ANONYMOUS.into()),
            Credentials::Token(token) => self.token(&token.0)?.into(),
            Credentials::Session(id) => match self.session(&id)? {
                Some((account, grant)) => caller(account, Credential::Session(grant)).into(),
                None => return Ok(Authenticated { ended: from_page, ..Caller::ANONYMOUS.into() }),
            },
            Credentials::Key { user, hash } => self.by_key(user.as_deref(), &hash)?.into(),
            Credentials::Basic { user, password } => {
                let known = Box::pin(self.by_password(&user, password, visit)).await?;
                if let Some(account) = known.caller.account().filter(|_| from_page) {
                    let begun = Box::pin(self.begin(account, visit)).await?;
                    return Ok(Authenticated { begun, ..known.caller.into() });
                }
                known
            }
        };
        self.used(&known.caller.credential, visit);
        visit.memo.put(visit.headers, visit.surface, generation, known.clone());
        Ok(known.caller.into())
    }

    /// Who has this name, and this password or API key.
    pub(crate) async fn sign_in(
        &self,
        user: &str,
        password: &str,
        visit: &RequestInfo<'_>,
    ) -> Result<Caller, NotAuthenticated> {
        match Credentials::of_pair(user, password).map_err(NotAuthenticated::Invalid)? {
            Credentials::Key { user, hash } => {
                let caller = self.by_key(user.as_deref(), &hash)?;
                self.used(&caller.credential, visit);
                Ok(caller)
            }
            Credentials::Basic { user, password } => Ok(self.by_password(&user, password, visit).await?.caller),
            Credentials::None | Credentials::Session(_) | Credentials::Token(_) => Ok(Caller::ANONYMOUS),
        }
    }

    /// Who has this key.
    fn by_key(&self, user: Option<&str>, hash: &[u8; 32]) -> Result<Caller, NotAuthenticated> {
        let (account, grant) = self.key(user, hash)?;
        Ok(caller(account, Credential::Key(grant)))
    }

    /// Who has this password.
    async fn by_password(
        &self,
        user: &str,
        password: Password,
        visit: &RequestInfo<'_>,
    ) -> Result<CachedCaller, NotAuthenticated> {
        let SignedIn { account, mark } =
            self.accounts.sign_in(user, password, visit.address, || visit.origin(None)).await?;
        Ok(CachedCaller { caller: caller(account, Credential::Password), mark: Some(mark) })
    }

    /// Takes down that something was used which says when it was.
    fn used(&self, credential: &Credential, visit: &RequestInfo<'_>) {
        match credential {
            Credential::Key(grant) => self.accounts.key_used(&grant.hash, visit.address, visit.agent),
            Credential::Session(grant) => self.accounts.session_used(&grant.hash, visit.address, visit.agent),
            Credential::None | Credential::Password | Credential::Token(_) => {}
        }
    }

    /// Whom a token was given to, if it counts, and its user and the credential it was got with still do.
    fn token(&self, token: &str) -> Result<Caller, NotAuthenticated> {
        let grant = self.tokens.verify(token).map_err(NotAuthenticated::Token)?;
        let revoked = || NotAuthenticated::Token(InvalidToken::Revoked);
        let without_account = |identity, grant| {
            let credential = Credential::Token(TokenCredential { grant, key: None });
            Ok(Caller { identity, credential })
        };
        let (user, by) = match &grant.holder {
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
            IssuedFor::Anonymous => return Err(revoked()),
        };
        if !account.accepts(derived_from) {
            return Err(revoked());
        }
        Ok(caller(account, Credential::Token(TokenCredential { grant, key })))
    }

    /// Whether what is remembered of a connection has not come to its end by itself; false if that is to be found out
    /// anew.
    fn is_still_good(&self, known: &CachedCaller) -> Result<bool, NotAuthenticated> {
        let alive = |key: &KeyGrant| self.accounts.is_alive(key);
        match &known.caller.credential {
            Credential::Key(key) => Ok(alive(key)),
            Credential::Token(token) if token.key.as_ref().is_some_and(|key| !alive(key)) => {
                Err(NotAuthenticated::Token(InvalidToken::Revoked))
            }
            Credential::Token(token) => {
                self.tokens.check_times(&token.grant).map(|()| true).map_err(NotAuthenticated::Token)
            }
            Credential::Session(grant) => Ok(self.accounts.is_alive_session(grant)),
            Credential::Password => Ok(known.mark.is_some_and(|mark| self.accounts.remembers(&mark))),
            Credential::None => Ok(true),
        }
    }

    /// A key and its owner, who must be the user that was named, and may sign in. A user is named by name, by an
    /// address that no other has, or not at all, with Quay's names for that.
    fn key(&self, user: Option<&str>, hash: &[u8; 32]) -> Result<Owned<KeyGrant>, NotAuthenticated> {
        // Without a user it came as a bearer token.
        let wrong = || if user.is_none() { NotAuthenticated::WrongBearer } else { NotAuthenticated::Wrong };
        let grant = self.accounts.key_grant(hash)?.ok_or_else(wrong)?;
        if let Some(user) = user.filter(|user| *user != grant.owner && !ANY_OWNER.contains(user)) {
            let meant = self.accounts.account_or_address(user)?;
            if meant.is_none_or(|meant| meant.name != grant.owner) {
                return Err(wrong());
            }
        }
        let account = self.accounts.account(&grant.owner)?;
        let account = account.filter(|account| account.may_sign_in() && account.accepts(grant.derived_from()));
        Ok((account.ok_or_else(wrong)?, grant))
    }

    /// A session and its user, who must be one that may sign in.
    pub(crate) fn session(&self, id: &SessionId) -> Result<Option<Owned<SessionGrant>>, Error> {
        let Some(grant) = self.accounts.session_grant(id)? else { return Ok(None) };
        let account = self.accounts.account(&grant.user)?;
        let account = account.filter(|account| account.may_sign_in() && account.accepts(grant.derived_from()));
        Ok(account.map(|account| (account, grant)))
    }

    /// Begins a session, unless the page has one of the same user.
    async fn begin(
        &self,
        account: &Arc<Account>,
        visit: &RequestInfo<'_>,
    ) -> Result<Option<SessionId>, NotAuthenticated> {
        if let Some(cookie) = Credentials::cookie(visit.headers)
            && self.session(&cookie)?.is_some_and(|(known, _)| known.name == account.name)
        {
            return Ok(None);
        }
        let (accounts, account) = (Arc::clone(&self.accounts), Arc::clone(account));
        let origin = visit.origin(Some(&account.name));
        let begun = tokio::task::spawn_blocking(move || accounts.start_session(&account, &origin)).await;
        let (id, _) = begun.map_err(|_| NotAuthenticated::TooBusy)??;
        Ok(Some(id))
    }
}

fn caller(account: Arc<Account>, credential: Credential) -> Caller {
    Caller { identity: Identity::User(account), credential }
}
