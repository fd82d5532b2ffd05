//! Retention: the operator's rules for tags and untagged manifests, and the run that removes tags.
//!
//! [`plan`] decides about each tag. The run removes exactly the tags that the plan would remove, as a client would: they
//! can be restored while the history is kept, and garbage collection finds their manifests. So the manifests of an index,
//! referrers and signatures of what stays are never removed. A tag that was moved or pulled after the plan stays until
//! the next run. Both walk in small steps, so that memory stays bounded and clients go first.
//!
//! A tag counts from when it points at its manifest. An import writes its own time, so nothing it imports looks old. After
//! an upgrade, a restored backup or a recovery earlier pulls are not known: tags from before count as pulled until then.

mod plan;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use plan::{Candidate, Lowest, Plan, Reason, Survey, Times, UntaggedPlan};
pub(crate) use plan::{Conditions, Decision, KeepTags};

use super::{Error, Immutable, Pause, Repository, Stores};
use crate::content::rows::{AuditEvent, Author, Rows, TagRow, Unreferenced, UnreferencedRow};
use crate::kit::bounded_map::BoundedMap;
use crate::kit::clock::{SteadyTime, Timestamp};
use crate::oci::{Digest, RepositoryName, RepositoryPattern, Tag};

/// Tags that one step reads or removes, so that no other writer waits long.
const STEP: usize = 500;
/// The page of a repository with more tags uses a survey again for a while.
const MANY_TAGS: u64 = 5_000;
const SURVEY_KEPT: Duration = Duration::from_mins(1);
/// The number of surveys that are kept.
const SURVEYS_MAX: usize = 256;

/// The surveys of repositories with many tags, for their pages.
pub(super) type Surveys = Mutex<BoundedMap<RepositoryName, (SteadyTime, Arc<[Lowest]>), SURVEYS_MAX>>;

/// The unreferenced manifests that a repository keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retain {
    /// Whether manifests without a tag stay.
    pub(crate) untagged: bool,
    /// Whether referrers stay whose subject was deleted.
    pub(crate) referrers: bool,
}

/// The rules for some repositories.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetentionPolicy {
    pub(crate) repositories: Vec<RepositoryPattern>,
    pub(crate) retain: Retain,
    /// Without any, all tags stay.
    pub(crate) keep_tags: Vec<KeepTags>,
    /// The untagged manifests that stay, if not all do.
    pub(crate) keep_untagged: Option<Conditions>,
}

/// The operator's rules. The first policy that matches a repository applies. Without one, all tags stay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retention {
    policies: Arc<[RetentionPolicy]>,
    /// Whether runs remove nothing.
    is_dry_run: bool,
}

impl Retention {
    pub(crate) fn new(policies: Vec<RetentionPolicy>, is_dry_run: bool) -> Self {
        Self { policies: policies.into(), is_dry_run }
    }

    fn policy(&self, name: &RepositoryName) -> Option<(usize, &RetentionPolicy)> {
        let matches = |policy: &RetentionPolicy| policy.repositories.iter().any(|pattern| pattern.matches(name));
        self.policies.iter().enumerate().find(|(_, policy)| matches(policy))
    }

    /// The policy with rules for the tags of a repository.
    fn tag_policy(&self, name: &RepositoryName) -> Option<(usize, &RetentionPolicy)> {
        self.policy(name).filter(|(_, policy)| !policy.keep_tags.is_empty())
    }

    /// The unreferenced manifests that garbage collection leaves in a repository.
    pub(super) fn retain(&self, name: &RepositoryName) -> Retain {
        if self.is_dry_run {
            return Retain { untagged: true, referrers: true };
        }
        self.policy(name).map_or_else(Retain::default, |(_, policy)| policy.retain)
    }
}

/// A tag with the decision of the next run.
#[derive(Clone, Debug)]
pub(crate) struct PlannedTag {
    pub(crate) tag: Tag,
    pub(crate) digest: Digest,
    pub(crate) pushed: Timestamp,
    pub(crate) pulled: Option<Timestamp>,
    pub(crate) decision: Decision,
    /// The number of the policy that matches the repository.
    policy: usize,
}

impl PlannedTag {
    /// The key of the rule that decided.
    pub(crate) fn rule(&self) -> String {
        let policy = format!("storage.retention.policies[{}]", self.policy);
        self.decision.entry.map_or_else(|| policy.clone(), |entry| format!("{policy}.keepTags[{entry}]"))
    }
}

/// The result of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retained {
    /// Repositories with rules for tags.
    pub(crate) repositories: u64,
    pub(crate) kept: u64,
    pub(crate) removed: u64,
    /// Whether the run was cancelled.
    pub(crate) is_part: bool,
}

/// The decisions about the tags of a repository before a change.
#[derive(Debug)]
pub(crate) struct PlanBefore<'a>(Option<Plan<'a>>);

/// A tag as it was when the plan was made.
#[derive(Clone, Debug)]
struct Fact {
    tag: Tag,
    row: TagRow,
    pulled: Option<Timestamp>,
}

impl Fact {
    fn candidate(&self) -> Candidate<'_> {
        Candidate { name: self.tag.as_str(), pushed: self.row.moved, pulled: self.pulled }
    }

    /// The decision about the tag. `immutable` says whether it can be removed, and is asked only if it would be.
    fn planned<E>(
        self,
        policy: usize,
        plan: &Plan<'_>,
        immutable: impl FnOnce(&Tag) -> Result<Option<Immutable>, E>,
    ) -> Result<PlannedTag, E> {
        let mut decision = plan.decide(&self.tag, &self.candidate());
        let Self { tag, row, pulled } = self;
        if !decision.keeps
            && let Some(by) = immutable(&tag)?
        {
            decision = Decision { keeps: true, reason: Reason::Immutable(by), ..decision };
        }
        Ok(PlannedTag { tag, digest: row.digest, pushed: row.moved, pulled, decision, policy })
    }
}

impl Stores {
    /// Whether any policy has rules for tags.
    pub(crate) fn has_tag_rules(&self) -> bool {
        self.rules.retention.policies.iter().any(|policy| !policy.keep_tags.is_empty())
    }

    /// Whether runs remove nothing (`storage.retention.dryRun`).
    pub(crate) fn is_retention_dry(&self) -> bool {
        self.rules.retention.is_dry_run
    }

    /// Visits the repositories with rules for tags. `visit` says whether to go on.
    pub(crate) fn each_with_tag_rules(
        self: &Arc<Self>,
        mut visit: impl FnMut(&Repository) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let mut after = String::new();
        while self.has_tag_rules()
            && let Some(names) = self.next_names(&mut after)?
        {
            for name in names {
                if self.rules.retention.tag_policy(&name).is_some() && visit(&self.repository(&name))?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Removes the tags of all repositories that the rules do not keep.
    pub(crate) fn retain_tags(self: &Arc<Self>, author: &Arc<dyn Author>, pause: Pause<'_>) -> Result<Retained, Error> {
        let mut all = Retained::default();
        self.each_with_tag_rules(|repository| {
            let one = repository.clone().by(Arc::clone(author)).retain_tags(pause)?;
            all.repositories += one.repositories;
            all.kept += one.kept;
            all.removed += one.removed;
            all.is_part = one.is_part;
            Ok(if one.is_part { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(all)
    }
}

/// The times that a plan counts from now.
fn times(stores: &Stores) -> Result<Times, Error> {
    let pulls_known_since = stores.database.read(Rows::pulls_known_since)?;
    Ok(Times { now: stores.clock.now(), pulls_known_since })
}

impl Repository {
    /// Whether a policy has rules for the tags of this repository.
    pub(crate) fn has_tag_rules(&self) -> bool {
        self.stores.rules.retention.tag_policy(&self.name).is_some()
    }

    /// Visits every tag with the decision of the next run. Returns whether it was cancelled. Without rules for the tags of
    /// this repository it visits none.
    pub(crate) fn plan_retention(
        &self,
        pause: Pause<'_>,
        mut visit: impl FnMut(PlannedTag),
    ) -> Result<ControlFlow<()>, Error> {
        let Some((policy, plan)) = self.retention_plan(pause)? else { return Ok(ControlFlow::Continue(())) };
        self.each_fact(true, pause, |facts| {
            self.planned(facts, policy, &plan)?.into_iter().for_each(&mut visit);
            Ok(())
        })
    }

    /// The decisions of the next run about some tags, for pages. Tags that do not exist are left out. In a repository with
    /// many tags, the places of conditions that count may be those of a minute ago.
    pub(crate) fn planned_tags(&self, tags: &[Tag]) -> Result<Vec<PlannedTag>, Error> {
        let Some((policy, plan)) = self.recent_plan()? else { return Ok(Vec::new()) };
        self.stores.database.read(|tx| {
            let mut planned = Vec::new();
            for tag in tags {
                let Some(row) = tx.tag(&self.name, tag)? else { continue };
                let pulled = tx.pulls(&self.name, row.digest)?.last;
                let fact = Fact { tag: tag.clone(), row, pulled };
                planned.push(fact.planned(policy, &plan, |tag| self.immutable(tx, tag))?);
            }
            Ok(planned)
        })
    }

    /// The plan before a change, for [`Repository::removed_since`].
    pub(crate) fn plan_before(&self, pause: Pause<'_>) -> Result<PlanBefore<'_>, Error> {
        let plan = if self.stores.is_retention_dry() { None } else { self.retention_plan(pause)? };
        Ok(PlanBefore(plan.map(|(_, plan)| plan)))
    }

    /// At most `limit` tags that the next run removes, and would not have removed before a change: a tag with a newer push
    /// or a higher version takes their place.
    pub(crate) fn removed_since(
        &self,
        before: &PlanBefore<'_>,
        limit: usize,
        pause: Pause<'_>,
    ) -> Result<Vec<PlannedTag>, Error> {
        let mut removed = Vec::new();
        let Some(before) = &before.0 else { return Ok(removed) };
        let Some((policy, plan)) = self.retention_plan(pause)? else { return Ok(removed) };
        let _ = self.each_fact(true, pause, |mut facts| {
            facts.retain(|fact| before.decide(&fact.tag, &fact.candidate()).keeps);
            let planned = self.planned(facts, policy, &plan)?.into_iter().filter(|planned| !planned.decision.keeps);
            removed.extend(planned.take(limit - removed.len()));
            Ok(())
        })?;
        Ok(removed)
    }

    /// As [`Repository::retention_plan`], perhaps with a survey that was made a short time ago.
    fn recent_plan(&self) -> Result<Option<(usize, Plan<'_>)>, Error> {
        let Some((number, policy)) = self.stores.rules.retention.tag_policy(&self.name) else { return Ok(None) };
        let (surveys, now) = (&self.stores.surveys, self.stores.ages.steady());
        let totals = self.stores.database.read(|tx| tx.totals(&self.name))?;
        let has_many = totals.is_some_and(|totals| totals.tags > MANY_TAGS);
        let known = surveys.lock().get(&self.name).filter(|(at, _)| has_many && now.since(*at) < SURVEY_KEPT).cloned();
        if let Some((_, lowest)) = known {
            return Ok(Some((number, Plan::of_survey(&policy.keep_tags, lowest, times(&self.stores)?))));
        }
        let plan = self.retention_plan(&|_| ControlFlow::Continue(()))?;
        if let Some((_, plan)) = plan.as_ref().filter(|_| has_many) {
            surveys.lock().insert(self.name.clone(), (now, plan.lowest()), |(at, _)| now.since(*at) < SURVEY_KEPT);
        }
        Ok(plan)
    }

    fn immutable(&self, tx: &Rows, tag: &Tag) -> Result<Option<Immutable>, Error> {
        Ok(self.stores.rules.immutable.reason(tx, &self.name, tag)?)
    }

    fn planned(&self, facts: Vec<Fact>, policy: usize, plan: &Plan<'_>) -> Result<Vec<PlannedTag>, Error> {
        let immutable = |tx: &Rows, fact: Fact| fact.planned(policy, plan, |tag| self.immutable(tx, tag));
        self.stores.database.read(|tx| facts.into_iter().map(|fact| immutable(tx, fact)).collect())
    }

    /// Removes the tags that the rules do not keep.
    pub(crate) fn retain_tags(&self, pause: Pause<'_>) -> Result<Retained, Error> {
        let _alone = self.stores.retaining.lock();
        self.stores.write_pulls()?;
        let Some((policy, plan)) = self.retention_plan(pause)? else { return Ok(Retained::default()) };
        let mut retained = Retained { repositories: 1, ..Retained::default() };
        let is_dry = self.stores.is_retention_dry();
        let walked = self.each_fact(true, pause, |facts| {
            let count = facts.len() as u64;
            let mut going = self.planned(facts, policy, &plan)?;
            going.retain(|planned| !planned.decision.keeps);
            for PlannedTag { tag, decision, .. } in going.iter().filter(|_| is_dry) {
                tracing::info!(repository = %self.name, %tag, reason = %decision.reason, "retention would remove a tag");
            }
            let removed = if going.is_empty() || is_dry { 0 } else { self.remove_planned(going)? };
            retained.removed += removed;
            retained.kept += count - removed;
            Ok(())
        })?;
        retained.is_part = walked.is_break();
        Ok(retained)
    }

    /// The plan for this repository, and the number of its policy. `None` if it has no rules for tags, or `pause` cancelled
    /// the plan.
    fn retention_plan(&self, pause: Pause<'_>) -> Result<Option<(usize, Plan<'_>)>, Error> {
        let Some((number, policy)) = self.stores.rules.retention.tag_policy(&self.name) else { return Ok(None) };
        let mut survey = Survey::new(&policy.keep_tags, times(&self.stores)?);
        if !survey.is_complete() {
            let needs_pulls = survey.needs_pulls();
            let walked = self.each_fact(needs_pulls, pause, |facts| {
                for fact in facts {
                    survey.see(&fact.tag, &fact.candidate());
                }
                Ok(())
            })?;
            if walked.is_break() {
                return Ok(None);
            }
        }
        Ok(Some((number, survey.finish())))
    }

    /// Reads all tags in steps, with their pulls if they are needed. Returns whether `pause` cancelled it.
    fn each_fact(
        &self,
        with_pulls: bool,
        pause: Pause<'_>,
        mut visit: impl FnMut(Vec<Fact>) -> Result<(), Error>,
    ) -> Result<ControlFlow<()>, Error> {
        let mut after = String::new();
        loop {
            let began = Instant::now();
            let facts = self.stores.database.read(|tx| {
                let mut facts = Vec::new();
                for (tag, row) in tx.tag_rows(&self.name, &after, STEP)? {
                    let pulled = if with_pulls { tx.pulls(&self.name, row.digest)?.last } else { None };
                    facts.push(Fact { tag, row, pulled });
                }
                Ok::<_, Error>(facts)
            })?;
            let (count, Some(last)) = (facts.len(), facts.last()) else { return Ok(ControlFlow::Continue(())) };
            after = last.tag.to_string();
            visit(facts)?;
            if count < STEP {
                return Ok(ControlFlow::Continue(()));
            }
            if pause(began.elapsed()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    /// Removes tags, unless they were moved, pulled or locked since the plan. Returns their number.
    fn remove_planned(&self, going: Vec<PlannedTag>) -> Result<u64, Error> {
        let (name, now, kept) = (self.name.clone(), self.stores.ages.now(), self.stores.keeps_history());
        let immutable = self.stores.rules.immutable.clone();
        self.write(move |tx| {
            let mut events = Vec::new();
            for planned in going {
                let reason = format!("{}: {}", planned.rule(), planned.decision.reason);
                let PlannedTag { tag, digest, pushed, pulled, .. } = planned;
                let is_same = tx.tag(&name, &tag)?.is_some_and(|row| (row.digest, row.moved) == (digest, pushed));
                let is_unused = tx.pulls(&name, digest)?.last == pulled;
                if is_same && is_unused && immutable.reason(tx, &name, &tag)?.is_none() {
                    tx.remove_tag(&name, &tag, now, kept)?;
                    events.push(AuditEvent::new("delete_tag").with("tag", &tag).with("retention", &reason));
                }
            }
            Ok((events.len() as u64, events))
        })
    }
}

/// The plans for the untagged manifests of repositories, each made once in a garbage collection.
#[derive(Debug, Default)]
pub(super) struct UntaggedPlans(HashMap<RepositoryName, UntaggedPlan>);

impl UntaggedPlans {
    /// Whether the rules keep an untagged manifest, for which `row` is.
    pub(super) fn keeps(&mut self, stores: &Stores, tx: &Rows, row: &UnreferencedRow) -> Result<bool, Error> {
        let UnreferencedRow { repository: name, digest, kind, .. } = row;
        if *kind != Unreferenced::Manifest {
            return Ok(false);
        }
        let Some(conditions) =
            stores.rules.retention.policy(name).and_then(|(_, policy)| policy.keep_untagged.as_ref())
        else {
            return Ok(false);
        };
        if !self.0.contains_key(name) {
            let times = Times { now: stores.clock.now(), pulls_known_since: tx.pulls_known_since()? };
            let plan = UntaggedPlan::new(conditions, times, |see| {
                tx.each_unreferenced_manifest(name, |digest| with_untagged(tx, name, digest, see))
            })?;
            self.0.insert(name.clone(), plan);
        }
        let mut keeps = false;
        if let Some(plan) = self.0.get(name) {
            with_untagged(tx, name, *digest, &mut |candidate| keeps = plan.keeps(candidate))?;
        }
        Ok(keeps)
    }
}

/// Passes the facts of an untagged manifest on, unless it is deleted.
fn with_untagged(
    tx: &Rows,
    name: &RepositoryName,
    digest: Digest,
    see: &mut dyn FnMut(&Candidate<'_>),
) -> Result<(), crate::content::rows::Error> {
    if let Some(row) = tx.manifest(name, digest)? {
        let pulled = tx.pulls(name, digest)?.last;
        see(&Candidate { name: &digest.to_string(), pushed: row.created, pulled });
    }
    Ok(())
}

/// Decides about the tags of a repository from facts alone: tag, push and last pull, in hours before `now`.
#[cfg(test)]
pub(crate) fn decisions(
    retention: &Retention,
    repository: &str,
    now: Timestamp,
    facts: &[(&str, u64, Option<u64>)],
) -> Vec<PlannedTag> {
    let name = repository.parse().expect("the name of a repository");
    let Some((number, policy)) = retention.tag_policy(&name) else { return Vec::new() };
    let ago = |hours| now.before(Duration::from_hours(hours));
    let digest = Digest::of(crate::oci::Algorithm::Sha256, b"");
    let facts: Vec<Fact> = facts
        .iter()
        .map(|(tag, pushed, pulled)| Fact {
            tag: tag.parse().expect("a tag"),
            row: TagRow { digest, moved: ago(*pushed), is_mirrored: false },
            pulled: pulled.map(ago),
        })
        .collect();
    let times = Times { now, pulls_known_since: Timestamp::from_micros(0) };
    let mut survey = Survey::new(&policy.keep_tags, times);
    for fact in &facts {
        survey.see(&fact.tag, &fact.candidate());
    }
    let plan = survey.finish();
    let planned = |fact: Fact| fact.planned(number, &plan, |_| Ok::<_, std::convert::Infallible>(None));
    facts.into_iter().map(|fact| planned(fact).unwrap_or_else(|never| match never {})).collect()
}

#[cfg(test)]
mod tests;
