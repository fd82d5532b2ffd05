//! [`Registry`]: stores, accounts and access rules in one value. Sockets and tasks are in [`crate::server`].

#[cfg_attr(not(feature = "acme"), path = "registry/acme/absent.rs")]
mod acme;
mod activity;
mod builder;
mod catalog;
mod client_settings;
#[cfg(test)]
mod crash;
mod directory;
mod disk;
mod error;
mod events;
mod explain;
mod key_check;
mod mirror;
mod notices;
mod prepared;
#[cfg_attr(not(feature = "openid"), path = "registry/providers/absent.rs")]
mod providers;
mod rate_limits;
mod recheck;
mod reload;
mod retention;
mod serving;
mod takeover;
mod traces;
mod upstreams;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use notices::Notices;
use parking_lot::RwLock;
use reload::ReloadWarning;
use tokio_util::task::TaskTracker;
use url::Url;

pub(crate) use acme::{CertificateReport, NoCertificate, certificate_report};
pub(crate) use activity::{Activity, Work, WorkState};
pub use builder::Builder;
pub(crate) use client_settings::{ClientSettings, MirrorClient};
pub(crate) use directory::open as open_directory;
pub(crate) use disk::{DiskCount, DiskMeter, NotCounted};
pub use error::Error;
pub(crate) use error::PORT_RIGHT;
pub(crate) use events::open_sink;
pub(crate) use explain::{Explanation, Grant};
pub(crate) use notices::Notice;
pub(crate) use prepared::start_problems;
pub(crate) use rate_limits::{Counted, Exceeded, LimitedClient, Quota, RateLimits};
pub(crate) use serving::Serving;
pub(crate) use takeover::TakeoverView;
pub(crate) use upstreams::{MirrorExplanation, MirrorSource, RunningSync, UpstreamView};

use crate::acme::Acme;
use crate::config::{AllowedOrigins, Bearer, Config, Limits, Network, Profile};
use crate::content::blobs::Tree;
use crate::content::repository::{Repository, Stores};
use crate::content::rows::AccountRole;
use crate::events::Events;
use crate::identity::access::{Access, AccessControl, Actions, Authenticator, Caller, Policy, Refusal, Rules};
use crate::identity::accounts::{Accounts, NewUser, Origin, Password, Permissions, UserChange};
use crate::identity::providers::Providers;
use crate::identity::tokens::Tokens;
use crate::kit::access_log::AccessLog;
use crate::kit::byte_budget::ByteBudget;
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::metrics::Metrics;
use crate::kit::site::Site;
use crate::kit::traces::Traces;
use crate::mirror::Mirror;
pub(crate) use crate::mirror::RemoteImages;
use crate::oci::RepositoryName;
use crate::search::Engine;
use crate::transfer::Transfers;

/// The usual length of a request id: eight digits, a hyphen and a number.
const REQUEST_ID_BYTES: usize = 20;

/// An open registry. Clones are the same registry. The data directory is released when the last clone and the last server
/// are dropped.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) shared: Arc<Shared>,
}

/// The state that all requests share.
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
    reload_warning: ReloadWarning,
    /// Replaced as a whole when the access rules change.
    policy: RwLock<Arc<Policy>>,
    config: Config,
    /// `http.externalUrl`, parsed. Open registries compare the host of every request with it.
    external_origin: Option<Url>,
    metrics: Arc<Metrics>,
    access_log: AccessLog,
    traces: Traces,
    /// How many requests are answered. `None` for any number.
    rate_limits: Option<RateLimits>,
    /// The server of the registry, once it accepts connections.
    serving: OnceLock<Serving>,
    /// The background work that runs.
    activity: Activity,
    /// The last count of the use of the disk.
    disk: Arc<DiskMeter>,
    /// The description of API v1, in the parts before and after the URL of the registry. Made when it is first requested.
    api_description: OnceLock<[Bytes; 2]>,
    /// Limits the large responses that are in memory and not sent.
    unsent: ByteBudget,
    /// Limits the pieces of blobs that are in memory and not sent.
    pieces: ByteBudget,
    mirror: Option<Arc<Mirror>>,
    /// The sinks of events, if there are any.
    events: Option<Events>,
    /// The certificate, if an ACME authority issues it.
    acme: Option<Arc<Acme>>,
    takeover: Option<takeover::Takeover>,
    /// The imports and exports that run.
    transfers: Transfers,
    search: Arc<Engine>,
    /// zot's web page, if it is served.
    site: Option<Site>,
    /// Work that continues when its client disconnects. A stop waits for it.
    work: TaskTracker,
    /// Distinguishes the request ids of this process from those of others.
    instance: u32,
    requests: AtomicU64,
    /// The data directory of a temporary registry, removed on drop.
    _temporary: Option<tempfile::TempDir>,
}

impl Registry {
    /// Returns a builder, which opens a registry.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.shared.tree.root().to_owned()
    }

    /// Whether there is a user.
    pub fn has_users(&self) -> Result<bool, Error> {
        self.shared.accounts.has_users().map_err(|error| Error::accounts(error, &self.shared.tree))
    }

    /// Creates a user, or sets password and role of an existing one. Blocks for the time of a password hash.
    pub fn put_user(&self, name: &str, password: &str, superuser: bool) -> Result<(), Error> {
        let role = if superuser { AccountRole::Superuser } else { AccountRole::Ordinary };
        self.shared
            .put_user(name, &Password::new(password), role)
            .map_err(|error| Error::accounts(error, &self.shared.tree))
    }
}

impl Registry {
    /// Replaces the access rules (`http.accessControl`), for all requests from now on.
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

    /// The mirror of other registries, if there is one.
    pub(crate) fn mirror(&self) -> Option<&Mirror> {
        self.mirror.as_deref()
    }

    /// The sinks of events, if there are any.
    pub(crate) const fn events(&self) -> Option<&Events> {
        self.events.as_ref()
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

    /// The clock, which tests move.
    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The time now, for decisions.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Decides whether a caller has access.
    pub(crate) fn decide(
        &self,
        caller: &Caller,
        access: &Access,
    ) -> Result<Result<(), Refusal>, crate::identity::accounts::Error> {
        let (policy, now) = (self.policy(), self.now());
        let decided = policy.decide(caller, access, &Permissions::default(), now);
        match access {
            // Permissions only add rights, so they are looked up if nothing else grants access.
            Access::Repository(name, _) if decided.is_err() => {
                Ok(policy.decide(caller, access, &*self.accounts.permissions(name)?, now))
            }
            _ => Ok(decided),
        }
    }

    /// The actions that a caller may take in a repository.
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

    /// Creates a user, or sets password and role of an existing one.
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

    /// The identity providers.
    pub(crate) const fn providers(&self) -> &Providers {
        &self.providers
    }

    /// The URL that clients use, if it is configured.
    pub(crate) fn external_url(&self) -> Option<&str> {
        self.config.http.external_url.as_deref()
    }

    /// The URL that clients use, parsed.
    pub(crate) const fn external_origin(&self) -> Option<&Url> {
        self.external_origin.as_ref()
    }

    /// Whether clients reach the registry by https.
    pub(crate) fn is_https(&self) -> bool {
        self.config.http.has_tls() || self.external_url().is_some_and(|url| url.starts_with("https://"))
    }

    /// The proxies whose forwarding headers are believed.
    pub(crate) fn trusted_proxies(&self) -> &[Network] {
        &self.config.http.trusted_proxies
    }

    /// Logs a notice about a peer, once.
    pub(crate) fn notice(&self, notice: Notice, peer: IpAddr) {
        self.notices.give(notice, peer);
    }

    /// The notices about peers that were logged.
    pub(crate) fn notices(&self) -> Vec<(Notice, IpAddr)> {
        self.notices.all()
    }

    /// How long the cookie of a session is valid.
    pub(crate) const fn session_lifetime(&self) -> Duration {
        self.config.http.auth.session_lifetime
    }

    /// Whether the registry has pages for browsers.
    pub(crate) const fn has_pages(&self) -> bool {
        self.config.http.ui && cfg!(feature = "ui")
    }

    /// The origins whose pages may call the registry.
    pub(crate) const fn allowed_origins(&self) -> &AllowedOrigins {
        &self.config.http.allow_origin
    }

    /// The imports and exports that run.
    pub(crate) const fn transfers(&self) -> &Transfers {
        &self.transfers
    }

    /// The engine of zot's search.
    pub(crate) const fn search(&self) -> &Arc<Engine> {
        &self.search
    }

    /// Whether zot's search is offered.
    pub(crate) const fn has_search(&self) -> bool {
        self.config.extensions.search.enable
    }

    /// The files of zot's web page, if it is served.
    pub(crate) const fn site(&self) -> Option<&Site> {
        self.site.as_ref()
    }

    /// Whether users can star and bookmark repositories.
    pub(crate) const fn has_preferences(&self) -> bool {
        self.has_search() && self.config.extensions.ui.enable
    }

    /// Whether there are API keys.
    pub(crate) const fn has_api_keys(&self) -> bool {
        self.config.http.auth.api_keys
    }

    /// The paths of the data directory.
    pub(crate) const fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read())
    }

    /// Whether a challenge asks for an access token instead of a password. zot asks for a password, but then docker without a
    /// password gives up. So the challenge also asks for a token if anonymous callers may pull anything.
    pub(crate) fn wants_tokens(&self) -> bool {
        let has_public = || {
            self.accounts.has_public_repositories().unwrap_or_else(|error| {
                tracing::error!(%error, "cannot look up public repositories for a challenge");
                false
            })
        };
        self.config.profile == Profile::Coracle || self.policy().grants_anonymous() || has_public()
    }

    /// The external token issuer that clients are sent to.
    pub(crate) const fn external_issuer(&self) -> Option<&Bearer> {
        self.config.http.auth.bearer.as_ref()
    }

    /// The realm of a challenge that asks for a password.
    pub(crate) fn realm(&self) -> &str {
        &self.config.http.realm
    }

    /// Names of this registry that clients may ask access tokens for, in addition to its host.
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

    pub(crate) const fn traces(&self) -> &Traces {
        &self.traces
    }

    pub(crate) const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(crate) const fn access_log(&self) -> &AccessLog {
        &self.access_log
    }

    /// Counts the API keys that end soon, for the metrics.
    pub(crate) fn count_keys_about_to_end(&self) -> Result<(), crate::identity::accounts::Error> {
        self.metrics.keys_about_to_end(self.accounts.count_keys_about_to_end()?);
        Ok(())
    }

    /// The path of the metrics, if they are enabled.
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

    /// The limits on requests, if there are any.
    pub(crate) const fn rate_limits(&self) -> Option<&RateLimits> {
        self.rate_limits.as_ref()
    }

    pub(crate) const fn manifest_bytes_max(&self) -> usize {
        self.config.http.limits.max_manifest_size
    }

    /// A unique id for a request.
    pub(crate) fn next_request_id(&self) -> String {
        let mut id = String::with_capacity(REQUEST_ID_BYTES);
        let _ = write!(id, "{:08x}-{:x}", self.instance, self.requests.fetch_add(1, Ordering::Relaxed));
        id
    }

    /// How often to look for expired uploads.
    pub(crate) fn expiry_interval(&self) -> Duration {
        (self.config.storage.upload_expiry / 4).clamp(Duration::from_secs(1), Duration::from_hours(1))
    }
}
