//! `import`, `export` and `inventory`: how their results are printed.

use std::process::ExitCode;

use super::Error;
use super::administer::{Ask, Progress, Report, Target};
use super::credentials::{Environment, credential_files};
use crate::admin::{
    Exported, Import, Imported, InventoryList, TakeoverView, TransferList, TransferState, TransferStatus,
};
use crate::kit::text::{counted, size};

// Without a doc comment, the help shows that of the operation.
#[derive(Debug, clap::Args)]
pub(super) struct ImportCommand {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    import: Import,
}

impl ImportCommand {
    pub(super) fn run(mut self) -> Result<ExitCode, Error> {
        if self.import.status {
            return self.target.run(TransferStatus {});
        }
        // podman's file goes first, as for podman. Without a home directory there is no file.
        let files = credential_files(&Environment::read(), self.import.authfile.as_deref()).unwrap_or_default();
        self.import.credential_files = files.into_iter().rev().map(|file| file.file).collect();
        self.target.run(self.import)
    }
}

/// The progress line of an import or export: that of the last one that was started.
fn progress(ask: &Ask) -> Option<String> {
    let transfers: TransferList = serde_json::from_value(ask(TransferStatus {}.into())?).ok()?;
    transfers.running.last().map(line)
}

fn line(state: &TransferState) -> String {
    format!(
        "{} s: {}, {}, {} read, {} new {}",
        state.seconds,
        counted(state.tags, "tag", "tags"),
        counted(state.manifests, "manifest", "manifests"),
        size(state.read_bytes),
        size(state.bytes),
        state.current
    )
}

fn print_takeover(takeover: &TakeoverView) {
    let TakeoverView { from, repositories, repositories_done, tags, tags_done, .. } = takeover;
    match &takeover.done_at {
        Some(at) => {
            println!("takeover from {from}: done at {at}. Restart without --takeover-from when nothing uses it");
        }
        None if takeover.found_nothing => {
            println!("takeover from {from}: not done: nothing was found there, and it is asked again");
        }
        None => println!(
            "takeover from {from}: repository {repositories_done} of {repositories}, tag {tags_done} of {tags} listed so far, \
             {} fetched {}",
            size(takeover.bytes),
            takeover.current
        ),
    }
    if let (None, Some(why)) = (&takeover.done_at, &takeover.stopped) {
        println!("the last attempt ended early: {why}");
    }
    if !takeover.failures.is_empty() {
        println!("could not be fetched:");
        for failure in &takeover.failures {
            println!("  {failure}");
        }
    }
    print_notes(&takeover.notes);
}

fn print_notes(notes: &[String]) {
    for note in notes {
        println!("note: {note}");
    }
}

impl Report for TransferList {
    fn print(&self) {
        if let Some(takeover) = &self.takeover {
            print_takeover(takeover);
        } else if self.running.is_empty() {
            println!("no import is running");
        }
        for state in &self.running {
            println!("{}: {}", state.source, line(state));
        }
    }
}

impl Report for Imported {
    const PROGRESS: Progress = Some(progress);

    fn print(&self) {
        let is_dry = self.dry_run;
        if self.is_complete() || self.has_any() {
            // Only an import from a data directory shares files.
            let shared = if self.linked_bytes == 0 {
                String::new()
            } else {
                format!(", {} of them shared with the source", size(self.linked_bytes))
            };
            println!(
                "{}: {}, {}, {} ({}{shared}) into {}",
                if is_dry { "would be imported" } else { "imported" },
                counted(self.tags, "tag", "tags"),
                counted(self.manifests, "manifest", "manifests"),
                counted(self.blobs, "blob", "blobs"),
                size(self.bytes),
                counted(self.repositories, "repository", "repositories"),
            );
        } else {
            println!("imported: nothing");
        }
        if self.known_tags + self.known_manifests > 0 {
            println!(
                "here already: {}, {}",
                counted(self.known_tags, "tag", "tags"),
                counted(self.known_manifests, "manifest", "manifests")
            );
        }
        if self.keys + self.known_keys + self.expired_keys + self.preferences > 0 {
            println!(
                "of users: {} ({} here already, {} expired and left out), {}",
                counted(self.keys, "API key", "API keys"),
                self.known_keys,
                self.expired_keys,
                counted(self.preferences, "star or bookmark", "stars and bookmarks")
            );
        }
        if self.kept > 0 {
            let tags = counted(self.kept, "tag points", "tags point");
            println!("{tags} at another manifest here, and stayed (--overwrite moves them):");
            for tag in &self.kept_tags {
                println!("  {tag}");
            }
        }
        if self.skipped > 0 {
            println!("skipped: {}", counted(self.skipped, "item", "items"));
            for problem in &self.problems {
                println!("  {problem}");
            }
        }
        print_notes(&self.notes);
        if let Some(why) = &self.stopped {
            println!("incomplete: {why}. Run the command again{}", if self.has_any() { " to continue" } else { "" });
        }
    }

    fn code(&self) -> ExitCode {
        if self.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(1) }
    }
}

impl Report for Exported {
    const PROGRESS: Progress = Some(progress);

    fn print(&self) {
        println!(
            "exported {}, {} and {} of {}, {} in all",
            counted(self.tags, "tag", "tags"),
            counted(self.manifests, "manifest", "manifests"),
            counted(self.blobs, "blob", "blobs"),
            counted(self.repositories, "repository", "repositories"),
            size(self.bytes),
        );
        if self.omitted > 0 {
            println!("left out: {} ({})", counted(self.omitted, "blob", "blobs"), size(self.omitted_bytes));
        }
        if self.sparse > 0 {
            let indexes = counted(self.sparse, "index lists", "indexes list");
            println!("{indexes} manifests that are not here: import with --sparse");
        }
    }
}

impl Report for InventoryList {
    fn print(&self) {
        for digest in &self.digests {
            println!("{digest}");
        }
    }
}
