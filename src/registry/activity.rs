//! [`Activity`]: the background work that runs, and the result of the last one.

use parking_lot::Mutex;

use super::Shared;
use crate::content::repository::{Collected, Scrubbed};
use crate::kit::clock::Timestamp;
use crate::kit::text;

/// A kind of work that takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Collection,
    Scrub,
}

impl Work {
    /// Describes what a garbage collection did.
    pub(crate) fn describe_collection(collected: &Collected) -> (String, bool) {
        let (manifests, blobs) = (collected.manifests, collected.blobs);
        let removed = format!(
            "Removed {} and {}, {}.",
            text::counted(manifests, "manifest", "manifests"),
            text::counted(blobs, "blob", "blobs"),
            text::size(collected.bytes)
        );
        let unreadable = collected.unreadable;
        if unreadable == 0 {
            return (removed, true);
        }
        (format!("{removed} {} cannot be read.", text::counted(unreadable, "manifest", "manifests")), false)
    }

    /// Describes what a scrub found.
    pub(crate) fn describe_scrub(scrubbed: &Scrubbed) -> (String, bool) {
        let checked =
            format!("Checked {}, {}.", text::counted(scrubbed.blobs, "blob", "blobs"), text::size(scrubbed.bytes));
        if scrubbed.is_clean() {
            let end = if scrubbed.is_part { "It was stopped before the end." } else { "Found no damage." };
            return (format!("{checked} {end}"), true);
        }
        let lists = [
            (scrubbed.damaged.len(), "damaged"),
            (scrubbed.unreadable.len(), "unreadable"),
            (scrubbed.lost.len(), "lost"),
            (scrubbed.derived.len(), "wrong in derived rows"),
            (scrubbed.strays.len(), "unreferenced files"),
            (scrubbed.obstacles.len(), "in the way"),
        ];
        let found = lists.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let found = found.collect::<Vec<_>>().join(", ");
        (format!("{checked} Found: {found}. `coracle scrub` has the details."), false)
    }
}

/// The state of one kind of work since the registry started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkState {
    /// When the running work began.
    pub(crate) running_since: Option<Timestamp>,
    /// When the last work ended.
    pub(crate) ended: Option<Timestamp>,
    /// The result of the last work.
    pub(crate) result: Option<String>,
    /// Whether the last work found no problem.
    pub(crate) is_good: bool,
}

/// The work of one registry. Nothing of it is stored.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    collection: Mutex<WorkState>,
    scrub: Mutex<WorkState>,
}

impl Activity {
    const fn slot(&self, work: Work) -> &Mutex<WorkState> {
        match work {
            Work::Collection => &self.collection,
            Work::Scrub => &self.scrub,
        }
    }

    /// The state of a kind of work.
    pub(crate) fn state(&self, work: Work) -> WorkState {
        self.slot(work).lock().clone()
    }
}

impl Shared {
    /// The background work.
    pub(crate) const fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Does work, and notes its beginning and its end. `describe` says what it did, and whether it found no problem.
    pub(crate) fn perform<T, E: std::fmt::Display>(
        &self,
        work: Work,
        perform: impl FnOnce() -> Result<T, E>,
        describe: impl FnOnce(&T) -> (String, bool),
    ) -> Result<T, E> {
        let slot = self.activity.slot(work);
        slot.lock().running_since = Some(self.now());
        let done = perform();
        let (result, is_good) = match &done {
            Ok(value) => describe(value),
            Err(error) => (format!("Failed: {error}."), false),
        };
        *slot.lock() = WorkState { running_since: None, ended: Some(self.now()), result: Some(result), is_good };
        done
    }
}
