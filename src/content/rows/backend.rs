//! The database file as redb sees it. All changes go through [`Disk`].
//!
//! The file is opened and locked once. redb refuses everything after a failure until the database is opened again, and
//! in between no other process may get the file. So the open file outlives the database. After a [`Backend`] is closed,
//! nothing reads or writes through it. Otherwise a reader of the old database could see pages of the new one.

mod overlay;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use redb::StorageBackend;

use super::Error;
use crate::content::blobs::Disk;
use crate::kit::file::LockedFile;
use overlay::Overlay;

/// An open and locked database file, and its first failure.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    disk: Arc<dyn Disk>,
    file: LockedFile,
    path: PathBuf,
    /// Whether there was a failure. Checked by every read of the database.
    has_failed: AtomicBool,
    /// The first failure since the database was opened.
    failure: Mutex<Option<Failure>>,
}

/// The parts of an I/O error, which cannot be cloned itself.
#[derive(Clone, Debug)]
struct Failure {
    code: Option<i32>,
    kind: io::ErrorKind,
    text: String,
}

impl DatabaseFile {
    /// Opens a database file and locks it.
    pub(super) fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, Error> {
        let file = File::options().read(true).write(true).open(path).map_err(Error::at(path))?;
        Self::new(disk, LockedFile::exclusive(file), path)
    }

    /// Opens a database file for reading. Other readers may do the same.
    pub(super) fn open_read_only(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::at(path))?;
        Self::new(disk, LockedFile::shared(file), path)
    }

    /// Makes all writes durable.
    pub(super) fn sync(&self, disk: &dyn Disk) -> Result<(), Error> {
        disk.sync(&self.file, &self.path).map_err(Error::at(&self.path))
    }

    /// Takes a new file, which no other process uses.
    pub(super) fn create(disk: Arc<dyn Disk>, file: File, path: &Path) -> Result<Self, Error> {
        Self::new(disk, LockedFile::exclusive(file), path)
    }

    fn new(disk: Arc<dyn Disk>, locked: io::Result<Option<LockedFile>>, path: &Path) -> Result<Self, Error> {
        let Some(file) = locked.map_err(Error::at(path))? else {
            return Err(Error::InUse { path: path.to_owned() });
        };
        Ok(Self { disk, file, path: path.to_owned(), has_failed: AtomicBool::new(false), failure: Mutex::default() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there was a failure since [`DatabaseFile::clear_failure`].
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// The first I/O error.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.lock().as_ref().map(|failure| {
            Error::at(&self.path)(match failure.code {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(failure.kind, failure.text.clone()),
            })
        })
    }

    /// Marks the database as failed, although no I/O error may have occurred.
    pub(super) fn set_failed(&self) {
        self.has_failed.store(true, Ordering::Release);
    }

    /// Clears the failure before the database is opened again.
    pub(super) fn clear_failure(&self) {
        *self.failure.lock() = None;
        self.has_failed.store(false, Ordering::Release);
    }

    /// Records a failure.
    fn recorded<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.failure.lock().get_or_insert_with(|| Failure {
                code: error.raw_os_error(),
                kind: error.kind(),
                text: error.to_string(),
            });
            self.set_failed();
        }
        result
    }

    /// Fails for an empty file, which redb would make an empty database.
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

/// The storage of one opening of the database.
#[derive(Debug)]
pub(super) struct Backend {
    file: Arc<DatabaseFile>,
    access: RwLock<Access>,
}

#[derive(Debug)]
enum Access {
    /// Writes go to the file.
    Full,
    /// Writes stay in memory until the database is closed.
    ReadOnly(Mutex<Overlay>),
    Closed,
}

impl Backend {
    pub(super) fn new(file: &Arc<DatabaseFile>) -> Self {
        Self { file: Arc::clone(file), access: RwLock::new(Access::Full) }
    }

    /// For a file that cannot be written. redb writes a little when it opens a database, which stays in memory.
    pub(super) fn read_only(file: &Arc<DatabaseFile>) -> io::Result<Self> {
        let access = Access::ReadOnly(Mutex::new(Overlay::new(file.len()?)));
        Ok(Self { file: Arc::clone(file), access: RwLock::new(access) })
    }

    /// The guard is held while the file is used. Closing waits for it.
    fn access(&self) -> io::Result<RwLockReadGuard<'_, Access>> {
        let access = self.access.read();
        if matches!(*access, Access::Closed) { Err(io::Error::other("the database was closed")) } else { Ok(access) }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        match &*self.access()? {
            Access::ReadOnly(overlay) => Ok(overlay.lock().len()),
            Access::Full | Access::Closed => self.file.recorded(self.file.len()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let DatabaseFile { file, .. } = &*self.file;
        match &*self.access()? {
            Access::ReadOnly(overlay) => self.file.recorded(overlay.lock().read(file, offset, out)),
            Access::Full | Access::Closed => self.file.recorded(file.read_exact_at(out, offset)),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let DatabaseFile { disk, file, path, .. } = &*self.file;
        match &*self.access()? {
            Access::ReadOnly(overlay) => overlay.lock().set_len(len),
            Access::Full | Access::Closed => {
                self.file.recorded(disk.truncate(file, path, len))?;
                // Pages that redb frees stay usable when the disk is full: clients can delete, and garbage collection runs.
                disk.reserve(file, 0, len);
                Ok(())
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let DatabaseFile { disk, file, path, .. } = &*self.file;
        match &*self.access()? {
            Access::ReadOnly(_) => Ok(()),
            Access::Full | Access::Closed => self.file.recorded(disk.sync(file, path)),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let DatabaseFile { disk, file, path, .. } = &*self.file;
        match &*self.access()? {
            Access::ReadOnly(overlay) => overlay.lock().write(file, offset, data),
            Access::Full | Access::Closed => self.file.recorded(disk.write_at(file, path, data, offset)),
        }
    }

    fn close(&self) -> io::Result<()> {
        *self.access.write() = Access::Closed;
        Ok(())
    }
}
