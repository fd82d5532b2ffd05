//! `coracle recover`: content without the database it was in.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use crate::admin;

/// Make the database anew when it is lost or damaged, and there is no backup
///
/// Manifests and tags come back from manifests.log, which a registry keeps beside its database, and blobs from their
/// files, which are hashed. Users, API keys, permissions and the history of tags do not come back: the next start
/// makes a superuser, as a first start does. A manifest does not come back if a blob that it needs is missing.
///
/// Nothing is deleted: a damaged database is kept under another name, and so is, at the next start, the journal.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Recover {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The configuration of the registry, which names its data directory
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only say what would come back
    #[arg(long)]
    dry_run: bool,
    /// Remove blobs that no manifest names
    #[arg(long)]
    prune: bool,
    /// Also if the database is whole
    #[arg(long)]
    force: bool,
    /// Print what came of it as JSON
    #[arg(long)]
    json: bool,
}

impl Recover {
    pub(super) fn run(self) -> ExitCode {
        match self.recover() {
            Ok(value) => {
                if self.json {
                    println!("{value}");
                } else {
                    print(&value);
                }
                ExitCode::SUCCESS
            }
            Err(error) => super::failed(&error),
        }
    }

    fn recover(&self) -> Result<Value, String> {
        let (_, root) = super::locate(self.config.as_deref(), self.root.as_deref())?;
        // It has its database open, whatever the file is called now.
        if super::administer::running(&root)?.is_some() {
            return Err(format!(
                "a registry runs on {}: make a backup of it with `coracle backup`, or stop it",
                root.display()
            ));
        }
        admin::recover(&root, self.dry_run, self.prune, self.force)
    }
}

fn print(value: &Value) {
    let count = |name: &str| value[name].as_u64().unwrap_or_default();
    let text = |name: &str| value[name].as_str().unwrap_or_default();
    let is_dry = value["dry_run"] == true;
    println!("the database: {}", text("damage"));
    println!(
        "{}: {} repositories, {} manifests, {} tags, {} blobs",
        if is_dry { "would come back" } else { "come back" },
        count("repositories"),
        count("manifests"),
        count("tags"),
        count("blobs")
    );
    if count("lost_manifests") + count("lost_tags") > 0 {
        println!("lost: {} manifests, {} tags", count("lost_manifests"), count("lost_tags"));
        for line in value["lost"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            println!("  {line}");
        }
    }
    if value["torn"] == true {
        println!("the end of manifests.log is missing: the last changes before the loss are not in it");
    }
    if count("damaged") > 0 {
        println!("{} files of blobs are damaged: they stay where they are, and a push replaces them", count("damaged"));
    }
    if count("unnamed") > 0 {
        let what = if value["pruned"] == true { "removed" } else { "kept; --prune removes them" };
        println!("no manifest names {} blobs with {} bytes: {what}", count("unnamed"), count("unnamed_bytes"));
    }
    println!("not in manifests.log, and lost: users, API keys, permissions, the history of tags, the audit");
    if let Some(aside) = value["set_aside"].as_str() {
        println!("the damaged database is kept as {aside}");
    }
    if !is_dry {
        println!("the next start makes a superuser, as a first start does");
    }
}
