//! `coracle apikey …`: what pipelines sign in with.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;
use uuid::Uuid;

use super::administer::Target;
use crate::admin::Command;

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
        #[arg(long = "scope")]
        scopes: Vec<String>,
        /// How long it is good for, such as 90d, 12h or 30m; without, for ever
        #[arg(long, value_parser = seconds)]
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
}

/// Reads `90d`, `12h`, `30m` or `45s`.
fn seconds(text: &str) -> Result<u64, String> {
    let form = || "a time has the form 90d, 12h, 30m or 45s".to_owned();
    let unit = text.chars().last().ok_or_else(form)?;
    let factor = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(form()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| form())?;
    number.checked_mul(factor).filter(|seconds| *seconds > 0).ok_or_else(form)
}
