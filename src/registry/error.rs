//! [`Error`]: why a registry cannot be opened or set up, in words for the operator.

use std::io;
use std::path::PathBuf;

use crate::content::blobs::Tree;
use crate::content::{blobs, repository, rows};
use crate::identity::accounts;

/// An error of any kind, or a text.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a registry cannot be opened, set up or served: what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process uses the data directory.
    #[error(
        "the data directory {} is in use by another coracle process: stop it, or choose another directory with --root",
        root.display()
    )]
    InUse {
        /// The data directory.
        root: PathBuf,
    },
    /// The data directory cannot be used.
    #[error("the data directory {} cannot be used: {cause}", root.display())]
    Storage {
        /// The data directory.
        root: PathBuf,
        /// The reason.
        #[source]
        cause: Cause,
    },
    /// A setting is invalid, or a file that it names cannot be used.
    #[error("the setting {key} cannot be used: {cause}")]
    InvalidSetting {
        /// The key of the setting.
        key: &'static str,
        /// The reason.
        #[source]
        cause: Cause,
    },
    /// A user cannot be created or changed.
    #[error("{cause}")]
    InvalidUser {
        /// The reason.
        #[source]
        cause: Cause,
    },
    /// The htpasswd file cannot be used.
    #[error("{cause}")]
    Htpasswd {
        /// The reason.
        #[source]
        cause: Cause,
    },
    /// An image layout cannot be preloaded.
    #[error("the image layout {} cannot be preloaded: {cause}", layout.display())]
    Preload {
        /// The directory of the layout.
        layout: PathBuf,
        /// The reason.
        #[source]
        cause: Cause,
    },
    /// There is no data directory.
    #[error("no data directory was named: use data_dir() or temporary()")]
    NoDataDirectory,
    /// Certificate and key cannot be used.
    #[error("{cause}")]
    Tls {
        /// The reason.
        #[source]
        cause: Cause,
    },
    /// The registry cannot listen on the address.
    #[error("cannot listen on {address}: {}", why_not_listening(source))]
    Listen {
        /// The address.
        address: String,
        /// The reason.
        source: io::Error,
    },
}

fn why_not_listening(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program uses this port; choose another one with --port, or 0 for a free one".to_owned()
        }
        _ => error.to_string(),
    }
}

impl Error {
    /// A data directory cannot be used.
    pub(super) fn storage(cause: impl Into<Cause>, tree: &Tree) -> Self {
        Self::Storage { root: tree.root().to_owned(), cause: cause.into() }
    }

    pub(super) fn blobs(error: blobs::Error, tree: &Tree) -> Self {
        Self::storage(error, tree)
    }

    pub(super) fn database(error: rows::Error, tree: &Tree) -> Self {
        match error {
            rows::Error::InUse { .. } => Self::InUse { root: tree.root().to_owned() },
            other if other.is_corruption() => {
                Self::storage(format!("{other}: restore a backup, or run `coracle recover --dry-run`"), tree)
            }
            other => Self::storage(other, tree),
        }
    }

    pub(super) fn accounts(error: accounts::Error, tree: &Tree) -> Self {
        match error {
            accounts::Error::Database(error) => Self::database(error, tree),
            other => Self::InvalidUser { cause: other.into() },
        }
    }

    pub(super) fn repository(error: repository::Error, tree: &Tree) -> Self {
        match error {
            repository::Error::Database(error) => Self::database(error, tree),
            other => Self::storage(other, tree),
        }
    }

    pub(super) fn preload(error: impl Into<Cause>, layout: PathBuf) -> Self {
        Self::Preload { layout, cause: error.into() }
    }

    pub(super) fn setting(key: &'static str, cause: impl Into<Cause>) -> Self {
        Self::InvalidSetting { key, cause: cause.into() }
    }
}
