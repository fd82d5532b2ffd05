//! The open database, and how it is opened anew after a failure.
//!
//! redb refuses everything after a failed read, write or sync until it is opened again. That is right: what the
//! file holds after a failed sync is not what memory says. So after a failure the database is closed and opened
//! on the same locked file, and what the file says counts: a commit whose end is not known has happened or has not.
//! redb syncs what a commit points at before it points there, so nothing that a failed sync may have lost is
//! reached; and opening writes the place that points anew, and syncs it.
//!
//! Where the file can be read and not changed (no space, a file system that has become read-only), the database is
//! opened for reading alone: a full disk is no reason not to serve what is on it. Whoever writes is told so, and
//! tries again, all together once in [`PAUSE`]; so a fault that lasts costs little, and one that is gone is soon
//! forgotten.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use redb::{Database, ReadTransaction, ReadableDatabase as _, WriteTransaction};

use super::Error;
use super::backend::{Backend, DatabaseFile};
use super::version::Changes;

/// What redb may keep of the file in memory. The operating system's page cache holds the rest.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// After a failure nothing is written for this long; and the database is not opened more often than this.
const PAUSE: Duration = Duration::from_millis(250);

/// A database that is opened again when it has failed. Who writes, or opens it anew, is one at a time; the caller
/// sees to that.
#[derive(Debug)]
pub(super) struct Store {
    file: Arc<DatabaseFile>,
    state: RwLock<State>,
    last: Mutex<Last>,
    changes: Changes,
}

#[derive(Debug)]
enum State {
    Open(Database),
    /// The file cannot be changed.
    ReadOnly(Database),
    /// The file cannot be read.
    Closed,
}

/// The last failure.
#[derive(Debug, Default)]
struct Last {
    /// Until when nothing is written.
    paused: Option<Instant>,
    why: Option<Arc<Error>>,
}

impl Store {
    pub(super) fn open(file: DatabaseFile) -> Result<Self, Error> {
        let file = Arc::new(file);
        file.check()?;
        let database = open(&file, Backend::new(&file))?;
        Ok(Self {
            file,
            state: RwLock::new(State::Open(database)),
            last: Mutex::default(),
            changes: Changes::default(),
        })
    }

    /// Whoever changes it says so here.
    pub(super) const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Whether it is to be opened anew before it is read.
    pub(super) fn wants_reopening(&self) -> bool {
        self.file.has_failed() && !self.is_paused()
    }

    /// Whether it can be read and not written, as far as is known.
    pub(super) fn is_read_only(&self) -> bool {
        matches!(*self.state(), State::ReadOnly(_))
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, Error> {
        match &*self.state() {
            State::Open(database) | State::ReadOnly(database) => Ok(database.begin_read()?),
            State::Closed => Err(self.why()),
        }
    }

    /// Begins to write; refused for a while after a failure.
    pub(super) fn begin_write(&self) -> Result<WriteTransaction, Error> {
        if self.is_paused() {
            return Err(self.why());
        }
        if self.file.has_failed() || !self.is_open() {
            self.reopen();
        }
        match &*self.state() {
            State::Open(database) => Ok(database.begin_write()?),
            State::ReadOnly(_) | State::Closed => Err(self.why()),
        }
    }

    /// What a failure to write has come from; opens the database anew, if that is needed to go on.
    pub(super) fn failed(&self, error: Error) -> Arc<Error> {
        if matches!(error, Error::Storage(_) | Error::Panicked) {
            self.file.give_up();
        }
        if !self.file.has_failed() {
            return Arc::new(error);
        }
        let error = Arc::new(self.file.failure().unwrap_or(error));
        self.last.lock().why = Some(Arc::clone(&error));
        if !self.is_paused() {
            self.reopen();
        }
        error
    }

    /// Closes the database and opens it again, as far as that is possible.
    pub(super) fn reopen(&self) {
        let _changing = self.changes.begin();
        let mut why = self.file.failure();
        // One that is only read is in nobody's way: it goes on until there is a better one.
        let was_read_only = self.is_read_only() && !self.file.has_failed();
        if !was_read_only {
            // Nobody reads or writes through the old one any more when this is done.
            *self.state_mut() = State::Closed;
        }
        self.file.forgive();
        match open(&self.file, Backend::new(&self.file)) {
            Ok(database) => *self.state_mut() = State::Open(database),
            Err(error) => {
                why = Some(self.file.failure().unwrap_or(error));
                self.file.forgive();
                if !was_read_only {
                    match self.open_read_only() {
                        Ok(database) => *self.state_mut() = State::ReadOnly(database),
                        Err(_) => self.file.give_up(),
                    }
                }
            }
        }
        let mut last = self.last.lock();
        last.paused = Some(Instant::now() + PAUSE);
        if let Some(why) = why {
            last.why = Some(Arc::new(why));
        }
    }

    fn open_read_only(&self) -> Result<Database, Error> {
        let backend = Backend::read_only(&self.file);
        open(&self.file, backend.map_err(Error::at(self.file.path()))?)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
    }

    fn is_open(&self) -> bool {
        matches!(*self.state(), State::Open(_))
    }

    fn is_paused(&self) -> bool {
        self.last.lock().paused.is_some_and(|until| Instant::now() < until)
    }

    /// The last failure, for whoever is refused because of it.
    fn why(&self) -> Error {
        self.last.lock().why.as_ref().map_or(Error::Closed, |why| Error::Group(Arc::clone(why)))
    }
}

/// Opens a database, or makes one of an empty file. A damaged one can make redb panic.
pub(super) fn open(file: &DatabaseFile, backend: Backend) -> Result<Database, Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    catch_unwind(AssertUnwindSafe(|| builder.create_with_backend(backend)))
        .unwrap_or(Err(redb::DatabaseError::Storage(redb::StorageError::Corrupted("opening it panicked".to_owned()))))
        .map_err(|error| Error::open(error, file.path()))
}

#[cfg(test)]
mod tests;
