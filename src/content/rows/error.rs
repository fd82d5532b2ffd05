//! What can go wrong with rows.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::kit::file::PathError;

/// What can go wrong with rows. None of it is the client's fault.
#[derive(Debug)]
pub(crate) enum Error {
    /// The database, or the disk under it, failed.
    Storage(Box<redb::Error>),
    /// A file of the database, or one beside it, could not be read or changed.
    Io(PathError),
    /// Another process has the database open.
    InUse { path: PathBuf },
    /// The database was written by a version that this one does not know.
    Schema { found: u32, known: u32 },
    /// A row is not what was written.
    Corrupt { table: &'static str, key: String },
    /// The transaction that this change was part of failed.
    Group(Arc<Error>),
    /// The database has failed, and could not be opened again.
    Closed,
    /// Something long was broken off, because whoever asked for it does not want it any more.
    Cancelled,
    /// The database is missing although there was one.
    DatabaseMissing { path: PathBuf },
    /// A change wrote something and then failed: an error in our code.
    PartialChange,
    /// A change panicked: an error in our code.
    Panicked,
}

impl Error {
    /// Adds the path of a file to an I/O error.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io(PathError::at("use", path)(source))
    }

    /// What a failure to open the database means.
    pub(super) fn open(error: redb::DatabaseError, path: &Path) -> Self {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Self::InUse { path: path.to_owned() },
            other => Self::Storage(Box::new(other.into())),
        }
    }

    /// The I/O error at the bottom, if that is what happened.
    pub(crate) fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Storage(error) => match &**error {
                redb::Error::Io(error) => Some(error),
                _ => None,
            },
            Self::Io(failed) => Some(&failed.source),
            Self::Group(error) => error.io(),
            Self::InUse { .. }
            | Self::Schema { .. }
            | Self::Corrupt { .. }
            | Self::Closed
            | Self::Cancelled
            | Self::DatabaseMissing { .. }
            | Self::PartialChange
            | Self::Panicked => None,
        }
    }

    /// Whether the database's file is not what was written.
    pub(crate) fn is_corruption(&self) -> bool {
        match self {
            Self::Storage(error) => match &**error {
                redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => true,
                redb::Error::Io(error) => is_corruption(error),
                _ => false,
            },
            Self::Io(failed) => is_corruption(&failed.source),
            Self::Group(error) => error.is_corruption(),
            Self::Corrupt { .. } => true,
            _ => false,
        }
    }

    /// Whether the database is opened again because of it, and trying once more may help.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Storage(error) => {
                matches!(**error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed)
            }
            Self::Io(_) | Self::Closed => true,
            Self::Group(error) => error.is_transient(),
            Self::InUse { .. }
            | Self::Schema { .. }
            | Self::Corrupt { .. }
            | Self::Cancelled
            | Self::DatabaseMissing { .. }
            | Self::PartialChange
            | Self::Panicked => false,
        }
    }
}

fn is_corruption(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => write!(f, "the database failed: {error}"),
            Self::Io(error) => error.fmt(f),
            Self::InUse { path } => write!(f, "{} is in use by another process", path.display()),
            Self::Schema { found, known } => {
                write!(
                    f,
                    "the database has schema version {found}, this program knows up to {known}: use a newer coracle"
                )
            }
            Self::Corrupt { table, key } => write!(f, "the row {key} of the table {table} is damaged"),
            Self::Group(error) => error.fmt(f),
            Self::Closed => f.write_str("the database has failed, and could not be opened again"),
            Self::Cancelled => f.write_str("it was broken off"),
            Self::DatabaseMissing { path } => write!(
                f,
                "{} is missing, but there was one, as its journal says: `coracle recover` makes it anew as far as \
                 that is possible; to begin with nothing, move manifests.log away",
                path.display()
            ),
            Self::PartialChange => f.write_str("a change failed half-way, and was undone"),
            Self::Panicked => f.write_str("a change panicked, and was undone"),
        }
    }
}

impl std::error::Error for Error {}

/// redb has one error type for each kind of operation, and an umbrella that each converts into.
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
