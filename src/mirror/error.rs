//! [`Error`]: why the mirror cannot provide something. Knows no status of HTTP.

use std::sync::Arc;

use super::client;
use crate::content::repository;
use crate::oci::{Digest, Tag};

/// Why a manifest or blob cannot be provided. Clones are shared by all who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No upstream has it.
    #[error("no upstream has it")]
    NotFound,
    /// A rule for tags leaves it out.
    #[error("the rules of this mirror leave out the tag {tag} (extensions.sync.registries.*.content.*.tags)")]
    Excluded { tag: Tag },
    #[error("{digest} has no signature, and only signed images are mirrored (extensions.sync.registries.*.onlySigned)")]
    Unsigned { digest: Digest },
    /// No stored manifest names it, so the rule for signed images cannot hold for it.
    #[error("no image that is stored here has {digest}, and only signed images are mirrored: pull its manifest first")]
    Unlisted { digest: Digest },
    #[error("too many wrong passwords for the upstream: try again in {seconds} s")]
    Throttled { seconds: u64 },
    /// The list of tags has too many pages, or they come too slowly.
    #[error("the upstream does not send its list of tags in time")]
    SlowList,
    #[error(transparent)]
    Upstream(client::Error),
    /// The upstream ended a blob too early.
    #[error("the upstream ended the blob after {received} bytes")]
    Ended { received: u64 },
    /// The stores failed, or refused the content.
    #[error(transparent)]
    Store(Arc<repository::Error>),
    #[error("a task failed: {0}")]
    Task(Arc<tokio::task::JoinError>),
    #[error("the registry is stopping")]
    Stopped,
}

impl Error {
    /// Whether the upstream may succeed a little later.
    pub(super) const fn is_transient(&self) -> bool {
        match self {
            Self::Upstream(error) => error.is_transient(),
            Self::Ended { .. } => true,
            Self::NotFound
            | Self::Excluded { .. }
            | Self::Unsigned { .. }
            | Self::Unlisted { .. }
            | Self::Throttled { .. }
            | Self::SlowList
            | Self::Store(_)
            | Self::Task(_)
            | Self::Stopped => false,
        }
    }

    /// Whether the upstream may have the content although it was not provided.
    pub(super) const fn is_inconclusive(&self) -> bool {
        match self {
            Self::Upstream(_) => !self.is_refusal(),
            Self::Ended { .. } | Self::Throttled { .. } | Self::Store(_) | Self::Task(_) | Self::Stopped => true,
            Self::NotFound | Self::Excluded { .. } | Self::Unsigned { .. } | Self::Unlisted { .. } | Self::SlowList => {
                false
            }
        }
    }

    /// Whether the upstream does not let these credentials pull. Many registries say that they do not know the content.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NotFound | Self::Upstream(client::Error::Unauthorized { .. } | client::Error::Denied { .. })
        )
    }
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        match error {
            client::Error::NotFound => Self::NotFound,
            error => Self::Upstream(error),
        }
    }
}

impl From<repository::Error> for Error {
    fn from(error: repository::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<tokio::task::JoinError> for Error {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Task(Arc::new(error))
    }
}
