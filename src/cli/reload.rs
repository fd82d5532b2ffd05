//! [`Reload`]: what a running registry reads again: access rules, and the log files it appends to.
//!
//! The configuration file is checked for changes every second, which also finds a file that was renamed into place.
//! SIGHUP reads it at once, and opens the log files again, as programs that rotate logs expect.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;

use super::logging::Logging;
use crate::config::{AccessControl, Tree};
use crate::kit::file::FileStamp;
use crate::registry::Registry;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The only key that takes effect without a restart.
const ACCESS_CONTROL: &str = "http.accessControl";

/// Follows the configuration file and SIGHUP while the registry runs.
#[derive(Debug)]
pub(super) struct Reload {
    file: Option<ConfigFile>,
    logging: Arc<Logging>,
    hangup: Signal,
}

/// A configuration file.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    /// The state of the file when it was last read.
    stamp: Option<FileStamp>,
    /// The content that the registry was started with.
    started: Tree,
}

impl Reload {
    pub(super) const fn new(file: Option<ConfigFile>, logging: Arc<Logging>, hangup: Signal) -> Self {
        Self { file, logging, hangup }
    }

    /// Follows the file and the signal until the task ends. A file with an error changes nothing.
    pub(super) async fn follow(mut self, registry: Registry) {
        let mut rules = registry.shared.config().http.access_control.clone();
        loop {
            let requested = tokio::select! {
                Some(()) = self.hangup.recv() => true,
                () = tokio::time::sleep(CHECK_INTERVAL) => false,
            };
            if requested {
                self.reopen(&registry);
            }
            match &mut self.file {
                Some(file) => file.check(&registry, &mut rules, requested),
                None if requested => tracing::info!("there is no configuration file to reload"),
                None => {}
            }
        }
    }

    fn reopen(&self, registry: &Registry) {
        self.logging.reopen();
        if let Some(file) = registry.shared.accounts().audit_file()
            && let Err(error) = file.reopen()
        {
            tracing::error!(%error, "cannot open the audit file again");
        }
        tracing::info!("opened the log files again");
    }
}

impl ConfigFile {
    /// Remembers a file whose content was `started` when its stamp was taken.
    pub(super) fn new(path: &Path, stamp: Option<FileStamp>, started: Tree) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self { path, stamp, started }
    }

    /// Reads the file if it has changed, or if a signal requests it.
    fn check(&mut self, registry: &Registry, rules: &mut Option<AccessControl>, requested: bool) {
        let stamp = FileStamp::at(&self.path);
        // A file can be missing for a moment while it is replaced.
        if !requested && (stamp.is_none() || stamp == self.stamp) {
            return;
        }
        self.stamp = stamp;
        let path = self.path.display();
        let loaded = match super::load(Some(&self.path)) {
            Ok(loaded) => loaded,
            Err(error) => {
                registry.shared.note_reload(Some(format!(
                    "the reload failed, and the previous configuration stays in force: {}; `coracle check-config --config \
                     {path}` names all problems",
                    error.to_string().lines().next().unwrap_or_default().trim_end_matches(':')
                )));
                tracing::error!(%path, %error, "reload failed; the previous configuration stays in force");
                return;
            }
        };
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let mut waiting = self.started.changed_keys(&loaded.tree);
        let is_reloaded =
            |key: &String| key.get(..ACCESS_CONTROL.len()).is_some_and(|key| key.eq_ignore_ascii_case(ACCESS_CONTROL));
        waiting.retain(|key| !is_reloaded(key));
        let control = loaded.config.http.access_control;
        let needs_restart = control.is_some() != rules.is_some();
        if needs_restart {
            // Without the key other defaults hold, such as those of the profile.
            waiting.push(ACCESS_CONTROL.to_owned());
        }
        let keys = (!waiting.is_empty()).then(|| waiting.join(", "));
        let warning = keys.as_ref().map(|keys| format!("changed keys of {path} take effect after a restart: {keys}"));
        registry.shared.note_reload(warning);
        if !needs_restart && control != *rules {
            registry.set_access_control(control.as_ref());
            *rules = control;
            tracing::info!(%path, "reloaded http.accessControl");
        } else if keys.is_none() {
            tracing::info!(%path, "read the configuration again: no change");
        }
        if let Some(keys) = keys {
            tracing::warn!(%path, keys, "changed keys take effect after a restart");
        }
    }
}
