//! The mirrored registries, as superusers see them.

use super::PageCall;
use crate::http::HandlerResult;
use crate::kit::clock::Timestamp;
use crate::kit::text::counted;
use crate::registry::{RunningSync, UpstreamView};
use crate::web::{Badge, Bytes, MirrorsPage, SyncProgress, SyncResult, Time, Tone, UpstreamRow};

pub(super) async fn list(call: &PageCall<'_>) -> HandlerResult {
    let registry = call.context.registry;
    let holdings = call.context.blocking(registry.count_mirrored()).await?;
    let views = registry.upstream_views(&holdings);
    let upstreams = views.into_iter().map(|view| row(call, view)).collect();
    call.render(&MirrorsPage { layout: call.admin_layout("Mirrors", "/ui/admin/mirrors"), upstreams })
}

fn row(call: &PageCall<'_>, view: UpstreamView) -> UpstreamRow {
    let time = |text: &str| Timestamp::from_rfc3339(text).map(|at| call.time(at));
    let state = match (&view.unavailable, &view.sync.running) {
        (Some(_), _) => Badge::new("not available", Tone::Bad),
        (None, Some(_)) => Badge::new("synchronising", Tone::Accent),
        (None, None) => Badge::new("available", Tone::Good),
    };
    let mode = match (&view.poll_interval, view.on_demand) {
        (Some(every), true) => format!("On demand, and synchronised every {every}"),
        (Some(every), false) => format!("Synchronised every {every}"),
        (None, _) => "On demand".to_owned(),
    };
    let last = view.sync.last.map(|last| SyncResult {
        ended: time(&last.ended),
        what: format!(
            "{} in {}, {} fetched, {} failed",
            counted(last.tags, "tag", "tags"),
            counted(last.repositories, "repository", "repositories"),
            last.fetched,
            last.failed
        ),
        bytes: Bytes(last.bytes),
        problems: last.stopped.into_iter().chain(last.failures).chain(last.notes).collect(),
    });
    UpstreamRow {
        state,
        mode,
        urls: view.urls,
        rules: view.rules,
        unavailable: view.unavailable,
        last_error: view.last_error.map(|error| (time(&error.at), error.message)),
        quota: view.quota_remaining,
        hits: view.hits,
        misses: view.misses,
        stale: view.stale,
        errors: view.errors,
        fetched: Bytes(view.fetched_bytes),
        repositories: counted(view.repositories, "repository", "repositories"),
        bytes: Bytes(view.bytes),
        running: view.sync.running.map(|running| progress(&time, running)),
        last,
        next: view.sync.next.as_deref().and_then(time),
        command: format!("coracle mirror sync {}", view.name),
        name: view.name,
    }
}

fn progress(time: &impl Fn(&str) -> Option<Time>, running: RunningSync) -> SyncProgress {
    SyncProgress {
        since: time(&running.since),
        done: running.tags_done,
        all: running.tags.max(running.tags_done).max(1),
        what: format!(
            "repository {} of {}, {} of {} tags",
            (running.repositories_done + 1).min(running.repositories),
            running.repositories,
            running.tags_done,
            running.tags
        ),
        bytes: Bytes(running.bytes),
        current: running.current,
    }
}
