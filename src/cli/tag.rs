//! `coracle tag …`: the history of tags, and restoring what was moved or deleted.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::administer::Target;
use crate::admin::Command;
use crate::oci::RepositoryName;

/// List and restore tags and manifests that were deleted
///
/// What a tag pointed at, and what was deleted by digest, is kept for storage.tagHistory [default: 14 days].
#[derive(Debug, clap::Args)]
pub(super) struct Tag {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: TagCommand,
}

#[derive(Debug, Subcommand)]
enum TagCommand {
    /// List what the tags of a repository point at and pointed at, and the manifests that were deleted by digest
    History { repository: RepositoryName },
    /// Restore a tag, or a manifest that was deleted by digest
    Restore {
        /// The tag as REPOSITORY:TAG, or the manifest as REPOSITORY@DIGEST
        #[arg(value_name = "WHAT", value_parser = what)]
        what: What,
        /// Point the tag at this manifest [default: what the tag pointed at last]
        #[arg(long, value_name = "DIGEST")]
        digest: Option<String>,
    },
}

/// A tag or a manifest of a repository.
#[derive(Clone, Debug)]
struct What {
    repository: RepositoryName,
    tag: Option<String>,
    digest: Option<String>,
}

fn what(text: &str) -> Result<What, String> {
    let (repository, tag, digest) = match (text.split_once('@'), text.rsplit_once(':')) {
        (Some((repository, digest)), _) => (repository, None, Some(digest.to_owned())),
        (None, Some((repository, tag))) => (repository, Some(tag.to_owned()), None),
        (None, None) => return Err("expected REPOSITORY:TAG or REPOSITORY@DIGEST".to_owned()),
    };
    let repository = repository.parse().map_err(|error| format!("{error}"))?;
    Ok(What { repository, tag, digest })
}

impl Tag {
    pub(super) fn run(self) -> ExitCode {
        match self.command {
            TagCommand::History { repository } => {
                self.target.run(Ok(Command::TagHistory { repository }), print_history)
            }
            TagCommand::Restore { what, digest } => {
                let What { repository, tag, digest: named } = what;
                if named.is_some() && digest.is_some() {
                    return super::wrong(&"--digest belongs to REPOSITORY:TAG");
                }
                let command = Command::RestoreTag { repository, tag, digest: digest.or(named) };
                self.target.run(Ok(command), |value| {
                    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
                    match value["tag"].as_str() {
                        Some(tag) => println!("{}:{tag} points at {}", text("repository"), text("digest")),
                        None => println!("{}@{} is restored", text("repository"), text("digest")),
                    }
                })
            }
        }
    }
}

fn print_history(value: &Value) {
    let list = |name: &str| value[name].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or("-").to_owned();
    for entry in list("tags") {
        let (started, ended) = (text(&entry, "started"), text(&entry, "ended"));
        println!("{}  {}  from {started} until {ended}", text(&entry, "tag"), text(&entry, "digest"));
    }
    for entry in list("deleted") {
        println!("deleted  {}  {}", text(&entry, "digest"), text(&entry, "deleted"));
    }
    if value["more"] == true {
        eprintln!("there is more than this list has");
    }
}
