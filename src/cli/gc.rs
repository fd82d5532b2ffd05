//! `coracle gc`: removing what nothing needs.

use std::process::ExitCode;

use super::administer::Target;
use crate::admin::Command;

/// Remove what nothing needs, in a running registry or in one that rests
///
/// That is: manifests that no tag and no index names, and no tag has named for as long as its history is kept;
/// manifests whose subject was deleted; and blobs that no manifest needs. It is done while clients push and
/// pull, and a registry does it by itself from time to time (storage.gc).
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
}

impl Gc {
    pub(super) fn run(self) -> ExitCode {
        self.target.run(Ok(Command::Collect { dry_run: self.dry_run, delay_seconds: self.delay }), |value| {
            let count = |name: &str| value[name].as_u64().unwrap_or_default();
            let verb = if value["dry_run"] == true { "would be removed" } else { "removed" };
            let more = if value["is_part"] == true { "at least " } else { "" };
            println!("{more}{} manifests {verb}", count("manifests"));
            println!("{more}{} blobs with {} bytes {verb}", count("blobs"), count("bytes"));
            if count("unreadable") > 0 {
                eprintln!("{} manifests cannot be read and stay: coracle scrub says which", count("unreadable"));
            }
        })
    }
}
