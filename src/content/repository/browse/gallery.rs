//! [`Gallery`]: the queries of search, in one consistent view of the rows.
//!
//! Lists of repositories are read from the orders that pages use. Everything that no order has is limited by [`Limits`]:
//! what a query looks at is counted over the whole request, so that many queries in one request cost no more than one.
//!
//! Invariant: nothing of a repository leaves this module unless the viewer sees the repository. A repository that is not
//! seen looks like one that does not exist.

mod document;
mod images;
mod kept;
mod layers;
mod repositories;
mod signatures;

use std::cell::{Cell, OnceCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(crate) use document::{Descriptor, Document};
pub(crate) use images::{ImageOrder, Tagged};
use kept::Kept;
pub(crate) use layers::Relation;
pub(crate) use repositories::{RepositoryFilter, RepositorySort, Selected, Selection, architecture_of};
pub(crate) use signatures::{Referrer, ReferrerQuery, SignatureTool};

use crate::content::repository::{Error, SearchScope, Stores};
use crate::content::rows::{Details, Facts, Kind, ManifestRow, Preference, Pulls, Rows, Totals};
use crate::kit::clock::Timestamp;
use crate::kit::text::size;
use crate::oci::{Digest, RepositoryName, Tag};

/// The most recent tags whose manifests say what a repository has: platforms and vendors.
const SAMPLE_MAX: usize = 20;

/// The bytes of a manifest that count as one read.
const READ_BYTES: usize = 256;
/// The reads that the details of a manifest count as: they have up to 24 KiB of texts.
const DETAILS_READS: usize = 8;

/// How much one request may look at. Lists and counts end at the first three. Beyond the reads, the request is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Names of repositories, whether the viewer sees them or not.
    pub(crate) names: usize,
    /// Tags in lists and in searches.
    pub(crate) tags: usize,
    /// Manifests in searches that no index answers.
    pub(crate) documents: usize,
    /// Reads of single rows. A manifest, and the descriptor of a referrer, count by their size.
    pub(crate) reads: usize,
    /// Repositories that a filter by platform or signature looks at.
    pub(crate) filtered: usize,
    /// Bytes of results that are read once and kept until the request ends.
    pub(crate) kept_bytes: usize,
    pub(crate) duration: Duration,
}

impl Default for Limits {
    /// The reads are as many as a list of 5000 repositories with 20 tags each needs.
    fn default() -> Self {
        Self {
            names: 400_000,
            tags: 200_000,
            documents: 10_000,
            reads: 2_000_000,
            filtered: 2_000,
            kept_bytes: 16 * 1024 * 1024,
            duration: Duration::from_secs(10),
        }
    }
}

/// The caller of a search.
pub(crate) struct Viewer<'a> {
    /// The user, who may have stars and bookmarks.
    pub(crate) user: Option<&'a str>,
    pub(crate) scope: &'a SearchScope,
    /// Every visible name is within `scope`.
    pub(crate) sees: &'a dyn Fn(&str) -> bool,
    /// Whether the viewer may delete tags of a repository.
    pub(crate) deletes: &'a dyn Fn(&RepositoryName) -> bool,
}

impl std::fmt::Debug for Viewer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Viewer").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// A view of all rows for one viewer.
pub(crate) struct Gallery<'a> {
    rows: &'a Rows,
    viewer: &'a Viewer<'a>,
    limits: Limits,
    names_left: Cell<usize>,
    tags_left: Cell<usize>,
    documents_left: Cell<usize>,
    reads_left: Cell<usize>,
    kept: Kept,
    until: Instant,
    /// Set when the client has left.
    has_left: OnceCell<Arc<AtomicBool>>,
    /// The reason why nothing more is read.
    stopped: Cell<Option<Stop>>,
}

/// The reason why a request reads nothing more.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Reads,
    Bytes,
    Time,
    Client,
}

impl std::fmt::Debug for Gallery<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gallery").field("viewer", &self.viewer).finish_non_exhaustive()
    }
}

/// Takes one from what is left. Returns whether there was one.
fn take(left: &Cell<usize>) -> bool {
    let now = left.get();
    left.set(now.saturating_sub(1));
    now > 0
}

/// The reads that a row of a size counts as.
const fn reads_of(bytes: usize) -> usize {
    bytes / READ_BYTES + 1
}

impl Stores {
    /// Runs the queries of one request.
    pub(crate) fn gallery<T>(
        &self,
        viewer: &Viewer<'_>,
        look: impl FnOnce(&Gallery<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.gallery_within(Limits::default(), viewer, look)
    }

    /// As [`Stores::gallery`], with limits.
    pub(crate) fn gallery_within<T>(
        &self,
        limits: Limits,
        viewer: &Viewer<'_>,
        look: impl FnOnce(&Gallery<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.database.read(|rows| {
            look(&Gallery {
                rows,
                viewer,
                limits,
                names_left: Cell::new(limits.names),
                tags_left: Cell::new(limits.tags),
                documents_left: Cell::new(limits.documents),
                reads_left: Cell::new(limits.reads),
                kept: Kept::new(limits.kept_bytes),
                until: Instant::now() + limits.duration,
                has_left: OnceCell::new(),
                stopped: Cell::new(None),
            })
        })
    }
}

impl<'a> Gallery<'a> {
    /// The rows, for one read.
    fn read(&self) -> &'a Rows {
        self.read_for(1)
    }

    /// The rows, for something that counts as several reads.
    fn read_for(&self, reads: usize) -> &'a Rows {
        self.count_reads(reads);
        self.rows
    }

    /// Counts something that was read. Returns whether more may be read.
    fn count_reads(&self, reads: usize) -> bool {
        let left = self.reads_left.get().saturating_sub(reads);
        self.reads_left.set(left);
        if left == 0 {
            self.stop(Stop::Reads);
        } else if self.has_left.get().is_some_and(|left| left.load(Ordering::Relaxed)) {
            self.stop(Stop::Client);
        } else if Instant::now() >= self.until {
            self.stop(Stop::Time);
        }
        !self.is_exhausted()
    }

    /// Stops reading if the request takes too long, or the client has left.
    pub(crate) fn check_time(&self) {
        self.count_reads(0);
    }

    fn stop(&self, why: Stop) {
        self.stopped.set(self.stopped.get().or(Some(why)));
    }

    /// Stops reading when this is set: the client has left.
    pub(crate) fn stop_with(&self, has_left: Arc<AtomicBool>) {
        let _ = self.has_left.set(has_left);
    }

    /// Whether a limit was reached: the request is refused, so nothing more needs to be read.
    pub(crate) const fn is_exhausted(&self) -> bool {
        self.stopped.get().is_some()
    }

    /// The limit that was reached.
    pub(crate) fn why_stopped(&self) -> Option<String> {
        self.stopped.get().map(|why| match why {
            Stop::Reads => format!("the request reads more than {} rows", self.limits.reads),
            Stop::Bytes => format!("the request reads more than {}", size(self.limits.kept_bytes as u64)),
            Stop::Time => format!("the request takes more than {} seconds", self.limits.duration.as_secs()),
            Stop::Client => "the client has left".to_owned(),
        })
    }
}

impl Gallery<'_> {
    /// A repository by its name, if the viewer sees it.
    pub(crate) fn repository(&self, name: &str) -> Result<Option<RepositoryName>, Error> {
        let Some(name) = name.parse::<RepositoryName>().ok().filter(|_| (self.viewer.sees)(name)) else {
            return Ok(None);
        };
        Ok(self.read().repository(&name)?.map(|_| name))
    }

    /// Whether the viewer may delete tags of a repository.
    pub(crate) fn may_delete(&self, name: &RepositoryName) -> bool {
        (self.viewer.deletes)(name)
    }

    /// The totals of a repository, and `None` until the background work after an upgrade has counted them.
    pub(crate) fn totals(&self, name: &RepositoryName) -> Result<Option<Totals>, Error> {
        Ok(self.read().totals(name)?)
    }

    /// The number of users who have starred a repository.
    pub(crate) fn stars(&self, name: &RepositoryName) -> Result<u64, Error> {
        Ok(self.read().stars(name)?)
    }

    /// Whether the viewer has starred a repository.
    pub(crate) fn has_starred(&self, name: &RepositoryName) -> Result<bool, Error> {
        self.prefers(Preference::Star, name)
    }

    /// Whether the viewer has bookmarked a repository.
    pub(crate) fn has_bookmarked(&self, name: &RepositoryName) -> Result<bool, Error> {
        self.prefers(Preference::Bookmark, name)
    }

    fn prefers(&self, preference: Preference, name: &RepositoryName) -> Result<bool, Error> {
        let Some(user) = self.viewer.user else { return Ok(false) };
        Ok(self.read().prefers(user, preference, name)?)
    }

    /// The row of a manifest.
    pub(crate) fn manifest(&self, name: &RepositoryName, digest: Digest) -> Result<Option<ManifestRow>, Error> {
        Ok(self.read().manifest(name, digest)?)
    }

    pub(crate) fn facts(&self, name: &RepositoryName, digest: Digest) -> Result<Option<Facts>, Error> {
        Ok(self.read().facts(name, digest)?.map(|facts| self.visible(facts)))
    }

    pub(crate) fn facts_and_details(
        &self,
        name: &RepositoryName,
        digest: Digest,
    ) -> Result<Option<(Facts, Details)>, Error> {
        let found = self.read_for(DETAILS_READS).facts_and_details(name, digest)?;
        Ok(found.map(|(facts, details)| (self.visible(facts), details)))
    }

    /// Viewers without an account do not see who pushed.
    fn visible(&self, facts: Facts) -> Facts {
        Facts { pushed_by: facts.pushed_by.filter(|_| self.viewer.user.is_some()), ..facts }
    }

    pub(crate) fn pulls(&self, name: &RepositoryName, digest: Digest) -> Result<Pulls, Error> {
        Ok(self.read().pulls(name, digest)?)
    }

    /// The target of a tag.
    pub(crate) fn tag(&self, name: &RepositoryName, tag: &str) -> Result<Option<Tagged>, Error> {
        let Ok(parsed) = tag.parse::<Tag>() else { return Ok(None) };
        Ok(self.read().tag(name, &parsed)?.map(|row| Tagged::new(name.clone(), tag, &row)))
    }

    /// When an image was built: as its author says, for an index the latest of its manifests.
    pub(crate) fn created(&self, name: &RepositoryName, digest: Digest) -> Result<Option<Timestamp>, Error> {
        let Some(facts) = self.facts(name, digest)? else { return Ok(None) };
        if facts.created.is_some() || facts.kind != Kind::Index {
            return Ok(facts.created);
        }
        let mut latest = None;
        for child in self.document(name, digest)?.children {
            let Some(child) = child.digest else { continue };
            latest = latest.max(self.facts(name, child)?.and_then(|facts| facts.created));
        }
        Ok(latest)
    }
}

#[cfg(test)]
mod tests;
