//! `coracle gc`: removing what nothing references.

use std::process::ExitCode;

use super::administer::Target;
use crate::admin::{Command, Purge};
use crate::oci::RepositoryName;

#[expect(clippy::option_option, reason = "an option whose value may be left out")]
/// Remove unreferenced manifests and blobs
///
/// Removed are: manifests that no tag and no index names, and no tag has named for as long as its history is kept;
/// manifests that were deleted by digest as long ago; manifests whose subject was deleted, and tags of signatures whose
/// image was; and blobs that no manifest references. Clients can push and pull meanwhile. A registry does it by itself
/// from time to time (storage.gc). The command works beside a running registry, or without one.
#[derive(Debug, clap::Args)]
pub(super) struct Gc {
    #[command(flatten)]
    target: Target,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Remove what nothing has needed for this long, such as 30m or 7d; as storage.gcDelay says without it. With 0s,
    /// blobs go whose manifest is on its way: their clients push them again
    #[arg(long, value_name = "TIME", value_parser = super::seconds)]
    delay: Option<u64>,
    /// First forget what tags pointed at before and what was deleted by digest, in this repository or in all: none of it
    /// can be restored after that
    #[arg(long, value_name = "REPOSITORY", num_args = 0..=1)]
    purge_history: Option<Option<RepositoryName>>,
}

impl Gc {
    pub(super) fn run(self) -> ExitCode {
        let purges = self.purge_history.is_some();
        let purge_history = self.purge_history.map(|of| of.map_or(Purge::All, Purge::Repository));
        let command = Command::Collect { dry_run: self.dry_run, delay_seconds: self.delay, purge_history };
        self.target.run(Ok(command), |value| {
            let count = |name: &str| value[name].as_u64().unwrap_or_default();
            let verb = if value["dry_run"] == true { "would be removed" } else { "removed" };
            let more = if value["is_part"] == true { "at least " } else { "" };
            if purges {
                println!("{more}{} entries of the tag history {verb}", count("purged"));
            }
            if count("tags") > 0 {
                println!("{more}{} tags of signatures without their image {verb}", count("tags"));
            }
            println!("{more}{} manifests {verb}", count("manifests"));
            println!("{more}{} blobs with {} bytes {verb}", count("blobs"), count("bytes"));
            if count("unreadable") > 0 {
                eprintln!("{} manifests cannot be read and stay: coracle scrub says which", count("unreadable"));
            }
        })
    }
}
