//! [`Site`]: the files of a web page, read into memory.
//!
//! A request is answered from memory. Its path is compared with the names of the files, and never becomes a path of the
//! file system. Files that change are read again at the next start.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The most files, and their bytes.
const FILES_MAX: usize = 2_000;
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The deepest directory.
const DEPTH_MAX: usize = 8;
/// Smaller files, in bytes, are not compressed.
const COMPRESSED_MIN: usize = 1024;
/// The file that a directory is answered with.
const INDEX: &str = "/index.html";

/// The media types of files by the end of their names, and whether compressing them saves bytes.
const TYPES: [(&str, &str, bool); 15] = [
    ("html", "text/html; charset=utf-8", true),
    ("js", "text/javascript; charset=utf-8", true),
    ("mjs", "text/javascript; charset=utf-8", true),
    ("css", "text/css; charset=utf-8", true),
    ("json", "application/json", true),
    ("map", "application/json", true),
    ("webmanifest", "application/manifest+json", true),
    ("svg", "image/svg+xml", true),
    ("txt", "text/plain; charset=utf-8", true),
    ("png", "image/png", false),
    ("jpg", "image/jpeg", false),
    ("ico", "image/x-icon", false),
    ("woff", "font/woff", false),
    ("woff2", "font/woff2", false),
    ("ttf", "font/ttf", true),
];

/// Why a directory is not a web page.
#[derive(Debug, Error)]
pub(crate) enum SiteError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} has no index.html: name the directory of a built page", path.display())]
    NoIndex { path: PathBuf },
    #[error("{} has more than {FILES_MAX} files or 64 MiB: name the directory of a built page", path.display())]
    TooLarge { path: PathBuf },
}

/// A file of a web page.
pub(crate) struct SiteFile {
    pub(crate) bytes: Bytes,
    pub(crate) content_type: &'static str,
    /// The entity tag, with its quotes.
    pub(crate) tag: String,
    is_compressible: bool,
    compressed: OnceLock<Option<Bytes>>,
}

/// The files of a web page by their paths, such as `/index.html`.
pub(crate) struct Site {
    files: BTreeMap<String, SiteFile>,
}

crate::kit::opaque_debug::opaque_debug!(Site);

impl Site {
    /// Reads a directory with all directories in it.
    pub(crate) fn read(root: &Path) -> Result<Self, SiteError> {
        let mut site = Self { files: BTreeMap::new() };
        let mut left = BYTES_MAX;
        site.read_directory(root, root, "", 0, &mut left)?;
        if site.files.contains_key(INDEX) { Ok(site) } else { Err(SiteError::NoIndex { path: root.to_owned() }) }
    }

    fn read_directory(
        &mut self,
        root: &Path,
        directory: &Path,
        prefix: &str,
        depth: usize,
        left: &mut u64,
    ) -> Result<(), SiteError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| SiteError::Unreadable { path, source }
        };
        let too_large = || SiteError::TooLarge { path: root.to_owned() };
        for entry in fs::read_dir(directory).map_err(at(directory))? {
            let path = entry.map_err(at(directory))?.path();
            // A name that is not text has no URL.
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let url = format!("{prefix}/{name}");
            let metadata = fs::metadata(&path).map_err(at(&path))?;
            if metadata.is_dir() && depth < DEPTH_MAX {
                self.read_directory(root, &path, &url, depth + 1, left)?;
            } else if metadata.is_file() {
                *left = left.checked_sub(metadata.len()).ok_or_else(too_large)?;
                if self.files.len() == FILES_MAX {
                    return Err(too_large());
                }
                let bytes = fs::read(&path).map_err(at(&path))?;
                let file = SiteFile::new(bytes.into(), name);
                self.files.insert(url, file);
            }
        }
        Ok(())
    }

    /// The file with a path.
    pub(crate) fn file(&self, path: &str) -> Option<&SiteFile> {
        self.files.get(path)
    }

    /// The path of the first page.
    pub(crate) const fn index() -> &'static str {
        INDEX
    }
}

impl SiteFile {
    fn new(bytes: Bytes, name: &str) -> Self {
        let end = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let known = TYPES.iter().find(|(wanted, ..)| *wanted == end);
        let (content_type, is_compressible) =
            known.map_or(("application/octet-stream", false), |(_, content_type, is)| (*content_type, *is));
        let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&bytes)[..16]));
        Self { bytes, content_type, tag, is_compressible, compressed: OnceLock::new() }
    }

    /// The file in gzip, if that is smaller. Compresses it at the first call.
    pub(crate) fn gzip(&self) -> Option<&Bytes> {
        let compress = || {
            if !self.is_compressible || self.bytes.len() < COMPRESSED_MIN {
                return None;
            }
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&self.bytes).ok()?;
            encoder.finish().ok().filter(|packed| packed.len() < self.bytes.len()).map(Bytes::from)
        };
        self.compressed.get_or_init(compress).as_ref()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_with_its_types_and_only_with_an_index() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(Site::read(root.path()), Err(SiteError::NoIndex { .. })));
        assert!(matches!(Site::read(&root.path().join("absent")), Err(SiteError::Unreadable { .. })));
        fs::create_dir(root.path().join("assets")).unwrap();
        fs::write(root.path().join("index.html"), "<p>").unwrap();
        fs::write(root.path().join("assets/app.js"), "x".repeat(5000)).unwrap();
        fs::write(root.path().join("assets/a.PNG"), "x".repeat(5000)).unwrap();
        let site = Site::read(root.path()).unwrap();
        let script = site.file("/assets/app.js").unwrap();
        assert_eq!(script.content_type, "text/javascript; charset=utf-8");
        assert!(script.gzip().unwrap().len() < 100);
        let image = site.file("/assets/a.PNG").unwrap();
        assert_eq!((image.content_type, image.gzip()), ("image/png", None));
        assert_eq!((script.tag.len(), script.tag == image.tag), (34, true));
        assert!(site.file("/assets").is_none() && site.file("/../index.html").is_none());
        assert!(site.file(Site::index()).unwrap().gzip().is_none());
    }
}
