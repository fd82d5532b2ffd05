//! [`Wal`]: the write-ahead log. It makes a transaction durable before redb does.
//!
//! A durable commit of redb writes every page that the transaction touched, 64 to 72 KiB for one blob, and syncs twice.
//! So a transaction is committed in redb's memory only, and the log gets one record with the keys and values that it
//! wrote. The record is durable before the transaction is visible. A checkpoint is a durable commit of redb, with all
//! transactions since the last one. After it, the log begins again at its first byte.
//!
//! The database names its log by a random id, and counts checkpoints: the epoch. Each record has both, so that a replay
//! ignores what an earlier checkpoint contains, and the log of another database. Records set keys to values, so a record
//! can be applied twice.
//!
//! Invariants:
//!
//! * A record is written only after the one before it is durable. So at most the last record of an epoch is incomplete,
//!   and it belongs to a transaction that was not acknowledged. A damaged last record looks the same, so a warning
//!   names both. Anything else that cannot be read is damage, and the database is not opened without it.
//! * After a failed write or sync, or an incomplete record, nothing is appended before a checkpoint begins a new epoch.
//!   If the disk is full, the same transaction makes the checkpoint. Otherwise opening the database makes it, after it
//!   has applied the records that the file has.
//! * A table never changes the types of its keys and values, and is never removed: its rows may be in the log of an
//!   earlier program.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redb::{Key, ReadableDatabase as _, TableHandle as _, Value};

use super::codec::{CHECKSUM_BYTES, checksum};
use super::schema::{self, SETTING_WAL, SETTINGS, Visitor, each_table};
use super::transaction::Definition;
use super::{Error, Rows, WriteTx};
use crate::content::blobs::Disk;
use crate::kit::file::{if_exists, is_full};

/// The size of the log at which a checkpoint is made. A start after a crash reads at most this much. A push of a small image
/// appends about 2 KiB, and less than one of 200 waits for a checkpoint.
const BYTES_MAX: usize = 512 * 1024;
/// A checkpoint is made when nothing was appended for this long. A start reads what is in the log in a few milliseconds, so
/// that nothing is gained by more checkpoints, each of which writes about 120 KiB.
const IDLE: Duration = Duration::from_mins(10);
const ID_BYTES: usize = 16;
/// The sizes of the parts of a record before its operations: length, checksum, id, epoch.
const HEADER_BYTES: usize = 4 + CHECKSUM_BYTES + ID_BYTES + 8;

/// The writes of one transaction, encoded one after the other. Empty after they became larger than the log.
#[derive(Debug, Default)]
pub(super) struct Operations {
    bytes: Vec<u8>,
    is_too_large: bool,
}

impl Operations {
    /// Adds the write of a value, or the removal of a key.
    pub(super) fn add(&mut self, table: &str, key: &[u8], value: Option<&[u8]>) {
        if self.is_too_large || self.bytes.len() + key.len() + value.map_or(0, <[u8]>::len) > BYTES_MAX {
            *self = Self { bytes: Vec::new(), is_too_large: true };
            return;
        }
        self.bytes.push(u8::from(value.is_some()));
        for part in [Some(table.as_bytes()), Some(key), value].into_iter().flatten() {
            self.bytes.extend(u32::try_from(part.len()).expect("it is smaller than the log").to_le_bytes());
            self.bytes.extend(part);
        }
    }
}

/// A write of a value, or without a value the removal of the key.
struct Operation<'a> {
    table: &'a str,
    key: &'a [u8],
    value: Option<&'a [u8]>,
}

/// Reads the next operation. Returns `None` if the bytes are not one.
fn next_operation<'a>(bytes: &mut &'a [u8]) -> Option<Operation<'a>> {
    let has_value = *bytes.split_off_first()? == 1;
    let mut part = || {
        let length = u32::from_le_bytes(bytes.split_off(..4)?.try_into().ok()?);
        bytes.split_off(..usize::try_from(length).ok()?)
    };
    let (table, key) = (str::from_utf8(part()?).ok()?, part()?);
    let value = if has_value { Some(part()?) } else { None };
    Some(Operation { table, key, value })
}

/// The log that belongs to a database, and the number of its checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    id: [u8; ID_BYTES],
    epoch: u64,
}

impl Position {
    /// The position of a database. `None` if it has no log yet.
    fn read(rows: &Rows) -> Result<Option<Self>, Error> {
        let Some(bytes) = rows.setting(SETTING_WAL)? else { return Ok(None) };
        let read = bytes.split_first_chunk().and_then(|(id, epoch)| Some((*id, epoch.try_into().ok()?)));
        let (id, epoch) = read.ok_or_else(|| Error::corrupt(SETTINGS, SETTING_WAL))?;
        Ok(Some(Self { id, epoch: u64::from_be_bytes(epoch) }))
    }

    fn write(self, tx: &mut WriteTx) -> Result<(), Error> {
        tx.set_setting(SETTING_WAL, &[self.id.as_slice(), &self.epoch.to_be_bytes()].concat())
    }

    /// The position after a checkpoint. `now` is the position before it, if the database has a log.
    fn after(now: Option<Self>) -> Self {
        now.map_or_else(|| Self { id: rand::random(), epoch: 1 }, |Self { id, epoch }| Self { id, epoch: epoch + 1 })
    }

    /// The bytes that are in every record of this position, after its length and its checksum.
    fn mark(self) -> Vec<u8> {
        [self.id.as_slice(), &self.epoch.to_le_bytes()].concat()
    }

    fn record(self, operations: &[u8]) -> Vec<u8> {
        let payload = [self.mark().as_slice(), operations].concat();
        let length = u32::try_from(payload.len()).expect("it is smaller than the log").to_le_bytes();
        [length.as_slice(), &checksum(&payload), &payload].concat()
    }

    /// The operations of the record at the start of `bytes`, and its length. `None` if there is no complete record of
    /// this position.
    fn record_in(self, bytes: &[u8]) -> Option<(&[u8], usize)> {
        let header = bytes.get(..HEADER_BYTES)?;
        let length = usize::try_from(u32::from_le_bytes(header[..4].try_into().ok()?)).ok()?;
        let payload = bytes[4 + CHECKSUM_BYTES..].get(..length)?;
        let operations = payload.strip_prefix(self.id.as_slice())?.strip_prefix(self.epoch.to_le_bytes().as_slice())?;
        (checksum(payload) == header[4..4 + CHECKSUM_BYTES]).then_some((operations, 4 + CHECKSUM_BYTES + length))
    }
}

/// The write-ahead log of one database.
#[derive(Debug)]
pub(super) struct Wal {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    position: Option<Position>,
    /// The end of the last record, and of the one before it.
    offset: u64,
    before_last: u64,
    last_append: Option<Instant>,
    /// Whether a write or a sync has failed since the last checkpoint.
    has_failed: bool,
}

impl Wal {
    /// The log at `path`, which need not exist.
    pub(super) fn new(path: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { path, disk, state: Mutex::default() }
    }

    /// Whether there are records since the last checkpoint.
    pub(super) fn is_pending(&self) -> bool {
        self.state.lock().offset > 0
    }

    /// Whether a checkpoint should be made now.
    pub(super) fn is_checkpoint_due(&self) -> bool {
        // The lock is held during syncs. The caller does not wait for one, and asks again.
        let Some(state) = self.state.try_lock() else { return false };
        state.offset > 0 && state.last_append.is_none_or(|last| last.elapsed() >= IDLE)
    }

    /// Appends the operations of a transaction, durably. Returns false if it needs a checkpoint: the log is full or does
    /// not exist yet, or the disk is full. The database may have free pages when the disk has none, so that clients can
    /// delete and garbage collection can run.
    pub(super) fn append(&self, operations: &Operations) -> Result<bool, Error> {
        let mut state = self.state.lock();
        let Some(position) = state.position.filter(|_| !operations.is_too_large) else { return Ok(false) };
        let end = state.offset + (HEADER_BYTES + operations.bytes.len()) as u64;
        if end > BYTES_MAX as u64 {
            return Ok(false);
        }
        if let Err(error) = self.write(&mut state, &position.record(&operations.bytes)) {
            self.cut(&mut state);
            return if is_full(error.kind()) { Ok(false) } else { Err(Error::at(&self.path)(error)) };
        }
        state.before_last = state.offset;
        state.offset = end;
        state.last_append = Some(Instant::now());
        Ok(true)
    }

    /// Takes back the last record, whose transaction has failed after all.
    pub(super) fn take_back(&self) {
        let mut state = self.state.lock();
        state.offset = state.before_last;
        self.cut(&mut state);
    }

    /// Removes everything after the last record, so that a transaction that failed does not come back. If this fails, too,
    /// the outcome of the transaction is unknown.
    fn cut(&self, state: &mut State) {
        state.has_failed = true;
        if let Some(file) = &state.file
            && self.disk.truncate(file, &self.path, state.offset).is_ok()
        {
            let _ = self.disk.sync(file, &self.path);
        }
    }

    /// Empties the file after the last checkpoint. It has nothing that the database has not.
    pub(super) fn clear(&self) {
        let state = self.state.lock();
        if let (0, Some(file)) = (state.offset, &state.file) {
            let _ = self.disk.truncate(file, &self.path, 0);
        }
    }

    fn write(&self, state: &mut State, record: &[u8]) -> io::Result<()> {
        let file = if let Some(file) = &state.file {
            file
        } else {
            let file = self.open_or_create()?;
            // An earlier program may have ended after it had made the file, before its name was durable.
            self.disk.sync_dir(self.path.parent().unwrap_or(Path::new(".")))?;
            state.file.insert(file)
        };
        self.disk.write_at(file, &self.path, record, state.offset)?;
        self.disk.sync(file, &self.path)
    }

    /// Opens the file, or makes it.
    fn open_or_create(&self) -> io::Result<File> {
        if let Some(file) = if_exists(File::options().read(true).write(true).open(&self.path))? {
            return Ok(file);
        }
        self.disk.create(&self.path)
    }

    fn unreadable(&self, part: String) -> Error {
        Error::LogUnreadable { path: self.path.clone(), part }
    }

    /// Commits a transaction durably, with all before it. The log begins again.
    pub(super) fn checkpoint(&self, mut tx: WriteTx) -> Result<(), Error> {
        let mut state = self.state.lock();
        let next = Position::after(state.position);
        next.write(&mut tx)?;
        tx.commit(true)?;
        *state = State { file: state.file.take(), position: Some(next), ..State::default() };
        Ok(())
    }

    /// Applies what the log has and the database has not. `is_writable` is whether that can be made durable. redb can
    /// panic on a damaged database.
    pub(super) fn replay(&self, database: &redb::Database, is_writable: bool) -> Result<(), Error> {
        let replayed = catch_unwind(AssertUnwindSafe(|| self.try_replay(database, is_writable)));
        replayed.unwrap_or_else(|_| Err(self.unreadable("a record".to_owned())))
    }

    fn try_replay(&self, database: &redb::Database, is_writable: bool) -> Result<(), Error> {
        let rows = Rows::new(database.begin_read()?);
        let position = match Position::read(&rows) {
            // An empty file that redb has made a database.
            Err(Error::Storage(error)) if matches!(*error, redb::Error::TableDoesNotExist(_)) => None,
            position => position?,
        };
        let has_failed = {
            let mut state = self.state.lock();
            *state = State { position, has_failed: state.has_failed, ..State::default() };
            state.has_failed
        };
        let Some(position) = position else { return Ok(()) };
        // A later program may have changed the meaning of the log.
        schema::version(&rows)?;
        drop(rows);
        // The whole file, because another version of the program may begin a checkpoint at another size.
        let bytes = if_exists(std::fs::read(&self.path)).map_err(Error::at(&self.path))?.unwrap_or_default();
        let (records, end) = records(position, &bytes);
        if let Some(damaged) = later_record(position, &bytes[end..]) {
            let offset = (end + damaged) as u64;
            return Err(Error::LogDamaged { path: self.path.clone(), end: end as u64, offset });
        }
        let ignored = incomplete_record(position, &bytes[end..]);
        if let Some(ignored) = ignored {
            tracing::warn!(
                path = %self.path.display(),
                bytes = ignored,
                "ignored the last record of the write-ahead log, which is incomplete or damaged: ordinary after a \
                 power cut, because its change was not acknowledged; otherwise look for errors of the disk with `dmesg`"
            );
        }
        // Nothing may be appended after a failure, or over an incomplete record, in the same epoch.
        let needs_epoch = is_writable && (has_failed || ignored.is_some());
        if records.is_empty() && !needs_epoch {
            return Ok(());
        }
        let mut tx = WriteTx::new(database.begin_write()?);
        self.apply(&mut tx, &records)?;
        if is_writable {
            self.checkpoint(tx)?;
            if !records.is_empty() {
                tracing::info!(records = records.len(), bytes = end, "applied the write-ahead log");
            }
            Ok(())
        } else {
            tx.commit(false)
        }
    }

    /// Makes the writes of some records, in order.
    fn apply(&self, tx: &mut WriteTx, records: &[&[u8]]) -> Result<(), Error> {
        let mut by_table: HashMap<&str, Vec<Operation<'_>>> = HashMap::new();
        for mut operations in records.iter().copied() {
            while !operations.is_empty() {
                let unreadable = || self.unreadable("an operation".to_owned());
                let operation = next_operation(&mut operations).ok_or_else(unreadable)?;
                by_table.entry(operation.table).or_default().push(operation);
            }
        }
        let mut applying = Applying { tx, by_table };
        each_table(&mut applying)?;
        match applying.by_table.into_keys().next() {
            // A later program has written it.
            Some(table) => Err(self.unreadable(format!("the table {table}"))),
            None => Ok(()),
        }
    }
}

/// The operations of all records of a position, and where the last one ends.
fn records(position: Position, bytes: &[u8]) -> (Vec<&[u8]>, usize) {
    let (mut records, mut end) = (Vec::new(), 0);
    while let Some((operations, length)) = position.record_in(&bytes[end..]) {
        records.push(operations);
        end += length;
    }
    (records, end)
}

/// The start of a complete record of a position that follows something else.
fn later_record(position: Position, bytes: &[u8]) -> Option<usize> {
    let mark = position.mark();
    let before = 4 + CHECKSUM_BYTES;
    let starts = bytes.get(before..)?.windows(mark.len()).enumerate().filter(|(_, window)| *window == mark);
    starts.map(|(start, _)| start).find(|start| position.record_in(&bytes[*start..]).is_some())
}

/// The size of the incomplete or damaged record at the start of `bytes`, as far as they have it. `None` if they do not
/// begin with a record of this position.
fn incomplete_record(position: Position, bytes: &[u8]) -> Option<usize> {
    let (length, rest) = bytes.split_first_chunk()?;
    let payload = rest.get(CHECKSUM_BYTES..).filter(|payload| payload.starts_with(&position.mark()))?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    Some(4 + CHECKSUM_BYTES + payload.len().min(length))
}

struct Applying<'a> {
    tx: &'a mut WriteTx,
    by_table: HashMap<&'a str, Vec<Operation<'a>>>,
}

impl Visitor for Applying<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, definition: Definition<K, V>) -> Result<(), Error> {
        let Some(operations) = self.by_table.remove(definition.name()) else { return Ok(()) };
        let mut table = self.tx.table_mut(definition)?;
        for Operation { key, value, .. } in operations {
            match value {
                Some(value) => table.insert(K::from_bytes(key), V::from_bytes(value))?,
                None => table.remove(K::from_bytes(key))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
