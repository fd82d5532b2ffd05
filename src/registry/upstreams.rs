//! The mirror for people: the state of upstreams, the reason why a reference is mirrored, and the settings of clients.
//! Commands and the API show these types as they are. Times are in RFC 3339.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::content::repository::{Error, Held, MirrorHolding};
use crate::kit::text::some_of;
use crate::mirror::{Finished, Mirror, Running, SyncReport, Upstream};
use crate::oci::{Reference, RepositoryName, Tag};

/// The most failures that are shown.
const FAILURES_MAX: usize = 20;
/// The patterns of an upstream that a message has.
const PATTERNS_SHOWN: usize = 10;

/// An upstream of the mirror.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct UpstreamView {
    /// Its first host.
    pub(crate) name: String,
    pub(crate) urls: Vec<String>,
    /// The rules that lead to local repositories.
    pub(crate) rules: Vec<String>,
    /// Whether missing content is fetched when a client requests it.
    pub(crate) on_demand: bool,
    /// How often it is synchronised, such as 6h. Null if it is not.
    pub(crate) poll_interval: Option<String>,
    /// Whether requests are sent to it. They are not for a while after it failed.
    pub(crate) available: bool,
    /// Why it is not asked.
    pub(crate) unavailable: Option<String>,
    /// The last request that failed since the registry started.
    pub(crate) last_error: Option<LastError>,
    /// Requests for manifests that it still allows. Null if it does not say so.
    pub(crate) quota_remaining: Option<u64>,
    /// Pulls since the registry started whose content was stored.
    pub(crate) hits: u64,
    /// Pulls since the registry started whose content had to be fetched.
    pub(crate) misses: u64,
    /// Pulls of tags since the registry started that could not be compared.
    pub(crate) stale: u64,
    /// Requests since the registry started that failed.
    pub(crate) errors: u64,
    /// Bytes of blobs that were fetched since the registry started.
    pub(crate) fetched_bytes: u64,
    /// The repositories here that have content of it.
    pub(crate) repositories: u64,
    /// The size of the mirrored content in them. A blob that they share counts once.
    pub(crate) bytes: u64,
    pub(crate) sync: SyncView,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LastError {
    pub(crate) at: String,
    pub(crate) message: String,
}

/// The synchronisation of an upstream since the registry started.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SyncView {
    pub(crate) running: Option<RunningSync>,
    pub(crate) last: Option<FinishedSync>,
    /// When the next run starts.
    pub(crate) next: Option<String>,
}

/// A run that is going on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RunningSync {
    pub(crate) since: String,
    pub(crate) dry_run: bool,
    pub(crate) repositories: u64,
    pub(crate) repositories_done: u64,
    /// The tags of the repositories so far.
    pub(crate) tags: u64,
    pub(crate) tags_done: u64,
    pub(crate) fetched: u64,
    pub(crate) failed: u64,
    pub(crate) bytes: u64,
    /// The last tag that was begun.
    pub(crate) current: String,
    /// Why it waits, and how long.
    #[serde(default)]
    pub(crate) waits: Option<String>,
}

/// A run that has ended.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct FinishedSync {
    pub(crate) ended: String,
    pub(crate) seconds: u64,
    pub(crate) repositories: u64,
    pub(crate) tags: u64,
    pub(crate) fetched: u64,
    pub(crate) unchanged: u64,
    pub(crate) failed: u64,
    pub(crate) bytes: u64,
    /// Why it ended early.
    pub(crate) stopped: Option<String>,
    /// The first failures.
    pub(crate) failures: Vec<String>,
    /// Content that may be missing although nothing failed, and the next steps after failures.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
}

/// Why a reference is mirrored or not, and its state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct MirrorExplanation {
    /// The local repository and the tag or digest.
    pub(crate) reference: String,
    pub(crate) upstream: Option<String>,
    /// The repository at the upstream.
    pub(crate) remote: Option<String>,
    pub(crate) rule: Option<String>,
    pub(crate) on_demand: bool,
    pub(crate) poll_interval: Option<String>,
    /// Whether content under the reference is stored, and pushed or mirrored.
    pub(crate) stored: Option<StoredReference>,
    /// When the tag was last compared. Null if it was not since the registry started.
    pub(crate) checked: Option<String>,
    /// When the tag is compared again, if a client pulls it.
    pub(crate) next_check: Option<String>,
    /// The conclusion.
    pub(crate) why: String,
}

/// Content that is stored under a reference.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredReference {
    pub(crate) digest: String,
    /// The host that it came from. Null if it was pushed.
    pub(crate) from: Option<String>,
    pub(crate) since: Option<String>,
    /// The blobs and manifests that it names and that are not stored.
    pub(crate) missing: u64,
}

/// The source of a repository with mirrored content.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct MirrorSource {
    /// The host of the upstream.
    pub(crate) upstream: String,
    /// The repository there.
    pub(crate) repository: String,
    /// When content was last fetched.
    pub(crate) fetched: String,
}

impl Shared {
    /// The source of a repository, if it has mirrored content and a rule leads to it.
    pub(crate) fn mirror_source(&self, name: &RepositoryName) -> Result<Option<MirrorSource>, Error> {
        let Some(placed) = self.mirror().and_then(|mirror| mirror.placed(name)) else { return Ok(None) };
        let fetched = self.repository(name).last_fetched()?;
        Ok(fetched.map(|fetched| MirrorSource {
            upstream: placed.upstream.label().to_owned(),
            repository: placed.remote.to_string(),
            fetched: fetched.to_string(),
        }))
    }

    /// The upstreams of the mirror. `holdings` are those of [`Mirror::holdings`].
    pub(crate) fn upstream_views(&self, holdings: &[MirrorHolding]) -> Vec<UpstreamView> {
        let upstreams = self.mirror().map_or(&[][..], Mirror::upstreams);
        upstreams.iter().zip(holdings).map(|(upstream, holding)| self.view(upstream, *holding)).collect()
    }

    /// The upstreams that are not asked now, and why.
    pub(crate) fn unavailable_upstreams(&self) -> impl Iterator<Item = (&str, String)> {
        let upstreams = self.mirror().map_or(&[][..], Mirror::upstreams);
        upstreams.iter().filter_map(|upstream| Some((upstream.label(), unavailable(&upstream.state().paused?))))
    }

    /// Counts the content of each upstream. May take long: the result blocks.
    pub(crate) fn count_mirrored(&self) -> impl FnOnce() -> Result<Vec<MirrorHolding>, Error> + Send + use<> {
        let mirror = self.mirror.clone();
        move || mirror.map_or(Ok(Vec::new()), |mirror| mirror.holdings())
    }

    fn view(&self, upstream: &Upstream, holding: MirrorHolding) -> UpstreamView {
        let (state, counters) = (upstream.state(), &upstream.counters);
        let last_error = state.last_error.map(|(at, message)| LastError { at: self.wall(at), message });
        UpstreamView {
            name: upstream.label().to_owned(),
            urls: upstream.urls(),
            rules: upstream.rules.iter().map(crate::mirror::NameRule::describe).collect(),
            on_demand: upstream.on_demand,
            poll_interval: upstream.sync_rules.interval.map(crate::kit::text::duration),
            available: state.paused.is_none(),
            unavailable: state.paused.as_ref().map(unavailable),
            last_error,
            quota_remaining: state.quota,
            hits: counters.hits.get(),
            misses: counters.misses.get(),
            stale: counters.stale.get(),
            errors: state.errors,
            fetched_bytes: counters.bytes.get(),
            repositories: holding.repositories,
            bytes: holding.bytes,
            sync: SyncView {
                running: upstream.sync.running().map(|running| self.running(running)),
                last: upstream.sync.last().map(|last| self.finished(last)),
                next: upstream.sync.next().map(|left| self.now().after(left).rounded().to_string()),
            },
        }
    }

    fn running(&self, running: Running) -> RunningSync {
        let Running { since, is_dry_run, repositories, tags, report, current, waits } = running;
        let waits = waits.map(|(until, why)| {
            format!("{why} (goes on in {})", in_seconds(until.saturating_duration_since(Instant::now())))
        });
        RunningSync {
            since: since.map_or_else(|| self.now().to_string(), |since| self.wall(since)),
            dry_run: is_dry_run,
            repositories,
            repositories_done: report.repositories,
            tags,
            tags_done: report.tags,
            fetched: report.fetched,
            failed: report.failed,
            bytes: report.bytes,
            current,
            waits,
        }
    }

    fn finished(&self, finished: Finished) -> FinishedSync {
        let Finished { ended, took, report } = finished;
        let SyncReport { repositories, tags, fetched, unchanged, failed, bytes, stopped, mut failures, notes, .. } =
            report;
        failures.truncate(FAILURES_MAX);
        let (ended, seconds) = (self.wall(ended), took.as_secs());
        FinishedSync { ended, seconds, repositories, tags, fetched, unchanged, failed, bytes, stopped, failures, notes }
    }

    /// A moment of this process as a time of the day. Whole seconds are the same in each answer: two clocks are read.
    fn wall(&self, at: Instant) -> String {
        self.now().before(at.elapsed()).rounded().to_string()
    }

    /// Explains a reference: a local name or a name with the host of an upstream, with a tag or digest.
    pub(crate) fn explain_mirror(&self, text: &str) -> Result<MirrorExplanation, String> {
        let (name, reference) = match (text.split_once('@'), text.rsplit_once(':')) {
            (Some((name, digest)), _) => (name, Reference::Digest(digest.parse().map_err(|error| format!("{error}"))?)),
            (None, Some((name, tag))) if !tag.contains('/') => {
                (name, Reference::Tag(tag.parse::<Tag>().map_err(|error| error.to_string())?))
            }
            _ => (text, Reference::Tag("latest".parse::<Tag>().map_err(|error| error.to_string())?)),
        };
        let Some(mirror) = self.mirror() else {
            return Err("this registry mirrors nothing: extensions.sync names the registries to mirror".to_owned());
        };
        let local = mirror.meant(name).ok_or_else(|| match name.split_once('/') {
            // No local name has the port of a host.
            Some((host, _)) if mirror.mirrors_host(host) => no_rule(mirror, name),
            _ => format!("{name:?} is not the name of a repository"),
        })?;
        self.explanation(mirror, &local, &reference).map_err(|error| error.to_string())
    }

    fn explanation(
        &self,
        mirror: &Mirror,
        local: &RepositoryName,
        reference: &Reference,
    ) -> Result<MirrorExplanation, Error> {
        let repository = self.repository(local);
        let separator = if matches!(reference, Reference::Digest(_)) { '@' } else { ':' };
        let held = repository.held(reference)?;
        let origin = repository.origin(reference)?;
        let mut explanation =
            MirrorExplanation { reference: format!("{local}{separator}{reference}"), ..MirrorExplanation::default() };
        if let Some(origin) = origin {
            explanation.stored = Some(StoredReference {
                digest: origin.digest.to_string(),
                from: origin.upstream,
                since: Some(origin.since.to_string()),
                missing: origin.missing,
            });
        }
        let Some(placed) = mirror.placed(local) else {
            explanation.why = no_rule(mirror, local.as_str());
            return Ok(explanation);
        };
        let upstream = placed.upstream;
        explanation.upstream = Some(upstream.label().to_owned());
        explanation.remote = Some(placed.remote.to_string());
        explanation.rule = Some(placed.rule.describe());
        explanation.on_demand = upstream.on_demand;
        explanation.poll_interval = upstream.sync_rules.interval.map(crate::kit::text::duration);
        let compared = mirror.compared(local, reference, upstream);
        let now = self.now();
        explanation.checked = compared.ago.map(|ago| now.before(ago).rounded().to_string());
        explanation.next_check = match (held, reference) {
            (Held::Mirrored(_), Reference::Tag(_)) if upstream.on_demand => {
                Some(now.after(compared.current_for.unwrap_or_default()).rounded().to_string())
            }
            _ => None,
        };
        explanation.why = why(upstream, held, reference, &compared);
        Ok(explanation)
    }
}

/// The conclusion about a repository outside of the rules.
fn no_rule(mirror: &Mirror, name: &str) -> String {
    let of = |upstream: &Upstream| {
        let patterns: Vec<String> = upstream.rules.iter().map(|rule| rule.pattern().to_owned()).collect();
        format!("{} of {}", some_of(&patterns, PATTERNS_SHOWN), upstream.label())
    };
    let mirrored: Vec<String> = mirror.upstreams().iter().map(of).collect();
    format!("no rule leads to {name}: it holds only what is pushed here. Mirrored are: {}", mirrored.join("; "))
}

/// Why an upstream is not asked now, and how long.
fn unavailable((left, why): &(Duration, String)) -> String {
    format!("{why} (asked again in {})", in_seconds(*left))
}

/// The conclusion about a reference that a rule covers.
fn why(upstream: &Upstream, held: Held, reference: &Reference, compared: &crate::mirror::Compared) -> String {
    let host = upstream.label();
    let state = upstream.state();
    let failure = compared.failed.as_ref().map(|(ago, error)| {
        let advice = upstream.advice.about(error).map(|advice| format!("; {advice}")).unwrap_or_default();
        format!("failed {} ago: {error}{advice}", in_seconds(*ago))
    });
    if held == Held::Pushed {
        return format!("a client pushed it here, so {host} is not asked for it and never replaces it");
    }
    if let Held::Mirrored(_) = held {
        if matches!(reference, Reference::Digest(_)) {
            return format!("stored: a digest is never compared with {host} again");
        }
        if !upstream.on_demand {
            return format!("stored: the synchronisation compares it with {host}, a pull does not");
        }
        if let Some((_, why)) = state.paused {
            return format!("stored and served as it is, because {host} cannot be asked: {why}");
        }
        return match (compared.current_for.filter(|left| !left.is_zero()), failure) {
            (Some(left), _) => {
                format!("stored and used without a comparison for another {}", in_seconds(left))
            }
            (None, Some(failure)) => format!("stored and served as it is, because the last comparison {failure}"),
            (None, None) => format!("stored: the next pull compares it with {host} (manifestCheckInterval is over)"),
        };
    }
    if let Some(left) = compared.absent_for {
        return format!("not stored: {host} did not have it, and is asked again in {}", in_seconds(left));
    }
    if !upstream.on_demand {
        let last = upstream.sync.last().and_then(|last| last.report.stopped);
        let last = last.map(|why| format!(". The last one ended early: {why}")).unwrap_or_default();
        return format!("not stored: only the synchronisation brings content of {host} (onDemand is false){last}");
    }
    if let Some(failure) = failure {
        return format!("not stored: the last pull {failure}");
    }
    match state.paused {
        Some((_, why)) => format!("not stored, and {host} cannot be asked: {why}"),
        None => format!("not stored: the first pull fetches it from {host}"),
    }
}

fn in_seconds(left: Duration) -> String {
    format!("{} s", left.as_secs() + 1)
}
