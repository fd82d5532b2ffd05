//! The plan of retention: which tags of a repository stay, and why. Pure: facts in, decisions out.
//!
//! A plan is made in two walks over the tags. A [`Survey`] sees each tag once and keeps, for each condition that counts,
//! the places that are taken. Then [`Plan::decide`] decides about each tag by itself. So the memory depends on the
//! counts of the rules and not on the number of tags.
//!
//! The rules are those of zot. The first entry of `keepTags` whose patterns match a tag decides about it. An entry without
//! conditions keeps the tag. Otherwise one condition has to hold, or all of them if the entry requires that.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::content::repository::browse::version;
use crate::content::repository::immutable::Immutable;
use crate::kit::clock::Timestamp;
use crate::kit::text;
use crate::oci::{Tag, TagRule};

/// A push time before this one, the beginning of 2020, comes from a clock that was not set. It counts as now, so that it
/// makes no tag look old.
const CLOCK_UNSET_BEFORE: Timestamp = Timestamp::from_micros(1_577_836_800_000_000);

/// Conditions to keep a tag or an untagged manifest. A count of 0 is no condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    pub(crate) pushed_within: Option<Duration>,
    /// Also holds for what was pushed within this time.
    pub(crate) pulled_within: Option<Duration>,
    pub(crate) most_recently_pushed: usize,
    pub(crate) most_recently_pulled: usize,
    pub(crate) highest_version: usize,
    /// Whether all conditions have to hold, instead of one.
    pub(crate) require_all: bool,
}

/// An entry of `keepTags`.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeepTags {
    /// Each matches anywhere in a tag. Without any, all tags match.
    pub(crate) patterns: Vec<TagRule>,
    pub(crate) conditions: Conditions,
}

/// One condition of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    PushedWithin(Duration),
    PulledWithin(Duration),
    MostRecentlyPushed(usize),
    MostRecentlyPulled(usize),
    HighestVersion(usize),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PushedWithin(time) => write!(f, "pushed within {}", text::duration(*time)),
            Self::PulledWithin(time) => write!(f, "pulled or pushed within {}", text::duration(*time)),
            Self::MostRecentlyPushed(1) => f.write_str("the most recently pushed"),
            Self::MostRecentlyPulled(1) => f.write_str("the most recently pulled"),
            Self::HighestVersion(1) => f.write_str("the highest version"),
            Self::MostRecentlyPushed(count) => write!(f, "among the {count} most recently pushed"),
            Self::MostRecentlyPulled(count) => write!(f, "among the {count} most recently pulled"),
            Self::HighestVersion(count) => write!(f, "among the {count} highest versions"),
        }
    }
}

impl Conditions {
    fn each(&self) -> impl Iterator<Item = Condition> {
        let count = |count: usize, condition: fn(usize) -> Condition| (count > 0).then(|| condition(count));
        [
            self.pushed_within.map(Condition::PushedWithin),
            self.pulled_within.map(Condition::PulledWithin),
            count(self.most_recently_pushed, Condition::MostRecentlyPushed),
            count(self.most_recently_pulled, Condition::MostRecentlyPulled),
            count(self.highest_version, Condition::HighestVersion),
        ]
        .into_iter()
        .flatten()
    }
}

/// The facts about a tag, or about an untagged manifest with its digest as the name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) name: &'a str,
    /// Since when the tag points at its manifest.
    pub(crate) pushed: Timestamp,
    /// The last pull of the manifest that is known.
    pub(crate) pulled: Option<Timestamp>,
}

/// The times that a plan counts from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) now: Timestamp,
    /// Pulls before this time are not known: a tag from before may have been pulled until then.
    pub(crate) pulls_known_since: Timestamp,
}

impl Times {
    fn pushed(&self, candidate: &Candidate<'_>) -> Timestamp {
        if candidate.pushed < CLOCK_UNSET_BEFORE { self.now } else { candidate.pushed }
    }

    /// The latest time at which the candidate may have been used.
    fn used(&self, candidate: &Candidate<'_>) -> Timestamp {
        let pushed = self.pushed(candidate);
        let unknown = Some(self.pulls_known_since).filter(|since| pushed < *since);
        candidate.pulled.max(unknown).map_or(pushed, |pulled| pulled.max(pushed))
    }
}

/// The value that a place is given by, the largest first. The name makes it unique.
type Rank = (u64, u64, Vec<u8>);

/// The rank of a candidate under a condition that counts. `None` if it takes no place.
fn rank(condition: Condition, candidate: &Candidate<'_>, times: &Times) -> Option<Rank> {
    let (pushed, name) = (times.pushed(candidate).micros(), candidate.name);
    match condition {
        Condition::PushedWithin(_) | Condition::PulledWithin(_) => None,
        Condition::MostRecentlyPushed(_) => Some((pushed, 0, name.into())),
        Condition::MostRecentlyPulled(_) => Some((candidate.pulled.map_or(0, Timestamp::micros), pushed, name.into())),
        Condition::HighestVersion(_) => version::is_version(name).then(|| {
            let mut key = Vec::new();
            version::write_key(name, &mut key);
            (0, 0, key)
        }),
    }
}

/// The places of one condition that counts.
#[derive(Debug)]
struct Places {
    condition: Condition,
    count: usize,
    best: BinaryHeap<Reverse<Rank>>,
}

impl Places {
    /// Whether a candidate may get a place. Most do not, and need no rank.
    fn admits(&self, candidate: &Candidate<'_>, times: &Times) -> bool {
        let first = match self.condition {
            Condition::MostRecentlyPushed(_) => times.pushed(candidate).micros(),
            Condition::MostRecentlyPulled(_) => candidate.pulled.map_or(0, Timestamp::micros),
            _ => return true,
        };
        self.best.len() < self.count || self.best.peek().is_some_and(|worst| worst.0.0 <= first)
    }

    fn offer(&mut self, rank: Rank) {
        if self.best.len() < self.count {
            self.best.push(Reverse(rank));
        } else if self.best.peek().is_some_and(|worst| worst.0 < rank) {
            self.best.pop();
            self.best.push(Reverse(rank));
        }
    }
}

/// The places of one entry.
#[derive(Debug)]
struct EntrySurvey(Vec<Places>);

impl EntrySurvey {
    fn new(conditions: &Conditions) -> Self {
        let places = conditions.each().filter_map(|condition| {
            let count = match condition {
                Condition::PushedWithin(_) | Condition::PulledWithin(_) => return None,
                Condition::MostRecentlyPushed(count)
                | Condition::MostRecentlyPulled(count)
                | Condition::HighestVersion(count) => count,
            };
            Some(Places { condition, count, best: BinaryHeap::new() })
        });
        Self(places.collect())
    }

    fn see(&mut self, candidate: &Candidate<'_>, times: &Times) {
        for places in &mut self.0 {
            if places.admits(candidate, times)
                && let Some(rank) = rank(places.condition, candidate, times)
            {
                places.offer(rank);
            }
        }
    }

    fn finish(self) -> Lowest {
        let lowest = |mut places: Places| {
            let is_full = places.best.len() == places.count;
            (places.condition, if is_full { places.best.pop().map(|lowest| lowest.0) } else { None })
        };
        self.0.into_iter().map(lowest).collect()
    }
}

/// The lowest rank that has a place, for each condition of an entry that counts. `None` if places are free.
pub(super) type Lowest = Vec<(Condition, Option<Rank>)>;

/// The first walk over the tags of a repository.
#[derive(Debug)]
pub(crate) struct Survey<'a> {
    entries: &'a [KeepTags],
    places: Vec<EntrySurvey>,
    times: Times,
}

impl<'a> Survey<'a> {
    pub(crate) fn new(entries: &'a [KeepTags], times: Times) -> Self {
        let places = entries.iter().map(|entry| EntrySurvey::new(&entry.conditions)).collect();
        Self { entries, places, times }
    }

    /// Whether the decisions depend on no other tag, so that the walk is not needed.
    pub(crate) fn is_complete(&self) -> bool {
        self.places.iter().all(|entry| entry.0.is_empty())
    }

    /// Whether the survey looks at pulls.
    pub(crate) fn needs_pulls(&self) -> bool {
        self.entries.iter().any(|entry| entry.conditions.most_recently_pulled > 0)
    }

    /// Notes a tag. Each one must be noted once.
    pub(crate) fn see(&mut self, tag: &Tag, candidate: &Candidate<'_>) {
        // The companions of an image take no place.
        if tag.companion_of().is_none()
            && let Some(entry) = entry_of(self.entries, tag)
        {
            self.places[entry].see(candidate, &self.times);
        }
    }

    pub(crate) fn finish(self) -> Plan<'a> {
        let lowest = self.places.into_iter().map(EntrySurvey::finish).collect();
        Plan { entries: self.entries, lowest, times: self.times }
    }
}

/// The first entry that matches a tag.
fn entry_of(entries: &[KeepTags], tag: &Tag) -> Option<usize> {
    let matches = |entry: &KeepTags| entry.patterns.is_empty() || entry.patterns.iter().any(|rule| rule.permits(tag));
    entries.iter().position(matches)
}

/// Decides about the tags of one repository.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    entries: &'a [KeepTags],
    lowest: Arc<[Lowest]>,
    times: Times,
}

/// Why a tag stays or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It can be neither moved nor removed.
    Immutable(Immutable),
    /// It holds the signatures or referrers of an image, and goes with the image.
    Companion,
    /// An entry without conditions matches it.
    Matches,
    /// A condition of its entry holds.
    Holds(Condition),
    /// All conditions of its entry hold.
    HoldAll,
    /// No entry matches it.
    NoEntry,
    /// No condition of its entry holds.
    HoldsNone,
    /// A condition of its entry does not hold, and all have to.
    Fails(Condition),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Immutable(by) => write!(f, "is {by}"),
            Self::Companion => f.write_str("belongs to an image and goes with it"),
            Self::Matches => f.write_str("matches the patterns"),
            Self::Holds(condition) => condition.fmt(f),
            Self::HoldAll => f.write_str("meets all conditions"),
            Self::NoEntry => f.write_str("matches no entry of keepTags"),
            Self::HoldsNone => f.write_str("meets no condition"),
            Self::Fails(condition) => write!(f, "is not {condition}"),
        }
    }
}

/// The decision about a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) keeps: bool,
    pub(crate) reason: Reason,
    /// The entry of `keepTags` that decided.
    pub(crate) entry: Option<usize>,
    /// Until when the tag stays at least, if time decides that.
    pub(crate) until: Option<Timestamp>,
}

impl<'a> Plan<'a> {
    /// A plan from the survey of an earlier one.
    pub(super) const fn of_survey(entries: &'a [KeepTags], lowest: Arc<[Lowest]>, times: Times) -> Self {
        Self { entries, lowest, times }
    }

    /// The result of the survey.
    pub(super) fn lowest(&self) -> Arc<[Lowest]> {
        Arc::clone(&self.lowest)
    }

    /// Decides about a tag.
    pub(crate) fn decide(&self, tag: &Tag, candidate: &Candidate<'_>) -> Decision {
        if tag.companion_of().is_some() {
            return Decision { keeps: true, reason: Reason::Companion, entry: None, until: None };
        }
        match entry_of(self.entries, tag) {
            None => Decision { keeps: false, reason: Reason::NoEntry, entry: None, until: None },
            Some(entry) => {
                let (conditions, lowest) = (&self.entries[entry].conditions, &self.lowest[entry]);
                Decision { entry: Some(entry), ..decide(conditions, lowest, candidate, &self.times) }
            }
        }
    }
}

fn decide(conditions: &Conditions, lowest: &Lowest, candidate: &Candidate<'_>, times: &Times) -> Decision {
    let holds = |condition: Condition| match condition {
        Condition::PushedWithin(time) => ends_after(times.pushed(candidate).after(time), times),
        Condition::PulledWithin(time) => ends_after(times.used(candidate).after(time), times),
        _ => {
            let has_place = |lowest: &Option<Rank>, rank: &Rank| lowest.as_ref().is_none_or(|lowest| rank >= lowest);
            let rank = rank(condition, candidate, times);
            let found = lowest.iter().find(|(known, _)| *known == condition);
            let has_place = found.zip(rank).is_some_and(|((_, lowest), rank)| has_place(lowest, &rank));
            has_place.then_some(None)
        }
    };
    let (mut first, mut failed, mut until, mut is_timed) = (None, None, None, true);
    for condition in conditions.each() {
        match holds(condition) {
            Some(end) => {
                first = first.or(Some(condition));
                is_timed &= end.is_some();
                until = if conditions.require_all { earliest(until, end) } else { until.max(end) };
            }
            None => failed = failed.or(Some(condition)),
        }
    }
    let until = until.filter(|_| is_timed);
    let kept = |reason| Decision { keeps: true, reason, entry: None, until };
    let removed = |reason| Decision { keeps: false, reason, entry: None, until: None };
    match (first, failed) {
        (None, None) => kept(Reason::Matches),
        (_, Some(failed)) if conditions.require_all => removed(Reason::Fails(failed)),
        (Some(_), None) if conditions.require_all => kept(Reason::HoldAll),
        (Some(first), _) => kept(Reason::Holds(first)),
        (None, Some(_)) => removed(Reason::HoldsNone),
    }
}

/// `Some(Some(end))` if a time that keeps a tag has not ended.
#[expect(clippy::option_option, reason = "the outer one says whether a condition holds, the inner one until when")]
fn ends_after(end: Timestamp, times: &Times) -> Option<Option<Timestamp>> {
    (end > times.now).then_some(Some(end))
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The plan for the untagged manifests of one repository, for `keepUntagged`.
#[derive(Debug)]
pub(crate) struct UntaggedPlan {
    conditions: Conditions,
    lowest: Lowest,
    times: Times,
}

impl UntaggedPlan {
    /// Makes the plan of all untagged manifests, which `each` visits.
    pub(crate) fn new<E>(
        conditions: &Conditions,
        times: Times,
        each: impl FnOnce(&mut dyn FnMut(&Candidate<'_>)) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut survey = EntrySurvey::new(conditions);
        if !survey.0.is_empty() {
            each(&mut |candidate| survey.see(candidate, &times))?;
        }
        Ok(Self { conditions: conditions.clone(), lowest: survey.finish(), times })
    }

    pub(crate) fn keeps(&self, candidate: &Candidate<'_>) -> bool {
        decide(&self.conditions, &self.lowest, candidate, &self.times).keeps
    }
}
