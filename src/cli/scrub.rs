//! `coracle scrub`: whether what is stored is still what was pushed.

use std::process::ExitCode;

use serde_json::Value;

use super::administer::Target;
use crate::admin::Command;

/// Compare what is stored with what it should be
///
/// It goes for a running registry and for one that rests. Every blob is hashed, rows are compared with each other,
/// and files that no row speaks of are found. A damaged blob is set aside, in the directory damaged, and is not there for clients until somebody pushes it again.
/// Ends with 1 if anything is wrong that was not mended. A registry does this by itself if extensions.scrub says so.
#[derive(Debug, clap::Args)]
pub(super) struct Scrub {
    #[command(flatten)]
    target: Target,
    /// Mend what follows from what is there: counts and lists; and remove files that no row speaks of
    #[arg(long)]
    repair: bool,
    /// Read this much in a second at most, such as 100MiB; as extensions.scrub.rate says without it
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    rate: Option<u64>,
}

impl Scrub {
    pub(super) fn run(self) -> ExitCode {
        self.target.run_for(Ok(Command::Scrub { repair: self.repair, rate: self.rate }), print, |value| {
            if value["clean"] == true { ExitCode::SUCCESS } else { ExitCode::from(1) }
        })
    }
}

fn print(value: &Value) {
    let list = |name: &str| value[name].as_array().cloned().unwrap_or_default();
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    println!("{} blobs with {} bytes were hashed", value["blobs"], value["bytes"]);
    for blob in list("damaged") {
        println!("damaged: {}: {}", text(&blob, "digest"), text(&blob, "what"));
        for tag in blob["tags"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            println!("  needed by {tag}: push it again");
        }
    }
    for blob in list("unreadable") {
        println!("cannot be read: {}: {}", text(&blob, "digest"), text(&blob, "what"));
    }
    let mended = if value["repaired"] == true { "mended" } else { "to be mended with --repair" };
    let lines = [("lost", ""), ("derived", mended), ("strays", mended)];
    for (name, what) in lines {
        let title = match name {
            "lost" => "lost",
            "derived" => "does not fit",
            _ => "no row speaks of",
        };
        for line in list(name).iter().filter_map(Value::as_str) {
            println!("{title}: {line}{}{what}", if what.is_empty() { "" } else { ": " });
        }
    }
    for line in list("obstacles").iter().filter_map(Value::as_str) {
        println!("remove by hand: {line}");
    }
    if let Some(ignored @ 1..) = value["ignored"].as_u64() {
        println!("ignored: {ignored} files or directories among the blobs that are not the registry's");
    }
    if value["is_part"] == true {
        println!("the registry stopped before everything was looked at");
    }
    if value["clean"] == true {
        println!("nothing is wrong");
    }
}

/// Reads `100MiB`, or bytes.
fn rate(text: &str) -> Result<u64, String> {
    let rate = crate::config::size(text).filter(|rate| *rate > 0);
    rate.ok_or_else(|| "a size has the form 100MiB, 512KiB or 1000000".to_owned())
}
