//! `coracle token …`: what tokens are signed with.

use std::process::ExitCode;

use clap::Subcommand;

use super::administer::Target;
use crate::admin::Command;

/// Manage the token service, of a running registry or of one that rests
#[derive(Debug, clap::Args)]
pub(super) struct Token {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Sign tokens with a new key from now on; those that clients have stay good until they expire
    RotateKey,
}

impl Token {
    pub(super) fn run(self) -> ExitCode {
        let TokenCommand::RotateKey = self.command;
        self.target.run(Ok(Command::RotateSigningKey), |value| {
            println!("tokens are signed with the key {} now", value["id"].as_str().unwrap_or_default());
        })
    }
}
