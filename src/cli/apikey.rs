//! `coracle apikey …`: what pipelines sign in with.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;
use uuid::Uuid;

use super::administer::Target;
use crate::admin::Command;
use crate::identity::accounts::KeyScope;

/// Manage API keys, of a running registry or of one that rests
#[derive(Debug, clap::Args)]
pub(super) struct ApiKey {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key, and print it; it is not shown again
    Create {
        /// Whose key it is
        #[arg(long)]
        user: String,
        /// What it is for
        #[arg(long, default_value = "")]
        label: String,
        /// What it is limited to, such as team/** or team/app:pull; without any, the rights of its owner
        #[arg(long = "scope", value_parser = scope)]
        scopes: Vec<String>,
        /// How long it is good for, such as 90d, 12h or 30m; without, for ever
        #[arg(long, value_parser = lifetime)]
        expires: Option<u64>,
    },
    /// List keys, of one user or of all
    List {
        /// Whose keys
        #[arg(long)]
        user: Option<String>,
    },
    /// Revoke a key; the next request with it is refused
    Revoke {
        /// The key's id, as the list shows it
        id: Uuid,
    },
}

impl ApiKey {
    pub(super) fn run(self) -> ExitCode {
        let Self { target, command } = self;
        let command = match command {
            KeyCommand::Create { user, label, scopes, expires } => {
                Command::CreateKey { user, label, scopes, expires_seconds: expires }
            }
            KeyCommand::List { user } => Command::ListKeys { user },
            KeyCommand::Revoke { id } => Command::RevokeKey { id },
        };
        target.run(Ok(command), print)
    }
}

fn print(value: &Value) {
    if let Some(keys) = value["keys"].as_array() {
        for key in keys {
            let scopes = key["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let scopes = scopes.collect::<Vec<_>>().join(" ");
            let state = if key["expired"] == true { "expired" } else { "" };
            let text = |field: &str| key[field].as_str().unwrap_or_default();
            println!("{}  {:<20} {:<30} {scopes} {state}", text("id"), text("owner"), text("label"));
        }
        return;
    }
    match value["key"].as_str() {
        Some(key) => println!("{key}"),
        None => println!("done"),
    }
    if let Some(warning) = value["warning"].as_str() {
        eprintln!("coracle: warning: {warning}");
    }
}

/// Checks a scope before anybody is asked for a password.
pub(super) fn scope(text: &str) -> Result<String, String> {
    text.parse::<KeyScope>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// A key that is good for no time at all is a mistake.
pub(super) fn lifetime(text: &str) -> Result<u64, String> {
    super::seconds(text).and_then(|seconds| {
        if seconds == 0 { Err("a key is good for a second at least".to_owned()) } else { Ok(seconds) }
    })
}
