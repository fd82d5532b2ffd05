//! [`Space`]: the free space of the file system, and the minimum that must stay free.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Error;

/// How long the free space is cached, because every part of every push asks for it.
const CACHED_FOR: Duration = Duration::from_secs(1);

/// The free space on the file system of a directory.
#[derive(Debug)]
pub(crate) struct Space {
    directory: PathBuf,
    /// Uploads are refused when fewer bytes are free.
    min_free: u64,
    cached: Mutex<Option<(Instant, u64)>>,
}

impl Space {
    pub(super) fn new(directory: PathBuf, min_free: u64) -> Self {
        Self { directory, min_free, cached: Mutex::default() }
    }

    /// The number of bytes that are free for this process, at most one second old.
    pub(crate) fn free(&self) -> io::Result<u64> {
        let mut cached = self.cached.lock();
        if let Some((asked, free)) = *cached
            && asked.elapsed() < CACHED_FOR
        {
            return Ok(free);
        }
        let found = rustix::fs::statvfs(&self.directory)?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        *cached = Some((Instant::now(), free));
        Ok(free)
    }

    /// Forgets the number of free bytes, because files were removed.
    pub(crate) fn forget(&self) {
        *self.cached.lock() = None;
    }

    /// The number of bytes that must stay free.
    pub(crate) const fn min_free(&self) -> u64 {
        self.min_free
    }

    /// Fails if too little space is free. If that is unknown, the upload is tried.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.free() {
            Ok(free) if free < self.min_free => Err(Error::NoSpace { free, min_free: self.min_free }),
            _ => Ok(()),
        }
    }
}
