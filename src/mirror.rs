//! The mirror: local copies of what other registries have, fetched when a client requests it.
//!
//! A rule says which repository of which upstream a local repository mirrors ([`NameRule`]). A manifest is stored when it is
//! requested, a blob while it is sent to the first client that requests it ([`Fills`]). A tag is compared with the upstream
//! at most once in an interval, a digest never. If the upstream cannot be asked, what is stored is served.
//!
//! Invariants:
//!
//! * A pushed manifest or tag is never replaced by one of an upstream.
//! * Clients that want the same thing cause one request to the upstream, and the first one may leave.
//! * What a client of ours may read is decided before anything here is called. The names of upstreams come only from the
//!   configuration.
//!
//! Knows the distribution protocol from the client's side. Knows no request of our own clients.

mod advice;
pub(crate) mod client;
mod destination;
mod error;
mod explain;
mod fill;
mod listing;
mod manifest;
mod names;
mod passing;
mod platforms;
mod remote;
mod room;
mod signed;
mod state;
mod sync;
mod takeover;
mod upstream;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::content::repository::{Held, Stores};
use crate::kit::bounded_map::BoundedMap;
use crate::kit::log_limit::LogLimit;
use crate::oci::{Digest, Reference, RepositoryName};
pub(crate) use advice::Advice;
use client::Login;
use destination::Destination;
pub(crate) use error::Error;
pub(crate) use explain::Compared;
pub(crate) use fill::Growing;
use fill::{Fills, Source};
pub(crate) use listing::Listed;
use listing::{Listing, Listings};
use manifest::Check;
pub(crate) use manifest::Freshness;
pub(crate) use names::NameRule;
use passing::Passing;
pub(crate) use passing::{Pulled, TICKET, is_ticket};
pub(crate) use platforms::Platforms;
pub(crate) use remote::{HUB_URL, RemoteImages};
pub(crate) use room::Limit;
pub(crate) use sync::{Finished, Ownership, Patience, Running, SyncReport, SyncRules, SyncScope};
use upstream::{Attempts, COMPARE, FETCH, Fetched};
pub(crate) use upstream::{Upstream, is_hub, is_same_host};

/// The most references whose last comparison is remembered.
const CHECKS_MAX: usize = 64 * 1024;
/// The most referrers that are fetched for one manifest.
const REFERRERS_MAX: usize = 100;
/// The shortest time between two lists of the same referrers.
const REFERRERS_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// How long the upstream is not asked again for referrers that it did not provide.
const REFERRERS_RETRY: Duration = Duration::from_secs(2);

/// The local repository that a client means.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The repository, or the mirrored one if the name has no host.
    pub(crate) name: RepositoryName,
    /// The name as the client wrote it, if it is also that of a repository which this registry may have itself. The caller's
    /// rights decide between the two, so that a client who may not read this repository cannot see whether it exists.
    pub(crate) bare: Option<RepositoryName>,
}

/// A blob that a client requests.
#[derive(Debug)]
pub(crate) enum BlobSource {
    /// The repository has it, or mirrors nothing.
    Local,
    Growing(Growing),
}

type Checks<K, C, const MAX: usize> = BoundedMap<K, Arc<tokio::sync::Mutex<C>>, MAX>;

/// The upstreams of a registry, and what is being fetched from them.
#[derive(Debug)]
pub(crate) struct Mirror {
    upstreams: Vec<Upstream>,
    /// The host that names without a rule belong to. Docker's daemon sends such names.
    bare_host: Option<String>,
    stores: Arc<Stores>,
    checks: Mutex<Checks<(RepositoryName, Reference), Check, CHECKS_MAX>>,
    /// The same for the lists of referrers, by subject.
    referrers: Mutex<Checks<(RepositoryName, Digest), Check, CHECKS_MAX>>,
    listings: Mutex<Listings>,
    /// The repositories of a registry that is taken over.
    catalog: tokio::sync::Mutex<Listing<RepositoryName>>,
    fills: Fills,
    /// On the bytes that are held of all upstreams.
    limit: Arc<Limit>,
    /// Notified when a limit is exceeded.
    full: Arc<Notify>,
    /// Bytes that were evicted since the start.
    evicted: AtomicU64,
    passing: Passing,
    /// Limits the log lines about pulls that fail.
    pub(crate) failed_pulls: LogLimit,
    /// The same for responses that may be outdated.
    pub(crate) stale_responses: LogLimit,
    /// The work that a stop of the registry waits for.
    work: TaskTracker,
}

impl Mirror {
    pub(crate) fn new(
        upstreams: Vec<Upstream>,
        bare_host: Option<String>,
        limit: Limit,
        stores: Arc<Stores>,
        work: TaskTracker,
    ) -> Self {
        Self {
            upstreams,
            bare_host,
            stores,
            checks: Mutex::default(),
            referrers: Mutex::default(),
            listings: Mutex::default(),
            catalog: tokio::sync::Mutex::default(),
            fills: Fills::new(),
            limit: Arc::new(limit),
            full: Arc::default(),
            evicted: AtomicU64::new(0),
            passing: Passing::default(),
            failed_pulls: LogLimit::default(),
            stale_responses: LogLimit::default(),
            work,
        }
    }

    /// Ends all transfers. What has arrived stays, and continues after a restart.
    pub(crate) fn stop(&self) {
        self.fills.stop();
    }

    /// The local repository that a client means. `host` is the registry that the client names with `?ns=`. Returns `None`
    /// for a host that is not mirrored.
    pub(crate) fn resolve(&self, name: &RepositoryName, host: Option<&str>) -> Option<Resolved> {
        let of = |name| Resolved { name, bare: None };
        match host {
            Some(host) => self.at_host(name, host).map(of),
            None => Some(match self.bare(name) {
                Some(mirrored) => Resolved { name: mirrored, bare: Some(name.clone()) },
                None => of(name.clone()),
            }),
        }
    }

    /// The local repository for a name without a host, if such names belong to a host. Docker's daemon sends them.
    pub(crate) fn bare(&self, name: &RepositoryName) -> Option<RepositoryName> {
        let host = self.bare_host.as_ref().filter(|_| self.find(name).is_none())?;
        self.at_host(name, host)
    }

    /// The local repository for a name at a host.
    fn at_host(&self, name: &RepositoryName, host: &str) -> Option<RepositoryName> {
        let upstreams = self.upstreams.iter().filter(|upstream| upstream.is_at(host));
        upstreams.flat_map(|upstream| &upstream.rules).find_map(|rule| rule.local(name))
    }

    /// The upstream from which a repository is mirrored on demand, and the repository there.
    fn find(&self, name: &RepositoryName) -> Option<(&Upstream, RepositoryName)> {
        let mut upstreams = self.upstreams.iter().filter(|upstream| upstream.on_demand);
        upstreams.find_map(|upstream| upstream.rule_of(name).map(|(_, remote)| (upstream, remote)))
    }

    /// Whether a repository mirrors an upstream, and no other one.
    fn is_of(&self, upstream: &Upstream, name: &RepositoryName) -> bool {
        let mut upstreams = self.upstreams.iter().filter(|upstream| upstream.rule_of(name).is_some());
        upstreams.next().is_some_and(|first| first.label() == upstream.label()) && upstreams.next().is_none()
    }

    /// Whether a repository mirrors another one, on demand or on a schedule.
    pub(crate) fn mirrors(&self, name: &RepositoryName) -> bool {
        self.upstreams.iter().any(|upstream| upstream.rule_of(name).is_some())
    }

    /// The upstream of a manifest or blob. A repository that is only synchronised gets the parts of stored manifests from
    /// its upstream, such as platforms that were left out.
    fn find_part(&self, name: &RepositoryName, digest: Digest) -> Result<Option<(&Upstream, RepositoryName)>, Error> {
        if let Some(found) = self.find(name) {
            return Ok(Some(found));
        }
        let of = |upstream| Upstream::rule_of(upstream, name).map(|(_, remote)| (upstream, remote));
        let Some(found) = self.upstreams.iter().find_map(of) else { return Ok(None) };
        Ok(self.stores.repository(name).blob_state(digest)?.is_listed.then_some(found))
    }

    /// Whether the upstream of a repository gets the credentials of each client.
    pub(crate) fn passes_logins(&self, name: &RepositoryName) -> bool {
        self.find(name).is_some_and(|(upstream, _)| upstream.passes_logins)
    }

    /// A ticket for credentials that the upstream of a repository accepts. `address` is that of the client.
    pub(crate) async fn ticket(
        &self,
        name: &RepositoryName,
        login: Login,
        address: Option<IpAddr>,
    ) -> Result<String, Error> {
        match self.find(name) {
            Some((upstream, remote)) if upstream.passes_logins => {
                self.passing.ticket(upstream, &remote, login, address).await
            }
            _ => Err(Error::NotFound),
        }
    }

    /// The credentials that a ticket names, if they are for the upstream of a repository.
    pub(crate) fn ticket_login(&self, name: &RepositoryName, ticket: &str) -> Option<Login> {
        let (upstream, _) = self.find(name)?;
        self.passing.login(upstream, ticket)
    }

    /// The name of the upstream of a repository.
    pub(crate) fn upstream_label(&self, name: &RepositoryName) -> Option<&str> {
        self.find(name).map(|(upstream, _)| upstream.label())
    }

    /// Fails unless the upstream permits a pull, if that is for it to decide. `address` is that of the client.
    pub(crate) async fn permit(
        &self,
        name: &RepositoryName,
        login: Option<&Login>,
        address: Option<IpAddr>,
        pulled: Pulled<'_>,
    ) -> Result<(), Error> {
        match self.find(name) {
            Some((upstream, remote)) if upstream.passes_logins => {
                let repository = self.stores.repository(name);
                let is_pushed = match pulled {
                    Pulled::Manifest(reference) => repository.is_pushed_manifest(reference)?,
                    Pulled::Blob(digest) => repository.is_pushed_blob(digest)?,
                };
                // The rules of this registry are enough for what was pushed here.
                if is_pushed && login.is_none() {
                    return Ok(());
                }
                self.passing.permit(upstream, &remote, login, address, pulled).await?;
                // A user of the upstream is no user of this registry, so that only the upstream's content is theirs.
                if is_pushed { Err(Error::NotFound) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// Notes that a client has got stored content by its digest.
    pub(crate) fn note_use(&self, name: &RepositoryName, digest: Digest) {
        if let Some(upstream) = self.upstreams.iter().find(|upstream| upstream.rule_of(name).is_some()) {
            upstream.counters.hits.inc();
            self.stores.repository(name).note_use(digest);
        }
    }

    /// Fetches the referrers of a mirrored manifest, such as its signatures, at most once in the interval. If the upstream
    /// does not provide all of them, what is stored is listed as stale, and the upstream is asked again a little later.
    pub(crate) async fn referrers(
        &self,
        name: &RepositoryName,
        subject: Digest,
        login: Option<&Login>,
    ) -> Result<Freshness, Error> {
        let Some((upstream, remote)) = self.find(name) else { return Ok(Freshness::Local) };
        let upstream = self.passing.upstream(upstream, login);
        let destination = self.destination(&upstream, name);
        // A registry that is taken over may have more referrers of what has become ours.
        if !upstream.is_taken_over() && destination.repository.held(&Reference::Digest(subject))? == Held::Pushed {
            return Ok(Freshness::Local);
        }
        let check = Self::check(&self.referrers, (name.clone(), subject));
        let mut check = check.lock().await;
        if check.current_until.is_some_and(|until| until > Instant::now()) {
            return Ok(Freshness::Current);
        }
        let known = check.refused.as_ref().filter(|(until, _)| *until > Instant::now());
        let failure = if let Some((_, error)) = known {
            Some(error.clone())
        } else {
            let failure = fetch_referrers(&upstream, &destination, &remote, subject).await?;
            let now = Instant::now();
            check.refused = failure.clone().map(|error| (now + REFERRERS_RETRY, error));
            if failure.is_none() {
                check.current_until = Some(now + upstream.check_interval.max(REFERRERS_INTERVAL_MIN));
            }
            failure
        };
        Ok(failure.map_or(Freshness::Current, |error| {
            upstream.counters.stale.inc();
            Freshness::Stale(error)
        }))
    }

    /// The state of a key that all requests for it share.
    fn check<K: Eq + std::hash::Hash, C: Default, const MAX: usize>(
        checks: &Mutex<Checks<K, C, MAX>>,
        key: K,
    ) -> Arc<tokio::sync::Mutex<C>> {
        Arc::clone(checks.lock().get_or_insert_with(key, Arc::default, |_| true))
    }

    /// Finds a blob, or begins to fetch it.
    pub(crate) async fn blob(
        &self,
        name: &RepositoryName,
        digest: Digest,
        login: Option<&Login>,
    ) -> Result<BlobSource, Error> {
        let Some((upstream, remote)) = self.find_part(name, digest)? else { return Ok(BlobSource::Local) };
        let upstream = self.passing.upstream(upstream, login);
        let source = self.blob_of(&upstream, name, remote, digest).await;
        match &source {
            Ok(BlobSource::Local) => upstream.counters.hits.inc(),
            _ => upstream.counters.misses.inc(),
        };
        source
    }

    /// Finds a blob, or begins to fetch it from an upstream.
    async fn blob_of(
        &self,
        upstream: &Upstream,
        name: &RepositoryName,
        remote: RepositoryName,
        digest: Digest,
    ) -> Result<BlobSource, Error> {
        let destination = self.destination(upstream, name);
        let repository = destination.repository.clone();
        let state = repository.blob_state(digest)?;
        if state.is_held {
            repository.note_use(digest);
            return Ok(BlobSource::Local);
        }
        upstream.check_listed(digest, state.is_listed)?;
        // Another repository got the bytes from the same upstream. This repository there must have them too. The word of
        // an upstream is not enough for other blobs, or it could get any blob of this registry by saying that it has it.
        if let Some(size) = state.size
            && !upstream.passes_logins
            && repository.is_fetched_by(digest, |holder| self.is_of(upstream, holder))?
            && upstream.blob_size(&remote, digest).await? == Some(size)
        {
            let linking = repository.clone();
            if destination.run(move || linking.link_mirrored(digest)).await? {
                return Ok(BlobSource::Local);
            }
        }
        let (clients, counters) = (upstream.clients.clone(), upstream.counters.clone());
        let size = repository.listed_size(digest)?;
        let source = Source { destination, name: name.clone(), digest, clients, remote, size, counters };
        let growing = self.fills.join(source).await?;
        Ok(BlobSource::Growing(growing))
    }

    /// The size of a blob that the repository does not have, for a client that does not request its bytes. `None` if the
    /// repository has it or mirrors nothing.
    pub(crate) async fn blob_size(
        &self,
        name: &RepositoryName,
        digest: Digest,
        login: Option<&Login>,
    ) -> Result<Option<u64>, Error> {
        let Some((upstream, remote)) = self.find_part(name, digest)? else { return Ok(None) };
        let upstream = self.passing.upstream(upstream, login);
        let state = self.stores.repository(name).blob_state(digest)?;
        if state.is_held {
            return Ok(None);
        }
        upstream.check_listed(digest, state.is_listed)?;
        upstream.blob_size(&remote, digest).await?.map(Some).ok_or(Error::NotFound)
    }
}

/// Fetches the referrers that the repository lacks. Returns why the upstream did not provide one of them, or their list.
async fn fetch_referrers(
    upstream: &Upstream,
    destination: &Destination,
    remote: &RepositoryName,
    subject: Digest,
) -> Result<Option<Error>, Error> {
    let referrers = match upstream.referrers(remote, subject, COMPARE).await {
        Ok(referrers) => referrers,
        Err(error) => return Ok(Some(error)),
    };
    let mut failure = None;
    for digest in referrers.into_iter().take(REFERRERS_MAX) {
        let reference = Reference::Digest(digest);
        if destination.repository.held(&reference)? != Held::Nothing {
            continue;
        }
        match upstream.fetch(remote, &reference, COMPARE).await {
            Ok(fetched) if upstream.takes_referrer(&fetched, subject) => destination.store(&reference, fetched).await?,
            Ok(_) => {
                tracing::info!(%remote, %digest, "left out a referrer that is an image, or of another subject (onlySigned)");
            }
            // The upstream lists what it no longer has.
            Err(Error::NotFound) => {}
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    Ok(failure)
}
