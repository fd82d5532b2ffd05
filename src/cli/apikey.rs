//! `coracle apikey …`: the credentials of pipelines.

use std::process::ExitCode;

use clap::Subcommand;

use super::Error;
use super::administer::{Report, Target};
use crate::admin::{CreateKey, KeyList, ListKeys, NewApiKey, RevokeKey, RevokedKey};
use crate::kit::text::{minute, table};

/// Manage API keys (the registry may be running or stopped)
#[derive(Debug, clap::Args)]
pub(super) struct ApiKey {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    Create(CreateKey),
    List(ListKeys),
    Revoke(RevokeKey),
}

impl ApiKey {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            KeyCommand::Create(request) => self.target.run(request),
            KeyCommand::List(request) => self.target.run(request),
            KeyCommand::Revoke(request) => self.target.run(request),
        }
    }
}

impl Report for NewApiKey {
    fn print(&self) {
        println!("{}", self.key);
        if let Some(warning) = &self.warning {
            eprintln!("coracle: warning: {warning}");
        }
    }
}

impl Report for KeyList {
    fn print(&self) {
        let rows = self.keys.iter().map(|key| {
            let expires = key.expires.map_or_else(|| "never".to_owned(), minute);
            [
                key.id.to_string(),
                key.owner.clone(),
                if key.label.is_empty() { "-".to_owned() } else { key.label.clone() },
                key.scopes.as_ref().map_or_else(|| "all".to_owned(), |scopes| scopes.join(" ")),
                minute(key.created),
                if key.expired { format!("expired {expires}") } else { expires },
                key.last_used.map_or_else(|| "never".to_owned(), minute),
            ]
        });
        print!("{}", table(["ID", "OWNER", "LABEL", "SCOPES", "CREATED", "EXPIRES", "LAST USED"], rows));
    }
}

impl Report for RevokedKey {
    fn print(&self) {
        println!("revoked {}", self.id);
    }
}
