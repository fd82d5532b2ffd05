//! Operations that show the state of a registry, and the use of its disk. They change nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::certificate::{self, CertificateState};
use super::clock::{SET_CLOCK, wrong_clock};
use super::{Call, Failure, Operation, block_on};
use crate::content::repository::SearchScope;
use crate::kit::clock::Timestamp;
use crate::kit::network::is_loopback;
use crate::kit::text::{counted, size, some_of};
use crate::registry::{Notice, Shared, Work};

/// How long the state waits for a count of the use of the disk.
const COUNT_WAIT: Duration = Duration::from_secs(20);
/// How to free space.
pub(crate) const FREE_SPACE: &str = "to free space, run `coracle du`, which shows the largest repositories, and \
                                     `coracle gc`, which removes what nothing needs; `coracle gc --delay 0s \
                                     --purge-history`, when no push runs, also removes what was deleted lately and could \
                                     be restored";
/// A disk with less free space is full, even if the configuration permits it.
pub(crate) const FULL_BYTES: u64 = 1024 * 1024;
/// The repositories of one read.
const STEP: usize = 500;
/// How many addresses of proxies a warning names. Unknown clients cause them.
pub(crate) const PROXIES_SHOWN: usize = 3;
/// The most repositories whose use is counted.
const REPOSITORIES_MAX: usize = 100_000;

/// Show what runs, what is stored, and what needs attention
///
/// The exit code is 0 if the registry is running and its data can be read, and 1 otherwise. Warnings do not change it.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct ShowStatus {}

/// Checks that the data can be read. Costs so little that it may run every few seconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CheckHealth {}

/// The data can be read.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Healthy {}

impl Operation for CheckHealth {
    type Answer = Healthy;

    fn perform(self, call: &Call<'_>) -> Result<Healthy, Failure> {
        call.registry.stores().check()?;
        Ok(Healthy {})
    }
}

/// The state of a registry. Times are in RFC 3339.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) data_directory: String,
    /// The time of the registry.
    pub(crate) now: String,
    /// Null if the registry is stopped.
    pub(crate) server: Option<ServerState>,
    pub(crate) repositories: u64,
    pub(crate) blobs: u64,
    pub(crate) stored_bytes: u64,
    /// Null if the free space is unknown.
    pub(crate) free_bytes: Option<u64>,
    /// Pushes are refused with less free space.
    pub(crate) min_free_bytes: Option<u64>,
    /// Why pushes are refused. Null if they are not.
    pub(crate) refuses_pushes: Option<String>,
    pub(crate) read_only: bool,
    pub(crate) uploads: u64,
    pub(crate) upload_bytes: u64,
    /// The bytes that garbage collection frees when everything that is unreferenced now is due.
    pub(crate) unreferenced_bytes: u64,
    pub(crate) maintenance: Vec<WorkReport>,
    /// When `coracle backup` last finished. Null if it never did.
    pub(crate) last_backup: Option<String>,
    /// Null if the registry speaks no TLS.
    #[serde(default)]
    pub(crate) certificate: Option<CertificateState>,
    /// Everything that needs attention, and what to do.
    pub(crate) warnings: Vec<String>,
}

/// The server of a running registry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServerState {
    pub(crate) process: u32,
    /// The first place where it listens.
    pub(crate) url: String,
    /// Every place where it listens.
    #[serde(default)]
    pub(crate) urls: Vec<String>,
    pub(crate) external_url: Option<String>,
    pub(crate) since: String,
    pub(crate) uptime_seconds: u64,
    /// Peers that forward requests and are not in http.trustedProxies.
    pub(crate) untrusted_proxies: Vec<String>,
    /// Trusted proxies whose forwarding headers contradict each other.
    pub(crate) contradicting_proxies: Vec<String>,
}

/// A kind of background work since the start of the registry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WorkReport {
    /// `collection` or `scrub`.
    pub(crate) work: String,
    pub(crate) running_since: Option<String>,
    pub(crate) percent: Option<u8>,
    pub(crate) ended: Option<String>,
    pub(crate) result: Option<String>,
    /// Whether the last work found no problem. Null before the first one.
    pub(crate) good: Option<bool>,
}

impl Operation for ShowStatus {
    type Answer = Status;

    fn perform(self, call: &Call<'_>) -> Result<Status, Failure> {
        let (registry, stores) = (call.registry, call.registry.stores());
        let health = stores.check()?;
        let counted = block_on(registry.disk_use(COUNT_WAIT))?;
        let usage = counted.map_err(|error| Failure::Invalid(error.to_string()))?.usage;
        let (free, least) = stores.space().ok().unzip();
        let server = server(registry);
        let maintenance: Vec<_> = Work::ALL.into_iter().map(|work| report(registry, work)).collect();
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data_directory: registry.tree().root().display().to_string(),
            now: registry.now().to_string(),
            server,
            repositories: usage.repositories,
            blobs: usage.blobs,
            stored_bytes: usage.stored,
            free_bytes: free,
            min_free_bytes: least,
            refuses_pushes: health.pushes.err(),
            read_only: health.read_only,
            uploads: usage.uploads,
            upload_bytes: usage.upload_bytes,
            unreferenced_bytes: usage.unreferenced,
            maintenance,
            last_backup: stores.last_backup()?.map(|time| time.to_string()),
            certificate: certificate::state(registry),
            warnings: Vec::new(),
        };
        status.warnings = warnings(registry, &status, stores.damaged_blobs()?);
        if let Some(why) = registry.accounts().directory_state().and_then(|directory| directory.away) {
            status.warnings.push(format!(
                "the LDAP directory cannot be asked: {why}: `coracle doctor` tries it; see http.auth.ldap"
            ));
        }
        status.warnings.extend(sinks(registry)?);
        let unavailable = registry.unavailable_upstreams();
        status.warnings.extend(unavailable.map(|(name, why)| format!("the upstream {name} is not asked: {why}")));
        Ok(status)
    }
}

/// Warns about sinks that refused events, or take none.
fn sinks(registry: &Shared) -> Result<Vec<String>, Failure> {
    let (Some(events), stores) = (registry.events(), registry.stores()) else { return Ok(Vec::new()) };
    let mut warnings = Vec::new();
    for sink in events.sinks() {
        let (waiting, refused) = stores.sink_counts(sink.key())?;
        let events = |count| counted(count, "event", "events");
        if let Some(why) = sink.state().failing.filter(|_| waiting > 0) {
            let wait = if waiting == 1 { "waits" } else { "wait" };
            warnings.push(format!(
                "the sink {} takes no events, and {} {wait}: {why}: `coracle doctor` tries its address",
                sink.key(),
                events(waiting)
            ));
        }
        if refused > 0 {
            warnings.push(format!(
                "the sink {} refused {}: `coracle events list` says why, `coracle events redeliver` sends them again",
                sink.key(),
                events(refused as u64)
            ));
        }
    }
    let dropped = stores.dropped_events();
    if dropped > 0 {
        warnings.push(format!(
            "{} dropped since the start, because too many waited or were refused: see extensions.events.outboxLimit",
            counted(dropped, "event was", "events were")
        ));
    }
    Ok(warnings)
}

fn server(registry: &Shared) -> Option<ServerState> {
    let serving = registry.serving()?;
    let peers = |kind| {
        let notices = registry.notices().into_iter().filter(move |(notice, _)| *notice == kind);
        notices.map(|(_, peer)| peer.to_string()).collect()
    };
    Some(ServerState {
        process: std::process::id(),
        url: serving.url().to_owned(),
        urls: serving.urls.clone(),
        external_url: registry.external_url().map(str::to_owned),
        since: serving.since.to_string(),
        uptime_seconds: serving.uptime().as_secs(),
        untrusted_proxies: peers(Notice::UntrustedProxy),
        contradicting_proxies: peers(Notice::Contradiction),
    })
}

fn report(registry: &Shared, work: Work) -> WorkReport {
    let state = registry.activity().state(work);
    let text = |time: Timestamp| time.to_string();
    WorkReport {
        work: work.word().to_owned(),
        running_since: state.running_since.map(text),
        percent: state.percent,
        ended: state.ended.map(text),
        result: state.result,
        good: state.ended.map(|_| state.is_good),
    }
}

/// Collects what needs attention. Each line says what to do.
fn warnings(registry: &Shared, status: &Status, damaged: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if status.read_only {
        warnings.push("the database cannot be written: free space, or make the file system writable again".to_owned());
    }
    if let Some(why) = &status.refuses_pushes {
        warnings.push(format!("pushes are refused: {why}: {FREE_SPACE}; or lower storage.minFreeSpace"));
    } else if let Some(free) = status.free_bytes.filter(|free| *free < FULL_BYTES) {
        warnings.push(format!("the disk is full, {} are free: {FREE_SPACE}", size(free)));
    } else if let (Some(free), Some(least)) = (status.free_bytes, status.min_free_bytes)
        && registry.config().storage.is_space_low(free)
    {
        warnings.push(format!(
            "only {} are free, and pushes are refused below {}: {FREE_SPACE}",
            size(free),
            size(least)
        ));
    }
    if damaged > 0 {
        let blobs = counted(damaged as u64, "blob is", "blobs are");
        warnings.push(format!("{blobs} damaged: `coracle scrub` names the tags to push again"));
    }
    for work in Work::ALL {
        let (word, state) = (work.word(), registry.activity().state(work));
        match (state.failure, state.result) {
            (Some(why), _) => warnings.push(format!("the last {word} failed: {why}")),
            (None, Some(result)) if !state.is_good => {
                warnings.push(format!("the last {word} found a problem: {result}"));
            }
            _ => {}
        }
    }
    warnings.extend(registry.reload_warning());
    warnings.extend(certificate::warnings(registry));
    let tree = registry.tree();
    let clock = wrong_clock(registry.now(), [tree.journal(), tree.database(), tree.wal()]);
    warnings.extend(clock.map(|found| format!("{found}: {SET_CLOCK}")));
    if let Some(server) = &status.server {
        let proxies = &server.untrusted_proxies;
        if !proxies.is_empty() {
            let proxies = some_of(proxies, PROXIES_SHOWN);
            warnings.push(format!(
                "ignored forwarding headers of {proxies}: if it is your proxy, add its address to http.trustedProxies"
            ));
        }
        let proxies = &server.contradicting_proxies;
        if !proxies.is_empty() {
            let proxies = some_of(proxies, PROXIES_SHOWN);
            warnings.push(format!(
                "ignored contradicting forwarding headers of {proxies}: let the proxy remove those that it does not set"
            ));
        }
        warnings.extend(server.urls.iter().find_map(|url| clear_text(registry, url)));
    }
    warnings
}

/// Warns if clients on other machines send passwords in clear text.
fn clear_text(registry: &Shared, url: &str) -> Option<String> {
    let host = url.strip_prefix("http://")?.rsplit_once(':')?.0;
    let http = &registry.config().http;
    let is_protected = registry.external_url().is_some_and(|url| url.starts_with("https://"))
        || !http.trusted_proxies.is_empty()
        || http.open;
    (!is_loopback(host) && !is_protected).then(|| {
        "clients on other machines send passwords in clear text: configure http.tls, or a proxy with TLS and \
         http.externalUrl"
            .to_owned()
    })
}

/// Show the use of the disk by repository
///
/// LOGICAL is the size of all blobs of a repository. UNIQUE is the size of those that no other repository has: garbage
/// collection frees them after the repository is deleted. SHARED is the size of the others, which are stored once.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct DiskUsage {
    /// Only repositories whose names begin with this, such as team/ [default: all]
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    /// The order of the repositories
    #[arg(long, value_name = "ORDER", default_value = "logical")]
    sort: SortRepositories,
    /// Print only the first N repositories [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// An order of repositories: sizes from the largest to the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SortRepositories {
    Logical,
    Unique,
    Shared,
    Name,
}

/// The use of the disk, in bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiskReport {
    /// The beginning of the names of the repositories.
    #[serde(default)]
    pub(crate) prefix: String,
    pub(crate) repositories: Vec<RepositoryReport>,
    /// Repositories that the limit leaves out.
    pub(crate) left_out: usize,
    /// The sum over all repositories of the registry, as if they shared nothing.
    pub(crate) logical_bytes: u64,
    /// Each blob once.
    pub(crate) stored_bytes: u64,
    /// The blobs among them that several repositories have.
    pub(crate) shared_bytes: u64,
    pub(crate) uploads: u64,
    pub(crate) upload_bytes: u64,
    pub(crate) unreferenced_bytes: u64,
    pub(crate) free_bytes: Option<u64>,
    /// Whether there was too much to count, so that the figures are a part of the whole.
    pub(crate) truncated: bool,
}

/// The use of the disk by a repository.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RepositoryReport {
    pub(crate) name: String,
    pub(crate) blobs: u64,
    pub(crate) logical_bytes: u64,
    pub(crate) unique_bytes: u64,
    pub(crate) shared_bytes: u64,
}

impl Operation for DiskUsage {
    type Answer = DiskReport;

    fn perform(self, call: &Call<'_>) -> Result<DiskReport, Failure> {
        let stores = call.registry.stores();
        let counted = block_on(call.registry.disk_use(COUNT_WAIT))?;
        let usage = counted.map_err(|error| Failure::Invalid(error.to_string()))?.usage;
        let (mut repositories, mut last, mut truncated) = (Vec::new(), String::new(), usage.is_part);
        loop {
            let began = std::time::Instant::now();
            let page = stores.catalog((&self.prefix, &last), STEP, &SearchScope::All, |_| true)?;
            for name in page.names {
                let Ok(name) = name.parse() else { continue };
                let used = stores.repository_use(&name)?;
                repositories.push(RepositoryReport {
                    name: name.to_string(),
                    blobs: used.blobs,
                    logical_bytes: used.logical,
                    unique_bytes: used.unique,
                    shared_bytes: used.logical - used.unique,
                });
            }
            let Some(next) = page.next else { break };
            last = next;
            if repositories.len() >= REPOSITORIES_MAX || (call.pause)(began.elapsed()).is_break() {
                truncated = true;
                break;
            }
        }
        self.sort.sort(&mut repositories);
        let all = repositories.len();
        repositories.truncate(self.limit.unwrap_or(all));
        Ok(DiskReport {
            prefix: self.prefix,
            left_out: all - repositories.len(),
            repositories,
            logical_bytes: usage.logical,
            stored_bytes: usage.stored,
            shared_bytes: usage.shared,
            uploads: usage.uploads,
            upload_bytes: usage.upload_bytes,
            unreferenced_bytes: usage.unreferenced,
            free_bytes: stores.space().ok().map(|(free, _)| free),
            truncated,
        })
    }
}

impl SortRepositories {
    /// Sorts by size or by name. Repositories of one size stay in the order of their names.
    fn sort(self, repositories: &mut [RepositoryReport]) {
        let key = |repository: &RepositoryReport| match self {
            Self::Logical => repository.logical_bytes,
            Self::Unique => repository.unique_bytes,
            Self::Shared => repository.shared_bytes,
            Self::Name => 0,
        };
        repositories.sort_by_key(|repository| std::cmp::Reverse(key(repository)));
    }
}
