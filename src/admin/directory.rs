//! A directory that a command line opens and a running registry works in.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::socket::{open_directory, through};
use crate::content::blobs::Owner;
use crate::content::repository::BackupError;
use crate::kit::file::FileId;

/// A directory that a command line hands to a running registry. Dropping it removes the directories that it created,
/// unless they are kept or no longer empty.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) handle: OwnedFd,
    /// The created directories, from the top down.
    made: Vec<PathBuf>,
}

impl Offered {
    /// Opens a directory. If it is missing, creates it for the owner of the data directory `root`.
    pub(crate) fn open(path: &Path, root: &Path) -> Result<Self, String> {
        let failed = |operation: &str, error: io::Error| format!("cannot {operation} {}: {error}", path.display());
        let mut made = Vec::new();
        if !path.try_exists().map_err(|error| failed("look at", error))? {
            make(path, Owner::to_inherit(root), &mut made).map_err(|error| failed("create", error))?;
        }
        let handle = open_directory(path).map_err(|error| failed("open", error))?;
        Ok(Self { handle, made })
    }

    /// Keeps the created directories.
    pub(crate) fn keep(mut self) {
        self.made.clear();
    }
}

/// Creates a directory and its missing parents.
fn make(path: &Path, owner: Option<Owner>, made: &mut Vec<PathBuf>) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
        make(parent, owner, made)?;
    }
    fs::DirBuilder::new().mode(0o700).create(path)?;
    made.push(path.to_owned());
    if let Some(owner) = owner {
        owner.take(path);
    }
    Ok(())
}

impl Drop for Offered {
    fn drop(&mut self) {
        for path in self.made.drain(..).rev() {
            // Fails, as intended, if the directory is not empty.
            let _ = fs::remove_dir(path);
        }
    }
}

/// A directory that another process has opened, and that this process may know by another path.
#[derive(Debug)]
pub(crate) struct Handed {
    _handle: fs::File,
    via: PathBuf,
    /// Its path in the other process.
    known: PathBuf,
}

impl Handed {
    /// Finds a path by which this process reaches the directory, which the other process calls `path`.
    pub(crate) fn reach(handle: OwnedFd, path: &Path) -> Result<Self, String> {
        let handle = fs::File::from(handle);
        let known = handle.metadata().map_err(|error| format!("{}: {error}", path.display()))?;
        let id = FileId::from(&known);
        let leads_there =
            |via: &PathBuf| fs::metadata(via).is_ok_and(|found| found.is_dir() && FileId::from(&found) == id);
        let via = [through(&handle), path.to_owned()].into_iter().find(leads_there).ok_or_else(|| {
            format!(
                "the running registry cannot reach the directory {}, because it runs in a container or another mount \
                 namespace: stop the registry and run the command again",
                path.display()
            )
        })?;
        Ok(Self { _handle: handle, via, known: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.via
    }

    /// The path by which this process reaches a file in the directory, which the other process calls `path`.
    pub(crate) fn reached(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.known) {
            Ok(below) if below.as_os_str().is_empty() => self.via.clone(),
            Ok(below) => self.via.join(below),
            Err(_) => path.to_owned(),
        }
    }

    /// A message, with the paths that the other process knows.
    pub(crate) fn named(&self, message: &str) -> String {
        message.replace(&*self.via.to_string_lossy(), &self.known.to_string_lossy())
    }

    /// The message of an error, with the path that the other process knows.
    pub(crate) fn translate(&self, error: &BackupError, path: &Path) -> String {
        let message = self.named(&error.to_string());
        if error.io().is_none_or(|source| source.kind() != io::ErrorKind::PermissionDenied) {
            return message;
        }
        let user = rustix::process::geteuid().as_raw();
        format!(
            "{message}: the registry runs as the user with the ID {user}, who may not write there: name a directory \
             that does not exist, or run `chown {user} {}`",
            path.display()
        )
    }
}
