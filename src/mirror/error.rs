//! [`Error`]: why the mirror cannot provide something.

use std::sync::Arc;

use super::client;
use crate::content::repository;

/// Why a manifest or blob cannot be provided. Clones are shared by all who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No upstream has it.
    #[error("no upstream has it")]
    NotFound,
    #[error(transparent)]
    Upstream(client::Error),
    /// The upstream ended a blob too early.
    #[error("the upstream ended the blob after {received} bytes")]
    Ended { received: u64 },
    #[error("the upstream sends more bytes than it announced")]
    TooLong,
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
            Self::NotFound | Self::TooLong | Self::Store(_) | Self::Task(_) | Self::Stopped => false,
        }
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
