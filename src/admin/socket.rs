//! The socket for commands: created and reached by a path of any length, and what is sent through it.
//!
//! A command may send an open directory. The registry then works in exactly that directory, even if it runs in another
//! mount namespace (a container, or `PrivateTmp` of systemd) where the path leads elsewhere.

use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use crate::content::blobs::{Tree, give_to_owner_of_parent};
use crate::kit::file::if_exists;

/// The most open directories and files of a command: the one it works in, and one that it has read.
const HANDLES_MAX: usize = 2;
/// The longest path that the system calls for sockets take directly, in bytes: 104 on BSD and macOS, 108 on Linux.
const PATH_BYTES_MAX: usize = 100;

/// Creates the socket of a data directory, and replaces one that a crash has left. The caller must hold the lock of the
/// database, so that the replaced socket cannot be in use.
pub(crate) fn bind(tree: &Tree) -> io::Result<UnixListener> {
    let path = tree.admin_socket();
    if_exists(std::fs::remove_file(&path))?;
    let listener = by_short_path(&path, |path| UnixListener::bind(path))?;
    rustix::fs::chmod(&path, Mode::RUSR | Mode::WUSR)?;
    give_to_owner_of_parent(&path);
    Ok(listener)
}

/// Connects to the registry that runs on a data directory.
pub(crate) fn connect(root: &Path) -> io::Result<UnixStream> {
    by_short_path(&Tree::new(root).admin_socket(), |path| UnixStream::connect(path))
}

/// Calls `work` with a path to the socket that is short enough for the system.
pub(crate) fn by_short_path<T>(path: &Path, work: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return work(path) };
    if path.as_os_str().len() < PATH_BYTES_MAX {
        return work(path);
    }
    #[cfg(target_os = "linux")]
    {
        let open = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let short = through(&open);
        if short.exists() {
            return work(&short.join(name));
        }
    }
    // Without procfs: a link in a private temporary directory.
    let temporary = tempfile::tempdir()?;
    let link = temporary.path().join("d");
    std::os::unix::fs::symlink(std::path::absolute(directory)?, &link)?;
    work(&link.join(name))
}

/// A path to an open directory that works in every mount namespace.
pub(super) fn through(directory: &impl AsFd) -> std::path::PathBuf {
    format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()).into()
}

/// Sends a line, and open directories and files if there are any.
pub(crate) fn send(mut stream: &UnixStream, line: &[u8], handles: &[BorrowedFd<'_>]) -> io::Result<()> {
    if handles.is_empty() {
        return stream.write_all(line);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDLES_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(handles)) {
        return Err(io::Error::other("too many open files for one command"));
    }
    let sent = sendmsg(stream, &[IoSlice::new(line)], &mut ancillary, SendFlags::empty())?;
    stream.write_all(&line[sent..])
}

/// Receives some bytes, and the open directories and files that were sent with them.
pub(crate) fn receive(stream: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDLES_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    #[cfg(target_os = "linux")]
    let flags = RecvFlags::CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = RecvFlags::empty();
    let received = recvmsg(stream, &mut [IoSliceMut::new(bytes)], &mut ancillary, flags)?;
    let handed = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(handles) => Some(handles),
        _ => None,
    });
    Ok((received.bytes, handed.flatten().collect()))
}

/// Opens a directory for sending.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_socket_is_bound_and_reached_by_a_path_of_any_length() {
        for length in [1, 60, 120, 200] {
            let top = tempfile::tempdir().unwrap();
            let root = top.path().join("d".repeat(length)).join("e".repeat(length));
            std::fs::create_dir_all(&root).unwrap();
            let listener = bind(&Tree::new(&root)).unwrap();
            drop(listener);
            // A socket that a crash has left is replaced.
            let listener = bind(&Tree::new(&root)).unwrap();
            send(&connect(&root).unwrap(), b"hello\n", &[]).unwrap();
            let mut text = String::new();
            listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello\n");
        }
    }

    #[test]
    fn a_directory_is_handed_over_with_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        let open = open_directory(directory.path()).unwrap();
        send(&one, b"line\n", &[open.as_fd(), open.as_fd()]).unwrap();
        let mut bytes = [0; 16];
        let (count, handed) = receive(&other, &mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"line\n");
        let known = rustix::fs::fstat(&open).unwrap();
        assert_eq!(handed.len(), 2);
        for handed in handed {
            let handed = rustix::fs::fstat(handed).unwrap();
            assert_eq!((handed.st_dev, handed.st_ino), (known.st_dev, known.st_ino));
        }
        drop(one);
        assert_eq!(receive(&other, &mut bytes).unwrap().0, 0);
    }
}
