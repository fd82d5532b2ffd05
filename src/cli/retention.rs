//! `coracle retention …`: the plan of the next run, and a run.

use std::process::ExitCode;

use clap::Subcommand;

use super::Error;
use super::administer::{Report, Target, running};
use crate::admin::{PlanRetention, RetentionPlan, RetentionRun, RunRetention, TagDecision, shown_rfc3339};
use crate::kit::text::{counted, table};

/// Show and apply the retention of tags
///
/// storage.retention.policies says which tags stay. A running registry follows its own policies, and not those of a file
/// that --config names.
#[derive(Debug, clap::Args)]
pub(super) struct Retention {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: RetentionCommand,
}

#[derive(Debug, Subcommand)]
enum RetentionCommand {
    Plan(PlanRetention),
    Run(RunRetention),
}

impl Retention {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            RetentionCommand::Plan(request) => {
                let (_, root) = self.target.locate()?;
                if self.target.has_config() && running(&root)?.is_some() {
                    eprintln!("{RUNNING}");
                }
                self.target.run(request)
            }
            RetentionCommand::Run(request) => self.target.run(request),
        }
    }
}

const NO_RULES: &str = "no policy of storage.retention.policies with keepTags matches: all tags stay. If the registry is \
                        stopped, --config names its configuration";
const RUNNING: &str = "The plan follows the policies of the running registry. To preview others, write them to its \
                       configuration with storage.retention.dryRun = true, and restart it. If the registry is stopped, \
                       the plan follows the file that --config names.";
const DRY_RUN: &str = "storage.retention.dryRun is on: runs remove nothing";

impl Report for RetentionPlan {
    fn print(&self) {
        if self.repositories == 0 {
            println!("{NO_RULES}");
            return;
        }
        let row = |action: &str, decision: &TagDecision| {
            let TagDecision { repository, tag, rule, reason, until, .. } = decision;
            let until = until.as_ref().map(|until| format!(", at least until {}", shown_rfc3339(until)));
            let reason = format!("{reason}{}", until.unwrap_or_default());
            [action.to_owned(), format!("{repository}:{tag}"), reason, rule.clone()]
        };
        let kept = self.keep.iter().map(|decision| row("keep", decision));
        let rows = kept.chain(self.remove.iter().map(|decision| row("remove", decision)));
        print!("{}", table(["ACTION", "TAG", "REASON", "RULE"], rows));
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
