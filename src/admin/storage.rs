//! Operations on stored data: garbage collection, scrub, backup, restore and recovery.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Call, Failure, Handed, Operation, key};
pub(crate) use crate::content::repository::Transferred;
use crate::content::repository::{
    BackupError, Collected, Delays, DryRun, Error as ContentError, Purge, RecoverError, Recovered,
    Recovery as RecoveryOptions, Scrubbed, Scrubbing, TransferMode, recover as recover_content,
    restore as restore_content,
};
use crate::identity::accounts::Origin;
use crate::oci::InvalidName;
use crate::registry::Work;

/// Remove unreferenced manifests and blobs
///
/// A run removes:
///
/// - manifests that no tag and no index references, once their tag history has expired;
///
/// - manifests that were deleted by digest, once they cannot be restored any more;
///
/// - manifests whose subject was deleted, and signature tags whose image was deleted;
///
/// - blobs that no manifest references.
///
/// Clients can push and pull meanwhile. A running registry also collects by itself (storage.gc).
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct Collect {
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Keep what became unreferenced within this time, such as 30m or 7d [default: storage.gcDelay]. With 0s, blobs of
    /// unfinished pushes are removed too, and their clients must push them again
    #[arg(long, value_name = "TIME", value_parser = key::seconds)]
    delay: Option<u64>,
    /// First delete the tag history and the manifests that were deleted by digest, of this repository or of all. They
    /// cannot be restored afterwards
    #[arg(long, value_name = "REPOSITORY", num_args = 0..=1, default_missing_value = EVERYTHING, value_parser = purge)]
    purge_history: Option<Purge>,
}

/// Stands for all repositories. No repository can have this name.
const EVERYTHING: &str = "*";

fn purge(text: &str) -> Result<Purge, InvalidName> {
    if text == EVERYTHING { Ok(Purge::All) } else { FromStr::from_str(text).map(Purge::Repository) }
}

/// The result of a garbage collection, or of a dry run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Collection {
    pub(crate) dry_run: bool,
    /// Deleted entries of the tag history.
    pub(crate) purged: usize,
    #[serde(flatten)]
    pub(crate) collected: Collected,
    /// Whether a dry run stopped before the end.
    pub(crate) is_part: bool,
}

impl Operation for Collect {
    type Answer = Collection;

    fn perform(self, call: &Call<'_>) -> Result<Collection, Failure> {
        let (stores, purge) = (call.registry.stores(), self.purge_history.as_ref());
        let delays = self.delay.map_or(stores.delays(), |delay| Delays::all(Duration::from_secs(delay)));
        if let Some(name) = purge.and_then(Purge::repository)
            && !stores.repository(name).is_known()?
        {
            return Err(ContentError::RepositoryUnknown { name: name.clone() }.into());
        }
        let DryRun { collected, purged, is_part } = if self.dry_run {
            stores.dry_run_collection(delays, purge)?
        } else {
            let author = call.accounts().author(Origin::local());
            let purged = purge.map_or(Ok(0), |purge| stores.purge_history(purge.repository(), call.pause))?;
            let collected = call.registry.perform(
                Work::Collection,
                call.pause,
                |progress, pause| stores.collect(Some(&author), delays, progress, pause),
                Work::describe_collection,
            )?;
            DryRun { collected, purged, is_part: false }
        };
        Ok(Collection { dry_run: self.dry_run, purged, collected, is_part })
    }
}

/// Verify stored data, and repair what can be derived
///
/// Hashes every blob, checks the database and manifests.log for damage, and finds unreferenced files. Works on a running
/// or a stopped registry. A damaged blob is moved to the directory `damaged`; clients get 404 for it until it is pushed again.
///
/// The exit code is 1 if a problem is left. extensions.scrub makes a running registry scrub by itself.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct Scrub {
    /// Rebuild counters and lists that can be derived, and remove unreferenced files
    #[arg(long)]
    repair: bool,
    /// Read at most this much per second, such as 100MiB [default: extensions.scrub.rate]
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    rate: Option<u64>,
}

/// Parses `100MiB`, or bytes.
fn rate(text: &str) -> Result<u64, String> {
    let rate = crate::config::size(text).filter(|rate| *rate > 0);
    rate.ok_or_else(|| "expected a size such as 100MiB, 512KiB or 1000000".to_owned())
}

/// The result of a scrub.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ScrubReport {
    pub(crate) clean: bool,
    #[serde(flatten)]
    pub(crate) scrubbed: Scrubbed,
}

impl Operation for Scrub {
    type Answer = ScrubReport;

    fn perform(self, call: &Call<'_>) -> Result<ScrubReport, Failure> {
        let rate = self.rate.unwrap_or(call.registry.config().extensions.scrub.rate);
        let scrubbing = Scrubbing { repair: self.repair, rate, unless_since: None };
        let stores = call.registry.stores();
        let scrubbed = call.registry.perform(
            Work::Scrub,
            call.pause,
            |progress, pause| stores.scrub(scrubbing, progress, pause),
            Work::describe_scrub,
        )?;
        Ok(ScrubReport { clean: scrubbed.is_clean(), scrubbed })
    }
}

/// Back up a registry, or update its backup
///
/// A backup holds everything as it was at one moment: repositories, manifests, tags with their history, blobs, users
/// with passwords and API keys, permissions and the audit log. It holds no unfinished uploads, sessions or signing keys.
/// Clients can push and pull meanwhile. A second run with the same directory copies only what is new; the previous
/// backup stays complete until the run ends, and also if the run fails.
///
/// Restore a backup with `coracle restore`.
///
/// On the same file system blobs are hard links: they take no time and no space, but a failing disk or a program that
/// overwrites the files damages both copies. On another file system, and with --copy, blobs are copied.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct BackUp {
    /// The directory of the backup: missing, empty, or a backup to update
    #[arg(value_parser = absolute)]
    pub(crate) directory: PathBuf,
    /// Copy blobs even if hard links are possible
    #[arg(long)]
    copy: bool,
}

/// Makes a path absolute: the running registry has another working directory.
pub(super) fn absolute(text: &str) -> Result<PathBuf, std::io::Error> {
    std::path::absolute(text)
}

impl Operation for BackUp {
    type Answer = Transferred;

    fn perform(self, call: &Call<'_>) -> Result<Transferred, Failure> {
        let path = call.handed.map_or(self.directory.as_path(), Handed::path);
        let transferred = call.registry.stores().back_up(path, mode(self.copy), call.pause);
        transferred.map_err(|error| match call.handed {
            Some(handed) => Failure::Invalid(handed.translate(&error, &self.directory)),
            None => error.into(),
        })
    }
}

/// Restore a registry from a backup
///
/// The backup does not change. Every blob is checked for existence and size. Users, passwords and API keys are those of
/// the backup, including users that were removed and keys that were revoked since. Sessions are not restored, and access
/// tokens are signed with a new key.
///
/// On the same file system blobs are hard links; see `coracle backup --help`. The exit code is 1 if blobs are missing or
/// damaged.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Restore {
    /// The backup, or the data directory of a stopped registry
    backup: PathBuf,
    /// Restore into this directory, which must be missing or empty
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Copy blobs even if hard links are possible
    #[arg(long)]
    copy: bool,
    /// Hash every blob
    #[arg(long)]
    verify: bool,
}

/// Makes a registry from a backup.
pub(crate) fn restore(request: &Restore) -> Result<Transferred, BackupError> {
    restore_content(&request.backup, &request.root, mode(request.copy), request.verify)
}

pub(super) const fn mode(copy: bool) -> TransferMode {
    if copy { TransferMode::Copy } else { TransferMode::Cheapest }
}

/// How to recover a registry.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Recover {
    /// Print what would be recovered, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove blobs that no manifest references
    #[arg(long)]
    prune: bool,
    /// Recover even if the database is intact
    #[arg(long)]
    force: bool,
}

/// The result of a recovery.
#[derive(Debug, Serialize)]
pub(crate) struct Recovery {
    pub(crate) dry_run: bool,
    pub(crate) pruned: bool,
    #[serde(flatten)]
    pub(crate) recovered: Recovered,
}

/// Rebuilds the database of a data directory from its journal and its blobs.
pub(crate) fn recover(root: &Path, request: &Recover) -> Result<Recovery, RecoverError> {
    let &Recover { dry_run, prune, force } = request;
    let recovered = recover_content(root, RecoveryOptions { dry_run, prune, force })?;
    Ok(Recovery { dry_run, pruned: prune && !dry_run, recovered })
}
