//! `coracle status` and `coracle du`.

use std::process::ExitCode;

use super::administer::{Report, Target, finish, running};
use super::{Error, admin};
use crate::admin::{DiskReport, Healthy, SET_CLOCK, Status, WorkReport, different_clock, shown_rfc3339};
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::text::{counted, size, span, table};

// Without a doc comment, the help shows that of the operation.
#[derive(Debug, clap::Args)]
pub(super) struct StatusCommand {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    operation: admin::ShowStatus,
    /// Print nothing but set the exit code, as a health check of a container needs it
    #[arg(long, conflicts_with = "json")]
    quiet: bool,
}

impl StatusCommand {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        if self.quiet {
            // A stopped registry is not opened, because it may be about to start.
            let (_, root) = self.target.locate()?;
            if running(&root)?.is_none() {
                return Ok(ExitCode::from(1));
            }
            return Ok(self.target.perform(admin::CheckHealth {})?.code());
        }
        let mut status = self.target.perform(self.operation)?;
        status.warnings.extend(other_clock(&status, Clock::default().now()));
        finish(self.target.is_json(), &status)
    }
}

/// Warns if the clock of this machine differs from that of a running registry, as one in a virtual machine may.
fn other_clock(status: &Status, now: Timestamp) -> Option<String> {
    // Another check of the clock says the same.
    if status.warnings.iter().any(|warning| warning.starts_with("the clock ")) {
        return None;
    }
    let other = Timestamp::from_rfc3339(&status.now)?;
    let found = different_clock(now, other, "the running registry")?;
    Some(format!("{found}: {SET_CLOCK}"))
}

impl Report for Healthy {
    fn print(&self) {}
}

impl Report for Status {
    fn print(&self) {
        let line = |name: &str, value: String| println!("  {name:<16}{value}");
        println!("coracle {}, {}", self.version, if self.server.is_some() { "running" } else { "stopped" });
        line("data directory", self.data_directory.clone());
        if let Some(server) = &self.server {
            line("address", if server.urls.is_empty() { server.url.clone() } else { server.urls.join(", ") });
            if let Some(url) = &server.external_url {
                line("external URL", url.clone());
            }
            let since = shown_rfc3339(&server.since);
            line("up", format!("{}, since {since}, process {}", span(server.uptime_seconds), server.process));
        }
        line(
            "content",
            format!(
                "{}, {} ({})",
                counted(self.repositories, "repository", "repositories"),
                counted(self.blobs, "blob", "blobs"),
                size(self.stored_bytes)
            ),
        );
        let free = self.free_bytes.map_or_else(|| "unknown".to_owned(), size);
        let least = self.min_free_bytes.map_or_else(String::new, |least| format!(", pushes need {}", size(least)));
        line("free space", format!("{free}{least}"));
        line("unreferenced", format!("{}, which garbage collection frees later", size(self.unreferenced_bytes)));
        let uploads = counted(self.uploads, "unfinished upload", "unfinished uploads");
        line("uploads", format!("{uploads} ({})", size(self.upload_bytes)));
        for work in &self.maintenance {
            line(&work.work, describe(work));
        }
        if let Some(certificate) = &self.certificate {
            line("certificate", super::certificate::describe(certificate));
        }
        let never = || "never: `coracle backup DIRECTORY` makes one".to_owned();
        line("last backup", self.last_backup.as_deref().map_or_else(never, shown_rfc3339));
        for warning in &self.warnings {
            println!("warning: {warning}");
        }
    }

    fn code(&self) -> ExitCode {
        if self.server.is_some() { ExitCode::SUCCESS } else { ExitCode::from(1) }
    }
}

/// The state of a kind of work, in one line.
fn describe(work: &WorkReport) -> String {
    let last = match (&work.ended, &work.result) {
        (Some(ended), Some(result)) => format!("{}: {result}", shown_rfc3339(ended)),
        _ => "not since the start".to_owned(),
    };
    match &work.running_since {
        Some(since) => {
            let percent = work.percent.map_or_else(String::new, |percent| format!(", {percent} % done"));
            format!("running since {}{percent}", shown_rfc3339(since))
        }
        None => last,
    }
}

impl Report for DiskReport {
    fn print(&self) {
        let rows = self.repositories.iter().map(|repository| {
            [
                repository.name.clone(),
                repository.blobs.to_string(),
                size(repository.logical_bytes),
                size(repository.unique_bytes),
                size(repository.shared_bytes),
            ]
        });
        if self.repositories.is_empty() && self.left_out == 0 {
            if self.prefix.is_empty() {
                println!("no repository has content");
            } else {
                println!("no repository begins with {:?}", self.prefix);
            }
        } else {
            print!("{}", table(["REPOSITORY", "BLOBS", "LOGICAL", "UNIQUE", "SHARED"], rows));
        }
        if self.left_out > 0 {
            println!("and {}", counted(self.left_out as u64, "more repository", "more repositories"));
        }
        println!();
        println!("stored        {} ({} without sharing)", size(self.stored_bytes), size(self.logical_bytes));
        println!("uploads       {} in {}", size(self.upload_bytes), counted(self.uploads, "upload", "uploads"));
        println!("unreferenced  {}, which garbage collection frees later", size(self.unreferenced_bytes));
        println!("free          {}", self.free_bytes.map_or_else(|| "unknown".to_owned(), size));
        if self.truncated {
            eprintln!("coracle: there is too much to count: the figures are a part of the whole");
        }
    }
}
