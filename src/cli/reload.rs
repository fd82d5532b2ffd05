//! [`Reload`]: what a running registry reads again: its rules of access, and the files it appends to.
//!
//! The configuration file is looked at every second, as the htpasswd file is: that also notices one that was renamed
//! into place. SIGHUP reads it at once, and opens the log files again, as rotation programs expect.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;

use super::logging::Logging;
use crate::config::Config;
use crate::kit::file::FileStamp;
use crate::registry::Registry;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is followed while the registry runs.
#[derive(Debug)]
pub(super) struct Reload {
    file: Option<ConfigFile>,
    logging: Arc<Logging>,
    hangup: Signal,
}

/// A file, and what it was like when it was last read.
#[derive(Debug)]
struct ConfigFile {
    path: PathBuf,
    stamp: Option<FileStamp>,
}

impl Reload {
    /// Remembers a configuration file that is about to be read.
    pub(super) fn new(file: Option<&Path>, logging: Arc<Logging>, hangup: Signal) -> Self {
        let file = file.map(|path| ConfigFile { path: path.to_owned(), stamp: FileStamp::at(path) });
        Self { file, logging, hangup }
    }

    /// Follows the file and the signal until the task ends. An error in the file changes nothing.
    pub(super) async fn follow(mut self, registry: Registry) {
        let mut running = registry.shared.config().clone();
        loop {
            let asked = tokio::select! {
                Some(()) = self.hangup.recv() => true,
                () = tokio::time::sleep(LOOK_INTERVAL) => false,
            };
            if asked {
                self.reopen(&registry);
            }
            match &mut self.file {
                Some(file) => file.look(&registry, &mut running, asked),
                None if asked => tracing::info!("opened the log files again; there is no configuration file to reload"),
                None => {}
            }
        }
    }

    fn reopen(&self, registry: &Registry) {
        self.logging.reopen();
        if let Some(file) = registry.shared.accounts().audit_file()
            && let Err(error) = file.reopen()
        {
            tracing::error!(%error, "the audit file cannot be opened again");
        }
    }
}

impl ConfigFile {
    /// Reads the file if it has changed, or if somebody asks for it.
    fn look(&mut self, registry: &Registry, running: &mut Config, asked: bool) {
        let now = FileStamp::at(&self.path);
        // A file is gone for a moment while it is being replaced.
        if !asked && (now.is_none() || now == self.stamp) {
            return;
        }
        self.stamp = now;
        let path = self.path.display();
        match Config::load(&self.path) {
            Ok(loaded) => {
                for warning in loaded.warnings {
                    tracing::warn!("{warning}");
                }
                let control = loaded.config.http.access_control;
                if control.is_some() != running.http.access_control.is_some() {
                    tracing::warn!(%path, "http.accessControl was added or removed: that takes effect after a restart");
                } else if control != running.http.access_control {
                    registry.set_access_control(control.as_ref());
                    running.http.access_control = control;
                    tracing::info!(%path, "the rules of access were read again");
                } else if asked {
                    tracing::info!(%path, "opened the log files again; http.accessControl has not changed");
                } else {
                    tracing::info!(%path, "the configuration has changed: all but http.accessControl needs a new start");
                }
            }
            Err(error) => {
                tracing::error!(%path, %error, "reload failed; the previous configuration stays in force");
            }
        }
    }
}
