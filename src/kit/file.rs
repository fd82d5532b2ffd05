//! Small operations on files: missing files, their identity and state, and reading in parts.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// How much of a file is read at once, in bytes.
const PART_BYTES: usize = 256 * 1024;

/// An I/O error with the operation and the path that it is about.
#[derive(Debug, Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub(crate) struct PathError {
    operation: &'static str,
    path: PathBuf,
    pub(crate) source: io::Error,
}

impl PathError {
    /// Adds the operation and the path to an I/O error: `.map_err(PathError::at("open", &path))`.
    pub(crate) fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { operation, path: path.to_owned(), source }
    }
}

/// Turns "not found" into `None`: `if_exists(fs::remove_file(path))`.
pub(crate) fn if_exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Identifies a file on this machine: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64);

impl FileId {
    /// The identity of the file at a path. Follows symbolic links.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&fs::metadata(path)?))
    }
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// Identifies one state of a file. It changes whenever the file is replaced or written to, or a symbolic link in its path
/// points elsewhere (Kubernetes updates mounted files in this way).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp {
    id: FileId,
    length: u64,
    changed: (i64, i64),
}

impl FileStamp {
    /// The state of the file at a path; `None` if it does not exist or cannot be examined.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let (length, changed) = (metadata.len(), (metadata.ctime(), metadata.ctime_nsec()));
        Some(Self { id: FileId::from(&metadata), length, changed })
    }
}

/// Reads a file from its beginning in parts, so that memory does not depend on its size.
pub(crate) struct FileParts<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    /// The offset of the next part.
    offset: u64,
    /// How much to read; `None` for the whole file.
    length: Option<u64>,
}

impl<'a> FileParts<'a> {
    /// Reads the whole file.
    pub(crate) fn all(file: &'a File) -> Self {
        Self { file, buffer: vec![0; PART_BYTES], offset: 0, length: None }
    }

    /// Reads the first `length` bytes of the file. It is an error if the file is shorter.
    pub(crate) fn first(file: &'a File, length: u64) -> Self {
        Self { length: Some(length), ..Self::all(file) }
    }

    /// Reads the next part and returns it with its offset; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        let offset = self.offset;
        let left = self.length.map_or(PART_BYTES, |length| usize::try_from(length - offset).unwrap_or(PART_BYTES));
        let wanted = left.min(PART_BYTES);
        let count = self.file.read_at(&mut self.buffer[..wanted], offset)?;
        if count == 0 && wanted > 0 && self.length.is_some() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        Ok((count > 0).then(|| (offset, &self.buffer[..count])))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_changes_with_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let [path, other, link] = ["file", "other", "link"].map(|name| directory.path().join(name));
        assert_eq!(FileStamp::at(&path), None);
        assert_eq!(if_exists(fs::remove_file(&path)).unwrap(), None);
        fs::write(&path, "first").unwrap();
        let first = FileStamp::at(&path).unwrap();
        assert_eq!(FileStamp::at(&path), Some(first));
        fs::write(&path, "longer than the first").unwrap();
        assert_ne!(FileStamp::at(&path), Some(first));
        fs::write(&other, "first").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let (id, stamp) = (FileId::at(&link).unwrap(), FileStamp::at(&link));
        assert_eq!((FileId::at(&path).unwrap(), FileStamp::at(&path)), (id, stamp));
        fs::rename(&other, &path).unwrap();
        assert_ne!((FileId::at(&link).unwrap(), FileStamp::at(&link)), (id, stamp));
        assert_eq!(if_exists(fs::remove_file(&path)).unwrap(), Some(()));
    }

    #[test]
    fn a_file_is_read_in_parts_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(2 * PART_BYTES + 7).collect();
        fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        let (all, half) = (bytes.len() as u64, PART_BYTES as u64 / 2);
        for (mut parts, expected) in [
            (FileParts::all(&file), all),
            (FileParts::first(&file, all), all),
            (FileParts::first(&file, half), half),
            (FileParts::first(&file, 0), 0),
        ] {
            let mut read = Vec::new();
            while let Some((offset, part)) = parts.next().unwrap() {
                assert_eq!(offset, read.len() as u64);
                read.extend_from_slice(part);
            }
            assert!(read.len() as u64 == expected && bytes.starts_with(&read));
        }
        let mut beyond = FileParts::first(&file, all + 1);
        let error = std::iter::repeat_with(|| beyond.next().map(drop)).find_map(Result::err).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
