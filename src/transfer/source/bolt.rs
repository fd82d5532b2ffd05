//! [`Bolt`]: reads a bbolt database (go.etcd.io/bbolt, version 2 of its format), in which zot keeps its users.
//!
//! A database is a file of pages. Two of them, the meta pages, name the root of a B+ tree of buckets. A bucket is another
//! tree, or one page within the value of the bucket if it is small. Integers are little-endian here, as on every machine
//! that zot runs on.
//!
//! Only meta pages have a checksum, so any other page may be damaged. A walk reads each page at most once, and nothing
//! outside the file. So damage is an error, and neither a panic nor a loop.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{FlockOperation, flock};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;
/// The bytes of a meta page after the header, without the checksum that follows.
const META_BYTES: usize = 56;
/// The value of a bucket: its root page and a counter. The page follows if the root is 0.
const BUCKET_BYTES: usize = 16;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x04;
/// The flag of a leaf element whose value is a bucket.
const IS_BUCKET: u32 = 0x01;
/// The page sizes of the systems that bbolt runs on. They tell where the second meta page may be.
const PAGE_SIZES: [u64; 8] = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];
/// The most bytes of a page with its overflow pages. A value of zot has a few kilobytes for each API key.
const PAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BoltError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("another process uses it: stop zot, and repeat the import")]
    InUse,
    #[error("is not a bbolt database of version {VERSION}, or both of its meta pages are damaged")]
    Unknown,
    #[error("is damaged: page {page} {why}")]
    Damaged { page: u64, why: &'static str },
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Bolt {
    file: File,
    page_size: u64,
    /// The number of pages that are in use.
    pages: u64,
    root: u64,
}

/// An element of a leaf.
struct Leaf<'a> {
    is_bucket: bool,
    key: &'a [u8],
    value: &'a [u8],
}

impl Bolt {
    /// Opens a database that no process writes. Returns `None` for an empty file, to which no program has written yet.
    pub(crate) fn open(file: File) -> Result<Option<Self>, BoltError> {
        // zot holds an exclusive lock while it runs. This one lasts until the file is closed.
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(BoltError::InUse),
            locked => locked.map_err(io::Error::from)?,
        }
        let length = file.metadata()?.len();
        if length == 0 {
            return Ok(None);
        }
        // The second meta page follows the first one. If the first one is damaged, the page size is unknown.
        let first = Meta::read(&file, 0)?;
        let places = first.map_or_else(|| PAGE_SIZES.to_vec(), |meta| vec![meta.page_size]);
        let mut newest = first;
        for place in places {
            if let Some(second) = Meta::read(&file, place)?.filter(|meta| meta.page_size == place)
                && newest.is_none_or(|newest| second.transaction > newest.transaction)
            {
                newest = Some(second);
            }
        }
        let Meta { page_size, root, pages, .. } = newest.ok_or(BoltError::Unknown)?;
        Ok(Some(Self { file, page_size, pages: pages.min(length / page_size), root }))
    }

    /// Visits the entries of a bucket, in the order of their keys, until `visit` breaks. Does nothing if there is no such
    /// bucket. Buckets within it are left out.
    pub(crate) fn each(
        &self,
        bucket: &str,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), BoltError> {
        let mut found = None;
        self.walk(self.root, &mut |Leaf { is_bucket, key, value }| {
            if is_bucket && key == bucket.as_bytes() {
                found = Some(value.to_vec());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        let Some(found) = found else { return Ok(()) };
        let mut visit = |Leaf { is_bucket, key, value }: Leaf<'_>| {
            if is_bucket { ControlFlow::Continue(()) } else { visit(key, value) }
        };
        match (u64_at(&found, 0), found.get(BUCKET_BYTES..)) {
            (Some(0), Some(inline)) => Page::new(self.root, inline)?.leaves(&mut visit).map(drop),
            (Some(root @ 1..), _) => self.walk(root, &mut visit),
            _ => Err(damaged(self.root, "has a bucket without a root")),
        }
    }

    /// Visits the leaves of a tree until `visit` breaks.
    fn walk(&self, root: u64, visit: &mut Visit<'_>) -> Result<(), BoltError> {
        let (mut waiting, mut seen) = (vec![root], HashSet::new());
        while let Some(id) = waiting.pop() {
            let bytes = self.read(id, &mut seen)?;
            let page = Page::new(id, &bytes)?;
            match page.flags {
                LEAF => {
                    if page.leaves(visit)?.is_break() {
                        return Ok(());
                    }
                }
                BRANCH => {
                    for at in (0..page.count).rev() {
                        waiting.push(page.child(at)?);
                    }
                    if waiting.len() as u64 > self.pages {
                        return Err(damaged(id, "names more pages than there are"));
                    }
                }
                _ => return Err(damaged(id, "is neither a branch nor a leaf")),
            }
        }
        Ok(())
    }

    /// Reads a page with its overflow pages, each at most once.
    fn read(&self, id: u64, seen: &mut HashSet<u64>) -> Result<Vec<u8>, BoltError> {
        // The first two are the meta pages.
        if !(2..self.pages).contains(&id) {
            return Err(damaged(id, "is not in the file"));
        }
        let mut head = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut head, id * self.page_size)?;
        if u64_at(&head, 0) != Some(id) {
            return Err(damaged(id, "has the number of another page"));
        }
        let count = u64::from(u32_at(&head, 12).unwrap_or_default()) + 1;
        let size = count * self.page_size;
        if count > self.pages - id || size > PAGE_BYTES_MAX {
            return Err(damaged(id, "is too large"));
        }
        if !(id..id + count).all(|page| seen.insert(page)) {
            return Err(damaged(id, "is used twice"));
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| damaged(id, "is too large"))?];
        self.file.read_exact_at(&mut bytes, id * self.page_size)?;
        Ok(bytes)
    }
}

type Visit<'a> = dyn FnMut(Leaf<'_>) -> ControlFlow<()> + 'a;

/// The valid content of a meta page.
#[derive(Clone, Copy)]
struct Meta {
    page_size: u64,
    root: u64,
    pages: u64,
    transaction: u64,
}

impl Meta {
    /// Returns `None` if there is no meta page, or it is damaged.
    fn read(file: &File, at: u64) -> Result<Option<Self>, BoltError> {
        let mut bytes = [0; HEADER_BYTES + META_BYTES + 8];
        match file.read_exact_at(&mut bytes, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        Ok(Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let meta = bytes.get(HEADER_BYTES..)?;
        let page_size = u64::from(u32_at(meta, 8)?);
        let is_valid = u16_at(bytes, 8)? == META
            && (u32_at(meta, 0)?, u32_at(meta, 4)?) == (MAGIC, VERSION)
            && u64_at(meta, META_BYTES)? == checksum(meta.get(..META_BYTES)?)
            && PAGE_SIZES.contains(&page_size);
        let (root, pages, transaction) = (u64_at(meta, 16)?, u64_at(meta, 40)?, u64_at(meta, 48)?);
        is_valid.then_some(Self { page_size, root, pages, transaction })
    }
}

/// FNV-1a with 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A page with its overflow pages.
struct Page<'a> {
    /// For messages.
    id: u64,
    bytes: &'a [u8],
    flags: u16,
    count: usize,
}

impl<'a> Page<'a> {
    fn new(id: u64, bytes: &'a [u8]) -> Result<Self, BoltError> {
        match (u16_at(bytes, 8), u16_at(bytes, 10)) {
            (Some(flags), Some(count)) if bytes.len() >= HEADER_BYTES => {
                Ok(Self { id, bytes, flags, count: count.into() })
            }
            _ => Err(damaged(id, "has no header")),
        }
    }

    /// Visits the elements of a leaf until `visit` breaks.
    fn leaves(&self, visit: &mut Visit<'_>) -> Result<ControlFlow<()>, BoltError> {
        if self.flags != LEAF {
            return Err(damaged(self.id, "is not a leaf"));
        }
        let mut left = self.bytes.len();
        for at in 0..self.count {
            let leaf = self.leaf(at).ok_or_else(|| damaged(self.id, "has an element that is not in it"))?;
            // Elements share no bytes. Otherwise small pages could have many long values.
            left = left
                .checked_sub(leaf.key.len() + leaf.value.len())
                .ok_or_else(|| damaged(self.id, "has elements that overlap"))?;
            if visit(leaf).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn leaf(&self, at: usize) -> Option<Leaf<'a>> {
        // Positions are relative to the element.
        let element = self.bytes.get(HEADER_BYTES + at * ELEMENT_BYTES..)?;
        let size = |at| usize::try_from(u32_at(element, at)?).ok();
        let (key, key_size, value_size) = (size(4)?, size(8)?, size(12)?);
        let value = key.checked_add(key_size)?;
        Some(Leaf {
            is_bucket: u32_at(element, 0)? & IS_BUCKET != 0,
            key: element.get(key..value)?,
            value: element.get(value..value.checked_add(value_size)?)?,
        })
    }

    /// The page that an element of a branch names.
    fn child(&self, at: usize) -> Result<u64, BoltError> {
        let child = u64_at(self.bytes, HEADER_BYTES + at * ELEMENT_BYTES + 8);
        child.ok_or_else(|| damaged(self.id, "has an element that is not in it"))
    }
}

const fn damaged(page: u64, why: &'static str) -> BoltError {
    BoltError::Damaged { page, why }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}
