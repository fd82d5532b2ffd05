//! What is to be known of a database before another one is made in its place.

use std::any::Any;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use redb::{Key, ReadableDatabase as _, Value};

use super::backend::{Backend, DatabaseFile};
use super::durability::DurabilityPolicy;
use super::schema::{self, Visitor, each_table};
use super::store::{self, Store};
use super::transaction::Definition;
use super::{Database, Error, Rows};
use crate::content::blobs::{Disk, Tree};

/// What a database is like.
#[derive(Debug)]
pub(crate) enum Condition {
    Missing,
    /// Every row can be read, and every page is what was written.
    Whole,
    Damaged(String),
}

/// Looks at every page of a database. It is an error if somebody uses it, or a later program has written it.
pub(crate) fn examine(tree: &Tree, disk: &Arc<dyn Disk>) -> Result<Condition, Error> {
    let path = tree.database();
    if !path.exists() {
        return Ok(Condition::Missing);
    }
    let file = Arc::new(DatabaseFile::open(Arc::clone(disk), &path)?);
    let read = || {
        file.check()?;
        let mut database = store::open(&file, Backend::new(&file))?;
        database.check_integrity().map_err(|error| Error::open(error, &path))?;
        let tx = Rows::new(database.begin_read()?);
        schema::version(&tx)?;
        each_table(&mut Reading(&tx))
    };
    // A damaged database can make redb panic.
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(())) => Ok(Condition::Whole),
        Ok(Err(error @ (Error::Schema { .. } | Error::InUse { .. }))) => Err(error),
        Ok(Err(error)) => Ok(Condition::Damaged(error.to_string())),
        Err(panic) => Ok(Condition::Damaged(what(&*panic))),
    }
}

fn what(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("reading it panicked: {}", text.unwrap_or("for no reason that is known"))
}

/// Gives the database another name that is free; says which, if there was one.
pub(crate) fn set_aside(tree: &Tree, disk: &dyn Disk) -> Result<Option<PathBuf>, Error> {
    let path = tree.database();
    if !path.exists() {
        return Ok(None);
    }
    let free = (1..u32::MAX).map(|number| tree.damaged_database(number)).find(|aside| !aside.exists());
    let aside = free.unwrap_or_else(|| tree.damaged_database(0));
    disk.rename(&path, &aside).map_err(Error::at(&path))?;
    Ok(Some(aside))
}

impl Database {
    /// An empty database under the temporary name, whether or not there is another; see [`super::install`].
    pub(crate) fn create_new(tree: &Tree, disk: Arc<dyn Disk>) -> Result<Self, Error> {
        // As with the first opening of a database, nobody else does this at the same time.
        let directory = File::open(tree.root()).map_err(Error::at(tree.root()))?;
        let _ = directory.lock();
        super::create(tree, &disk)?;
        let store = Store::open(DatabaseFile::open(disk, &tree.new_database())?)?;
        let (queue, leader) = (Mutex::default(), Mutex::default());
        Ok(Self { store, durability: DurabilityPolicy::new(true), queue, leader, journal: OnceLock::new() })
    }
}

/// Reads every row of every table.
struct Reading<'a>(&'a Rows);

impl Visitor for Reading<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, definition: Definition<K, V>) -> Result<(), Error> {
        let table = match self.0.table(definition) {
            // One of an earlier version has fewer.
            Err(Error::Storage(error)) if matches!(*error, redb::Error::TableDoesNotExist(_)) => return Ok(()),
            table => table?,
        };
        for row in table.range(..)? {
            let (key, value) = row?;
            let _ = (key.value(), value.value());
        }
        Ok(())
    }
}
