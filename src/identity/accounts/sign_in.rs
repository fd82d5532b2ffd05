//! Sign-in with a password. This is the only place that verifies one.
//!
//! The users of the database and of the htpasswd file have precedence over those of the directory. A password is never
//! sent to the directory if its user is one of them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::htpasswd::Htpasswd;
use super::user::{Account, USER_NAME_MAX};
use super::{
    Accounts, Error, HashCaller, HashPermit, Origin, PASSWORD_MAX, Password, PasswordFingerprint, Throttled, TooBusy,
};
use crate::identity::directory::{Directory, Unavailable};
use crate::kit::network::client_network;
use crate::kit::throttle::{PasswordCheck, PasswordSource};

/// A refusal takes at least this long, and as long as a wrong password takes at the moment. So response times do not
/// reveal whether a password was verified. It also slows guessing.
const REFUSED_AFTER: Duration = Duration::from_millis(300);

/// The account in the audit row of a wrong password for an unknown user. The entered name is not stored, because it may
/// be a password or a key in the wrong field.
const UNKNOWN: &str = "";

/// A user who has entered the correct password.
#[derive(Debug)]
pub(crate) struct SignedIn {
    pub(crate) account: Arc<Account>,
    pub(crate) fingerprint: PasswordFingerprint,
}

/// Why a sign-in with a password failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSignedIn {
    /// The name or the password is wrong, or the user may not sign in. Callers do not learn which.
    #[error("invalid credentials")]
    Wrong,
    #[error("too many wrong passwords")]
    Throttled(Throttled),
    #[error(transparent)]
    TooBusy(#[from] TooBusy),
    /// The directory does not say whether the password is right, and it was not verified lately.
    #[error(transparent)]
    DirectoryAway(Unavailable),
    #[error(transparent)]
    Accounts(#[from] Error),
}

impl Accounts {
    /// Signs a user in with a name, or an e-mail address that no other user has, and a password. `origin` is not called
    /// if the password is cached as correct.
    pub(crate) async fn sign_in(
        self: &Arc<Self>,
        name: &str,
        password: Password,
        address: Option<IpAddr>,
        origin: impl FnOnce() -> Origin,
    ) -> Result<SignedIn, NotSignedIn> {
        let begun = Instant::now();
        // No user can have such a name or password, so nothing is looked up, counted or stored.
        if name.len() > USER_NAME_MAX || password.reveal().chars().count() > PASSWORD_MAX {
            sleep_until(begun + REFUSED_AFTER.max(self.verifier.usual())).await;
            return Err(NotSignedIn::Wrong);
        }
        let account = self.account_or_address(name)?;
        // The fingerprint of a disabled user's password differs, so that the throttle does not take it for a known wrong
        // one when the user is enabled again.
        let hashed = account.as_ref().filter(|account| account.may_sign_in()).map(Arc::as_ref);
        let fingerprint = self.verifier.fingerprint(&password, hashed, address);
        if let Some(account) = self.cached(account.as_ref(), &fingerprint) {
            return Ok(SignedIn { account, fingerprint });
        }
        // Guesses for the name and the e-mail address of a user count together.
        let name = account.as_ref().map_or(name, |account| &account.name).to_owned();
        let directory = self.directory_for(account.as_deref()).cloned();
        let counted = match directory {
            Some(_) => self.verifier.for_a_moment(&fingerprint, self.clock.now()),
            None => fingerprint,
        };
        let attempt = Attempt { name, account, password, fingerprint, counted, directory, address, origin: origin() };
        let result = self.verify(attempt).await;
        if result.is_err() {
            sleep_until(begun + REFUSED_AFTER.max(self.verifier.usual())).await;
        }
        result
    }

    /// Whether a password is cached as correct. It may have changed since, and its user may have been disabled.
    pub(crate) fn is_cached_password(&self, fingerprint: &PasswordFingerprint) -> bool {
        self.verifier.is_cached(fingerprint)
    }

    /// Waits for a permit and verifies a password, unless the throttle refuses it.
    async fn verify(self: &Arc<Self>, attempt: Attempt) -> Result<SignedIn, NotSignedIn> {
        let check = self.check_throttle(&attempt, None)?;
        let caller = HashCaller::Network(attempt.address.map(client_network));
        let permit = match attempt.directory {
            Some(_) => self.directory_queue.take(caller).await?,
            None => self.verifier.permit(caller).await?,
        };
        // Meanwhile other requests may have verified the same password, as the requests of one push do, or may have
        // failed. Simultaneous guesses must not evade the throttle.
        if let Some(account) = self.cached(attempt.account.as_ref(), &attempt.fingerprint) {
            return Ok(SignedIn { account, fingerprint: attempt.fingerprint });
        }
        let check = self.check_throttle(&attempt, Some(check))?;
        // A task, so that the attempt counts even if its caller goes away.
        let deciding = tokio::spawn(Arc::clone(self).decide(permit, attempt, check));
        deciding.await.unwrap_or(Err(TooBusy.into()))
    }

    /// The user, if the password is cached as correct and the user may sign in.
    fn cached(&self, account: Option<&Arc<Account>>, fingerprint: &PasswordFingerprint) -> Option<Arc<Account>> {
        account.filter(|account| account.may_sign_in() && self.verifier.is_cached(fingerprint)).map(Arc::clone)
    }

    fn check_throttle(&self, attempt: &Attempt, before: Option<PasswordCheck>) -> Result<PasswordCheck, NotSignedIn> {
        match self.throttle.check(attempt.source(), &attempt.counted, before) {
            Ok(PasswordCheck::KnownWrong) => Err(NotSignedIn::Wrong),
            Ok(check) => Ok(check),
            Err(throttled) => Err(NotSignedIn::Throttled(throttled)),
        }
    }

    async fn decide(
        self: Arc<Self>,
        permit: HashPermit,
        attempt: Attempt,
        check: PasswordCheck,
    ) -> Result<SignedIn, NotSignedIn> {
        if let Some(directory) = &attempt.directory {
            let signed_in = self.ask_directory(directory, &attempt).await?;
            drop(permit);
            return match signed_in {
                Some(signed_in) => {
                    self.throttle.succeeded(attempt.source());
                    Ok(signed_in)
                }
                None => Err(self.refuse(attempt, check).await),
            };
        }
        // A federated user has no password. The refusal takes as long as a wrong one.
        let stored = attempt.account.as_ref().map(|account| account.hash.clone()).filter(|hash| !hash.is_none());
        let may_sign_in = attempt.may_sign_in();
        let highest_cost = self.htpasswd.as_ref().and_then(Htpasswd::highest_cost);
        let (password, fingerprint) = (attempt.password.clone(), attempt.fingerprint);
        let is_outdated = stored.as_ref().is_some_and(|stored| self.verifier.is_outdated(stored));
        let right = self.verifier.verify(&permit, password, stored, may_sign_in, highest_cost, fingerprint).await?;
        if let Some(account) = attempt.account.as_ref().filter(|_| right) {
            self.throttle.succeeded(attempt.source());
            if is_outdated {
                // Hashing takes a permit of its own.
                drop(permit);
                let account = self.renew_hash(Arc::clone(account), attempt.password).await;
                return Ok(SignedIn { account, fingerprint });
            }
            return Ok(SignedIn { account: Arc::clone(account), fingerprint });
        }
        drop(permit);
        Err(self.refuse(attempt, check).await)
    }

    /// Counts a wrong password, and writes its audit row.
    async fn refuse(self: Arc<Self>, attempt: Attempt, check: PasswordCheck) -> NotSignedIn {
        self.throttle.failed(attempt.source(), &attempt.counted);
        let known = attempt.account.map_or_else(|| UNKNOWN.to_owned(), |account| account.name.clone());
        let origin = attempt.origin;
        // The refusal waits for the disk, so that guessers cannot queue up more rows than they have requests. A failure
        // to store the row does not change the refusal.
        let auditing = tokio::task::spawn_blocking(move || {
            if let Err(error) = self.note("login_failure", &known, &[], &origin) {
                tracing::error!(%error, "cannot store the audit row of a failed sign-in");
            }
        });
        let _ = auditing.await;
        match check {
            PasswordCheck::VerifySlowly => NotSignedIn::Throttled(Throttled::SLOW),
            PasswordCheck::Verify | PasswordCheck::KnownWrong => NotSignedIn::Wrong,
        }
    }
}

/// A sign-in with a password that needs verification.
pub(super) struct Attempt {
    pub(super) name: String,
    pub(super) account: Option<Arc<Account>>,
    pub(super) password: Password,
    pub(super) fingerprint: PasswordFingerprint,
    /// The fingerprint by which the throttle knows a wrong password again.
    counted: PasswordFingerprint,
    /// The directory that verifies the password.
    directory: Option<Directory>,
    pub(super) address: Option<IpAddr>,
    pub(super) origin: Origin,
}

impl Attempt {
    fn source(&self) -> PasswordSource<'_> {
        PasswordSource { user: &self.name, exists: self.may_sign_in(), address: self.address }
    }

    pub(super) fn may_sign_in(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.may_sign_in())
    }
}
