//! What a running registry does from time to time, beside answering.
//!
//! Each chore is a task that waits most of the time. Whether there is something to do is asked where that
//! takes microseconds, so that no thread is kept for nothing; the rest runs on a thread for blocking work, and
//! whoever stops the registry waits for the step it is at.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::content::repository::Scrubbing;
use crate::kit::clock::Timestamp;
use crate::registry::Shared;

/// A crash loses at most this much of when keys and sessions were last used, and of what clients were told.
const FLUSH_INTERVAL: Duration = Duration::from_mins(1);
/// Where changes are not durable at once, a crash loses as much of them.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);
/// A tag is there at most this much longer than it should be. Looking for one costs microseconds.
const TIDY_INTERVAL: Duration = Duration::from_secs(2);
/// Files that nobody needs are looked for this often; mostly there are none.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// A loss of power loses at most this much of the journal, which is then made anew.
const JOURNAL_INTERVAL: Duration = Duration::from_secs(10);
/// The htpasswd file is looked at this often: another password there ends sessions this much later.
const FILE_INTERVAL: Duration = Duration::from_millis(400);
/// Whether a provider is to be asked about somebody is looked at this often, depending on how often it is to be.
const RECHECK_INTERVAL_MIN: Duration = Duration::from_millis(200);
const RECHECK_INTERVAL_MAX: Duration = Duration::from_mins(5);
const JOURNAL: &str = "writing the journal of manifests";
/// Nothing is collected this soon after a start: what clients were told in the minute before a crash was
/// not written down, and they come back.
const FIRST_COLLECTION: Duration = Duration::from_mins(5);
/// Clients have the disk for this many times as long as a step of a collection had it, within bounds.
const REST: u32 = 3;
const REST_MAX: Duration = Duration::from_millis(250);

/// Starts them all.
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

/// Lets clients go first between two steps of something long, and breaks it off when the registry stops.
pub(super) fn rest(stopped: &watch::Receiver<bool>) -> impl Fn(Duration) -> ControlFlow<()> + use<> {
    let stopped = stopped.clone();
    move |step| {
        if *stopped.borrow() {
            return ControlFlow::Break(());
        }
        std::thread::sleep((step * REST).min(REST_MAX));
        ControlFlow::Continue(())
    }
}

/// What is to be written down before the end.
pub(super) async fn last(shared: &Arc<Shared>) {
    flush_once(shared).await;
    write_steady_clock(shared, true).await;
    // Synced; it is not the time any more to make it anew.
    blocking(shared, JOURNAL, |shared| shared.stores().maintain_journal(|_| ControlFlow::Break(()))).await;
}

/// Does something that blocks; what goes wrong is logged as `what`.
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

/// Whether there is something to do; what goes wrong is logged as `what`.
fn is_due(what: &str, asked: Result<bool, impl fmt::Display>) -> bool {
    asked.unwrap_or_else(|error| {
        tracing::error!(%error, "{what} failed");
        false
    })
}

/// Writes down when keys and sessions were last used, and what clients were told is there.
async fn flush(shared: Arc<Shared>) {
    loop {
        sleep(FLUSH_INTERVAL).await;
        flush_once(&shared).await;
        write_steady_clock(&shared, false).await;
    }
}

async fn write_steady_clock(shared: &Arc<Shared>, at_end: bool) {
    let what = "writing down how much time has passed";
    blocking(shared, what, move |shared| shared.stores().write_steady_clock(at_end)).await;
}

async fn flush_once(shared: &Arc<Shared>) {
    let what = "writing down when keys and sessions were last used";
    blocking(shared, what, |shared| shared.accounts().flush()).await;
    let what = "writing down what clients count on";
    blocking(shared, what, |shared| shared.stores().write_leases()).await;
}

/// Follows the htpasswd file, if there is one.
async fn follow_file(shared: Arc<Shared>) {
    let what = "following the htpasswd file";
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

/// Makes durable what was answered for and is not yet.
async fn sync_database(shared: Arc<Shared>) {
    loop {
        sleep(SETTLE_INTERVAL).await;
        if shared.stores().is_flush_due() {
            blocking(&shared, "making changes durable", |shared| shared.stores().flush()).await;
        }
    }
}

/// Removes tags whose time has come and forgets what tags pointed at too long ago.
async fn tidy_tags(shared: Arc<Shared>) {
    let what = "removing expired tags";
    loop {
        if is_due(what, shared.stores().is_tidying_due())
            && let Some(tidied) = blocking(&shared, what, |shared| shared.stores().tidy_tags()).await
        {
            tracing::info!(tidied.tags, tidied.past, "tags have expired, or what they pointed at");
        }
        sleep(TIDY_INTERVAL).await;
    }
}

/// Throws away uploads that nobody continues.
async fn expire_uploads(shared: Arc<Shared>) {
    let what = "looking through unfinished uploads";
    loop {
        match blocking(&shared, what, |shared| shared.stores().expire_uploads()).await {
            None | Some(0) => {}
            Some(count) => tracing::info!(count, "unfinished uploads have expired"),
        }
        sleep(shared.expiry_interval()).await;
    }
}

/// Removes files that were to be removed when somebody counted on them, or before a crash.
async fn sweep(shared: Arc<Shared>) {
    let what = "removing the files of deleted blobs";
    loop {
        if is_due(what, shared.stores().has_orphans()) {
            blocking(&shared, what, |shared| shared.stores().sweep()).await;
        }
        sleep(SWEEP_INTERVAL).await;
    }
}

/// Makes the journal durable, and anew if it is missing or has grown too large.
async fn maintain_journal(shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    loop {
        if shared.stores().is_journal_due() {
            let rest = rest(&stopped);
            let renewed = blocking(&shared, JOURNAL, move |shared| shared.stores().maintain_journal(rest)).await;
            if renewed == Some(true) {
                tracing::info!("the journal of manifests is new");
            }
        }
        sleep(JOURNAL_INTERVAL).await;
    }
}

/// Writes the rows of foreign layers that an earlier program has not written.
async fn list_optional_layers(shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let what = "listing the foreign layers of manifests";
    if is_due(what, shared.stores().has_unlisted_layers()) {
        let rest = rest(&stopped);
        let listed = blocking(&shared, what, move |shared| shared.stores().list_optional_layers(rest)).await;
        if listed == Some(true) {
            tracing::info!("listed the foreign layers of manifests that an earlier version stored");
        }
    }
}

/// Asks providers about those who came from them.
async fn recheck(shared: Arc<Shared>, every: Duration) {
    let what = "finding out whether providers know their users still";
    loop {
        sleep((every / 4).clamp(RECHECK_INTERVAL_MIN, RECHECK_INTERVAL_MAX)).await;
        let due = blocking(&shared, what, Shared::due_federated_users).await.unwrap_or_default();
        shared.recheck_federated_users(due).await;
    }
}

/// Removes what nothing needs, in the hours that are for it.
async fn collect(shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let what = "collecting what nothing needs";
    let rules = shared.config().storage.collection.clone();
    sleep(rules.interval.min(FIRST_COLLECTION)).await;
    loop {
        let now = Duration::from_micros(shared.now().micros());
        let may = rules.time_window.is_none_or(|window| window.contains(now));
        if may && is_due(what, shared.stores().is_collection_due()) {
            let rest = rest(&stopped);
            let collected = blocking(&shared, what, move |shared| {
                let stores = shared.stores();
                stores.collect(stores.delays(), rest)
            });
            if let Some(collected) = collected.await {
                let (manifests, links) = (collected.manifests, collected.links);
                let (blobs, bytes) = (collected.blobs, collected.bytes);
                tracing::info!(manifests, links, blobs, bytes, "collected what nothing needs");
            }
        }
        sleep(rules.interval).await;
    }
}

/// Compares what is stored with what it should be. One that a stop has broken off goes on with the blobs that it
/// had not come to.
async fn scrub(shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let what = "comparing what is stored with what it should be";
    let rules = shared.config().extensions.scrub.clone();
    sleep(rules.interval.min(FIRST_COLLECTION)).await;
    loop {
        let rest = rest(&stopped);
        let since = u64::try_from(rules.interval.as_micros()).unwrap_or(u64::MAX);
        let unless_since = Some(Timestamp::from_micros(shared.now().micros().saturating_sub(since)));
        let scrubbing = Scrubbing { repair: false, rate: rules.rate, unless_since };
        if let Some(scrubbed) = blocking(&shared, what, move |shared| shared.stores().scrub(scrubbing, rest)).await {
            let (blobs, bytes, damaged) = (scrubbed.blobs, scrubbed.bytes, scrubbed.damaged.len());
            if scrubbed.is_clean() {
                tracing::info!(blobs, bytes, "what is stored is what it should be");
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
                    "something that is stored is not what it should be: coracle scrub says what"
                );
            }
        }
        sleep(rules.interval).await;
    }
}
