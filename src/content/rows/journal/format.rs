//! The format of the journal's file.
//!
//! A header is followed by frames. A frame is the length, a checksum, the number of the change, the record, and the
//! length again, so that the last frame is found without reading the others. The checksum shows damage. A reader can
//! skip it, up to the next intact frame.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};

use crate::content::rows::codec::{CHECKSUM_BYTES, checksum};
use crate::kit::clock::Timestamp;

const MAGIC: &[u8; 8] = b"coracle\x01";
/// Magic, id, initial length, checksum.
pub(super) const HEADER_BYTES: u64 = HEADER as u64;
const HEADER: usize = 8 + 16 + 8 + CHECKSUM_BYTES;
/// The sizes of the parts of a frame before and after the record.
const BEFORE_BYTES: usize = 4 + CHECKSUM_BYTES + 8;
const AFTER_BYTES: usize = 4;
/// The bytes of a frame that its length does not count.
const FRAMING_BYTES: u64 = (4 + CHECKSUM_BYTES + AFTER_BYTES) as u64;
/// How much of a damaged file is searched at once, in bytes.
const SEARCH_BYTES: usize = 256 * 1024;

/// The id of the database that a journal belongs to.
pub(super) type Id = [u8; 16];

/// A change of content. Digests are encoded as [`Digest::key`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::content::rows) enum Record {
    Manifest {
        repository: String,
        digest: Vec<u8>,
        media_type: String,
        created: Timestamp,
        bytes: Vec<u8>,
    },
    ManifestGone {
        repository: String,
        digest: Vec<u8>,
    },
    Tag {
        repository: String,
        tag: String,
        digest: Vec<u8>,
        moved: Timestamp,
    },
    TagGone {
        repository: String,
        tag: String,
    },
    /// The journal has all records up to this number.
    End,
}

impl Record {
    pub(in crate::content::rows) fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("records have plain fields, and a vector grows")
    }
}

/// Encodes a header. `length` is the length of the file when it was complete.
pub(super) fn header(id: &Id, length: u64) -> Vec<u8> {
    let mut bytes = [MAGIC.as_slice(), id, &length.to_le_bytes()].concat();
    bytes.extend(checksum(&bytes));
    bytes
}

/// Reads the id and the initial length. Returns `None` if the file is not a journal.
pub(super) fn read_header(file: &File) -> Option<(Id, u64)> {
    let mut bytes = [0; HEADER];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (fields, sum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
    let is_whole = fields.starts_with(MAGIC) && checksum(fields) == sum;
    is_whole.then(|| {
        let (id, length) = fields[MAGIC.len()..].split_at(16);
        let length = u64::from_le_bytes(length.try_into().expect("the slice has this length"));
        (id.try_into().expect("the slice has this length"), length)
    })
}

/// Appends a frame to `to`.
pub(super) fn frame(to: &mut Vec<u8>, number: u64, record: &[u8]) {
    // The size of manifests is limited far below this.
    let length = u32::try_from(8 + record.len()).expect("a record has less than 4 GiB").to_le_bytes();
    let payload = [&number.to_le_bytes(), record].concat();
    to.extend_from_slice(&length);
    to.extend_from_slice(&checksum(&payload));
    to.extend_from_slice(&payload);
    to.extend_from_slice(&length);
}

/// The number in the last frame. Returns `None` if that frame is incomplete or is not [`Record::End`].
pub(super) fn last_number(file: &File, file_bytes: u64) -> Option<u64> {
    let mut length = [0; AFTER_BYTES];
    file.read_exact_at(&mut length, file_bytes.checked_sub(AFTER_BYTES as u64)?).ok()?;
    let length = u64::from(u32::from_le_bytes(length));
    let start = file_bytes.checked_sub(FRAMING_BYTES + length)?;
    let mut reader = Reader::new(file.try_clone().ok()?, start).ok()?;
    match reader.next().ok()?? {
        Frame { number, record: Record::End, .. } => Some(number),
        _ => None,
    }
}

/// Reads frames.
pub(super) struct Reader {
    file: BufReader<File>,
    offset: u64,
    file_bytes: u64,
    damaged_places: usize,
}

pub(super) struct Frame {
    /// Its position in the file.
    pub(super) offset: u64,
    pub(super) number: u64,
    pub(super) record: Record,
}

impl Reader {
    pub(super) fn new(file: File, offset: u64) -> io::Result<Self> {
        let file_bytes = file.metadata()?.len();
        Self::up_to(file, offset, file_bytes)
    }

    /// Reads frames from `offset` on, in the first `file_bytes` bytes of the file.
    pub(super) fn up_to(file: File, offset: u64, file_bytes: u64) -> io::Result<Self> {
        let mut file = BufReader::new(file);
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file, offset, file_bytes, damaged_places: 0 })
    }

    /// The position of the next frame.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The number of damaged places that [`Reader::next_intact`] has skipped.
    pub(super) const fn damaged_places(&self) -> usize {
        self.damaged_places
    }

    /// Whether the whole file was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.offset == self.file_bytes
    }

    /// Reads the next intact frame, after damaged ones if there are any. Returns `None` if no intact frame follows.
    pub(super) fn next_intact(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let frame = self.next()?;
            if frame.is_some() || self.is_at_end() || !self.skip_damage()? {
                return Ok(frame);
            }
            self.damaged_places += 1;
        }
    }

    /// Moves from a damaged frame to the next intact one. Returns false if no intact frame follows.
    ///
    /// The lengths of the damaged frame may be wrong, so every later position is tried. A client cannot put a frame into
    /// a record, because the length of a frame has a zero byte, which no manifest and no name has.
    fn skip_damage(&mut self) -> io::Result<bool> {
        let damaged = self.offset;
        let (mut part, mut start) = (vec![0; SEARCH_BYTES], damaged + 1);
        loop {
            let count = self.file.get_ref().read_at(&mut part, start)?;
            for (position, length) in (start..).zip(part[..count].windows(4)) {
                if self.has_length_twice(position, length)? {
                    self.move_to(position)?;
                    if self.next()?.is_some() {
                        self.move_to(position)?;
                        return Ok(true);
                    }
                }
            }
            if count < 4 {
                self.move_to(damaged)?;
                return Ok(false);
            }
            // The last three bytes may begin a frame.
            start += (count - 3) as u64;
        }
    }

    /// Whether a frame of this length, which ends with its length again, can be at a position.
    fn has_length_twice(&self, position: u64, length: &[u8]) -> io::Result<bool> {
        let bytes = u64::from(u32::from_le_bytes(length.try_into().expect("the slice has this length")));
        if bytes < 8 || position + FRAMING_BYTES + bytes > self.file_bytes {
            return Ok(false);
        }
        let mut after = [0; AFTER_BYTES];
        self.file.get_ref().read_exact_at(&mut after, position + (4 + CHECKSUM_BYTES) as u64 + bytes)?;
        Ok(after == length)
    }

    fn move_to(&mut self, offset: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        self.offset = offset;
        Ok(())
    }

    /// Reads a frame. Returns `None` at the end, or if the frame is damaged or incomplete.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        let left = self.file_bytes.saturating_sub(self.offset);
        let mut before = [0; BEFORE_BYTES - 8];
        if left < FRAMING_BYTES {
            return Ok(None);
        }
        self.file.read_exact(&mut before)?;
        let (length, sum) = before.split_at(4);
        let length = u64::from(u32::from_le_bytes(length.try_into().expect("the slice has this length")));
        if length < 8 || length > left - FRAMING_BYTES {
            return Ok(None);
        }
        let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
        self.file.read_exact(&mut payload)?;
        let mut after = [0; AFTER_BYTES];
        self.file.read_exact(&mut after)?;
        let (number, record) = payload.split_at(8);
        let number = u64::from_le_bytes(number.try_into().expect("the slice has this length"));
        let offset = self.offset;
        match postcard::from_bytes(record) {
            Ok(record) if checksum(&payload) == sum && after == before[..4] => {
                self.offset += FRAMING_BYTES + length;
                Ok(Some(Frame { offset, number, record }))
            }
            _ => Ok(None),
        }
    }
}
