//! The format of the journal's file.
//!
//! A header is followed by frames. A frame is the length, a checksum, the number of the change, the record, and the
//! length again, so that the last frame is found without reading the others. Everything after an incomplete frame is
//! ignored.

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
    let start = file_bytes.checked_sub((4 + CHECKSUM_BYTES + AFTER_BYTES) as u64 + length)?;
    let mut reader = Reader::new(file.try_clone().ok()?, start).ok()?;
    match reader.next().ok()?? {
        Frame { number, record: Record::End, .. } => Some(number),
        _ => None,
    }
}

/// Reads frames, up to an incomplete one.
pub(super) struct Reader {
    file: BufReader<File>,
    offset: u64,
    file_bytes: u64,
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
        let mut file = BufReader::new(file);
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file, offset, file_bytes })
    }

    /// Whether the whole file was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.offset == self.file_bytes
    }

    /// Reads a frame. Returns `None` at the end, or if the frame is incomplete.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        let left = self.file_bytes.saturating_sub(self.offset);
        let fixed = (4 + CHECKSUM_BYTES + AFTER_BYTES) as u64;
        let mut before = [0; BEFORE_BYTES - 8];
        if left < fixed {
            return Ok(None);
        }
        self.file.read_exact(&mut before)?;
        let (length, sum) = before.split_at(4);
        let length = u64::from(u32::from_le_bytes(length.try_into().expect("the slice has this length")));
        if length < 8 || length > left - fixed {
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
                self.offset += fixed + length;
                Ok(Some(Frame { offset, number, record }))
            }
            _ => Ok(None),
        }
    }
}
