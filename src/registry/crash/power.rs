//! [`Power`]: a disk, with durable and other changes, and the directories that may be found after a power failure.
//!
//! Content and length of a file are durable after a sync of the file, names in a directory after a sync of the directory.
//! All other changes may survive or not, in any order, and a write may be torn between sectors. A file that is moved to
//! another directory is found in one of the directories, or in both.
//!
//! Uses nothing of the rest of the library, because the tests of the program use it, too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The size of a write that is never torn.
const SECTOR_BYTES: usize = 512;

/// Identifies a file, under all its names.
pub(super) type FileId = usize;

/// An operation on files. Paths are relative to the data directory.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    CreateDir(PathBuf),
    Create(PathBuf, FileId),
    Write {
        file: FileId,
        bytes: Arc<[u8]>,
        offset: u64,
    },
    Truncate {
        file: FileId,
        length: u64,
    },
    Sync(FileId),
    /// A failed sync. The system considers the data as written, and does not try again.
    SyncFailed(FileId),
    Rename {
        file: FileId,
        from: PathBuf,
        to: PathBuf,
    },
    Remove(PathBuf),
    SyncDir(PathBuf),
    /// Replaces an operation that a test removes.
    Nothing,
}

/// Pseudo-random numbers from a seed.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % limit.max(1) as u64).unwrap()
    }
}

/// Which changes survive that are not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survives {
    /// No change.
    Nothing,
    /// All changes, as after `kill -9`.
    Everything,
    /// All changes except some sectors of the last write.
    TornEnd,
    /// A random part.
    Anything,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Directory,
    File(FileId),
}

/// A change of names that is not durable yet.
#[derive(Clone, Debug)]
struct NameChange {
    add: Option<(PathBuf, Entry)>,
    remove: Option<PathBuf>,
}

impl NameChange {
    /// Whether a file moves to another directory. Within one directory, a rename is atomic.
    fn is_between_directories(&self) -> bool {
        let pair = self.add.as_ref().map(|(path, _)| path).zip(self.remove.as_ref());
        pair.is_some_and(|(to, from)| to.parent() != from.parent())
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write {
        bytes: Arc<[u8]>,
        offset: u64,
    },
    Length(u64),
    /// The file has at least this length.
    Grown(u64),
}

#[derive(Debug, Default)]
struct Content {
    certain: Vec<u8>,
    changes: Vec<Change>,
}

/// The disk after some operations.
#[derive(Debug, Default)]
pub(super) struct Power {
    names: BTreeMap<PathBuf, Entry>,
    name_changes: Vec<NameChange>,
    files: HashMap<FileId, Content>,
}

/// A data directory after a power failure.
#[derive(Debug)]
pub(super) struct Image {
    directories: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Power {
    /// Applies one operation.
    pub(super) fn apply(&mut self, operation: &Operation) {
        match operation.clone() {
            Operation::CreateDir(path) => self.change_names(Some((path, Entry::Directory)), None),
            Operation::Create(path, file) => {
                self.files.insert(file, Content::default());
                self.change_names(Some((path, Entry::File(file))), None);
            }
            Operation::Write { file, bytes, offset } => {
                self.content(file).changes.push(Change::Write { bytes, offset });
            }
            Operation::Truncate { file, length } => self.content(file).changes.push(Change::Length(length)),
            Operation::Sync(file) => {
                let content = self.content(file);
                for change in std::mem::take(&mut content.changes) {
                    change.apply(&mut content.certain);
                }
            }
            Operation::SyncFailed(file) => {
                for change in &mut self.content(file).changes {
                    change.lose();
                }
            }
            Operation::Rename { file, from, to } => self.change_names(Some((to, Entry::File(file))), Some(from)),
            Operation::Remove(path) => self.change_names(None, Some(path)),
            Operation::SyncDir(directory) => self.sync_names(&directory),
            Operation::Nothing => {}
        }
    }

    fn content(&mut self, file: FileId) -> &mut Content {
        self.files.get_mut(&file).expect("the file was created")
    }

    fn change_names(&mut self, add: Option<(PathBuf, Entry)>, remove: Option<PathBuf>) {
        self.name_changes.push(NameChange { add, remove });
    }

    fn sync_names(&mut self, directory: &Path) {
        let is_in = |path: &PathBuf| path.parent() == Some(directory);
        let mut left = Vec::new();
        for mut change in std::mem::take(&mut self.name_changes) {
            let gone = change.remove.take_if(|path| is_in(path));
            // If the old name is gone, the new one is durable: a rename loses no file.
            if let Some((path, entry)) = change.add.take_if(|(path, _)| is_in(path) || gone.is_some()) {
                self.names.insert(path, entry);
            }
            if let Some(path) = gone {
                self.names.remove(&path);
            }
            if change.add.is_some() || change.remove.is_some() {
                left.push(change);
            }
        }
        self.name_changes = left;
    }

    /// Whether all changes are durable.
    pub(super) fn is_settled(&self) -> bool {
        let named = |file: &FileId| self.names.values().any(|entry| *entry == Entry::File(*file));
        self.name_changes.is_empty()
            && self.files.iter().all(|(file, content)| content.changes.is_empty() || !named(file))
    }

    /// A directory that may be found after a power failure now.
    pub(super) fn image(&self, survives: Survives, random: &mut Random) -> Image {
        let mut names = self.names.clone();
        for change in &self.name_changes {
            let (added, removed) = match survives {
                Survives::Nothing => (false, false),
                Survives::Everything | Survives::TornEnd => (true, true),
                // A rename loses no file.
                Survives::Anything => match random.below(3) {
                    0 => (false, false),
                    1 => (true, !change.is_between_directories()),
                    _ => (true, true),
                },
            };
            if let Some((path, entry)) = change.add.clone().filter(|_| added) {
                names.insert(path, entry);
            }
            if let Some(path) = change.remove.as_ref().filter(|_| removed) {
                names.remove(path);
            }
        }
        let mut image = Image { directories: BTreeSet::new(), files: BTreeMap::new() };
        for (path, entry) in names {
            // A file in a missing directory is missing, too.
            if path.parent().is_some_and(|above| above != Path::new("") && !image.directories.contains(above)) {
                continue;
            }
            match entry {
                Entry::Directory => drop(image.directories.insert(path)),
                Entry::File(file) => drop(image.files.insert(path, self.files[&file].image(survives, random))),
            }
        }
        image
    }
}

impl Content {
    fn image(&self, survives: Survives, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.certain.clone();
        let last = self.changes.len().saturating_sub(1);
        for (at, change) in self.changes.iter().enumerate() {
            match survives {
                Survives::Nothing => {}
                Survives::TornEnd if at == last => change.tear(&mut bytes, random),
                Survives::Everything | Survives::TornEnd => change.apply(&mut bytes),
                Survives::Anything => match random.below(4) {
                    0 => {}
                    1 => change.tear(&mut bytes, random),
                    _ => change.apply(&mut bytes),
                },
            }
        }
        bytes
    }
}

impl Change {
    /// Loses the bytes of a write, and keeps the length of the file.
    fn lose(&mut self) {
        if let Self::Write { bytes, offset } = self {
            *self = Self::Grown(*offset + bytes.len() as u64);
        }
    }

    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { bytes, offset } => write(content, bytes, *offset),
            Self::Length(length) => content.resize(usize::try_from(*length).expect("a length"), 0),
            Self::Grown(length) => content.resize(content.len().max(usize::try_from(*length).expect("a length")), 0),
        }
    }

    /// Applies some sectors of a write. A change of the length is applied or not. The length may survive without the bytes.
    fn tear(&self, content: &mut Vec<u8>, random: &mut Random) {
        match self {
            Self::Length(_) | Self::Grown(_) if random.below(2) == 0 => {}
            Self::Length(_) | Self::Grown(_) => self.apply(content),
            Self::Write { bytes, offset } => {
                if random.below(2) == 0 {
                    let end = usize::try_from(*offset).expect("an offset") + bytes.len();
                    content.resize(content.len().max(end), 0);
                }
                let first = SECTOR_BYTES - usize::try_from(*offset).expect("an offset") % SECTOR_BYTES;
                let mut at = 0;
                while at < bytes.len() {
                    let end = if at == 0 { first } else { at + SECTOR_BYTES }.min(bytes.len());
                    if random.below(2) == 0 {
                        write(content, &bytes[at..end], offset + at as u64);
                    }
                    at = end;
                }
            }
        }
    }
}

fn write(content: &mut Vec<u8>, bytes: &[u8], offset: u64) {
    let start = usize::try_from(offset).expect("an offset");
    content.resize(content.len().max(start + bytes.len()), 0);
    content[start..start + bytes.len()].copy_from_slice(bytes);
}

impl Image {
    /// Writes the image to a directory.
    pub(super) fn build(&self, root: &Path) -> io::Result<()> {
        if root.exists() {
            std::fs::remove_dir_all(root)?;
        }
        std::fs::create_dir(root)?;
        for directory in &self.directories {
            std::fs::create_dir(root.join(directory))?;
        }
        for (path, bytes) in &self.files {
            std::fs::write(root.join(path), bytes)?;
        }
        Ok(())
    }
}
