//! Giving a password: the one place where one is looked at.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::user::{Account, StoredHash, USER_NAME_MAX};
use super::{Accounts, Error, Origin, PASSWORD_MAX, Password, Throttled, TooBusy};

/// A wrong password is answered no sooner than this, so that the answer's time does not tell a user
/// with one kind of hash from one with another, or from none.
const WRONG_AFTER: Duration = Duration::from_millis(300);

/// Whom a wrong password is written down for if there is no such user. What was given as the name is not: it may
/// be a password or a key that got into the wrong field, and is as long as its sender likes.
const UNKNOWN: &str = "";

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
    /// Who has this name and this password.
    pub(crate) async fn sign_in(
        self: &Arc<Self>,
        name: &str,
        password: Password,
        address: Option<IpAddr>,
        origin: &Origin,
    ) -> Result<Arc<Account>, NotSignedIn> {
        let begun = Instant::now();
        // Nobody has such a name or such a password: nothing is to be looked up, counted and written down for it.
        if name.len() > USER_NAME_MAX || password.reveal().chars().count() > PASSWORD_MAX {
            sleep_until(begun + WRONG_AFTER).await;
            return Err(NotSignedIn::Wrong);
        }
        let account = self.account(name)?;
        let stored = account.as_ref().map(|account| account.hash.clone());
        let memory = self.verifier.memory(&password, stored.as_ref());
        let known = account.as_ref().map_or(UNKNOWN, |account| &account.name).to_owned();
        let enabled = account.filter(|account| !account.disabled);
        if let Some(account) = enabled.clone().filter(|_| self.verifier.remembers(&memory)) {
            return Ok(account);
        }
        let known_wrong = self.throttle.check(name, address, &memory).map_err(NotSignedIn::Throttled)?;
        // Only now is the password there to be hashed anew.
        let outdated = stored.as_ref().is_some_and(StoredHash::is_outdated).then(|| password.clone());
        let right = !known_wrong
            && self.verifier.verify(password, stored, memory).await.map_err(|TooBusy| NotSignedIn::TooBusy)?;
        if let Some(account) = enabled.filter(|_| right) {
            self.throttle.succeeded(name, address);
            if let Some(password) = outdated {
                self.renew_hash(&account, password);
            }
            return Ok(account);
        }
        let noted = (!known_wrong).then(|| {
            self.throttle.failed(name, address, &memory);
            let (accounts, origin) = (Arc::clone(self), origin.clone());
            // A failure to write it down must not let anybody in.
            tokio::task::spawn_blocking(move || {
                if let Err(error) = accounts.note("login_failure", &known, &origin) {
                    tracing::error!(%error, "a failed sign-in could not be written down");
                }
            })
        });
        sleep_until(begun + WRONG_AFTER).await;
        // Whoever guesses waits for the disk too, so that no more is to be written than there are guessers.
        if let Some(noted) = noted {
            let _ = noted.await;
        }
        Err(NotSignedIn::Wrong)
    }
}
