//! Small operations on files: missing files, locks, their identity and state, and reading in parts.

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Read as _};
use std::ops::Deref;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use thiserror::Error;

/// How much of a file is read at once, in bytes.
const PART_BYTES: usize = 256 * 1024;

/// How to make a file system writable again.
pub(crate) const MAKE_WRITABLE: &str =
    "mount the file system writable (`mount -o remount,rw`), and look for errors of the disk with `dmesg`";

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

/// Whether an error of this kind says that the disk is full, or that a quota of the file system is used up.
pub(crate) const fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A file that is locked until it is dropped, unless its file system has no locks.
///
/// Dropping it unlocks it explicitly. Closing it is not enough: a child process has copies of all file descriptors between
/// its fork and its exec, and the lock would last until then.
#[derive(Debug)]
pub(crate) struct LockedFile(File);

impl LockedFile {
    /// Locks a file for itself. `None` if it is locked already.
    pub(crate) fn exclusive(file: File) -> io::Result<Option<Self>> {
        Self::locked(file.try_lock(), file)
    }

    /// Locks a file together with others who only read it. `None` if it is locked exclusively.
    pub(crate) fn shared(file: File) -> io::Result<Option<Self>> {
        Self::locked(file.try_lock_shared(), file)
    }

    fn locked(result: Result<(), TryLockError>, file: File) -> io::Result<Option<Self>> {
        match result {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(Some(Self(file))),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // It fails only where there are no locks.
        let _ = self.0.unlock();
    }
}

/// Opens a regular file for reading. `None` if the path does not lead to a regular file. Never waits for the writer of
/// a pipe, and never opens a device.
pub(crate) fn open_regular(path: &Path) -> io::Result<Option<File>> {
    let is_regular = if_exists(fs::metadata(path))?.is_some_and(|metadata| metadata.is_file());
    if !is_regular {
        return Ok(None);
    }
    // A pipe may have replaced the file meanwhile.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from);
    let Some(file) = if_exists(opened)?.map(File::from) else { return Ok(None) };
    let is_regular = file.metadata()?.is_file();
    Ok(is_regular.then_some(file))
}

/// Opens a regular file. The error says why it cannot. Opening a pipe or a device could wait forever.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    fs::metadata(path)?;
    open_regular(path)?.ok_or_else(|| io::Error::other("it is not a file"))
}

/// Reads a file that has at most this many bytes. `None` if it is larger.
pub(crate) fn read_small(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    open_file(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}

/// Reads a text file that has at most this many bytes, such as one with a secret. Errors contain nothing of the text.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let too_large = || io::Error::other(format!("it is larger than {bytes_max} bytes"));
    let text = read_small(path, bytes_max)?.ok_or_else(too_large)?;
    String::from_utf8(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
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

/// Reads a file, or a section of it, in parts, so that memory does not depend on its size.
pub(crate) struct FileParts<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    /// The offset of the next part.
    offset: u64,
    /// Where to stop; `None` for the end of the file.
    end: Option<u64>,
}

impl<'a> FileParts<'a> {
    /// Reads the whole file.
    pub(crate) fn all(file: &'a File) -> Self {
        Self { file, buffer: vec![0; PART_BYTES], offset: 0, end: None }
    }

    /// Reads the first `length` bytes of the file. It is an error if the file is shorter.
    pub(crate) fn first(file: &'a File, length: u64) -> Self {
        Self::section(file, 0, length)
    }

    /// Reads `length` bytes from `offset` on. It is an error if the file is shorter.
    pub(crate) fn section(file: &'a File, offset: u64, length: u64) -> Self {
        Self { offset, end: Some(offset.saturating_add(length)), ..Self::all(file) }
    }

    /// Reads the next part and returns it with its offset; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        let offset = self.offset;
        let left = self.end.map_or(PART_BYTES, |end| usize::try_from(end - offset).unwrap_or(PART_BYTES));
        let wanted = left.min(PART_BYTES);
        let count = self.file.read_at(&mut self.buffer[..wanted], offset)?;
        if count == 0 && wanted > 0 && self.end.is_some() {
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
    fn a_text_is_read_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_text(&path, 8).map_err(|error| error.to_string())
        };
        assert_eq!(read(b"12345678"), Ok("12345678".to_owned()));
        assert_eq!(read(b""), Ok(String::new()));
        assert_eq!(read(b"123456789"), Err("it is larger than 8 bytes".to_owned()));
        // The limit is within the last character.
        assert_eq!(read("1234567\u{20ac}".as_bytes()), Err("it is larger than 8 bytes".to_owned()));
        assert_eq!(read(b"\xff"), Err("it is not UTF-8 text".to_owned()));
        assert_eq!(read_text(directory.path(), 8).unwrap_err().to_string(), "it is not a file");
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
