//! Users, API keys and sessions. The only writer of their rows.
//!
//! A change of an account and its audit row are one transaction. A secret is shown once, to its creator, and stored as
//! a hash. Credentials stop working when their account ends. Knows no HTTP and no policy. Only changes wait for the
//! disk.

mod action;
mod audit;
mod audit_file;
mod cache;
mod carry;
mod directory_user;
mod error;
mod federated_user;
mod file_user;
mod hash_cost;
mod hash_queue;
mod htpasswd;
mod key;
mod namespace;
mod password;
mod permission;
mod preference;
mod refresh;
mod renew;
#[cfg(test)]
mod scene;
mod scope;
mod secret;
mod session;
mod sign_in;
mod usage;
mod user;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use action::{Action, Actions};
pub(crate) use audit::{AuditEntry, Origin};
pub(crate) use audit_file::{AuditFile, RequestEntry};
pub(crate) use cache::Cache;
pub(crate) use carry::CarriedKey;
pub(crate) use directory_user::DIRECTORY;
use directory_user::{DirectoryUsers, QUESTIONS_AT_ONCE};
pub(crate) use error::Error;
pub(crate) use federated_user::{DueFederatedUser, FederatedUser, NotAdmitted};
use file_user::FileState;
pub(crate) use hash_cost::HashCost;
pub(crate) use hash_queue::{HashCaller, TooBusy};
use hash_queue::{HashPermit, HashQueue};
pub(crate) use htpasswd::{Htpasswd, htpasswd_problems};
pub(crate) use key::{Key, KeyGrant, LABEL_MAX, NewKey};
pub(crate) use namespace::Granted;
use namespace::Reserved;
use password::Verifier;
pub(crate) use password::{HashedPassword, PASSWORD_MAX, PASSWORD_MIN, Password, PasswordFingerprint};
pub(crate) use permission::{DESCRIPTION_MAX, Permissions};
pub(crate) use refresh::RefreshGrant;
pub(crate) use scope::{InvalidScope, KeyScope, SCOPE_LENGTH_MAX, SCOPES_MAX};
pub(crate) use secret::{PlainKey, SessionId};
pub(crate) use session::SessionGrant;
pub(crate) use sign_in::{NotSignedIn, SignedIn};
pub(crate) use user::{Account, DerivedFrom, FederatedIdentity, NewUser, UserChange};

use crate::content::rows::{self, AuditRow, Database, HmacKey, WriteTx};
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::opaque_debug::opaque_debug;
use crate::kit::throttle::Throttle;
pub(crate) use crate::kit::throttle::Throttled;
use usage::Usage;

/// The operator's settings for accounts.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The largest number of API keys of one user.
    pub(crate) keys_max: usize,
    /// The longest lifetime of an API key. `None` allows keys that do not expire.
    pub(crate) key_lifetime_max: Option<Duration>,
    /// A session that is unused for this long ends.
    pub(crate) session_idle: Duration,
    /// The longest lifetime of a session.
    pub(crate) session_lifetime: Duration,
    /// A refresh token that is unused for this long ends.
    pub(crate) refresh_idle: Duration,
    /// How long audit rows are kept.
    pub(crate) audit_kept: Duration,
    /// The namespaces that access rules name, and the users to whom they give rights there.
    pub(crate) granted: Granted,
    /// The work of hashing a password.
    pub(crate) hash_cost: HashCost,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            keys_max: 100,
            key_lifetime_max: None,
            session_idle: Duration::from_hours(2),
            session_lifetime: Duration::from_hours(7 * 24),
            refresh_idle: Duration::from_hours(90 * 24),
            audit_kept: Duration::from_hours(90 * 24),
            granted: Granted::new(),
            hash_cost: HashCost::Usual,
        }
    }
}

/// The accounts of one registry. `Debug` prints the settings only.
pub(crate) struct Accounts {
    database: Arc<Database>,
    clock: Clock,
    rules: Rules,
    htpasswd: Option<Htpasswd>,
    audit_file: Option<AuditFile>,
    usage: Usage,
    verifier: Verifier,
    throttle: Throttle,
    directory: Option<DirectoryUsers>,
    /// Limits the questions to the directory.
    directory_queue: Arc<HashQueue>,
    /// Raised by every change. Cached values of earlier generations are looked up again.
    generation: AtomicU64,
    caches: Caches,
    csrf_key: HmacKey,
    stamp_key: HmacKey,
    reserved: Reserved,
    file: FileState,
}

/// Recent look-ups, each valid for one generation.
#[derive(Default)]
struct Caches {
    accounts: Cache<String, Arc<Account>>,
    keys: Cache<rows::SecretHash, Arc<KeyGrant>>,
    key_ids: Cache<uuid::Uuid, Arc<KeyGrant>>,
    /// Keys for which an invalid scope has been logged.
    refused_scopes: Cache<uuid::Uuid, ()>,
    permissions: Cache<String, Arc<Permissions>>,
    has_public: Cache<(), bool>,
    sessions: Cache<rows::SecretHash, Arc<SessionGrant>>,
    refresh_ids: Cache<uuid::Uuid, Arc<RefreshGrant>>,
}

opaque_debug!(Accounts { rules });

impl Accounts {
    pub(crate) fn open(
        database: Arc<Database>,
        clock: Clock,
        rules: Rules,
        htpasswd: Option<Htpasswd>,
        audit_file: Option<AuditFile>,
    ) -> Result<Self, Error> {
        let csrf_key = database.hmac_key(rows::SETTING_CSRF_KEY)?;
        let stamp_key = database.hmac_key(rows::SETTING_STAMP_KEY)?;
        let reserved = Reserved::new(rules.granted.clone());
        let verifier = Verifier::new(rules.hash_cost);
        let accounts = Self {
            database,
            clock,
            rules,
            htpasswd,
            audit_file,
            usage: Usage::default(),
            verifier,
            throttle: Throttle::default(),
            directory: None,
            directory_queue: Arc::new(HashQueue::of(QUESTIONS_AT_ONCE)),
            generation: AtomicU64::new(0),
            caches: Caches::default(),
            csrf_key,
            stamp_key,
            reserved,
            file: FileState::default(),
        };
        accounts.find_owners()?;
        accounts.read_file_first()?;
        Ok(accounts)
    }

    /// The current time, as the times of accounts are measured.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Makes a change, starts a new generation of the caches and logs the change's audit rows.
    fn change<T, E>(&self, change: impl FnOnce(&mut WriteTx) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<rows::Error> + Send + 'static,
    {
        let result = self.write(change);
        self.start_generation();
        let (value, rows) = result?;
        self.publish_audit(rows);
        Ok(value)
    }

    /// Makes a change with its audit row, see [`Accounts::change`]. The closure gets the time of the row.
    fn audited_change<T, E>(
        &self,
        audit: AuditRow,
        change: impl FnOnce(&mut WriteTx, Timestamp) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<rows::Error> + Send + 'static,
    {
        let now = self.clock.now();
        self.change(move |tx| {
            let value = change(tx, now)?;
            tx.add_audit(now, &audit)?;
            Ok(value)
        })
    }

    /// Starts a new generation of the caches.
    fn start_generation(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Hashes a new password, after waiting for a permit.
    pub(crate) async fn hash(&self, password: Password, caller: HashCaller) -> Result<HashedPassword, Error> {
        self.verifier.hash(password, caller).await
    }

    #[cfg(test)]
    pub(crate) const fn hash_cost(&self) -> HashCost {
        self.verifier.cost()
    }

    /// Hashes a new password and blocks this thread.
    pub(crate) fn hash_blocking(&self, password: &Password) -> Result<HashedPassword, Error> {
        self.verifier.hash_blocking(password)
    }

    /// The current generation. A value that is looked up from now on may be cached under it.
    pub(crate) fn generation(&self) -> u64 {
        let files = self.htpasswd.as_ref().map_or(0, Htpasswd::generation);
        self.generation.load(Ordering::Acquire).wrapping_add(files)
    }

    /// Writes the buffered last uses of keys and sessions and removes expired rows. Maintenance and shutdown call it.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.flush_usage()?;
        self.remove_unused_refresh_tokens()?;
        self.remove_expired()
    }
}
