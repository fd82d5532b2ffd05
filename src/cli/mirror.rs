//! `coracle mirror …`: commands on mirrored content.

use std::process::ExitCode;

use clap::Subcommand;

use super::administer::{Ask, Progress, Report, Target, finish};
use super::{Error, quietly};
use crate::admin::{
    Call, ClientSettings, EvictMirrored, Eviction, ExplainMirror, MirrorExplanation, MirrorStatus, Operation as _,
    RunningSync, SetUpMirror, SyncMirror, Synchronised, UpstreamList, UpstreamView, shown_rfc3339,
};
use crate::kit::text::{counted, size, table};
use crate::registry::Registry;

/// Manage mirrored content
///
/// extensions.sync names the registries that are mirrored.
#[derive(Debug, clap::Args)]
pub(super) struct Mirror {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: MirrorCommand,
}

#[derive(Debug, Subcommand)]
enum MirrorCommand {
    Status(MirrorStatus),
    Sync(SyncMirror),
    Explain(ExplainMirror),
    Setup(SetUpMirror),
    Evict(EvictMirrored),
}

impl Mirror {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            MirrorCommand::Status(request) => self.target.run(request),
            MirrorCommand::Sync(request) => self.target.run(request),
            MirrorCommand::Explain(request) => self.target.run(request),
            MirrorCommand::Setup(request) => set_up(&self.target, request),
            MirrorCommand::Evict(request) => self.target.run(request),
        }
    }
}

/// Prints the settings of a client. A configuration that names no data directory is enough: a registry that runs on the
/// directory of the platform may have another one.
fn set_up(target: &Target, request: SetUpMirror) -> Result<ExitCode, Error> {
    let (config, _) = target.locate()?;
    if config.storage.root_directory.is_some() || !target.has_config() {
        return target.run(request);
    }
    let registry = quietly(|| Registry::builder().config(config).temporary().open())?;
    finish(target.is_json(), &request.perform(&Call::alone(&registry.shared, None))?)
}

impl Report for Synchronised {
    const PROGRESS: Progress = Some(progress);

    fn print(&self) {
        for upstream in &self.upstreams {
            let report = &upstream.report;
            for tag in &report.would_fetch {
                println!("{tag}");
            }
            for failure in &report.failures {
                eprintln!("{failure}");
            }
            let fetched = if self.dry_run { "to fetch" } else { "fetched" };
            let mut parts = vec![
                format!(
                    "{} in {}",
                    counted(report.tags, "tag", "tags"),
                    counted(report.repositories, "repository", "repositories")
                ),
                format!("{} {fetched}", report.fetched),
                format!("{} unchanged", report.unchanged),
            ];
            for (count, what) in [
                (report.pushed_here, "pushed here"),
                (report.unsigned, "without a signature"),
                (report.missing, "missing there"),
                (report.failed, "failed"),
            ] {
                if count > 0 {
                    parts.push(format!("{count} {what}"));
                }
            }
            if !self.dry_run {
                parts.push(size(report.bytes));
            }
            println!("{}: {}", upstream.name, parts.join(", "));
            if let Some(stopped) = &report.stopped {
                eprintln!("coracle: {}: ended early: {stopped}", upstream.name);
            }
            for note in &report.notes {
                eprintln!("coracle: {}: note: {note}", upstream.name);
            }
        }
    }

    fn code(&self) -> ExitCode {
        let is_complete = self.upstreams.iter().all(|upstream| upstream.report.is_complete());
        if is_complete { ExitCode::SUCCESS } else { ExitCode::from(1) }
    }
}

/// The progress line of a synchronisation.
fn progress(ask: &Ask) -> Option<String> {
    let upstreams: UpstreamList = serde_json::from_value(ask(MirrorStatus {}.into())?).ok()?;
    let running = |upstream: &UpstreamView| {
        let RunningSync { repositories, repositories_done, tags, tags_done, bytes, current, waits, .. } =
            upstream.sync.running.clone()?;
        if let Some(waits) = waits {
            return Some(format!("{}: {waits}", upstream.name));
        }
        Some(format!(
            "{}: repository {} of {repositories}, {tags_done} of {tags} tags, {} fetched, {current}",
            upstream.name,
            (repositories_done + 1).min(repositories),
            size(bytes)
        ))
    };
    upstreams.upstreams.iter().find_map(running)
}

/// Whether requests are sent to an upstream.
fn state(upstream: &UpstreamView) -> &'static str {
    let UpstreamView { available, hits, misses, stale, errors, sync, .. } = upstream;
    // A pull of stored content may have sent a request.
    let is_asked = *hits + *misses + *stale + *errors > 0 || sync.running.is_some() || sync.last.is_some();
    match (*available, is_asked) {
        (false, _) => "failing",
        (true, true) => "available",
        (true, false) => "not asked yet",
    }
}

impl Report for UpstreamList {
    fn print(&self) {
        if self.upstreams.is_empty() {
            eprintln!("This registry mirrors nothing: extensions.sync names the registries to mirror.");
            return;
        }
        let rows = self.upstreams.iter().map(|upstream| {
            let mode = match (&upstream.poll_interval, upstream.on_demand) {
                (Some(every), true) => format!("on demand, every {every}"),
                (Some(every), false) => format!("every {every}"),
                (None, _) => "on demand".to_owned(),
            };
            let quota = upstream.quota_remaining.map_or_else(|| "-".to_owned(), |left| left.to_string());
            let state = state(upstream);
            [
                upstream.name.clone(),
                mode,
                state.to_owned(),
                quota,
                upstream.hits.to_string(),
                upstream.misses.to_string(),
                upstream.stale.to_string(),
                upstream.errors.to_string(),
                size(upstream.fetched_bytes),
                upstream.repositories.to_string(),
                size(upstream.bytes),
            ]
        });
        let header = [
            "REGISTRY",
            "MODE",
            "STATE",
            "QUOTA",
            "HITS",
            "MISSES",
            "STALE",
            "ERRORS",
            "FETCHED",
            "REPOSITORIES",
            "SIZE",
        ];
        print!("{}", table(header, rows));
        for upstream in &self.upstreams {
            let name = &upstream.name;
            if let Some(why) = &upstream.unavailable {
                println!("{name}: not asked: {why}");
            }
            if let Some(error) = &upstream.last_error {
                println!("{name}: last error at {}: {}", shown_rfc3339(&error.at), error.message);
            }
            let sync = &upstream.sync;
            if let Some(running) = &sync.running {
                println!(
                    "{name}: synchronising since {}: {} of {} tags, {}",
                    shown_rfc3339(&running.since),
                    running.tags_done,
                    running.tags,
                    size(running.bytes)
                );
                if let Some(waits) = &running.waits {
                    println!("{name}: {waits}");
                }
            }
            if let Some(last) = &sync.last {
                let end = last.stopped.as_ref().map(|why| format!("; ended early: {why}")).unwrap_or_default();
                println!(
                    "{name}: synchronised at {} in {} s: {}, {} fetched, {} failed, {}{end}",
                    shown_rfc3339(&last.ended),
                    last.seconds,
                    counted(last.tags, "tag", "tags"),
                    last.fetched,
                    last.failed,
                    size(last.bytes)
                );
                for failure in &last.failures {
                    println!("{name}: {failure}");
                }
                for note in &last.notes {
                    println!("{name}: note: {note}");
                }
            }
            if let Some(next) = &sync.next {
                println!("{name}: next synchronisation at {}", shown_rfc3339(next));
            }
        }
    }
}

impl Report for MirrorExplanation {
    fn print(&self) {
        println!("{}", self.reference);
        let on_demand = if self.on_demand { Some("on demand".to_owned()) } else { None };
        let every = self.poll_interval.as_ref().map(|every| format!("every {every}"));
        let mode: Vec<String> = on_demand.into_iter().chain(every).collect();
        let stored = self.stored.as_ref();
        let line = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                println!("  {name:<12}{value}");
            }
        };
        line(
            "upstream",
            self.upstream.clone().map(|host| {
                let remote = self.remote.as_deref().unwrap_or_default();
                format!("{host}, repository {remote}")
            }),
        );
        line("rule", self.rule.clone());
        line("mirrored", Some(mode.join(", ")));
        line("stored", stored.map(|stored| stored.digest.clone()));
        line("from", stored.map(|stored| stored.from.clone().unwrap_or_else(|| "a push".to_owned())));
        line("since", stored.and_then(|stored| stored.since.as_deref()).map(shown_rfc3339));
        line(
            "missing",
            stored.filter(|stored| stored.missing > 0).map(|stored| {
                format!(
                    "{}: fetched when a client pulls",
                    counted(stored.missing, "blob or manifest", "blobs and manifests")
                )
            }),
        );
        line("checked", self.checked.as_deref().map(shown_rfc3339));
        line("next check", self.next_check.as_deref().map(shown_rfc3339));
        line("why", Some(self.why.clone()));
    }
}

impl Report for ClientSettings {
    fn print(&self) {
        eprintln!("# {}", self.path);
        print!("{}", self.content);
        for note in &self.notes {
            eprintln!("# {note}");
        }
    }
}

impl Report for Eviction {
    fn print(&self) {
        let verb = if self.dry_run { "would be removed" } else { "removed" };
        let evicted = &self.evicted;
        let blobs = counted(evicted.blobs, "blob", "blobs");
        if evicted.manifests > 0 {
            let manifests = counted(evicted.manifests, "manifest", "manifests");
            println!("{blobs} and {manifests} ({}) {verb}", size(evicted.bytes));
        } else {
            println!("{blobs} ({}) {verb}", size(evicted.bytes));
        }
        let held = &evicted.held;
        println!(
            "mirrored content {}: {}, {} ({})",
            if self.dry_run { "that would be left" } else { "that is left" },
            counted(held.blobs, "blob", "blobs"),
            counted(held.manifests, "manifest", "manifests"),
            size(held.bytes()),
        );
    }
}
