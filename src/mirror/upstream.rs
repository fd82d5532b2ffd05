//! [`Upstream`]: another registry, or several that have the same content, asked one after the other.
//!
//! A failure of one address counts only if no other address has the content. Knows the client, and neither stores nor rights.

use std::sync::Arc;
use std::time::Duration;

use super::advice::Advice;
use super::client::{self, Allowance, Client, Effort, FetchedManifest, Refreshed};
use super::error::Error;
use super::names::NameRule;
use super::room::Limit;
use super::sync::{SyncRules, SyncState};
use crate::kit::metrics::UpstreamCounters;
use crate::oci::{Digest, Manifest, Reference, RepositoryName};

/// The effort to compare a tag whose manifest is stored: the client waits for it.
pub(super) const COMPARE: Effort = Effort { retries: 0, wait: Duration::from_millis(800), insists: false };
/// The effort to fetch what is not stored.
pub(super) const FETCH: Effort = Effort { retries: 2, wait: Duration::from_secs(15), insists: false };
/// A stored tag is not compared while the upstream allows fewer requests than this, or than a share of a small limit.
/// They are left for what is missing.
const QUOTA_FLOOR: u64 = 10;
/// The names of Docker Hub.
const HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Another registry, or several that have the same content.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    /// The hosts by which containerd names it (`?ns=`).
    pub(crate) hosts: Vec<String>,
    /// In the order in which they are tried.
    pub(crate) clients: Vec<Client>,
    pub(crate) rules: Vec<NameRule>,
    /// How long a tag is used before it is compared again.
    pub(crate) check_interval: Duration,
    /// Whether missing content is fetched when a client requests it. Otherwise only parts of stored images are.
    pub(crate) on_demand: bool,
    pub(crate) sync_rules: SyncRules,
    pub(crate) sync: Arc<SyncState>,
    pub(crate) counters: UpstreamCounters,
    /// On the bytes that are held of it.
    pub(crate) limit: Arc<Limit>,
    /// Whether it gets the credentials of each client, and decides who may pull.
    pub(crate) passes_logins: bool,
    pub(crate) advice: Advice,
}

/// Whether a host is Docker Hub.
pub(crate) fn is_hub(host: &str) -> bool {
    HUB_HOSTS.iter().any(|hub| host.eq_ignore_ascii_case(hub))
}

/// Whether two hosts are the same registry.
pub(crate) fn is_same_host(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || is_hub(one) && is_hub(other)
}

/// A manifest with the host that it came from.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) manifest: FetchedManifest,
    pub(super) host: String,
}

impl Fetched {
    /// The manifest, if it can be read.
    pub(super) fn read(&self) -> Option<Manifest> {
        Manifest::read(&self.manifest.bytes, Some(&self.manifest.media_type)).ok()
    }
}

impl Upstream {
    pub(super) fn is_at(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| is_same_host(own, host))
    }

    /// The name of the upstream for people: its first host.
    pub(crate) fn label(&self) -> &str {
        self.hosts.first().map_or("", String::as_str)
    }

    /// The rule that a local repository follows, and the repository at the upstream.
    pub(super) fn rule_of(&self, local: &RepositoryName) -> Option<(&NameRule, RepositoryName)> {
        self.rules.iter().find_map(|rule| Some((rule, rule.remote(local)?)))
    }

    /// The requests for manifests that the upstream still allows, if one of its clients knows.
    pub(crate) fn allowance(&self) -> Option<Allowance> {
        self.clients.iter().filter_map(Client::allowance).min_by_key(|allowance| allowance.left)
    }

    pub(super) async fn fetch(
        &self,
        remote: &RepositoryName,
        reference: &Reference,
        effort: Effort,
    ) -> Result<Fetched, Error> {
        let fetched = self.first(|client| async move {
            let manifest = client.manifest(remote, reference, effort).await?;
            Ok(manifest.map(|manifest| Fetched { manifest, host: client.host().to_owned() }))
        });
        fetched.await?.ok_or(Error::NotFound)
    }

    /// Compares a stored tag with the upstream. Returns the new manifest if the tag has moved. Fails if each client allows
    /// too few further requests.
    pub(super) async fn refresh(
        &self,
        remote: &RepositoryName,
        tag: &Reference,
        held: Digest,
    ) -> Result<Option<Fetched>, Error> {
        let refreshed = self.first(|client| async move {
            let host = client.host().to_owned();
            if let Some(allowance) = client.allowance().filter(|allowance| allowance.is_below(QUOTA_FLOOR)) {
                let left = allowance.left;
                let message = format!("it allows only {left} more requests, which are left for missing content");
                return Err(client::Error::RateLimited { host, retry_after: None, message });
            }
            Ok(client.refresh(remote, tag, held, COMPARE).await?.map(|refreshed| match refreshed {
                Refreshed::Unchanged => None,
                Refreshed::Changed(manifest) => Some(Fetched { manifest, host }),
            }))
        });
        refreshed.await?.ok_or(Error::NotFound)
    }

    pub(super) async fn referrers(
        &self,
        remote: &RepositoryName,
        subject: Digest,
        effort: Effort,
    ) -> Result<Vec<Digest>, Error> {
        let found = self.first(|client| async move { client.referrers(remote, subject, effort).await });
        Ok(found.await?.unwrap_or_default())
    }

    pub(super) async fn blob_size(&self, remote: &RepositoryName, digest: Digest) -> Result<Option<u64>, Error> {
        self.first(|client| async move { client.blob_size(remote, digest, FETCH).await }).await
    }

    /// Asks one client after the other, until one has what is requested. Returns `None` if no client has it. Fails if no
    /// client has it and one of them failed.
    pub(super) async fn first<T, F>(&self, ask: impl Fn(Client) -> F) -> Result<Option<T>, Error>
    where
        F: Future<Output = Result<Option<T>, client::Error>>,
    {
        let mut attempts = Attempts::default();
        for client in &self.clients {
            if let Some(found) = attempts.note(ask(client.clone()).await) {
                return Ok(Some(found));
            }
        }
        attempts.nothing().map(|()| None)
    }
}

/// The outcome of asking several clients one after the other.
#[derive(Default)]
pub(super) struct Attempts(Option<client::Error>);

impl Attempts {
    /// Keeps the first failure.
    pub(super) fn note<T>(&mut self, result: Result<Option<T>, client::Error>) -> Option<T> {
        match result {
            Ok(found) => found,
            Err(error) => {
                self.0.get_or_insert(error);
                None
            }
        }
    }

    /// No client has what was requested, or one of them failed.
    pub(super) fn nothing(self) -> Result<(), Error> {
        self.0.map_or(Ok(()), |error| Err(error.into()))
    }
}
