//! [`Disk`]: every file operation that changes something durable.
//!
//! Crash and fault tests implement it to record operations, to fail them, or to lose their effect. All changes to files
//! go through it, those of the database included. Reads do not.

use std::fmt;
use std::fs::{self, File};
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, lchown};
use std::path::Path;

use bytes::Bytes;

/// Only the registry's own user may read its files.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The maximum number of parts in one call (`IOV_MAX`).
#[cfg(target_os = "linux")]
const PARTS_MAX: usize = 1024;

/// The operations by which the registry changes files.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// Makes a directory, if it does not exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes an empty file. Fails if it exists.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Writes parts one after the other, the first at `offset`.
    fn write_parts_at(&self, file: &File, path: &Path, parts: &[Bytes], mut offset: u64) -> io::Result<()> {
        for part in parts {
            self.write_at(file, path, part, offset)?;
            offset += part.len() as u64;
        }
        Ok(())
    }
    /// Preallocates space for a part of a file, whose length stays the same. Failure is ignored: writing costs more
    /// then.
    fn reserve(&self, _file: &File, _offset: u64, _length: u64) {}
    /// Starts writing a part of a file to the disk, so that a later sync is short. The part stays in the page cache,
    /// for the next client that pulls it. Failure is ignored.
    fn begin_writing_back(&self, _file: &File, _offset: u64, _length: u64) {}
    /// Truncates a file to `length` bytes.
    fn truncate(&self, file: &File, path: &Path, length: u64) -> io::Result<()>;
    /// Makes a file's bytes and length durable.
    fn sync(&self, file: &File, path: &Path) -> io::Result<()>;
    /// Renames a file atomically. Replaces a file that has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a hard link. Fails if the new name exists.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }
    /// Makes an empty file share the bytes of another one (a reflink), if the file system can.
    fn share(&self, from: &File, to: &File, _path: &Path) -> io::Result<()> {
        share(from, to)
    }
}

#[cfg(target_os = "linux")]
fn share(from: &File, to: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

#[cfg(not(target_os = "linux"))]
fn share(_from: &File, _to: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The file system of the operating system.
#[derive(Debug)]
pub(crate) struct SystemDisk;

impl Disk for SystemDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
            Ok(()) => {
                give_to_owner_of_parent(path);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory) => {
                Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is not a directory", path.display())))
            }
            result => result,
        }
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let file = File::options().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)?;
        give_to_owner_of_parent(path);
        Ok(file)
    }

    fn write_at(&self, file: &File, _path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    #[cfg(target_os = "linux")]
    fn write_parts_at(&self, file: &File, path: &Path, parts: &[Bytes], mut offset: u64) -> io::Result<()> {
        // One call for as many parts as possible. Then one call for each part that it did not write.
        let slices: Vec<_> = parts.iter().take(PARTS_MAX).map(|part| io::IoSlice::new(part)).collect();
        let mut written = match rustix::io::pwritev(file, &slices, offset) {
            Err(rustix::io::Errno::INTR) => 0,
            written => written?,
        };
        for part in parts {
            let done = written.min(part.len());
            written -= done;
            offset += done as u64;
            if done < part.len() {
                self.write_at(file, path, &part[done..], offset)?;
                offset += (part.len() - done) as u64;
            }
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn reserve(&self, file: &File, offset: u64, length: u64) {
        let _ = rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, offset, length);
    }

    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "rustix has no sync_file_range")]
    fn begin_writing_back(&self, file: &File, offset: u64, length: u64) {
        let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) else { return };
        // SAFETY: the call takes numbers, and a descriptor that is open while `file` is borrowed.
        unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    }

    fn truncate(&self, file: &File, _path: &Path, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sync(&self, file: &File, _path: &Path) -> io::Result<()> {
        // Syncing the times of the file would need another write.
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// The user and the group that own a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(super) user: u32,
    group: u32,
}

impl Owner {
    /// The owner of `path`, for files that this process makes in it. `None` if this process is not root, because it
    /// cannot change owners then.
    pub(crate) fn to_inherit(path: &Path) -> Option<Self> {
        let metadata = rustix::process::geteuid().is_root().then(|| fs::metadata(path).ok()).flatten()?;
        Some(Self { user: metadata.uid(), group: metadata.gid() })
    }

    /// Makes this the owner of a file or a directory that this process has made. Fails silently on a file system
    /// without owners, or one where root has no special rights.
    pub(crate) fn take(self, path: &Path) {
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if (user, group) == (self.user, self.group) {
            return;
        }
        if let Err(error) = lchown(path, Some(self.user), Some(self.group)) {
            tracing::warn!(path = %path.display(), user = self.user, %error, "cannot set the owner");
        }
    }
}

/// Gives a file that root has made to the owner of its directory. Otherwise a command run by root would leave files
/// that the registry cannot open.
pub(crate) fn give_to_owner_of_parent(path: &Path) {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Some(owner) = Owner::to_inherit(parent) {
        owner.take(path);
    }
}

/// Makes a directory and its missing parents, with durable names.
pub(crate) fn create_dir_all(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_dir_all(disk, parent)?;
        disk.create_dir(path)?;
        return disk.sync_dir(parent);
    }
    disk.create_dir(path)
}
