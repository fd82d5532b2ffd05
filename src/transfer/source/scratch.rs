//! [`Scratch`]: temporary files of a source, such as decompressed archives.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::content::repository::Stores;

/// The free space is checked each time that so many bytes were written.
const CHECKED_BYTES: u64 = 1024 * 1024;

/// A directory for temporary files. They have no names, so that a crash leaves none.
#[derive(Clone, Debug)]
pub(crate) struct Scratch {
    directory: PathBuf,
    /// The registry whose disk the directory is on.
    stores: Option<Arc<Stores>>,
}

impl Scratch {
    /// Temporary files on the disk of a registry, which leave its `storage.minFreeSpace` free.
    pub(crate) fn of(stores: &Arc<Stores>) -> Self {
        Self { directory: stores.scratch(), stores: Some(Arc::clone(stores)) }
    }

    /// Temporary files in the directory of the system for them.
    pub(crate) fn of_system() -> Self {
        Self { directory: std::env::temp_dir(), stores: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.directory
    }

    /// A new file.
    pub(super) fn file(&self) -> io::Result<ScratchFile<'_>> {
        let file = ScratchFile { file: tempfile::tempfile_in(&self.directory)?, scratch: self, unchecked: 0 };
        file.check()?;
        Ok(file)
    }
}

/// A temporary file that is being written.
pub(super) struct ScratchFile<'a> {
    file: File,
    scratch: &'a Scratch,
    /// Bytes since the last check of the free space.
    unchecked: u64,
}

impl ScratchFile<'_> {
    pub(super) fn into_file(self) -> File {
        self.file
    }

    fn check(&self) -> io::Result<()> {
        let checked = self.scratch.stores.as_ref().map_or(Ok(()), |stores| stores.check_space());
        checked.map_err(|error| io::Error::new(io::ErrorKind::StorageFull, error))
    }
}

impl Write for ScratchFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unchecked >= CHECKED_BYTES {
            self.check()?;
            self.unchecked = 0;
        }
        let count = self.file.write(bytes)?;
        self.unchecked += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
