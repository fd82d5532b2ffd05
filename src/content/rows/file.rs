//! What is known of the files of blobs: when their bytes were right, and which are damaged.

use serde::{Deserialize, Serialize};

use super::schema::{DAMAGED, FILES};
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::Timestamp;
use crate::oci::Digest;

/// What a blob's file was like when its bytes were last known to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRow {
    /// When it was last written to, by the file system's clock, in nanoseconds since 1970.
    pub(crate) modified: u64,
    /// When its bytes were hashed.
    pub(crate) checked: Timestamp,
}

/// That a blob's file is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DamageRow {
    /// When that was found.
    pub(crate) found: Timestamp,
    /// What is wrong.
    pub(crate) what: String,
}

impl Rows {
    /// What is known of a blob's file; nothing of one from before files were looked at.
    pub(crate) fn file(&self, digest: Digest) -> Result<Option<FileRow>, Error> {
        let table = self.table(FILES)?;
        let row = table.get(digest.key())?;
        row.map(|row| codec::row("files", row.value(), digest)).transpose()
    }

    /// What is wrong with a blob's file, as far as that is known.
    pub(crate) fn damage(&self, digest: Digest) -> Result<Option<DamageRow>, Error> {
        let table = self.table(DAMAGED)?;
        let row = table.get(digest.key())?;
        row.map(|row| codec::row("damaged blobs", row.value(), digest)).transpose()
    }

    /// The blobs whose files are damaged, as far as is known; at most `limit`.
    pub(crate) fn damaged(&self, limit: usize) -> Result<Vec<(Digest, DamageRow)>, Error> {
        let mut damaged = Vec::new();
        for row in self.table(DAMAGED)?.range(..)?.take(limit) {
            let (key, row) = row?;
            let digest = Digest::from_key(key.value());
            let digest = digest.ok_or_else(|| codec::corrupt("damaged blobs", hex::encode(key.value())))?;
            damaged.push((digest, codec::row("damaged blobs", row.value(), digest)?));
        }
        Ok(damaged)
    }
}

impl WriteTx {
    /// Notes what the file of a blob is like whose bytes are right: it is not damaged, or not any more.
    pub(crate) fn set_file(&mut self, digest: Digest, row: &FileRow) -> Result<(), Error> {
        self.table_mut(FILES)?.insert(digest.key(), codec::encode(row).as_slice())?;
        self.set_whole(digest)
    }

    /// Notes that the file of a blob is damaged.
    pub(crate) fn set_damaged(&mut self, digest: Digest, row: &DamageRow) -> Result<(), Error> {
        self.table_mut(DAMAGED)?.insert(digest.key(), codec::encode(row).as_slice())?;
        Ok(())
    }

    /// Forgets what is known of the file of a blob that goes.
    pub(super) fn remove_file_row(&mut self, digest: Digest) -> Result<(), Error> {
        self.table_mut(FILES)?.remove(digest.key())?;
        self.set_whole(digest)
    }

    /// Notes that the file of a blob is not damaged, or not any more.
    pub(super) fn set_whole(&mut self, digest: Digest) -> Result<(), Error> {
        if self.damage(digest)?.is_some() {
            self.table_mut(DAMAGED)?.remove(digest.key())?;
        }
        Ok(())
    }
}
