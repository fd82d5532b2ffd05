//! [`Registry`]: the stores, who may use them, and the rules, in one value. No socket and no task:
//! those are in [`crate::server`].

mod builder;
mod catalog;
#[cfg(test)]
mod crash;
mod error;
mod explain;
mod key_check;
mod notices;
mod recheck;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use notices::Notices;
use parking_lot::RwLock;
use tokio_util::task::TaskTracker;
use url::Url;

pub use builder::Builder;
pub use error::Error;
pub(crate) use explain::Explanation;
pub(crate) use notices::Notice;

use crate::config::{Bearer, Config, Limits, Network, Profile};
use crate::content::blobs::Tree;
use crate::content::repository::{Repository, Stores};
use crate::content::rows::AccountRole;
use crate::identity::access::{Access, AccessControl, Actions, Authenticator, Caller, Policy, Refusal, Rules};
use crate::identity::accounts::{Accounts, NewUser, Origin, Password, Permissions, UserChange};
use crate::identity::providers::Providers;
use crate::identity::tokens::Tokens;
use crate::kit::byte_budget::ByteBudget;
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::metrics::Metrics;
use crate::oci::RepositoryName;

/// What the id of a request usually takes: eight digits, a hyphen and a number.
const REQUEST_ID_BYTES: usize = 20;

/// An open registry. Clones are the same registry; the data directory is released when the last of
/// them, and the last server of them, is gone.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) shared: Arc<Shared>,
}

/// What every request works with.
#[derive(Debug)]
pub(crate) struct Shared {
    tree: Tree,
    stores: Arc<Stores>,
    accounts: Arc<Accounts>,
    clock: Clock,
    authenticator: Authenticator,
    tokens: Arc<Tokens>,
    providers: Providers,
    notices: Notices,
    /// Replaced as a whole when the rules change.
    policy: RwLock<Arc<Policy>>,
    config: Config,
    /// `http.externalUrl`, parsed once: open registries compare the host of every request with it.
    external_origin: Option<Url>,
    metrics: Arc<Metrics>,
    /// The description of API v1, in the parts before and after the URL of the registry. Made when it is first requested.
    api_description: OnceLock<[Bytes; 2]>,
    /// Limits the large responses that are in memory and not sent.
    unsent: ByteBudget,
    /// Limits the pieces of blobs that are in memory and not sent.
    pieces: ByteBudget,
    /// What goes on when its client has gone, and is waited for at the end.
    work: TaskTracker,
    /// Makes the ids of requests differ from those of other processes, and from each other.
    instance: u32,
    requests: AtomicU64,
    /// Removed when the registry is gone, if it was asked for as temporary.
    _temporary: Option<tempfile::TempDir>,
}

impl Registry {
    /// A registry to be opened.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.shared.tree.root().to_owned()
    }

    /// Whether anybody can sign in.
    pub fn has_users(&self) -> Result<bool, Error> {
        self.shared.accounts.has_users().map_err(|error| Error::accounts(error, &self.shared.tree))
    }

    /// Makes a user, or gives one another password and another role. Blocks for the time of a
    /// password hash.
    pub fn put_user(&self, name: &str, password: &str, superuser: bool) -> Result<(), Error> {
        let role = if superuser { AccountRole::Superuser } else { AccountRole::Ordinary };
        self.shared
            .put_user(name, &Password::new(password), role)
            .map_err(|error| Error::accounts(error, &self.shared.tree))
    }
}

impl Registry {
    /// Follows other rules of access (`http.accessControl`) from the next request on; everything else of
    /// the configuration stays.
    pub fn set_access_control(&self, control: Option<&AccessControl>) {
        let rules = control.map(|control| Arc::new(Rules::new(control)));
        self.shared.accounts.reserve_namespaces(control.map(AccessControl::granted).unwrap_or_default());
        let mut policy = self.shared.policy.write();
        *policy = Arc::new(Policy { rules, ..(**policy).clone() });
    }
}

impl Shared {
    pub(crate) fn stores(&self) -> &Arc<Stores> {
        &self.stores
    }

    pub(crate) fn repository(&self, name: &RepositoryName) -> Repository {
        self.stores.repository(name)
    }

    pub(crate) const fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    pub(crate) const fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
    }

    /// The time now, for decisions.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether a caller may do something. What an operation is allowed by, and what filters lists.
    pub(crate) fn decide(
        &self,
        caller: &Caller,
        access: &Access,
    ) -> Result<Result<(), Refusal>, crate::identity::accounts::Error> {
        let (policy, now) = (self.policy(), self.now());
        let decided = policy.decide(caller, access, &Permissions::default(), now);
        match access {
            // Permissions take nothing away: they are looked up for whom nothing else lets in.
            Access::Repository(name, _) if decided.is_err() => {
                Ok(policy.decide(caller, access, &*self.accounts.permissions(name)?, now))
            }
            _ => Ok(decided),
        }
    }

    /// What a caller may do in a repository.
    pub(crate) fn actions(
        &self,
        caller: &Caller,
        name: &RepositoryName,
    ) -> Result<Actions, crate::identity::accounts::Error> {
        Ok(self.policy().actions(caller, name, &*self.accounts.permissions(name)?))
    }

    pub(crate) const fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// Makes a user, or gives one this password and role.
    fn put_user(
        &self,
        name: &str,
        password: &Password,
        role: AccountRole,
    ) -> Result<(), crate::identity::accounts::Error> {
        use crate::identity::accounts::Error as E;
        let origin = Origin::local();
        let password = self.accounts.hash_blocking(password)?;
        let new = NewUser {
            name: name.to_owned(),
            password: password.clone(),
            role,
            groups: Vec::new(),
            email: None,
            namespace: None,
        };
        match self.accounts.add_user(new, &origin) {
            Err(E::UserExists { .. }) => {
                let change = UserChange { password: Some(password), role: Some(role), ..UserChange::default() };
                self.accounts.change_user(name, change, None, &origin)
            }
            result => result,
        }
    }

    /// Providers through which people sign in.
    pub(crate) const fn providers(&self) -> &Providers {
        &self.providers
    }

    /// The URL that clients use, if the operator has named one.
    pub(crate) fn external_url(&self) -> Option<&str> {
        self.config.http.external_url.as_deref()
    }

    /// The same URL, parsed.
    pub(crate) const fn external_origin(&self) -> Option<&Url> {
        self.external_origin.as_ref()
    }

    /// Whether clients reach the registry by https.
    pub(crate) fn is_https(&self) -> bool {
        self.config.http.tls.is_some() || self.external_url().is_some_and(|url| url.starts_with("https://"))
    }

    /// Proxies whose word counts.
    pub(crate) fn trusted_proxies(&self) -> &[Network] {
        &self.config.http.trusted_proxies
    }

    /// Tells the operator something about a peer, once.
    pub(crate) fn notice(&self, notice: Notice, peer: IpAddr) {
        self.notices.give(notice, peer);
    }

    /// How long a session's cookie is good for.
    pub(crate) const fn session_lifetime(&self) -> Duration {
        self.config.http.auth.session_lifetime
    }

    /// Whether there are API keys.
    pub(crate) const fn has_api_keys(&self) -> bool {
        self.config.http.auth.api_keys
    }

    /// Where everything lies.
    pub(crate) const fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read())
    }

    /// Whether a challenge asks for a token, and not for a password. zot asks for a password. A client without one
    /// can follow only a challenge for a token: docker gives up on the other kind. So this also holds where anonymous
    /// callers may pull something.
    pub(crate) fn wants_tokens(&self) -> bool {
        let has_public = || {
            self.accounts.has_public_repositories().unwrap_or_else(|error| {
                tracing::error!(%error, "cannot look up public repositories for a challenge");
                false
            })
        };
        self.config.profile == Profile::Coracle || self.policy().grants_anonymous() || has_public()
    }

    /// The token service that clients are sent to in place of this registry's own.
    pub(crate) const fn external_issuer(&self) -> Option<&Bearer> {
        self.config.http.auth.bearer.as_ref()
    }

    /// The realm of a challenge to send a password.
    pub(crate) fn realm(&self) -> &str {
        &self.config.http.realm
    }

    /// Names that clients may know this registry's token service by, besides the host they asked.
    pub(crate) fn token_services(&self) -> &[String] {
        &self.config.http.auth.token_services
    }

    pub(crate) const fn api_description(&self) -> &OnceLock<[Bytes; 2]> {
        &self.api_description
    }

    pub(crate) const fn pieces(&self) -> &ByteBudget {
        &self.pieces
    }

    pub(crate) const fn unsent(&self) -> &ByteBudget {
        &self.unsent
    }

    pub(crate) const fn work(&self) -> &TaskTracker {
        &self.work
    }

    pub(crate) const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Where the metrics are, if they are on.
    pub(crate) fn metrics_path(&self) -> Option<&str> {
        let metrics = &self.config.extensions.metrics;
        metrics.enable.then_some(metrics.path.as_str())
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) const fn limits(&self) -> &Limits {
        &self.config.http.limits
    }

    pub(crate) const fn manifest_bytes_max(&self) -> usize {
        self.config.http.limits.max_manifest_size
    }

    /// An id that no other request has.
    pub(crate) fn next_request_id(&self) -> String {
        let mut id = String::with_capacity(REQUEST_ID_BYTES);
        let _ = write!(id, "{:08x}-{:x}", self.instance, self.requests.fetch_add(1, Ordering::Relaxed));
        id
    }

    /// How often to look for uploads that nobody continues.
    pub(crate) fn expiry_interval(&self) -> Duration {
        (self.config.storage.upload_expiry / 4).clamp(Duration::from_secs(1), Duration::from_hours(1))
    }
}
