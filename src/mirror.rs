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

pub(crate) mod client;
mod error;
mod fill;
mod names;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::spawn_blocking;

use crate::content::repository::{Held, PutMirrored, Repository, Stores};
use crate::kit::bounded_map::BoundedMap;
use crate::oci::{Digest, Reference, RepositoryName};
use client::{Client, Effort, ManifestState};
pub(crate) use error::Error;
pub(crate) use fill::Growing;
use fill::{Fills, Source};
pub(crate) use names::NameRule;

/// The effort to compare a tag whose manifest is stored: the client waits for it.
const COMPARE: Effort = Effort { retries: 0, wait: Duration::from_millis(800), insists: false };
/// The effort to fetch what is not stored.
const FETCH: Effort = Effort { retries: 2, wait: Duration::from_secs(15), insists: false };
/// How long it is remembered that an upstream does not have a manifest.
const ABSENT: Duration = Duration::from_secs(10);
/// The most references whose last comparison is remembered.
const CHECKS_MAX: usize = 64 * 1024;
/// The most referrers that are fetched for one manifest.
const REFERRERS_MAX: usize = 100;
/// The shortest time between two lists of the same referrers.
const REFERRERS_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// A stored tag is not compared while the upstream allows fewer requests than this. They are left for what is missing.
const QUOTA_FLOOR: u64 = 10;
/// The names of Docker Hub.
const HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Another registry, or several that have the same content.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// The hosts by which containerd names it (`?ns=`).
    pub(crate) hosts: Vec<String>,
    /// In the order in which they are tried.
    pub(crate) clients: Vec<Client>,
    pub(crate) rules: Vec<NameRule>,
    /// How long a tag is used before it is compared again.
    pub(crate) check_interval: Duration,
}

/// Whether a host is Docker Hub.
pub(crate) fn is_hub(host: &str) -> bool {
    HUB_HOSTS.iter().any(|hub| host.eq_ignore_ascii_case(hub))
}

/// Whether what is stored under a reference is up to date.
#[derive(Debug)]
pub(crate) enum Freshness {
    /// The repository mirrors nothing under this reference.
    Local,
    Current,
    /// The stored content may be outdated, because the upstream could not be asked.
    Stale(Error),
}

/// A blob that a client requests.
#[derive(Debug)]
pub(crate) enum BlobSource {
    /// The repository has it, or mirrors nothing.
    Local,
    Growing(Growing),
}

/// The state of a reference at its upstream.
#[derive(Debug, Default)]
struct Check {
    /// The stored content is used without a comparison until then.
    current_until: Option<Instant>,
    /// The upstream does not have it until then.
    absent_until: Option<Instant>,
}

type Checks<K> = BoundedMap<K, Arc<tokio::sync::Mutex<Check>>, CHECKS_MAX>;

/// The upstreams of a registry, and what is being fetched from them.
#[derive(Debug)]
pub(crate) struct Mirror {
    upstreams: Vec<Upstream>,
    /// The host that names without a rule belong to. Docker's daemon sends such names.
    bare_host: Option<String>,
    stores: Arc<Stores>,
    checks: Mutex<Checks<(RepositoryName, Reference)>>,
    /// The same for the lists of referrers, by subject.
    referrers: Mutex<Checks<(RepositoryName, Digest)>>,
    fills: Fills,
}

impl Mirror {
    pub(crate) fn new(upstreams: Vec<Upstream>, bare_host: Option<String>, stores: Arc<Stores>) -> Self {
        Self {
            upstreams,
            bare_host,
            stores,
            checks: Mutex::default(),
            referrers: Mutex::default(),
            fills: Fills::default(),
        }
    }

    /// Ends all transfers. What has arrived stays, and continues after a restart.
    pub(crate) fn stop(&self) {
        self.fills.stop();
    }

    /// The local repository that a client means. `host` is the registry that the client names with `?ns=`. Returns `None`
    /// for a host that is not mirrored.
    pub(crate) fn local_name(&self, name: &RepositoryName, host: Option<&str>) -> Option<RepositoryName> {
        if let Some(host) = host {
            let upstreams = self.upstreams.iter().filter(|upstream| upstream.is_at(host));
            return upstreams.flat_map(|upstream| &upstream.rules).find_map(|rule| rule.local(name));
        }
        let Some(bare) = &self.bare_host else { return Some(name.clone()) };
        let is_known = self.find(name).is_some() || self.stores.repository(name).is_known().unwrap_or(true);
        if is_known { Some(name.clone()) } else { self.local_name(name, Some(bare)).or_else(|| Some(name.clone())) }
    }

    /// The upstream of a repository, and the repository there.
    fn find(&self, name: &RepositoryName) -> Option<(&Upstream, RepositoryName)> {
        self.upstreams.iter().find_map(|upstream| {
            upstream.rules.iter().find_map(|rule| rule.remote(name)).map(|remote| (upstream, remote))
        })
    }

    /// Makes sure that the repository has the manifest of a reference, and that it is up to date.
    pub(crate) async fn manifest(&self, name: &RepositoryName, reference: &Reference) -> Result<Freshness, Error> {
        let Some((upstream, remote)) = self.find(name) else { return Ok(Freshness::Local) };
        let repository = self.stores.repository(name);
        match (repository.held(reference)?, reference) {
            (Held::Pushed, _) => return Ok(Freshness::Local),
            (Held::Mirrored(_), Reference::Digest(_)) => return Ok(Freshness::Current),
            _ => {}
        }
        let check = Self::check(&self.checks, (name.clone(), reference.clone()));
        // Others that want the same reference wait here.
        let mut check = check.lock().await;
        let now = Instant::now();
        let held = match repository.held(reference)? {
            Held::Pushed => return Ok(Freshness::Local),
            Held::Mirrored(digest) => digest,
            Held::Nothing => {
                if check.absent_until.is_some_and(|until| until > now) {
                    return Err(Error::NotFound);
                }
                let fetched = upstream.fetch(&remote, reference, FETCH).await;
                if matches!(fetched, Err(Error::NotFound)) {
                    check.absent_until = Some(now + ABSENT);
                }
                store(repository, reference, fetched?).await?;
                check.current_until = Some(now + upstream.check_interval);
                return Ok(Freshness::Current);
            }
        };
        if matches!(reference, Reference::Digest(_)) || check.current_until.is_some_and(|until| until > now) {
            return Ok(Freshness::Current);
        }
        match upstream.refresh(&remote, reference, held).await {
            Ok(changed) => {
                if let Some(fetched) = changed {
                    store(repository, reference, fetched).await?;
                }
                check.current_until = Some(now + upstream.check_interval);
                Ok(Freshness::Current)
            }
            Err(error) => Ok(Freshness::Stale(error)),
        }
    }

    /// Fetches the referrers of a mirrored manifest, such as its signatures, at most once in the interval. What is stored
    /// is listed if the upstream cannot be asked.
    pub(crate) async fn referrers(&self, name: &RepositoryName, subject: Digest) -> Result<(), Error> {
        let Some((upstream, remote)) = self.find(name) else { return Ok(()) };
        let repository = self.stores.repository(name);
        if repository.held(&Reference::Digest(subject))? == Held::Pushed {
            return Ok(());
        }
        let check = Self::check(&self.referrers, (name.clone(), subject));
        let mut check = check.lock().await;
        let now = Instant::now();
        if check.current_until.is_some_and(|until| until > now) {
            return Ok(());
        }
        match upstream.referrers(&remote, subject).await {
            Ok(referrers) => {
                for digest in referrers.into_iter().take(REFERRERS_MAX) {
                    let reference = Reference::Digest(digest);
                    if repository.held(&reference)? != Held::Nothing {
                        continue;
                    }
                    match upstream.fetch(&remote, &reference, COMPARE).await {
                        Ok(fetched) => store(repository.clone(), &reference, fetched).await?,
                        Err(error) => tracing::info!(%name, %digest, %error, "could not mirror a referrer"),
                    }
                }
            }
            Err(error) => tracing::info!(%name, %subject, %error, "could not list the referrers at the upstream"),
        }
        check.current_until = Some(now + upstream.check_interval.max(REFERRERS_INTERVAL_MIN));
        Ok(())
    }

    /// The state of a key that all requests for it share.
    fn check<K: Eq + std::hash::Hash>(checks: &Mutex<Checks<K>>, key: K) -> Arc<tokio::sync::Mutex<Check>> {
        let mut checks = checks.lock();
        Arc::clone(checks.entry(key, |check| Arc::strong_count(check) > 1).or_default())
    }

    /// Finds a blob, or begins to fetch it.
    pub(crate) async fn blob(&self, name: &RepositoryName, digest: Digest) -> Result<BlobSource, Error> {
        let Some((upstream, remote)) = self.find(name) else { return Ok(BlobSource::Local) };
        let repository = self.stores.repository(name);
        let state = repository.blob_state(digest)?;
        if state.is_held {
            return Ok(BlobSource::Local);
        }
        // Another repository has the bytes. The upstream must have them too, or a manifest there could name any blob of
        // this registry.
        if let Some(size) = state.size
            && upstream.blob_size(&remote, digest).await? == Some(size)
        {
            let linking = repository.clone();
            if spawn_blocking(move || linking.link_mirrored(digest)).await?? {
                return Ok(BlobSource::Local);
            }
        }
        let clients = upstream.clients.clone();
        let growing = self.fills.join(Source { repository, name: name.clone(), digest, clients, remote }).await?;
        Ok(BlobSource::Growing(growing))
    }

    /// The size of a blob that the repository does not have, for a client that does not request its bytes. `None` if the
    /// repository has it or mirrors nothing.
    pub(crate) async fn blob_size(&self, name: &RepositoryName, digest: Digest) -> Result<Option<u64>, Error> {
        let Some((upstream, remote)) = self.find(name) else { return Ok(None) };
        if self.stores.repository(name).blob_state(digest)?.is_held {
            return Ok(None);
        }
        upstream.blob_size(&remote, digest).await?.map(Some).ok_or(Error::NotFound)
    }
}

/// A manifest with the host that it came from.
struct Fetched {
    manifest: client::FetchedManifest,
    host: String,
}

impl Upstream {
    fn is_at(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host) || is_hub(own) && is_hub(host))
    }

    async fn fetch(&self, remote: &RepositoryName, reference: &Reference, effort: Effort) -> Result<Fetched, Error> {
        let mut attempts = Attempts::default();
        for client in &self.clients {
            if let Some(manifest) = attempts.note(client.manifest(remote, reference, effort).await) {
                return Ok(Fetched { manifest, host: client.host().to_owned() });
            }
        }
        attempts.nothing().and(Err(Error::NotFound))
    }

    /// Compares a stored tag with the upstream. Returns the new manifest if the tag has moved.
    async fn refresh(&self, remote: &RepositoryName, tag: &Reference, held: Digest) -> Result<Option<Fetched>, Error> {
        let mut attempts = Attempts::default();
        let mut state = None;
        if self.clients.iter().any(|client| client.remaining_quota().is_some_and(|left| left < QUOTA_FLOOR)) {
            return Ok(None);
        }
        for client in &self.clients {
            state = attempts.note(client.manifest_state(remote, tag, Some(held), COMPARE).await);
            if state.is_some() {
                break;
            }
        }
        match state {
            Some(ManifestState::Unchanged) => return Ok(None),
            Some(ManifestState::Changed(_)) => {}
            None => attempts.nothing()?,
        }
        // Some registries answer 404 to HEAD although they have the manifest.
        let fetched = self.fetch(remote, tag, COMPARE).await?;
        Ok(Some(fetched).filter(|fetched| fetched.manifest.digest != held))
    }

    async fn referrers(&self, remote: &RepositoryName, subject: Digest) -> Result<Vec<Digest>, Error> {
        let mut attempts = Attempts::default();
        for client in &self.clients {
            if let Some(found) = attempts.note(client.referrers(remote, subject, COMPARE).await) {
                return Ok(found);
            }
        }
        attempts.nothing().map(|()| Vec::new())
    }

    async fn blob_size(&self, remote: &RepositoryName, digest: Digest) -> Result<Option<u64>, Error> {
        let mut attempts = Attempts::default();
        for client in &self.clients {
            if let Some(size) = attempts.note(client.blob_size(remote, digest, FETCH).await) {
                return Ok(Some(size));
            }
        }
        attempts.nothing().map(|()| None)
    }
}

/// The outcome of asking several clients one after the other.
#[derive(Default)]
struct Attempts(Option<client::Error>);

impl Attempts {
    /// Keeps the first failure.
    fn note<T>(&mut self, result: Result<Option<T>, client::Error>) -> Option<T> {
        match result {
            Ok(found) => found,
            Err(error) => {
                self.0.get_or_insert(error);
                None
            }
        }
    }

    /// No client has what was requested, or one of them failed.
    fn nothing(self) -> Result<(), Error> {
        self.0.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Stores a manifest of an upstream.
async fn store(repository: Repository, reference: &Reference, fetched: Fetched) -> Result<(), Error> {
    let Fetched { manifest, host } = fetched;
    let tag = match reference {
        Reference::Tag(tag) => Some(tag.clone()),
        Reference::Digest(_) => None,
    };
    let client::FetchedManifest { digest, media_type, bytes } = manifest;
    let put = PutMirrored { digest, tag, media_type, bytes, upstream: host };
    Ok(spawn_blocking(move || repository.put_mirrored(put)).await??)
}
