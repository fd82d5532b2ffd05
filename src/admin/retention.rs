//! Operations on retention: the plan of the next run, and a run.

use serde::{Deserialize, Serialize};

use super::{Call, Failure, Operation};
use crate::content::repository::{Error as ContentError, PlannedTag, Repository, Retained};
use crate::identity::accounts::Origin;
use crate::oci::RepositoryName;

/// The largest number of tags in each list.
const LISTED_MAX: usize = 10_000;

/// Show the tags that the next retention run removes, and why each tag stays or goes
///
/// A running registry removes these tags before its next garbage collection (storage.gcInterval), and `coracle retention
/// run` removes them now. Each removed tag can be restored for storage.tagHistory. Pushes and pulls until then change the
/// plan.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct PlanRetention {
    /// Only this repository [default: all repositories]
    #[arg(value_name = "REPO")]
    repository: Option<RepositoryName>,
}

/// The plan of the next run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct RetentionPlan {
    /// Whether storage.retention.dryRun keeps runs from removing anything.
    pub(crate) dry_run: bool,
    /// Repositories with rules for tags.
    pub(crate) repositories: u64,
    pub(crate) kept: u64,
    pub(crate) removed: u64,
    pub(crate) keep: Vec<TagDecision>,
    pub(crate) remove: Vec<TagDecision>,
    /// Whether there are more tags than the lists have.
    pub(crate) more: bool,
}

/// The decision about a tag.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TagDecision {
    pub(crate) repository: String,
    pub(crate) tag: String,
    digest: String,
    /// Since when the tag points at the manifest.
    pushed: String,
    pulled: Option<String>,
    /// The key of the rule that decided.
    pub(crate) rule: String,
    pub(crate) reason: String,
    /// Until when the tag stays at least, if time decides that.
    pub(crate) until: Option<String>,
}

impl RetentionPlan {
    fn add(&mut self, repository: &RepositoryName, planned: &PlannedTag) {
        let keeps = planned.decision.keeps;
        let (count, list) =
            if keeps { (&mut self.kept, &mut self.keep) } else { (&mut self.removed, &mut self.remove) };
        *count += 1;
        if list.len() == LISTED_MAX {
            self.more = true;
            return;
        }
        list.push(TagDecision {
            repository: repository.to_string(),
            tag: planned.tag.to_string(),
            digest: planned.digest.to_string(),
            pushed: planned.pushed.to_string(),
            pulled: planned.pulled.map(|pulled| pulled.to_string()),
            rule: planned.rule(),
            reason: planned.decision.reason.to_string(),
            until: planned.decision.until.map(|until| until.to_string()),
        });
    }
}

impl Operation for PlanRetention {
    type Answer = RetentionPlan;

    fn perform(self, call: &Call<'_>) -> Result<RetentionPlan, Failure> {
        let stores = call.registry.stores();
        stores.write_pulls()?;
        let mut plan = RetentionPlan { dry_run: stores.is_retention_dry(), ..RetentionPlan::default() };
        let mut add = |repository: &Repository| {
            plan.repositories += 1;
            repository.plan_retention(call.pause, |planned| plan.add(repository.name(), &planned))
        };
        match self.repository {
            Some(name) => {
                let repository = known(call, name)?;
                if repository.has_tag_rules() {
                    let _ = add(&repository)?;
                }
            }
            None => stores.each_with_tag_rules(add)?,
        }
        Ok(plan)
    }
}

/// Remove the tags that the retention rules do not keep
///
/// Removes exactly the tags that `coracle retention plan` shows, as the scheduled run does. Each can be restored for
/// storage.tagHistory. Removes nothing if storage.retention.dryRun is on.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct RunRetention {
    /// Only this repository [default: all repositories]
    #[arg(value_name = "REPO")]
    repository: Option<RepositoryName>,
}

/// The result of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RetentionRun {
    pub(crate) dry_run: bool,
    #[serde(flatten)]
    pub(crate) retained: Retained,
}

impl Operation for RunRetention {
    type Answer = RetentionRun;

    fn perform(self, call: &Call<'_>) -> Result<RetentionRun, Failure> {
        let stores = call.registry.stores();
        let author = call.accounts().author(Origin::local());
        let retained = match self.repository {
            Some(name) => known(call, name)?.by(author).retain_tags(call.pause)?,
            None => stores.retain_tags(&author, call.pause)?,
        };
        Ok(RetentionRun { dry_run: stores.is_retention_dry(), retained })
    }
}

fn known(call: &Call<'_>, name: RepositoryName) -> Result<Repository, Failure> {
    let repository = call.registry.repository(&name);
    if repository.is_known()? { Ok(repository) } else { Err(ContentError::RepositoryUnknown { name }.into()) }
}
