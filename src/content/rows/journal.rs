//! The journal: what is needed of the content's rows to make them anew if the database is lost.
//!
//! A file beside the database, to which a record is added for every change of a manifest or a tag. The database
//! decides, and never waits for the journal: a group's records are written, by one call, when its transaction is
//! durable; the file is synced from time to time; and where it cannot be written, nobody's request fails. It is
//! made anew from the database instead. That is also done when it has grown to twice what it was, so that it does
//! not hold what is long gone.
//!
//! Transactions that change content are numbered, in the database itself. A journal that does not end with the
//! number of the last one (a crash between the two, a file that was swapped) is found by that at the next start.
//! Numbers also say which of two records about the same thing counts: while a journal is made anew, changes are
//! added to it between the rows of a view from before them.

mod format;
mod replay;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

pub(super) use format::Record;
pub(crate) use replay::{JournaledManifest, ReplayedJournal};

use super::content::ManifestRow;
use super::schema::{MANIFEST_BYTES, MANIFESTS, SETTING_JOURNAL, SETTING_JOURNAL_NUMBER, TAGS};
use super::{Database, Error, Pause, Rows, WriteTx, codec};
use crate::content::blobs::{Disk, Tree};
use crate::kit::file::if_exists;
use format::{HEADER_BYTES, Id};

/// A journal that has not grown by this much is not made anew, whatever it was before.
const GROWTH_BYTES: u64 = 1024 * 1024;
/// As much is written at once while a journal is made anew.
const BATCH_BYTES: usize = 256 * 1024;

/// What the changes of one transaction have added, each as its bytes.
pub(super) type Records = Vec<Vec<u8>>;

/// The journal of a database.
#[derive(Debug)]
pub(super) struct Journal {
    tree: Tree,
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Has everything; nothing if there is no such file.
    log: Option<Log>,
    /// Is being made, and will take the place of the other.
    next: Option<Log>,
    unsynced: bool,
    /// Whether it was said that the journal cannot be written.
    reported: bool,
}

/// An open file.
#[derive(Debug)]
struct Log {
    file: File,
    path: PathBuf,
    length: u64,
    /// What it had when it was made.
    made: u64,
    /// The numbers of the first and the last transaction that was added.
    first: Option<u64>,
    last: Option<u64>,
}

impl Log {
    fn append(&mut self, disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
        disk.write_at(&self.file, &self.path, bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Adds a transaction; fails if the one before is not there.
    fn add(&mut self, disk: &dyn Disk, number: u64, bytes: &[u8]) -> io::Result<()> {
        if self.last.is_some_and(|last| last.checked_add(1) != Some(number)) {
            return Err(io::Error::other("a change before it is missing"));
        }
        self.append(disk, bytes)?;
        self.first.get_or_insert(number);
        self.last = Some(number);
        Ok(())
    }
}

impl Journal {
    /// Adds what a durable transaction has changed.
    pub(super) fn append(&self, number: u64, records: &Records) {
        let mut bytes = Vec::new();
        for record in records {
            format::frame(&mut bytes, number, record);
        }
        format::frame(&mut bytes, number, &Record::End.encode());
        let mut state = self.state.lock();
        state.unsynced = true;
        let State { log, next, .. } = &mut *state;
        let mut failure = None;
        for place in [log, next] {
            if let Some(Err(error)) = place.as_mut().map(|log| log.add(&*self.disk, number, &bytes)) {
                // What was written of it is not whole, and nothing behind it would count.
                *place = None;
                failure = Some(error);
            }
        }
        if let Some(error) = failure {
            self.report(&mut state, &error);
        }
    }

    fn report(&self, state: &mut State, error: &dyn std::fmt::Display) {
        let path = self.tree.journal();
        if !std::mem::replace(&mut state.reported, true) {
            tracing::warn!(
                %error,
                path = %path.display(),
                "the journal of manifests cannot be written; it is made anew when that is possible"
            );
        }
    }

    fn wants_renewal(&self) -> bool {
        self.state.lock().log.as_ref().is_none_or(|log| log.length > 2 * log.made + GROWTH_BYTES)
    }

    fn sync(&self) -> Result<(), Error> {
        let mut state = self.state.lock();
        let Some(log) = state.log.as_ref().filter(|_| state.unsynced) else { return Ok(()) };
        let (file, path) = (log.file.try_clone().map_err(Error::at(&log.path))?, log.path.clone());
        state.unsynced = false;
        // Nobody's change waits for this.
        drop(state);
        self.disk.sync(&file, &path).map_err(Error::at(&path))
    }

    /// Begins a new file, to which changes are added from now on.
    fn begin(&self, id: &Id) -> Result<(), Error> {
        let path = self.tree.new_journal();
        if_exists(self.disk.remove(&path)).map_err(Error::at(&path))?;
        let file = self.disk.create(&path).map_err(Error::at(&path))?;
        self.disk.write_at(&file, &path, &format::header(id, 0), 0).map_err(Error::at(&path))?;
        self.state.lock().next = Some(Log { file, path, length: HEADER_BYTES, made: 0, first: None, last: None });
        Ok(())
    }

    /// Adds to the file that is being made.
    fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut state = self.state.lock();
        let path = self.tree.new_journal();
        let Some(next) = &mut state.next else { return Err(Error::at(&path)(io::Error::other("a change is missing"))) };
        next.append(&*self.disk, bytes).map_err(Error::at(&path))
    }

    /// The file that is being made has everything up to `number`, and what came after it: it is the journal now.
    fn finish(&self, id: &Id, number: u64) -> Result<(), Error> {
        let (new, path) = (self.tree.new_journal(), self.tree.journal());
        let lost = || Error::at(&new)(io::Error::other("a change is missing"));
        let unsynced = {
            let state = self.state.lock();
            state.next.as_ref().ok_or_else(lost)?.file.try_clone().map_err(Error::at(&new))?
        };
        self.disk.sync(&unsynced, &new).map_err(Error::at(&new))?;
        let mut state = self.state.lock();
        let mut next = state.next.take().ok_or_else(lost)?;
        if next.first.is_some_and(|first| first > number + 1) {
            return Err(lost());
        }
        let reached = next.last.map_or(number, |last| last.max(number));
        let mut end = Vec::new();
        format::frame(&mut end, reached, &Record::End.encode());
        next.append(&*self.disk, &end).map_err(Error::at(&new))?;
        (next.made, next.last) = (next.length, Some(reached));
        self.disk.write_at(&next.file, &new, &format::header(id, next.length), 0).map_err(Error::at(&new))?;
        self.disk.rename(&new, &path).map_err(Error::at(&new))?;
        next.path.clone_from(&path);
        state.log = Some(next);
        state.unsynced = true;
        state.reported = false;
        drop(state);
        self.disk.sync_dir(self.tree.root()).map_err(Error::at(self.tree.root()))
    }
}

/// Opens the journal of a database, if it has everything.
fn open(tree: &Tree, disk: &dyn Disk, id: Option<&[u8]>, number: u64) -> io::Result<Option<Log>> {
    let path = tree.journal();
    let Some(file) = if_exists(File::options().read(true).write(true).open(&path))? else { return Ok(None) };
    let length = file.metadata()?.len();
    let Some((_, made)) = format::read_header(&file).filter(|(found, _)| id == Some(found)) else {
        // It may be all that is left of another database.
        let aside = tree.earlier_journal();
        tracing::warn!(aside = %aside.display(), "the journal of manifests is that of another database");
        disk.rename(&path, &aside)?;
        return Ok(None);
    };
    if format::last_number(&file, length) != Some(number) {
        tracing::info!("the journal of manifests lacks a change, and is made anew");
        return Ok(None);
    }
    Ok(Some(Log { file, path, length, made, first: None, last: Some(number) }))
}

impl Database {
    /// From now on, changes of content are added to the journal beside the database.
    pub(crate) fn open_journal(&self, tree: &Tree, disk: Arc<dyn Disk>) -> Result<(), Error> {
        let (id, number) = self.read(|tx| Ok::<_, Error>((tx.setting(SETTING_JOURNAL)?, number(tx)?)))?;
        let log = match open(tree, &*disk, id.as_deref(), number) {
            Ok(log) => log,
            Err(error) => {
                let path = tree.journal();
                tracing::warn!(%error, path = %path.display(), "there is no journal of manifests");
                return Ok(());
            }
        };
        let state = State { log, ..State::default() };
        let _ = self.journal.set(Journal { tree: tree.clone(), disk, state: Mutex::new(state) });
        Ok(())
    }

    /// Whether [`Database::maintain_journal`] has something to do.
    pub(crate) fn is_journal_due(&self) -> bool {
        self.journal.get().is_some_and(|journal| journal.wants_renewal() || journal.state.lock().unsynced)
    }

    /// Makes the journal durable, and anew if it is missing or has grown too large; says whether it is new.
    pub(crate) fn maintain_journal(&self, pause: Pause<'_>) -> Result<bool, Error> {
        let Some(journal) = self.journal.get() else { return Ok(false) };
        if !journal.wants_renewal() {
            return journal.sync().map(|()| false);
        }
        let renewed = self.renew_journal(journal, pause);
        if renewed.is_err() {
            journal.state.lock().next = None;
        }
        match renewed {
            Ok(()) => Ok(true),
            Err(Error::Cancelled) => Ok(false),
            Err(error) => {
                journal.report(&mut journal.state.lock(), &error);
                Ok(false)
            }
        }
    }

    fn renew_journal(&self, journal: &Journal, pause: Pause<'_>) -> Result<(), Error> {
        let known = self.read(|tx| tx.setting(SETTING_JOURNAL))?.and_then(|id| id.try_into().ok());
        let id: Id = match known {
            Some(id) => id,
            None => self.write(|tx| {
                let id: Id = rand::random();
                tx.set_setting(SETTING_JOURNAL, &id)?;
                Ok::<_, Error>(id)
            })?,
        };
        journal.begin(&id)?;
        // A view from after that: what it does not show is added to the file.
        let number = self.read(|tx| write_rows(tx, journal, pause))?;
        journal.finish(&id, number)
    }
}

/// Writes the rows of a view; gives the number of the last transaction in it.
fn write_rows(tx: &Rows, journal: &Journal, pause: Pause<'_>) -> Result<u64, Error> {
    let number = number(tx)?;
    let (mut batch, mut began) = (Vec::new(), Instant::now());
    let mut add = |record: &Record, pause: Pause<'_>| {
        format::frame(&mut batch, number, &record.encode());
        if batch.len() >= BATCH_BYTES || matches!(record, Record::End) {
            journal.write(&batch)?;
            batch.clear();
            if pause(began.elapsed()).is_break() {
                return Err(Error::Cancelled);
            }
            began = Instant::now();
        }
        Ok(())
    };
    let all_bytes = tx.table(MANIFEST_BYTES)?;
    for row in tx.table(MANIFESTS)?.range(..)? {
        let (key, row) = row?;
        let (repository, digest) = key.value();
        // One that cannot be read is not served either, and is no reason to have no journal of the others.
        let (Some(row), Some(bytes)) = (codec::decode::<ManifestRow>(row.value()), all_bytes.get(key.value())?) else {
            continue;
        };
        let (repository, digest, bytes) = (repository.to_owned(), digest.to_vec(), bytes.value().to_vec());
        let ManifestRow { media_type, created, .. } = row;
        add(&Record::Manifest { repository, digest, media_type, created, bytes }, pause)?;
    }
    for row in tx.table(TAGS)?.range(..)? {
        let (key, _) = row?;
        let (repository, tag) = key.value();
        let Some((name, parsed)) = repository.parse().ok().zip(tag.parse().ok()) else { continue };
        let Ok(Some(row)) = tx.tag(&name, &parsed) else { continue };
        let (repository, tag, digest) = (repository.to_owned(), tag.to_owned(), row.digest.key().to_vec());
        add(&Record::Tag { repository, tag, digest, moved: row.moved }, pause)?;
    }
    add(&Record::End, pause)?;
    Ok(number)
}

/// The number of the last transaction that changed content.
fn number(tx: &Rows) -> Result<u64, Error> {
    let bytes = tx.setting(SETTING_JOURNAL_NUMBER)?;
    let corrupt = || Error::Corrupt { table: "settings", key: SETTING_JOURNAL_NUMBER.to_owned() };
    bytes.map_or(Ok(0), |bytes| Ok(u64::from_be_bytes(bytes.try_into().map_err(|_| corrupt())?)))
}

impl WriteTx {
    /// Notes a change for the journal, if there is one.
    pub(super) fn note(&mut self, record: impl FnOnce() -> Record) {
        if let Some(records) = &mut self.records {
            records.push(record().encode());
        }
    }

    /// What was noted, and the number it gets, which is written with it.
    pub(super) fn take_records(&mut self) -> Result<Option<(u64, Records)>, Error> {
        match self.records.take() {
            Some(records) if !records.is_empty() => {
                let number = number(self)? + 1;
                self.set_setting(SETTING_JOURNAL_NUMBER, &number.to_be_bytes())?;
                Ok(Some((number, records)))
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
