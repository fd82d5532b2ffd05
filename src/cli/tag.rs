//! `coracle tag …`: the history of tags, and restoring tags and manifests.

use std::process::ExitCode;

use clap::Subcommand;

use super::Error;
use super::administer::{Report, Target};
use crate::admin::{RestoreTag, RestoredTag, TagHistory, TagTimeline, shown_rfc3339};
use crate::kit::text::table;
use crate::oci::RepositoryName;

/// Show the history of tags, and restore tags and manifests
///
/// The registry keeps what tags pointed at, and what was deleted by digest, for storage.tagHistory [default: 14 days].
#[derive(Debug, clap::Args)]
pub(super) struct Tag {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: TagCommand,
}

#[derive(Debug, Subcommand)]
enum TagCommand {
    History(TagHistory),
    /// Restore a tag, or a manifest that was deleted by digest
    ///
    /// `coracle tag history` lists what each tag pointed at, and the deleted manifests. Without --digest, the tag points at
    /// the manifest again that it pointed at before its last change.
    Restore {
        /// The tag as REPOSITORY:TAG, or the manifest as REPOSITORY@DIGEST
        #[arg(value_name = "WHAT", value_parser = what)]
        what: What,
        /// Point the tag at this manifest of the repository [default: the manifest that the tag pointed at last]
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
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            TagCommand::History(request) => self.target.run(request),
            TagCommand::Restore { what: What { digest: Some(_), .. }, digest: Some(_) } => {
                Err(Error::usage("--digest requires REPOSITORY:TAG, not REPOSITORY@DIGEST"))
            }
            TagCommand::Restore { what: What { repository, tag, digest: named }, digest } => {
                self.target.run(RestoreTag { repository, tag, digest: digest.or(named) })
            }
        }
    }
}

impl Report for TagTimeline {
    fn print(&self) {
        let rows = self.tags.iter().map(|entry| {
            let until = entry.ended.as_deref().map_or_else(|| "current".to_owned(), shown_rfc3339);
            [entry.tag.clone(), entry.digest.clone(), shown_rfc3339(&entry.started), until]
        });
        print!("{}", table(["TAG", "DIGEST", "FROM", "UNTIL"], rows));
        if !self.deleted.is_empty() {
            let rows = self.deleted.iter().map(|entry| {
                let deleted = entry.deleted.as_deref().map_or_else(|| "-".to_owned(), shown_rfc3339);
                [entry.digest.clone(), deleted]
            });
            print!("\n{}", table(["DELETED MANIFEST", "DELETED"], rows));
        }
        if self.tags.is_empty() && self.deleted.is_empty() {
            eprintln!("The repository has no tags and no earlier versions.");
        }
        if self.more {
            eprintln!("The list is incomplete: there are more entries.");
        }
    }
}

impl Report for RestoredTag {
    fn print(&self) {
        match &self.tag {
            Some(tag) => println!("{}:{tag} points at {}", self.repository, self.digest),
            None => println!("restored {}@{}", self.repository, self.digest),
        }
        if let Some(why) = &self.removed_again {
            eprintln!("The next run of retention removes the tag again ({why}): lock the tag, or change the rule.");
        }
        for displaced in &self.displaced {
            eprintln!(
                "The next run of retention now removes {}:{} ({}): lock it to keep it, or change the rule.",
                self.repository, displaced.tag, displaced.reason
            );
        }
    }
}
