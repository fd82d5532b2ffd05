//! [`Authenticator`]: credentials → caller.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::HeaderMap;

use super::credentials::Read;
use super::memo::KnownKey;
use super::{Caller, Credential, Credentials, Identity, InvalidCredentials, Memo, Surface};
use crate::accounts::{Account, Accounts, Error, KeyGrant, NotSignedIn, Origin, SessionGrant, SessionId, Throttled};

/// Finds out who asks.
#[derive(Debug)]
pub(crate) struct Authenticator {
    accounts: Arc<Accounts>,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) surface: Surface,
    pub(crate) address: Option<IpAddr>,
    /// What came before on the same connection.
    pub(crate) memo: &'a Memo,
    pub(crate) agent: &'a str,
    pub(crate) request: &'a str,
}

/// Who asks, and what became of their session.
#[derive(Debug)]
pub(crate) struct Authenticated {
    pub(crate) caller: Caller,
    /// The session's cookie that came along, whether or not it is one of a session.
    pub(crate) cookie: Option<SessionId>,
    /// A session that was begun by this request.
    pub(crate) begun: Option<SessionId>,
    /// Whether the page's session has ended, and its cookie should go.
    pub(crate) ended: bool,
}

/// Why it is not known who asks.
#[derive(Debug)]
pub(crate) enum NotAuthenticated {
    /// The headers cannot be understood.
    Invalid(InvalidCredentials),
    /// The credentials are wrong; what about them is not said.
    Wrong,
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

impl Visit<'_> {
    /// The same, for the audit.
    pub(crate) fn origin(&self, performer: Option<&str>) -> Origin {
        Origin {
            performer: performer.map(str::to_owned),
            address: self.address.map(|address| address.to_string()),
            agent: self.agent.to_owned(),
            request: Some(self.request.to_owned()),
        }
    }
}

impl Authenticator {
    pub(crate) fn new(accounts: Arc<Accounts>) -> Self {
        Self { accounts }
    }

    /// Who sent this request. A password that comes from zot's web page begins a session.
    pub(crate) async fn authenticate(&self, visit: &Visit<'_>) -> Result<Authenticated, NotAuthenticated> {
        // Before anything is looked up: what changes meanwhile is looked up again the next time.
        let generation = self.accounts.generation();
        if let Some(known) = visit.memo.get(visit.headers, visit.surface, generation) {
            let cookie = Credentials::cookie(visit.headers);
            return Ok(Authenticated { caller: self.by_key(known, visit)?, cookie, begun: None, ended: false });
        }
        let Read { credentials, cookie, from_page } =
            Credentials::read(visit.headers, visit.surface).map_err(NotAuthenticated::Invalid)?;
        let known = |caller| Authenticated { caller, cookie: cookie.clone(), begun: None, ended: false };
        match credentials {
            Credentials::None => Ok(known(Caller::ANONYMOUS)),
            Credentials::Key { user, hash } => {
                let (account, grant) = self.key(user.as_deref(), &hash)?;
                let key = KnownKey { hash, account, grant };
                visit.memo.put(visit.headers, visit.surface, generation, key.clone());
                Ok(known(self.by_key(key, visit)?))
            }
            Credentials::Session(id) => Ok(match self.session(&id)? {
                Some((account, grant)) => {
                    self.accounts.session_used(&grant.hash, visit.address, visit.agent);
                    known(caller(account, Credential::Session(grant)))
                }
                None => Authenticated { ended: from_page, ..known(Caller::ANONYMOUS) },
            }),
            Credentials::Basic { user, password } => {
                let origin = visit.origin(None);
                let account = self.accounts.sign_in(&user, password, visit.address, &origin).await?;
                let begun = if from_page { self.begin(&account, cookie.as_ref(), visit).await? } else { None };
                Ok(Authenticated { begun, ..known(caller(account, Credential::Password)) })
            }
        }
    }

    /// Whoever uses a key, if it has not expired.
    fn by_key(&self, key: KnownKey, visit: &Visit<'_>) -> Result<Caller, NotAuthenticated> {
        let KnownKey { hash, account, grant } = key;
        if !self.accounts.is_alive(&grant) {
            return Err(NotAuthenticated::Wrong);
        }
        self.accounts.key_used(&hash, visit.address, visit.agent);
        Ok(caller(account, Credential::Key(grant)))
    }

    /// A key and its owner, who must be the user that was named, and may sign in.
    fn key(&self, user: Option<&str>, hash: &[u8; 32]) -> Result<(Arc<Account>, Arc<KeyGrant>), NotAuthenticated> {
        let grant = self.accounts.key_grant(hash)?.ok_or(NotAuthenticated::Wrong)?;
        if user.is_some_and(|user| user != grant.owner) {
            return Err(NotAuthenticated::Wrong);
        }
        let account = self.accounts.account(&grant.owner)?.filter(|account| !account.disabled);
        Ok((account.ok_or(NotAuthenticated::Wrong)?, grant))
    }

    /// A session and its user, who must be one that may sign in.
    pub(crate) fn session(&self, id: &SessionId) -> Result<Option<(Arc<Account>, SessionGrant)>, Error> {
        let Some(grant) = self.accounts.session_grant(id)? else { return Ok(None) };
        let account = self.accounts.account(&grant.user)?.filter(|account| !account.disabled);
        Ok(account.map(|account| (account, grant)))
    }

    /// Begins a session, unless the page has one of the same user.
    async fn begin(
        &self,
        account: &Arc<Account>,
        cookie: Option<&SessionId>,
        visit: &Visit<'_>,
    ) -> Result<Option<SessionId>, NotAuthenticated> {
        if let Some(cookie) = cookie
            && self.session(cookie)?.is_some_and(|(known, _)| known.name == account.name)
        {
            return Ok(None);
        }
        let (accounts, account) = (Arc::clone(&self.accounts), Arc::clone(account));
        let origin = visit.origin(Some(&account.name));
        let begun = tokio::task::spawn_blocking(move || accounts.start_session(&account.name, &origin)).await;
        let (id, _) = begun.map_err(|_| NotAuthenticated::TooBusy)??;
        Ok(Some(id))
    }
}

fn caller(account: Arc<Account>, credential: Credential) -> Caller {
    Caller { identity: Identity::User(account), credential }
}
