//! The journal: a file next to the database with everything that is needed to rebuild the rows of the content.
//!
//! Each change of a manifest or a tag adds a record to it. The database decides. The records of a transaction are
//! written in one call, after its commit and before its response. No change waits for a sync of the journal: the file is
//! synced from time to time. A change may wait while a rewrite writes a batch or renames the file. If the file cannot be
//! written, no request fails. The journal is rewritten from the database later. It is also rewritten when it has grown to
//! twice its size, so that it does not keep what was deleted long ago, and when a scrub finds damage.
//!
//! The database numbers the transactions that change content, also while the journal cannot be written. At start, a
//! journal that ends with a lower number than the database (after a crash between the two, or a swapped file) is
//! rewritten. One that ends with a higher number is kept under another name first, because it has changes that the
//! database has lost: a record of the write-ahead log was damaged, or the registry crashed with `storage.commit = false`,
//! so that the last commits were not durable. The numbers also say which of two records about one object is newer,
//! because a rewrite mixes the rows of an earlier view with new records.

mod examine;
mod format;
mod replay;

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

pub(super) use format::Record;
pub(crate) use replay::{JournaledManifest, ReplayedJournal};

use super::manifest::ManifestRow;
use super::schema::{MANIFEST_BYTES, MANIFESTS, SETTING_JOURNAL, SETTING_JOURNAL_NUMBER, SETTINGS, TAGS};
use super::tag::TagRow;
use super::{Database, Error, Pause, Rows, WriteTx, codec};
use crate::content::blobs::{Disk, Tree};
use crate::kit::file::if_exists;
use format::{HEADER_BYTES, Id};

/// A journal that has grown by less than this is not rewritten.
const GROWTH_BYTES: u64 = 1024 * 1024;
/// The size of a write while a journal is rewritten.
const BATCH_BYTES: usize = 256 * 1024;

/// The encoded records of one transaction.
pub(super) type Records = Vec<Vec<u8>>;

/// The journal of a database.
#[derive(Debug)]
pub(super) struct Journal {
    tree: Tree,
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
    /// Held during a sync or a rewrite, so that there is only one at a time.
    maintenance: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// The complete journal, if there is one.
    current: Option<JournalFile>,
    /// The file that a rewrite is filling.
    next: Option<JournalFile>,
    unsynced: bool,
    /// The number of the database when the file could not be opened. A rewrite must not replace the file unseen.
    unexamined: Option<u64>,
    /// Whether it was logged that the journal cannot be written.
    reported: bool,
}

#[derive(Debug)]
struct JournalFile {
    file: File,
    path: PathBuf,
    length: u64,
    /// Its length when it was complete.
    initial_length: u64,
    /// The numbers of the first and the last transaction that was appended.
    first: Option<u64>,
    last: Option<u64>,
}

impl JournalFile {
    fn write(&mut self, disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
        disk.write_at(&self.file, &self.path, bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Appends the records of a transaction. Fails if the file lacks the transaction before.
    fn append(&mut self, disk: &dyn Disk, number: u64, bytes: &[u8]) -> io::Result<()> {
        if self.last.is_some_and(|last| last.checked_add(1) != Some(number)) {
            return Err(io::Error::other("the change before is missing"));
        }
        self.write(disk, bytes)?;
        self.first.get_or_insert(number);
        self.last = Some(number);
        Ok(())
    }
}

impl Journal {
    /// Appends the records of a committed transaction.
    pub(super) fn append(&self, number: u64, records: &Records) {
        let mut bytes = Vec::new();
        for record in records {
            format::frame(&mut bytes, number, record);
        }
        format::frame(&mut bytes, number, &Record::End.encode());
        let mut state = self.state.lock();
        state.unsynced = true;
        let State { current, next, .. } = &mut *state;
        let mut failure = None;
        for slot in [current, next] {
            if let Some(Err(error)) = slot.as_mut().map(|file| file.append(&*self.disk, number, &bytes)) {
                // The file lacks this change, and may end with a part of it. So later changes must not follow.
                *slot = None;
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
                "cannot write the journal of manifests; it will be rewritten when that is possible"
            );
        }
    }

    fn needs_rewrite(&self) -> bool {
        let is_large = |file: &JournalFile| file.length > 2 * file.initial_length + GROWTH_BYTES;
        self.state.lock().current.as_ref().is_none_or(is_large)
    }

    fn sync(&self) -> Result<(), Error> {
        let mut state = self.state.lock();
        let Some(current) = state.current.as_ref().filter(|_| state.unsynced) else { return Ok(()) };
        let path = current.path.clone();
        let file = current.file.try_clone().map_err(Error::at(&path))?;
        state.unsynced = false;
        // Changes must not wait for the sync.
        drop(state);
        self.disk.sync(&file, &path).map_err(|error| {
            // The file may lack what was not written, and the next sync would succeed nevertheless.
            let mut state = self.state.lock();
            (state.current, state.unsynced) = (None, true);
            Error::at(&path)(error)
        })
    }

    /// Examines a file that could not be opened at the start, before a rewrite replaces it. If it still cannot be opened,
    /// keeps it under another name.
    fn keep_unexamined(&self, id: &Id) -> Result<(), Error> {
        let Some(number) = self.state.lock().unexamined else { return Ok(()) };
        if examine::open(&self.tree, &*self.disk, Some(id), number).is_err() {
            let aside = examine::set_aside(&self.tree, &*self.disk).map_err(Error::at(&self.tree.journal()))?;
            tracing::warn!(path = %aside.display(), "keeping a manifests.log that cannot be opened under another name");
        }
        self.state.lock().unexamined = None;
        Ok(())
    }

    /// Begins a rewrite: from now on, changes are also appended to the new file.
    fn begin_rewrite(&self, id: &Id) -> Result<(), Error> {
        let path = self.tree.new_journal();
        if_exists(self.disk.remove(&path)).map_err(Error::at(&path))?;
        let file = self.disk.create(&path).map_err(Error::at(&path))?;
        self.disk.write_at(&file, &path, &format::header(id, 0), 0).map_err(Error::at(&path))?;
        let next = JournalFile { file, path, length: HEADER_BYTES, initial_length: 0, first: None, last: None };
        self.state.lock().next = Some(next);
        Ok(())
    }

    /// Writes to the new file.
    fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut state = self.state.lock();
        let Some(next) = &mut state.next else { return Err(self.change_missing()) };
        next.write(&*self.disk, bytes).map_err(Error::at(&self.tree.new_journal()))
    }

    /// Ends a rewrite: the new file becomes the journal. It has all changes up to `number`, and those after it.
    fn finish_rewrite(&self, id: &Id, number: u64) -> Result<(), Error> {
        let (new, path) = (self.tree.new_journal(), self.tree.journal());
        let at_new = || Error::at(&new);
        let unsynced = {
            let state = self.state.lock();
            state.next.as_ref().ok_or_else(|| self.change_missing())?.file.try_clone().map_err(at_new())?
        };
        self.disk.sync(&unsynced, &new).map_err(at_new())?;
        let mut state = self.state.lock();
        let mut next = state.next.take().ok_or_else(|| self.change_missing())?;
        if next.first.is_some_and(|first| first > number + 1) {
            return Err(self.change_missing());
        }
        let reached = next.last.map_or(number, |last| last.max(number));
        let mut end = Vec::new();
        format::frame(&mut end, reached, &Record::End.encode());
        next.write(&*self.disk, &end).map_err(at_new())?;
        (next.initial_length, next.last) = (next.length, Some(reached));
        self.disk.write_at(&next.file, &new, &format::header(id, next.length), 0).map_err(at_new())?;
        self.disk.rename(&new, &path).map_err(at_new())?;
        next.path.clone_from(&path);
        *state = State { current: Some(next), unsynced: true, ..State::default() };
        drop(state);
        self.disk.sync_dir(self.tree.root()).map_err(Error::at(self.tree.root()))
    }

    /// Appending to the new file has failed during the rewrite.
    fn change_missing(&self) -> Error {
        Error::at(&self.tree.new_journal())(io::Error::other("a change is missing"))
    }
}

impl Database {
    /// Opens the journal, to which changes of content are appended from now on.
    pub(crate) fn open_journal(&self, tree: &Tree, disk: Arc<dyn Disk>) -> Result<(), Error> {
        let (id, number) = self.read(|rows| Ok::<_, Error>((rows.setting(SETTING_JOURNAL)?, number(rows)?)))?;
        let state = match examine::open(tree, &*disk, id.as_deref(), number) {
            Ok(current) => State { current, ..State::default() },
            // Changes are numbered nevertheless. Otherwise a later start would take the file for complete.
            Err(error) => {
                tracing::warn!(
                    %error,
                    path = %tree.journal().display(),
                    "cannot open the journal of manifests; it will be rewritten"
                );
                State { unexamined: Some(number), ..State::default() }
            }
        };
        let (state, maintenance) = (Mutex::new(state), Mutex::default());
        let _ = self.journal.set(Journal { tree: tree.clone(), disk, state, maintenance });
        Ok(())
    }

    /// Whether [`Database::maintain_journal`] has something to do.
    pub(crate) fn is_journal_due(&self) -> bool {
        self.journal.get().is_some_and(|journal| journal.needs_rewrite() || journal.state.lock().unsynced)
    }

    /// Makes the journal durable. Rewrites it if it is missing or has grown too large, and returns whether it did.
    pub(crate) fn maintain_journal(&self, pause: Pause<'_>) -> Result<bool, Error> {
        let Some(journal) = self.journal.get() else { return Ok(false) };
        let _maintenance = journal.maintenance.lock();
        if !journal.needs_rewrite() {
            return journal.sync().map(|()| false);
        }
        let Err(error) = self.rewrite_journal(journal, pause) else { return Ok(true) };
        let mut state = journal.state.lock();
        state.next = None;
        if !matches!(error, Error::Cancelled) {
            journal.report(&mut state, &error);
        }
        Ok(false)
    }

    fn rewrite_journal(&self, journal: &Journal, pause: Pause<'_>) -> Result<(), Error> {
        let known = self.read(|rows| rows.setting(SETTING_JOURNAL))?.and_then(|id| id.try_into().ok());
        let id: Id = match known {
            Some(id) => id,
            None => self.write(|tx| {
                let id: Id = rand::random();
                tx.set_setting(SETTING_JOURNAL, &id)?;
                Ok::<_, Error>(id)
            })?,
        };
        journal.keep_unexamined(&id)?;
        journal.begin_rewrite(&id)?;
        // The view must be newer than the file: changes that it does not show are appended.
        let number = self.read(|rows| write_rows(rows, journal, pause))?;
        journal.finish_rewrite(&id, number)
    }
}

/// Writes the rows of a view to the new file. Returns the number of the last transaction in the view.
fn write_rows(rows: &Rows, journal: &Journal, pause: Pause<'_>) -> Result<u64, Error> {
    let number = number(rows)?;
    let (mut batch, mut began) = (Vec::new(), Instant::now());
    let mut add = |record: &Record| {
        format::frame(&mut batch, number, &record.encode());
        if batch.len() >= BATCH_BYTES || matches!(record, Record::End) {
            journal.write(&batch)?;
            batch.clear();
            if pause(began.elapsed()).is_break() {
                return Err(Error::Cancelled);
            }
            began = Instant::now();
        }
        Ok(ControlFlow::Continue(()))
    };
    let all_bytes = rows.table(MANIFEST_BYTES)?;
    rows.table(MANIFESTS)?.each(.., |key, row| {
        // A damaged manifest is not served, and must not keep the others from being written.
        let (Some(row), Some(bytes)) = (codec::decode::<ManifestRow>(row), all_bytes.get(key)?) else {
            return Ok(ControlFlow::Continue(()));
        };
        let (repository, digest, bytes) = (key.0.to_owned(), key.1.to_vec(), bytes.value().to_vec());
        let ManifestRow { media_type, created, .. } = row;
        add(&Record::Manifest { repository, digest, media_type, created, bytes })
    })?;
    rows.table(TAGS)?.each(.., |(repository, tag), row| {
        let Ok(TagRow { digest, moved, .. }) = TagRow::decode(row, tag) else { return Ok(ControlFlow::Continue(())) };
        let (repository, tag, digest) = (repository.to_owned(), tag.to_owned(), digest.key().to_vec());
        add(&Record::Tag { repository, tag, digest, moved })
    })?;
    let _ = add(&Record::End)?;
    Ok(number)
}

/// The number of the last transaction that changed content.
pub(super) fn number(rows: &Rows) -> Result<u64, Error> {
    let Some(bytes) = rows.setting(SETTING_JOURNAL_NUMBER)? else { return Ok(0) };
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| Error::corrupt(SETTINGS, SETTING_JOURNAL_NUMBER))
}

impl WriteTx {
    /// Adds a record for the journal, if there is one.
    pub(super) fn record(&mut self, record: impl FnOnce() -> Record) {
        if let Some(records) = &mut self.records {
            records.push(record().encode());
        }
    }

    /// Takes the records, if there are any, and numbers the transaction.
    pub(super) fn take_records(&mut self) -> Result<Option<(u64, Records)>, Error> {
        match self.records.take() {
            Some(records) if !records.is_empty() => {
                let number = number(self)? + 1;
                // If an earlier program has written, the numbers must stay different until everything is counted again.
                if self.is_facts_number_current()? {
                    self.set_facts_number(number)?;
                }
                self.set_setting(SETTING_JOURNAL_NUMBER, &number.to_be_bytes())?;
                Ok(Some((number, records)))
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
