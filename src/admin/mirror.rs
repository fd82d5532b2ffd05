//! Operations on mirrored content.

use serde::{Deserialize, Serialize};

use super::{Call, Failure, Operation};
use crate::content::repository::{Evicted, Goal};

/// Remove the least recently used mirrored content
///
/// Blobs go first, and tags stay: the registry still says what a tag names, and fetches a blob again when a client pulls
/// it. Manifests go if they alone exceed a tenth of the size. Pushed content always stays, and so does everything that a
/// pushed manifest references. Clients can push and pull meanwhile. A running registry also evicts by itself
/// (extensions.sync.sizeLimit).
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct EvictMirrored {
    /// Keep at most this much mirrored content, such as 10GiB, or 0 [default: nine tenths of the configured limits]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    to: Option<u64>,
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Parses `10GiB`, or bytes.
fn size(text: &str) -> Result<u64, String> {
    crate::config::size(text).ok_or_else(|| "expected a size such as 10GiB, 512MiB or 0".to_owned())
}

/// The result of an eviction, or of a dry run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Eviction {
    pub(crate) dry_run: bool,
    #[serde(flatten)]
    pub(crate) evicted: Evicted,
}

impl Operation for EvictMirrored {
    type Answer = Eviction;

    fn perform(self, call: &Call<'_>) -> Result<Eviction, Failure> {
        let Self { to, dry_run } = self;
        let evicted = match (to, call.registry.mirror().filter(|mirror| mirror.is_limited())) {
            (Some(target), _) => {
                let goal = Goal::AtMost { limit: target, target };
                call.registry.stores().evict(goal, &|_| true, dry_run, call.pause)?
            }
            (None, Some(mirror)) => mirror.evict(true, dry_run, call.pause)?,
            (None, None) => {
                let why = "no limit is configured (extensions.sync.sizeLimit): name a size with --to";
                return Err(Failure::Invalid(why.to_owned()));
            }
        };
        Ok(Eviction { dry_run, evicted })
    }
}
