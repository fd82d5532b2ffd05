//! [`Source`]: files that hold images.

mod archive;
mod bolt;
mod distribution;
mod docker;
mod layout;
mod scratch;
mod zot;

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Problem;
use crate::content::blobs::FilePart;
use crate::kit::file::{PathError, if_exists};
use crate::oci::Digest;
use crate::oci::layout::InvalidLayout;
use archive::Archive;
use distribution::Distribution;
use layout::{Layout, Layouts};
pub(crate) use scratch::Scratch;
pub(crate) use zot::{SourceKey, SourceUser};

/// The longest list of images in a layout or an archive.
const INDEX_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The path of a store below the directory that docker's registry is given.
const DISTRIBUTION: [&str; 3] = ["docker/registry/v2", "registry/v2", "."];

/// Files that hold images, and how they are read.
#[derive(Debug)]
pub(crate) enum Source {
    /// An image layout, in a directory or an archive.
    Layout(Layout),
    /// A directory of layouts: the store of zot.
    Layouts(Layouts),
    /// The store of docker's registry (distribution).
    Distribution(Distribution),
}

/// The manifests and blobs of a source, by digest.
pub(crate) trait Content: fmt::Debug + Send + Sync {
    /// The bytes with this digest, not verified. `None` if the source lacks them.
    fn part(&self, digest: Digest) -> io::Result<Option<FilePart>>;

    /// The digests of all bytes, if they can be listed.
    fn digests(&self, _: &mut dyn FnMut(Problem)) -> io::Result<Vec<Digest>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A manifest to import, with the name it has in the source.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(crate) content: Arc<dyn Content>,
    /// `None` if the source does not name it.
    pub(crate) repository: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Digest,
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repository = self.repository.as_deref().unwrap_or_default();
        match &self.tag {
            Some(tag) => write!(f, "{repository}:{tag}"),
            None => write!(f, "{repository}@{}", self.digest),
        }
    }
}

/// An entry in the list of a source.
#[derive(Debug)]
pub(crate) enum Item {
    Root(Root),
    Problem(Problem),
}

type Visit<'a> = dyn FnMut(Item) -> ControlFlow<()> + 'a;

/// Why files cannot be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Io(#[from] PathError),
    #[error("{}: {invalid}", path.display())]
    Layout { path: PathBuf, invalid: InvalidLayout },
    #[error("{}: {why}", path.display())]
    Archive { path: PathBuf, why: String },
    #[error("{problem}")]
    Unreadable { problem: Problem },
    #[error("{} is neither a directory nor a regular file", path.display())]
    NotRegular { path: PathBuf },
    #[error(
        "{} is neither an image layout, an archive of images, nor the data of docker's registry or zot",
        path.display()
    )]
    Unknown { path: PathBuf },
    #[error(
        "{} is a data directory of coracle: make a backup of it (`coracle backup`), and restore that", path.display()
    )]
    Own { path: PathBuf },
}

impl SourceError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| PathError::at(operation, path)(source).into()
    }

    fn archive(path: &Path, why: impl fmt::Display) -> Self {
        Self::Archive { path: path.to_owned(), why: why.to_string() }
    }
}

impl Source {
    /// Recognises and opens a source. Layers that must be compressed go to files in `scratch`, until the source is dropped.
    pub(crate) fn open(path: &Path, scratch: &Scratch) -> Result<Self, SourceError> {
        let metadata = path.metadata().map_err(SourceError::io("open", path))?;
        if !metadata.is_dir() {
            return Archive::open(path, scratch)?.into_layout(scratch).map(Self::Layout);
        }
        if path.join("coracle.redb").exists() {
            return Err(SourceError::Own { path: path.to_owned() });
        }
        if Layout::is_at(path) {
            return Layout::open(path, None).map(Self::Layout);
        }
        for below in DISTRIBUTION {
            let store = path.join(below);
            if Distribution::is_at(&store) {
                return Ok(Self::Distribution(Distribution::new(&store)));
            }
        }
        // A directory that cannot be read is no empty source.
        path.read_dir().map_err(SourceError::io("list", path))?;
        let layouts = Layouts::find(path);
        if layouts.is_empty() {
            Err(SourceError::Unknown { path: path.to_owned() })
        } else {
            Ok(Self::Layouts(layouts))
        }
    }

    /// Whether the source is the store of a registry, where an index may list manifests that were deleted.
    pub(crate) const fn is_store(&self) -> bool {
        matches!(self, Self::Layouts(_) | Self::Distribution(_))
    }

    /// The digests of all manifests and blobs of an earlier export.
    pub(crate) fn digests(&self) -> Result<Vec<Digest>, SourceError> {
        match self {
            Self::Layout(layout) => {
                let mut first = None;
                let digests = layout.digests(&mut |problem| {
                    first.get_or_insert(problem);
                })?;
                first.map_or(Ok(digests), |problem| Err(SourceError::Unreadable { problem }))
            }
            Self::Layouts(_) | Self::Distribution(_) => {
                Err(SourceError::io("list the blobs of", Path::new("the store"))(io::ErrorKind::Unsupported.into()))
            }
        }
    }

    /// The API keys, stars and bookmarks of users, if the source has any. Reports what cannot be read.
    pub(crate) fn users(&self, report: &mut dyn FnMut(Problem)) -> Vec<SourceUser> {
        match self {
            Self::Layouts(layouts) => zot::users(layouts.root(), report),
            Self::Layout(_) | Self::Distribution(_) => Vec::new(),
        }
    }

    /// Lists the manifests, in an order that does not change, until `visit` breaks.
    pub(crate) fn each(&self, visit: &mut Visit<'_>) -> Result<(), SourceError> {
        match self {
            Self::Layout(layout) => layout.each(visit),
            Self::Layouts(layouts) => {
                layouts.each(visit);
                Ok(())
            }
            Self::Distribution(store) => {
                store.each(visit);
                Ok(())
            }
        }
    }
}

/// The file at a path. `None` if there is nothing. Fails if there is something else, such as a pipe.
fn file_part(path: &Path) -> io::Result<Option<FilePart>> {
    match FilePart::whole(path)? {
        Some(part) => Ok(Some(part)),
        None => no_part(path),
    }
}

/// `None` if there is nothing at a path where no file can be opened. Fails if there is something else.
fn no_part(path: &Path) -> io::Result<Option<FilePart>> {
    let found = other_kind(path)?;
    found.map_or(Ok(None), |kind| Err(io::Error::other(format!("it is {kind}, not a file"))))
}

/// The kind of what is at a path where no file can be opened. `None` if there is nothing.
fn other_kind(path: &Path) -> io::Result<Option<&'static str>> {
    let Some(own) = if_exists(path.symlink_metadata())? else { return Ok(None) };
    let found = if own.is_symlink() { if_exists(path.metadata())? } else { Some(own) };
    Ok(Some(match found.map(|metadata| metadata.file_type()) {
        None => "a symbolic link that leads nowhere",
        Some(kind) if kind.is_dir() => "a directory",
        Some(kind) if kind.is_fifo() => "a pipe",
        Some(kind) if kind.is_socket() => "a socket",
        Some(_) => "a device",
    }))
}

/// The names in a directory, sorted, with whether each is a directory. Empty if the directory does not exist. Reports what
/// cannot be read, and directories that are reached by a symbolic link: they may lead anywhere.
fn entries(directory: &Path, report: &mut dyn FnMut(Problem)) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let read = match if_exists(std::fs::read_dir(directory)) {
        Ok(read) => read,
        Err(error) => {
            report(Problem::new(directory.display(), format!("cannot be listed: {error}")));
            None
        }
    };
    for entry in read.into_iter().flatten() {
        let (name, kind) = match entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?))) {
            Ok(entry) => entry,
            Err(error) => {
                report(Problem::new(directory.display(), format!("cannot be listed: {error}")));
                continue;
            }
        };
        let path = directory.join(&name);
        let Ok(name) = name.into_string() else {
            report(Problem::new(path.display(), "the name is not UTF-8"));
            continue;
        };
        if kind.is_symlink() && path.is_dir() {
            report(Problem::new(path.display(), "a symbolic link to a directory is not followed"));
            continue;
        }
        found.push((name, kind.is_dir()));
    }
    found.sort_unstable();
    found
}
