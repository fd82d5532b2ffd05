//! Commands on stored data: `coracle gc`, `scrub`, `backup`, `restore` and `recover`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::administer::{Report, Target, finish, running};
use super::{Error, locate, quietly};
use crate::admin::{self, Collection, Recovery, ScrubReport, Transferred};
use crate::kit::text::{counted, size};

// Without a doc comment, the help shows that of the request.
#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    #[command(flatten)]
    request: admin::Restore,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        finish(self.json, &admin::restore(&self.request)?)
    }
}

/// Rebuild a lost or damaged database without a backup
///
/// Repositories, manifests and tags come from manifests.log, which lies next to the database. Blobs come from their
/// files, which are hashed. Users, API keys, permissions, the tag history and the audit log are lost: the next start
/// creates a superuser as a first start does. A manifest is not recovered if a blob that it references is missing.
///
/// The command deletes nothing: it keeps the previous database under another name.
#[derive(Debug, clap::Args)]
pub(super) struct Recover {
    /// The data directory [default: the configured one, or that of the platform]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The configuration of the registry, which names its data directory
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    request: admin::Recover,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Recover {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let (_, root) = locate(self.config.as_deref(), self.root.as_deref())?;
        // A running registry keeps its database open even if the file has been removed or renamed.
        if running(&root)?.is_some() {
            return Err(Error::failed(format!(
                "a registry runs on {}: back it up with `coracle backup`, or stop it first",
                root.display()
            )));
        }
        finish(self.json, &quietly(|| admin::recover(&root, &self.request))?)
    }
}

impl Report for Collection {
    fn print(&self) {
        let verb = if self.dry_run { "would be removed" } else { "removed" };
        let more = if self.is_part { "at least " } else { "" };
        let line = |what: String| println!("{more}{what} {verb}");
        if self.purged > 0 {
            line(counted(self.purged as u64, "entry", "entries") + " of the tag history");
        }
        if self.collected.tags > 0 {
            line(counted(self.collected.tags, "signature tag", "signature tags") + " without an image");
        }
        line(counted(self.collected.manifests, "manifest", "manifests"));
        line(format!("{} ({})", counted(self.collected.blobs, "blob", "blobs"), size(self.collected.bytes)));
        if self.collected.unreadable > 0 {
            let unreadable = counted(self.collected.unreadable, "manifest", "manifests");
            eprintln!("kept {unreadable} that cannot be read: `coracle scrub` names them");
        }
    }
}

impl Report for ScrubReport {
    fn print(&self) {
        let found = &self.scrubbed;
        println!("verified {} ({})", counted(found.blobs, "blob", "blobs"), size(found.bytes));
        for blob in &found.damaged {
            println!("damaged: {}: {}", blob.digest, blob.what);
            for tag in &blob.tags {
                println!("  needed by {tag}: push it again");
            }
        }
        for blob in &found.unreadable {
            println!("cannot be read: {}: {}", blob.digest, blob.what);
        }
        for line in &found.lost {
            println!("lost: {line}");
        }
        let state = if found.repaired { "repaired" } else { "--repair repairs it" };
        for line in &found.derived {
            println!("inconsistent: {line}: {state}");
        }
        let state = if found.repaired { "removed" } else { "--repair removes it" };
        for line in &found.unreferenced {
            println!("unreferenced file in the blob directory: {line}: {state}");
        }
        for line in &found.obstacles {
            println!("remove by hand: {line}");
        }
        if found.ignored > 0 {
            println!("ignored {} in the blob directory", counted(found.ignored, "unknown file", "unknown files"));
        }
        if found.is_part {
            println!("incomplete: the registry was stopped meanwhile");
        }
        if self.clean {
            println!("no problems found");
        }
    }

    fn code(&self) -> ExitCode {
        if self.clean { ExitCode::SUCCESS } else { ExitCode::from(1) }
    }
}

impl Report for Transferred {
    fn print(&self) {
        let part = |blobs, bytes| format!("{} ({})", counted(blobs, "blob", "blobs"), size(bytes));
        println!("{} in {:.1} s", part(self.blobs, self.bytes), self.seconds);
        println!("  linked: {}", part(self.linked, self.linked_bytes));
        println!("  copied: {}", part(self.copied, self.copied_bytes));
        if self.removed > 0 {
            println!("  removed: {} that the registry no longer has", counted(self.removed, "blob", "blobs"));
        }
    }

    fn code(&self) -> ExitCode {
        if self.damaged == 0 {
            return ExitCode::SUCCESS;
        }
        let blobs = counted(self.damaged, "blob is", "blobs are");
        eprintln!("coracle: {blobs} missing or damaged; everything else is complete");
        for digest in &self.damaged_digests {
            eprintln!("  {digest}");
        }
        ExitCode::from(1)
    }
}

impl Report for Recovery {
    fn print(&self) {
        let found = &self.recovered;
        println!("database: {}", found.damage);
        println!(
            "{}: {}, {}, {}, {}",
            if self.dry_run { "would be recovered" } else { "recovered" },
            counted(found.repositories as u64, "repository", "repositories"),
            counted(found.manifests as u64, "manifest", "manifests"),
            counted(found.tags as u64, "tag", "tags"),
            counted(found.blobs as u64, "blob", "blobs"),
        );
        if found.lost_manifests + found.lost_tags > 0 {
            println!(
                "lost: {}, {}",
                counted(found.lost_manifests as u64, "manifest", "manifests"),
                counted(found.lost_tags as u64, "tag", "tags")
            );
            for line in &found.lost {
                println!("  {line}");
            }
        }
        if found.is_torn {
            println!("the end of manifests.log is missing: the last changes before the failure are lost");
        }
        if found.journal_damage > 0 {
            let places = counted(found.journal_damage as u64, "place", "places");
            println!(
                "manifests.log is damaged in {places}: changes that were recorded there are lost, a tag may have an \
                 earlier target, and deleted content may be back"
            );
        }
        if found.damaged > 0 {
            let files = counted(found.damaged as u64, "blob file is", "blob files are");
            println!("{files} damaged and kept in place: a push replaces them");
        }
        if found.unnamed > 0 {
            let state = if self.pruned { "removed" } else { "kept (--prune removes them)" };
            let blobs = counted(found.unnamed as u64, "unreferenced blob", "unreferenced blobs");
            println!("{blobs} ({}): {state}", size(found.unnamed_bytes));
        }
        println!("not in manifests.log, and lost: users, API keys, permissions, the tag history, the audit log");
        if let Some(kept) = &found.set_aside {
            println!("the previous database is kept as {kept}");
        }
        if !self.dry_run {
            println!("the next start creates a superuser, as a first start does");
        }
    }
}

// A command that consists of one operation. Without a doc comment, the help shows that of the operation.
#[derive(Debug, clap::Args)]
pub(super) struct Single<O: clap::Args> {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    operation: O,
}

impl<O: clap::Args + admin::Operation<Answer: Report>> Single<O> {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        self.target.run(self.operation)
    }
}
