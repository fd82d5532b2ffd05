//! [`Takeover`]: another registry whose content moves to this one while clients use this one (`--takeover-from`).

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::kit::clock::Timestamp;
use crate::mirror::{Mirror, RemoteImages, SyncReport};

/// The most failures that are shown.
const FAILURES_MAX: usize = 100;

/// The registry that is taken over.
#[derive(Debug)]
pub(crate) struct Takeover {
    from: RemoteImages,
    /// When everything was here, and what could not be fetched.
    done: Mutex<Option<(Timestamp, Vec<String>)>>,
}

/// How far a takeover is. Times are in RFC 3339.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TakeoverView {
    pub(crate) from: String,
    /// Whether everything that the other registry can deliver is here.
    pub(crate) done: bool,
    pub(crate) done_at: Option<String>,
    /// The repositories and tags that the running comparison has found, and those that it has done.
    pub(crate) repositories: u64,
    pub(crate) repositories_done: u64,
    pub(crate) tags: u64,
    pub(crate) tags_done: u64,
    /// The tags and bytes that it has fetched.
    pub(crate) fetched: u64,
    pub(crate) bytes: u64,
    pub(crate) current: String,
    /// Why the last comparison ended early.
    pub(crate) stopped: Option<String>,
    /// The tags and lists that could not be fetched.
    pub(crate) failures: Vec<String>,
    /// The notes of the last comparison.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
    /// Whether the last comparison ended and found nothing, and the running one has not found anything either.
    #[serde(default)]
    pub(crate) found_nothing: bool,
}

impl Takeover {
    pub(super) fn new(from: RemoteImages) -> Self {
        Self { from, done: Mutex::default() }
    }
}

impl Shared {
    /// The upstream that is taken over: its position in the mirror.
    pub(crate) fn takeover_upstream(&self) -> Option<(&Mirror, usize)> {
        self.takeover.as_ref()?;
        // It is the last one, so that what the configuration names goes first.
        let mirror = self.mirror()?;
        Some((mirror, mirror.upstreams().len().checked_sub(1)?))
    }

    /// Notes the end of a run. `before` is the report of the previous run. The takeover is done if nothing is left, or if
    /// the same tags and lists failed in both runs. A run without any tag does not end it. Returns true if this run has
    /// ended the takeover.
    pub(crate) fn note_takeover(&self, report: &SyncReport, before: Option<&SyncReport>) -> bool {
        let Some(takeover) = &self.takeover else { return false };
        let has_failed_twice = !report.found_nothing() && before.is_some_and(|before| report.fails_as(before));
        let is_done = report.stopped.is_none() && (report.failed == 0 || has_failed_twice);
        let mut done = takeover.done.lock();
        let is_new = is_done && done.is_none();
        if is_done {
            let at = done.take().map_or_else(|| self.now(), |(at, _)| at);
            *done = Some((at, report.failures.clone()));
        }
        is_new
    }

    /// Whether a takeover is done. The other registry may be stopped then.
    pub(crate) fn is_taken_over(&self) -> bool {
        self.takeover.as_ref().is_some_and(|takeover| takeover.done.lock().is_some())
    }

    /// How far the takeover is, if there is one.
    pub(crate) fn takeover_view(&self) -> Option<TakeoverView> {
        let takeover = self.takeover.as_ref()?;
        let (mirror, at) = self.takeover_upstream()?;
        let upstream = mirror.upstreams().get(at)?;
        let done = takeover.done.lock().clone();
        let (running, last) = (upstream.sync.running(), upstream.sync.last());
        let report = match (&running, &last) {
            (Some(running), _) => running.report.clone(),
            (None, Some(last)) => last.report.clone(),
            (None, None) => SyncReport::default(),
        };
        let (repositories, tags) =
            running.as_ref().map_or((report.repositories, report.tags), |running| (running.repositories, running.tags));
        let mut failures = match (&done, &last) {
            (Some((_, failures)), _) => failures.clone(),
            (None, Some(last)) => last.report.failures.clone(),
            (None, None) => Vec::new(),
        };
        failures.truncate(FAILURES_MAX);
        Some(TakeoverView {
            from: takeover.from.to_string(),
            done: done.is_some(),
            done_at: done.map(|(at, _)| at.to_string()),
            repositories,
            repositories_done: report.repositories,
            tags,
            tags_done: report.tags,
            fetched: report.fetched,
            bytes: report.bytes,
            current: running.map(|running| running.current).unwrap_or_default(),
            found_nothing: tags == 0 && last.as_ref().is_some_and(|last| last.report.found_nothing()),
            notes: last.as_ref().map(|last| last.report.notes.clone()).unwrap_or_default(),
            stopped: last.and_then(|last| last.report.stopped),
            failures,
        })
    }
}
