//! `coracle backup`: a copy of everything, of a registry that runs or rests.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use super::administer::Target;
use crate::admin::Command;

/// Make a backup of a registry, or bring one up to date
///
/// The backup has everything as it was at one moment: repositories, manifests, tags with their history, blobs, users
/// with their passwords and API keys, permissions, the audit. It has no unfinished uploads, and nothing that lets
/// somebody in without a password or a key: people sign in again. Clients push and pull meanwhile. Run again with the
/// same directory, it brings only what is new, and until its end the backup from before stays whole; a backup that
/// is broken off leaves it as it was.
///
/// The directory is a data directory: `coracle restore` makes a registry from it.
///
/// Blobs are hard links where both directories are on one file system: the same bytes on the disk under two names.
/// That takes no room and no time, and is safe against everything but the loss or the failure of that disk, and
/// against somebody who writes into the files. Else they are copied; --copy makes copies in any case.
#[derive(Debug, clap::Args)]
pub(super) struct Backup {
    #[command(flatten)]
    target: Target,
    /// Where the backup is, or is to be: a missing or empty directory, or one with a backup
    directory: PathBuf,
    /// Copy the bytes of blobs, also where a hard link would do
    #[arg(long)]
    copy: bool,
}

impl Backup {
    pub(super) fn run(self) -> ExitCode {
        let directory = super::absolute(&self.directory);
        let command = directory.map(|directory| Command::BackUp { directory, copy: self.copy });
        self.target.run_for(command, print, code)
    }
}

/// What was brought, for people.
pub(super) fn print(value: &Value) {
    let count = |name: &str| value[name].as_u64().unwrap_or_default();
    println!("{} blobs with {} bytes", count("blobs"), count("bytes"));
    println!("  linked: {} with {} bytes", count("linked"), count("linked_bytes"));
    println!("  copied: {} with {} bytes", count("copied"), count("copied_bytes"));
    if count("removed") > 0 {
        println!("  removed: {} that are not wanted any more", count("removed"));
    }
    println!("{:.1} seconds", value["seconds"].as_f64().unwrap_or_default());
}

/// Says whether everything could be brought.
pub(super) fn code(value: &Value) -> ExitCode {
    let damaged = value["damaged"].as_u64().unwrap_or_default();
    if damaged == 0 {
        return ExitCode::SUCCESS;
    }
    eprintln!("coracle: {damaged} blobs are missing or damaged; everything else is there");
    for digest in value["damaged_digests"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("  {digest}");
    }
    ExitCode::from(1)
}
