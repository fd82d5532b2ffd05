//! [`SyncReport`]: the result of a run of synchronisation, and how far it is. Values only.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The most failures, and the most tags of a dry run, that a report names. The others are only counted.
const NAMED_MAX: usize = 1000;

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SyncReport {
    /// Repositories whose tags were compared.
    pub(crate) repositories: u64,
    /// Tags that were compared, signatures included.
    pub(crate) tags: u64,
    /// Tags that were up to date, with all content.
    pub(crate) unchanged: u64,
    /// Tags that are new, moved or completed. In a dry run: that would be.
    pub(crate) fetched: u64,
    /// Tags that a client pushed here. They stay as they are.
    pub(crate) pushed_here: u64,
    /// Images without a signature, which `onlySigned` leaves out.
    pub(crate) unsigned: u64,
    /// Tags that the upstream lists and does not have.
    pub(crate) missing: u64,
    pub(crate) failed: u64,
    /// The sum of the hashes of the names that failed, in any order.
    #[serde(skip)]
    failed_names: u64,
    /// Bytes of blobs that were fetched.
    pub(crate) bytes: u64,
    /// Blobs that were fetched, and manifests that became content of this registry.
    pub(crate) blobs: u64,
    pub(crate) manifests: u64,
    /// The tags that a client pushed here.
    pub(crate) pushed_here_tags: Vec<String>,
    /// Why tags, lists or patterns failed.
    pub(crate) failures: Vec<String>,
    /// The tags that a dry run would fetch.
    pub(crate) would_fetch: Vec<String>,
    /// Why the run ended early.
    pub(crate) stopped: Option<String>,
    /// Content that may be missing although nothing failed, and the next steps after failures.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
}

impl SyncReport {
    pub(super) fn fail(&mut self, failure: String) {
        self.failed += 1;
        let name = failure.split(": ").next();
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(name);
        self.failed_names = self.failed_names.wrapping_add(hash);
        if self.failures.len() < NAMED_MAX {
            self.failures.push(failure);
        }
    }

    pub(super) fn keep(&mut self, tag: String) {
        self.pushed_here += 1;
        if self.pushed_here_tags.len() < NAMED_MAX {
            self.pushed_here_tags.push(tag);
        }
    }

    pub(super) fn would_fetch(&mut self, what: String) {
        self.fetched += 1;
        if self.would_fetch.len() < NAMED_MAX {
            self.would_fetch.push(what);
        }
    }

    /// Adds a note, unless one says the same.
    pub(super) fn note(&mut self, note: String) {
        if !self.notes.iter().any(|known| known.ends_with(&note)) {
            self.notes.push(note);
        }
    }

    /// Whether a run to its end found no tag.
    pub(crate) const fn found_nothing(&self) -> bool {
        self.stopped.is_none() && self.failed > 0 && self.tags == 0
    }

    /// Whether the same tags and lists failed as in another run. Compares their names only, because a reason may contain the
    /// id of a request.
    pub(crate) const fn fails_as(&self, other: &Self) -> bool {
        self.failed == other.failed && self.failed_names == other.failed_names
    }

    /// The notes for the log.
    pub(crate) fn joined_notes(&self) -> Option<String> {
        Some(self.notes.join("; ")).filter(|notes| !notes.is_empty())
    }

    /// Whether everything is up to date now.
    pub(crate) const fn is_complete(&self) -> bool {
        self.failed == 0 && self.stopped.is_none()
    }
}

/// A run that is going on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    pub(crate) since: Option<Instant>,
    pub(crate) is_dry_run: bool,
    /// The repositories of the run.
    pub(crate) repositories: u64,
    /// The tags of the repositories so far.
    pub(crate) tags: u64,
    pub(crate) report: SyncReport,
    /// The last tag that was begun.
    pub(crate) current: String,
    /// Until when the run waits, and why.
    pub(crate) waits: Option<(Instant, String)>,
}

/// A run that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) ended: Instant,
    pub(crate) took: Duration,
    pub(crate) report: SyncReport,
}
