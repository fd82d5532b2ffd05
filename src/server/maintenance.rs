//! Maintenance: the background work of a running registry.
//!
//! Each kind of work is a task that sleeps most of the time. The check whether work is due takes microseconds and runs
//! on the task itself. The work runs on a thread for blocking work. Stopping the registry waits for the current step.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::content::repository::Scrubbing;
use crate::registry::Shared;

/// How often the last uses of keys and sessions, and leases, are written. A crash loses at most this much of them.
const FLUSH_INTERVAL: Duration = Duration::from_mins(1);
/// How often changes are made durable if `storage.commit` is off. A crash loses at most this much of them.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);
/// How often expired tags are removed. A check costs microseconds.
const TIDY_INTERVAL: Duration = Duration::from_secs(2);
/// How often leftover files of deleted blobs are looked for. They are rare.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// How often the journal is synced. A power failure loses at most this much of it, and then it is rebuilt.
const JOURNAL_INTERVAL: Duration = Duration::from_secs(10);
/// How often the htpasswd file is checked. A changed password there ends sessions this much later.
const FILE_INTERVAL: Duration = Duration::from_millis(400);
/// How often users are looked for that an identity provider must be asked about: a quarter of the configured interval,
/// within these bounds.
const RECHECK_INTERVAL_MIN: Duration = Duration::from_millis(200);
const RECHECK_INTERVAL_MAX: Duration = Duration::from_mins(5);
const JOURNAL: &str = "writing the journal of manifests";
/// The longest time before the first garbage collection after a start. The leases of the minute before a crash were not
/// written, and their clients may return.
const FIRST_COLLECTION: Duration = Duration::from_mins(5);
/// A step of long work is followed by a pause of this many times its duration, in which clients have the disk.
const PAUSE_FACTOR: u32 = 3;
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Starts all maintenance tasks.
pub(super) fn spawn(tasks: &mut JoinSet<()>, shared: &Arc<Shared>, stopped: &watch::Receiver<bool>) {
    tasks.spawn(expire_uploads(Arc::clone(shared)));
    tasks.spawn(tidy_tags(Arc::clone(shared)));
    tasks.spawn(flush(Arc::clone(shared)));
    tasks.spawn(follow_file(Arc::clone(shared)));
    tasks.spawn(sweep(Arc::clone(shared)));
    if !shared.config().storage.commit {
        tasks.spawn(sync_database(Arc::clone(shared)));
    }
    tasks.spawn(maintain_journal(Arc::clone(shared), stopped.clone()));
    tasks.spawn(list_optional_layers(Arc::clone(shared), stopped.clone()));
    if shared.config().storage.collection.enable {
        tasks.spawn(collect(Arc::clone(shared), stopped.clone()));
    }
    if let Some(every) = shared.config().http.auth.openid.as_ref().and_then(|openid| openid.recheck) {
        tasks.spawn(recheck(Arc::clone(shared), every));
    }
    if shared.config().extensions.scrub.enable {
        tasks.spawn(scrub(Arc::clone(shared), stopped.clone()));
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

/// Writes everything that must be written before the registry ends.
pub(super) async fn last(shared: &Arc<Shared>) {
    flush_once(shared).await;
    write_steady_clock(shared, true).await;
    // The journal is only synced. Rebuilding it would delay the end.
    blocking(shared, JOURNAL, |shared| shared.stores().maintain_journal(|_| ControlFlow::Break(()))).await;
}

/// Runs blocking work. An error is logged with the name of the work.
async fn blocking<T, E>(
    shared: &Arc<Shared>,
    what: &str,
    work: impl FnOnce(&Shared) -> Result<T, E> + Send + 'static,
) -> Option<T>
where
    T: Send + 'static,
    E: fmt::Display + Send + 'static,
{
    let of = Arc::clone(shared);
    match shared.work().spawn_blocking(move || work(&of)).await {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(error)) => tracing::error!(%error, "{what} failed"),
        Err(error) => tracing::error!(%error, "{what} failed"),
    }
    None
}

/// Whether work is due. An error is logged with the name of the work.
fn is_due(what: &str, asked: Result<bool, impl fmt::Display>) -> bool {
    asked.unwrap_or_else(|error| {
        tracing::error!(%error, "{what} failed");
        false
    })
}

/// Writes the last uses of keys and sessions, leases and the steady clock.
async fn flush(shared: Arc<Shared>) {
    loop {
        sleep(FLUSH_INTERVAL).await;
        flush_once(&shared).await;
        write_steady_clock(&shared, false).await;
    }
}

async fn write_steady_clock(shared: &Arc<Shared>, at_end: bool) {
    let what = "writing the steady clock";
    blocking(shared, what, move |shared| shared.stores().write_steady_clock(at_end)).await;
}

async fn flush_once(shared: &Arc<Shared>) {
    let what = "writing the last uses of keys and sessions";
    blocking(shared, what, |shared| shared.accounts().flush()).await;
    let what = "writing leases";
    blocking(shared, what, |shared| shared.stores().write_leases()).await;
}

/// Reads the htpasswd file when it changes, if there is one.
async fn follow_file(shared: Arc<Shared>) {
    let what = "reading the htpasswd file";
    if shared.config().http.auth.htpasswd.is_none() {
        blocking(&shared, what, |shared| shared.accounts().has_no_file()).await;
        return;
    }
    loop {
        if shared.accounts().is_file_due() {
            blocking(&shared, what, |shared| {
                shared.accounts().follow_file();
                Ok::<_, std::convert::Infallible>(())
            })
            .await;
        }
        sleep(FILE_INTERVAL).await;
    }
}

/// Makes recent changes durable, if `storage.commit` is off.
async fn sync_database(shared: Arc<Shared>) {
    loop {
        sleep(SETTLE_INTERVAL).await;
        if shared.stores().is_flush_due() {
            blocking(&shared, "making changes durable", |shared| shared.stores().flush()).await;
        }
    }
}

/// Removes expired tags, and history that is older than it is kept.
async fn tidy_tags(shared: Arc<Shared>) {
    let what = "removing expired tags";
    loop {
        if is_due(what, shared.stores().is_tidying_due())
            && let Some(tidied) = blocking(&shared, what, |shared| shared.stores().tidy_tags()).await
        {
            tracing::info!(tidied.tags, tidied.past, "removed expired tags and old history");
        }
        sleep(TIDY_INTERVAL).await;
    }
}

/// Removes expired uploads.
async fn expire_uploads(shared: Arc<Shared>) {
    let what = "removing expired uploads";
    loop {
        match blocking(&shared, what, |shared| shared.stores().expire_uploads()).await {
            None | Some(0) => {}
            Some(count) => tracing::info!(count, "removed expired uploads"),
        }
        sleep(shared.expiry_interval()).await;
    }
}

/// Removes the files of deleted blobs that a lease or a crash kept from being removed at once.
async fn sweep(shared: Arc<Shared>) {
    let what = "removing the files of deleted blobs";
    loop {
        if is_due(what, shared.stores().has_orphans()) {
            blocking(&shared, what, |shared| shared.stores().sweep()).await;
        }
        sleep(SWEEP_INTERVAL).await;
    }
}

/// Syncs the journal, and rebuilds it if it is missing or has grown too large.
async fn maintain_journal(shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    loop {
        if shared.stores().is_journal_due() {
            let pause = pause_between_steps(&stopped);
            let renewed = blocking(&shared, JOURNAL, move |shared| shared.stores().maintain_journal(pause)).await;
            if renewed == Some(true) {
                tracing::info!("rebuilt the journal of manifests");
            }
        }
        sleep(JOURNAL_INTERVAL).await;
    }
}

/// Writes the rows of foreign layers that an earlier version did not write.
async fn list_optional_layers(shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let what = "listing the foreign layers of manifests";
    if is_due(what, shared.stores().has_unlisted_layers()) {
        let pause = pause_between_steps(&stopped);
        let listed = blocking(&shared, what, move |shared| shared.stores().list_optional_layers(pause)).await;
        if listed == Some(true) {
            tracing::info!("listed the foreign layers of manifests that an earlier version stored");
        }
    }
}

/// Asks identity providers whether their users still exist.
async fn recheck(shared: Arc<Shared>, every: Duration) {
    let what = "rechecking federated users";
    loop {
        sleep((every / 4).clamp(RECHECK_INTERVAL_MIN, RECHECK_INTERVAL_MAX)).await;
        let due = blocking(&shared, what, Shared::due_federated_users).await.unwrap_or_default();
        shared.recheck_federated_users(due).await;
    }
}

/// Runs garbage collection, within the configured hours.
async fn collect(shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let what = "garbage collection";
    let rules = shared.config().storage.collection.clone();
    sleep(rules.interval.min(FIRST_COLLECTION)).await;
    loop {
        let now = Duration::from_micros(shared.now().micros());
        let may = rules.time_window.is_none_or(|window| window.contains(now));
        if may && is_due(what, shared.stores().is_collection_due()) {
            let pause = pause_between_steps(&stopped);
            let collected = blocking(&shared, what, move |shared| {
                let stores = shared.stores();
                stores.collect(stores.delays(), pause)
            });
            if let Some(collected) = collected.await {
                let (manifests, links) = (collected.manifests, collected.links);
                let (blobs, bytes) = (collected.blobs, collected.bytes);
                tracing::info!(manifests, links, blobs, bytes, "collected unreferenced manifests and blobs");
            }
        }
        sleep(rules.interval).await;
    }
}

/// Checks stored data. A scrub that a stop interrupted continues with the remaining blobs.
async fn scrub(shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let what = "scrub";
    let rules = shared.config().extensions.scrub.clone();
    sleep(rules.interval.min(FIRST_COLLECTION)).await;
    loop {
        let pause = pause_between_steps(&stopped);
        let unless_since = Some(shared.now().before(rules.interval));
        let scrubbing = Scrubbing { repair: false, rate: rules.rate, unless_since };
        if let Some(scrubbed) = blocking(&shared, what, move |shared| shared.stores().scrub(scrubbing, pause)).await {
            let (blobs, bytes, damaged) = (scrubbed.blobs, scrubbed.bytes, scrubbed.damaged.len());
            if scrubbed.is_clean() {
                tracing::info!(blobs, bytes, "scrub found no damage");
            } else {
                let (unreadable, strays) = (scrubbed.unreadable.len(), scrubbed.strays.len());
                let (lost, derived) = (scrubbed.lost.len(), scrubbed.derived.len());
                tracing::error!(
                    blobs,
                    bytes,
                    damaged,
                    unreadable,
                    lost,
                    derived,
                    strays,
                    "scrub found damage: run coracle scrub for details"
                );
            }
        }
        sleep(rules.interval).await;
    }
}
