//! Archives: tar files with an image layout, or as `docker save` writes them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use tar::EntryType;

use super::layout::Layout;
use super::{Content, INDEX_BYTES_MAX, Scratch, SourceError, docker};
use crate::content::blobs::FilePart;
use crate::kit::file::open_regular;
use crate::oci::Digest;
use crate::transfer::Problem;

/// The most files of an archive.
const FILES_MAX: usize = 1_000_000;
/// The most links that are followed to a file.
const LINKS_MAX: usize = 8;
/// The first bytes of files that gzip and zstd have compressed (RFC 1952, 2.3.1; RFC 8878, 3.1.1).
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];
pub(super) const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// An open tar file, and the files in it by path.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    file: Arc<File>,
    files: HashMap<String, Found>,
}

/// A file in an archive.
#[derive(Debug)]
enum Found {
    /// Offset and size.
    Bytes(u64, u64),
    /// The path of another file of the archive. `docker save` links layers that several images have.
    Link(String),
}

impl Archive {
    /// Opens an archive. One that is compressed with gzip is decompressed to a temporary file in `scratch`.
    pub(super) fn open(path: &Path, scratch: &Scratch) -> Result<Self, SourceError> {
        let opened = open_regular(path).map_err(SourceError::io("open", path))?;
        let mut file = opened.ok_or_else(|| SourceError::NotRegular { path: path.to_owned() })?;
        let mut start = [0; 4];
        let length = file.read(&mut start).map_err(SourceError::io("read", path))?;
        file.rewind().map_err(SourceError::io("read", path))?;
        if start == ZSTD {
            return Err(SourceError::archive(path, "decompress the archive first, such as with `zstd --decompress`"));
        }
        if length >= 2 && start[..2] == GZIP {
            let mut plain = scratch.file().map_err(SourceError::io("write to", scratch.path()))?;
            io::copy(&mut MultiGzDecoder::new(file), &mut plain).map_err(SourceError::io("decompress", path))?;
            file = plain.into_file();
            file.rewind().map_err(SourceError::io("read", path))?;
        }
        let file = Arc::new(file);
        let files = index(&file).map_err(|error| SourceError::archive(path, error))?;
        Ok(Self { path: path.to_owned(), file, files })
    }

    /// The bytes of a file. `None` if the archive does not have it.
    pub(super) fn part(&self, name: &str) -> Option<FilePart> {
        let mut name = name.to_owned();
        for _ in 0..LINKS_MAX {
            match self.files.get(&name)? {
                Found::Bytes(offset, size) => {
                    return Some(FilePart::section(&self.file, &self.path, *offset, *size));
                }
                Found::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    /// Reads a short file. `None` if the archive does not have it.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let Some(part) = self.part(name) else { return Ok(None) };
        let bytes = part.read(INDEX_BYTES_MAX).map_err(SourceError::io("read", &self.path))?;
        bytes.map(Some).ok_or_else(|| SourceError::archive(&self.path, format!("{name} is too long")))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The images of the archive as a layout.
    pub(super) fn into_layout(self, scratch: &Scratch) -> Result<Layout, SourceError> {
        // An archive of docker has both lists since version 25. The layout keeps all digests.
        if let Some(index) = self.read("index.json")? {
            let path = self.path.join("index.json");
            return Ok(Layout::new(Arc::new(self), index, path));
        }
        if let Some(list) = self.read("manifest.json")? {
            return docker::convert(&self, &list, scratch);
        }
        Err(SourceError::archive(
            &self.path,
            "the archive has neither an index.json nor a manifest.json: it holds no image",
        ))
    }
}

impl Content for Archive {
    fn part(&self, digest: Digest) -> io::Result<Option<FilePart>> {
        Ok(Self::part(self, &format!("blobs/{}/{}", digest.algorithm(), digest.hex())))
    }

    fn digests(&self, _: &mut dyn FnMut(Problem)) -> io::Result<Vec<Digest>> {
        let digest = |name: &String| name.strip_prefix("blobs/")?.replacen('/', ":", 1).parse().ok();
        Ok(self.files.keys().filter_map(digest).collect())
    }
}

/// Finds the files of a tar file.
fn index(file: &Arc<File>) -> io::Result<HashMap<String, Found>> {
    let length = file.metadata()?.len();
    let mut archive = tar::Archive::new(&**file);
    let mut files = HashMap::new();
    let mut last = None;
    for entry in archive.entries_with_seek()? {
        let entry = entry.map_err(|error| unreadable(error, last.as_deref()))?;
        let Some(name) = plain(&entry.path()?) else { continue };
        last = Some(name.clone());
        let found = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                if offset.checked_add(size).is_none_or(|end| end > length) {
                    let why = format!("the archive ends in the middle of {}", name.escape_debug());
                    return Err(io::Error::other(why));
                }
                Found::Bytes(offset, size)
            }
            EntryType::Link | EntryType::Symlink => {
                let Some(target) = entry.link_name()? else { continue };
                // A hard link names a path of the archive, a symbolic link one relative to itself.
                let is_symbolic = entry.header().entry_type() == EntryType::Symlink;
                let from = Path::new(&name).parent().filter(|_| is_symbolic).unwrap_or(Path::new(""));
                let Some(target) = plain(&from.join(target)) else { continue };
                Found::Link(target)
            }
            _ => continue,
        };
        files.insert(name, found);
        if files.len() > FILES_MAX {
            return Err(io::Error::other(format!("the archive has more than {FILES_MAX} files")));
        }
    }
    if files.is_empty() {
        return Err(io::Error::other("the file is not a tar archive"));
    }
    Ok(files)
}

/// The error of an entry that cannot be read, after the last one that could be. The words of the parser are left out: they
/// quote the bytes of the file.
fn unreadable(error: io::Error, last: Option<&str>) -> io::Error {
    match (error.raw_os_error(), last) {
        (Some(_), _) => error,
        (None, None) => io::Error::other("the file is not a tar archive"),
        (None, Some(name)) => io::Error::other(format!("the archive is damaged after {}", name.escape_debug())),
    }
}

/// A path without `.` and `..`. `None` for a path that leaves the archive.
fn plain(path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn no_path_leaves_the_archive() {
        for (path, expected) in [
            ("a/b", Some("a/b")),
            ("./a/./b", Some("a/b")),
            ("a/../b", Some("b")),
            ("../a", None),
            ("a/../../b", None),
            ("/etc/passwd", None),
        ] {
            assert_eq!(plain(Path::new(path)).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn a_cut_archive_is_refused() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(4000);
        builder.append_data(&mut header, "index.json", &[b' '; 4000][..]).unwrap();
        let whole = builder.into_inner().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cut.tar");
        for length in [0, 100, 512, 2000] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(Archive::open(&path, &Scratch::of_system()).is_err(), "{length}");
        }
        for other in [&[0xfe; 5000][..], b"a short text", "a long text\n".repeat(500).as_bytes()] {
            std::fs::write(&path, other).unwrap();
            let error = Archive::open(&path, &Scratch::of_system()).unwrap_err().to_string();
            assert!(error.ends_with("the file is not a tar archive"), "{error:?}");
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(Archive::open(&path, &Scratch::of_system()).unwrap().read("index.json").unwrap().is_some());
    }
}
