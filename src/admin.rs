//! Administration from the machine itself: one type per operation, with its answer and what it does.
//!
//! A running registry performs an operation that arrives through its socket. Without a running registry the command
//! line opens the data directory and performs the same operation itself. Access to the socket or to the files is the
//! only authentication: both belong to the owner of the data directory.
//!
//! To add an operation: a request type (it is also the arguments of the command), an answer type, an implementation of
//! [`Operation`], a line in `operations!` below, and a `Report` in `cli` that prints the answer.

mod access;
mod certificate;
mod clock;
mod directory;
mod events;
mod group;
mod key;
mod mirror;
mod retention;
pub(crate) mod socket;
mod state;
mod storage;
mod tag;
mod transfer;
mod upstream;
mod user;

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::content::repository::{BackupError, Error as ContentError};
use crate::identity::accounts::{Accounts, Error as AccountsError};
use crate::registry::Shared;
pub(crate) use access::{ExplainAccess, RotateSigningKey, SigningKey};
pub(crate) use certificate::{CertificateState, RenewCertificate, ShowCertificate};
pub(crate) use clock::{SET_CLOCK, different_clock, shown_rfc3339, shown_time, wrong_clock};
pub(crate) use directory::{Handed, Offered};
pub(crate) use events::{EventList, ListEvents, RedeliverEvents, Redelivered};
pub(crate) use group::{AddMembers, ChangedGroup, GroupView, Groups, ListGroups, RemoveGroup, RemoveMembers, SetRole};
pub(crate) use key::{CreateKey, KeyList, ListKeys, NewApiKey, RevokeKey, RevokedKey, lifetime, scope};
pub(crate) use mirror::{EvictMirrored, Eviction};
pub(crate) use retention::{PlanRetention, RetentionPlan, RetentionRun, RunRetention, TagDecision};
pub(crate) use state::{
    CheckHealth, DiskReport, DiskUsage, FREE_SPACE, FULL_BYTES, Healthy, PROXIES_SHOWN, ShowStatus, Status, WorkReport,
};
pub(crate) use storage::{
    BackUp, Collect, Collection, Recover, Recovery, Restore, Scrub, ScrubReport, Transferred, recover, restore,
};
pub(crate) use tag::{RestoreTag, RestoredTag, TagHistory, TagTimeline};
pub(crate) use transfer::{
    Export, Exported, Import, Imported, Inventory, InventoryList, TakeoverView, TransferList, TransferState,
    TransferStatus,
};
pub(crate) use upstream::{
    ClientSettings, ExplainMirror, MirrorExplanation, MirrorStatus, RunningSync, SetUpMirror, SyncMirror, Synchronised,
    UpstreamList, UpstreamView,
};
pub(crate) use user::{
    AddUser, ChangedNamespace, ChangedPassword, DisableUser, EnableUser, GroupsOfUser, ListUsers, NamespaceContent,
    NewPassword, NewUser, RemoveUser, RemovedUser, Secret, SetGroups, SetNamespace, SetPassword, UserList, UserState,
    UserWithNamespace,
};

/// The data directory that an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NeededData {
    /// That of a registry.
    Existing,
    /// That of a registry. If it does not exist, the operation makes it.
    MayBeNew,
    /// None: the configuration is enough if there is no registry.
    None,
}

/// A request that a registry carries out, and the answer that the command line prints.
pub(crate) trait Operation: Into<Command> {
    /// The result. `--json` prints it as it is.
    type Answer: Serialize + DeserializeOwned;

    /// The data directory that the operation needs.
    fn needed_data(&self) -> NeededData {
        NeededData::Existing
    }

    /// Carries the operation out. Blocks.
    fn perform(self, call: &Call<'_>) -> Result<Self::Answer, Failure>;

    /// Reads the files of the person who runs the command, with the rights and in the directory of that person. The result
    /// is a file that travels with the operation, as [`Call::attached`].
    fn attach(&mut self) -> Result<Option<File>, Failure> {
        Ok(None)
    }

    /// The password that the operation sets, if it sets one. The command line may read it first.
    fn new_password(&mut self) -> Option<&mut NewPassword> {
        None
    }
}

/// The context of an operation.
pub(crate) struct Call<'a> {
    pub(crate) registry: &'a Arc<Shared>,
    /// The directory of the command, if another process has opened it.
    pub(crate) handed: Option<&'a Handed>,
    /// The file that came with the operation; see [`Operation::attach`].
    pub(crate) attached: Option<&'a File>,
    /// Called between two steps of a long operation with the duration of the last one. It may wait, or cancel the rest.
    pub(crate) pause: &'a dyn Fn(Duration) -> ControlFlow<()>,
}

impl<'a> Call<'a> {
    /// The context of a command that has opened the data directory itself.
    pub(crate) fn alone(registry: &'a Arc<Shared>, attached: Option<&'a File>) -> Self {
        Self { registry, handed: None, attached, pause: &|_| ControlFlow::Continue(()) }
    }
}

impl Call<'_> {
    fn accounts(&self) -> &Arc<Accounts> {
        self.registry.accounts()
    }
}

/// Waits for work that sends requests: on the runtime of a running registry, or on one of its own.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    if let Ok(running) = tokio::runtime::Handle::try_current() {
        return Ok(running.block_on(work));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Invalid(format!("cannot start: {error}")))?;
    Ok(runtime.block_on(work))
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Backup(#[from] BackupError),
}

/// The line with which a running registry answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reply<A> {
    Ok(A),
    Error(String),
}

/// Lists the operations, and makes of them the enum that goes through the socket.
macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        /// An operation on its way through the socket.
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(tag = "command", rename_all = "kebab-case")]
        pub(crate) enum Command {
            $($name($name)),*
        }

        $(impl From<$name> for Command {
            fn from(operation: $name) -> Self {
                Self::$name(operation)
            }
        })*

        impl Command {
            /// Carries the operation out, and returns its answer as JSON. Blocks.
            pub(crate) fn perform(self, call: &Call<'_>) -> Result<Value, Failure> {
                match self {
                    $(Self::$name(operation) => to_json(&operation.perform(call)?)),*
                }
            }
        }
    };
}

operations! {
    AddUser, ListUsers, SetPassword, EnableUser, DisableUser, SetNamespace, SetGroups, RemoveUser,
    ListGroups, SetRole, AddMembers, RemoveMembers, RemoveGroup,
    CreateKey, ListKeys, RevokeKey, RotateSigningKey, ExplainAccess,
    TagHistory, RestoreTag, Collect, Scrub, BackUp, Import, Export, Inventory, TransferStatus,
    EvictMirrored, PlanRetention, RunRetention, ListEvents, RedeliverEvents,
    MirrorStatus, SyncMirror, ExplainMirror, SetUpMirror,
    CheckHealth, ShowStatus, DiskUsage, ShowCertificate, RenewCertificate,
}

impl Command {
    /// Whether the operation reads all stored data, which may take hours.
    pub(crate) const fn is_long(&self) -> bool {
        matches!(
            self,
            Self::Collect(_)
                | Self::Scrub(_)
                | Self::BackUp(_)
                | Self::EvictMirrored(_)
                | Self::PlanRetention(_)
                | Self::RunRetention(_)
                | Self::Import(_)
                | Self::Export(_)
                | Self::SyncMirror(_)
                | Self::RenewCertificate(_)
                | Self::DiskUsage(_)
        )
    }

    /// The directory that the operation works in, other than the data directory.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::BackUp(BackUp { directory, .. }) => Some(directory),
            Self::Import(import) => import.directory(),
            Self::Export(export) => export.directory(),
            _ => None,
        }
    }
}

fn to_json(answer: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(answer).map_err(|error| Failure::Invalid(error.to_string()))
}
