//! Maintenance: the background work of a running registry.
//!
//! Each kind of work is a task that sleeps most of the time. The check whether work is due takes microseconds and runs
//! on the task itself. The work runs on a thread for blocking work. Stopping the registry waits for the current step.

use std::convert::Infallible;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::content::repository::Scrubbing;
use crate::events::Events;
use crate::kit::blocking;
use crate::kit::clock::Timestamp;
use crate::mirror::{Mirror, Patience, SyncScope};
use crate::registry::{Shared, Work};

/// How often the last uses of keys and sessions, and leases, are written. A crash loses at most this much of them.
const FLUSH_INTERVAL: Duration = Duration::from_mins(1);
/// How often the API keys that end soon are counted, for the metrics. That reads every key.
const KEYS_INTERVAL: Duration = Duration::from_mins(5);
/// How often changes are made durable if `storage.commit` is off. A crash loses at most this much of them.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// How often expired tags are removed. A check costs microseconds.
const TIDY_INTERVAL: Duration = Duration::from_secs(2);
/// How often leftover files of deleted blobs are looked for. They are rare.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// How often the journal is synced. A power failure loses at most this much of it, and then it is rebuilt.
const JOURNAL_INTERVAL: Duration = Duration::from_secs(10);
/// How often pulls are written. A crash loses at most this much of them.
const PULLS_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest and the longest time between two looks at what the mirror holds.
const EVICTION_PAUSE: Duration = Duration::from_millis(200);
const EVICTION_INTERVAL: Duration = Duration::from_hours(1);
/// How often repositories are looked for whose facts have to be read again. They are rare.
const FACTS_INTERVAL: Duration = Duration::from_mins(1);
/// How often the htpasswd file is checked. A changed password there ends sessions this much later.
const FILE_INTERVAL: Duration = Duration::from_millis(400);
/// How often users are looked for that an identity provider must be asked about: a quarter of the configured interval,
/// within these bounds.
const RECHECK_INTERVAL_MIN: Duration = Duration::from_millis(200);
const RECHECK_INTERVAL_MAX: Duration = Duration::from_mins(5);
const JOURNAL: &str = "writing the journal of manifests";
const PULLS: &str = "writing the counts of pulls";
const USES: &str = "writing the uses of mirrored content";
/// The longest time before the first garbage collection after a start. The leases of the minute before a crash were not
/// written, and their clients may return.
const FIRST_COLLECTION: Duration = Duration::from_mins(5);
/// The longest time before the first synchronisation after a start.
const FIRST_SYNC: Duration = Duration::from_secs(20);
/// The pause before a synchronisation that failed is repeated. Each further one is twice as long, up to the interval.
const SYNC_PAUSE: Duration = Duration::from_mins(1);
/// The pause after the first run of a takeover. Each of the next six pauses is twice as long.
const TAKEOVER_PAUSE: Duration = Duration::from_millis(500);
/// A run of a takeover is followed by a pause of at least this many times its duration.
const TAKEOVER_PAUSE_FACTOR: u32 = 2;
/// A step of long work is followed by a pause of this many times its duration, in which clients have the disk.
const PAUSE_FACTOR: u32 = 3;
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Starts all maintenance tasks.
pub(super) fn spawn(tasks: &mut JoinSet<()>, shared: &Arc<Shared>, stopped: &watch::Receiver<bool>) {
    let work = || Maintenance { shared: Arc::clone(shared), stopped: stopped.clone() };
    let config = shared.config();
    tasks.spawn(work().expire_uploads());
    tasks.spawn(work().tidy_tags());
    tasks.spawn(work().flush());
    tasks.spawn(work().count_keys());
    tasks.spawn(work().follow_file());
    tasks.spawn(work().sweep());
    tasks.spawn(work().maintain_journal());
    tasks.spawn(work().list_optional_layers());
    tasks.spawn(work().count_facts());
    tasks.spawn(work().write_pulls());
    for (upstream, every) in shared.mirror().into_iter().flat_map(Mirror::scheduled) {
        tasks.spawn(work().synchronise(upstream, every));
    }
    if shared.takeover_upstream().is_some() {
        tasks.spawn(work().take_over());
    }
    for sink in shared.events().into_iter().flat_map(Events::sinks) {
        let (stores, clock, work) = (Arc::clone(shared.stores()), shared.clock().clone(), shared.work().clone());
        tasks.spawn(Arc::clone(sink).run(stores, clock, work));
    }
    tasks.spawn(work().evict());
    for asked in Work::ALL {
        tasks.spawn(work().do_what_is_asked(asked));
    }
    tasks.spawn(work().flush_database());
    if config.storage.collection.enable {
        tasks.spawn(work().collect());
    }
    if let Some(every) = shared.shortest_recheck_interval() {
        tasks.spawn(work().recheck(every));
    }
    if config.extensions.scrub.enable {
        tasks.spawn(work().scrub());
    }
}

/// Returns a function that pauses between two steps of long work, so that clients go first. It ends the work when the
/// registry stops.
pub(super) fn pause_between_steps(stopped: &watch::Receiver<bool>) -> impl Fn(Duration) -> ControlFlow<()> + use<> {
    let stopped = stopped.clone();
    move |step| {
        if *stopped.borrow() {
            return ControlFlow::Break(());
        }
        std::thread::sleep((step * PAUSE_FACTOR).min(PAUSE_MAX));
        ControlFlow::Continue(())
    }
}

/// Ends the transfers of the mirror. What has arrived stays, and responses that wait for the rest end. A server that stops
/// calls this again when its connections are closed, because their last requests may have begun other transfers.
pub(super) fn stop_mirror(shared: &Shared) {
    if let Some(mirror) = shared.mirror() {
        mirror.stop();
    }
}

/// Writes everything that must be written before the registry ends.
pub(super) async fn last(shared: &Arc<Shared>, stopped: &watch::Receiver<bool>) {
    let work = Maintenance { shared: Arc::clone(shared), stopped: stopped.clone() };
    work.flush_once(true).await;
    work.run(PULLS, |shared| shared.stores().write_pulls()).await;
    work.run(USES, |shared| shared.stores().write_uses()).await;
    // The journal is only synced. Rebuilding it would delay the end.
    work.run(JOURNAL, |shared| shared.stores().maintain_journal(|_| ControlFlow::Break(()))).await;
}

/// A duration that is up to a tenth shorter, so that several registries do not ask an upstream at the same time.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(1.0 - rand::random::<f64>() / 10.0)
}

/// One maintenance task.
struct Maintenance {
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
}

impl Maintenance {
    /// Runs blocking work. An error is logged with the name of the work.
    async fn run<T, E>(&self, what: &str, work: impl FnOnce(&Shared) -> Result<T, E> + Send + 'static) -> Option<T>
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        match blocking::run(self.shared.work(), move || work(&shared)).await {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => tracing::error!(%error, "{what} failed"),
            Err(error) => tracing::error!(%error, "{what} failed"),
        }
        None
    }

    /// Runs blocking work if it is due.
    async fn run_if<T, E>(
        &self,
        what: &str,
        is_due: Result<bool, impl fmt::Display>,
        work: impl FnOnce(&Shared) -> Result<T, E> + Send + 'static,
    ) -> Option<T>
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        match is_due {
            Ok(true) => return self.run(what, work).await,
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "{what} failed"),
        }
        None
    }

    /// Writes the last uses of keys and sessions, leases and the steady clock.
    async fn flush(self) {
        loop {
            sleep(FLUSH_INTERVAL).await;
            self.flush_once(false).await;
        }
    }

    async fn flush_once(&self, at_end: bool) {
        self.run("writing the last uses of keys and sessions", |shared| shared.accounts().flush()).await;
        self.run("writing leases", |shared| shared.stores().write_leases()).await;
        self.run("writing the steady clock", move |shared| shared.stores().write_steady_clock(at_end)).await;
    }

    /// Counts the API keys that end soon, for the metrics.
    async fn count_keys(self) {
        loop {
            self.run("counting the API keys that end soon", Shared::count_keys_about_to_end).await;
            sleep(KEYS_INTERVAL).await;
        }
    }

    /// Reads the htpasswd file when it changes, if there is one.
    async fn follow_file(self) {
        let what = "reading the htpasswd file";
        let accounts = self.shared.accounts();
        if self.shared.config().http.auth.htpasswd.is_none() {
            self.run(what, |shared| shared.accounts().has_no_file(shared.stores().steady_time())).await;
            return;
        }
        loop {
            let is_due = Ok::<_, Infallible>(accounts.is_file_due(self.shared.stores().steady_time()));
            self.run_if(what, is_due, |shared| {
                shared.accounts().follow_file(shared.stores().steady_time());
                Ok::<_, Infallible>(())
            })
            .await;
            sleep(FILE_INTERVAL).await;
        }
    }

    /// Makes recent changes durable, if `storage.commit` is off. Otherwise makes checkpoints when nothing changes.
    async fn flush_database(self) {
        loop {
            sleep(SYNC_INTERVAL).await;
            if self.shared.stores().is_flush_due() {
                self.run("making changes durable", |shared| shared.stores().flush()).await;
            }
        }
    }

    /// Removes expired tags, and history that is older than it is kept.
    async fn tidy_tags(self) {
        loop {
            let is_due = self.shared.stores().is_tidying_due();
            let tidied = self.run_if("removing expired tags", is_due, |shared| shared.stores().tidy_tags()).await;
            if let Some(tidied) = tidied {
                tracing::info!(tidied.tags, tidied.past, "removed expired tags and old history");
            }
            sleep(TIDY_INTERVAL).await;
        }
    }

    /// Removes expired uploads.
    async fn expire_uploads(self) {
        loop {
            match self.run("removing expired uploads", |shared| shared.stores().expire_uploads()).await {
                None | Some(0) => {}
                Some(count) => tracing::info!(count, "removed expired uploads"),
            }
            sleep(self.shared.expiry_interval()).await;
        }
    }

    /// Removes the files of deleted blobs that a lease or a crash kept from being removed at once.
    async fn sweep(self) {
        loop {
            let is_due = self.shared.stores().has_orphans();
            self.run_if("removing the files of deleted blobs", is_due, |shared| shared.stores().sweep()).await;
            sleep(SWEEP_INTERVAL).await;
        }
    }

    /// Syncs the journal, and rebuilds it if it is missing or has grown too large.
    async fn maintain_journal(self) {
        loop {
            if self.shared.stores().is_journal_due() {
                let pause = pause_between_steps(&self.stopped);
                if self.run(JOURNAL, move |shared| shared.stores().maintain_journal(pause)).await == Some(true) {
                    tracing::info!("created a new manifests.log");
                }
            }
            sleep(JOURNAL_INTERVAL).await;
        }
    }

    /// Synchronises an upstream of the mirror, first shortly after the start. After a run that failed the next one starts
    /// earlier.
    async fn synchronise(self, upstream: usize, every: Duration) {
        let Some(mirror) = self.shared.mirror() else { return };
        let Some(state) = mirror.upstreams().get(upstream) else { return };
        let host = state.label();
        let mut failures = 0;
        let mut wait = jittered((every / 10).min(FIRST_SYNC));
        loop {
            state.sync.plan(wait);
            sleep(wait).await;
            match mirror.synchronise(upstream, &SyncScope::All, Patience::Schedule, false).await {
                Ok(report) if report.is_complete() => {
                    failures = 0;
                    let (tags, fetched, bytes) = (report.tags, report.fetched, report.bytes);
                    tracing::info!(host, report.repositories, tags, fetched, bytes, "synchronised with an upstream");
                }
                Ok(report) => {
                    failures += 1;
                    let (tags, failed, stopped) = (report.tags, report.failed, report.stopped.as_deref());
                    tracing::warn!(host, tags, failed, stopped, "could not synchronise everything with an upstream");
                }
                // A command does the same work.
                Err(error) => tracing::debug!(host, %error, "a scheduled synchronisation did not start"),
            }
            let again = if failures > 0 { SYNC_PAUSE.saturating_mul(1 << (failures - 1).min(16)) } else { every };
            wait = jittered(again.min(every));
        }
    }

    /// Fetches everything from the registry that is taken over. Compares again until the registry is restarted without it,
    /// because clients may still push there.
    async fn take_over(self) {
        let Some((mirror, at)) = self.shared.takeover_upstream() else { return };
        let (mut failures, mut runs): (Option<Vec<String>>, u32) = (None, 0);
        loop {
            let began = Instant::now();
            match mirror.synchronise(at, &SyncScope::All, Patience::Schedule, false).await {
                Ok(report) => {
                    let (tags, fetched, failed) = (report.tags, report.fetched, report.failed);
                    if self.shared.note_takeover(&report, failures.as_deref()) {
                        tracing::info!(tags, failed, "the takeover is done: restart without --takeover-from");
                    } else if let Some(stopped) = report.stopped.as_ref().filter(|_| !self.shared.is_taken_over()) {
                        tracing::warn!(tags, stopped, "the takeover continues later");
                    } else {
                        tracing::debug!(tags, fetched, failed, "compared with the registry that is taken over");
                    }
                    failures = Some(report.failures);
                }
                Err(error) => tracing::debug!(%error, "a run of the takeover did not start"),
            }
            runs = runs.saturating_add(1);
            let usual = TAKEOVER_PAUSE.saturating_mul(1 << runs.min(6));
            sleep(usual.max(began.elapsed() * TAKEOVER_PAUSE_FACTOR)).await;
        }
    }

    /// Measures the mirrored content, and evicts what is beyond its limits.
    async fn evict(self) {
        let Some(mirror) = self.shared.mirror() else { return };
        loop {
            let pause = pause_between_steps(&self.stopped);
            let evict =
                move |shared: &Shared| shared.mirror().map(|mirror| mirror.evict(false, false, &pause)).transpose();
            if let Some(Some(evicted)) = self.run("evicting mirrored content", evict).await
                && evicted.bytes > 0
            {
                let (blobs, manifests, bytes) = (evicted.blobs, evicted.manifests, evicted.bytes);
                tracing::info!(blobs, manifests, bytes, held = evicted.held.bytes(), "evicted mirrored content");
            }
            sleep(EVICTION_PAUSE).await;
            let _ = timeout(EVICTION_INTERVAL, mirror.full()).await;
        }
    }

    /// Writes the rows of foreign layers that an earlier version did not write.
    async fn list_optional_layers(self) {
        let what = "listing the foreign layers of manifests";
        let (is_due, pause) = (self.shared.stores().has_unlisted_layers(), pause_between_steps(&self.stopped));
        let listed = self.run_if(what, is_due, move |shared| shared.stores().list_optional_layers(pause)).await;
        if listed == Some(true) {
            tracing::info!("listed the foreign layers of manifests that an earlier version stored");
        }
    }

    /// Counts the totals and reads the facts that an earlier version did not write.
    async fn count_facts(self) {
        let what = "reading the facts of manifests";
        loop {
            let (pause, is_missing) = (pause_between_steps(&self.stopped), self.shared.stores().has_uncounted_facts());
            let is_missing = is_missing.unwrap_or(true);
            let counted = self.run(what, move |shared| shared.stores().count_facts(pause)).await;
            if is_missing && counted == Some(true) {
                tracing::info!("read the facts of manifests that an earlier version stored");
            }
            sleep(FACTS_INTERVAL).await;
            while self.shared.stores().has_uncounted_facts().is_ok_and(|is_missing| !is_missing) {
                sleep(FACTS_INTERVAL).await;
            }
        }
    }

    /// Writes the counts of pulls.
    async fn write_pulls(self) {
        loop {
            sleep(PULLS_INTERVAL).await;
            let is_due = Ok::<_, Infallible>(self.shared.stores().has_pulls());
            self.run_if(PULLS, is_due, |shared| shared.stores().write_pulls()).await;
            let is_due = Ok::<_, Infallible>(self.shared.stores().has_uses());
            self.run_if(USES, is_due, |shared| shared.stores().write_uses()).await;
        }
    }

    /// Asks identity providers whether their users still exist.
    async fn recheck(self, every: Duration) {
        loop {
            sleep((every / 4).clamp(RECHECK_INTERVAL_MIN, RECHECK_INTERVAL_MAX)).await;
            let due = self.run("rechecking federated users", Shared::due_federated_users).await;
            self.shared.recheck_federated_users(due.unwrap_or_default()).await;
        }
    }

    /// Runs retention and garbage collection, within the configured hours.
    async fn collect(self) {
        let rules = self.shared.config().storage.collection.clone();
        sleep(rules.interval.min(FIRST_COLLECTION)).await;
        loop {
            let now = Duration::from_micros(self.shared.now().micros());
            if rules.time_window.is_none_or(|window| window.contains(now)) {
                if self.shared.stores().has_tag_rules() {
                    self.retain_tags().await;
                }
                match self.shared.stores().is_collection_due() {
                    Ok(true) => self.collect_once().await,
                    Ok(false) => self.shared.note_idle_collection(),
                    Err(error) => tracing::error!(%error, "garbage collection failed"),
                }
            }
            sleep(rules.interval).await;
        }
    }

    async fn retain_tags(&self) {
        let pause = pause_between_steps(&self.stopped);
        let retained = self.run("retention", move |shared| shared.retain_tags(&pause)).await;
        if let Some(retained) = retained.filter(|retained| retained.removed > 0) {
            let (removed, kept) = (retained.removed, retained.kept);
            tracing::info!(removed, kept, retained.repositories, "retention removed tags");
        }
    }

    async fn collect_once(&self) {
        let pause = pause_between_steps(&self.stopped);
        let collect = move |shared: &Shared| {
            let delays = shared.stores().delays();
            shared.perform(
                Work::Collection,
                &pause,
                |progress, pause| shared.collect(delays, progress, pause),
                Work::describe_collection,
            )
        };
        if let Some(collected) = self.run("garbage collection", collect).await {
            let (manifests, links) = (collected.manifests, collected.links);
            let (blobs, bytes) = (collected.blobs, collected.bytes);
            tracing::info!(manifests, links, blobs, bytes, "collected unreferenced manifests and blobs");
        }
    }

    /// Checks stored data. A scrub that a stop interrupted continues with the remaining blobs.
    async fn scrub(self) {
        let rules = self.shared.config().extensions.scrub.clone();
        sleep(rules.interval.min(FIRST_COLLECTION)).await;
        loop {
            self.scrub_once(Some(self.shared.now().before(rules.interval))).await;
            sleep(rules.interval).await;
        }
    }

    /// Checks stored data, but no blobs that were hashed since a time.
    async fn scrub_once(&self, unless_since: Option<Timestamp>) {
        let pause = pause_between_steps(&self.stopped);
        let scrubbing = Scrubbing { repair: false, rate: self.shared.config().extensions.scrub.rate, unless_since };
        let scrub = move |shared: &Shared| {
            let stores = shared.stores();
            shared.perform(
                Work::Scrub,
                &pause,
                |progress, pause| stores.scrub(scrubbing, progress, pause),
                Work::describe_scrub,
            )
        };
        let Some(scrubbed) = self.run("scrub", scrub).await else { return };
        let (blobs, bytes) = (scrubbed.blobs, scrubbed.bytes);
        if scrubbed.is_clean() {
            tracing::info!(blobs, bytes, "scrub found no damage");
        } else {
            tracing::error!(
                blobs,
                bytes,
                damaged = scrubbed.damaged.len(),
                unreadable = scrubbed.unreadable.len(),
                lost = scrubbed.lost.len(),
                derived = scrubbed.derived.len(),
                strays = scrubbed.strays.len(),
                "scrub found damage: run coracle scrub for details"
            );
        }
    }

    /// Does the work that superusers ask for.
    async fn do_what_is_asked(self, work: Work) {
        loop {
            self.shared.activity().asked(work).await;
            match work {
                Work::Collection => self.collect_once().await,
                Work::Scrub => self.scrub_once(None).await,
            }
        }
    }
}
