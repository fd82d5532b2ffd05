//! `coracle user …`: who can sign in.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::administer::{Target, password_from_stdin};
use crate::admin::Command;

/// Manage users, of a running registry or of one that rests
#[derive(Debug, clap::Args)]
pub(super) struct User {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Make a user; without --password-stdin with a generated password that is shown once
    Add {
        /// The user's name
        name: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        /// Let the user do everything
        #[arg(long)]
        superuser: bool,
        /// Let the user see everything and change nothing
        #[arg(long, conflicts_with = "superuser")]
        read_only_superuser: bool,
        /// The groups the user belongs to, separated by commas
        #[arg(long, value_delimiter = ',')]
        groups: Vec<String>,
        /// The namespace that is the user's own, whatever is in it [default: made from the name, if nothing of others
        /// is in it]
        #[arg(long)]
        namespace: Option<String>,
    },
    /// List the users
    List,
    /// Give a user another password; without --password-stdin a generated one that is shown once
    Passwd {
        /// The user's name
        name: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Let a disabled user in again
    Enable {
        /// The user's name
        name: String,
    },
    /// Let a user in no more, nor their keys and sessions, until they are enabled
    Disable {
        /// The user's name
        name: String,
    },
    /// Remove a user, with all keys and sessions
    Remove {
        /// The user's name
        name: String,
    },
    /// Make a namespace a user's own, in place of the one the user had, whatever is in it
    Namespace {
        /// The user's name
        name: String,
        /// The first part of the names of the repositories that the user is to own
        namespace: String,
    },
    /// Say which groups a user belongs to
    Groups {
        /// The user's name
        name: String,
        /// All of them; none, to take the user out of every group
        groups: Vec<String>,
    },
}

impl User {
    pub(super) fn run(self) -> ExitCode {
        let Self { target, command } = self;
        let password = |from_stdin: bool| from_stdin.then(password_from_stdin).transpose();
        let command = match command {
            UserCommand::Add { name, password_stdin, superuser, read_only_superuser, groups, namespace } => {
                password(password_stdin).map(|password| Command::AddUser {
                    name,
                    password,
                    superuser,
                    read_only_superuser,
                    groups,
                    namespace,
                })
            }
            UserCommand::List => Ok(Command::ListUsers),
            UserCommand::Passwd { name, password_stdin } => {
                password(password_stdin).map(|password| Command::SetPassword { name, password })
            }
            UserCommand::Enable { name } => Ok(Command::SetEnabled { name, enabled: true }),
            UserCommand::Disable { name } => Ok(Command::SetEnabled { name, enabled: false }),
            UserCommand::Remove { name } => Ok(Command::RemoveUser { name }),
            UserCommand::Namespace { name, namespace } => Ok(Command::SetNamespace { name, namespace }),
            UserCommand::Groups { name, groups } => Ok(Command::SetGroups { name, groups }),
        };
        target.run(command, print)
    }
}

/// What came of it, for people.
fn print(value: &Value) {
    if let Some(users) = value["users"].as_array() {
        for user in users {
            let mut notes = Vec::new();
            for (field, note) in [("superuser", "superuser"), ("read_only_superuser", "read-only superuser")] {
                if user[field] == true {
                    notes.push(note.to_owned());
                }
            }
            if user["enabled"] == false {
                notes.push("disabled".to_owned());
            }
            if let Some(source) = user["source"].as_str().filter(|source| *source != "local") {
                notes.push(format!("from {source}"));
            }
            if user["also_in_htpasswd"] == true {
                notes.push("also in the htpasswd file, whose password has no effect".to_owned());
            }
            match user["namespace"].as_str() {
                Some(namespace) if user["name"] == namespace => {}
                Some(namespace) => notes.push(format!("owns {namespace}/…")),
                None => notes.push("owns no namespace".to_owned()),
            }
            let groups = user["groups"].as_array().into_iter().flatten().filter_map(Value::as_str);
            notes.extend(groups.map(|group| format!("group {group}")));
            println!("{:<30} {}", user["name"].as_str().unwrap_or_default(), notes.join(", "));
        }
        return;
    }
    if let Some(namespace) = value["namespace"].as_str() {
        eprintln!("{} owns the repositories {namespace}/…", value["name"].as_str().unwrap_or_default());
    }
    if let Some(note) = value["namespace_note"].as_str() {
        eprintln!("{note}");
    }
    match value["password"].as_str() {
        Some(password) => println!("{password}"),
        None => println!("done"),
    }
}
