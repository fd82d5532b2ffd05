//! Maintenance: the background work of a running registry.
//!
//! Each kind of work is a task that sleeps most of the time. Work on stored data runs on a thread for blocking work. So
//! does a check that reads the database, because the first read after a failure opens the database again. So does a
//! check that looks at a file, because a network file system may hang. Other checks, and waiting for other servers,
//! run on the task itself. Checks that read the database run one after another: a registry at rest then needs one
//! thread for them, and each thread costs memory. Stopping the registry waits for the current step, for a limited time.

mod mirror;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::TimeWindow;
use crate::content::repository::Scrubbing;
use crate::events::Events;
use crate::kit::blocking;
use crate::kit::clock::Timestamp;
use crate::kit::log_limit::LogLimit;
use crate::mirror::Mirror;
use crate::registry::{Shared, Work};

/// How often the last uses of keys and sessions, and leases, are written. A crash loses at most this much of them.
const FLUSH_INTERVAL: Duration = Duration::from_mins(1);
/// How often the API keys that end soon are counted, for the metrics. That reads every key.
const KEYS_INTERVAL: Duration = Duration::from_mins(5);
/// How often changes are made durable if `storage.commit` is off. A crash loses at most this much of them.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// How often expired tags are removed.
const TIDY_INTERVAL: Duration = Duration::from_secs(2);
/// How often leftover files of deleted blobs are looked for. They are rare.
const LEFTOVER_INTERVAL: Duration = Duration::from_mins(1);
/// How often the journal is synced. A power failure loses at most this much of it, and then it is rebuilt.
const JOURNAL_INTERVAL: Duration = Duration::from_secs(10);
/// How often pulls are written. A crash loses at most this much of them.
const PULLS_INTERVAL: Duration = Duration::from_secs(10);
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
const COLLECTION: &str = "garbage collection";
/// The longest time before the first garbage collection and the first scrub after a start. The leases of the minute
/// before a crash were not written, and their clients may return before the garbage collection. The scrub leaves the
/// disk to the clients that waited for the start.
const FIRST_LONG_WORK: Duration = Duration::from_mins(5);
/// The longest sleep until `storage.gcTimeWindow` opens. A small computer may have a wrong clock until it reaches the network.
const WINDOW_INTERVAL: Duration = Duration::from_mins(10);
/// The pause before work that runs once is tried again.
const RETRY_INTERVAL: Duration = Duration::from_mins(1);
/// A step of long work is followed by a pause of this many times its duration, in which clients have the disk.
const PAUSE_FACTOR: u32 = 3;
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Starts all maintenance tasks.
pub(super) fn spawn(tasks: &mut JoinSet<()>, shared: &Arc<Shared>, stopped: &watch::Receiver<bool>) {
    let checks = Arc::default();
    let work = || Maintenance::new(shared, stopped, &checks);
    let config = shared.config();
    tasks.spawn(work().expire_uploads());
    tasks.spawn(work().tidy_tags());
    tasks.spawn(work().flush());
    tasks.spawn(work().count_keys());
    tasks.spawn(work().follow_file());
    tasks.spawn(work().remove_leftover_files());
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
    for requested in Work::ALL {
        tasks.spawn(work().run_requested(requested));
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

/// Writes everything that must be written before the registry ends. Waits at most `wait` for it.
pub(super) async fn write_at_end(shared: &Arc<Shared>, stopped: &watch::Receiver<bool>, wait: Duration) {
    let work = Maintenance::new(shared, stopped, &Arc::default());
    let write = async {
        work.flush_once(true).await;
        work.run(PULLS, |shared| shared.stores().write_pulls()).await;
        work.run(USES, |shared| shared.stores().write_uses()).await;
        // The journal is only synced. Rebuilding it would delay the end.
        work.run(JOURNAL, |shared| shared.stores().maintain_journal(|_| ControlFlow::Break(()))).await;
    };
    if timeout(wait, write).await.is_err() {
        tracing::warn!("the last uses, leases and the journal were still being written when the server stopped");
    }
}

/// Waits until a window is open. `now` is the time since 1970.
async fn opened(window: TimeWindow, now: impl Fn() -> Duration) {
    loop {
        let wait = window.opens_in(now());
        if wait.is_zero() {
            return;
        }
        sleep(wait.min(WINDOW_INTERVAL)).await;
    }
}

/// One maintenance task.
struct Maintenance {
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    /// A task holds this while its check reads the database.
    checks: Arc<tokio::sync::Mutex<()>>,
    /// Limits the log lines about each kind of work that fails.
    failures: Mutex<HashMap<&'static str, LogLimit>>,
}

impl Maintenance {
    fn new(shared: &Arc<Shared>, stopped: &watch::Receiver<bool>, checks: &Arc<tokio::sync::Mutex<()>>) -> Self {
        Self {
            shared: Arc::clone(shared),
            stopped: stopped.clone(),
            checks: Arc::clone(checks),
            failures: Mutex::default(),
        }
    }

    /// Runs blocking work. An error is logged with the name of the work.
    async fn run<T, E>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Shared) -> Result<T, E> + Send + 'static,
    ) -> Option<T>
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        match blocking::run(self.shared.work(), move || work(&shared)).await {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => self.note_failure(what, &error),
            Err(error) => self.note_failure(what, &error),
        }
        None
    }

    fn note_failure(&self, what: &'static str, error: &dyn fmt::Display) {
        let mut failures = self.failures.lock();
        if let Some(count) = failures.entry(what).or_default().pass() {
            tracing::error!(%error, count, "{what} failed");
        }
    }

    /// Runs a check that reads the database, after those of the other tasks. It may write what it found, if that is little.
    async fn check<T, E>(
        &self,
        what: &'static str,
        check: impl FnOnce(&Shared) -> Result<T, E> + Send + 'static,
    ) -> Option<T>
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let _turn = self.checks.lock().await;
        self.run(what, check).await
    }

    /// Runs blocking work if a check says that it is due.
    async fn run_if<T, E>(
        &self,
        what: &'static str,
        is_due: impl FnOnce(&Shared) -> Result<bool, E> + Send + 'static,
        work: impl FnOnce(&Shared) -> Result<T, E> + Send + 'static,
    ) -> Option<T>
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        if self.check(what, is_due).await? { self.run(what, work).await } else { None }
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
            self.check("counting the API keys that end soon", Shared::count_keys_about_to_end).await;
            sleep(KEYS_INTERVAL).await;
        }
    }

    /// Reads the htpasswd file when it changes, if there is one.
    async fn follow_file(self) {
        let what = "reading the htpasswd file";
        if self.shared.config().http.auth.htpasswd.is_none() {
            let has_no_file = |shared: &Shared| shared.accounts().has_no_file(shared.stores().steady_time());
            while self.check(what, has_no_file).await.is_none() {
                sleep(RETRY_INTERVAL).await;
            }
            return;
        }
        loop {
            let follow = |shared: &Shared| {
                shared.accounts().follow_file(shared.stores().steady_time());
                Ok::<_, Infallible>(())
            };
            self.run(what, follow).await;
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
            let is_due = |shared: &Shared| shared.stores().is_tidying_due();
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
    async fn remove_leftover_files(self) {
        loop {
            let is_due = |shared: &Shared| shared.stores().has_leftover_files();
            let remove = |shared: &Shared| shared.stores().remove_leftover_files();
            self.run_if("removing the files of deleted blobs", is_due, remove).await;
            sleep(LEFTOVER_INTERVAL).await;
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

    /// Writes the rows of foreign layers that an earlier version did not write.
    async fn list_optional_layers(self) {
        let what = "listing the foreign layers of manifests";
        loop {
            let is_due = self.check(what, |shared| shared.stores().has_unlisted_layers()).await;
            if is_due == Some(false) {
                return;
            }
            let pause = pause_between_steps(&self.stopped);
            if self.run(what, move |shared| shared.stores().list_optional_layers(pause)).await == Some(true) {
                tracing::info!("listed the foreign layers of manifests that an earlier version stored");
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    /// Counts the totals and reads the facts that an earlier version did not write.
    async fn count_facts(self) {
        let what = "reading the facts of manifests";
        let has_missing = |shared: &Shared| shared.stores().has_uncounted_facts();
        loop {
            let is_missing = self.check(what, has_missing).await != Some(false);
            let pause = pause_between_steps(&self.stopped);
            let counted = self.run(what, move |shared| shared.stores().count_facts(pause)).await;
            if is_missing && counted == Some(true) {
                tracing::info!("read the facts of manifests that an earlier version stored");
            }
            sleep(FACTS_INTERVAL).await;
            while self.check(what, has_missing).await == Some(false) {
                sleep(FACTS_INTERVAL).await;
            }
        }
    }

    /// Writes the counts of pulls.
    async fn write_pulls(self) {
        loop {
            sleep(PULLS_INTERVAL).await;
            if self.shared.stores().has_pulls() {
                self.run(PULLS, |shared| shared.stores().write_pulls()).await;
            }
            if self.shared.stores().has_uses() {
                self.run(USES, |shared| shared.stores().write_uses()).await;
            }
        }
    }

    /// Asks identity providers whether their users still exist.
    async fn recheck(self, every: Duration) {
        // The last user of each provider, so that users about whom it gives no answer do not keep out the others.
        let mut last = HashMap::new();
        loop {
            sleep((every / 4).clamp(RECHECK_INTERVAL_MIN, RECHECK_INTERVAL_MAX)).await;
            let after = std::mem::take(&mut last);
            let due = move |shared: &Shared| shared.due_federated_users(&after);
            let due = self.check("rechecking federated users", due).await.unwrap_or_default();
            last = due.iter().map(|who| (who.provider.clone(), who.name.clone())).collect();
            self.shared.recheck_federated_users(due).await;
        }
    }

    /// Runs retention and garbage collection, within the configured hours.
    async fn collect(self) {
        let rules = self.shared.config().storage.collection.clone();
        sleep(rules.interval.min(FIRST_LONG_WORK)).await;
        loop {
            if let Some(window) = rules.time_window {
                opened(window, || Duration::from_micros(self.shared.now().micros())).await;
            }
            if self.shared.stores().has_tag_rules() {
                self.retain_tags().await;
            }
            match self.check(COLLECTION, |shared| shared.stores().is_collection_due()).await {
                Some(true) => self.collect_once().await,
                Some(false) => self.shared.note_idle_collection(),
                None => {}
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
        if let Some(collected) = self.run(COLLECTION, collect).await {
            let (manifests, links) = (collected.manifests, collected.links);
            let (blobs, bytes) = (collected.blobs, collected.bytes);
            tracing::info!(manifests, links, blobs, bytes, "collected unreferenced manifests and blobs");
        }
    }

    /// Checks stored data. A scrub that a stop interrupted continues with the remaining blobs.
    async fn scrub(self) {
        let rules = self.shared.config().extensions.scrub.clone();
        sleep(rules.interval.min(FIRST_LONG_WORK)).await;
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
                unreferenced = scrubbed.unreferenced.len(),
                "scrub found damage: run coracle scrub for details"
            );
        }
    }

    /// Runs the work that superusers request.
    async fn run_requested(self, work: Work) {
        loop {
            self.shared.activity().requested(work).await;
            match work {
                Work::Collection => self.collect_once().await,
                Work::Scrub => self.scrub_once(None).await,
            }
        }
    }
}
