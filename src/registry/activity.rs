//! [`Activity`]: the background work that runs, and the result of the last one.
//!
//! A request of a superuser only asks for work. The maintenance of the running server does it, and its stop ends it.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Shared;
use crate::content::repository::{Collected, Scrubbed, WorkProgress};
use crate::kit::clock::Timestamp;
use crate::kit::text;

/// A kind of work that takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Collection,
    Scrub,
}

impl Work {
    /// All kinds.
    pub(crate) const ALL: [Self; 2] = [Self::Collection, Self::Scrub];

    /// The word for the kind in URLs.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Collection => "collection",
            Self::Scrub => "scrub",
        }
    }

    /// The kind of a word.
    pub(crate) fn find(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|work| work.word() == word)
    }

    /// The audit events of a start and of a stop.
    pub(crate) const fn events(self) -> [&'static str; 2] {
        match self {
            Self::Collection => ["start_collection", "stop_collection"],
            Self::Scrub => ["start_scrub", "stop_scrub"],
        }
    }

    /// Describes what a garbage collection did.
    pub(crate) fn describe_collection(collected: &Collected, progress: &WorkProgress) -> (String, bool) {
        let (manifests, blobs) = (collected.manifests, collected.blobs);
        let stopped = if progress.is_stopped() { " It was stopped before the end." } else { "" };
        if *collected == Collected::default() {
            return (format!("Found nothing to remove.{stopped}"), true);
        }
        let removed = format!(
            "Removed {} and {}, {}.{stopped}",
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
    pub(crate) fn describe_scrub(scrubbed: &Scrubbed, _: &WorkProgress) -> (String, bool) {
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
            (scrubbed.unreferenced.len(), "unreferenced files"),
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
    /// When the running work began, or was asked for.
    pub(crate) running_since: Option<Timestamp>,
    /// How much of the running work is done, in percent, if it is known.
    pub(crate) percent: Option<u8>,
    /// When the last work ended.
    pub(crate) ended: Option<Timestamp>,
    /// The result of the last work.
    pub(crate) result: Option<String>,
    /// Why it ended before it had a result of its own.
    pub(crate) failure: Option<String>,
    /// Whether it found no problem.
    pub(crate) is_good: bool,
}

/// The work of one registry. Nothing of it is stored.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    collection: Slot,
    scrub: Slot,
}

/// One kind of work.
#[derive(Debug, Default)]
struct Slot {
    state: Mutex<State>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// When work was asked for that has not begun.
    asked: Option<Timestamp>,
    /// The running work, the earliest first. The command line may run some while maintenance does.
    running: Vec<(Timestamp, Arc<WorkProgress>)>,
    last: Option<Ended>,
}

/// Work that has ended.
#[derive(Debug)]
struct Ended {
    at: Timestamp,
    result: String,
    failure: Option<String>,
    is_good: bool,
}

impl Activity {
    const fn slot(&self, work: Work) -> &Slot {
        match work {
            Work::Collection => &self.collection,
            Work::Scrub => &self.scrub,
        }
    }

    /// The state of a kind of work.
    pub(crate) fn state(&self, work: Work) -> WorkState {
        let state = self.slot(work).state.lock();
        let running = state.running.first();
        let last = state.last.as_ref();
        WorkState {
            running_since: running.map(|(since, _)| *since).or(state.asked),
            percent: running.and_then(|(_, progress)| progress.percent()),
            ended: last.map(|last| last.at),
            result: last.map(|last| last.result.clone()),
            failure: last.and_then(|last| last.failure.clone()),
            is_good: last.is_some_and(|last| last.is_good),
        }
    }

    /// Asks maintenance to do work. Returns whether it was not running.
    pub(crate) fn ask(&self, work: Work, now: Timestamp) -> bool {
        let slot = self.slot(work);
        let mut state = slot.state.lock();
        if state.asked.is_some() || !state.running.is_empty() {
            return false;
        }
        state.asked = Some(now);
        slot.asked.notify_one();
        true
    }

    /// Waits until work is asked for.
    pub(crate) async fn requested(&self, work: Work) {
        self.slot(work).asked.notified().await;
    }

    /// Asks running work to stop after its current step. Returns whether there is any.
    pub(crate) fn stop(&self, work: Work) -> bool {
        let state = self.slot(work).state.lock();
        for (_, progress) in &state.running {
            progress.stop();
        }
        !state.running.is_empty()
    }
}

/// Running work in its slot, which it leaves when it ends, also by a panic.
struct Running<'a> {
    slot: &'a Slot,
    progress: Arc<WorkProgress>,
}

impl<'a> Running<'a> {
    fn begin(slot: &'a Slot, now: Timestamp) -> Self {
        let progress = Arc::new(WorkProgress::default());
        let mut state = slot.state.lock();
        state.asked = None;
        state.running.push((now, Arc::clone(&progress)));
        drop(state);
        Self { slot, progress }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.slot.state.lock().running.retain(|(_, progress)| !Arc::ptr_eq(progress, &self.progress));
    }
}

impl Shared {
    /// The background work.
    pub(crate) const fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Notes that a garbage collection had nothing to do.
    pub(crate) fn note_idle_collection(&self) {
        let (result, is_good) = Work::describe_collection(&Collected::default(), &WorkProgress::default());
        self.activity.slot(Work::Collection).state.lock().last =
            Some(Ended { at: self.now(), result, failure: None, is_good });
    }

    /// Does work, and notes its beginning and its end. `pause` comes between two steps and may cancel the work. `describe`
    /// says what it did, and whether it found no problem.
    pub(crate) fn perform<T, E: fmt::Display>(
        &self,
        work: Work,
        pause: &dyn Fn(Duration) -> ControlFlow<()>,
        perform: impl FnOnce(&WorkProgress, &dyn Fn(Duration) -> ControlFlow<()>) -> Result<T, E>,
        describe: impl FnOnce(&T, &WorkProgress) -> (String, bool),
    ) -> Result<T, E> {
        let running = Running::begin(self.activity.slot(work), self.now());
        let progress = &*running.progress;
        let pause = |step| if progress.is_stopped() { ControlFlow::Break(()) } else { pause(step) };
        let done = perform(progress, &pause);
        let failure = done.as_ref().err().map(ToString::to_string);
        let (result, is_good) = match &done {
            Ok(value) => describe(value, progress),
            Err(error) => (format!("Failed: {error}."), false),
        };
        running.slot.state.lock().last = Some(Ended { at: self.now(), result, failure, is_good });
        done
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::super::Registry;
    use super::*;

    fn work(
        registry: &Registry,
        perform: impl FnOnce(&WorkProgress, &dyn Fn(Duration) -> ControlFlow<()>) -> Result<(), String>,
    ) {
        let pause = |_| ControlFlow::Continue(());
        let _ = registry.shared.perform(Work::Scrub, &pause, perform, |(), progress| {
            (if progress.is_stopped() { "Stopped." } else { "Done." }.to_owned(), true)
        });
    }

    #[test]
    fn work_shows_its_progress_is_stopped_and_leaves_its_result() {
        let registry = Registry::builder().temporary().open().unwrap();
        let activity = registry.shared.activity();
        assert!(!activity.stop(Work::Scrub));
        assert!(activity.ask(Work::Scrub, registry.shared.now()));
        assert!(!activity.ask(Work::Scrub, registry.shared.now()), "it was asked for already");
        assert!(activity.state(Work::Scrub).running_since.is_some());
        work(&registry, |progress, pause| {
            progress.expect(4);
            progress.reach(1);
            assert_eq!(activity.state(Work::Scrub).percent, Some(25));
            assert!(!activity.ask(Work::Scrub, registry.shared.now()), "it is running");
            assert!(pause(Duration::ZERO).is_continue());
            assert!(activity.stop(Work::Scrub) && pause(Duration::ZERO).is_break());
            // The command line may run another one.
            work(&registry, |_, pause| if pause(Duration::ZERO).is_continue() { Ok(()) } else { Err(String::new()) });
            assert_eq!(activity.state(Work::Scrub).result.unwrap(), "Done.");
            assert!(activity.state(Work::Scrub).running_since.is_some());
            Ok(())
        });
        let state = activity.state(Work::Scrub);
        assert_eq!((state.running_since, state.percent, &*state.result.unwrap()), (None, None, "Stopped."));
        work(&registry, |_, _| Err("no disk".to_owned()));
        assert_eq!(activity.state(Work::Scrub).result.unwrap(), "Failed: no disk.");
        assert_eq!(activity.state(Work::Collection), WorkState::default());
        let panicked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&registry, |_, _| panic!("work"))));
        assert!(panicked.is_err() && activity.state(Work::Scrub).running_since.is_none());
    }
}
