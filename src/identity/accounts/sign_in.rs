//! Giving a password: the one place where one is looked at.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::htpasswd::Htpasswd;
use super::throttle::{PasswordCheck, Source};
use super::user::{Account, StoredHash, USER_NAME_MAX};
use super::{
    Accounts, Error, HashCaller, HashPermit, Origin, PASSWORD_MAX, Password, PasswordFingerprint, Throttled, TooBusy,
};
use crate::kit::network::client_network;

/// A refusal takes at least this long, and as long as a wrong password takes at the moment: its time does not tell
/// whether a password was verified. It also slows guessing.
const REFUSED_AFTER: Duration = Duration::from_millis(300);

/// Whom a wrong password is written down for if there is no such user. What was given as the name is not: it may
/// be a password or a key that got into the wrong field, and is as long as its sender likes.
const UNKNOWN: &str = "";

/// Whose password was right.
#[derive(Debug)]
pub(crate) struct SignedIn {
    pub(crate) account: Arc<Account>,
    /// By what the password is remembered.
    pub(crate) mark: PasswordFingerprint,
}

/// Why a password lets nobody in.
#[derive(Debug)]
pub(crate) enum NotSignedIn {
    /// Name or password are wrong, or the user may not sign in; which of them is not said.
    Wrong,
    /// Too many wrong ones were given.
    Throttled(Throttled),
    /// Too many are being verified.
    TooBusy,
    /// The look-up failed.
    Accounts(Error),
}

impl From<Error> for NotSignedIn {
    fn from(error: Error) -> Self {
        Self::Accounts(error)
    }
}

impl Accounts {
    /// Who has this name, or as the only one this e-mail address, and this password. Where that was looked at lately, nobody needs to know from where it came.
    pub(crate) async fn sign_in(
        self: &Arc<Self>,
        name: &str,
        password: Password,
        address: Option<IpAddr>,
        origin: impl FnOnce() -> Origin,
    ) -> Result<SignedIn, NotSignedIn> {
        let begun = Instant::now();
        // Nobody has such a name or such a password: nothing is to be looked up, counted and written down for it.
        if name.len() > USER_NAME_MAX || password.reveal().chars().count() > PASSWORD_MAX {
            sleep_until(begun + REFUSED_AFTER.max(self.verifier.usual())).await;
            return Err(NotSignedIn::Wrong);
        }
        let account = self.account_or_address(name)?;
        // A password that is refused because the user is disabled is remembered apart from those that are wrong, so that
        // it works when the user is enabled again.
        let hash = account.as_ref().filter(|account| account.may_sign_in()).map(|account| &account.hash);
        let mark = self.verifier.mark(&password, hash, address);
        if let Some(account) = self.remembered(account.as_ref(), &mark) {
            return Ok(SignedIn { account, mark });
        }
        // By one name, whichever of the two was given: guesses are counted together.
        let counted = account.as_ref().map_or(name, |account| &account.name).to_owned();
        let attempt = Attempt { name: counted, account, password, mark, address, origin: origin() };
        let result = self.look_at(attempt).await;
        if result.is_err() {
            sleep_until(begun + REFUSED_AFTER.max(self.verifier.usual())).await;
        }
        result.map(|account| SignedIn { account, mark })
    }

    /// Whether a password was right lately. Whether it still is, and its user may sign in, is not looked at.
    pub(crate) fn remembers(&self, mark: &PasswordFingerprint) -> bool {
        self.verifier.remembers(mark)
    }

    /// Looks at a password when it is its turn, unless too many were wrong.
    async fn look_at(self: &Arc<Self>, attempt: Attempt) -> Result<Arc<Account>, NotSignedIn> {
        let check = self.may_be_looked_at(&attempt, None)?;
        let caller = HashCaller::Network(attempt.address.map(client_network));
        let turn = self.verifier.turn(caller).await.map_err(|TooBusy| NotSignedIn::TooBusy)?;
        // Others had their turns meanwhile: with the same password, as the many requests of one push; or with
        // wrong ones, and guessing many at once is no way around.
        if let Some(account) = self.remembered(attempt.account.as_ref(), &attempt.mark) {
            return Ok(account);
        }
        let check = self.may_be_looked_at(&attempt, Some(check))?;
        // From here on it counts, whether or not anybody waits for the answer.
        let deciding = tokio::spawn(Arc::clone(self).decide(turn, attempt, check));
        deciding.await.unwrap_or(Err(NotSignedIn::TooBusy))
    }

    /// The user, if they may sign in and this was their password lately.
    fn remembered(&self, account: Option<&Arc<Account>>, mark: &PasswordFingerprint) -> Option<Arc<Account>> {
        account.filter(|account| account.may_sign_in() && self.verifier.remembers(mark)).map(Arc::clone)
    }

    fn may_be_looked_at(&self, attempt: &Attempt, before: Option<PasswordCheck>) -> Result<PasswordCheck, NotSignedIn> {
        match self.throttle.check(attempt.source(), &attempt.mark, before) {
            Ok(PasswordCheck::KnownWrong) => Err(NotSignedIn::Wrong),
            Ok(check) => Ok(check),
            Err(throttled) => Err(NotSignedIn::Throttled(throttled)),
        }
    }

    async fn decide(
        self: Arc<Self>,
        turn: HashPermit,
        attempt: Attempt,
        check: PasswordCheck,
    ) -> Result<Arc<Account>, NotSignedIn> {
        // Whoever comes from a provider has no password, and costs a wrong one the same.
        let stored = attempt.account.as_ref().map(|account| account.hash.clone()).filter(|hash| !hash.is_none());
        let may_sign_in = attempt.may_sign_in();
        let highest_cost = self.htpasswd.as_ref().and_then(Htpasswd::highest_cost);
        let (password, mark) = (attempt.password.clone(), attempt.mark);
        // Only now is the password there to be hashed anew.
        let is_outdated = stored.as_ref().is_some_and(StoredHash::is_outdated);
        let right = self.verifier.verify(&turn, password, stored, may_sign_in, highest_cost, mark).await;
        let right = right.map_err(|TooBusy| NotSignedIn::TooBusy)?;
        if let Some(account) = attempt.account.as_ref().filter(|_| right) {
            self.throttle.succeeded(attempt.source());
            if is_outdated {
                self.renew_hash(account, attempt.password);
            }
            return Ok(Arc::clone(account));
        }
        self.throttle.failed(attempt.source(), &mark);
        drop(turn);
        let known = attempt.account.map_or_else(|| UNKNOWN.to_owned(), |account| account.name.clone());
        let origin = attempt.origin;
        // Whoever guesses waits for the disk too, so that no more is to be written than there are guessers. A
        // failure to write it down must not let anybody in.
        let noting = tokio::task::spawn_blocking(move || {
            if let Err(error) = self.note("login_failure", &known, &origin) {
                tracing::error!(%error, "a failed sign-in could not be written down");
            }
        });
        let _ = noting.await;
        Err(match check {
            PasswordCheck::VerifySlowly => NotSignedIn::Throttled(Throttled::SLOW),
            PasswordCheck::Verify | PasswordCheck::KnownWrong => NotSignedIn::Wrong,
        })
    }
}

/// A password that somebody has given.
struct Attempt {
    name: String,
    account: Option<Arc<Account>>,
    password: Password,
    mark: PasswordFingerprint,
    address: Option<IpAddr>,
    origin: Origin,
}

impl Attempt {
    fn source(&self) -> Source<'_> {
        Source { user: &self.name, exists: self.may_sign_in(), address: self.address }
    }

    fn may_sign_in(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.may_sign_in())
    }
}
