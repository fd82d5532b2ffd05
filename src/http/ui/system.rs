//! The registry itself, as superusers see it: disk, background work, limits and configuration.

use std::time::Duration;

use super::PageCall;
use super::call::mistaken;
use crate::http::{HandlerResult, maintenance};
use crate::kit::text::counted;
use crate::registry::{DiskCount, NotCounted, Work, WorkState};
use crate::web::{
    Badge, Bytes, ConfigRow, ConfigurationPage, ContentUse, DiskPage, LimitRow, LimitsPage, MaintenancePage, Space,
    Tone, WorkRow, sentence,
};

/// The limits whose counters are not those of a status: the status, the limit, and what helps.
const SIGN_INS: (u16, &str, &str) =
    (429, "Too many wrong passwords or sign-ins", "Look for failed sign-ins in the audit log");
const RATE_LIMITS: (u16, &str, &str) =
    (429, "More requests than http.ratelimit permits", "Find clients that send many requests, or raise the limit");
const REPOSITORIES: (u16, &str, &str) =
    (429, "More repositories than storage.maxRepos", "Delete repositories that are no longer used, or raise the limit");
const QUOTAS: (u16, &str, &str) =
    (403, "Pushes beyond a quota (storage.quotas)", "Delete tags that are no longer used, or raise the quota");

/// The limits that have a status of their own: the status, the limit, and what helps.
const LIMITS: [(u16, &str, &str); 6] = [
    (
        503,
        "Too many requests, password checks or unsent bytes at once, or a failure that may pass",
        "Look for errors in the log. Without any, raise http.limits.maxConnections, or spread the load",
    ),
    (507, "Too little space on the disk", "Free space, or lower storage.minFreeSpace"),
    (413, "Bodies that are too large", "Raise http.limits.maxManifestSize"),
    (408, "Bodies that arrive too slowly", "Raise http.limits.bodyIdleTimeout"),
    (414, "Request lines that are too long", "A client sends too many tags or parameters"),
    (431, "Headers that are too large", "A client or a proxy sends too many cookies or headers"),
];

/// How long the page waits for a count of the use of the disk, before it shows the last one.
const DISK_PATIENCE: Duration = Duration::from_millis(30);

pub(super) async fn disk(call: &PageCall<'_>) -> HandlerResult {
    let stores = call.context.registry.stores();
    let mut errors = Vec::new();
    let content = match call.context.registry.disk_use(DISK_PATIENCE).await {
        Ok(count) => Some(content_use(call, count)),
        Err(NotCounted::Unfinished) => None,
        Err(error) => {
            errors.push(sentence(&error.to_string()));
            None
        }
    };
    let space = match stores.space() {
        Ok((free, least)) => Some(Space { free: Bytes(free), least: Bytes(least) }),
        Err(error) => {
            errors.push(format!("The free space is unknown: {error}."));
            None
        }
    };
    let refuses = stores.check_space().err().map(|error| error.to_string());
    let is_read_only = stores.is_read_only();
    let layout = call.admin_layout("Disk use", "/ui/admin/disk");
    call.render(&DiskPage { layout, errors, space, is_read_only, refuses, content })
}

fn content_use(call: &PageCall<'_>, DiskCount { usage: content, at }: DiskCount) -> ContentUse {
    ContentUse {
        counted: call.time(at),
        repositories: counted(content.repositories, "repository", "repositories"),
        blobs: counted(content.blobs, "blob", "blobs"),
        logical: Bytes(content.logical),
        stored: Bytes(content.stored),
        shared: Bytes(content.shared),
        uploads: counted(content.uploads, "upload", "uploads"),
        upload_bytes: Bytes(content.upload_bytes),
        unreferenced: Bytes(content.unreferenced),
        is_part: content.is_part,
    }
}

/// Shows background work, and starts or stops it.
pub(super) async fn maintenance(call: &PageCall<'_>) -> HandlerResult {
    if call.form.is_some() {
        let work = Work::find(call.field("work")?).ok_or_else(|| mistaken("this work is unknown"))?;
        let notice = match call.field("act")? {
            "start" => {
                maintenance::start(call.context, work).await?;
                ["collection-started", "scrub-started"]
            }
            "stop" => {
                maintenance::stop(call.context, work).await?;
                ["collection-stopped", "scrub-stopped"]
            }
            _ => return Err(mistaken("start or stop the work")),
        };
        return call.redirect("/ui/admin/maintenance", Some(notice[usize::from(work == Work::Scrub)]));
    }
    let config = call.context.registry.config();
    let every = |is_on: bool, interval: std::time::Duration| {
        if is_on {
            format!("Runs every {}.", crate::kit::text::duration(interval))
        } else {
            "Does not run by itself.".to_owned()
        }
    };
    let (collection, scrub) = (&config.storage.collection, &config.extensions.scrub);
    let works = vec![
        work(
            call,
            Work::Collection,
            "Garbage collection",
            format!("Removes unreferenced manifests and blobs. {}", every(collection.enable, collection.interval)),
            "coracle gc",
        ),
        work(
            call,
            Work::Scrub,
            "Scrub",
            format!("Checks stored data against its digests. {}", every(scrub.enable, scrub.interval)),
            "coracle scrub",
        ),
    ];
    let layout = call.admin_layout("Maintenance", "/ui/admin/maintenance");
    call.render(&MaintenancePage { layout, may_change: call.is_superuser(), works })
}

fn work(call: &PageCall<'_>, work: Work, name: &'static str, about: String, command: &'static str) -> WorkRow {
    let WorkState { running_since, percent, ended, result, is_good, .. } = call.context.registry.activity().state(work);
    let state = match (running_since, ended, is_good) {
        (Some(_), ..) => Badge::new("running", Tone::Accent),
        (None, None, _) => Badge::new("not yet run", Tone::Plain),
        (None, Some(_), true) => Badge::new("done", Tone::Good),
        (None, Some(_), false) => Badge::new("found problems", Tone::Bad),
    };
    let (running_since, ended) = (running_since.map(|at| call.time(at)), ended.map(|at| call.time(at)));
    WorkRow { word: work.word(), name, about, state, running_since, percent, ended, result, command }
}

pub(super) fn limits(call: &PageCall<'_>) -> HandlerResult {
    let registry = call.context.registry;
    let row = |limit: (u16, &'static str, &'static str), count| {
        let (status, what, advice) = limit;
        LimitRow { status, what, advice, count }
    };
    let quotas = registry.stores().quota_figures()?.unwrap_or_default();
    let rate_limited = registry.metrics().rate_limited_sum();
    // A request is counted as refused before its response is counted.
    let others = rate_limited.saturating_add(quotas.refused_repositories);
    let sign_ins = registry.metrics().responses(SIGN_INS.0).saturating_sub(others);
    let mut rows = vec![
        row(SIGN_INS, sign_ins),
        row(RATE_LIMITS, rate_limited),
        row(REPOSITORIES, quotas.refused_repositories),
        row(QUOTAS, quotas.refused_size.saturating_add(quotas.refused_tags)),
    ];
    rows.extend(LIMITS.into_iter().map(|limit| row(limit, registry.metrics().responses(limit.0))));
    call.render(&LimitsPage {
        layout: call.admin_layout("Limits", "/ui/admin/limits"),
        connections: registry.metrics().open_connections(),
        connections_max: registry.limits().max_connections,
        limits: rows,
    })
}

pub(super) fn configuration(call: &PageCall<'_>) -> HandlerResult {
    let values = call.context.registry.config().in_force();
    let keys = values.into_iter().map(|value| ConfigRow {
        key: value.key,
        value: value.text,
        is_given: value.is_given,
        doc: value.doc,
    });
    call.render(&ConfigurationPage {
        keys: keys.collect(),
        layout: call.admin_layout("Configuration", "/ui/admin/config"),
    })
}
