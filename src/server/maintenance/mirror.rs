//! Maintenance of a mirror: synchronisation, takeover and eviction.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::{Maintenance, pause_between_steps};
use crate::mirror::{Patience, SyncReport, SyncScope};
use crate::registry::Shared;

/// The shortest and the longest time between two measurements of the mirrored content.
const EVICTION_PAUSE: Duration = Duration::from_millis(200);
const EVICTION_INTERVAL: Duration = Duration::from_hours(1);
/// The longest time before the first synchronisation after a start.
const FIRST_SYNC: Duration = Duration::from_secs(20);
/// The pause before a synchronisation that failed is repeated. Each further one is twice as long, up to the interval.
const SYNC_PAUSE: Duration = Duration::from_mins(1);
/// The pause after the first run of a takeover. Each of the next six pauses is twice as long.
const TAKEOVER_PAUSE: Duration = Duration::from_millis(500);
/// A run of a takeover is followed by a pause of at least this many times its duration.
const TAKEOVER_PAUSE_FACTOR: u32 = 2;

impl Maintenance {
    /// Synchronises an upstream of the mirror, first shortly after the start. After a run that failed the next one starts
    /// earlier.
    pub(super) async fn synchronise(self, upstream: usize, every: Duration) {
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
                    let (repositories, notes) = (report.repositories, report.joined_notes());
                    tracing::info!(host, repositories, tags, fetched, bytes, notes, "synchronised with an upstream");
                }
                Ok(report) => {
                    failures += 1;
                    let (tags, failed, stopped) = (report.tags, report.failed, report.stopped.as_deref());
                    let (failure, notes) = (report.failures.first(), report.joined_notes());
                    tracing::warn!(
                        host,
                        tags,
                        failed,
                        failure,
                        stopped,
                        notes,
                        "could not synchronise everything with an upstream"
                    );
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
    pub(super) async fn take_over(self) {
        let Some((mirror, at)) = self.shared.takeover_upstream() else { return };
        let (mut before, mut runs): (Option<SyncReport>, u32) = (None, 0);
        loop {
            let began = Instant::now();
            match mirror.synchronise(at, &SyncScope::All, Patience::Schedule, false).await {
                Ok(report) => {
                    let (tags, fetched, failed) = (report.tags, report.fetched, report.failed);
                    let (failure, notes) = (report.failures.first(), report.joined_notes());
                    if self.shared.note_takeover(&report, before.as_ref()) {
                        tracing::info!(tags, failed, "the takeover is done: restart without --takeover-from");
                        if let Some(notes) = notes {
                            tracing::warn!(notes, "the takeover may lack content of the other registry");
                        }
                    } else if let Some(stopped) = report.stopped.as_ref().filter(|_| !self.shared.is_taken_over()) {
                        tracing::warn!(tags, stopped, notes, "the takeover continues later");
                    } else if report.found_nothing()
                        && !self.shared.is_taken_over()
                        && !before.as_ref().is_some_and(SyncReport::found_nothing)
                    {
                        tracing::warn!(failure, notes, "the takeover has found nothing, and asks again later");
                    } else {
                        tracing::debug!(tags, fetched, failed, "compared with the registry that is taken over");
                    }
                    before = Some(report);
                }
                Err(error) => tracing::debug!(%error, "a run of the takeover did not start"),
            }
            runs = runs.saturating_add(1);
            let usual = TAKEOVER_PAUSE.saturating_mul(1 << runs.min(6));
            sleep(usual.max(began.elapsed() * TAKEOVER_PAUSE_FACTOR)).await;
        }
    }

    /// Measures the mirrored content, and evicts what is beyond its limits.
    pub(super) async fn evict(self) {
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
}

/// A duration that is up to a tenth shorter, so that several registries do not ask an upstream at the same time.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(1.0 - rand::random::<f64>() / 10.0)
}
