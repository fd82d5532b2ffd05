//! How much room is left for files, and whether that is too little to take anything in.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Error;

/// The file system is asked no more often than this: every piece of every push asks.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// The room on the file system of a directory.
#[derive(Debug)]
pub(crate) struct Space {
    directory: PathBuf,
    /// With less than this, nothing is taken in.
    min_free: u64,
    known: Mutex<Option<(Instant, u64)>>,
}

impl Space {
    pub(super) fn new(directory: PathBuf, min_free: u64) -> Self {
        Self { directory, min_free, known: Mutex::default() }
    }

    /// How many bytes are free for us, a moment ago.
    pub(crate) fn free(&self) -> io::Result<u64> {
        let mut known = self.known.lock();
        if let Some((asked, free)) = *known
            && asked.elapsed() < KNOWN_FOR
        {
            return Ok(free);
        }
        let found = rustix::fs::statvfs(&self.directory)?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        *known = Some((Instant::now(), free));
        Ok(free)
    }

    /// How much is to stay free.
    pub(crate) const fn min_free(&self) -> u64 {
        self.min_free
    }

    /// Refuses to take anything in when too little is free. Where that cannot be found out, the disk will say.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.free() {
            Ok(free) if free < self.min_free => Err(Error::NoSpace { free, min_free: self.min_free }),
            _ => Ok(()),
        }
    }
}
