//! [`Recorder`]: a disk that records its operations.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::power::{FileId, Operation};
use crate::content::blobs::{Disk, SystemDisk};

/// A disk that records all operations, in order.
#[derive(Debug)]
pub(super) struct Recorder {
    root: PathBuf,
    log: Mutex<Log>,
    /// How many syncs of files succeed, and how many fail after that.
    failing: Mutex<(usize, usize)>,
}

#[derive(Debug, Default)]
struct Log {
    operations: Vec<Operation>,
    names: HashMap<PathBuf, FileId>,
    files: usize,
}

impl Recorder {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), log: Mutex::default(), failing: Mutex::default() }
    }

    /// Lets `times` syncs of files fail, after `after` successful ones.
    pub(super) fn fail_syncs(&self, after: usize, times: usize) {
        *self.failing.lock() = (after, times);
    }

    fn sync_fails(&self) -> bool {
        let mut failing = self.failing.lock();
        match &mut *failing {
            (0, 0) => return false,
            (0, times) => *times -= 1,
            (after, _) => {
                *after -= 1;
                return false;
            }
        }
        true
    }

    /// The number of operations.
    pub(super) fn len(&self) -> usize {
        self.log().operations.len()
    }

    pub(super) fn operations(&self) -> Vec<Operation> {
        self.log().operations.clone()
    }

    fn log(&self) -> parking_lot::MutexGuard<'_, Log> {
        self.log.lock()
    }

    fn below(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).expect("a path below the data directory").to_owned()
    }

    /// Records an operation.
    fn note(&self, make: impl FnOnce(&mut Log) -> Operation) {
        let mut log = self.log();
        let operation = make(&mut log);
        log.operations.push(operation);
    }

    fn file(&self, path: &Path) -> FileId {
        self.log().names[&self.below(path)]
    }
}

impl Disk for Recorder {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let is_new = !path.exists();
        SystemDisk.create_dir(path)?;
        if is_new {
            self.note(|_| Operation::CreateDir(self.below(path)));
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let file = SystemDisk.create(path)?;
        self.note(|log| {
            log.files += 1;
            log.names.insert(self.below(path), log.files);
            Operation::Create(self.below(path), log.files)
        });
        Ok(file)
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        SystemDisk.write_at(file, path, bytes, offset)?;
        let file = self.file(path);
        self.note(|_| Operation::Write { file, bytes: bytes.into(), offset });
        Ok(())
    }

    fn truncate(&self, file: &File, path: &Path, length: u64) -> io::Result<()> {
        SystemDisk.truncate(file, path, length)?;
        let file = self.file(path);
        self.note(|_| Operation::Truncate { file, length });
        Ok(())
    }

    fn sync(&self, _file: &File, path: &Path) -> io::Result<()> {
        // No real sync is needed: `Power` decides which changes are durable.
        let file = self.file(path);
        if self.sync_fails() {
            self.note(|_| Operation::SyncFailed(file));
            return Err(rustix::io::Errno::IO.into());
        }
        self.note(|_| Operation::Sync(file));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)?;
        self.note(|log| {
            let (from, to) = (self.below(from), self.below(to));
            let file = log.names.remove(&from).expect("the file was created here");
            log.names.insert(to.clone(), file);
            Operation::Rename { file, from, to }
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)?;
        self.note(|log| {
            log.names.remove(&self.below(path));
            Operation::Remove(self.below(path))
        });
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.note(|_| Operation::SyncDir(self.below(path)));
        Ok(())
    }
}
