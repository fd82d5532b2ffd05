//! [`AppendFile`]: a log file, which may be rotated at any time.
//!
//! A file that was moved or removed is created again before the next line, without a signal. A file that was truncated
//! continues at its new end.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::Access;

use super::file::FileId;

/// A file that lines are appended to.
#[derive(Debug)]
pub(crate) struct AppendFile {
    path: PathBuf,
    mode: u32,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    id: FileId,
    /// Whether the last line is incomplete, because the disk became full.
    torn: bool,
    /// Whether the last attempt to open the file again failed.
    failed: bool,
}

impl AppendFile {
    /// Opens the file. If it does not exist, creates it with these permissions.
    pub(crate) fn open(path: &Path, mode: u32) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), mode, open: Mutex::new(Open::at(path, mode)?) })
    }

    /// Fails if [`AppendFile::open`] would. Creates no file.
    pub(crate) fn check(path: &Path) -> io::Result<()> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        match std::fs::metadata(path) {
            // Opening a pipe waits for its reader.
            Ok(metadata) if metadata.is_file() || metadata.is_dir() => {
                File::options().append(true).open(path).map(drop)
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && std::fs::metadata(directory)?.is_dir() => {
                Ok(rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file again if it is no longer at its path.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let mut open = self.lock();
        open.failed = false;
        open.follow(&self.path, self.mode)
    }

    /// Appends a line, or several with line breaks between them. The last has none. While the file cannot be opened
    /// again, lines are written to the moved file, and only the first error is returned.
    pub(crate) fn append(&self, line: &[u8]) -> io::Result<()> {
        self.append_whole(line).1
    }

    /// Appends lines as [`append`](Self::append) does. Also returns the number of bytes of the lines that are whole in
    /// the file, with their line breaks. There may be some, or all, though there is an error.
    pub(crate) fn append_whole(&self, lines: &[u8]) -> (usize, io::Result<()>) {
        let mut open = self.lock();
        let followed = open.follow(&self.path, self.mode);
        let (whole, appended) = open.append(lines);
        (whole, appended.and(followed))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }
}

impl Open {
    fn at(path: &Path, mode: u32) -> io::Result<Self> {
        let file = File::options().append(true).create(true).mode(mode).open(path)?;
        let id = FileId::from(&file.metadata()?);
        Ok(Self { file, id, torn: false, failed: false })
    }

    /// Opens the file again if its path has another file or no file.
    fn follow(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        if FileId::at(path).ok() == Some(self.id) {
            return Ok(());
        }
        match Self::at(path, mode) {
            Ok(open) => *self = open,
            Err(error) if !self.failed => {
                self.failed = true;
                return Err(error);
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn append(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        // A file with an incomplete line may have been truncated since.
        let is_torn = self.torn && !self.file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        let before: &[u8] = if is_torn { b"\n" } else { b"" };
        let all = [before, lines, b"\n"].concat();
        let mut rest = all.as_slice();
        let mut appended = Ok(());
        while !rest.is_empty() && appended.is_ok() {
            match self.file.write(rest) {
                Ok(0) => appended = Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => appended = Err(error),
            }
        }
        let written = &all[..all.len() - rest.len()];
        if let Some(last) = written.last() {
            self.torn = *last != b'\n';
        }
        let whole = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |last_break| last_break + 1);
        (whole.saturating_sub(before.len()), appended)
    }
}

#[cfg(test)]
impl AppendFile {
    /// A file that becomes full like a disk. It takes lines as far as the receiver of the socket has room.
    pub(crate) fn test(socket: std::os::unix::net::UnixStream) -> Self {
        socket.set_nonblocking(true).expect("a socket");
        let path = PathBuf::from("/dev/null");
        let id = FileId::at(&path).expect("every system has it");
        let file = File::from(std::os::fd::OwnedFd::from(socket));
        Self { path, mode: 0, open: Mutex::new(Open { file, id, torn: false, failed: false }) }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn an_incomplete_line_does_not_damage_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit");
        fs::write(&path, "{\"cut\":").unwrap();
        let mut open = Open { torn: true, ..Open::at(&path, 0o600).unwrap() };
        for line in [b"{\"whole\":1}", b"{\"whole\":2}"] {
            let (whole, appended) = open.append(line);
            appended.unwrap();
            assert_eq!(whole, line.len() + 1);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"cut\":\n{\"whole\":1}\n{\"whole\":2}\n");
    }

    #[test]
    fn a_moved_removed_or_truncated_file_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let file = AppendFile::open(&path, 0o644).unwrap();
        file.append(b"first").unwrap();
        fs::rename(&path, &moved).unwrap();
        file.append(b"second").unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "first\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "second\n");
        fs::remove_file(&path).unwrap();
        file.reopen().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        file.append(b"third").unwrap();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        file.append(b"fourth").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "fourth\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_again_loses_no_line_and_fails_once() {
        let directory = tempfile::tempdir().unwrap();
        let (place, moved) = (directory.path().join("logs"), directory.path().join("moved"));
        fs::create_dir(&place).unwrap();
        let file = AppendFile::open(&place.join("log"), 0o644).unwrap();
        fs::rename(&place, &moved).unwrap();
        let (whole, appended) = file.append_whole(b"first");
        assert!(whole == 6 && appended.is_err());
        file.append(b"second").unwrap();
        assert_eq!(fs::read_to_string(moved.join("log")).unwrap(), "first\nsecond\n");
        fs::create_dir(&place).unwrap();
        file.append(b"third").unwrap();
        assert_eq!(fs::read_to_string(place.join("log")).unwrap(), "third\n");
    }

    #[test]
    fn lines_that_are_whole_in_a_full_file_are_counted() {
        let (socket, mut receiver) = UnixStream::pair().unwrap();
        let file = AppendFile::test(socket);
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let lines = line.repeat(16_000);
        let (whole, appended) = file.append_whole(lines.strip_suffix(b"\n").unwrap());
        assert!(appended.is_err());
        assert!(whole > 0 && whole < lines.len() && whole.is_multiple_of(line.len()), "{whole} bytes");
        let (none, appended) = file.append_whole(b"next");
        assert!(none == 0 && appended.is_err());
        let torn = file.lock().torn;
        drop(file);
        let mut bytes = Vec::new();
        receiver.read_to_end(&mut bytes).unwrap();
        assert!(bytes.len() >= whole && bytes.len() < whole + line.len(), "{} bytes", bytes.len());
        assert_eq!(torn, bytes.len() > whole);
    }
}
