//! [`FaultyDisk`]: a disk with operations that fail on demand, for tests.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use parking_lot::Mutex;

use super::{Disk, SystemDisk};

/// The operations of a [`Disk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    CreateDir,
    Create,
    Write,
    Truncate,
    Sync,
    Rename,
    Remove,
    SyncDir,
}

/// A planned failure: the operation works `after` times and then fails `times` times.
#[derive(Debug)]
struct Fault {
    after: usize,
    times: usize,
    error: i32,
}

/// A disk with planned failures.
#[derive(Debug, Default)]
pub(crate) struct FaultyDisk {
    faults: Mutex<BTreeMap<Operation, Fault>>,
}

impl FaultyDisk {
    /// Makes operations fail until [`FaultyDisk::heal`].
    pub(crate) fn fail(&self, operations: &[Operation], error: rustix::io::Errno) {
        for operation in operations {
            self.fail_times(*operation, 0, usize::MAX, error);
        }
    }

    /// Makes an operation work `after` times and then fail `times` times.
    pub(crate) fn fail_times(&self, operation: Operation, after: usize, times: usize, error: rustix::io::Errno) {
        let fault = Fault { after, times, error: error.raw_os_error() };
        self.faults.lock().insert(operation, fault);
    }

    /// Cancels all planned failures. Returns whether all of them have occurred.
    pub(crate) fn heal(&self) -> bool {
        let faults = std::mem::take(&mut *self.faults.lock());
        faults.values().all(|fault| fault.times == 0)
    }

    fn check(&self, operation: Operation) -> io::Result<()> {
        let mut faults = self.faults.lock();
        match faults.get_mut(&operation) {
            Some(fault) if fault.after > 0 => fault.after -= 1,
            Some(fault) if fault.times > 0 => {
                fault.times -= 1;
                return Err(io::Error::from_raw_os_error(fault.error));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::CreateDir)?;
        SystemDisk.create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.check(Operation::Create)?;
        SystemDisk.create(path)
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check(Operation::Write)?;
        SystemDisk.write_at(file, path, bytes, offset)
    }

    fn truncate(&self, file: &File, path: &Path, length: u64) -> io::Result<()> {
        self.check(Operation::Truncate)?;
        SystemDisk.truncate(file, path, length)
    }

    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        self.check(Operation::Sync)?;
        SystemDisk.sync(file, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Operation::Rename)?;
        SystemDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::Remove)?;
        SystemDisk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::SyncDir)?;
        SystemDisk.sync_dir(path)
    }
}
