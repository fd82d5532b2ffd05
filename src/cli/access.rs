//! `coracle access …` and `coracle token …`.

use std::process::ExitCode;

use clap::Subcommand;

use super::Error;
use super::administer::{Report, Target};
use crate::admin::{ExplainAccess, RotateSigningKey, SigningKey};
use crate::identity::accounts::Action;
use crate::registry::Explanation;

/// Explain access decisions (the registry may be running or stopped)
///
/// A running registry explains by its own rules. For a stopped one, name its configuration with --config.
#[derive(Debug, clap::Args)]
pub(super) struct Access {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: AccessCommand,
}

#[derive(Debug, Subcommand)]
enum AccessCommand {
    Explain(ExplainAccess),
}

impl Access {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let AccessCommand::Explain(request) = self.command;
        self.target.run(request)
    }
}

/// Manage the token service (the registry may be running or stopped)
#[derive(Debug, clap::Args)]
pub(super) struct Token {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    RotateKey(RotateSigningKey),
}

impl Token {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let TokenCommand::RotateKey(request) = self.command;
        self.target.run(request)
    }
}

impl Report for Explanation {
    fn print(&self) {
        let user = self.user.as_deref().unwrap_or("an anonymous caller");
        let words = |actions: &[Action]| actions.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(", ");
        let actions = if self.actions.is_empty() { "do nothing".to_owned() } else { words(&self.actions) };
        println!("{user} may {actions} in {}", self.repository);
        let owned = self.namespace.as_ref().filter(|namespace| *namespace != user);
        let owned = owned.map(|namespace| format!("{user} owns {namespace}/…"));
        for note in [&self.note, &owned, &self.namespace_note].into_iter().flatten() {
            println!("  {note}");
        }
        for reason in &self.because {
            println!("  {}: {}", words(&reason.grants), reason.rule);
        }
    }
}

impl Report for SigningKey {
    fn print(&self) {
        println!("new access tokens are signed with the key {}", self.id);
    }
}
