//! `coracle retention …`: the plan of the next run, and a run.

use std::process::ExitCode;

use super::administer::{Report, operations};
use crate::admin::{PlanRetention, RetentionPlan, RetentionRun, RunRetention, TagDecision};
use crate::kit::text::counted;

operations! {
    /// Show and apply the retention of tags
    ///
    /// storage.retention.policies says which tags stay.
    Retention: RetentionCommand {
        Plan(PlanRetention),
        Run(RunRetention),
    }
}

const NO_RULES: &str = "no policy of storage.retention.policies with keepTags matches: all tags stay. If the registry is \
                        stopped, --config names its configuration";
const DRY_RUN: &str = "storage.retention.dryRun is on: runs remove nothing";

impl Report for RetentionPlan {
    fn print(&self) {
        if self.repositories == 0 {
            println!("{NO_RULES}");
            return;
        }
        let line = |verb: &str, decision: &TagDecision| {
            let TagDecision { repository, tag, rule, reason, until, .. } = decision;
            let until = until.as_ref().map(|until| format!(", at least until {until}")).unwrap_or_default();
            println!("{verb}  {repository}:{tag}  {reason}{until}  ({rule})");
        };
        self.keep.iter().for_each(|decision| line("keep  ", decision));
        self.remove.iter().for_each(|decision| line("remove", decision));
        let counts = |count| counted(count, "tag", "tags");
        println!("{} would be removed, {} kept", counts(self.removed), counts(self.kept));
        if self.more {
            eprintln!("The list is incomplete: there are more tags.");
        }
        if self.dry_run {
            eprintln!("{DRY_RUN}");
        }
    }
}

impl Report for RetentionRun {
    fn print(&self) {
        let counts = |count| counted(count, "tag", "tags");
        match (self.retained.repositories, self.dry_run) {
            (0, _) => println!("{NO_RULES}"),
            (_, true) => println!("{DRY_RUN}"),
            _ => println!("{} removed, {} kept", counts(self.retained.removed), counts(self.retained.kept)),
        }
        if self.retained.is_part {
            eprintln!("The run is incomplete: it was stopped.");
        }
    }

    fn code(&self) -> ExitCode {
        if self.retained.is_part { ExitCode::from(1) } else { ExitCode::SUCCESS }
    }
}
