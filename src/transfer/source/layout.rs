//! OCI image layouts (image-spec, image-layout.md): one in a directory, or many of them, as zot stores repositories.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Content, INDEX_BYTES_MAX, Item, Root, SourceError, Visit, entries, file_part, no_part};
use crate::content::blobs::FilePart;
use crate::oci::layout::read_index;
use crate::oci::{Digest, Tag};
use crate::transfer::Problem;

/// The files that make a directory a layout.
const LAYOUT_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";
/// The directory levels in which layouts are searched for.
const LEVELS_MAX: usize = 32;
/// The directory that newer versions of zot keep blobs in, for all repositories.
const BLOB_STORE: &str = "_blobstore";

/// An image layout.
#[derive(Debug)]
pub(crate) struct Layout {
    content: Arc<dyn Content>,
    index: Vec<u8>,
    /// The path of `index.json`, for messages.
    path: PathBuf,
    /// The repository, if its location says it.
    repository: Option<String>,
    /// Images that could not be converted.
    problems: Vec<Problem>,
}

/// The blobs of a layout in a directory.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Where blobs are that the layout lacks.
    shared: Option<PathBuf>,
}

impl Content for Directory {
    fn part(&self, digest: Digest) -> io::Result<Option<FilePart>> {
        let own = blob_path(&self.path, digest);
        if let Some(part) = FilePart::whole(&own)? {
            return Ok(Some(part));
        }
        if let Some(shared) = &self.shared
            && let Some(part) = file_part(&blob_path(shared, digest))?
        {
            return Ok(Some(part));
        }
        no_part(&own)
    }

    fn digests(&self, report: &mut dyn FnMut(Problem)) -> io::Result<Vec<Digest>> {
        let (blobs, mut found) = (self.path.join("blobs"), Vec::new());
        for (algorithm, _) in entries(&blobs, report) {
            let names = entries(&blobs.join(&algorithm), report);
            found.extend(names.into_iter().filter_map(|(hex, _)| format!("{algorithm}:{hex}").parse::<Digest>().ok()));
        }
        Ok(found)
    }
}

fn blob_path(layout: &Path, digest: Digest) -> PathBuf {
    layout.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
}

impl Layout {
    pub(super) fn is_at(directory: &Path) -> bool {
        directory.join(LAYOUT_FILE).is_file() && directory.join(INDEX_FILE).is_file()
    }

    /// A layout whose files are elsewhere.
    pub(super) fn new(content: Arc<dyn Content>, index: Vec<u8>, path: PathBuf) -> Self {
        Self { content, index, path, repository: None, problems: Vec::new() }
    }

    /// The same with the problems that its conversion has found.
    pub(super) fn with_problems(self, problems: Vec<Problem>) -> Self {
        Self { problems, ..self }
    }

    /// Opens the layout in a directory.
    pub(super) fn open(directory: &Path, shared: Option<PathBuf>) -> Result<Self, SourceError> {
        let path = directory.join(INDEX_FILE);
        let too_long = || io::Error::other(format!("it has more than {} MiB", INDEX_BYTES_MAX >> 20));
        let read = |part: FilePart| part.read(INDEX_BYTES_MAX)?.ok_or_else(too_long);
        let index = file_part(&path).and_then(|part| read(part.ok_or(io::ErrorKind::NotFound)?));
        let index = index.map_err(SourceError::io("read", &path))?;
        let content = Arc::new(Directory { path: directory.to_owned(), shared });
        Ok(Self::new(content, index, path))
    }

    pub(super) fn digests(&self, report: &mut dyn FnMut(Problem)) -> Result<Vec<Digest>, SourceError> {
        self.content.digests(report).map_err(SourceError::io("list the blobs of", &self.path))
    }

    pub(super) fn each(&self, visit: &mut Visit<'_>) -> Result<(), SourceError> {
        let invalid = |invalid| SourceError::Layout { path: self.path.clone(), invalid };
        let place = || self.repository.clone().unwrap_or_else(|| self.path.display().to_string());
        for problem in &self.problems {
            if visit(Item::Problem(problem.clone())).is_break() {
                return Ok(());
            }
        }
        for entry in read_index(&self.index).map_err(invalid)? {
            let entry = match entry {
                Ok(entry) => entry,
                Err(damaged) => {
                    if visit(Item::Problem(Problem::new(place(), damaged))).is_break() {
                        break;
                    }
                    continue;
                }
            };
            if let Some(name) = &entry.invalid_name {
                let why = format!("{name:?} is neither a tag nor the name of an image: it is imported without a tag");
                let _ = visit(Item::Problem(Problem::new(format!("{}@{}", place(), entry.digest), why)));
            }
            let named = entry.name.repository.map(|name| name.to_string());
            let root = Root {
                content: Arc::clone(&self.content),
                repository: self.repository.clone().or(named),
                tag: entry.name.tag.as_ref().map(Tag::to_string),
                digest: entry.digest,
            };
            if visit(Item::Root(root)).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The layouts below a directory. Their paths are the names of repositories.
#[derive(Debug)]
pub(crate) struct Layouts {
    root: PathBuf,
    names: Vec<String>,
    /// Found during the search.
    problems: Vec<Problem>,
}

impl Layouts {
    /// Searches a directory. Directories whose names begin with `_` or `.` belong to zot itself.
    pub(super) fn find(root: &Path) -> Self {
        let (mut names, mut problems, mut waiting) = (Vec::new(), Vec::new(), vec![(String::new(), 0)]);
        while let Some((name, level)) = waiting.pop() {
            let directory = root.join(&name);
            let listed = entries(&directory, &mut |problem| problems.push(problem));
            // By the list, because a directory that forbids to open its files still has the names of them.
            let has = |file: &str| listed.iter().any(|(name, is_directory)| name == file && !is_directory);
            if !name.is_empty() && has(LAYOUT_FILE) && has(INDEX_FILE) {
                names.push(name.clone());
            }
            for (entry, is_directory) in listed {
                if is_directory && !entry.starts_with(['_', '.']) && entry != "blobs" {
                    if level == LEVELS_MAX {
                        problems.push(Problem::new(directory.display(), "the directories are too deep"));
                        break;
                    }
                    let below = if name.is_empty() { entry } else { format!("{name}/{entry}") };
                    waiting.push((below, level + 1));
                }
            }
        }
        names.sort_unstable();
        Self { root: root.to_owned(), names, problems }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn each(&self, visit: &mut Visit<'_>) {
        for problem in &self.problems {
            let _ = visit(Item::Problem(problem.clone()));
        }
        let shared = Some(self.root.join(BLOB_STORE));
        for name in &self.names {
            let mut stopped = false;
            let mut watch = |item| {
                let next = visit(item);
                stopped |= next.is_break();
                next
            };
            let listed = Layout::open(&self.root.join(name), shared.clone())
                .and_then(|layout| Layout { repository: Some(name.clone()), ..layout }.each(&mut watch));
            if let Err(error) = listed {
                // One unreadable repository does not keep the others out.
                stopped |= visit(Item::Problem(Problem::new(name, error))).is_break();
            }
            if stopped {
                break;
            }
        }
    }
}
