//! [`Error`]: why a registry cannot be opened or set up, in words for the operator.

use std::fmt;
use std::path::PathBuf;

use crate::content::blobs::Tree;
use crate::content::repository::ImportError;
use crate::content::{blobs, repository, rows};
use crate::identity::accounts;

/// Why a registry cannot be opened, set up or served. Says what, where, and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Another process uses the data directory.
    InUse {
        /// The data directory.
        root: PathBuf,
    },
    /// The data directory cannot be used: its disk or its content.
    Storage {
        /// The data directory.
        root: PathBuf,
        /// What happened.
        cause: String,
    },
    /// A setting cannot be followed: a program has made one that no file could have made, or what it names
    /// cannot be used.
    InvalidSetting {
        /// The setting, as a file calls it.
        key: &'static str,
        /// What it must be, or what happened.
        cause: String,
    },
    /// A user cannot be made so.
    InvalidUser {
        /// Why not.
        cause: String,
    },
    /// The htpasswd file cannot be used.
    Htpasswd {
        /// Why not.
        cause: String,
    },
    /// A layout to preload cannot be brought in.
    Preload {
        /// The layout's directory.
        layout: PathBuf,
        /// Why not.
        cause: String,
    },
    /// No data directory was named.
    NoDataDirectory,
    /// Certificate and key cannot be used.
    Tls {
        /// Why not.
        cause: String,
    },
    /// The address cannot be listened on.
    Listen {
        /// The address.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    pub(super) fn blobs(error: &blobs::Error, tree: &Tree) -> Self {
        Self::Storage { root: tree.root().to_owned(), cause: error.to_string() }
    }

    pub(super) fn database(error: rows::Error, tree: &Tree) -> Self {
        let root = tree.root().to_owned();
        match error {
            rows::Error::InUse { .. } => Self::InUse { root },
            other => {
                let hint = if other.is_corruption() {
                    ": restore a backup, or see what `coracle recover --dry-run` finds"
                } else {
                    ""
                };
                Self::Storage { root, cause: format!("{other}{hint}") }
            }
        }
    }

    pub(super) fn accounts(error: accounts::Error, tree: &Tree) -> Self {
        match error {
            accounts::Error::Database(error) => Self::database(error, tree),
            other => Self::InvalidUser { cause: other.to_string() },
        }
    }

    pub(super) fn repository(error: repository::Error, tree: &Tree) -> Self {
        match error {
            repository::Error::Database(error) => Self::database(error, tree),
            other => Self::Storage { root: tree.root().to_owned(), cause: other.to_string() },
        }
    }

    pub(super) fn preload(error: &ImportError, layout: PathBuf) -> Self {
        Self::Preload { layout, cause: error.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { root } => write!(
                f,
                "the data directory {} is in use by another coracle: stop that one, or choose another directory with --root",
                root.display()
            ),
            Self::Storage { root, cause } => write!(f, "the data directory {} cannot be used: {cause}", root.display()),
            Self::InvalidSetting { key, cause } => write!(f, "the setting {key} cannot be used: {cause}"),
            Self::InvalidUser { cause } | Self::Htpasswd { cause } | Self::Tls { cause } => f.write_str(cause),
            Self::Preload { layout, cause } => {
                write!(f, "the image layout {} cannot be preloaded: {cause}", layout.display())
            }
            Self::NoDataDirectory => f.write_str("no data directory was named: use data_dir() or temporary()"),
            Self::Listen { address, source } if source.kind() == std::io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {address}: another program does; choose another port with --port, or 0 for a free one"
            ),
            Self::Listen { address, source } => write!(f, "cannot listen on {address}: {source}"),
        }
    }
}

impl std::error::Error for Error {}
