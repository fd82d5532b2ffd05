//! The use of the disk: bytes that repositories have together, bytes that are stored once, and bytes that go.

use std::ops::ControlFlow;

use super::removal::Removals;
use crate::content::repository::{Error, Stores};
use crate::content::rows::{Rows, Unreferenced};
use crate::kit::clock::SteadyTime;
use crate::oci::RepositoryName;

/// The most repositories, and the most blobs, that are counted.
const COUNTED_MAX: usize = 2_000_000;
/// The most unreferenced objects that are counted.
const UNREFERENCED_MAX: usize = 20_000;
/// The rows of one read.
const STEP: usize = 1_000;
/// The most unfinished uploads that are looked at.
const UPLOADS_MAX: usize = 10_000;

/// The use of the disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskUse {
    pub(crate) repositories: u64,
    pub(crate) blobs: u64,
    /// The sum over the repositories: a blob counts once for each repository that links it.
    pub(crate) logical: u64,
    /// Every blob once.
    pub(crate) stored: u64,
    /// The blobs among them that several repositories link.
    pub(crate) shared: u64,
    pub(crate) uploads: u64,
    pub(crate) upload_bytes: u64,
    /// The bytes that garbage collection frees when everything that is unreferenced now is due.
    pub(crate) unreferenced: u64,
    /// Whether a limit has left something out.
    pub(crate) is_part: bool,
}

/// The blobs of one repository, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RepositoryUse {
    pub(crate) blobs: u64,
    /// All blobs of the repository.
    pub(crate) logical: u64,
    /// The blobs among them that no other repository has.
    pub(crate) unique: u64,
}

impl Stores {
    /// Counts the blobs of a repository. Reads a row of each of them, and so blocks.
    pub(crate) fn repository_use(&self, name: &RepositoryName) -> Result<RepositoryUse, Error> {
        self.database.read(|tx| {
            let mut usage = RepositoryUse::default();
            for digest in tx.linked(name)? {
                let Some(blob) = tx.blob(digest)? else { continue };
                usage.blobs += 1;
                usage.logical += blob.size;
                usage.unique += if blob.links == 1 { blob.size } else { 0 };
            }
            Ok(usage)
        })
    }

    /// Counts the use of the disk. Reads a row of each repository and of each blob, and so blocks.
    pub(crate) fn disk_use(&self) -> Result<DiskUse, Error> {
        let mut usage = DiskUse::default();
        for (id, _) in self.blobs.stagings()?.into_iter().take(UPLOADS_MAX) {
            usage.uploads += 1;
            usage.upload_bytes += self.blobs.staged(id)?.unwrap_or_default();
        }
        usage.is_part = usage.uploads == UPLOADS_MAX as u64;
        self.database.read(|tx| {
            tx.each_repository("", |_| {
                usage.repositories += 1;
                if usage.repositories < COUNTED_MAX as u64 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            usage.is_part |= usage.repositories == COUNTED_MAX as u64;
            let (mut after, mut counted) = (None, 0);
            loop {
                let blobs = tx.blobs(after, STEP)?;
                after = blobs.last().map(|(digest, _)| *digest);
                for (_, blob) in &blobs {
                    usage.blobs += 1;
                    usage.stored += blob.size;
                    usage.logical += blob.size * blob.links;
                    usage.shared += if blob.links > 1 { blob.size } else { 0 };
                }
                counted += blobs.len();
                if blobs.len() < STEP {
                    break;
                }
                if counted >= COUNTED_MAX {
                    usage.is_part = true;
                    break;
                }
            }
            self.count_unreferenced(tx, &mut usage)
        })?;
        Ok(usage)
    }

    /// Adds up what a collection removes. A manifest may share blobs with another one that goes too: they are counted for
    /// neither.
    fn count_unreferenced(&self, tx: &Rows, usage: &mut DiskUse) -> Result<(), Error> {
        let rows = tx.unreferenced_since(None, SteadyTime::from_micros(u64::MAX), UNREFERENCED_MAX)?;
        usage.is_part |= rows.len() == UNREFERENCED_MAX;
        for row in self.collectable(tx, rows)? {
            usage.unreferenced += match row.kind {
                Unreferenced::Link => tx.blob(row.digest)?.filter(|blob| blob.links == 1).map_or(0, |blob| blob.size),
                Unreferenced::Manifest | Unreferenced::Referrer => {
                    Removals::new(tx, &row.repository, &|_| true).only_here(row.digest)?.unwrap_or_default()
                }
                Unreferenced::Subject => 0,
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
