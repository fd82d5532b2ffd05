//! [`Power`]: what a disk holds for certain, what it may hold, and directories as they are found after a loss of
//! power.
//!
//! Bytes and the length of a file are certain once the file was synced, names in a directory once the directory
//! was. Of everything else each piece may have come to the disk or not, in any order, and a write may be torn
//! between sectors. A file moved from one directory to another is found in one of them or in both.
//!
//! Knows nothing of the rest of the library: the tests of the program use it as well.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// A file, whatever it is called at the moment.
pub(super) type FileId = usize;

/// What was done to files. Paths are below the data directory, which is the empty path.
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
    /// A sync that failed. The system takes what it could not write for written, and never tries again.
    SyncFailed(FileId),
    Rename {
        file: FileId,
        from: PathBuf,
        to: PathBuf,
    },
    Remove(PathBuf),
    SyncDir(PathBuf),
    /// What a planted fault leaves out.
    Nothing,
}

/// Numbers that look random, the same for the same seed.
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

/// How much of what is not certain is found afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survives {
    /// What was synced, and nothing else.
    Nothing,
    /// All of it: the process was killed, and the machine was not.
    Everything,
    /// All of it but some sectors of the last write.
    TornEnd,
    /// Any of it.
    Anything,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Directory,
    File(FileId),
}

/// A change of names that is not certain yet.
#[derive(Clone, Debug)]
struct NameChange {
    add: Option<(PathBuf, Entry)>,
    remove: Option<PathBuf>,
}

impl NameChange {
    /// Within one directory a file has one name or the other.
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
    /// The file has become as long as this, at least.
    Grown(u64),
}

#[derive(Debug, Default)]
struct Content {
    certain: Vec<u8>,
    changes: Vec<Change>,
}

/// The disk after a number of operations.
#[derive(Debug, Default)]
pub(super) struct Power {
    names: BTreeMap<PathBuf, Entry>,
    name_changes: Vec<NameChange>,
    files: HashMap<FileId, Content>,
}

/// A data directory as it is found.
#[derive(Debug)]
pub(super) struct Image {
    directories: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Power {
    /// Goes on by one operation.
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
        self.files.get_mut(&file).expect("a file that was made")
    }

    fn change_names(&mut self, add: Option<(PathBuf, Entry)>, remove: Option<PathBuf>) {
        self.name_changes.push(NameChange { add, remove });
    }

    fn sync_names(&mut self, directory: &Path) {
        let is_in = |path: &PathBuf| path.parent() == Some(directory);
        let mut left = Vec::new();
        for mut change in std::mem::take(&mut self.name_changes) {
            let gone = change.remove.take_if(|path| is_in(path));
            // A file whose old name is gone for certain has its new one: none is lost on the way.
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

    /// Whether there is anything that is not certain.
    pub(super) fn is_settled(&self) -> bool {
        let named = |file: &FileId| self.names.values().any(|entry| *entry == Entry::File(*file));
        self.name_changes.is_empty()
            && self.files.iter().all(|(file, content)| content.changes.is_empty() || !named(file))
    }

    /// The directory as it may be found now.
    pub(super) fn image(&self, survives: Survives, random: &mut Random) -> Image {
        let mut names = self.names.clone();
        for change in &self.name_changes {
            let (added, removed) = match survives {
                Survives::Nothing => (false, false),
                Survives::Everything | Survives::TornEnd => (true, true),
                // No file is lost on its way from one name to another.
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
            // What is in a directory that is not there is not there either.
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
    /// Loses the bytes of a write; that the file has become as long is kept.
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

    /// Applies some sectors of a write; of a change of the length all or nothing. The length of the file may
    /// come to the disk without the bytes.
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
    /// Makes it the content of a directory.
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
