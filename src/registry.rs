//! [`Registry`]: the stores, who may use them, and the rules, in one value. No socket and no task:
//! those are in [`crate::server`].

mod builder;
mod error;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::HeaderValue;

use tokio_util::task::TaskTracker;

pub use builder::Builder;
pub use error::Error;

use crate::access::{AccessPolicy, Authenticator, Password};
use crate::blobs::Tree;
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::meta::{AccountRead, Meta, UserRow};
use crate::metrics::Metrics;
use crate::oci::RepositoryName;
use crate::repository::{Repository, Stores};

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
    meta: Arc<Meta>,
    clock: Clock,
    authenticator: Authenticator,
    policy: AccessPolicy,
    challenge: HeaderValue,
    config: Config,
    metrics: Arc<Metrics>,
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
        self.shared.meta.read(AccountRead::has_users).map_err(|error| Error::meta(error, &self.shared.tree))
    }

    /// Makes a user, or gives one another password and another standing. Blocks for the time of a
    /// password hash.
    pub fn put_user(&self, name: &str, password: &str, superuser: bool) -> Result<(), Error> {
        builder::put_user(&self.shared.meta, &self.shared.clock, name, &Password::new(password), superuser)
            .map_err(|error| error.in_tree(&self.shared.tree))
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

    pub(crate) const fn policy(&self) -> AccessPolicy {
        self.policy
    }

    /// What a caller who is not known is told to do.
    pub(crate) const fn challenge(&self) -> &HeaderValue {
        &self.challenge
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
        format!("{:08x}-{:x}", self.instance, self.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// How often to look for uploads that nobody continues.
    pub(crate) fn expiry_interval(&self) -> Duration {
        (self.config.storage.upload_expiry / 4).clamp(Duration::from_secs(1), Duration::from_hours(1))
    }
}

/// Stores a user.
fn user_row(password: &Password, superuser: bool, clock: &Clock) -> Result<UserRow, crate::access::InvalidPassword> {
    Ok(UserRow { password: password.hash()?, superuser, created: clock.now() })
}
