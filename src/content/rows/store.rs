//! [`Store`]: the open database, which is opened again after a failure.
//!
//! redb refuses everything after a failed read, write or sync until the database is opened again. It is right to do so:
//! after a failed sync, the file may differ from memory. So the store closes the database and opens it again on the
//! same locked file. What the file says is then true, also about a commit whose outcome was unknown. redb syncs the
//! pages of a commit before it makes the header point at them, so pages that a failed sync has lost are never reached.
//! Opening the database writes and syncs the header again.
//!
//! If the file can be read but not written (a full disk, a file system that became read-only), the database is opened
//! for reading: a full disk is no reason to stop serving. A write fails and tries to open it for writing, at most once
//! in [`PAUSE`]. So a lasting fault costs little, and the store recovers soon after a fault is gone.
//!
//! Each opening applies the write-ahead log. A failure of the log is handled like one of the database.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use redb::{Database, ReadTransaction, ReadableDatabase as _, WriteTransaction};

use super::Error;
use super::backend::{Backend, DatabaseFile};
use super::version::Changes;
use super::wal::Wal;

/// The size of the page cache we allow redb. The operating system's page cache holds the rest.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// For this long after a failure, writes fail and the database is not opened again.
const PAUSE: Duration = Duration::from_millis(250);

/// A database that is opened again after a failure. The caller allows only one thread at a time to write or reopen it.
#[derive(Debug)]
pub(super) struct Store {
    file: Arc<DatabaseFile>,
    /// A database under its temporary name has none.
    wal: Option<Wal>,
    state: RwLock<State>,
    last_failure: Mutex<LastFailure>,
    changes: Changes,
}

#[derive(Debug)]
enum State {
    Open(Database),
    /// The file cannot be written.
    ReadOnly(Database),
    /// The file cannot be read.
    Closed,
}

#[derive(Debug, Default)]
struct LastFailure {
    /// The end of the pause after it.
    paused_until: Option<Instant>,
    error: Option<Arc<Error>>,
}

impl Store {
    pub(super) fn open(file: DatabaseFile, wal: Option<Wal>) -> Result<Self, Error> {
        let file = Arc::new(file);
        file.check()?;
        let state = RwLock::new(State::Closed);
        let store = Self { file, wal, state, last_failure: Mutex::default(), changes: Changes::default() };
        match open_with(&store.file, store.wal.as_ref()) {
            Ok(database) => *store.state.write() = State::Open(database),
            // A full disk, for example. What is there can be read, and a later write tries again.
            Err(error) if error.io().is_some() => {
                store.file.clear_failure();
                let Ok(database) = store.open_read_only() else { return Err(error) };
                tracing::error!(%error, "the database can only be read");
                *store.state.write() = State::ReadOnly(database);
                store.last_failure.lock().error = Some(Arc::new(error));
            }
            Err(error) => return Err(error),
        }
        Ok(store)
    }

    /// The write-ahead log.
    pub(super) const fn wal(&self) -> Option<&Wal> {
        self.wal.as_ref()
    }

    /// Counts the changes. Every writer begins a change here.
    pub(super) const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Whether a reader should reopen the database first.
    pub(super) fn needs_reopening(&self) -> bool {
        self.file.has_failed() && !self.is_paused()
    }

    /// Whether the database can be read but not written, as far as is known.
    pub(super) fn is_read_only(&self) -> bool {
        matches!(*self.state.read(), State::ReadOnly(_))
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, Error> {
        match &*self.state.read() {
            State::Open(database) | State::ReadOnly(database) => Ok(database.begin_read()?),
            State::Closed => Err(self.last_error()),
        }
    }

    /// Begins a write transaction. Fails during the pause after a failure.
    pub(super) fn begin_write(&self) -> Result<WriteTransaction, Error> {
        if self.is_paused() {
            return Err(self.last_error());
        }
        if self.file.has_failed() || !matches!(*self.state.read(), State::Open(_)) {
            self.reopen();
        }
        match &*self.state.read() {
            State::Open(database) => Ok(database.begin_write()?),
            State::ReadOnly(_) | State::Closed => Err(self.last_error()),
        }
    }

    /// Finds the cause of a failed write, and reopens the database if needed.
    pub(super) fn failed(&self, error: Error) -> Arc<Error> {
        // The log is the only other file that a write uses.
        if matches!(error, Error::Storage(_) | Error::Panicked | Error::Io(_)) {
            self.file.set_failed();
        }
        if !self.file.has_failed() {
            return Arc::new(error);
        }
        let error = Arc::new(self.file.failure().unwrap_or(error));
        self.last_failure.lock().error = Some(Arc::clone(&error));
        if !self.is_paused() {
            self.reopen();
        }
        error
    }

    /// Closes the database and opens it again, for reading if it cannot be opened for writing.
    pub(super) fn reopen(&self) {
        let _changing = self.changes.begin();
        let mut failure = self.file.failure();
        // A working read-only database stays open until the file can be written again.
        let was_read_only = self.is_read_only() && !self.file.has_failed();
        if !was_read_only {
            // Dropping the old database waits until nothing reads or writes through it.
            *self.state.write() = State::Closed;
        }
        self.file.clear_failure();
        match open_with(&self.file, self.wal.as_ref()) {
            Ok(database) => *self.state.write() = State::Open(database),
            Err(error) => {
                failure = Some(self.file.failure().unwrap_or(error));
                self.file.clear_failure();
                if !was_read_only {
                    match self.open_read_only() {
                        Ok(database) => *self.state.write() = State::ReadOnly(database),
                        Err(_) => self.file.set_failed(),
                    }
                }
            }
        }
        let mut last = self.last_failure.lock();
        last.paused_until = Some(Instant::now() + PAUSE);
        if let Some(failure) = failure {
            last.error = Some(Arc::new(failure));
        }
    }

    fn open_read_only(&self) -> Result<Database, Error> {
        let backend = Backend::read_only(&self.file).map_err(Error::at(self.file.path()))?;
        let database = open(&self.file, backend)?;
        self.wal.iter().try_for_each(|wal| wal.replay(&database, false))?;
        Ok(database)
    }

    fn is_paused(&self) -> bool {
        self.last_failure.lock().paused_until.is_some_and(|until| Instant::now() < until)
    }

    fn last_error(&self) -> Error {
        self.last_failure.lock().error.as_ref().map_or(Error::Closed, |error| Error::Group(Arc::clone(error)))
    }
}

/// Opens a database for writing, with what its write-ahead log has.
fn open_with(file: &Arc<DatabaseFile>, wal: Option<&Wal>) -> Result<Database, Error> {
    let database = open(file, Backend::new(file))?;
    wal.map_or(Ok(()), |wal| wal.replay(&database, true))?;
    Ok(database)
}

/// Opens a database. Makes one in an empty file.
pub(super) fn open(file: &DatabaseFile, backend: Backend) -> Result<Database, Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    // redb can panic on a damaged database.
    let panicked = || redb::DatabaseError::Storage(redb::StorageError::Corrupted("redb cannot read it".to_owned()));
    catch_unwind(AssertUnwindSafe(|| builder.create_with_backend(backend)))
        .unwrap_or_else(|_| Err(panicked()))
        .map_err(|error| Error::open(error, file.path()))
}

#[cfg(test)]
mod tests;
