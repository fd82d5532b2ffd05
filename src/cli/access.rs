//! `coracle access …`: who may do what, and why.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::administer::Target;
use crate::admin::Command;
use crate::oci::RepositoryName;

/// Find out who may do what, in a running registry or in one that rests
///
/// Beside a running registry its own rules count; for one that rests name its configuration with
/// --config.
#[derive(Debug, clap::Args)]
pub(super) struct Access {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: AccessCommand,
}

#[derive(Debug, Subcommand)]
enum AccessCommand {
    /// Say what somebody may do in a repository, and which rule says so
    Explain {
        /// The user's name; "-" for somebody who has not signed in
        user: String,
        /// The repository, whether or not it exists
        repository: RepositoryName,
    },
}

impl Access {
    pub(super) fn run(self) -> ExitCode {
        let AccessCommand::Explain { user, repository } = self.command;
        let user = Some(user).filter(|user| user != "-");
        self.target.run(Ok(Command::ExplainAccess { user, repository }), print)
    }
}

fn print(value: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let words = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    let user = value["user"].as_str().unwrap_or("somebody who has not signed in");
    let actions = words(&value["actions"]);
    let actions = if actions.is_empty() { "do nothing".to_owned() } else { actions };
    println!("{user} may {actions} in {}", text(&value["repository"]));
    if let Some(note) = value["note"].as_str() {
        println!("  {note}");
    }
    if let Some(namespace) = value["namespace"].as_str().filter(|namespace| *namespace != user) {
        println!("  {user} owns {namespace}/…");
    }
    if let Some(note) = value["namespace_note"].as_str() {
        println!("  {note}");
    }
    for reason in value["because"].as_array().into_iter().flatten() {
        println!("  {}: {}", words(&reason["grants"]), text(&reason["rule"]));
    }
}
