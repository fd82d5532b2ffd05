//! `coracle restore`: a registry from a backup.

use std::path::PathBuf;
use std::process::ExitCode;

use super::backup::{code, print};
use crate::admin;

/// Make a registry from a backup
///
/// The backup stays as it is. Every blob is looked at: whether it is there, with the size that it should have. Users,
/// passwords and API keys are those of the backup, also those that were removed or revoked since it was made. Nobody
/// is signed in, and tokens are signed with a new key.
///
/// Blobs are hard links where both directories are on one file system, else copies; see `coracle backup --help`.
#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    /// The backup, or another data directory that nobody uses
    backup: PathBuf,
    /// Where the registry is to be: a missing or empty directory
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Copy the bytes of blobs, also where a hard link would do
    #[arg(long)]
    copy: bool,
    /// Hash every blob
    #[arg(long)]
    verify: bool,
    /// Print what came of it as JSON
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(super) fn run(self) -> ExitCode {
        match admin::restore(&self.backup, &self.root, self.copy, self.verify) {
            Ok(value) => {
                if self.json {
                    println!("{value}");
                } else {
                    print(&value);
                }
                code(&value)
            }
            Err(error) => super::failed(&error),
        }
    }
}
