//! [`Error`]: why rows cannot be read or changed.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Key, TableHandle as _, Value};

use super::transaction::Definition;
use crate::kit::file::PathError;

/// Why rows cannot be read or changed. A client cannot cause any of these.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// redb, or the disk below it, failed.
    #[error("the database failed: {0}")]
    Storage(#[source] Box<redb::Error>),
    /// A file of the database, or its journal, cannot be read or written.
    #[error("{0}")]
    Io(#[source] PathError),
    #[error("{} is in use by another process", path.display())]
    InUse { path: PathBuf },
    #[error("the database has schema version {found}, this program knows up to {known}: use a newer coracle")]
    Schema { found: u32, known: u32 },
    #[error("the row {key} of the table {table} is damaged")]
    Corrupt { table: &'static str, key: String },
    /// The transaction that the change was part of failed.
    #[error("{0}")]
    Group(#[source] Arc<Error>),
    #[error("the database failed and could not be opened again")]
    Closed,
    /// The caller cancelled a long operation.
    #[error("the operation was cancelled")]
    Cancelled,
    /// The database does not exist, but its journal does.
    #[error(
        "{} is missing, although manifests.log shows that it existed: run `coracle recover` to rebuild it as far as \
         possible, or move manifests.log away to start with an empty registry", path.display()
    )]
    DatabaseMissing { path: PathBuf },
    /// The write-ahead log cannot be read to its end.
    #[error(
        "{} is damaged between its bytes {end} and {offset}: restore it, or cut it to {end} bytes to start without the \
         changes after them", path.display()
    )]
    LogDamaged { path: PathBuf, end: u64, offset: u64 },
    #[error("{} has {part} that this program cannot read: use the coracle that has written it", path.display())]
    LogUnreadable { path: PathBuf, part: String },
    /// A change wrote something and then failed, which is a bug.
    #[error("a change failed after it had written something, and was undone")]
    PartialChange,
    /// A change panicked, which is a bug.
    #[error("a change panicked, and was undone")]
    Panicked,
}

impl Error {
    /// Converts a failure to open the database.
    pub(super) fn open(error: redb::DatabaseError, path: &Path) -> Self {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Self::InUse { path: path.to_owned() },
            other => Self::Storage(Box::new(other.into())),
        }
    }

    /// Adds the path of a file to an I/O error.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io(PathError::at("use", path)(source))
    }

    /// A row that cannot be decoded, or contradicts another one.
    pub(super) fn corrupt<K: Key, V: Value>(table: Definition<K, V>, key: impl Display) -> Self {
        Self::Corrupt { table: table.name(), key: key.to_string() }
    }

    /// The I/O error that caused this one, if any.
    pub(crate) fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Storage(error) => match &**error {
                redb::Error::Io(error) => Some(error),
                _ => None,
            },
            Self::Io(error) => Some(&error.source),
            Self::Group(error) => error.io(),
            _ => None,
        }
    }

    /// Whether the database file is damaged.
    pub(crate) fn is_corruption(&self) -> bool {
        let is_damage =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
        match self {
            Self::Storage(error) => match &**error {
                redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => true,
                redb::Error::Io(error) => is_damage(error),
                _ => false,
            },
            Self::Io(error) => is_damage(&error.source),
            Self::Group(error) => error.is_corruption(),
            Self::Corrupt { .. } => true,
            _ => false,
        }
    }

    /// Whether the database is opened again after this error, so that a retry may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Storage(error) => {
                matches!(**error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed)
            }
            Self::Io(_) | Self::Closed => true,
            Self::Group(error) => error.is_transient(),
            _ => false,
        }
    }
}

/// redb has an error type for each kind of operation. All of them convert into `redb::Error`.
macro_rules! from_redb {
    ($($kind:ident)*) => {$(
        impl From<redb::$kind> for Error {
            fn from(error: redb::$kind) -> Self {
                Self::Storage(Box::new(error.into()))
            }
        }
    )*};
}

from_redb!(TransactionError TableError StorageError CommitError SetDurabilityError);
