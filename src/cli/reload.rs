//! [`ConfigFile`]: a configuration whose rules of access are followed while the registry runs.
//!
//! The file is looked at, as the htpasswd file is: that also notices one that was renamed into place.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Config;
use crate::registry::Registry;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A file, and what it was like when it was last read.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    mark: Option<Mark>,
}

/// What tells one state of a file from another: device, inode, length, and time of change.
type Mark = (u64, u64, u64, i64, i64);

impl ConfigFile {
    /// A file that is about to be followed.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), mark: mark(path) }
    }

    /// Follows `http.accessControl` for as long as the task lives. What is wrong in the file changes
    /// nothing; other keys need a new start.
    pub(super) async fn follow(mut self, registry: Registry) {
        let mut running = registry.shared.config().clone();
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let now = mark(&self.path);
            // A file is gone for a moment while it is being replaced.
            if now.is_none() || now == self.mark {
                continue;
            }
            self.mark = now;
            let path = self.path.display();
            match Config::load(&self.path) {
                Ok(loaded) => {
                    for warning in loaded.warnings {
                        tracing::warn!("{warning}");
                    }
                    let control = loaded.config.http.access_control;
                    if control.is_some() != running.http.access_control.is_some() {
                        tracing::warn!(%path, "http.accessControl came or went: that needs a new start");
                    } else if control != running.http.access_control {
                        registry.set_access_control(control.as_ref());
                        running.http.access_control = control;
                        tracing::info!(%path, "the rules of access were read again");
                    } else {
                        tracing::info!(%path, "the configuration has changed: all but http.accessControl needs a new start");
                    }
                }
                Err(error) => {
                    tracing::error!(%path, %error, "the configuration is wrong, and nothing of it is followed");
                }
            }
        }
    }
}

fn mark(path: &Path) -> Option<Mark> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec()))
}
