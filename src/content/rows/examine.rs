//! Examining a database before another one replaces it.

use std::any::Any;
use std::fs::File;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use redb::{Key, ReadableDatabase as _, Value};

use super::backend::{Backend, DatabaseFile};
use super::copy::NewDatabase;
use super::schema::{self, Visitor, each_table};
use super::store::{self, Store};
use super::transaction::Definition;
use super::wal::Wal;
use super::{Database, Error, Rows};
use crate::content::blobs::{Disk, Tree};
use crate::kit::file::if_exists;

/// The condition of a database.
#[derive(Debug)]
pub(crate) enum Condition {
    Missing,
    /// Every row can be read, and every page has the right checksum.
    Whole,
    Damaged(String),
}

/// Examines every page of a database. Fails if another process uses it, a later program has written it,
/// or its write-ahead log cannot be read.
pub(crate) fn examine(tree: &Tree, disk: &Arc<dyn Disk>) -> Result<Condition, Error> {
    let path = tree.database();
    if !path.exists() {
        return Ok(Condition::Missing);
    }
    let file = Arc::new(DatabaseFile::open(Arc::clone(disk), &path)?);
    let read = || {
        file.check()?;
        let mut database = store::open(&file, Backend::new(&file))?;
        Wal::new(tree.wal(), Arc::clone(disk)).replay(&database, true)?;
        database.check_integrity().map_err(|error| Error::open(error, &path))?;
        let rows = Rows::new(database.begin_read()?);
        schema::version(&rows)?;
        each_table(&mut Reading(&rows))
    };
    // redb can panic on a damaged database.
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(())) => Ok(Condition::Whole),
        // Without the log, the database is as it was at the last checkpoint. Recovery would lose far more.
        Ok(Err(
            error @ (Error::Schema { .. }
            | Error::InUse { .. }
            | Error::LogDamaged { .. }
            | Error::LogUnreadable { .. }),
        )) => Err(error),
        Ok(Err(error)) => Ok(Condition::Damaged(error.to_string())),
        Err(panic) => Ok(Condition::Damaged(message(&*panic))),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("redb cannot read it: {}", text.unwrap_or("unknown reason"))
}

/// Renames the database, if there is one, and its write-ahead log. Returns the free name that the database got.
pub(crate) fn set_aside(tree: &Tree, disk: &dyn Disk) -> Result<Option<PathBuf>, Error> {
    let path = tree.database();
    if !path.exists() {
        return Ok(None);
    }
    let free = (1..u32::MAX).map(|number| tree.damaged_database(number)).find(|aside| !aside.exists());
    let aside = free.unwrap_or_else(|| tree.damaged_database(0));
    disk.rename(&path, &aside).map_err(Error::at(&path))?;
    let log = aside.with_added_extension("wal");
    if_exists(disk.rename(&tree.wal(), &log)).map_err(Error::at(&log))?;
    Ok(Some(aside))
}

impl Database {
    /// Makes an empty database under the temporary name, whether or not there is a database; see [`super::install`].
    pub(crate) fn create_new(tree: &Tree, disk: Arc<dyn Disk>) -> Result<Self, Error> {
        // See `Database::open` for this lock.
        let directory = File::open(tree.root()).map_err(Error::at(tree.root()))?;
        let _ = directory.lock();
        NewDatabase::create(tree, &disk)?.change(schema::create)?;
        Ok(Self::new(Store::open(DatabaseFile::open(disk, &tree.new_database())?, None)?, true))
    }
}

/// Reads every row of every table.
struct Reading<'a>(&'a Rows);

impl Visitor for Reading<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, definition: Definition<K, V>) -> Result<(), Error> {
        match self.0.table(definition) {
            // A database of an earlier version has fewer tables.
            Err(Error::Storage(error)) if matches!(*error, redb::Error::TableDoesNotExist(_)) => Ok(()),
            table => table?.each(.., |_, _| Ok(ControlFlow::Continue(()))),
        }
    }
}
