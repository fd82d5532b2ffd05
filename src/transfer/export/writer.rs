//! [`Writer`]: an archive or a directory that is being written. It gets its name when it is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::ExportError;
use crate::content::blobs::FilePart;
use crate::kit::file::{FileParts, LockedFile, PathError, if_exists};
use crate::oci::{Digest, Hasher};

/// Images may be private.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// The ending of the name until the output is complete.
const UNFINISHED: &str = "unfinished";

/// The output of an export. Dropping it before [`Writer::finish`] removes it.
#[derive(Debug)]
pub(super) struct Writer {
    target: PathBuf,
    unfinished: PathBuf,
    kind: Kind,
    is_done: bool,
    /// Locked, which shows that the export runs.
    _lock: LockedFile,
}

enum Kind {
    Archive(Box<tar::Builder<BufWriter<File>>>),
    Directory,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Archive(_) => "Archive",
            Self::Directory => "Directory",
        })
    }
}

impl Writer {
    pub(super) fn create(target: &Path) -> Result<Self, ExportError> {
        if target.symlink_metadata().is_ok() {
            return Err(ExportError::Exists { path: target.to_owned() });
        }
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".{UNFINISHED}"));
        let unfinished = PathBuf::from(name);
        let created = || PathError::at("create", &unfinished);
        remove_old(&unfinished)?;
        let (kind, lock) = if target.extension().is_some_and(|extension| extension == "tar") {
            let file = File::options().write(true).create_new(true).mode(FILE_MODE).open(&unfinished);
            let file = file.map_err(created())?;
            let lock = file.try_clone().map_err(created())?;
            (Kind::Archive(Box::new(tar::Builder::new(BufWriter::with_capacity(1 << 20, file)))), lock)
        } else {
            fs::DirBuilder::new().mode(DIRECTORY_MODE).create(&unfinished).map_err(created())?;
            (Kind::Directory, File::open(&unfinished).map_err(created())?)
        };
        let lock = locked(lock, &unfinished)?;
        Ok(Self { target: target.to_owned(), unfinished, kind, is_done: false, _lock: lock })
    }

    /// Adds a file with these bytes.
    pub(super) fn add_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        self.add(name, bytes.len() as u64, bytes)
    }

    /// Adds a file with the bytes of a blob, and verifies them.
    pub(super) fn add_part(&mut self, name: &str, part: &FilePart, digest: Digest) -> Result<(), ExportError> {
        let mut reader =
            Hashing { parts: part.parts(), rest: Vec::new(), at: 0, hasher: Hasher::new(digest.algorithm()) };
        self.add(name, part.size(), &mut reader)?;
        if reader.hasher.finish() == digest { Ok(()) } else { Err(ExportError::Damaged { digest }) }
    }

    fn add(&mut self, name: &str, size: u64, mut bytes: impl Read) -> Result<(), ExportError> {
        let written = match &mut self.kind {
            Kind::Archive(builder) => {
                let mut header = tar::Header::new_gnu();
                header.set_size(size);
                header.set_mode(0o644);
                header.set_mtime(0);
                builder.append_data(&mut header, name, bytes)
            }
            Kind::Directory => write_file(&self.unfinished.join(name), &mut bytes),
        };
        written.map_err(PathError::at("write", &self.unfinished))?;
        Ok(())
    }

    /// Makes the output durable, and gives it its name.
    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        let failed = || PathError::at("write", &self.unfinished);
        if let Kind::Archive(builder) = &mut self.kind {
            builder.finish().and_then(|()| builder.get_mut().flush()).map_err(failed())?;
            builder.get_ref().get_ref().sync_all().map_err(failed())?;
        }
        fs::rename(&self.unfinished, &self.target).map_err(PathError::at("rename", &self.unfinished))?;
        let parent = self.target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|directory| directory.sync_all()).map_err(PathError::at("sync", parent))?;
        self.is_done = true;
        Ok(())
    }
}

/// Removes the output of an export that was interrupted. Refuses one that is being written, and what is no such output.
fn remove_old(unfinished: &Path) -> Result<(), ExportError> {
    let failed = || PathError::at("remove", unfinished);
    let Some(metadata) = if_exists(unfinished.symlink_metadata()).map_err(failed())? else { return Ok(()) };
    let occupied = || ExportError::Exists { path: unfinished.to_owned() };
    if metadata.is_file() {
        let file = File::options().write(true).open(unfinished).map_err(failed())?;
        let _lock = locked(file, unfinished)?;
        return Ok(fs::remove_file(unfinished).map_err(failed())?);
    }
    if !metadata.is_dir() {
        return Err(occupied());
    }
    let directory = File::open(unfinished).map_err(failed())?;
    let _lock = locked(directory, unfinished)?;
    for entry in fs::read_dir(unfinished).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        if !name.to_str().is_some_and(|name| ["oci-layout", "index.json", "blobs"].contains(&name)) {
            return Err(occupied());
        }
    }
    Ok(fs::remove_dir_all(unfinished).map_err(failed())?)
}

/// Locks an output. Fails if another export writes to it.
fn locked(output: File, path: &Path) -> Result<LockedFile, ExportError> {
    let locked = LockedFile::exclusive(output).map_err(PathError::at("lock", path))?;
    locked.ok_or_else(|| ExportError::Busy { path: path.to_owned() })
}

/// Writes a file of a layout.
fn write_file(path: &Path, bytes: &mut impl Read) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(parent)?;
    }
    let mut file = File::options().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    io::copy(bytes, &mut file)?;
    file.sync_all()
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        // If that fails, the name says that the output is unfinished.
        let _ = match self.kind {
            Kind::Archive(_) => fs::remove_file(&self.unfinished),
            Kind::Directory => fs::remove_dir_all(&self.unfinished),
        };
    }
}

/// Hashes what is read from it.
struct Hashing<'a> {
    parts: FileParts<'a>,
    rest: Vec<u8>,
    at: usize,
    hasher: Hasher,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.rest.len() {
            self.rest.clear();
            self.at = 0;
            if let Some((_, part)) = self.parts.next()? {
                self.hasher.update(part);
                self.rest.extend_from_slice(part);
            }
        }
        let count = buffer.len().min(self.rest.len() - self.at);
        buffer[..count].copy_from_slice(&self.rest[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
