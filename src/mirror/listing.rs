//! The lists of an upstream that clients get merged with ours: the tags of a mirrored repository, and the repositories of a
//! registry that is taken over.
//!
//! A list is asked for at most once in the check interval. If the upstream fails, its last list is used, or none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::client::Effort;
use super::error::Error;
use super::upstream::Upstream;
use super::{Checks, Mirror};
use crate::oci::{RepositoryName, Tag};

/// The effort for each page of a list: the client waits for it.
const EFFORT: Effort = Effort { retries: 0, wait: Duration::from_secs(2), insists: false };
/// The longest time for all pages.
const WAIT: Duration = Duration::from_secs(10);
/// How long the upstream is not asked again for a list that it did not provide. Clients that wait for the same list share
/// the failure.
const RETRY: Duration = Duration::from_secs(2);
/// The most lists of tags that are remembered. Each may have as many tags as the client accepts.
pub(super) const LISTINGS_MAX: usize = 16;

/// The list of an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Listed<T> {
    /// The names that the rules permit, in byte order.
    pub(crate) names: Arc<Vec<T>>,
    /// Why they may be outdated or missing.
    pub(crate) failure: Option<Error>,
}

/// The last list of an upstream.
#[derive(Debug)]
pub(super) struct Listing<T> {
    current_until: Option<Instant>,
    failed: Option<(Instant, Error)>,
    names: Arc<Vec<T>>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { current_until: None, failed: None, names: Arc::default() }
    }
}

pub(super) type Listings = Checks<RepositoryName, Listing<Tag>, LISTINGS_MAX>;

impl<T: Ord> Listing<T> {
    /// Asks the upstream if that is due.
    async fn refreshed(&mut self, interval: Duration, list: impl Future<Output = Result<Vec<T>, Error>>) -> Listed<T> {
        let now = Instant::now();
        let failure = if self.current_until.is_some_and(|until| until > now) {
            None
        } else if let Some((_, error)) = self.failed.as_ref().filter(|(until, _)| *until > now) {
            Some(error.clone())
        } else {
            match timeout(WAIT, list).await.unwrap_or(Err(Error::SlowList)) {
                Ok(mut names) => {
                    names.sort_unstable();
                    names.dedup();
                    *self = Self { current_until: Some(now + interval), failed: None, names: Arc::new(names) };
                    None
                }
                Err(error) => {
                    self.failed = Some((Instant::now() + RETRY, error.clone()));
                    Some(error)
                }
            }
        };
        Listed { names: Arc::clone(&self.names), failure }
    }
}

impl Mirror {
    /// The tags that the upstream of a repository lists. `None` if the repository is not mirrored on demand, or if its upstream
    /// decides by the credentials of each client: its list is not for others.
    pub(crate) async fn upstream_tags(&self, name: &RepositoryName) -> Option<Listed<Tag>> {
        let (upstream, remote) = self.find(name).filter(|(upstream, _)| !upstream.passes_logins)?;
        let listing = Self::check(&self.listings, name.clone());
        let mut listing = listing.lock().await;
        let list = async {
            let mut tags = upstream.tags(&remote).await?;
            let rule = upstream.rule_of(name).map(|(rule, _)| rule);
            tags.retain(|tag| rule.is_some_and(|rule| rule.permits(tag)));
            Ok(tags)
        };
        Some(listing.refreshed(upstream.check_interval, list).await)
    }

    /// The repositories that a registry has which is taken over, by their names here. `None` if none is taken over.
    pub(crate) async fn repositories_to_take_over(&self) -> Option<Listed<RepositoryName>> {
        let upstream = self.upstreams.iter().find(|upstream| upstream.is_taken_over())?;
        let mut listing = self.catalog.lock().await;
        let list = async {
            let names = upstream.repositories().await?;
            let local = |name: &RepositoryName| upstream.rules.iter().find_map(|rule| rule.local(name));
            // The configuration may give a name to another upstream, which goes first.
            let is_of = |name: &RepositoryName| self.find(name).is_some_and(|(of, _)| std::ptr::eq(of, upstream));
            Ok(names.iter().filter_map(local).filter(is_of).collect())
        };
        Some(listing.refreshed(upstream.check_interval, list).await)
    }
}

impl Upstream {
    /// The tags of a repository. Empty if the upstream does not have it.
    async fn tags(&self, remote: &RepositoryName) -> Result<Vec<Tag>, Error> {
        Ok(self.first(|client| async move { client.tags(remote, EFFORT).await }).await?.unwrap_or_default())
    }

    /// The repositories. Fails if the upstream has no list of them.
    async fn repositories(&self) -> Result<Vec<RepositoryName>, Error> {
        let listed = self.first(|client| async move { client.repositories(EFFORT).await }).await?;
        Ok(listed.ok_or(Error::NotFound)?.names)
    }
}
