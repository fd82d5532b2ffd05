//! Synchronisation: tags of an upstream with all their content, on a schedule or on command.
//!
//! A run compares each tag with one HEAD request. It fetches a changed image completely, and only then moves the tag. Blobs
//! that were fetched stay, so a run that was killed continues with what is missing. A tag that the upstream no longer has
//! stays here.

mod image;
mod report;
mod run;

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::client::{Allowance, Effort};
use super::{Mirror, Upstream};
use crate::kit::bounded_map::BoundedMap;
use crate::oci::{Digest, RepositoryName, Tag};
pub(crate) use report::{Finished, Running, SyncReport};
use run::Run;

/// The effort for each request. A run is patient, because no client waits for it.
const EFFORT: Effort = Effort { retries: u32::MAX, wait: Duration::from_secs(30), insists: false };
/// The effort of a command until the upstream has responded, so that a person does not wait for one that is down.
const HASTY_EFFORT: Effort = Effort { retries: 0, wait: Duration::from_secs(30), insists: true };
/// How often a command tries an upstream that cannot be reached.
const HASTY_ATTEMPTS: u32 = 2;
/// The images that are fetched at the same time. Other requests of the upstream are left to clients.
const IMAGES: usize = 3;
/// How often an image is tried.
const ATTEMPTS: u32 = 4;
/// The pause before an image is tried again. Each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause before an image is tried again.
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// How often the referrers of an unchanged image are listed.
const REFERRERS_INTERVAL: Duration = Duration::from_hours(24);
/// The most images whose last list of referrers is remembered.
const REFERRERS_LISTED_MAX: usize = 64 * 1024;
/// A run waits or ends while the upstream allows fewer requests for manifests than this, or than a share of a small limit.
/// They are left for clients.
const QUOTA_FLOOR: u64 = 20;
/// How often in a row a run waits until a limit of the upstream begins again. Clients or others may use all of it.
const QUOTA_WAITS: u32 = 20;
/// The pause in addition to the time after which a limit begins again.
const QUOTA_PAUSE: Duration = Duration::from_millis(200);

/// The requests that a run leaves for clients. 0 if the limit begins again so soon that the run waits for it.
pub(super) fn quota_floor(allowance: Allowance) -> u64 {
    if allowance.begins_again.is_some() { 0 } else { allowance.floor(QUOTA_FLOOR) }
}

/// How long a run waits for an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as it takes. No user waits, and a later run does what this one could not do.
    Schedule,
    /// Seconds, if the upstream cannot be reached at the beginning, because a user waits.
    Command,
}

/// How an upstream is synchronised.
#[derive(Clone, Debug)]
pub(crate) struct SyncRules {
    /// How often a run starts. `None` for an upstream that is synchronised on command only. Then a run updates the tags
    /// that are stored.
    pub(crate) interval: Option<Duration>,
    /// Whether images without a signature are left out.
    pub(crate) only_signed: bool,
    /// Whether the signatures that cosign stores under tags come along.
    pub(crate) signature_tags: bool,
    /// The longest time for one image.
    pub(crate) timeout: Duration,
    pub(crate) ownership: Ownership,
}

impl SyncRules {
    /// Whether a run fetches everything that the rules name, and not only what is stored already.
    const fn covers_everything(&self) -> bool {
        self.interval.is_some() || matches!(self.ownership, Ownership::Own { .. })
    }
}

/// The owner of the content that a run has fetched: the upstream or this registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// It is a copy: compared with the upstream, and evicted when there is no room.
    #[default]
    Mirrored,
    /// It becomes content of this registry, as if a client had pushed it.
    Own {
        /// Whether tags that clients pushed here are moved.
        overwrite: bool,
    },
}

/// The part of an upstream that a run covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SyncScope {
    /// Everything that the rules of the upstream name.
    All,
    /// A local repository.
    Repository(RepositoryName),
    /// A tag of a local repository, also if no rule for tags permits it.
    Tag(RepositoryName, Tag),
}

/// The synchronisation of one upstream.
#[derive(Debug, Default)]
pub(crate) struct SyncState {
    running: Mutex<Option<Running>>,
    last: Mutex<Option<Finished>>,
    next: Mutex<Option<Instant>>,
    /// When the referrers of images were listed last.
    referrers: Mutex<BoundedMap<(RepositoryName, Digest), Instant, REFERRERS_LISTED_MAX>>,
}

impl SyncState {
    pub(crate) fn running(&self) -> Option<Running> {
        self.running.lock().clone()
    }

    pub(crate) fn last(&self) -> Option<Finished> {
        self.last.lock().clone()
    }

    /// The time until the next run, if one is planned.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.next.lock().map(|next| next.saturating_duration_since(Instant::now()))
    }

    /// Notes when the next run starts.
    pub(crate) fn plan(&self, after: Duration) {
        *self.next.lock() = Some(Instant::now() + after);
    }

    fn update(&self, change: impl FnOnce(&mut Running)) {
        if let Some(running) = &mut *self.running.lock() {
            change(running);
        }
    }

    /// Whether the referrers of an image must be listed now.
    fn is_listing_due(&self, name: &RepositoryName, digest: Digest) -> bool {
        let listed = self.referrers.lock().get(&(name.clone(), digest)).copied();
        listed.is_none_or(|listed| listed.elapsed() >= REFERRERS_INTERVAL)
    }

    fn listed(&self, name: &RepositoryName, digest: Digest) {
        let is_recent = |listed: &Instant| listed.elapsed() < REFERRERS_INTERVAL;
        self.referrers.lock().insert((name.clone(), digest), Instant::now(), is_recent);
    }
}

/// Why a run did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    #[error("{upstream} is being synchronised already: `coracle mirror status` shows how far it is")]
    Running { upstream: String },
    #[error("the registry is stopping")]
    Stopped,
}

/// Removes the running state of a run that ends or is dropped.
struct Slot<'a>(&'a SyncState);

impl<'a> Slot<'a> {
    fn take(upstream: &'a Upstream) -> Result<Self, SyncError> {
        let mut running = upstream.sync.running.lock();
        if running.is_some() {
            return Err(SyncError::Running { upstream: upstream.label().to_owned() });
        }
        *running = Some(Running::default());
        Ok(Slot(&upstream.sync))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.running.lock() = None;
    }
}

impl Mirror {
    /// The upstreams with a schedule: their positions, and how often a run starts.
    pub(crate) fn scheduled(&self) -> impl Iterator<Item = (usize, Duration)> {
        let upstreams = self.upstreams.iter().enumerate();
        upstreams.filter_map(|(at, upstream)| Some((at, upstream.sync_rules.interval?)))
    }

    pub(crate) fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    /// The upstreams and the scope that a command means: a host, a local repository, or a tag of one. Without a name, all
    /// upstreams that have a schedule. Returns none if nothing here has the name.
    pub(crate) fn sync_targets(&self, name: Option<&str>) -> Vec<(usize, SyncScope)> {
        let Some(name) = name else {
            return self.scheduled().map(|(at, _)| (at, SyncScope::All)).collect();
        };
        let all = self.upstreams.iter().enumerate();
        let at_host: Vec<_> = all.filter(|(_, upstream)| upstream.is_at(name)).map(|(at, _)| at).collect();
        if !at_host.is_empty() {
            return at_host.into_iter().map(|at| (at, SyncScope::All)).collect();
        }
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (name, None),
        };
        let Ok(repository) = repository.parse::<RepositoryName>() else { return Vec::new() };
        let scope = match tag.map(str::parse::<Tag>) {
            None => SyncScope::Repository(repository.clone()),
            Some(Ok(tag)) => SyncScope::Tag(repository.clone(), tag),
            Some(Err(_)) => return Vec::new(),
        };
        // A schedule has stricter rules than on-demand mirroring, so it goes first.
        let fits = |upstream: &&Upstream| upstream.rule_of(&repository).is_some();
        let position = |wanted: bool| {
            let upstreams = self.upstreams.iter().enumerate();
            upstreams
                .filter(|(_, upstream)| upstream.sync_rules.interval.is_some() == wanted)
                .find(|(_, upstream)| fits(upstream))
                .map(|(at, _)| at)
        };
        position(true).or_else(|| position(false)).map(|at| (at, scope)).into_iter().collect()
    }

    /// Brings the content of an upstream that the scope names up to date. A dry run only compares.
    pub(crate) async fn synchronise(
        &self,
        at: usize,
        scope: &SyncScope,
        patience: Patience,
        dry_run: bool,
    ) -> Result<SyncReport, SyncError> {
        let Some(upstream) = self.upstreams.get(at) else { return Err(SyncError::Stopped) };
        let _slot = Slot::take(upstream)?;
        upstream.sync.update(|running| running.since = Some(Instant::now()));
        let started = Instant::now();
        let stopping = self.fills.stopping();
        let run = Run::new(self, upstream, patience, dry_run);
        tokio::select! {
            () = run.run(scope) => {}
            () = stopping.cancelled() => run.stop("the registry is stopping".to_owned()),
        }
        let mut report = run.report();
        // Several images are compared at the same time, and end in any order.
        report.would_fetch.sort_unstable();
        report.failures.sort_unstable();
        if !dry_run {
            *upstream.sync.last.lock() =
                Some(Finished { ended: Instant::now(), took: started.elapsed(), report: report.clone() });
        }
        Ok(report)
    }
}
