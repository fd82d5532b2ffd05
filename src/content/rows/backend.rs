//! The database's file as redb sees it: whatever changes it goes through [`Disk`], like everything else.
//!
//! The file is opened and locked once, and outlives the database on it: redb refuses everything after a
//! failure until it is opened anew, and nobody else must get at the file in between. What must hold: when a
//! [`Backend`] is closed, nothing reads or writes through it any more, so that a reader of the database as it
//! was never sees pages of the database as it has become.

mod overlay;

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use redb::StorageBackend;

use super::Error;
use crate::content::blobs::Disk;
use overlay::Overlay;

/// The file of a database, and what went wrong with it.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    disk: Arc<dyn Disk>,
    file: File,
    path: PathBuf,
    /// Whether there is a failure; looked at with every read.
    has_failed: AtomicBool,
    /// The first failure since the database was opened.
    failure: Mutex<Option<Failure>>,
}

/// What remains of an I/O error: it cannot be copied.
#[derive(Clone, Debug)]
struct Failure {
    code: Option<i32>,
    kind: io::ErrorKind,
    text: String,
}

impl DatabaseFile {
    /// Opens a database's file, and keeps others from opening it.
    pub(super) fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, Error> {
        let file = File::options().read(true).write(true).open(path).map_err(Error::at(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { path: path.to_owned() }),
            // Where files have no locks, that is not worth refusing to start for.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(Error::at(path)(error)),
        }
        Ok(Self::new(disk, file, path))
    }

    /// Opens a database's file only to look at it, whether or not it could be changed; others may do so as well.
    pub(super) fn open_to_look_at(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::at(path))?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(Error::InUse { path: path.to_owned() }),
            // Where files have no locks, that is not worth refusing for.
            _ => Ok(Self::new(disk, file, path)),
        }
    }

    /// Makes everything that was written to it durable.
    pub(super) fn sync(&self, disk: &dyn Disk) -> Result<(), Error> {
        disk.sync(&self.file, &self.path).map_err(Error::at(&self.path))
    }

    /// A file that nobody else knows of.
    pub(super) fn new(disk: Arc<dyn Disk>, file: File, path: &Path) -> Self {
        Self { disk, file, path: path.to_owned(), has_failed: AtomicBool::new(false), failure: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something has failed since [`DatabaseFile::forgive`].
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// What failed first, if it was the file.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.lock().as_ref().map(|failure| {
            Error::at(&self.path)(match failure.code {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(failure.kind, failure.text.clone()),
            })
        })
    }

    /// The database is not to be gone on with, although it may not be the file that failed.
    pub(super) fn give_up(&self) {
        self.has_failed.store(true, Ordering::Release);
    }

    /// Forgets the failure; the database is being opened anew.
    pub(super) fn forgive(&self) {
        *self.failure.lock() = None;
        self.has_failed.store(false, Ordering::Release);
    }

    /// Takes note of a failure.
    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.failure.lock().get_or_insert_with(|| Failure {
                code: error.raw_os_error(),
                kind: error.kind(),
                text: error.to_string(),
            });
            self.give_up();
        }
        result
    }

    /// An empty file would become an empty database.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.len().map_err(Error::at(&self.path))? {
            0 => Err(Error::at(&self.path)(io::Error::new(io::ErrorKind::InvalidData, "it is empty"))),
            _ => Ok(()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// The file for one opening of the database.
#[derive(Debug)]
pub(super) struct Backend {
    file: Arc<DatabaseFile>,
    access: RwLock<Access>,
}

#[derive(Debug)]
enum Access {
    /// What is written goes to the file.
    Full,
    /// What is written stays in memory, for this opening alone.
    ReadOnly(Mutex<Overlay>),
    Closed,
}

impl Backend {
    pub(super) fn new(file: &Arc<DatabaseFile>) -> Self {
        Self { file: Arc::clone(file), access: RwLock::new(Access::Full) }
    }

    /// A database on it can be read although its file cannot be changed: opening one writes a little.
    pub(super) fn read_only(file: &Arc<DatabaseFile>) -> io::Result<Self> {
        let access = Access::ReadOnly(Mutex::new(Overlay::new(file.len()?)));
        Ok(Self { file: Arc::clone(file), access: RwLock::new(access) })
    }

    /// Held for as long as the file is used; closing waits for it.
    fn access(&self) -> io::Result<RwLockReadGuard<'_, Access>> {
        let access = self.access.read();
        if matches!(*access, Access::Closed) { Err(io::Error::other("the database was closed")) } else { Ok(access) }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        match &*self.access()? {
            Access::ReadOnly(overlay) => Ok(overlay.lock().len()),
            Access::Full | Access::Closed => self.file.noted(self.file.len()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let DatabaseFile { file, .. } = &*self.file;
        match &*self.access()? {
            Access::ReadOnly(overlay) => self.file.noted(overlay.lock().read(file, offset, out)),
            Access::Full | Access::Closed => self.file.noted(file.read_exact_at(out, offset)),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let DatabaseFile { disk, file, path, .. } = &*self.file;
        match &*self.access()? {
            Access::ReadOnly(overlay) => overlay.lock().set_len(len),
            Access::Full | Access::Closed => self.file.noted(disk.truncate(file, path, len)),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let DatabaseFile { disk, file, path, .. } = &*self.file;
        match &*self.access()? {
            Access::ReadOnly(_) => Ok(()),
            Access::Full | Access::Closed => self.file.noted(disk.sync(file, path)),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let DatabaseFile { disk, file, path, .. } = &*self.file;
        match &*self.access()? {
            Access::ReadOnly(overlay) => overlay.lock().write(file, offset, data),
            Access::Full | Access::Closed => self.file.noted(disk.write_at(file, path, data, offset)),
        }
    }

    fn close(&self) -> io::Result<()> {
        *self.access.write() = Access::Closed;
        Ok(())
    }
}
