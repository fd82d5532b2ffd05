//! [`FilePart`]: bytes that another program has written to a file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::kit::file::{FileParts, open_regular};
use crate::oci::{Algorithm, Digest, Hasher};

/// A file, or a section of one: a blob of an image layout, or an entry of an archive.
#[derive(Clone, Debug)]
pub(crate) struct FilePart {
    file: Arc<File>,
    path: PathBuf,
    offset: u64,
    size: u64,
    is_whole: bool,
}

impl FilePart {
    /// A whole file. `None` if there is no regular file at the path. A hard link to a symbolic link would depend on its
    /// target, so such a file is only copied.
    pub(crate) fn whole(path: &Path) -> io::Result<Option<Self>> {
        let Some(file) = open_regular(path)? else { return Ok(None) };
        let size = file.metadata()?.len();
        let is_whole = !path.symlink_metadata()?.is_symlink();
        Ok(Some(Self { file: Arc::new(file), path: path.to_owned(), offset: 0, size, is_whole }))
    }

    /// A section of an open file. The path is for messages.
    pub(crate) fn section(file: &Arc<File>, path: &Path, offset: u64, size: u64) -> Self {
        Self { file: Arc::clone(file), path: path.to_owned(), offset, size, is_whole: false }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// In bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is a file of its own, so that the file can be linked.
    pub(crate) const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Its bytes, part by part. The offsets are those of the file.
    pub(crate) fn parts(&self) -> FileParts<'_> {
        FileParts::section(&self.file, self.offset, self.size)
    }

    /// All bytes. `None` if they are more than `max`.
    pub(crate) fn read(&self, max: u64) -> io::Result<Option<Vec<u8>>> {
        if self.size > max {
            return Ok(None);
        }
        let (mut bytes, mut parts) = (Vec::new(), self.parts());
        while let Some((_, part)) = parts.next()? {
            bytes.extend_from_slice(part);
        }
        Ok(Some(bytes))
    }

    /// The digest of its bytes.
    pub(crate) fn digest(&self, algorithm: Algorithm) -> io::Result<Digest> {
        let (mut hasher, mut parts) = (Hasher::new(algorithm), self.parts());
        while let Some((_, part)) = parts.next()? {
            hasher.update(part);
        }
        Ok(hasher.finish())
    }
}
