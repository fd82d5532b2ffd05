//! Users, API keys and sessions: what can be done with them, and what must hold.
//!
//! The one writer of their rows. What must hold: a change of an account and its audit row are one
//! transaction; a secret is shown once, to whoever made it, and is stored as a hash; what lets
//! somebody in ends when the account does. Knows no HTTP and no policy. What is here blocks on disk
//! where it changes something, and nowhere else.

mod action;
mod audit;
mod audit_file;
mod cache;
mod error;
mod federated_user;
mod file_user;
mod hash_queue;
mod htpasswd;
mod key;
mod namespace;
mod password;
mod permission;
mod refresh;
mod renew;
mod scope;
mod secret;
mod session;
mod sign_in;
mod throttle;
mod usage;
mod user;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use action::{Action, Actions};
pub(crate) use audit::{AuditEntry, Origin};
pub(crate) use audit_file::{AuditFile, RequestEntry};
pub(crate) use cache::Cache;
pub(crate) use error::Error;
pub(crate) use federated_user::{DueFederatedUser, FederatedUser, NotAdmitted};
use file_user::FileState;
pub(crate) use hash_queue::HashCaller;
use hash_queue::{HashPermit, TooBusy};
pub(crate) use htpasswd::{Htpasswd, htpasswd_problems};
pub(crate) use key::{Key, KeyGrant, LABEL_MAX, NewKey};
pub(crate) use namespace::Granted;
use namespace::Reserved;
use password::Verifier;
pub(crate) use password::{HashedPassword, PASSWORD_MAX, PASSWORD_MIN, Password, PasswordFingerprint};
pub(crate) use permission::{DESCRIPTION_MAX, Permissions};
pub(crate) use refresh::RefreshGrant;
pub(crate) use scope::{KeyScope, SCOPE_LENGTH_MAX, SCOPES_MAX};
pub(crate) use secret::{PlainKey, SessionId};
pub(crate) use session::SessionGrant;
pub(crate) use sign_in::{NotSignedIn, SignedIn};
use throttle::Throttle;
pub(crate) use throttle::Throttled;
pub(crate) use user::{Account, DerivedFrom, FederatedIdentity, NewUser, UserChange};

use crate::content::rows::{self, Database, HmacKey, WriteTx};
use crate::kit::clock::Clock;
use usage::Usage;

/// What the operator decides about accounts.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// How many keys one user may have.
    pub(crate) keys_max: usize,
    /// How long a key may live; without a limit, for ever.
    pub(crate) key_lifetime_max: Option<Duration>,
    /// How long a session lives without being used.
    pub(crate) session_idle: Duration,
    /// How long a session lives.
    pub(crate) session_lifetime: Duration,
    /// How long a refresh token lives without being used.
    pub(crate) refresh_idle: Duration,
    /// How long the audit is kept.
    pub(crate) audit_kept: Duration,
    /// Which namespaces the rules of access name, and for which users.
    pub(crate) granted: Granted,
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
        }
    }
}

/// The accounts of one registry. Of whoever is remembered nothing prints, hashes included.
pub(crate) struct Accounts {
    database: Arc<Database>,
    clock: Clock,
    rules: Rules,
    htpasswd: Option<Htpasswd>,
    audit_file: Option<AuditFile>,
    usage: Usage,
    verifier: Verifier,
    throttle: Throttle,
    /// Raised by every change; what was looked up under an older number is looked up again.
    generation: AtomicU64,
    remembered: Remembered,
    csrf_key: HmacKey,
    stamp_key: HmacKey,
    reserved: Reserved,
    file: FileState,
}

/// What was looked up lately. After a change it is looked up again.
#[derive(Default)]
struct Remembered {
    accounts: Cache<String, Arc<Account>>,
    keys: Cache<rows::SecretHash, Arc<KeyGrant>>,
    key_ids: Cache<uuid::Uuid, Arc<KeyGrant>>,
    /// Keys with scopes that are not valid any more, of which the log has a line already.
    refused_scopes: Cache<uuid::Uuid, ()>,
    permissions: Cache<String, Arc<Permissions>>,
    has_public: Cache<(), bool>,
    sessions: Cache<rows::SecretHash, Arc<SessionGrant>>,
    refresh_ids: Cache<uuid::Uuid, Arc<RefreshGrant>>,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("rules", &self.rules).finish_non_exhaustive()
    }
}

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
        let accounts = Self {
            database,
            clock,
            rules,
            htpasswd,
            audit_file,
            usage: Usage::default(),
            verifier: Verifier::new(),
            throttle: Throttle::default(),
            generation: AtomicU64::new(0),
            remembered: Remembered::default(),
            csrf_key,
            stamp_key,
            reserved,
            file: FileState::default(),
        };
        accounts.find_owners()?;
        accounts.read_file_first()?;
        Ok(accounts)
    }

    /// The time now, for whoever compares it with an account's times.
    pub(crate) fn now(&self) -> crate::kit::clock::Timestamp {
        self.clock.now()
    }

    /// Makes a change, and forgets what was looked up before it.
    fn change<T, E>(&self, change: impl FnOnce(&mut WriteTx) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<rows::Error> + Send + 'static,
    {
        let result = self.write(change);
        self.generation.fetch_add(1, Ordering::Release);
        let (value, rows) = result?;
        self.tell(rows);
        Ok(value)
    }

    /// Hashes a new password when it is the caller's turn.
    pub(crate) async fn hash(&self, password: Password, caller: HashCaller) -> Result<HashedPassword, Error> {
        self.verifier.hash(password, caller).await
    }

    /// The same on this thread, which may block.
    pub(crate) fn hash_blocking(&self, password: &Password) -> Result<HashedPassword, Error> {
        self.verifier.hash_blocking(password)
    }

    /// The number under which a look-up that begins now may be remembered.
    pub(crate) fn generation(&self) -> u64 {
        let files = self.htpasswd.as_ref().map_or(0, Htpasswd::generation);
        self.generation.load(Ordering::Acquire).wrapping_add(files)
    }

    /// Writes down what is only in memory: when keys and sessions were last used. Removes what has
    /// expired. To be called from time to time, and before the registry ends.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.flush_usage()?;
        self.remove_unused_refresh_tokens()?;
        self.remove_expired()
    }
}
